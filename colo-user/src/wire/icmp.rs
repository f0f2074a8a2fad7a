//! ICMP (RFC 792) and ICMPv6 (RFC 4443): what the comparator needs to know of a message.

use super::{IpFamily, Malformed, be16};

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Echo request or reply, with its identifier.
    Echo {
        /// Identifier.
        id: u16,
    },
    /// An error that quotes the packet it is about. Hosts limit the rate of these at random.
    Error,
    /// Neighbour discovery (types 133 to 137) or multicast listener discovery (130 to 132, 143).
    Neighbour {
        /// Whether it asks (router or neighbour solicitation), so that an answer is expected.
        asks: bool,
    },
    /// Any other message.
    Other,
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMessage<'a> {
    /// Type field.
    pub kind_byte: u8,
    /// Code field.
    pub code: u8,
    /// What it is.
    pub kind: IcmpKind,
    /// The four bytes after the checksum.
    pub rest: [u8; 4],
    /// What follows the eight header bytes: data, or the quoted packet.
    pub payload: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;

    /// Reads the message that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Icmp`] if it is shorter than its header.
    pub fn parse(family: IpFamily, bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < Self::HEADER {
            return Err(Malformed::Icmp);
        }
        let id = be16(bytes, 4);
        let kind = match (family, bytes[0]) {
            (IpFamily::V4, 0 | 8) | (IpFamily::V6, 128 | 129) => IcmpKind::Echo { id },
            (IpFamily::V4, 3 | 4 | 5 | 11 | 12) | (IpFamily::V6, 0..=127) => IcmpKind::Error,
            (IpFamily::V6, 133 | 135) => IcmpKind::Neighbour { asks: true },
            (IpFamily::V6, 130..=132 | 134 | 136 | 137 | 143) => IcmpKind::Neighbour { asks: false },
            _ => IcmpKind::Other,
        };
        Ok(Self {
            kind_byte: bytes[0],
            code: bytes[1],
            kind,
            rest: [bytes[4], bytes[5], bytes[6], bytes[7]],
            payload: &bytes[Self::HEADER..],
        })
    }
}

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
    /// The four bytes after the checksum: of errors a gateway, an MTU, a pointer, or nothing, and the length of the quote.
    pub rest: [u8; 4],
    /// What follows the eight header bytes: data, or the quoted packet.
    pub payload: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;
    /// Length of the header of extensions.
    const EXTENSIONS: usize = 4;

    /// Reads the message that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Icmp`] if it is shorter than its header.
    pub fn parse(family: IpFamily, bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_cut(family, bytes, bytes.len(), bytes.len())
    }

    /// The same of a message of `total` bytes, of which a capture has the first `sure`.
    ///
    /// # Errors
    /// As above, or [`Malformed::Cut`] if the header is not there.
    pub fn parse_cut(
        family: IpFamily,
        bytes: &'a [u8],
        sure: usize,
        total: usize,
    ) -> Result<Self, Malformed> {
        if total < Self::HEADER {
            return Err(Malformed::Icmp);
        }
        if sure < Self::HEADER {
            return Err(Malformed::Cut);
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

    /// Where in the payload the objects of the extensions (RFC 4884) begin that follow the packet which an error quotes, behind their
    /// version and checksum. `None` if the message does not say how long its quote is.
    #[must_use]
    pub fn objects(&self, family: IpFamily) -> Option<usize> {
        let quote = match (family, self.kind_byte) {
            (IpFamily::V4, 3 | 11 | 12) => usize::from(self.rest[1]) * 4,
            (IpFamily::V6, 1 | 3) => usize::from(self.rest[0]) * 8,
            _ => 0,
        };
        (quote != 0).then_some(quote + Self::EXTENSIONS)
    }
}

//! The name of a TCP connection as the translator keys it, the same from either direction, and its bytes on the
//! link.

use crate::wire::ip::address;
use crate::wire::{Ether, Ip, IpFamily, Vlans};
use colo_ebpf::tags::MAX_TAGS;
use std::fmt;

/// A TCP connection of the guest. Plain numbers, so that a BPF map can hold it as a key; fields in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Address family.
    pub family: IpFamily,
    /// The tags of its frames.
    pub vlans: Vlans,
    /// The guest's address; IPv4 in the first 4 bytes, the rest zero.
    pub guest: [u8; 16],
    /// The other side's address, likewise.
    pub peer: [u8; 16],
    /// The guest's port.
    pub guest_port: u16,
    /// The other side's port.
    pub peer_port: u16,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the guest to the network.
    Output,
    /// From the network to the guest.
    Input,
}

/// Why bytes from the link are no message of the translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short, or bytes left over.
    #[error("translation message has {got} bytes, its first byte asks for {want}")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes that the first byte asks for.
        want: usize,
    },
    /// Unknown bits in the first byte, or more tags than frames have here.
    #[error("translation message begins with {0:#04x}: unknown bits or more than {MAX_TAGS} VLAN tags")]
    Flags(u8),
    /// A tag that is none.
    #[error("translation message names the tag {0:#06x}, which is of no known type")]
    Tag(u16),
}

const FLAG_V6: u8 = 0x01;
/// Bits 2 to 4 of the first byte: the number of VLAN tags.
const TAGS_SHIFT: u8 = 2;
/// As many as that may be.
const TAGS_MASK: u8 = 7;
/// Bits 0 and 2 to 4 describe the flow; a message has the others for itself.
const FLOW_BITS: u8 = FLAG_V6 | TAGS_MASK << TAGS_SHIFT;

impl Flow {
    /// The flow of a packet, seen in `direction`, whose TCP ports are given.
    pub(super) fn new(ether: &Ether, ip: &Ip, ports: [u16; 2], direction: Direction) -> Self {
        let sent = Self {
            family: ip.family,
            vlans: ether.vlans,
            guest: ip.src,
            peer: ip.dst,
            guest_port: ports[0],
            peer_port: ports[1],
        };
        match direction {
            Direction::Output => sent,
            Direction::Input => sent.reversed(),
        }
    }

    /// The same with the two sides exchanged.
    pub(super) const fn reversed(self) -> Self {
        Self {
            guest: self.peer,
            peer: self.guest,
            guest_port: self.peer_port,
            peer_port: self.guest_port,
            ..self
        }
    }

    fn address_length(self) -> usize {
        match self.family {
            IpFamily::V4 => 4,
            IpFamily::V6 => 16,
        }
    }

    /// Appends `flags` merged with the flow's own bits, then the words of the tags, addresses and ports, big-endian.
    pub(super) fn encode(self, flags: u8, out: &mut Vec<u8>) {
        debug_assert_eq!(flags & FLOW_BITS, 0, "these bits are the flow's");
        let v6 = if self.family == IpFamily::V6 { FLAG_V6 } else { 0 };
        // At most MAX_TAGS.
        out.push(flags | v6 | (self.vlans.words().len() as u8) << TAGS_SHIFT);
        out.extend(self.vlans.words().iter().flat_map(|word| word.to_be_bytes()));
        let n = self.address_length();
        out.extend(&self.guest[..n]);
        out.extend(&self.peer[..n]);
        out.extend(self.guest_port.to_be_bytes());
        out.extend(self.peer_port.to_be_bytes());
    }

    /// Reads what [`Flow::encode`] wrote: the flow, the message's own flags and the rest of the bytes, of which
    /// there are exactly `rest(flags)`. `known` are the flags that the message has.
    pub(super) fn decode(
        bytes: &[u8],
        known: u8,
        rest: impl Fn(u8) -> usize,
    ) -> Result<(Self, u8, &[u8]), DecodeError> {
        let Some((&first, body)) = bytes.split_first() else {
            return Err(DecodeError::Length { got: 0, want: 1 });
        };
        let tags = usize::from(first >> TAGS_SHIFT & TAGS_MASK);
        if first & !(FLOW_BITS | known) != 0 || tags > MAX_TAGS {
            return Err(DecodeError::Flags(first));
        }
        let family = if first & FLAG_V6 == 0 { IpFamily::V4 } else { IpFamily::V6 };
        let mut flow =
            Self { family, vlans: Vlans::NONE, guest: [0; 16], peer: [0; 16], guest_port: 0, peer_port: 0 };
        let flags = first & known;
        let n = flow.address_length();
        let want = 2 * tags + 2 * n + 4 + rest(flags);
        if body.len() != want {
            return Err(DecodeError::Length { got: bytes.len(), want: want + 1 });
        }
        let word = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
        let (words, body) = body.split_at(2 * tags);
        flow.vlans = Vlans::from_words(words.chunks_exact(2).map(word)).map_err(DecodeError::Tag)?;
        let (addresses, body) = body.split_at(2 * n);
        flow.guest[..n].copy_from_slice(&addresses[..n]);
        flow.peer[..n].copy_from_slice(&addresses[n..]);
        flow.guest_port = word(&body[..2]);
        flow.peer_port = word(&body[2..4]);
        Ok((flow, flags, &body[4..]))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address_bytes: &[u8; 16], port| {
            std::net::SocketAddr::new(address(self.family, address_bytes), port)
        };
        write!(f, "tcp {} > {}", end(&self.guest, self.guest_port), end(&self.peer, self.peer_port))?;
        self.vlans.fmt(f)
    }
}

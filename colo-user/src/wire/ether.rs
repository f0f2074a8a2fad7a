//! Ethernet II with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use super::{Malformed, be16};
use std::fmt;

/// Ethertypes that the comparator tells apart.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP, which hypervisors also use to announce a moved guest.
    pub const RARP: u16 = 0x8035;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Below this the field is an 802.3 length.
    pub const FIRST: u16 = 0x0600;
}

/// Length of an untagged Ethernet header.
pub const HEADER: usize = 14;

/// The VLAN ids of a frame, outermost first. Priority bits are not part of it: a switch may change them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vlans([u16; 2]);

impl Vlans {
    const ABSENT: u16 = 0xffff;
    /// No tag.
    pub const NONE: Self = Self([Self::ABSENT; 2]);

    /// The ids, outermost first.
    pub fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().copied().filter(|&id| id != Self::ABSENT)
    }
}

impl fmt::Debug for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ether {
    /// Receiver.
    pub dst: [u8; 6],
    /// Sender.
    pub src: [u8; 6],
    /// Tags before the payload. A third tag stays in [`Self::ethertype`].
    pub vlans: Vlans,
    /// What follows the tags; 0 for an 802.3 length field (the field is then part of the payload).
    pub ethertype: u16,
    /// Offset of the payload.
    pub payload: usize,
}

impl Ether {
    /// Reads the header of `frame`.
    ///
    /// # Errors
    /// [`Malformed::Ethernet`] if the frame ends within it.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        if frame.len() < HEADER {
            return Err(Malformed::Ethernet);
        }
        let mut vlans = Vlans::NONE;
        let mut at = HEADER;
        for slot in &mut vlans.0 {
            if !matches!(be16(frame, at - 2), ethertype::VLAN | ethertype::SERVICE_VLAN) {
                break;
            }
            if frame.len() < at + 4 {
                return Err(Malformed::Ethernet);
            }
            *slot = be16(frame, at) & 0x0fff;
            at += 4;
        }
        let mut dst = [0; 6];
        let mut src = [0; 6];
        dst.copy_from_slice(&frame[0..6]);
        src.copy_from_slice(&frame[6..12]);
        let (ethertype, payload) = match be16(frame, at - 2) {
            length if length < ethertype::FIRST => (0, at - 2),
            e => (e, at),
        };
        Ok(Self { dst, src, vlans, ethertype, payload })
    }
}

//! Ethernet II and 802.3, with VLAN tags (see [`super::vlans`]).

use super::{Malformed, Vlans, be16};
use colo_ebpf::tags::{MAX_802_3, MAX_TAGS, SNAP, SNAP_LEN, SNAP_TAG, TAG_LEN, TUNNEL, tag};

/// Ethertypes that the comparator tells apart.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP, which hypervisors also use to announce a moved guest.
    pub const RARP: u16 = 0x8035;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Length of an untagged Ethernet header.
pub const HEADER: usize = 14;

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ether {
    /// Receiver.
    pub dst: [u8; 6],
    /// Sender.
    pub src: [u8; 6],
    /// Tags before the payload, a SNAP header included. A frame with more than [`MAX_TAGS`] has the type of the next one as
    /// its [`Self::ethertype`].
    pub vlans: Vlans,
    /// What follows the tags; 0 for an 802.3 length field that no SNAP header follows (the field is then part of the payload).
    pub ethertype: u16,
    /// Offset of the payload.
    pub payload: usize,
    /// End of the payload: of an 802.3 frame by its length field, of any other the frame's.
    pub end: usize,
    /// Bytes of the payload that a capture lacks behind that.
    pub missing: usize,
}

impl Ether {
    /// Reads the header of `frame`.
    ///
    /// # Errors
    /// [`Malformed::Ethernet`] if the frame ends within it, or before its 802.3 length field says.
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        Self::parse_cut(frame, 0)
    }

    /// The same of a frame of which a capture lacks the last bytes, so many.
    ///
    /// # Errors
    /// As above.
    pub fn parse_cut(frame: &[u8], missing: usize) -> Result<Self, Malformed> {
        if frame.len() < HEADER {
            return Err(Malformed::Ethernet);
        }
        let mut vlans = Vlans::NONE;
        let mut at = HEADER;
        while let Some(control) = frame.get(at..at + TAG_LEN)
            && let Some(word) = tag(be16(frame, at - 2), be16(control, 0))
            && vlans.push(word)
        {
            at += TAG_LEN;
        }
        let mut ether = Self {
            dst: [0; 6],
            src: [0; 6],
            vlans,
            ethertype: be16(frame, at - 2),
            payload: at,
            end: frame.len(),
            missing,
        };
        ether.dst.copy_from_slice(&frame[0..6]);
        ether.src.copy_from_slice(&frame[6..12]);
        let room = vlans.words().len() < MAX_TAGS;
        if room && tag(ether.ethertype, 0).is_some() {
            return Err(Malformed::Ethernet);
        }
        if ether.ethertype <= MAX_802_3 {
            let end = at + usize::from(ether.ethertype);
            if end > frame.len() + missing {
                return Err(Malformed::Ethernet);
            }
            ether.end = end.min(frame.len());
            ether.missing = end - ether.end;
            match frame.get(at..at + SNAP_LEN).filter(|_| usize::from(ether.ethertype) >= SNAP_LEN) {
                Some([head @ .., last, _, _])
                    if *head == SNAP
                        && matches!(*last, 0 | TUNNEL)
                        && ether.vlans.push(SNAP_TAG | u16::from(*last)) =>
                {
                    ether.payload = at + SNAP_LEN;
                    ether.ethertype = be16(frame, at + SNAP_LEN - 2);
                }
                _ => (ether.ethertype, ether.payload) = (0, at - 2),
            }
        }
        Ok(ether)
    }
}

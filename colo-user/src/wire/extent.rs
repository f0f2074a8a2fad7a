//! Where the content of a frame ends whose protocol has a length of its own. What lies behind it is padding: whatever a driver or
//! a card had in its buffer.
//!
//! [`content`] is one table of where each protocol has its length, and few that have an end instead of a length. IP has its own file,
//! 802.3 frames end by [`super::ether`]; both count here where another protocol carries them.

use super::be16;
use super::ether::ethertype;
use super::ip::{V4_HEADER, V6_HEADER};
use colo_ebpf::tags::{MAX_802_3, MIN_PAYLOAD, tag};

/// A length field: bytes `at` and behind it, big endian unless `little`, of which the bits `mask` count `unit` bytes each, `plus` so many
/// that they leave out.
struct Length {
    ethertypes: &'static [u16],
    at: usize,
    mask: u16,
    little: bool,
    unit: usize,
    plus: usize,
}

impl Length {
    const fn new(ethertypes: &'static [u16], at: usize, plus: usize) -> Self {
        Self { ethertypes, at, mask: 0xffff, little: false, unit: 1, plus }
    }

    const fn of(mut self, mask: u16) -> Self {
        self.mask = mask;
        self
    }

    const fn little(mut self) -> Self {
        self.little = true;
        self
    }

    const fn units(mut self, unit: usize) -> Self {
        self.unit = unit;
        self
    }

    fn read(&self, payload: &[u8]) -> Option<usize> {
        let field = *payload.get(self.at..)?.first_chunk::<2>()?;
        let field = if self.little { u16::from_le_bytes(field) } else { u16::from_be_bytes(field) };
        Some(usize::from(field & self.mask) * self.unit + self.plus)
    }
}

const LENGTHS: [Length; 10] = [
    // PPPoE discovery and session (RFC 2516).
    Length::new(&[0x8863, 0x8864], 4, 6),
    // EAP over LAN (802.1X), and its use before a roaming station arrives (802.11i).
    Length::new(&[0x888e, 0x88c7], 2, 4),
    // Precision time (IEEE 1588).
    Length::new(&[0x88f7], 2, 0),
    // GOOSE, GSE management, sampled values (IEC 61850).
    Length::new(&[0x88b8, 0x88b9, 0x88ba], 2, 0),
    // EtherCAT.
    Length::new(&[0x88a4], 0, 2).of(0x07ff).little(),
    // FCoE initialisation: a list of descriptors in words.
    Length::new(&[0x8914], 6, 10).units(4),
    // RDMA over Ethernet, version 1: a global route header.
    Length::new(&[0x8915], 4, 40),
    // IPX, XNS, VINES.
    Length::new(&[0x8137, 0x0600, 0x0bad], 2, 0),
    // DECnet and its maintenance protocols.
    Length::new(&[0x6001, 0x6002, 0x6003], 0, 2).little(),
    // TIPC: 17 bits, of which frames here need 16.
    Length::new(&[0x88ca], 2, 0),
];

/// Protocols that carry a frame, or what follows one's addresses: ethertype, and where the type of what they carry is.
const CARRIERS: [(u16, usize); 5] = [
    // A redundancy tag (802.1CB): reserved, sequence number.
    (0xf1c1, 4),
    // A port extender's tags (802.1BR, VN-Tag).
    (0x893f, 6),
    (0x8926, 4),
    // A backbone service tag (802.1ah), and the addresses of the frame in it.
    (0x88e7, 4 + 12),
    // A bridged frame.
    (0x6558, 12),
];

/// Protocols that end otherwise.
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
const LLDP: u16 = 0x88cc;
const MAINTENANCE: u16 = 0x8902;
const MACSEC: u16 = 0x88e5;
const APPLETALK_ARP: u16 = 0x80f3;
const HOMEPLUG: u16 = 0x887b;

/// Most carriers that are followed, one in the other.
const MAX_CARRIERS: usize = 8;

/// How many bytes of `payload`, which follows `ethertype`, are content, those `missing` behind it included that a capture lacks; `None`
/// if nothing says so, or what says so names more than there is.
#[must_use]
pub fn content(ethertype: u16, payload: &[u8], missing: usize) -> Option<usize> {
    ends(ethertype, payload, 0).filter(|&end| end <= payload.len() + missing)
}

/// Whether frames of this type say where they end.
#[must_use]
pub fn is_told(ethertype: u16) -> bool {
    CARRIERS.iter().any(|(kind, _)| *kind == ethertype)
        || tag(ethertype, 0).is_some()
        || matches!(ethertype, MPLS | MPLS_MULTICAST | LLDP | MAINTENANCE | MACSEC | APPLETALK_ARP | HOMEPLUG)
        || LENGTHS.iter().any(|length| length.ethertypes.contains(&ethertype))
}

/// How many bytes of a payload are content whose end nobody names: on a wire it would be filled up with zeros to [`MIN_PAYLOAD`], so those
/// are none.
#[must_use]
pub fn without_zeros(payload: &[u8]) -> usize {
    match payload.len() <= MIN_PAYLOAD {
        true => payload.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1),
        false => payload.len(),
    }
}

fn ends(ethertype: u16, payload: &[u8], depth: usize) -> Option<usize> {
    if depth > MAX_CARRIERS {
        return None;
    }
    let carried = CARRIERS.iter().find(|(kind, _)| *kind == ethertype).map(|&(_, at)| at);
    if let Some(at) = carried.or_else(|| tag(ethertype, 0).map(|_| 2)) {
        let inner = be16(payload.get(at..at + 2)?, 0);
        let start = at + 2;
        return match inner <= MAX_802_3 {
            true => Some(start + usize::from(inner)),
            false => Some(start + ends(inner, &payload[start..], depth + 1)?),
        };
    }
    match ethertype {
        // Within another protocol. 0 says nothing.
        ethertype::IPV4 => Some(be16(payload.get(2..4)?, 0).into()).filter(|&total| total >= V4_HEADER),
        ethertype::IPV6 => {
            Some(V6_HEADER + usize::from(be16(payload.get(4..6)?, 0))).filter(|&total| total > V6_HEADER)
        }
        MPLS | MPLS_MULTICAST => labelled(payload, depth),
        LLDP => elements(payload),
        MAINTENANCE => maintenance(payload),
        MACSEC => secured(payload),
        // AppleTalk's ARP: both lengths of addresses, each address twice.
        APPLETALK_ARP => Some(8 + 2 * (usize::from(*payload.get(4)?) + usize::from(*payload.get(5)?))),
        HOMEPLUG => entries(payload),
        _ => LENGTHS.iter().find(|l| l.ethertypes.contains(&ethertype))?.read(payload),
    }
}

/// MPLS: a stack of labels, then IP, or a pseudowire whose control word tells a length that is short (RFC 4385 section 3).
fn labelled(payload: &[u8], depth: usize) -> Option<usize> {
    const BOTTOM: u8 = 1;
    let labels = payload.chunks_exact(4).position(|label| label[2] & BOTTOM != 0)? + 1;
    let start = 4 * labels;
    let inner = payload.get(start..)?;
    let end = match inner.first()? >> 4 {
        4 => ends(ethertype::IPV4, inner, depth + 1)?,
        6 => ends(ethertype::IPV6, inner, depth + 1)?,
        0 => Some(usize::from(inner.get(1)? & 0x3f)).filter(|&length| length >= 4)?,
        _ => return None,
    };
    Some(start + end)
}

/// LLDP (802.1AB): elements with a type of 7 bits and a length of 9, the last of type 0.
fn elements(payload: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let head = be16(payload.get(at..at + 2)?, 0);
        at += 2 + usize::from(head & 0x01ff);
        if head >> 9 == 0 {
            return Some(at);
        }
    }
}

/// Connectivity fault management (802.1ag): a header with the place of the first element, elements with a type and a length of 16
/// bits, the last of type 0 and without one.
fn maintenance(payload: &[u8]) -> Option<usize> {
    let mut at = 4 + usize::from(*payload.get(3)?);
    loop {
        if *payload.get(at)? == 0 {
            return Some(at + 1);
        }
        at += 3 + usize::from(be16(payload.get(at + 1..at + 3)?, 0));
    }
}

/// MACsec (802.1AE): a length only where it is below 48; the check value behind it has 16 bytes.
fn secured(payload: &[u8]) -> Option<usize> {
    const NAMED_CHANNEL: u8 = 0x20;
    let (control, short) = (*payload.first()?, usize::from(*payload.get(1)? & 0x3f));
    let header = if control & NAMED_CHANNEL != 0 { 14 } else { 6 };
    (short != 0).then_some(header + short + 16)
}

/// HomePlug 1.0: a count of entries, each with a type and a length.
fn entries(payload: &[u8]) -> Option<usize> {
    let count = *payload.first()? & 0x7f;
    (0..count).try_fold(1, |at, _| Some(at + 2 + usize::from(*payload.get(at + 1)?)))
}

#[cfg(test)]
mod tests;

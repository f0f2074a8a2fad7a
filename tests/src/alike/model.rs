//! What has been said, slow and obviously right: every byte of every stream by its number and value, every control segment by
//! what it says, every datagram by its content.
//!
//! It knows no epochs, no order and no incarnations: whatever the secondary said at any time counts. So it allows more than the
//! comparator may, and what it refuses must never leave.

use colo_user::compare::classify::{Classified, FlowKey, IpFlow, Subject, classify};
use colo_user::wire::{IpFamily, TcpFlags, TcpSegment, proto};
use std::collections::{HashMap, HashSet};

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    /// A byte of a stream.
    Byte(FlowKey, u32, u8),
    /// A FIN at a number.
    Fin(FlowKey, u32),
    /// A SYN: control bits, options without clocks, data.
    Syn(FlowKey, u8, Vec<(u8, Vec<u8>)>, Vec<u8>),
    /// An RST: control bits, data.
    Reset(FlowKey, u8, Vec<u8>),
    /// A byte of a fragmented datagram, by its offset.
    Piece(FlowKey, u32, u8),
}

/// Something that counts once each time it is said.
type Unit = (FlowKey, Vec<u8>, Vec<u8>);

/// All that was said.
#[derive(Default)]
pub struct Said {
    things: HashSet<Thing>,
    units: HashMap<Unit, usize>,
}

const BITS: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0;

fn of_segment(key: FlowKey, segment: &TcpSegment<'_>) -> Vec<Thing> {
    let flags = segment.flags;
    let data = segment.payload.to_vec();
    if flags.has(TcpFlags::RST) {
        return vec![Thing::Reset(key, flags.0 & BITS, data)];
    }
    if flags.has(TcpFlags::SYN) {
        let mut options: Vec<(u8, Vec<u8>)> = segment
            .options()
            .map(|o| (o.kind, if o.kind == 8 { Vec::new() } else { o.data.to_vec() }))
            .collect();
        options.sort();
        return vec![Thing::Syn(key, flags.0 & (BITS | TcpFlags::ACK.0), options, data)];
    }
    // The octet of a keep-alive is none of the stream's, and looks like any other.
    if data.len() == 1 && !flags.has(TcpFlags::FIN) {
        return Vec::new();
    }
    let number = |at: usize| segment.seq.0.wrapping_add(at as u32);
    let mut things: Vec<Thing> =
        data.iter().enumerate().map(|(at, byte)| Thing::Byte(key, number(at), *byte)).collect();
    if flags.has(TcpFlags::FIN) {
        things.push(Thing::Fin(key, number(data.len())));
    }
    things
}

impl Said {
    /// All that is in these frames.
    pub fn by<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut said = Self::default();
        for frame in frames {
            let (things, unit) = read(frame, true);
            said.things.extend(things);
            if let Some(unit) = unit {
                *said.units.entry(unit).or_default() += 1;
            }
        }
        said
    }

    /// The first of these frames that says something which has not been said, or not as often; and what.
    pub fn lacking<'a>(mut self, frames: impl Iterator<Item = &'a [u8]>) -> Option<(usize, String)> {
        for (at, frame) in frames.enumerate() {
            let (things, unit) = read(frame, false);
            if let Some(thing) = things.into_iter().find(|thing| !self.things.contains(thing)) {
                return Some((at, format!("{thing:?}")));
            }
            let Some(unit) = unit else { continue };
            match self.units.get_mut(&unit) {
                Some(left) if *left > 0 => *left -= 1,
                _ => return Some((at, format!("{unit:?}"))),
            }
        }
        None
    }
}

/// What a frame says. `generous`: a lone octet counts, too.
fn read(frame: &[u8], generous: bool) -> (Vec<Thing>, Option<Unit>) {
    let Classified { key, subject, .. } = classify(frame);
    match subject {
        Subject::Tcp(segment) => {
            let mut things = of_segment(key, &segment);
            if generous && let [octet] = segment.payload {
                things.push(Thing::Byte(key, segment.seq.0, *octet));
            }
            (things, None)
        }
        Subject::Unit(unit) => (Vec::new(), Some((key, unit.head.to_vec(), unit.body.to_vec()))),
        Subject::Neighbour { .. } => (Vec::new(), None),
        Subject::Fragment(of) => {
            let offset = of.fragment.offset;
            // Of IPv6 only the first piece's protocol counts (RFC 8200 section 4.5).
            let key = match key {
                FlowKey::Ip(flow) if of.ip.family == IpFamily::V6 => {
                    FlowKey::Ip(IpFlow { protocol: 0, ..flow })
                }
                key => key,
            };
            // A checksum is no content, in a datagram's first piece either.
            let checksum = if of.ip.protocol == proto::UDP { 6..8 } else { 0..0 };
            let bytes = (offset..).zip(of.data).filter(|(at, _)| !checksum.contains(at));
            (bytes.map(|(at, byte)| Thing::Piece(key, at, *byte)).collect(), None)
        }
    }
}

//! Brings the secondary's TCP sequence numbers into the primary's space, flow by flow.
//!
//! Two guests pick different initial numbers for one connection. The first pass notes where each incarnation of each
//! flow begins: one after its SYN or SYN-ACK, or the lowest byte seen where the capture began later. The second shifts
//! the secondary's segments by the difference. Incarnations are paired in the order in which they occur; a flow or
//! incarnation that only one side has stays as it is. Acknowledgements count the client's bytes and are not shifted;
//! fragments of TCP are not either.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::{
    compare::classify::{FlowKey, Subject, classify_cut},
    pcap::Captured,
    wire::{Ether, Ip, Seq, TcpFlags, TcpSegment},
};

/// How far before the bytes seen a SYN may stand and still belong to them: segments of one window, reordered.
const SYN_REORDERING: i32 = 1 << 20;

/// Offset of the sequence number in a TCP header (RFC 9293 section 3.1).
const SEQUENCE_NUMBER: usize = 4;

/// Where an incarnation begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Sequence number of the first byte.
    first: Seq,
    /// From a SYN: exact, and another one begins another incarnation.
    exact: bool,
    /// Only from segments that say nothing, such as keep-alives, which stand one before the first byte.
    provisional: bool,
}

/// Where the incarnations of all flows begin.
#[derive(Debug, Default)]
pub struct Starts(HashMap<FlowKey, Vec<Start>>);

impl Starts {
    /// Takes note of one frame.
    pub fn note(&mut self, captured: Captured<'_>) {
        if let Some((key, segment)) = tcp(captured) {
            follow(self.0.entry(key).or_default(), &segment);
        }
    }
}

/// Adds what `segment` tells to the list of a flow. The last entry is the present incarnation.
fn follow(starts: &mut Vec<Start>, segment: &TcpSegment<'_>) {
    let first = segment.payload_seq();
    if segment.flags.has(TcpFlags::SYN) {
        let exact = Start { first, exact: true, provisional: false };
        match starts.last_mut() {
            Some(last) if last.exact && last.first == first => {}
            Some(last) if !last.exact && (0..SYN_REORDERING).contains(&last.first.distance_from(first)) => {
                *last = exact;
            }
            _ => starts.push(exact),
        }
        return;
    }
    if segment.flags.has(TcpFlags::RST) {
        return;
    }
    let provisional = segment.payload.is_empty() && !segment.flags.has(TcpFlags::FIN);
    match starts.last_mut() {
        None => starts.push(Start { first, exact: false, provisional }),
        Some(last) if last.exact => {}
        Some(last) if last.provisional == provisional => {
            if first.distance_from(last.first) < 0 {
                last.first = first;
            }
        }
        Some(last) if last.provisional => (last.first, last.provisional) = (first, false),
        Some(_) => {}
    }
}

/// The shifts of all flows, and how far each flow of the secondary has come.
#[derive(Clone, Debug)]
pub struct Alignment {
    primary: HashMap<FlowKey, Vec<Start>>,
    secondary: HashMap<FlowKey, Vec<Start>>,
    reached: HashMap<FlowKey, Vec<Start>>,
}

impl Alignment {
    /// From the first pass over both captures.
    pub fn new(primary: Starts, secondary: Starts) -> Self {
        Self { primary: primary.0, secondary: secondary.0, reached: HashMap::new() }
    }

    fn shift(&mut self, captured: Captured<'_>) -> Option<Vec<u8>> {
        let Captured { frame, missing } = captured;
        let (key, segment) = tcp(captured)?;
        let reached = self.reached.entry(key).or_default();
        follow(reached, &segment);
        let incarnation = reached.len().saturating_sub(1);
        let to = self.primary.get(&key)?.get(incarnation)?.first;
        let from = self.secondary.get(&key)?.get(incarnation)?.first;
        let ether = Ether::parse_cut(frame, missing).ok()?;
        let ip = Ip::parse_cut(frame, ether.payload, ether.ethertype, missing).ok()?;
        let at = ip.payload + SEQUENCE_NUMBER;
        let shifted = segment.seq.0.wrapping_add(to.0.wrapping_sub(from.0));
        let mut frame = frame.to_vec();
        frame.get_mut(at..at + 4)?.copy_from_slice(&shifted.to_be_bytes());
        Some(frame)
    }
}

/// A frame of the secondary in the primary's space, if that is asked for.
pub fn aligned<'a>(alignment: &mut Option<Alignment>, captured: Captured<'a>) -> Cow<'a, [u8]> {
    let shifted = alignment.as_mut().and_then(|alignment| alignment.shift(captured));
    shifted.map_or(Cow::Borrowed(captured.frame), Cow::Owned)
}

/// The TCP segment in a frame and its flow.
fn tcp(captured: Captured<'_>) -> Option<(FlowKey, TcpSegment<'_>)> {
    let classified = classify_cut(captured.frame, captured.missing);
    match classified.subject {
        Subject::Tcp(segment) => Some((classified.key, segment)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

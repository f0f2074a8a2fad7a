//! What two captures lack of what the guests said, so that nothing of it counts: neither as missing nor as extra, nor as different.
//!
//! A capture may have kept the first bytes of each frame only. Of what comes in units that is all that is compared, see [`Gaps`]. A
//! TCP stream may have been cut into other segments by the other guest, and one capture shows bytes that the other lacks. So both are read
//! beforehand ([`Survey`]): which places of which stream are unknown in either, which options of SYNs, and which flows have
//! frames that end within their headers. Then the comparator reads every segment with the same zeros in the same unknown places, and
//! leaves out what it knows too little of: an ICMP error's quote, all of a protocol between two addresses, or, if a capture has no packet
//! with its addresses, all packets. (Where it has some, the one without is left out alone: to leave out all others for it would hide too
//! much.)
//!
//! Bytes that one capture lacks in one segment and has in another are not compared: the place counts as unknown. Sequence numbers that a
//! flow uses again, in another connection or after 4 GiB, are the same place.

use super::classify::{Class, Classified, QUOTED, Subject, classify_cut};
use super::fragments::{Outcome, Reassembly};
use super::gaps::Gaps;
use super::key::{FlowKey, IpFlow, Part};
use crate::mono::Mono;
use crate::wire::{TcpFlags, TcpSegment};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// What is unknown of one TCP stream.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// Sequence numbers: in order and apart from each other once the survey is over, none across the end of the circle.
    places: Vec<Range<u64>>,
    /// Most option bytes of a SYN that are known.
    options: Option<usize>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Lacking {
    streams: HashMap<FlowKey, Stream, foldhash::fast::RandomState>,
    headless: HashSet<FlowKey, foldhash::fast::RandomState>,
    /// ICMP errors of one kind between the same ends of which some do not show what they quote.
    unquoted: HashSet<FlowKey, foldhash::fast::RandomState>,
}

/// Sequence numbers there are.
const CIRCLE: u64 = 1 << 32;

/// Reads captures for [`Lacking`].
#[derive(Default)]
pub struct Survey {
    lacking: Lacking,
    fragments: Reassembly<()>,
    /// In the capture at hand, by what is known of packets without addresses: where there are such, and where there are others.
    nameless: HashSet<FlowKey, foldhash::fast::RandomState>,
    named: HashSet<FlowKey, foldhash::fast::RandomState>,
}

impl Survey {
    /// A survey of captures of which nothing was read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame of one of the captures, which lacks the last bytes of it, so many. A capture is read to its end, see [`Self::end`], before the
    /// next one.
    pub fn note(&mut self, frame: &[u8], missing: usize) {
        let said = classify_cut(frame, missing);
        if let FlowKey::Ip(flow) = &said.key
            && flow.part != Part::Malformed
        {
            let [.., nameless] = headless(flow);
            let set = if said.key == nameless { &mut self.nameless } else { &mut self.named };
            set.insert(nameless);
        }
        if let Subject::Fragment(of) = &said.subject {
            if let Outcome::Whole(partial, datagram) = self.fragments.add(Mono::ZERO, of, ())
                && let Ok(whole) = partial.read(&datagram)
            {
                self.lacking.note(&whole);
            }
        } else {
            self.lacking.note(&said);
        }
    }

    /// The capture has ended.
    pub fn end(&mut self) {
        self.fragments = Reassembly::default();
        self.lacking.headless.extend(self.nameless.drain().filter(|key| !self.named.contains(key)));
        self.named.clear();
    }

    /// What was found; the last capture has ended.
    #[must_use]
    pub fn finish(mut self) -> Lacking {
        self.end();
        for stream in self.lacking.streams.values_mut() {
            stream.places.sort_unstable_by_key(|place| place.start);
            stream.places.dedup_by(|next, last| {
                let joins = next.start <= last.end;
                if joins {
                    last.end = last.end.max(next.end);
                }
                joins
            });
        }
        self.lacking
    }
}

impl Lacking {
    /// Flows of which nothing can be compared.
    #[must_use]
    pub fn headless(&self) -> usize {
        self.headless.len()
    }

    fn note(&mut self, said: &Classified<'_>) {
        let FlowKey::Ip(flow) = &said.key else { return };
        let [.., nameless] = headless(flow);
        if flow.part == Part::Headless && said.key != nameless {
            self.headless.insert(said.key);
        }
        if said.class == Class::IcmpError && said.header_cut {
            self.unquoted.insert(said.key);
        }
        let Subject::Tcp(segment) = &said.subject else { return };
        if !said.gaps.is_empty() {
            let stream = self.streams.entry(said.key).or_default();
            stream.places.extend(said.gaps.iter().flat_map(|gap| places(segment, &gap)).flatten());
        }
        if said.header_cut && segment.flags.has(TcpFlags::SYN) {
            let options = &mut self.streams.entry(said.key).or_default().options;
            let known = segment.options.len();
            *options = Some(options.map_or(known, |least| least.min(known)));
        }
    }

    /// What is left of `said` to compare: a TCP segment with zeros in all unknown places, which are put into `filled`; an ICMP error without
    /// what it quotes; nothing of a flow whose headers are not known.
    pub(super) fn fill<'a>(
        &self,
        said: &'a Classified<'a>,
        filled: &'a mut Vec<u8>,
    ) -> Cow<'a, Classified<'a>> {
        let FlowKey::Ip(flow) = &said.key else { return Cow::Borrowed(said) };
        if !self.headless.is_empty() && headless(flow).iter().any(|key| self.headless.contains(key)) {
            let subject = Subject::Neighbour { asks: false };
            return Cow::Owned(Classified { subject, gaps: Gaps::NONE, ..said.clone() });
        }
        if said.class == Class::IcmpError && self.unquoted.contains(&said.key) {
            let mut said = said.clone();
            if let Subject::Unit(unit) = &mut said.subject {
                unit.head[..QUOTED].fill(0);
            }
            return Cow::Owned(said);
        }
        let Subject::Tcp(segment) = &said.subject else { return Cow::Borrowed(said) };
        let Some(stream) = self.streams.get(&said.key) else { return Cow::Borrowed(said) };
        let mut segment = *segment;
        if let Some(known) = stream.options
            && segment.flags.has(TcpFlags::SYN)
        {
            segment.options = &segment.options[..known.min(segment.options.len())];
        }
        filled.extend_from_slice(segment.payload);
        filled.resize(said.gaps.total(segment.payload).unwrap_or(0).max(segment.payload.len()), 0);
        let begins = u64::from(segment.payload_seq().0);
        for unknown in places(&segment, &(0..filled.len())).into_iter().flatten() {
            // Where on the circle this part of the payload begins in it.
            let at = (unknown.start + CIRCLE - begins) % CIRCLE;
            for place in stream.within(&unknown) {
                let from = place.start.max(unknown.start) - unknown.start + at;
                let to = place.end.min(unknown.end) - unknown.start + at;
                // Both lie in the payload.
                filled[from as usize..to as usize].fill(0);
            }
        }
        segment.payload = filled;
        Cow::Owned(Classified {
            class: said.class,
            key: said.key,
            subject: Subject::Tcp(segment),
            gaps: Gaps::NONE,
            header_cut: false,
        })
    }
}

impl Stream {
    /// The unknown places that lie in `range`, wholly or in part.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = &Range<u64>> {
        let first = self.places.partition_point(|place| place.end <= range.start);
        let end = range.end;
        self.places[first..].iter().take_while(move |place| place.start < end)
    }
}

/// The sequence numbers of a part of a segment's payload: in two parts where they run across the end of the circle.
fn places(segment: &TcpSegment<'_>, part: &Range<usize>) -> [Option<Range<u64>>; 2] {
    let start = (u64::from(segment.payload_seq().0) + part.start as u64) % CIRCLE;
    // A segment is shorter than the circle.
    let end = start + part.len() as u64;
    let second = (end > CIRCLE).then(|| 0..end - CIRCLE);
    [Some(start..end.min(CIRCLE)), second]
}

/// The names that frames of this flow have in captures that lack their ports, what their extension headers lead to, or their
/// addresses.
fn headless(flow: &IpFlow) -> [FlowKey; 3] {
    let portless = IpFlow { part: Part::Headless, extras: 0, sport: 0, dport: 0, ..*flow };
    let between = IpFlow { protocol: 0, ..portless };
    [portless, between, IpFlow { src: [0; 16], dst: [0; 16], ..between }].map(FlowKey::Ip)
}

#[cfg(test)]
mod tests;

//! The table of flows and the queue of their deadlines.
//!
//! Bounded by refusal, never by eviction: to forget a delta is to break a connection. The queue of deadlines is lazy:
//! an entry stands in it under a deadline that may since have moved on, and is looked at again when that comes.

use super::entry::{Delta, Entry, Kept, Mode, State};
use super::flow::Flow;
use super::initial::{Base, LearnedInitial};
use super::limits::{FLOW_BYTES, TAKEOVER_GRACE};
use super::segment::Segment;
use super::view::EntryView;
use crate::mono::Mono;
use foldhash::quality::RandomState;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What came of the primary's initial numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The flow's delta is known now.
    Paired,
    /// Remembered until this guest says its own.
    Waiting,
    /// Known already.
    Repeated,
    /// Not remembered: the table is full.
    Full,
}

/// What a SYN or SYN-ACK of the guest did.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Frames kept for the former connection.
    pub(super) forgotten: Vec<Kept>,
    /// The delta became known.
    pub(super) known: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    flows: HashMap<Flow, Entry, RandomState>,
    queue: BinaryHeap<Reverse<(Mono, Flow)>>,
    limit: usize,
}

const _: () = assert!(size_of::<(Flow, Entry)>() <= FLOW_BYTES);

/// Deadlines of removed flows may stand in the queue up to this many beyond the number of flows.
const STALE_DEADLINES: usize = 1024;

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { flows: HashMap::default(), queue: BinaryHeap::new(), limit }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub(super) fn get(&self, flow: &Flow) -> Option<&Entry> {
        self.flows.get(flow)
    }

    pub(super) fn get_mut(&mut self, flow: &Flow) -> Option<&mut Entry> {
        self.flows.get_mut(flow)
    }

    pub(super) fn remove(&mut self, flow: &Flow) -> Option<Entry> {
        self.flows.remove(flow)
    }

    /// The guest says a SYN or SYN-ACK. `None` if the table is full.
    pub(super) fn begin(&mut self, now: Mono, s: &Segment, mode: Mode) -> Option<Begun> {
        // Long after a takeover there is no primary whose numbers a new connection could need.
        let alone = matches!(mode, Mode::Direct(since) if now > since + TAKEOVER_GRACE);
        if !self.flows.contains_key(&s.flow) {
            if alone {
                return Some(Begun::default());
            }
            self.insert(s.flow, Entry::new(now, State::Pending))?;
        }
        let entry = self.flows.get_mut(&s.flow)?;
        let Some(mut forgotten) = entry.begin(now, s) else {
            return Some(Begun::default());
        };
        let known = matches!(entry.state, State::Known { .. });
        if alone && !known {
            forgotten.append(&mut entry.kept);
            self.flows.remove(&s.flow);
        }
        self.arm(&s.flow, mode);
        Some(Begun { forgotten, known })
    }

    /// The primary's initial numbers. `None` if the table is full.
    pub(super) fn learn(&mut self, now: Mono, initial: &LearnedInitial, mode: Mode) -> Option<Learned> {
        if !self.flows.contains_key(&initial.flow) {
            self.insert(initial.flow, Entry::new(now, State::Pending))?;
        }
        let entry = self.flows.get_mut(&initial.flow)?;
        let learned = match (entry.learn(now, initial), entry.state) {
            (true, State::Known { .. }) => Learned::Paired,
            (true, _) => Learned::Waiting,
            (false, _) => Learned::Repeated,
        };
        self.arm(&initial.flow, mode);
        Some(learned)
    }

    fn insert(&mut self, flow: Flow, entry: Entry) -> Option<()> {
        if self.flows.len() >= self.limit {
            return None;
        }
        self.flows.insert(flow, entry);
        Some(())
    }

    /// Forgets everything and takes `bases`; says how many were beyond the limit.
    pub(super) fn replace(&mut self, now: Mono, bases: impl IntoIterator<Item = Base>) -> usize {
        self.flows.clear();
        self.queue.clear();
        let mut refused = 0;
        for base in bases {
            let entry = Entry::with_base(now, base.delta, base.guest_isn);
            refused += usize::from(self.insert(base.flow, entry).is_none());
        }
        refused
    }

    pub(super) fn take_over(&mut self) {
        self.flows.values_mut().for_each(Entry::take_over);
    }

    pub(super) fn bases(&self) -> impl Iterator<Item = Base> + '_ {
        let known = self.flows.iter().filter(|(_, e)| matches!(e.state, State::Known { .. }));
        known.filter(|(_, e)| e.total() != Delta::ZERO).map(|(flow, e)| Base {
            flow: *flow,
            delta: e.total(),
            guest_isn: e.own.map(|own| own.isn),
        })
    }

    pub(super) fn views(&self) -> impl Iterator<Item = EntryView> + '_ {
        self.flows.iter().map(|(flow, e)| e.view(*flow))
    }

    /// Puts the flow's deadline into the queue, if it has one and does not stand there under an earlier one.
    pub(super) fn arm(&mut self, flow: &Flow, mode: Mode) {
        let Some(entry) = self.flows.get_mut(flow) else {
            return;
        };
        let Some(deadline) = entry.deadline(mode) else {
            return;
        };
        if entry.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        entry.armed = Some(deadline);
        self.queue.push(Reverse((deadline, *flow)));
        if self.queue.len() > 2 * self.flows.len() + STALE_DEADLINES {
            self.queue =
                self.flows.iter().filter_map(|(flow, e)| e.armed.map(|d| Reverse((d, *flow)))).collect();
        }
    }

    /// Removes one entry that has had its time.
    pub(super) fn pop_expired(&mut self, now: Mono, mode: Mode) -> Option<Entry> {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Reverse((looked_for, flow)) = self.queue.pop()?;
            let Some(entry) = self.flows.get_mut(&flow).filter(|e| e.armed == Some(looked_for)) else {
                continue;
            };
            entry.armed = None;
            if entry.deadline(mode).is_some_and(|deadline| deadline <= now) {
                return self.flows.remove(&flow);
            }
            self.arm(&flow, mode);
        }
        None
    }

    /// Length of the queue of deadlines.
    #[cfg(test)]
    pub(super) fn deadlines(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.queue.peek().map(|Reverse((deadline, _))| *deadline)
    }
}

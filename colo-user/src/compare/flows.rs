//! The table of flows: bounded, each with at most one pending deadline, left on close or idleness.
//!
//! Full is a stated condition, not a wipe: the caller holds the frames of flows that found no place outside the table
//! and asks for a checkpoint.

use super::classify::{Class, FlowKey};
use super::context::Context;
use super::datagram::UnitFlow;
use super::policy::Coverage;
use super::tcp::TcpFlow;
use crate::mono::Mono;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasher;

/// What is compared in a flow.
#[derive(Clone)]
pub(super) enum Comparison {
    /// Two byte streams.
    Tcp(Box<TcpFlow>),
    /// Units.
    Units(UnitFlow),
}

/// One flow.
#[derive(Clone)]
pub(super) struct Flow {
    pub key: FlowKey,
    pub comparison: Comparison,
    /// When either side last said something.
    pub last: Mono,
    /// The deadline in the heap, if there is one.
    armed: Option<Mono>,
    /// Tells a reused place in the slab from the flow that the heap means.
    generation: u64,
}

/// The table.
#[derive(Clone)]
pub(super) struct Flows {
    slab: Slab<Flow>,
    index: HashTable<usize>,
    /// Connections whose packets have IP options or extension headers, and the names of their flows. Nearly always none.
    labelled: HashMap<FlowKey, SmallVec<[FlowKey; 1]>, foldhash::fast::RandomState>,
    /// Guests choose the keys: the hash is seeded per process.
    hasher: foldhash::fast::RandomState,
    deadlines: BinaryHeap<Reverse<(Mono, usize, u64)>>,
    generation: u64,
    /// Where the sweep goes on.
    hand: usize,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            index: HashTable::new(),
            labelled: HashMap::default(),
            hasher: foldhash::fast::RandomState::default(),
            deadlines: BinaryHeap::new(),
            generation: 0,
            hand: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&at| self.slab[at].key == *key).copied()
    }

    pub(super) fn insert(&mut self, key: FlowKey, comparison: Comparison, now: Mono) -> usize {
        self.generation += 1;
        let flow = Flow { key, comparison, last: now, armed: None, generation: self.generation };
        let at = self.slab.insert(flow);
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.index.insert_unique(hasher.hash_one(key), at, |&at| hasher.hash_one(slab[at].key));
        if key.is_labelled() {
            self.labelled.entry(key.of_connection()).or_default().push(key);
        }
        at
    }

    /// The flows of a connection, whatever its packets say beside their segments.
    pub(super) fn of_connection(&self, connection: &FlowKey) -> SmallVec<[usize; 2]> {
        let plain = self.find(connection).into_iter();
        let labelled = self.labelled.get(connection).into_iter().flatten();
        plain.chain(labelled.filter_map(|key| self.find(key))).collect()
    }

    /// Whether one of a connection's flows is compared although not all are.
    pub(super) fn protects(&self, connection: &FlowKey) -> bool {
        self.of_connection(connection)
            .iter()
            .any(|&at| matches!(&self.slab[at].comparison, Comparison::Tcp(tcp) if tcp.protected()))
    }

    pub(super) fn get(&mut self, at: usize) -> &mut Flow {
        &mut self.slab[at]
    }

    fn remove(&mut self, at: usize) -> Flow {
        let flow = self.slab.remove(at);
        let hash = self.hasher.hash_one(flow.key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        if flow.key.is_labelled()
            && let Entry::Occupied(mut flows) = self.labelled.entry(flow.key.of_connection())
        {
            flows.get_mut().retain(|key| *key != flow.key);
            if flows.get().is_empty() {
                flows.remove();
            }
        }
        flow
    }

    /// All flows.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.slab.iter_mut().map(|(_, flow)| flow)
    }

    /// Sees to it that the flow's deadline is in the heap. One that is there and earlier stays: it is looked at again
    /// when it comes.
    pub(super) fn arm(&mut self, at: usize, cx: &Context<'_>) {
        let flow = &mut self.slab[at];
        let Some(deadline) = flow.comparison.deadline(cx) else { return };
        if flow.armed.is_none_or(|armed| deadline < armed) {
            flow.armed = Some(deadline);
            self.deadlines.push(Reverse((deadline, at, flow.generation)));
        }
    }

    /// When [`Self::due`] has something, at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.peek().map(|Reverse((deadline, ..))| *deadline)
    }

    /// A flow whose deadline has come.
    pub(super) fn due(&mut self, now: Mono) -> Option<usize> {
        while let Some(&Reverse((deadline, at, generation))) = self.deadlines.peek() {
            if deadline > now {
                return None;
            }
            self.deadlines.pop();
            if let Some(flow) = self.slab.get_mut(at)
                && flow.generation == generation
                && flow.armed == Some(deadline)
            {
                flow.armed = None;
                return Some(at);
            }
        }
        None
    }

    /// Looks at the next `count` places and takes out flows that have been idle long enough. With `now` far ahead of
    /// their last words, or `urgent`, all that may be forgotten without loss leave.
    pub(super) fn sweep(&mut self, count: usize, urgent: bool, cx: &mut Context<'_>) {
        for _ in 0..count.min(self.slab.capacity()) {
            if self.hand >= self.slab.capacity() {
                self.hand = 0;
            }
            let at = self.hand;
            self.hand += 1;
            if self.slab.get(at).is_some_and(|flow| flow.expired(urgent, cx)) {
                let mut flow = self.remove(at);
                flow.comparison.forget(cx);
                cx.counters.flows_expired += 1;
            }
        }
    }

    /// Looks at the next `count` places and forgets bytes that both sides have said.
    pub(super) fn forget_said(&mut self, count: usize, kept_total: &mut usize) {
        for _ in 0..count.min(self.slab.capacity()) {
            if self.hand >= self.slab.capacity() {
                self.hand = 0;
            }
            if let Some(Flow { comparison: Comparison::Tcp(tcp), .. }) = self.slab.get_mut(self.hand) {
                tcp.forget_said(kept_total);
            }
            self.hand += 1;
        }
    }

    /// Takes out every flow.
    pub(super) fn clear(&mut self) {
        self.slab = Slab::new();
        self.index = HashTable::new();
        self.labelled.clear();
        self.deadlines.clear();
    }
}

impl Flow {
    fn expired(&self, urgent: bool, cx: &Context<'_>) -> bool {
        let (closed, may_leave, empty) = match &self.comparison {
            // A flow that was compared from its SYN on could not be taken up again in mid-stream.
            Comparison::Tcp(tcp) => (
                tcp.closed(),
                tcp.quiet() && (tcp.closed() || cx.policy.coverage == Coverage::All || !tcp.protected()),
                tcp.empty(),
            ),
            Comparison::Units(units) => (false, units.quiet(), units.empty()),
        };
        let age = cx.now.saturating_since(self.last);
        let limit = if closed { cx.policy.closed } else { cx.policy.idle };
        may_leave && (age >= limit || (urgent && empty))
    }
}

impl Comparison {
    pub(super) fn new(class: Class, unprotected: bool) -> Self {
        match class {
            Class::Tcp => Self::Tcp(Box::new(TcpFlow::new(unprotected))),
            _ => Self::Units(UnitFlow::new(class)),
        }
    }

    fn deadline(&self, cx: &Context<'_>) -> Option<Mono> {
        match self {
            Self::Tcp(tcp) => tcp.deadline(cx),
            Self::Units(units) => units.deadline(cx),
        }
    }

    fn forget(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Tcp(tcp) => tcp.forget(cx.kept),
            Self::Units(units) => units.cut(cx, &mut Vec::new()),
        }
    }
}

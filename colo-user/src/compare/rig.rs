//! A comparator on a bench: frames in, what left and what was asked for out.

use super::{Action, Cause, Comparator, Divergence, DivergenceKind, Limits, Policy, Token};
use crate::mono::Mono;
use crate::wire::build::Tcp;
use std::net::SocketAddr;

pub(super) const GUEST: &str = "10.0.0.2:80";
pub(super) const CLIENT: &str = "10.0.0.1:4000";

/// A segment of the guest's.
pub(super) fn tcp() -> Tcp {
    Tcp::new(addr(GUEST), addr(CLIENT))
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

pub(super) struct Rig {
    pub c: Comparator,
    pub now: Mono,
    next: u64,
    out: Vec<Action>,
    /// Tokens released, in order.
    pub left: Vec<u64>,
    pub dropped: Vec<u64>,
    pub asked: Vec<Cause>,
    pub emitted: Vec<Vec<u8>>,
    /// Other windows to leave with, by token.
    pub windows: Vec<(u64, u16)>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Policy::default(), Limits::default())
    }

    pub fn with(policy: Policy, limits: Limits) -> Self {
        Self {
            c: Comparator::new(policy, limits, Mono::from_millis(1000)),
            now: Mono::from_millis(1000),
            next: 0,
            out: Vec::new(),
            left: Vec::new(),
            dropped: Vec::new(),
            asked: Vec::new(),
            emitted: Vec::new(),
            windows: Vec::new(),
        }
    }

    fn collect(&mut self) {
        for action in self.out.drain(..) {
            match action {
                Action::Release(Token(t)) => self.left.push(t),
                Action::Drop(Token(t)) => self.dropped.push(t),
                Action::Checkpoint(cause) => self.asked.push(*cause),
                Action::Emit(frame) => self.emitted.push(frame),
                Action::Window(Token(t), window) => self.windows.push((t, window)),
            }
        }
        assert_eq!(
            self.c.held(),
            self.next as usize - self.left.len() - self.dropped.len(),
            "frames are accounted for"
        );
    }

    /// The primary says a frame; its number.
    pub fn p(&mut self, frame: &[u8]) -> u64 {
        self.p_cut(frame, 0)
    }

    /// A frame of the primary's that a capture cut short by so many bytes.
    pub fn p_cut(&mut self, frame: &[u8], missing: usize) -> u64 {
        let token = self.next;
        self.next += 1;
        self.c.primary_cut(self.now, Token(token), frame, missing, &mut self.out);
        self.collect();
        token
    }

    pub fn s(&mut self, frame: &[u8]) {
        self.s_cut(frame, 0);
    }

    /// A frame of the secondary's that a capture cut short by so many bytes.
    pub fn s_cut(&mut self, frame: &[u8], missing: usize) {
        self.c.secondary_cut(self.now, frame, missing, &mut self.out);
        self.collect();
    }

    pub fn both(&mut self, frame: &[u8]) {
        self.p(frame);
        self.s(frame);
    }

    pub fn client(&mut self, frame: &[u8]) {
        self.c.client(self.now, frame);
    }

    pub fn checkpoint(&mut self) {
        self.c.checkpoint(self.now, &mut self.out);
        self.collect();
    }

    pub fn release_all(&mut self) {
        self.c.release_all(self.now, &mut self.out);
        self.collect();
    }

    pub fn finish(&mut self) {
        self.c.finish(self.now, &mut self.out);
        self.collect();
    }

    /// Time passes, with a tick at every deadline on the way.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + std::time::Duration::from_millis(millis);
        while let Some(deadline) = self.c.next_deadline().filter(|d| *d <= end) {
            self.now = self.now.max(deadline);
            self.c.tick(self.now, &mut self.out);
            self.collect();
            assert!(self.c.next_deadline().is_none_or(|d| d > self.now), "a tick leaves no deadline behind");
        }
        self.now = end;
    }

    /// The divergences so far.
    pub fn divergences(&self) -> Vec<&Divergence> {
        self.asked
            .iter()
            .filter_map(|cause| match cause {
                Cause::Divergence(d) => Some(d),
                Cause::Overload(_) => None,
            })
            .collect()
    }

    /// The kinds of the divergences so far.
    pub fn kinds(&self) -> Vec<DivergenceKind> {
        self.divergences().iter().map(|d| d.kind).collect()
    }

    /// Everything said has left, in the order of capture, and nothing was asked for.
    pub fn assert_agreed(&self) {
        assert_eq!(self.asked, [], "nothing to ask for");
        assert_eq!(self.left, (0..self.next).collect::<Vec<_>>(), "all has left in order");
    }
}

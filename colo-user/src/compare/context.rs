//! What a flow needs of its surroundings while it handles one frame.

use super::divergence::{Cause, Divergence, Overload};
use super::{Action, Counters, FlowKey, Limits, Policy, Token};
use crate::mono::Mono;
use std::time::Duration;

/// The frames that carry one segment or datagram: one, or the fragments of it in order of capture.
#[derive(Clone, Debug)]
pub(super) enum Frames {
    /// One frame.
    One(Token),
    /// Fragments.
    Many(Box<[Token]>),
}

impl Frames {
    pub(super) fn tokens(&self) -> &[Token] {
        match self {
            Self::One(token) => std::slice::from_ref(token),
            Self::Many(tokens) => tokens,
        }
    }
}

/// Why frames leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Compared,
    Checkpoint,
    Immediate,
    Bypass,
    Unprotected,
}

/// The comparator's state that all flows share.
pub(super) struct Context<'a> {
    pub now: Mono,
    pub policy: &'a Policy,
    pub limits: &'a Limits,
    /// How long to wait for a late secondary at present.
    pub wait: Duration,
    pub counters: &'a mut Counters,
    /// Bytes kept by all flows.
    pub kept: &'a mut usize,
    /// Frames held by all flows.
    pub held: &'a mut usize,
    /// The place of the frame at hand in the order of capture.
    pub order: u64,
    pub out: &'a mut Vec<Action>,
}

impl Context<'_> {
    pub(super) fn hold(&mut self, frames: &Frames) {
        *self.held += frames.tokens().len();
    }

    /// Lets out frames that were held.
    pub(super) fn release_held(&mut self, frames: &Frames, reason: Reason) {
        *self.held -= frames.tokens().len();
        self.release(frames, reason);
    }

    pub(super) fn release(&mut self, frames: &Frames, reason: Reason) {
        let tokens = frames.tokens();
        let counter = match reason {
            Reason::Compared => &mut self.counters.released_compared,
            Reason::Checkpoint => &mut self.counters.released_checkpoint,
            Reason::Immediate => &mut self.counters.released_immediate,
            Reason::Bypass => &mut self.counters.released_bypass,
            Reason::Unprotected => &mut self.counters.released_unprotected,
        };
        *counter += tokens.len() as u64;
        self.out.extend(tokens.iter().copied().map(Action::Release));
    }

    pub(super) fn drop_held(&mut self, frames: &Frames) {
        let tokens = frames.tokens();
        *self.held -= tokens.len();
        self.counters.dropped_icmp_error += tokens.len() as u64;
        self.out.extend(tokens.iter().copied().map(Action::Drop));
    }

    /// The bound that keeps a flow from keeping `bytes` of the secondary that the primary has not said.
    pub(super) fn no_room_ahead(&self, bytes: usize) -> Option<(&'static str, usize)> {
        if bytes > self.limits.ahead_bytes {
            Some(("ahead_bytes", self.limits.ahead_bytes))
        } else if *self.kept > self.limits.kept_bytes {
            Some(("kept_bytes", self.limits.kept_bytes))
        } else {
            None
        }
    }

    pub(super) fn diverge(&mut self, divergence: Divergence) {
        self.counters.divergences[divergence.kind as usize] += 1;
        self.out.push(Action::Checkpoint(Box::new(Cause::Divergence(divergence))));
    }

    pub(super) fn overload(&mut self, bound: &'static str, limit: usize, flow: Option<FlowKey>) {
        self.counters.overloads += 1;
        self.out.push(Action::Checkpoint(Box::new(Cause::Overload(Overload { bound, limit, flow }))));
    }
}

//! A mailbox of one between the packet thread and a backend: requests coalesce, and settled ones are not served.

use super::{Request, locked};
use crate::epoch::Epoch;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::sync::Notify;

/// What a backend takes: the oldest request not yet served, and how many came after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The one to serve: the first since the last one was taken.
    pub request: Request,
    /// Further ones that it stands for.
    pub coalesced: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    posted: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<Taken>,
    settled: Option<Epoch>,
    counters: BTreeMap<&'static str, u64>,
}

impl Mailbox {
    /// Adds a request. Never waits for the backend.
    pub fn post(&self, request: &Request) {
        let mut state = locked(&self.state);
        let counter = match &mut state.waiting {
            Some(taken) => {
                taken.coalesced += 1;
                "coalesced"
            }
            none => {
                *none = Some(Taken { request: request.clone(), coalesced: 0 });
                "requests"
            }
        };
        *state.counters.entry(counter).or_default() += 1;
        drop(state);
        self.posted.notify_one();
    }

    /// Puts back a request that was not carried out, unless a newer one waits already.
    pub fn put_back(&self, taken: Taken) {
        let mut state = locked(&self.state);
        if state.waiting.is_none() {
            state.waiting = Some(taken);
        }
        drop(state);
        self.posted.notify_one();
    }

    /// `epoch` has begun: what was asked before it is settled.
    pub fn settle(&self, epoch: Epoch) {
        let mut state = locked(&self.state);
        state.settled = Some(epoch);
        if state.waiting.as_ref().is_some_and(|taken| taken.request.epoch < epoch) {
            state.waiting = None;
            *state.counters.entry("settled").or_default() += 1;
        }
    }

    /// The next request that is not settled. Dropping the future loses none.
    pub async fn take(&self) -> Taken {
        loop {
            let posted = self.posted.notified();
            if let Some(taken) = self.try_take() {
                return taken;
            }
            posted.await;
        }
    }

    fn try_take(&self) -> Option<Taken> {
        let mut state = locked(&self.state);
        let settled = state.settled;
        let taken = state.waiting.take()?;
        if settled.is_none_or(|epoch| taken.request.epoch >= epoch) {
            return Some(taken);
        }
        *state.counters.entry("settled").or_default() += 1;
        None
    }

    /// Counts an outcome.
    pub fn done(&self, outcome: &'static str) {
        *locked(&self.state).counters.entry(outcome).or_default() += 1;
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.state).counters.clone()
    }
}

#[cfg(test)]
mod tests;

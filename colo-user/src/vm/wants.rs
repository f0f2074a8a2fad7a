//! When to ask a primary's QEMU for a checkpoint. No I/O, no clock.
//!
//! A request is a question for the delay and an order with that delay. One that QEMU gets while a checkpoint runs is
//! absorbed by it, so it is made again every [`AGAIN`] until a STOP comes after it. Wants coalesce: one checkpoint satisfies
//! all that came before its STOP, for all that the guest had said by then was said before it.

use super::Question;
use crate::mono::Mono;
use std::time::Duration;

/// A request is made again if no STOP came in this time.
pub const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    wanted: bool,
    asked: Option<Mono>,
    /// The answer that is to be said back.
    delay: Option<Duration>,
    requests: u64,
    again: u64,
    coalesced: u64,
    failed: u64,
}

impl Wants {
    /// A checkpoint is wanted.
    pub fn want(&mut self) {
        self.coalesced += u64::from(self.wanted);
        self.wanted = true;
    }

    /// What to ask now, if anything; taken as asked. `open`: a request would be heard.
    pub fn next(&mut self, now: Mono, open: bool) -> Option<Question> {
        if let Some(delay) = self.delay.take() {
            return Some(Question::Checkpoint(delay));
        }
        self.next_deadline(open).filter(|&at| at <= now)?;
        let first = self.asked.replace(now).is_none();
        let counter = if first { &mut self.requests } else { &mut self.again };
        *counter += 1;
        Some(Question::Delay)
    }

    /// When [`Self::next`] has something to ask.
    #[must_use]
    pub fn next_deadline(&self, open: bool) -> Option<Mono> {
        if self.delay.is_some() {
            return Some(Mono::ZERO);
        }
        (self.wanted && open).then(|| self.asked.map_or(Mono::ZERO, |asked| asked + AGAIN))
    }

    /// The delay is known: the order follows.
    pub const fn delay(&mut self, delay: Duration) {
        self.delay = Some(delay);
    }

    /// QEMU refused, or did not answer.
    pub const fn failed(&mut self) {
        self.failed += 1;
    }

    /// The guest has stopped for a checkpoint: it answers all that was wanted so far.
    pub const fn satisfied(&mut self) {
        self.wanted = false;
        self.asked = None;
        self.delay = None;
    }

    /// Counters, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("checkpoint_requests", self.requests),
            ("checkpoint_requests_again", self.again),
            ("checkpoint_requests_coalesced", self.coalesced),
            ("checkpoint_requests_failed", self.failed),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests;

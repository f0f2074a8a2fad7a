//! Whether the own QEMU answers: a cheap question now and then, and a limit for the answer. No I/O, no clock.
//!
//! ```text
//!            monitor up                    no answer for 3/4 of the limit, stopped in a checkpoint: yank
//!   apart ──────────────▶ idle ──asked──▶ waiting ──limit──▶ frozen
//!     ▲                    ▲                 │                 │
//!     └──── monitor down ──┴──── answer ─────┴─────────────────┘
//! ```
//!
//! An agent that did not run itself accuses nobody: if it was not called for as long as it should have been, the limit
//! begins anew. So it does with every frame that the guest says, on a host too busy for answers. The yank frees a QEMU whose
//! main loop hangs in writing a checkpoint to a peer that is gone; without a dead peer a QEMU that does not answer for so long
//! is as good as frozen.

use crate::mono::Mono;
use std::time::Duration;

/// Questions in one limit.
const QUESTIONS: u32 = 4;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Give `query-status` and tell of its answer.
    Ask,
    /// Give `yank` of the migration.
    Yank,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watch {
    limit: Duration,
    up: bool,
    asked: Option<Mono>,
    next: Mono,
    yanked: bool,
    called: Mono,
    worst: Duration,
}

impl Watch {
    /// A QEMU must answer within `limit`.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            up: false,
            asked: None,
            next: Mono::ZERO,
            yanked: false,
            called: Mono::ZERO,
            worst: Duration::ZERO,
        }
    }

    /// The monitor has come, or has gone.
    pub const fn monitor(&mut self, now: Mono, up: bool) {
        self.up = up;
        self.asked = None;
        self.next = now;
        self.called = now;
    }

    /// The question was answered, in whatever way: QEMU lives.
    pub fn answered(&mut self, now: Mono) {
        if let Some(asked) = self.asked.take() {
            self.worst = self.worst.max(now.saturating_since(asked));
        }
        self.yanked = false;
    }

    /// The guest has said something: QEMU's loop carried it, however late it answers.
    pub fn spoke(&mut self, now: Mono) {
        self.asked = self.asked.map(|_| now);
    }

    /// Time passes; all answers that have come were told before. `stopped`: the guest stands still for a checkpoint.
    pub fn tick(&mut self, now: Mono, stopped: bool) -> Option<Do> {
        let slept = now.saturating_since(std::mem::replace(&mut self.called, now));
        if !self.up {
            return None;
        }
        if slept > self.limit / 2 {
            self.asked = self.asked.map(|_| now);
        }
        match self.asked {
            None if now >= self.next => {
                self.asked = Some(now);
                self.next = now + self.limit / QUESTIONS;
                Some(Do::Ask)
            }
            Some(asked) if stopped && !self.yanked && now.saturating_since(asked) >= self.limit / 4 * 3 => {
                self.yanked = true;
                Some(Do::Yank)
            }
            _ => None,
        }
    }

    /// Whether QEMU has not answered for the limit. An agent that did not run itself does not know before its next
    /// [`Self::tick`].
    #[must_use]
    pub fn frozen(&self, now: Mono) -> bool {
        let slept = now.saturating_since(self.called) > self.limit / 2;
        !slept && self.asked.is_some_and(|asked| now.saturating_since(asked) >= self.limit)
    }

    /// Whether a question is open: nobody knows at the moment whether QEMU lives.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// The longest that QEMU took for an answer.
    #[must_use]
    pub const fn worst(&self) -> Duration {
        self.worst
    }

    /// When [`Self::tick`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.up.then(|| match self.asked {
            None => self.next,
            // Often enough that a long pause of the agent itself shows.
            Some(_) => self.called + self.limit / (2 * QUESTIONS),
        })
    }
}

#[cfg(test)]
mod tests;

//! What a side says to its QEMU when the judge has said yes: what its disk needs, `x-colo-lost-heartbeat`, and then looks
//! until the guest runs outside of COLO.
//!
//! ```text
//!   before[0] ──▶ … ──▶ lost-heartbeat ──▶ mode? ──none──▶ status? ──runs──▶ done
//!                            ▲              │ again       │ again: at the limit `cont`, and all over
//!                            └──────────────┴─────────────┘
//! ```
//!
//! Nobody else may go on in this term, so nothing here gives up: a refusal is passed over (QEMU refuses what it has done
//! already), and what is not done within the limit begins again, with a `yank` of the migration first, which frees a QEMU that
//! hangs on it. A failover that comes while a secondary loads is put off by QEMU until it has loaded.

use super::Order;
use crate::mono::Mono;
use crate::qmp::command::{self, Call, Command};
use crate::qmp::{ColoMode, ColoStatus, Failure, Status};
use serde_json::Value;
use std::time::Duration;

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(10);

/// Which command an outcome is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One of those that come before, by number.
    Before(usize),
    /// `x-colo-lost-heartbeat`.
    LostHeartbeat,
    /// `query-colo-status`.
    Mode,
    /// `query-status`.
    Runs,
    /// One whose outcome does not matter.
    Push,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Takeover {
    before: Vec<Call>,
    limit: Duration,
    /// The command whose outcome is awaited.
    at: Step,
    /// When to look again.
    look: Option<Mono>,
    until: Mono,
}

impl Takeover {
    /// Begins, and gives the first command.
    pub fn begin(now: Mono, before: Vec<Call>, limit: Duration, out: &mut Vec<Order>) -> Self {
        let mut takeover = Self { before, limit, at: Step::Before(0), look: None, until: now + limit };
        takeover.give(Step::Before(0), out);
        takeover
    }

    fn give(&mut self, step: Step, out: &mut Vec<Order>) {
        let (step, call) = match step {
            Step::Before(n) if n < self.before.len() => (step, self.before[n].clone()),
            Step::Before(_) | Step::LostHeartbeat => (Step::LostHeartbeat, command::lost_heartbeat().call),
            Step::Mode => (step, command::query_colo_status().call),
            Step::Runs | Step::Push => (Step::Runs, command::query_status().call),
        };
        self.at = step;
        self.look = None;
        out.push(Order::Command(step, call));
    }

    /// A command is over. True when the guest runs outside of COLO.
    pub fn done(
        &mut self,
        now: Mono,
        step: Step,
        outcome: &Result<Value, Failure>,
        out: &mut Vec<Order>,
    ) -> bool {
        if step != self.at {
            return false;
        }
        match (step, outcome) {
            (Step::Before(n), _) => {
                passed_over(outcome);
                self.give(Step::Before(n + 1), out);
            }
            (Step::LostHeartbeat, _) => {
                passed_over(outcome);
                self.give(Step::Mode, out);
            }
            (Step::Mode, Ok(value)) if left(value) => self.give(Step::Runs, out),
            (Step::Runs, Ok(value)) if runs(value) => return true,
            // A QEMU without COLO knows no mode.
            (Step::Mode, Err(Failure::Refused(_))) => self.give(Step::Runs, out),
            _ => self.look = Some(now + LOOK),
        }
        false
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Order>) {
        if now >= self.until {
            self.until = now + self.limit;
            tracing::error!(
                "the guest does not run {:?} after x-colo-lost-heartbeat: trying again",
                self.limit
            );
            out.push(Order::Command(Step::Push, command::yank_migration().call));
            if self.at == Step::Runs {
                out.push(Order::Command(Step::Push, command::cont().call));
            }
            self.give(Step::LostHeartbeat, out);
        } else if self.look.is_some_and(|at| now >= at) {
            self.give(self.at, out);
        }
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.look.map_or(self.until, |look| look.min(self.until))
    }
}

fn passed_over(outcome: &Result<Value, Failure>) {
    if let Err(failure) = outcome {
        tracing::warn!("going on alone all the same: {failure}");
    }
}

fn left(value: &Value) -> bool {
    Command::<ColoStatus>::parse(value.clone()).is_ok_and(|status| status.mode == ColoMode::None)
}

fn runs(value: &Value) -> bool {
    Command::<Status>::parse(value.clone()).is_ok_and(|status| status.running)
}

#[cfg(test)]
mod tests;

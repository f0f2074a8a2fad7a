//! The fence `--fence COMMAND`: makes sure that the other side is off, before this one goes on alone. STONITH comes after the
//! judge's yes, so that two sides never shoot at each other, and before anything else. One that has said that it is closed is
//! not shot at.
//!
//! It finds the same environment as the judge's command ([`super::exec`]); `COLO_ROLE` is the side that stays. What its end means:
//!
//! | it ends | |
//! |---|---|
//! | with exit status 0 | the other side is off: this one goes on |
//! | with another, or cannot be started | it is not: nobody goes on, and it is run again |
//! | not within the limit | nobody knows: its process group is killed, and likewise |
//!
//! It is run again when the judge is asked again, with a pause that doubles from [`FIRST`] to [`LONGEST`]. Once it has
//! succeeded in a term it is not run again in it.

use super::{Answer, Claim, exec};
use crate::process::Ended;
use std::time::Duration;
use tokio::time::Instant;

/// Pause after the first failure.
pub const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
pub const LONGEST: Duration = Duration::from_secs(32);

/// What is run, and for how long at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceSpec {
    /// For `sh -c`.
    pub command: String,
    /// When it has given no answer.
    pub limit: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Fence {
    spec: FenceSpec,
    /// The term in which the other side is off.
    done: Option<u64>,
    /// Not before, and the pause after the next failure.
    next: Option<Instant>,
    pause: Duration,
}

impl Fence {
    /// Nothing runs yet.
    #[must_use]
    pub const fn new(spec: FenceSpec) -> Self {
        Self { spec, done: None, next: None, pause: FIRST }
    }

    /// The judge has said yes to `claim`: what it comes to. Dropped, the command is killed.
    pub async fn run(&mut self, claim: &Claim) -> Answer {
        if self.done == Some(claim.term) {
            return Answer::Yes;
        }
        if let Some(left) = self.next.map(|next| next.saturating_duration_since(Instant::now()))
            && !left.is_zero()
        {
            return Answer::NotFenced(format!("the fence is tried again in {left:.0?}"));
        }
        let why = match exec::run(&self.spec.command, self.spec.limit, claim).await {
            Ok(Ended::Status(status)) if status.success() => {
                (self.done, self.next, self.pause) = (Some(claim.term), None, FIRST);
                return Answer::Yes;
            }
            Ok(Ended::Status(status)) => format!("the fence failed: {status}"),
            Ok(Ended::TimedOut) => {
                format!("the fence gave no answer and was killed after {:?}", self.spec.limit)
            }
            Ok(Ended::Lost(error)) => format!("the fence is lost: {error}"),
            Err(error) => format!("the fence cannot be started: {error}"),
        };
        self.next = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
        Answer::NotFenced(why)
    }
}

#[cfg(test)]
mod tests;

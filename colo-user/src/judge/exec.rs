//! The judge `exec:COMMAND`: a shell command that knows, or that fences the other side and then says yes.
//!
//! | variable | value |
//! |---|---|
//! | `COLO_PAIR` | name of the pair |
//! | `COLO_TERM` | the term, 16 hexadecimal digits |
//! | `COLO_ROLE` | `primary` or `secondary`: the side that asks |
//! | `COLO_BOOT` | who asks, 32 hexadecimal digits: the same when it asks again |
//!
//! Exit status 0 is yes, 1 is no. Any other, or none within the limit (then its process group is killed), is no answer.
//! It must say yes to at most one `COLO_BOOT` for one pair and term, and yes again when that one asks again.

use super::{Answer, Claim};
use crate::process::{Ended, Group};
use std::io;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Exec {
    command: String,
    limit: Duration,
}

impl Exec {
    /// Runs `command` with `sh -c`, for at most `limit`.
    #[must_use]
    pub const fn new(command: String, limit: Duration) -> Self {
        Self { command, limit }
    }

    /// Asks once.
    pub async fn ask(&self, claim: &Claim) -> Answer {
        let ended = match run(&self.command, self.limit, claim).await {
            Ok(ended) => ended,
            Err(error) => return Answer::None(format!("the judge's command cannot be started: {error}")),
        };
        match ended {
            Ended::Status(status) => match status.code() {
                Some(0) => Answer::Yes,
                Some(1) => Answer::No("the judge's command ended with exit status 1".into()),
                _ => Answer::None(format!("the judge's command ended with {status}")),
            },
            Ended::TimedOut => Answer::None(format!("the judge's command was killed after {:?}", self.limit)),
            Ended::Lost(error) => Answer::None(format!("the judge's command is lost: {error}")),
        }
    }
}

/// Runs a command about `claim`, for at most `limit`.
pub(super) async fn run(command: &str, limit: Duration, claim: &Claim) -> io::Result<Ended> {
    let environment = [
        ("COLO_PAIR", claim.pair.to_string()),
        ("COLO_TERM", format!("{:016x}", claim.term)),
        ("COLO_ROLE", claim.role.to_string()),
        ("COLO_BOOT", claim.claimant.to_string()),
    ];
    Ok(Group::spawn(command, environment)?.wait(limit).await)
}

#[cfg(test)]
mod tests;

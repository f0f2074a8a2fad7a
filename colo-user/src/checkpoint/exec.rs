//! The backend `exec:COMMAND`: a shell command for each request, one at a time.
//!
//! The command gets the request in its environment, all values as text, absent ones empty:
//!
//! | variable | value |
//! |---|---|
//! | `COLO_KIND` | divergence kind, `overload`, or what the agent saw |
//! | `COLO_TEXT` | the same as the log line |
//! | `COLO_EPOCH` | the epoch that the checkpoint is to end |
//! | `COLO_COALESCED` | further requests that this one stands for |
//! | `COLO_FLOW` | the flow, guest's end first |
//! | `COLO_SEQ` | TCP: wire sequence number of the difference |
//! | `COLO_OFFSET` | offset of the first differing byte |
//! | `COLO_PRIMARY`, `COLO_SECONDARY` | what each side said there, hexadecimal |
//!
//! Its standard input is empty, its output goes to the agent's standard error. Exit status 0 means that the checkpoint was
//! asked for. Anything else, or running longer than [`LIMIT`] (then its process group is killed), is logged, counted,
//! and tried again after [`RETRY`] unless the request is settled by then.

use super::mailbox::{Mailbox, Taken};
use super::{Backend, OnCheckpoint, Serving};
use crate::compare::divergence::Hex;
use crate::process::{Ended, Group};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Longest run of a command.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Pause before a command that failed is run again.
pub const RETRY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Exec {
    command: String,
    limit: Duration,
    retry: Duration,
}

impl Exec {
    /// Runs `command` with `sh -c`.
    #[must_use]
    pub const fn new(command: String) -> Self {
        Self { command, limit: LIMIT, retry: RETRY }
    }

    /// Other times than [`LIMIT`] and [`RETRY`].
    #[must_use]
    pub fn timed(self, limit: Duration, retry: Duration) -> Self {
        Self { command: self.command, limit, retry }
    }

    fn spawn(&self, taken: &Taken) -> io::Result<Group> {
        let request = &taken.request;
        let divergence = request.divergence.as_ref();
        let text = |value: Option<String>| value.unwrap_or_default();
        let environment = [
            ("COLO_KIND", request.kind.to_owned()),
            ("COLO_TEXT", request.text.clone()),
            ("COLO_EPOCH", request.epoch.to_string()),
            ("COLO_COALESCED", taken.coalesced.to_string()),
            ("COLO_FLOW", text(divergence.map(|d| d.flow.to_string()))),
            ("COLO_SEQ", text(divergence.and_then(|d| d.seq).map(|n| n.to_string()))),
            ("COLO_OFFSET", text(divergence.and_then(|d| d.offset).map(|n| n.to_string()))),
            ("COLO_PRIMARY", text(divergence.map(|d| Hex(&d.primary).to_string()))),
            ("COLO_SECONDARY", text(divergence.map(|d| Hex(&d.secondary).to_string()))),
        ];
        Group::spawn(&self.command, environment)
    }

    async fn run(&self, taken: &Taken) -> &'static str {
        let group = match self.spawn(taken) {
            Ok(group) => group,
            Err(error) => {
                warn!("checkpoint command cannot be started: {error}");
                return "failed";
            }
        };
        match group.wait(self.limit).await {
            Ended::Status(status) if status.success() => {
                info!("checkpoint command for {} done", taken.request.kind);
                "ok"
            }
            Ended::Status(status) => {
                warn!("checkpoint command for {} ended with {status}", taken.request.kind);
                "failed"
            }
            Ended::Lost(error) => {
                warn!("checkpoint command is lost: {error}");
                "failed"
            }
            Ended::TimedOut => {
                warn!("checkpoint command killed after {:?}", self.limit);
                "timeout"
            }
        }
    }
}

impl Backend for Exec {
    fn serve(self: Box<Self>, mailbox: Arc<Mailbox>, _: OnCheckpoint) -> Serving {
        Box::pin(async move {
            loop {
                let taken = mailbox.take().await;
                let outcome = self.run(&taken).await;
                mailbox.done(outcome);
                if outcome != "ok" {
                    tokio::time::sleep(self.retry).await;
                    mailbox.put_back(taken);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;

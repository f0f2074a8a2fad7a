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
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
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
        let child = Command::new("sh")
            .args(["-c", &self.command])
            .env("COLO_KIND", request.kind)
            .env("COLO_TEXT", &request.text)
            .env("COLO_EPOCH", request.epoch.to_string())
            .env("COLO_COALESCED", taken.coalesced.to_string())
            .env("COLO_FLOW", text(divergence.map(|d| d.flow.to_string())))
            .env("COLO_SEQ", text(divergence.and_then(|d| d.seq).map(|n| n.to_string())))
            .env("COLO_OFFSET", text(divergence.and_then(|d| d.offset).map(|n| n.to_string())))
            .env("COLO_PRIMARY", text(divergence.map(|d| Hex(&d.primary).to_string())))
            .env("COLO_SECONDARY", text(divergence.map(|d| Hex(&d.secondary).to_string())))
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .process_group(0)
            .spawn()?;
        Ok(Group(child))
    }

    async fn run(&self, taken: &Taken) -> &'static str {
        let mut group = match self.spawn(taken) {
            Ok(group) => group,
            Err(error) => {
                warn!("checkpoint command cannot be started: {error}");
                return "failed";
            }
        };
        match tokio::time::timeout(self.limit, group.0.wait()).await {
            Ok(Ok(status)) if status.success() => {
                info!("checkpoint command for {} done", taken.request.kind);
                "ok"
            }
            Ok(Ok(status)) => {
                warn!("checkpoint command for {} ended with {status}", taken.request.kind);
                "failed"
            }
            Ok(Err(error)) => {
                warn!("checkpoint command is lost: {error}");
                "failed"
            }
            Err(_) => {
                warn!("checkpoint command killed after {:?}", self.limit);
                "timeout"
            }
        }
    }
}

/// A command's process group, killed on drop while the command has not been reaped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may end at this very moment; the runtime reaps it either way.
            let _ = kill_process_group(group, Signal::KILL);
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

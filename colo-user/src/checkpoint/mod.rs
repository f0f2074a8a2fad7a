//! How an agent asks for a checkpoint: one trait, several backends, none of which the packet thread ever waits for.
//!
//! The packet thread posts a [`Request`] with [`Signals::ask`]. Each backend has a mailbox of one: what comes while one
//! is served is coalesced into the next ([`mailbox`]). A backend runs on the control plane until it is dropped:
//!
//! | option | backend |
//! |---|---|
//! | `log` | a line in the log ([`Log`]) |
//! | `exec:COMMAND` | a command with the divergence in its environment ([`exec`]) |
//! | `notify:ENDPOINT` | QEMU's notify_dev protocol ([`notify`], the protocol itself in [`notify_dev`]) |
//!
//! A QEMU that is followed with `--qmp` is asked by the packet thread itself ([`crate::vm`]).
//!
//! A request is *settled* when a later epoch begins ([`Signals::settle`]): backends do not start on a settled one. A
//! backend that hears that a checkpoint has come says so through [`OnCheckpoint`], which begins the cut.

pub mod exec;
pub mod mailbox;
pub mod notify;
pub mod notify_dev;

use crate::compare::{Cause, Divergence};
use crate::epoch::Epoch;
use crate::link::endpoint::Endpoint;
use mailbox::Mailbox;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::warn;

/// Why a checkpoint is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// A divergence's kind, `overload`, or what the agent itself saw (`pressure`, `capture-lost`, …).
    pub kind: &'static str,
    /// For people.
    pub text: String,
    /// The epoch that the checkpoint is to end.
    pub epoch: Epoch,
    /// Set if the guests said different things.
    pub divergence: Option<Divergence>,
}

impl Request {
    /// The request of a comparator.
    #[must_use]
    pub fn of_cause(cause: &Cause, epoch: Epoch) -> Self {
        let divergence = match cause {
            Cause::Divergence(d) => Some(d.clone()),
            Cause::Overload(_) => None,
        };
        Self { kind: cause.name(), text: cause.to_string(), epoch, divergence }
    }
}

/// Called by a backend that hears that the checkpoint has come.
pub type OnCheckpoint = Arc<dyn Fn() + Send + Sync>;

/// A future that a backend runs in.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to ask for checkpoints.
pub trait Backend: Send {
    /// Serves the mailbox for ever. Dropping the future stops it: a command that runs is killed, a connection closed.
    fn serve(self: Box<Self>, mailbox: Arc<Mailbox>, on_checkpoint: OnCheckpoint) -> Serving;
}

/// The backend that only logs.
#[derive(Debug)]
pub struct Log;

impl Backend for Log {
    fn serve(self: Box<Self>, mailbox: Arc<Mailbox>, _: OnCheckpoint) -> Serving {
        Box::pin(async move {
            loop {
                let taken = mailbox.take().await;
                let more = match taken.coalesced {
                    0 => String::new(),
                    n => format!(" (and {n} more)"),
                };
                warn!("checkpoint wanted: {}: {}{more}", taken.request.kind, taken.request.text);
                mailbox.done("logged");
                // A storm of divergences is a line each second, not a line each.
                tokio::time::sleep(LOG_PAUSE).await;
            }
        })
    }
}

/// Least time between two lines of [`Log`].
pub const LOG_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// A backend as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSpec {
    /// `log`
    Log,
    /// `exec:COMMAND`
    Exec(String),
    /// `notify:ENDPOINT`
    Notify(Endpoint),
}

impl FromStr for BackendSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint =
            |text: &str| text.parse().map_err(|e: crate::link::endpoint::EndpointError| e.to_string());
        match text.split_once(':') {
            None if text == "log" => Ok(Self::Log),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(command.to_owned())),
            Some(("notify", text)) => endpoint(text).map(Self::Notify),
            Some(("qmp", _)) => Err(format!("`{text}`: QEMU's own COLO is followed with --qmp ENDPOINT")),
            _ => Err(format!("`{text}` is none of log, exec:COMMAND, notify:ENDPOINT")),
        }
    }
}

impl BackendSpec {
    /// Makes the backend; one that listens does so at once.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn open(self) -> anyhow::Result<Box<dyn Backend>> {
        Ok(match self {
            Self::Log => Box::new(Log),
            Self::Exec(command) => Box::new(exec::Exec::new(command)),
            Self::Notify(endpoint) => Box::new(notify::NotifyDev::open(endpoint)?),
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Exec(_) => "exec",
            Self::Notify(_) => "notify",
        }
    }
}

/// The packet thread's side of all backends.
#[derive(Debug, Default)]
pub struct Signals {
    mailboxes: Vec<(&'static str, Arc<Mailbox>)>,
}

impl Signals {
    /// Starts the backends on the current runtime; they stop with it.
    ///
    /// # Errors
    /// What a backend needs and cannot have.
    pub fn start(specs: Vec<BackendSpec>, on_checkpoint: &OnCheckpoint) -> anyhow::Result<Self> {
        let mut mailboxes = Vec::new();
        for spec in specs {
            let name = spec.name();
            let mailbox = Arc::new(Mailbox::default());
            tokio::spawn(spec.open()?.serve(Arc::clone(&mailbox), Arc::clone(on_checkpoint)));
            mailboxes.push((name, mailbox));
        }
        Ok(Self { mailboxes })
    }

    /// Posts a request to every backend. Never waits.
    pub fn ask(&self, request: &Request) {
        for (_, mailbox) in &self.mailboxes {
            mailbox.post(request);
        }
    }

    /// `epoch` has begun: requests of earlier ones are settled.
    pub fn settle(&self, epoch: Epoch) {
        for (_, mailbox) in &self.mailboxes {
            mailbox.settle(epoch);
        }
    }

    /// What the backends did, by `checkpoint_<backend>_<outcome>`.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        for (name, mailbox) in &self.mailboxes {
            for (outcome, n) in mailbox.counters() {
                *counters.entry(format!("checkpoint_{name}_{outcome}")).or_default() += n;
            }
        }
        counters
    }
}

/// A lock whose holder cannot have left anything half done: all critical sections here are single assignments.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! The way of two QEMUs into COLO, step by step over their monitors, and the way back if a step fails.
//!
//! ```text
//!  look ──▶ capabilities, parameters ──▶ disks: export, copy, second child ──▶ migrate ──▶ in COLO ──▶ both run
//!   │                 └──────────────── on failure: all undone, in reverse ───────┘            │
//!   └─ refused: nothing was touched                from here on the agents (or an operator) are in charge
//! ```
//!
//! The primary is a VM that runs, be it for the first time or as the survivor of a pair; the secondary is a QEMU that
//! waits with `-incoming`.
//!
//! Cancellation: the futures are not made to be dropped. Whoever wants to end it early sets the flag, which is looked
//! at before each command and while waiting; everything is then undone as after any failure.

pub mod again;
mod checks;
mod disk;
mod undo;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    link::endpoint::{Address, Endpoint},
    qmp::{
        Client, ColoMode, Command, Failure, MigrationStatus, Notice, Notices, QmpError, Snapshot, client,
        command, session,
    },
};
pub use disk::Disk;
use undo::Undo;

/// How long a monitor may take to answer at all.
const GREETING: Duration = session::HANDSHAKE.saturating_add(client::CONNECT);
/// Between two looks at what has no event, or whose event might be missed.
const LOOK: Duration = Duration::from_millis(50);

/// A side of the pair to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The VM that runs.
    Primary,
    /// The QEMU that waits for its state.
    Secondary,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the secondary waits, as the primary's QEMU reaches it: `tcp:HOST:PORT` or `unix:PATH`.
    pub uri: String,
    /// The time between periodic checkpoints; none leaves what QEMU has.
    pub checkpoint_delay: Option<Duration>,
    /// What the state may take of the wire, in bytes per second; checkpoints too.
    pub max_bandwidth: u64,
    /// Disks to replicate.
    pub disks: Vec<Disk>,
    /// Where the secondary's QEMU serves them and the primary's reaches them; needed if there are any.
    pub nbd: Option<Address>,
    /// How long a copy may stand still before it is given up.
    pub patience: Duration,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Disks are copied while the guest runs: bytes of all of them.
    Disks {
        /// Copied.
        done: u64,
        /// As far as known.
        total: u64,
    },
    /// What the guest writes goes to both disks.
    Equal,
    /// The memory is copied: bytes.
    Memory {
        /// Sent.
        done: u64,
        /// All.
        total: u64,
    },
    /// The primary is in COLO; the secondary is about to be.
    Colo,
    /// A step of another attempt is taken back: its node.
    Stale(&'a str),
}

/// Both are in COLO and run.
#[derive(Clone, Debug)]
pub struct Protected {
    /// QEMU's version, of the primary and of the secondary.
    pub versions: [String; 2],
    /// The side the primary was in an earlier COLO.
    pub was: ColoMode,
    /// How long the guest was stopped to make its disks equal; none without disks.
    pub stopped: Option<Duration>,
    /// All of it.
    pub took: Duration,
}

/// They are not.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub reason: anyhow::Error,
    /// What is not as it was before; empty if everything is.
    pub left: Vec<String>,
    /// COLO was entered: the agents decide what becomes of it, and nothing else is left.
    pub entered: bool,
}

/// One side's monitor.
#[derive(Debug)]
struct Qemu {
    role: Role,
    client: Client,
    notices: Notices,
}

impl Qemu {
    /// Waits for the monitor's first answer.
    async fn open(role: Role, monitor: &Endpoint) -> Result<(Self, Snapshot)> {
        let (client, mut notices) = Client::open(monitor.clone());
        let Some(snapshot) = first(&mut notices).await else {
            bail!(
                "{role}: no answer from the monitor {monitor} within {GREETING:?}: QEMU must run with this -qmp socket, and a \
                 monitor serves one client at a time (the agents have theirs): give one of its own"
            );
        };
        Ok((Self { role, client, notices }, snapshot))
    }

    async fn call<R: DeserializeOwned>(&self, command: Command<R>) -> Result<R> {
        self.try_call(command).await.with_context(|| self.role.to_string())
    }

    async fn try_call<R: DeserializeOwned>(&self, command: Command<R>) -> Result<R, QmpError> {
        self.client.call(command).await
    }

    async fn look(&self) -> Result<Snapshot> {
        let status = self.call(command::query_status()).await?;
        let migration = self.call(command::query_migrate()).await?.status;
        let colo = self.call(command::query_colo_status()).await?;
        Ok(Snapshot { status, migration, colo })
    }
}

/// Takes the QEMUs behind two monitors into COLO. `stop` ends it early.
///
/// # Errors
/// Why not, and what is left of it.
pub async fn protect(
    monitors: [&Endpoint; 2],
    plan: &Plan,
    stop: &AtomicBool,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Protected, Failed> {
    let begun = Instant::now();
    let untouched = |reason| Failed { reason, left: Vec::new(), entered: false };
    let (primary, before) = Qemu::open(Role::Primary, monitors[0]).await.map_err(untouched)?;
    let (secondary, waiting) = Qemu::open(Role::Secondary, monitors[1]).await.map_err(untouched)?;
    checks::states(&before, &waiting).map_err(untouched)?;
    let mut steps = Steps { primary, secondary, plan, stop, progress, undo: Undo::default(), stopped: None };
    match steps.all().await {
        Ok(versions) => Ok(Protected {
            versions,
            was: before.colo.last_mode,
            stopped: steps.stopped,
            took: begun.elapsed(),
        }),
        Err(reason) => {
            let left = steps.undo.run(&steps.primary, &steps.secondary).await;
            Err(Failed { reason, left, entered: steps.undo.is_given_up() })
        }
    }
}

/// What a monitor shows, if it answers.
pub async fn look(monitor: &Endpoint) -> Option<Snapshot> {
    let (client, mut notices) = Client::open(monitor.clone());
    let seen = first(&mut notices).await;
    drop(client);
    seen
}

/// The first look through a monitor that was just opened.
async fn first(notices: &mut Notices) -> Option<Snapshot> {
    let first = async {
        loop {
            // Events before the look are part of it.
            if let Notice::Up { snapshot, .. } = notices.next().await? {
                return Some(snapshot);
            }
        }
    };
    timeout(GREETING, first).await.ok().flatten()
}

/// What the steps share.
struct Steps<'a> {
    primary: Qemu,
    secondary: Qemu,
    plan: &'a Plan,
    stop: &'a AtomicBool,
    progress: &'a mut (dyn FnMut(Progress<'_>) + Send),
    undo: Undo,
    /// How long the guest did not run.
    stopped: Option<Duration>,
}

impl Steps<'_> {
    async fn all(&mut self) -> Result<[String; 2]> {
        let versions = [
            self.primary.call(command::query_version()).await?.to_string(),
            self.secondary.call(command::query_version()).await?.to_string(),
        ];
        for role in [Role::Secondary, Role::Primary] {
            self.capabilities(role).await?;
        }
        self.parameters().await?;
        self.clear_stale().await?;
        if !self.plan.disks.is_empty() {
            self.replicate().await?;
        }
        self.enter().await?;
        Ok(versions)
    }

    fn side(&self, role: Role) -> &Qemu {
        match role {
            Role::Primary => &self.primary,
            Role::Secondary => &self.secondary,
        }
    }

    /// Gives a command that `back` takes back. One that was not answered in time may have been done.
    async fn step<R: DeserializeOwned>(
        &mut self,
        role: Role,
        command: Command<R>,
        back: Option<Command<command::Empty>>,
    ) -> Result<R> {
        self.go_on()?;
        let outcome = self.side(role).try_call(command).await;
        let done = match &outcome {
            Ok(_) => true,
            Err(error) => {
                !matches!(error.failure(), Some(Failure::Refused(_) | Failure::Full | Failure::NoOob))
            }
        };
        if let Some(back) = back.filter(|_| done) {
            self.undo.push(role, back, outcome.is_ok());
        }
        outcome.with_context(|| role.to_string())
    }

    /// Whether nobody wants it to end.
    fn go_on(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "ended by a signal");
        Ok(())
    }

    /// On both sides COLO and the events that agents follow. A pause before the switch-over would end the migration
    /// without COLO, with the guest on the other side.
    async fn capabilities(&mut self, role: Role) -> Result<()> {
        let before = self.side(role).call(command::query_capabilities()).await?;
        let wanted = checks::capabilities(role, &before)?;
        let changed: Vec<(&str, bool)> = wanted.iter().map(|(name, on)| (*name, !on)).collect();
        let back = command::set_capabilities(&changed);
        self.step(role, command::set_capabilities(&wanted), Some(back)).await?;
        Ok(())
    }

    async fn parameters(&mut self) -> Result<()> {
        let before = self.primary.call(command::query_parameters()).await?;
        let mut wanted = json!({ "max-bandwidth": self.plan.max_bandwidth });
        let mut back = json!({ "max-bandwidth": before.max_bandwidth });
        if let Some(delay) = self.plan.checkpoint_delay {
            wanted["x-checkpoint-delay"] = json!(millis(delay));
            back["x-checkpoint-delay"] = json!(millis(before.checkpoint_delay()));
        }
        let back = command::set_parameters(back);
        self.step(Role::Primary, command::set_parameters(wanted), Some(back)).await?;
        Ok(())
    }

    /// From the first byte of memory until both sides run in COLO.
    async fn enter(&mut self) -> Result<()> {
        self.step(Role::Primary, command::migrate(&self.plan.uri), None).await?;
        self.undo.migration();
        let mut still = Still::new(self.plan.patience);
        loop {
            self.go_on()?;
            self.no_write_failed()?;
            let migration = self.primary.call(command::query_migrate()).await?;
            let ram = migration.ram.unwrap_or_default();
            match migration.status {
                Some(MigrationStatus::Colo) => break,
                Some(MigrationStatus::Failed | MigrationStatus::Cancelling | MigrationStatus::Cancelled) => {
                    let reason = migration.error_desc.unwrap_or_else(|| "QEMU says no reason".to_owned());
                    bail!(
                        "the migration to {} failed: {reason}; both QEMUs must be of one version with the same devices and memory, \
                         and the secondary's own log says more. A secondary that has heard a part of it ends: start a new one",
                        self.plan.uri
                    );
                }
                Some(MigrationStatus::Completed) => {
                    bail!("the migration ended without COLO: the guest is where {} leads", self.plan.uri);
                }
                _ => (self.progress)(Progress::Memory {
                    done: ram.transferred.min(ram.total),
                    total: ram.total,
                }),
            }
            still.moved(ram.transferred).with_context(|| format!("the migration to {}", self.plan.uri))?;
            sleep(LOOK).await;
        }
        (self.progress)(Progress::Colo);
        // What ends COLO decides who goes on alone: not for this command to say.
        self.undo.give_up();
        let since = Instant::now();
        loop {
            let (ours, theirs) = (self.primary.look().await?, self.secondary.look().await?);
            if checks::in_colo(&ours, ColoMode::Primary) && checks::in_colo(&theirs, ColoMode::Secondary) {
                return self.no_write_failed();
            }
            ensure!(
                since.elapsed() < self.plan.patience,
                "COLO was entered, but for {:?} not by both; primary: {}; secondary: {}",
                self.plan.patience,
                checks::seen(&ours),
                checks::seen(&theirs)
            );
            sleep(LOOK).await;
        }
    }
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Notices that a figure no longer moves.
struct Still {
    patience: Duration,
    figure: u64,
    since: Instant,
}

impl Still {
    fn new(patience: Duration) -> Self {
        Self { patience, figure: 0, since: Instant::now() }
    }

    fn moved(&mut self, figure: u64) -> Result<()> {
        if figure != self.figure {
            (self.figure, self.since) = (figure, Instant::now());
        }
        ensure!(
            self.since.elapsed() < self.patience,
            "stands still at {figure} bytes for {:?}",
            self.patience
        );
        Ok(())
    }
}

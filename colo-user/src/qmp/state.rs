//! What QEMU answers when asked where it is. A word that is not known here reads as `Other`.

use std::{fmt, time::Duration};

use serde::Deserialize;

/// `query-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Whether vCPUs run.
    pub running: bool,
    /// Why they do or do not.
    #[serde(default)]
    pub status: RunState,
}

/// QEMU's run states that differ for COLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// vCPUs run.
    Running,
    /// Stopped inside a checkpoint.
    Colo,
    /// Stopped by an operator.
    Paused,
    /// Waits for a migration to come in.
    Inmigrate,
    /// Its migration is done and it runs elsewhere.
    Postmigrate,
    /// In the last step of a migration.
    FinishMigrate,
    /// Not started yet.
    Prelaunch,
    /// The guest is off.
    Shutdown,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// `query-migrate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Migration {
    /// None if there never was one.
    pub status: Option<MigrationStatus>,
    /// How far the memory is, on the side that sends.
    pub ram: Option<Ram>,
    /// Why it failed.
    pub error_desc: Option<String>,
}

/// The memory of a migration, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ram {
    /// Sent so far; more than `total` when the guest writes meanwhile.
    pub transferred: u64,
    /// Not sent yet.
    pub remaining: u64,
    /// All of it.
    pub total: u64,
}

/// States of a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// There was none.
    None,
    /// Begun.
    Setup,
    /// Memory moves.
    Active,
    /// The pair runs in COLO.
    Colo,
    /// Done; for COLO: this side runs alone since a takeover.
    Completed,
    /// Ended by an error.
    Failed,
    /// About to be ended by a command.
    Cancelling,
    /// Ended by a command.
    Cancelled,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// `query-migrate-parameters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Parameters {
    /// In milliseconds.
    x_checkpoint_delay: u32,
    /// In bytes per second.
    pub max_bandwidth: u64,
}

impl Parameters {
    /// The time between periodic checkpoints.
    #[must_use]
    pub const fn checkpoint_delay(&self) -> Duration {
        Duration::from_millis(self.x_checkpoint_delay as u64)
    }
}

/// One of `query-migrate-capabilities`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Capability {
    /// Such as `x-colo`.
    #[serde(rename = "capability")]
    pub name: String,
    /// Whether it is on.
    #[serde(rename = "state")]
    pub on: bool,
}

/// `query-version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    qemu: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Number {
    major: u32,
    minor: u32,
    micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Number { major, minor, micro } = self.qemu;
        write!(f, "{major}.{minor}.{micro}")
    }
}

/// One of `query-jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// Its name.
    pub id: String,
    /// Where it is.
    #[serde(default)]
    pub status: JobStatus,
    /// What it has done, in its own unit: bytes for a copy.
    pub current_progress: u64,
    /// What it will have done in the end, as far as known.
    pub total_progress: u64,
    /// Why it failed, once it has ended.
    pub error: Option<String>,
}

/// States of a job that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// It runs.
    Running,
    /// Of a mirror: source and target are equal and stay so. Also called standby while the guest is stopped.
    #[serde(alias = "standby")]
    Ready,
    /// It has ended.
    Concluded,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// One of `query-named-block-nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlockNode {
    /// Its name.
    #[serde(rename = "node-name", default)]
    pub name: String,
}

/// `query-colo-status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ColoStatus {
    /// The side it is.
    pub mode: ColoMode,
    /// The side it was when COLO ended.
    pub last_mode: ColoMode,
}

/// A side of COLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColoMode {
    /// Not in COLO.
    None,
    /// The side that is heard.
    Primary,
    /// The side that follows.
    Secondary,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// All three answers of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether it runs.
    pub status: Status,
    /// Its migration.
    pub migration: Option<MigrationStatus>,
    /// Its side.
    pub colo: ColoStatus,
}

impl Snapshot {
    /// Whether checkpoints come and go.
    #[must_use]
    pub fn in_colo(&self) -> bool {
        self.migration == Some(MigrationStatus::Colo)
            || matches!(self.colo.mode, ColoMode::Primary | ColoMode::Secondary)
    }
}

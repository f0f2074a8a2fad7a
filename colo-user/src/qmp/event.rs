//! What QEMU tells unasked.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::state::{ColoMode, MigrationStatus};

/// Something that happened in the VM. STOP and RESUME are written before a vCPU runs again, so who has read the socket
/// until empty knows the epoch of all that the guest has said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When, by QEMU's wall clock, since 1970; none if its clock could not be read.
    pub at: Option<Duration>,
}

/// The events that COLO needs; all others by name only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The guest does not run from here on.
    Stop,
    /// The guest is about to run.
    Resume,
    /// Another state of the migration (capability `events`).
    Migration(MigrationStatus),
    /// A pass over the memory has begun: one per checkpoint on the primary (capability `events`).
    MigrationPass(u64),
    /// COLO has ended on this side. An alarm, no takeover: that needs `x-colo-lost-heartbeat`.
    ColoExit {
        /// The side this QEMU was.
        mode: ColoMode,
        /// `error` or `request`; QEMU says either for one cause, do not branch on it.
        reason: String,
    },
    /// A child of a quorum has failed to write or flush, and others have not: QEMU goes on, and in COLO checkpoints do too, but
    /// the secondary's disk lacks what was written.
    QuorumBad {
        /// The child's node.
        node: String,
        /// Why.
        error: String,
    },
    /// The guest is off.
    Shutdown {
        /// Whether the guest asked for it.
        guest: bool,
        /// Such as `guest-shutdown`, `guest-panic`, `host-signal`.
        reason: String,
    },
    /// Any other.
    Other(String),
}

impl Event {
    /// An event from its message; nothing if the message names none.
    #[must_use]
    pub fn from_json(object: &Map<String, Value>) -> Option<Self> {
        let name = object.get("event")?.as_str()?;
        let data = object.get("data").unwrap_or(&Value::Null);
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        let kind = match name {
            "STOP" => EventKind::Stop,
            "RESUME" => EventKind::Resume,
            "MIGRATION" => EventKind::Migration(parse(&data["status"])),
            "MIGRATION_PASS" => EventKind::MigrationPass(data["pass"].as_u64().unwrap_or(0)),
            "COLO_EXIT" => EventKind::ColoExit { mode: parse(&data["mode"]), reason: text("reason") },
            // A child that cannot be read is of no concern: nothing is lost by it.
            "QUORUM_REPORT_BAD" if data["type"] != "read" => {
                EventKind::QuorumBad { node: text("node-name"), error: text("error") }
            }
            "SHUTDOWN" => EventKind::Shutdown {
                guest: data["guest"].as_bool().unwrap_or(false),
                reason: text("reason"),
            },
            other => EventKind::Other(other.to_owned()),
        };
        Some(Self { kind, at: object.get("timestamp").and_then(wall_clock) })
    }
}

/// A value QEMU may have extended since.
fn parse<'de, T: Deserialize<'de> + Default>(value: &'de Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

/// `{"seconds": S, "microseconds": U}`, both -1 if the clock failed.
fn wall_clock(value: &Value) -> Option<Duration> {
    let micros = value["microseconds"].as_u64().filter(|micros| *micros < 1_000_000)?;
    Some(Duration::from_secs(value["seconds"].as_u64()?) + Duration::from_micros(micros))
}

//! What is said to QEMU: the commands of COLO, each with its arguments, its time limit and the type of its answer.

mod block;
mod written;

use std::{borrow::Cow, marker::PhantomData, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use block::*;
pub use written::{MAX_COMMANDS, written};

use super::state::{Capability, ColoStatus, Migration, Parameters, Status, Version};

/// How long QEMU may take to answer, if nothing else is said. A main loop that is held up longer than this does not
/// serve its guest either.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A command, and the type of what it returns.
#[derive(Debug)]
pub struct Command<R> {
    /// Name, arguments and the rest.
    pub call: Call,
    reply: PhantomData<fn() -> R>,
}

/// A command without the type of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// QEMU's name of it.
    pub name: Cow<'static, str>,
    /// An object, or null for none.
    pub arguments: Value,
    /// Whether it overtakes the others and QEMU's main loop.
    pub oob: bool,
    /// How long QEMU may take.
    pub limit: Duration,
}

/// An answer without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Empty {}

impl<R: DeserializeOwned> Command<R> {
    fn new(name: &'static str, arguments: Value) -> Self {
        Self {
            call: Call { name: Cow::Borrowed(name), arguments, oob: false, limit: LIMIT },
            reply: PhantomData,
        }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.call.limit = limit;
        self
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// It is not what this command returns.
    pub fn parse(value: Value) -> Result<R, serde_json::Error> {
        R::deserialize(value)
    }
}

impl Call {
    /// The line that is written, with its end.
    #[must_use]
    pub fn line(&self, id: &str) -> Vec<u8> {
        let verb = if self.oob { "exec-oob" } else { "execute" };
        let mut message = json!({ verb: &*self.name, "id": id });
        if !self.arguments.is_null() {
            message["arguments"] = self.arguments.clone();
        }
        format!("{message}\n").into_bytes()
    }
}

/// Whole milliseconds as QEMU takes them: unsigned, 32 bits.
fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// `qmp_capabilities`: ends the negotiation.
#[must_use]
pub fn negotiate(oob: bool) -> Command<Empty> {
    let enable: &[&str] = if oob { &["oob"] } else { &[] };
    Command::new("qmp_capabilities", json!({ "enable": enable }))
}

/// `query-status`.
#[must_use]
pub fn query_status() -> Command<Status> {
    Command::new("query-status", Value::Null)
}

/// `query-migrate`.
#[must_use]
pub fn query_migrate() -> Command<Migration> {
    Command::new("query-migrate", Value::Null)
}

/// `query-colo-status`.
#[must_use]
pub fn query_colo_status() -> Command<ColoStatus> {
    Command::new("query-colo-status", Value::Null)
}

/// `migrate-set-capabilities`, each with its new state. COLO needs `x-colo` on the primary, and on the secondary too from
/// QEMU 10 on; `events` tells of the migration's states.
#[must_use]
pub fn set_capabilities(capabilities: &[(&str, bool)]) -> Command<Empty> {
    let list: Vec<Value> =
        capabilities.iter().map(|(name, on)| json!({ "capability": name, "state": on })).collect();
    Command::new("migrate-set-capabilities", json!({ "capabilities": list }))
}

/// `migrate-set-parameters`, any of them by name.
#[must_use]
pub fn set_parameters(parameters: Value) -> Command<Empty> {
    Command::new("migrate-set-parameters", parameters)
}

/// Sets the time between periodic checkpoints. On a primary in COLO the same command is the request for one at once,
/// also with an unchanged value: STOP follows within some milliseconds. A request that comes while a checkpoint runs is
/// absorbed by it: ask again unless a STOP came after what made it necessary.
#[must_use]
pub fn set_checkpoint_delay(delay: Duration) -> Command<Empty> {
    set_parameters(json!({ "x-checkpoint-delay": millis(delay) }))
}

/// `query-version`.
#[must_use]
pub fn query_version() -> Command<Version> {
    Command::new("query-version", Value::Null)
}

/// `query-migrate-parameters`.
#[must_use]
pub fn query_parameters() -> Command<Parameters> {
    Command::new("query-migrate-parameters", Value::Null)
}

/// `query-migrate-capabilities`.
#[must_use]
pub fn query_capabilities() -> Command<Vec<Capability>> {
    Command::new("query-migrate-capabilities", Value::Null)
}

/// `migrate` to a QEMU that waits at `uri` (`tcp:HOST:PORT`, `unix:PATH`).
#[must_use]
pub fn migrate(uri: &str) -> Command<Empty> {
    Command::new("migrate", json!({ "uri": uri }))
}

/// `migrate_cancel`: the guest runs on here, if it ran; the QEMU that waited for its state ends.
#[must_use]
pub fn migrate_cancel() -> Command<Empty> {
    Command::new("migrate_cancel", Value::Null)
}

/// `x-colo-lost-heartbeat`: this side goes on alone. QEMU does not ask whether the other side does the same.
#[must_use]
pub fn lost_heartbeat() -> Command<Empty> {
    Command::new("x-colo-lost-heartbeat", Value::Null)
}

/// `yank` of the migration, out of band: cuts a migration stream on which QEMU hangs, so that a takeover cannot. Needs a
/// monitor that offers `oob`; refused by QEMU when there is no migration.
#[must_use]
pub fn yank_migration() -> Command<Empty> {
    yank(json!([{ "type": "migration" }]))
}

/// `yank` of the given instances, out of band.
#[must_use]
pub fn yank(instances: Value) -> Command<Empty> {
    let mut command = Command::new("yank", json!({ "instances": instances }));
    command.call.oob = true;
    command
}

/// `human-monitor-command`, for `drive_add` and `drive_del`, which have no other form. What it prints is the answer, a
/// refusal too.
#[must_use]
pub fn human(line: &str) -> Command<String> {
    Command::new("human-monitor-command", json!({ "command-line": line }))
}

/// `stop`.
#[must_use]
pub fn stop() -> Command<Empty> {
    Command::new("stop", Value::Null)
}

/// `cont`.
#[must_use]
pub fn cont() -> Command<Empty> {
    Command::new("cont", Value::Null)
}

//! What is done at a timeout besides the script: a command of the shell, or commands to a QEMU.
//!
//! Dropping a future here kills the shell's command; a QEMU's command that was given is not taken back.

use super::report::Report;
use crate::link::endpoint::Endpoint;
use crate::process::{Ended, Group};
use crate::qmp::command::Call;
use crate::qmp::{Client, Notice};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{error, info};

/// How long the shell's command may run, and a monitor be waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// One action, ready.
#[derive(Clone, Debug)]
pub enum Action {
    /// For the shell.
    Exec(String),
    /// For the QEMU behind a monitor, in this order.
    Qmp(Endpoint, Vec<Call>),
}

impl Action {
    /// How many commands it has.
    pub const fn commands(&self) -> usize {
        match self {
            Self::Exec(_) => 1,
            Self::Qmp(_, calls) => calls.len(),
        }
    }

    /// Does it for the watchdog `name`.
    pub async fn run(self, name: String, silent: Duration, report: Report) {
        match self {
            Self::Exec(command) => exec(name, command, silent, report).await,
            Self::Qmp(monitor, calls) => qmp(name, monitor, calls, report).await,
        }
    }
}

async fn exec(name: String, command: String, silent: Duration, report: Report) {
    let environment = [("COLO_WATCHDOG", name.clone()), ("COLO_SILENT_MS", silent.as_millis().to_string())];
    let outcome = match Group::spawn(&command, environment) {
        Ok(group) => match group.wait(LIMIT).await {
            Ended::Status(status) => status.to_string(),
            Ended::TimedOut => format!("killed after {LIMIT:?}"),
            Ended::Lost(error) => format!("its end could not be learned: {error}"),
        },
        Err(error) => format!("not started: {error}"),
    };
    info!("{name}: the command of the timeout: {outcome}");
    report.say("command", json!({ "outcome": outcome }));
}

/// A command that is refused does not keep the next from being given.
async fn qmp(name: String, monitor: Endpoint, calls: Vec<Call>, report: Report) {
    let (client, mut notices) = Client::open(monitor.clone());
    let up = async {
        while let Some(notice) = notices.next().await {
            if matches!(notice, Notice::Up { .. }) {
                return;
            }
        }
    };
    if timeout(LIMIT, up).await.is_err() {
        let outcome =
            format!("no answer from the monitor {monitor} within {LIMIT:?}: nothing was said to it");
        error!("{name}: {outcome}");
        return report.say("command", json!({ "outcome": outcome }));
    }
    for call in calls {
        let command = call.name.clone();
        let outcome = match client.call(call.whatever()).await {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        info!("{name}: `{command}` at the timeout: {outcome}");
        report.say("command", json!({ "execute": command, "outcome": outcome }));
    }
}

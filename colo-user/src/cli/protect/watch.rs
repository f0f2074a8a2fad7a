//! `colo protect --watch`: protects a pair again whenever it has lost a side and a new secondary waits.
//!
//! Each [`LOOK`] it looks at both monitors and lets go of them, so that others get their turn; [`again`] decides. Before an attempt
//! it asks the agent on this host, and readies it. The stop flag ends
//! a pause and a command at once, an attempt as it ends `colo protect`.
//!
//! [`again`]: crate::protect::again

use super::{Shown, code, failed, object, sentence, survivor_of};
use crate::agent::protection::Reason;
use crate::cli::watchdog::Exec;
use crate::control::{ask, ask_status};
use crate::failover::Why;
use crate::failover::verbs::Verb;
use crate::link::endpoint::Endpoint;
use crate::mono::Mono;
use crate::output;
use crate::process::{Ended, Group};
use crate::protect::again::{Again, Next, Way};
use crate::protect::{Failed, Plan, look, protect};
use crate::qmp::Snapshot;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Between two looks at the monitors.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the flag.
const FLAG: Duration = Duration::from_millis(50);
/// How long the command before an attempt may run.
const COMMAND: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    /// The two monitors.
    pub monitors: [Endpoint; 2],
    /// With the first as the primary.
    pub there: Plan,
    /// With the second.
    pub back: Option<Plan>,
    /// The control socket of the agent on this host.
    pub agent: Option<PathBuf>,
    /// Run before each attempt.
    pub before: Option<Exec>,
    /// Failures in a row.
    pub attempts: u32,
    pub json: bool,
}

impl Watch {
    /// Runs until the flag is set, attempts are used up, or something is left over.
    pub async fn run(&self, stop: &AtomicBool) -> ExitCode {
        let mut again = Again::new(self.back.is_some(), self.attempts);
        let mut said = None;
        while !stop.load(Ordering::Relaxed) {
            let (first, second) = tokio::join!(look(&self.monitors[0]), look(&self.monitors[1]));
            let mut next = again.look(Mono::now(), [first.as_ref(), second.as_ref()]);
            if matches!(next, Next::Protect(_))
                && let Err(why) = self.agents().await
            {
                next = Next::Wait(why);
            }
            if said.as_ref() != Some(&next) {
                self.say(&next);
                said = Some(next.clone());
            }
            if let Next::Protect(way) = next {
                let primary = if way == Way::There { first } else { second };
                match self.attempt(way, primary.as_ref(), stop).await {
                    Ok(()) => again.done(),
                    Err(error) => {
                        failed(&error, self.json);
                        if stop.load(Ordering::Relaxed) && error.left.is_empty() {
                            break;
                        }
                        // One that has entered COLO and lost a side at once is a pair that has lost a side.
                        let left = !error.left.is_empty() && !error.entered;
                        if left || stop.load(Ordering::Relaxed) || !again.failed(Mono::now()) {
                            return code(&error);
                        }
                    }
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = set(stop) => {}
            }
        }
        ExitCode::SUCCESS
    }

    fn say(&self, next: &Next) {
        let Next::Wait(why) = next else { return };
        if self.json {
            output::line(format_args!("{}", json!({ "protected": false, "waits": why })));
        }
        output::say(format_args!("colo: waits: {why}"));
    }

    async fn attempt(&self, way: Way, primary: Option<&Snapshot>, stop: &AtomicBool) -> Result<(), Failed> {
        let [first, second] = &self.monitors;
        let (monitors, plan) = match way {
            Way::There => ([first, second], &self.there),
            Way::Back => ([second, first], self.back.as_ref().unwrap_or(&self.there)),
        };
        let was = primary.and_then(|primary| survivor_of(primary.colo.last_mode));
        self.prepare(monitors, was.unwrap_or_default(), stop).await.map_err(|reason| Failed {
            reason,
            left: Vec::new(),
            entered: false,
        })?;
        let mut shown = Shown::default();
        let protected = protect(monitors, plan, stop, &mut |progress| shown.show(progress)).await?;
        if self.json {
            let disks: Vec<String> = plan.disks.iter().map(ToString::to_string).collect();
            let mut line = object(&protected, &disks);
            line["primary"] = json!(monitors[0].to_string());
            output::line(format_args!("{line}"));
        } else {
            output::line(format_args!("{}: {}", monitors[0], sentence(&protected, plan.disks.len())));
        }
        Ok(())
    }

    /// Whether the agents are ready for the next pair, as the one on this host says; why not.
    async fn agents(&self) -> Result<(), String> {
        let Some(socket) = self.agent.clone() else { return Ok(()) };
        let asked = spawn_blocking(move || {
            let status = ask_status(&socket)?;
            if leads_next(&status) {
                let order = json!({ "command": Verb::Reprotect.word(), "timeout_ms": LOOK.as_millis() });
                ask(&socket, &order, LOOK)?;
                return ask_status(&socket);
            }
            Ok(status)
        });
        let status = asked.await.map_err(|error| error.to_string())?;
        let status = status.map_err(|error| format!("--agent: {error:#}"))?;
        if have_met(&status) {
            return Ok(());
        }
        let [role, reason] = ["role", "reason"].map(|name| status[name].as_str().unwrap_or("?"));
        Err(format!("the agents have not met: {role}, {reason}"))
    }

    /// Runs the command that makes the agents ready.
    async fn prepare(&self, monitors: [&Endpoint; 2], was: &str, stop: &AtomicBool) -> Result<()> {
        let Some(Exec(command)) = &self.before else { return Ok(()) };
        let environment = [
            ("COLO_PRIMARY", monitors[0].to_string()),
            ("COLO_SECONDARY", monitors[1].to_string()),
            ("COLO_SURVIVOR_OF", was.to_owned()),
        ];
        let group = Group::spawn(command, environment).with_context(|| format!("--before `{command}`"))?;
        tokio::select! {
            () = set(stop) => bail!("ended by a signal"),
            ended = group.wait(COMMAND) => match ended {
                Ended::Status(status) if status.success() => Ok(()),
                Ended::Status(status) => bail!("--before `{command}`: {status}"),
                Ended::TimedOut => bail!("--before `{command}`: killed after {COMMAND:?}"),
                Ended::Lost(error) => bail!("--before `{command}`: its end could not be learned: {error}"),
            },
        }
    }
}

/// Whether an agent is the one of a secondary that has taken over.
fn leads_next(status: &Value) -> bool {
    status["role"] == "secondary" && status["failover"]["standing"] == "alone"
}

/// Whether an agent says that the other one is there, and that only COLO is missing.
fn have_met(status: &Value) -> bool {
    let failover = &status["failover"];
    match status["role"].as_str() {
        Some("primary") => status["reason"] == Reason::NotInColo.text(),
        _ => status["reason"] == Reason::Closed.text() && failover["reason"] == Why::AwaitsCheckpoint.text(),
    }
}

/// Returns once the flag is set.
async fn set(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        sleep(FLAG).await;
    }
}

//! The two agents: started on the stage, asked for their status, stopped and started again.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    child::Tethered,
    stage::Stage,
    topology::{GUEST, LINK_PRIMARY, UPLINK},
};

/// TCP port of the link between the agents.
const LINK_PORT: u16 = 9000;
/// How long both agents may take from their start until they protect.
pub const UNTIL_PROTECTED: Duration = Duration::from_secs(30);
/// Lines of each log that a failure shows.
const LOG_SHOWN: usize = 40;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent the client's traffic goes through.
    Primary,
    /// The agent that injects the mirrored input.
    Secondary,
}

impl Role {
    /// The subcommand of `colo`, and the first part of file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

/// Arguments for the agents beyond their interfaces, link and control socket.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For both, such as `--hold ringbuf`.
    pub both: Vec<String>,
    /// For the primary's, such as `--wait-min 200`.
    pub primary: Vec<String>,
    /// For the secondary's.
    pub secondary: Vec<String>,
    /// Nobody reads what they say.
    pub unread: bool,
}

/// How long the primary waits for a late secondary, in milliseconds: on two busy cores a replica may be off its processor
/// for longer than the 20 ms that are the default, and what it has lost comes again only after a timeout of TCP's that has
/// doubled a few times. These replicas cannot be checkpointed, which is what ends that with a VM.
const WAIT: (u32, u32) = (18_000, 19_000);

impl Options {
    /// Agents with the patience that a machine with few cores needs, and `both` for both.
    pub fn patient(both: &[&str]) -> Self {
        Self { both: both.iter().map(|word| (*word).to_owned()).collect(), ..Self::waiting(WAIT.0, WAIT.1) }
    }

    /// Agents of which the primary's waits for a late secondary from `min` to `max` milliseconds.
    pub fn waiting(min: u32, max: u32) -> Self {
        let primary = ["--wait-min".to_owned(), min.to_string(), "--wait-max".to_owned(), max.to_string()];
        Self { primary: primary.to_vec(), ..Self::default() }
    }
}

/// What `colo status --json` says.
#[derive(Debug, Clone)]
pub struct Status(Value);

impl Status {
    /// Asks the agent behind a control socket.
    pub fn ask(colo: &Path, control: &Path) -> Result<Self> {
        let output = Command::new(colo).args(["status", "--json", "--control"]).arg(control).output()?;
        let json = serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "`colo status` of {} ended with {} and said {}{}",
                control.display(),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr).trim_end()
            )
        })?;
        Ok(Self(json))
    }

    /// `protected` or `not-protected`.
    pub fn is_protected(&self) -> bool {
        self.0["state"] == "protected"
    }

    /// State and reason, for a person.
    pub fn state(&self) -> String {
        let text = |name: &str| self.0[name].as_str().unwrap_or("?").to_owned();
        if self.is_protected() { text("state") } else { format!("{} ({})", text("state"), text("reason")) }
    }

    /// Frames held now.
    pub fn held(&self) -> u64 {
        self.0["held"].as_u64().unwrap_or(0)
    }

    /// The sum of the counters whose names begin so; if there is none, an error that lists those there are.
    pub fn count(&self, prefix: &str) -> Result<u64> {
        let counters = self.0["counters"].as_object().context("a status has counters")?;
        let matching: Vec<u64> = counters
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .filter_map(|(_, n)| n.as_u64())
            .collect();
        ensure!(!matching.is_empty(), "no counter {prefix:?} in {:?}", counters.keys());
        Ok(matching.iter().sum())
    }

    /// Frames of the primary released because the secondary had said the same.
    pub fn compared(&self) -> Result<u64> {
        self.count("released_compared")
    }

    /// Checkpoints asked for since the start.
    pub fn checkpoints(&self) -> u64 {
        self.0["checkpoints"]["asked"].as_u64().unwrap_or(0)
    }

    /// Those of them that a cut asked for which could not be exact: the guest ran before its unread input was counted, or the
    /// clocks contradict the order of events. Each such cut is counted and asks for one, which on a busy machine happens.
    pub fn checkpoints_by_cuts(&self) -> u64 {
        let by = &self.0["checkpoints"]["by"];
        ["input-cut-inexact", "cut-unsure"].iter().filter_map(|kind| by[kind].as_u64()).sum()
    }

    /// The last divergences, newest last.
    pub fn divergences(&self) -> &[Value] {
        self.0["divergences"].as_array().map_or(&[], Vec::as_slice)
    }

    /// All of it.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

/// Both agents. The primary's is the server of the link; either may be started again.
#[derive(Debug)]
pub struct Agents {
    primary: Tethered,
    secondary: Tethered,
    colo: PathBuf,
    options: Options,
    directory: PathBuf,
}

impl Agents {
    /// Starts both; they have not yet met when this returns.
    pub fn start(stage: &Stage, options: Options) -> Result<Self> {
        let primary = spawn(stage, &options, Role::Primary)?;
        let secondary = spawn(stage, &options, Role::Secondary)?;
        let directory = stage.path("");
        Ok(Self { primary, secondary, colo: stage.programs.colo.clone(), options, directory })
    }

    /// The process of one.
    pub fn process(&mut self, role: Role) -> &mut Tethered {
        match role {
            Role::Primary => &mut self.primary,
            Role::Secondary => &mut self.secondary,
        }
    }

    /// Starts one again, after it was stopped or killed.
    pub fn restart(&mut self, stage: &Stage, role: Role) -> Result<()> {
        *self.process(role) = spawn(stage, &self.options, role)?;
        Ok(())
    }

    /// Asks one for its status.
    pub fn status(&self, role: Role) -> Result<Status> {
        Status::ask(&self.colo, &self.directory.join(control_name(role)))
    }

    /// Waits until the status of the primary's agent is as `wanted`.
    pub fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        stop: &AtomicBool,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        self.wait_for_of(Role::Primary, what, within, stop, wanted)
    }

    /// The same of either.
    pub fn wait_for_of(
        &mut self,
        asked: Role,
        what: &str,
        within: Duration,
        stop: &AtomicBool,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status(asked);
            if let Ok(status) = &status
                && wanted(status)
            {
                return Ok(status.clone());
            }
            for role in [Role::Primary, Role::Secondary] {
                if let Some(end) = self.process(role).ended() {
                    bail!(
                        "the {} agent ended ({end}) while waiting for {what}\n{}",
                        role.name(),
                        self.logs()
                    );
                }
            }
            if stop.load(Ordering::Relaxed) {
                bail!("stopped while waiting for {what}");
            }
            if Instant::now() > deadline {
                let last =
                    status.map_or_else(|error| format!("{error:#}"), |status| status.json().to_string());
                bail!("no {what} within {within:?}; last status of the {}: {last}", asked.name());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until new flows are protected.
    pub fn wait_protected(&mut self, stop: &AtomicBool) -> Result<Status> {
        self.wait_for("protection", UNTIL_PROTECTED, stop, Status::is_protected)
    }

    /// The end of both logs.
    pub fn logs(&self) -> String {
        [("primary", &self.primary), ("secondary", &self.secondary)]
            .map(|(name, agent)| {
                let log = agent.log();
                let lines: Vec<&str> = log.lines().collect();
                let shown = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
                format!("--- log of the {name} agent\n{}\n", shown.join("\n"))
            })
            .concat()
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn control_name(role: Role) -> String {
    format!("{}.sock", role.name())
}

fn spawn(stage: &Stage, options: &Options, role: Role) -> Result<Tethered> {
    let host = match role {
        Role::Primary => &stage.topology.primary,
        Role::Secondary => &stage.topology.secondary,
    };
    let server = if role == Role::Primary { ",server=on" } else { "" };
    let peer = format!("tcp:{LINK_PRIMARY}:{LINK_PORT}{server}");
    let control = stage.path(&control_name(role)).to_string_lossy().into_owned();
    let mut arguments: Vec<String> =
        [role.name(), "--guest", GUEST, "--uplink", UPLINK, "--peer", &peer, "--control", &control]
            .map(str::to_owned)
            .to_vec();
    arguments.extend_from_slice(&options.both);
    arguments.extend_from_slice(match role {
        Role::Primary => &options.primary,
        Role::Secondary => &options.secondary,
    });
    if options.unread {
        return Tethered::unread(&stage.programs, &host.netns, &stage.programs.colo, &arguments);
    }
    let log = stage.path(&format!("agent-{}.log", role.name()));
    Tethered::start(&stage.programs, &host.netns, &stage.programs.colo, &arguments, &log, false)
}

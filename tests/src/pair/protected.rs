//! A pair with its agents: booted, in COLO, and protected.
//!
//! Hosts are named by where the VM booted first ([`Side::First`]) and by where it was copied to ([`Side::Second`]); which of
//! them is heard changes with each takeover.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use colo_user::qmp::{Client, ColoMode, EventKind, command};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};

use super::{
    disk,
    journal::Journal,
    order::{Answer, order},
    stage::{Followed, PATIENCE, Pair, Setup, cache},
    vm::{Accel, Extras, Vm},
    watch::Side,
};
use crate::etcd::{Cluster, WIRE};
use crate::lab::{
    agents::{Role, Status},
    child::{Programs, Tethered},
    topology::{GUEST, Host, LINK, LINK_PRIMARY, LINK_SECONDARY, UPLINK},
};

/// TCP port of the link between the agents.
const LINK_PORT: u16 = 9000;
/// The wire for heartbeats alone: its interface on both hosts, and their addresses on it.
pub const BEATS: &str = "beat0";
const BEATS_PORT: u16 = 9701;
/// Lines of each log that a failure shows.
const LOG_SHOWN: usize = 60;
/// What a primary says whose secondary is there and whose QEMU has no other yet.
const NOT_IN_COLO: &str = "not in COLO";
/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The same where it must be seen before a checkpoint is over.
const CLOSE_LOOK: Duration = Duration::from_micros(200);

/// How the pair is protected.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runs both VMs.
    pub accel: Accel,
    /// Time between periodic checkpoints.
    pub delay: Duration,
    /// Both VMs have a disk, which is replicated.
    pub disk: bool,
    /// The channel between the VMs can be made to stand still.
    pub stallable: bool,
    /// Another judge, as `--judge` has it.
    pub judge: Option<String>,
    /// The judge is etcd; else a directory.
    pub etcd: Option<Etcd>,
    /// The hosts have a second wire, for heartbeats.
    pub heartbeat: Option<Beats>,
    /// Arguments for both agents.
    pub both: Vec<String>,
    /// For the primary's, and for a secondary's once it is one.
    pub primary: Vec<String>,
    /// For a secondary's.
    pub secondary: Vec<String>,
    /// Nobody reads what the agents say.
    pub unread: bool,
}

/// An etcd of the pair's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Etcd {
    /// How many members; of three one may be lost.
    pub members: usize,
    /// The lease, in seconds.
    pub ttl: u64,
}

/// How often the agents beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beats {
    /// Milliseconds between two of them.
    pub interval: u64,
    /// How many may be missed.
    pub multiplier: u64,
}

impl Default for Options {
    /// No periodic checkpoints, and the patience with a late secondary that two cores for two VMs need.
    fn default() -> Self {
        Self {
            accel: Accel::Tcg,
            delay: Duration::from_secs(3600),
            disk: false,
            stallable: false,
            judge: None,
            etcd: None,
            heartbeat: None,
            both: Vec::new(),
            primary: ["--wait-min", "2000", "--wait-max", "4000"].map(str::to_owned).to_vec(),
            secondary: Vec::new(),
            unread: false,
        }
    }
}

/// An agent on one of the hosts.
#[derive(Debug)]
struct Agent {
    process: Tethered,
    control: PathBuf,
    role: Role,
}

/// See the module. What is dropped first goes first.
#[derive(Debug)]
pub struct Protected {
    /// The agents, first host's first.
    agents: [Agent; 2],
    /// Of the VMs, first host's first; none before COLO was entered.
    monitors: Vec<Client>,
    /// The judge, where it is etcd.
    pub cluster: Option<Cluster>,
    /// Which VM was copied.
    primary: Side,
    /// What QEMU has said.
    pub journal: Journal,
    /// VMs and namespaces.
    pub pair: Pair,
    options: Options,
    runtime: Runtime,
}

impl Side {
    fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    /// The other host.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Its address on the link.
    fn address(self) -> &'static str {
        match self {
            Self::First => LINK_PRIMARY,
            Self::Second => LINK_SECONDARY,
        }
    }

    /// Its address on the wire for heartbeats.
    fn beats(self) -> &'static str {
        match self {
            Self::First => "10.98.0.1",
            Self::Second => "10.98.0.2",
        }
    }
}

impl Protected {
    /// Boots both VMs, starts the agents and enters COLO; all connections are protected when this returns.
    pub fn start(programs: &Programs, options: Options, stop: &AtomicBool) -> Result<Self> {
        let mut protected = Self::meet(programs, options, stop)?;
        protected.enter_colo(Side::First)?;
        protected.wait_for(Side::First, "protection", stop, Status::is_protected)?;
        Ok(protected)
    }

    /// Boots both VMs and starts the agents; they have met when this returns, and nothing is protected.
    pub fn meet(programs: &Programs, options: Options, stop: &AtomicBool) -> Result<Self> {
        let extras = Extras { accel: options.accel, ..Extras::default() };
        let Options { disk, stallable, .. } = options;
        let setup = Setup { primary: extras.clone(), secondary: extras, disk, stallable, ..Setup::default() };
        let pair = Pair::boot_as(programs, &cache(&programs.lab), &setup)?;
        let cluster = options.etcd.map(|etcd| judges(programs, &pair, etcd.members)).transpose()?;
        if options.heartbeat.is_some() {
            wire_beats(&pair)?;
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let journal = Journal::default();
        let agents = [
            Agent::start(&pair, Side::First, Role::Primary, &options, cluster.as_ref())?,
            Agent::start(&pair, Side::Second, Role::Secondary, &options, cluster.as_ref())?,
        ];
        let (monitors, primary) = (Vec::new(), Side::First);
        let protected = Self { agents, monitors, cluster, primary, journal, pair, options, runtime };
        protected.have_met(Side::First, stop)?;
        Ok(protected)
    }

    /// Waits until the agents have met, so that nothing is said between COLO and protection.
    fn have_met(&self, primary: Side, stop: &AtomicBool) -> Result<()> {
        self.wait_for(primary, "the agents to meet", stop, |status| status.json()["reason"] == NOT_IN_COLO)
    }

    /// Enters COLO: the QEMUs are in it and run when this returns, whatever the agents make of it.
    pub fn enter_colo(&mut self, primary: Side) -> Result<()> {
        // A monitor has one client at a time.
        self.monitors.clear();
        let (from, to) = (self.pair.vm(primary), self.pair.vm(primary.other()));
        let followed = self.runtime.block_on(async {
            let (mut from, _) = Followed::open(from.name(), from).await?;
            let (mut to, _) = Followed::open(to.name(), to).await?;
            self.pair.protect(&mut from, &mut to, self.options.delay).await?;
            anyhow::Ok([from, to])
        })?;
        let monitors = followed.map(|followed| self.journal.follow(&self.runtime, followed));
        self.monitors = match (primary, monitors) {
            (Side::First, monitors) => monitors.into(),
            (Side::Second, [second, first]) => vec![first, second],
        };
        self.primary = primary;
        Ok(())
    }

    /// Waits until the status of a host's agent is as `wanted`.
    pub fn wait_for(
        &self,
        side: Side,
        what: &str,
        stop: &AtomicBool,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status(side);
            if status.as_ref().is_ok_and(&wanted) {
                return Ok(());
            }
            if stop.load(Ordering::Relaxed) {
                bail!("stopped while waiting for {what}");
            }
            if Instant::now() > end {
                bail!("{what}: not within {PATIENCE:?}: {status:?}\n{}", self.logs());
            }
            thread::sleep(LOOK);
        }
    }

    /// What the agent on a host says.
    pub fn status(&self, side: Side) -> Result<Status> {
        Status::ask(&self.pair.programs.colo, &self.agents[side.index()].control)
    }

    /// Gives the agent on a host an order, and waits for its end.
    pub fn order(&self, side: Side, words: &[&str]) -> Result<Answer> {
        order(&self.pair.programs.colo, &self.agents[side.index()].control, words)
    }

    /// The process of the agent on a host.
    pub fn agent(&mut self, side: Side) -> &mut Tethered {
        &mut self.agents[side.index()].process
    }

    /// Protects the survivor of a takeover by a new VM and agents on both hosts: the one that took over is told to end,
    /// and the new primary's agent goes on with what it left in the kernel. New connections are protected when this returns.
    pub fn protect_survivor(&mut self, side: Side, name: &'static str, stop: &AtomicBool) -> Result<()> {
        let lost = side.other();
        self.agents[lost.index()].process.kill();
        self.pair.replace(lost, name)?;
        self.restart_agent(side, Role::Primary)?;
        self.restart_agent(lost, Role::Secondary)?;
        self.have_met(side, stop)?;
        self.enter_colo(side)?;
        self.wait_for(side, "protection", stop, Status::is_protected)
    }

    /// The host is back, with a VM that waits for a state and a secondary's agent.
    pub fn come_back(&mut self, side: Side, name: &'static str) -> Result<()> {
        self.wires(side, "up")?;
        self.pair.replace(side, name)?;
        self.restart_agent(side, Role::Secondary)
    }

    fn wires(&self, side: Side, state: &str) -> Result<()> {
        let wires = [UPLINK, LINK].into_iter();
        let wires =
            wires.chain(self.cluster.as_ref().map(|_| WIRE)).chain(self.options.heartbeat.map(|_| BEATS));
        let batch = self.pair.path("wires");
        fs::write(&batch, wires.map(|wire| format!("link set {wire} {state}\n")).collect::<String>())?;
        self.host(side).netns.run(&format!("ip -batch {}", batch.display())).map(drop)
    }

    /// Waits until a secondary that has taken over is a primary, and in the same process.
    pub fn wait_primary(&mut self, side: Side, stop: &AtomicBool) -> Result<()> {
        self.wait_for(side, "a primary's agent", stop, |status| status.json()["role"] == "primary")?;
        let agent = &mut self.agents[side.index()];
        ensure!(agent.role == Role::Secondary && agent.process.ended().is_none(), "another agent");
        Ok(())
    }

    /// Sends the agent on a host a signal.
    pub fn signal(&self, side: Side, signal: Signal) -> Result<()> {
        self.agents[side.index()].process.signal(signal)
    }

    /// The control socket of the agent on a host.
    pub fn control(&self, side: Side) -> &Path {
        &self.agents[side.index()].control
    }

    /// Time between periodic checkpoints.
    pub fn delay(&self) -> Duration {
        self.options.delay
    }

    /// The VM on a host.
    pub fn vm(&mut self, side: Side) -> &mut Vm {
        match side {
            Side::First => &mut self.pair.primary,
            Side::Second => &mut self.pair.secondary,
        }
    }

    /// A host.
    pub fn host(&self, side: Side) -> &Host {
        host(&self.pair, side)
    }

    /// The host is no more: at one moment nothing on it runs any more, its wires are cut, so that nobody hears what its kernel
    /// says of the end, and all is killed.
    pub fn lose_host(&mut self, side: Side) -> Result<()> {
        // To cut takes a while.
        self.vm(side).process().signal(Signal::STOP)?;
        self.agent(side).signal(Signal::STOP)?;
        self.wires(side, "down")?;
        self.agent(side).kill();
        self.vm(side).process().kill();
        Ok(())
    }

    fn monitor(&self, side: Side) -> Result<&Client> {
        self.monitors.get(side.index()).context("COLO was not entered")
    }

    /// Has a checkpoint made on the primary, and does not wait for it.
    pub fn checkpoint(&self) -> Result<()> {
        let delay = command::set_checkpoint_delay(self.options.delay);
        self.runtime.block_on(self.monitor(self.primary)?.call(delay))?;
        Ok(())
    }

    /// As [`Protected::checkpoint`], and returns when a VM says so in it.
    pub fn checkpoint_until(&mut self, side: Side, said: &EventKind) -> Result<()> {
        let name = self.vm(side).name();
        let count = || self.journal.count(name, said);
        let before = count();
        self.checkpoint()?;
        let end = Instant::now() + PATIENCE;
        while count() == before {
            ensure!(Instant::now() < end, "{name} does not say {said:?}\n{}", self.logs());
            thread::sleep(CLOSE_LOOK);
        }
        Ok(())
    }

    /// Stops a guest as an operator would, and continues it after a while.
    pub fn pause(&self, side: Side, time: Duration) -> Result<()> {
        let monitor = self.monitor(side)?;
        self.runtime.block_on(monitor.call(command::stop()))?;
        thread::sleep(time);
        Ok(self.runtime.block_on(monitor.call(command::cont())).map(drop)?)
    }

    /// Has a QEMU leave COLO, as an operator would. One that is told too late, for the other has left and it has noticed, is out of
    /// it as well.
    pub fn leave_colo(&self, side: Side) -> Result<()> {
        let monitor = self.monitor(side)?;
        let Err(refused) = self.runtime.block_on(monitor.call(command::lost_heartbeat())) else {
            return Ok(());
        };
        let status = self.runtime.block_on(monitor.call(command::query_colo_status()))?;
        ensure!(status.mode == ColoMode::None, "{refused}; {status:?}");
        Ok(())
    }

    /// Whether a guest runs, as its QEMU says.
    pub fn runs(&self, side: Side) -> Result<bool> {
        Ok(self.runtime.block_on(self.monitor(side)?.call(command::query_status()))?.running)
    }

    /// Waits until a guest stands still.
    pub fn wait_stopped(&self, side: Side, stop: &AtomicBool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.runs(side)? {
            ensure!(Instant::now() < end, "the guest on the {side:?} side runs on\n{}", self.logs());
            ensure!(!stop.load(Ordering::Relaxed), "stopped");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What an agent does about failover, as its status says.
    pub fn standing(&self, side: Side) -> Result<String> {
        Ok(standing(&self.status(side)?).to_owned())
    }

    /// Waits until an agent does that about failover.
    pub fn wait_standing(&self, side: Side, wanted: &str, stop: &AtomicBool) -> Result<()> {
        self.wait_for(side, wanted, stop, |status| standing(status) == wanted)
    }

    /// Starts an agent anew on a host; the one before it is gone when it begins.
    pub fn restart_agent(&mut self, side: Side, role: Role) -> Result<()> {
        self.agents[side.index()].process.stop();
        let cluster = self.cluster.as_ref();
        self.agents[side.index()] = Agent::start(&self.pair, side, role, &self.options, cluster)?;
        Ok(())
    }

    /// The end of all logs, and what QEMU has said.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for agent in &self.agents {
            let log = agent.process.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
            text += &format!("--- log of the {} agent\n{}\n", agent.role.name(), shown.join("\n"));
        }
        for vm in [&self.pair.primary, &self.pair.secondary] {
            text += &format!("--- QEMU\n{}", vm.log());
        }
        text + "--- QMP\n" + &self.journal.text()
    }
}

impl Agent {
    fn start(
        pair: &Pair,
        side: Side,
        role: Role,
        options: &Options,
        cluster: Option<&Cluster>,
    ) -> Result<Self> {
        let control = pair.path(&format!("{}-{}.sock", side.address(), role.name()));
        // Who listens is a matter of the host, for roles change.
        let server = if side == Side::First { ",server=on" } else { "" };
        let peer = format!("tcp:{LINK_PRIMARY}:{LINK_PORT}{server}");
        let shown = control.display().to_string();
        let monitor = pair.vm(side).agent_monitor().to_string();
        let ends = [role.name(), "--guest", GUEST, "--uplink", UPLINK];
        let sockets = ["--peer", &peer, "--control", &shown, "--qmp", &monitor];
        let judge = match (cluster, options.etcd) {
            (Some(cluster), Some(Etcd { ttl, .. })) => format!("etcd:{};ttl={ttl}", cluster.endpoints()),
            // The directory is one that both hosts have.
            _ => options.judge.clone().unwrap_or_else(|| format!("lock:{}", pair.path("").display())),
        };
        let state = pair.path(&format!("{}.state", side.address())).display().to_string();
        // Both VMs and all that loads them share a few processors.
        let alone = ["--judge", &judge, "--pair", "lab", "--state", &state, "--vm-timeout", "5000"];
        let words = ends.iter().chain(&sockets).chain(&alone);
        let mut arguments: Vec<String> = words.map(|word| (*word).to_owned()).collect();
        if options.disk {
            arguments.extend(["--block-child", disk::CHILD].map(str::to_owned));
            arguments.extend((role == Role::Secondary).then(|| "--nbd".to_owned()));
        }
        if let Some(Beats { interval, multiplier }) = options.heartbeat {
            let link = format!("udp:{}:{BEATS_PORT}@{}:{BEATS_PORT}", side.other().beats(), side.beats());
            let (interval, multiplier) = (interval.to_string(), multiplier.to_string());
            let words = [
                "--heartbeat",
                &link,
                "--heartbeat-interval",
                &interval,
                "--heartbeat-multiplier",
                &multiplier,
            ];
            arguments.extend(words.map(str::to_owned));
        }
        arguments.extend_from_slice(&options.both);
        arguments.extend_from_slice(&options.primary);
        if role == Role::Secondary {
            arguments.extend_from_slice(&options.secondary);
        }
        let (netns, colo) = (&host(pair, side).netns, &pair.programs.colo);
        let process = if options.unread {
            Tethered::unread(&pair.programs, netns, colo, &arguments)?
        } else {
            let log = control.with_extension("log");
            Tethered::start(&pair.programs, netns, colo, &arguments, &log, false)?
        };
        Ok(Self { process, control, role })
    }
}

/// A cluster that both hosts have a wire to.
fn judges(programs: &Programs, pair: &Pair, members: usize) -> Result<Cluster> {
    let mut cluster = Cluster::start(programs, members)?;
    cluster.join(&pair.topology.primary.netns)?;
    cluster.join(&pair.topology.secondary.netns)?;
    Ok(cluster)
}

/// A second wire between the hosts.
fn wire_beats(pair: &Pair) -> Result<()> {
    host(pair, Side::First).netns.veth(BEATS, &host(pair, Side::Second).netns, BEATS)?;
    for side in [Side::First, Side::Second] {
        host(pair, side).netns.run(&format!("ip addr add {}/24 dev {BEATS}", side.beats()))?;
    }
    Ok(())
}

fn standing(status: &Status) -> &str {
    status.json()["failover"]["standing"].as_str().unwrap_or("?")
}

fn host(pair: &Pair, side: Side) -> &Host {
    match side {
        Side::First => &pair.topology.primary,
        Side::Second => &pair.topology.secondary,
    }
}

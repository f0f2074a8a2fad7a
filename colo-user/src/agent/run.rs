//! The control plane of an agent: starts the packet thread, makes links for it, serves the control socket, and ends on
//! SIGTERM or SIGINT.
//!
//! States: *starting* (everything that can be refused is refused here, with the interfaces as they were found),
//! *running* (a secondary may become a primary in it: its packet thread goes on as that, and its link is made anew), *ending* (the packet thread releases or drops what it holds; a second signal ends at once).

use super::heart::{self, BeatLink, Heart, boot_of};
use super::packet::primary::PrimaryThread;
use super::packet::seat::{Failover, random};
use super::packet::secondary::{Ended, Lead, SecondaryThread};
use super::packet::{Command, Ends, Handle, Port, channel};
use super::primary::{OnPeerLoss, Primary};
use super::secondary::Secondary;
use crate::checkpoint::{BackendSpec, OnCheckpoint, Signals};
use crate::compare::{Limits, Policy};
use crate::control::ControlSocket;
use crate::datapath::{AgentLimit, BPFFS, Config, Datapath, DatapathError, Role as Side};
use crate::heartbeat;
use crate::judge::fence::FenceSpec;
use crate::judge::{JudgeSpec, Pair};
use crate::link::connect::{Connector, Slot};
use crate::link::endpoint::Endpoint;
use crate::link::frame::{HEARS_PATH, HEARS_QEMU, Hello, Role};
use crate::mono::Mono;
use crate::qmp::Monitor;
use crate::qmp::command::Call;
use anyhow::{Context as _, Result, anyhow};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::{self, Builder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// What a packet thread ends of.
const LOST: &str = "the packet thread cannot go on";

/// What is told to a primary, and to a secondary for when it is one.
#[derive(Debug)]
pub struct PrimaryOptions {
    /// Waits and bypass rules.
    pub policy: Policy,
    /// What becomes of guest output without a peer.
    pub on_loss: OnPeerLoss,
    /// Whether held frames leave when the agent ends.
    pub release_on_exit: bool,
    /// Where checkpoints are asked for.
    pub checkpoints: Vec<BackendSpec>,
    /// What to tell QEMU before it goes on alone.
    pub before: Vec<Call>,
    /// What XDP does when the agent shows no sign of life.
    pub overdue: Option<AgentLimit>,
}

/// What an agent that follows its QEMU is told about going on alone.
#[derive(Debug)]
pub struct Alone {
    /// Whom it asks.
    pub judge: Option<JudgeSpec>,
    /// What shuts the other side off first.
    pub fence: Option<FenceSpec>,
    /// The pair's name to the judge.
    pub pair: Pair,
    /// What a secondary tells QEMU first.
    pub before: Vec<Call>,
    /// Where it keeps what its next start must know.
    pub state: PathBuf,
}

/// What an agent is told.
#[derive(Debug)]
pub struct Options {
    /// The data path; its role is that with which the agent begins.
    pub datapath: Config,
    /// The link.
    pub peer: Endpoint,
    /// A peer silent for this long is lost.
    pub peer_limit: Duration,
    /// The monitor of the guest's QEMU, where it is followed.
    pub qmp: Option<Endpoint>,
    /// How long that QEMU may take to answer, and its guest to run again.
    pub vm_limit: Duration,
    /// How it may go on alone, where its QEMU is followed.
    pub alone: Alone,
    /// Heartbeat links besides the one between the agents.
    pub heartbeat: Vec<BeatLink>,
    /// The interface on which probes of this host are answered, and whether the peer's is probed.
    pub heartbeat_probe: Option<String>,
    /// How often they beat.
    pub heartbeat_settings: heartbeat::Settings,
    /// The control socket.
    pub control: PathBuf,
    /// For as long as it is a primary.
    pub primary: PrimaryOptions,
    /// A secondary that has taken over is a primary by itself.
    pub reprotect: bool,
}

/// Runs an agent until a signal.
///
/// # Errors
/// Why it cannot start, or what it lost on the way.
pub fn run(options: Options) -> Result<()> {
    let control = ControlSocket::open(&options.control)?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(supervise(options, control));
    // An attempt to connect may still run; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

async fn supervise(options: Options, control: ControlSocket) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (handle, port) = channel()?;
    let slot = Arc::new(Slot::default());
    let role = match options.datapath.role {
        Side::Primary => Role::Primary,
        Side::Secondary => Role::Secondary,
    };
    let (links, mut made) = mpsc::channel(1);
    let features = HEARS_PATH | if options.qmp.is_some() { HEARS_QEMU } else { 0 };
    let boot = random()?;
    let mut hello = Hello { features, ..Hello::plain(role, boot) };
    let peer = options.peer.clone();
    let connect = |hello: &Hello, slot| Connector::new(peer.clone(), hello.clone(), slot, links.clone());
    let connector = connect(&hello, Arc::clone(&slot))?;

    let (guest, uplink) = (options.datapath.guest.clone(), options.datapath.uplink.clone());
    let judge = options.alone.judge.clone();
    let (mut packet, mut led) =
        start_packet_thread(options, boot_of(boot), handle.clone(), port, slot).await?;
    info!("{role} on {guest} (guest) and {uplink} (uplink), control socket {}", control.path().display());
    tokio::spawn(control.serve(handle.clone(), judge));
    let mut connecting = tokio::spawn(connector.run());
    loop {
        tokio::select! {
            Some(connected) = made.recv() => {
                let _ = handle.send(Command::Link(connected));
            }
            ended = &mut connecting => {
                let reason = ended.map_err(anyhow::Error::from).and_then(|r| Ok(r?));
                return Err(reason.err().unwrap_or_else(|| anyhow!("the link's connector has ended")));
            }
            Some(slot) = led.recv() => {
                connecting.abort();
                // Where it listened is free then.
                let _ = (&mut connecting).await;
                hello.role = Role::Primary;
                connecting = tokio::spawn(connect(&hello, slot)?.run());
            }
            ended = &mut packet => return ended.context("the packet thread has panicked")?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    info!("told to stop");
    // No new link for an agent that ends.
    connecting.abort();
    drop(made);
    let _ = handle.send(Command::Exit);
    tokio::select! {
        ended = &mut packet => ended.context("the packet thread has panicked")?,
        _ = terminate.recv() => Err(anyhow!("stopped at the second signal: frames that were held are lost")),
        _ = interrupt.recv() => Err(anyhow!("stopped at the second signal: frames that were held are lost")),
    }
}

/// Attaches in the packet thread, which owns the data path for good; returns once that has worked, with the thread's end, and the
/// place of the next link once a secondary has become a primary.
async fn start_packet_thread(
    options: Options,
    boot: u64,
    handle: Handle,
    port: Port,
    slot: Arc<Slot>,
) -> Result<(oneshot::Receiver<Result<()>>, mpsc::Receiver<Arc<Slot>>)> {
    let answered = handle.clone();
    let on_checkpoint: OnCheckpoint = Arc::new(move || {
        if !handle.send(Command::Cut) {
            warn!("a checkpoint came after the end of the packet thread");
        }
    });
    let Options { datapath: config, peer, peer_limit, primary, qmp, vm_limit, mut alone, reprotect, .. } =
        options;
    let follows = qmp.is_some();
    let leads = config.role == Side::Primary;
    if leads {
        alone.before.clone_from(&primary.before);
    }
    let heart = heart::Options {
        links: options.heartbeat,
        settings: options.heartbeat_settings,
        pair: alone.pair.clone(),
        boot,
        realtime: config.realtime,
        probe: options.heartbeat_probe,
    };
    let heart = if heart.links.is_empty() { None } else { Some(Heart::start(heart, answered.clone())?) };
    let interval = heart.as_ref().map(Heart::interval);
    let monitor = qmp.map(Monitor::new).transpose()?;
    let ends = Ends { slot, peer: peer.to_string(), port, monitor, vm_limit, heart };
    let failover = if follows { Some(Failover::new(alone, peer_limit, vm_limit, answered)?) } else { None };
    let (attached, is_attached) = oneshot::channel::<Result<(), DatapathError>>();
    let (ended, has_ended) = oneshot::channel();
    let (leading, led) = mpsc::channel(1);
    let heir = Heir {
        options: primary,
        frames: config.frames,
        peer_limit,
        interval,
        follows,
        on_checkpoint,
        runtime: runtime::Handle::current(),
    };
    let begin =
        if leads { Begin::Primary(Box::new(heir.ready()?)) } else { Begin::Secondary(Box::new(heir)) };
    thread::Builder::new().name("packets".into()).spawn(move || {
        let datapath = match Datapath::attach(&config) {
            Ok(datapath) => datapath,
            Err(error) => {
                let _ = attached.send(Err(error));
                return;
            }
        };
        if follows && !Datapath::can_pin() {
            warn!("{}", without_bpffs());
        }
        let _ = attached.send(Ok(()));
        let outcome = match begin {
            Begin::Primary(ready) => ready.run(datapath, ends, failover),
            Begin::Secondary(heir) => {
                let limits = crate::translate::Limits::default();
                let core = Secondary::new(limits, peer_limit).beating(interval);
                let core = if follows { core.following() } else { core };
                let thread = SecondaryThread::new(datapath, core, ends, failover).reprotecting(reprotect);
                heir.follow(thread, &leading)
            }
        };
        let _ = ended.send(outcome);
    })?;
    is_attached.await.context("the packet thread has panicked")??;
    Ok((has_ended, led))
}

/// What is lost where nothing outlives the agent, and what mends it. One that does not follow its QEMU never goes on alone.
fn without_bpffs() -> String {
    format!(
        "no bpffs is mounted at {BPFFS}, where programs outlive this agent: once this side is the service alone, its guest is \
         cut off when the agent ends, is killed or is replaced, until the next one runs; after a takeover every connection \
         breaks then, for the translation of their sequence numbers is lost too. `mount -t bpf bpf {BPFFS}` before that mends \
         it (`ip netns exec` hides the host's, `nsenter --net=/run/netns/NAME` does not)"
    )
}

/// What the packet thread begins as.
enum Begin {
    Primary(Box<Ready>),
    Secondary(Box<Heir>),
}

/// A primary that is to be, now or some day.
struct Heir {
    options: PrimaryOptions,
    frames: u32,
    peer_limit: Duration,
    interval: Option<Duration>,
    follows: bool,
    on_checkpoint: OnCheckpoint,
    runtime: runtime::Handle,
}

/// One that may begin.
struct Ready {
    core: Primary,
    signals: Signals,
    release_on_exit: bool,
}

impl Heir {
    fn ready(self) -> Result<Ready> {
        let PrimaryOptions { policy, on_loss, release_on_exit, checkpoints, .. } = self.options;
        let inside = self.runtime.enter();
        let signals = Signals::start(checkpoints, &self.on_checkpoint)?;
        drop(inside);
        // One flow may hold a whole TCP window, and what its guest repeats of it, but not most of the buffers.
        let limits = Limits { queue: (self.frames / 2) as usize, ..Limits::default() };
        let core = Primary::new(policy, limits, on_loss, self.peer_limit, Mono::now()).beating(self.interval);
        let core = if self.follows { core.following(u64::from_ne_bytes(random()?)) } else { core };
        Ok(Ready { core, signals, release_on_exit })
    }

    /// Runs a secondary, and a primary once that has become one.
    fn follow(mut self, secondary: SecondaryThread, leading: &mpsc::Sender<Arc<Slot>>) -> Result<()> {
        let before = std::mem::take(&mut self.options.before);
        let Lead { mut datapath, ends, failover } = match secondary.run(before).context(LOST)? {
            Ended::Told => return Ok(()),
            Ended::Leads(lead) => *lead,
        };
        datapath.limit_agent(self.options.overdue);
        // There is room for the one that is ever sent; an agent that ends needs no link.
        let _ = leading.try_send(Arc::clone(&ends.slot));
        self.ready()?.run(datapath, ends, Some(failover))
    }
}

impl Ready {
    fn run(self, datapath: Datapath, ends: Ends, failover: Option<Failover>) -> Result<()> {
        let Self { core, signals, release_on_exit } = self;
        PrimaryThread::new(datapath, core, ends, signals, release_on_exit, failover).run().context(LOST)
    }
}

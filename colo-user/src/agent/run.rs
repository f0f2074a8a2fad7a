//! The control plane of an agent: starts the packet thread, makes links for it, serves the control socket, and ends on
//! SIGTERM or SIGINT.
//!
//! States: *starting* (everything that can be refused is refused here, with the interfaces as they were found),
//! *running*, *ending* (the packet thread releases or drops what it holds; a second signal ends at once).

use super::heart::{self, BeatLink, Heart, boot_of};
use super::packet::primary::PrimaryThread;
use super::packet::seat::{Failover, random};
use super::packet::secondary::SecondaryThread;
use super::packet::{Command, Ends, Handle, Port, channel};
use super::primary::{OnPeerLoss, Primary};
use super::secondary::Secondary;
use crate::checkpoint::{BackendSpec, OnCheckpoint, Signals};
use crate::compare::{Limits, Policy};
use crate::control::ControlSocket;
use crate::datapath::{Config, Datapath, DatapathError, Role as Side};
use crate::heartbeat;
use crate::judge::fence::FenceSpec;
use crate::judge::{JudgeSpec, Pair};
use crate::link::connect::{Connector, Slot};
use crate::link::endpoint::Endpoint;
use crate::link::frame::{HEARS_QEMU, Hello, Role};
use crate::mono::Mono;
use crate::qmp::Monitor;
use crate::qmp::command::Call;
use anyhow::{Context as _, Result, anyhow};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// What only a primary is told.
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
    /// What to tell QEMU first.
    pub before: Vec<Call>,
    /// Where it keeps what its next start must know.
    pub state: PathBuf,
}

/// What an agent is told.
#[derive(Debug)]
pub struct Options {
    /// The data path; its role is that of the agent.
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
    /// Set for a primary.
    pub primary: Option<PrimaryOptions>,
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
    let role = if options.primary.is_some() { Role::Primary } else { Role::Secondary };
    let (links, mut made) = mpsc::channel(1);
    let features = if options.qmp.is_some() { HEARS_QEMU } else { 0 };
    let boot = random()?;
    let hello = Hello { features, ..Hello::plain(role, boot) };
    let connector = Connector::new(options.peer.clone(), hello, Arc::clone(&slot), links)?;

    let (guest, uplink) = (options.datapath.guest.clone(), options.datapath.uplink.clone());
    let judge = options.alone.judge.clone();
    let mut packet = start_packet_thread(options, boot_of(boot), handle.clone(), port, slot).await?;
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

/// Attaches in the packet thread, which owns the data path for good; returns once that has worked, with the thread's end.
async fn start_packet_thread(
    options: Options,
    boot: u64,
    handle: Handle,
    port: Port,
    slot: Arc<Slot>,
) -> Result<oneshot::Receiver<Result<()>>> {
    let answered = handle.clone();
    let on_checkpoint: OnCheckpoint = Arc::new(move || {
        if !handle.send(Command::Cut) {
            warn!("a checkpoint came after the end of the packet thread");
        }
    });
    let Options { datapath: config, peer, peer_limit, primary, qmp, vm_limit, alone, .. } = options;
    let follows = qmp.is_some();
    let heart = heart::Options {
        links: options.heartbeat,
        settings: options.heartbeat_settings,
        pair: alone.pair.clone(),
        boot,
        uplink: config.uplink.clone(),
        realtime: config.realtime,
        probe: options.heartbeat_probe,
    };
    let heart = if heart.links.is_empty() { None } else { Some(Heart::start(heart, answered.clone())?) };
    let interval = heart.as_ref().map(Heart::interval);
    let monitor = qmp.map(Monitor::new).transpose()?;
    let ends = Ends { slot, peer: peer.to_string(), port, monitor, vm_limit, heart };
    let failover = if follows { Some(Failover::new(alone, peer_limit, vm_limit, answered)?) } else { None };
    debug_assert_eq!(primary.is_some(), config.role == Side::Primary);
    let (attached, is_attached) = oneshot::channel::<Result<(), DatapathError>>();
    let (ended, has_ended) = oneshot::channel();
    let primary = match primary {
        Some(p) => {
            let signals = Signals::start(p.checkpoints, &on_checkpoint)?;
            // One flow may hold a whole TCP window, and what its guest repeats of it, but not most of the buffers.
            let limits = Limits { queue: (config.frames / 2) as usize, ..Limits::default() };
            let core = Primary::new(p.policy, limits, p.on_loss, peer_limit, Mono::now()).beating(interval);
            let core = if follows { core.following(u64::from_ne_bytes(random()?)) } else { core };
            Some((core, signals, p.release_on_exit))
        }
        None => None,
    };
    thread::Builder::new().name("packets".into()).spawn(move || {
        let datapath = match Datapath::attach(&config) {
            Ok(datapath) => datapath,
            Err(error) => {
                let _ = attached.send(Err(error));
                return;
            }
        };
        let _ = attached.send(Ok(()));
        let outcome = match primary {
            Some((core, signals, release)) => {
                PrimaryThread::new(datapath, core, ends, signals, release, failover).run()
            }
            None => {
                let limits = crate::translate::Limits::default();
                let core = Secondary::new(limits, peer_limit).beating(interval);
                let core = if follows { core.following() } else { core };
                SecondaryThread::new(datapath, core, ends, failover).run()
            }
        };
        let _ = ended.send(outcome.context("the packet thread lost an interface"));
    })?;
    is_attached.await.context("the packet thread has panicked")??;
    Ok(has_ended)
}

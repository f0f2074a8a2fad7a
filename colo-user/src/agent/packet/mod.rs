//! The packet thread: the only owner of data path, core and link. It sleeps in poll(2) when there is nothing to do and
//! waits for nobody else. The control plane talks to it by [`Command`]s, which wake it.
//!
//! Each turn takes at most a named number of frames from each source, so that none starves another.

mod monitor;
pub mod primary;
pub mod seat;
pub mod secondary;
mod verbs;

use crate::agent::heart::Heart;
use crate::agent::status::Status;
use crate::datapath::{Attached, Captured, Datapath, HoldBackend, Ready};
use crate::heartbeat::Verdict;
use crate::judge::Answer;
use crate::judge::etcd::keeper::Tenure;
use crate::link::buffer::Outbox;
use crate::link::connect::{Connected, Slot};
use crate::link::frame::{ByeReason, HEARS_PATH, Message};
use crate::link::stream::{Fill, Link};
use crate::mono::Mono;
use crate::output;
use crate::path::{Carrying, Paths};
use crate::process;
use crate::qmp::Monitor;
use crate::vm::Told;
use monitor::Eye;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::warn;
pub use verbs::{Asked, Outcome, Wanted};

/// Most frames of guest output taken in one turn.
const CAPTURE_BATCH: usize = 256;
/// Most reads from the link in one turn.
const LINK_READS: usize = 4;
/// Least time between two looks at the data path's pressure.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks for connections that need no translation any more.
const JANITOR: Duration = Duration::from_secs(1);
/// How long an agent that ends waits for the uplink to take what was released.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// What the control plane tells the packet thread.
#[derive(Debug)]
pub enum Command {
    /// A link whose hellos are done.
    Link(Connected),
    /// A checkpoint has come: begin the cut.
    Cut,
    /// The judge's answer, in a term.
    Judged(u64, Answer),
    /// What the heart makes of the peer.
    Peer(Verdict),
    /// How it stands with the lease, where the judge gives one.
    Tenure(Tenure),
    /// Say how things stand.
    Status(oneshot::Sender<Status>),
    /// An operator orders something, or wants to know what would happen.
    Order(Box<Asked>),
    /// End in order.
    Exit,
}

/// The control plane's end.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Handle {
    /// Sends a command. False if the thread has ended.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        // The counter cannot be full: the thread reads it each turn.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        sent
    }
}

/// The packet thread's end.
#[derive(Debug)]
pub struct Port {
    commands: mpsc::Receiver<Command>,
    wake: Arc<OwnedFd>,
}

impl Port {
    fn next(&self) -> Option<Command> {
        self.commands.try_recv().ok()
    }

    /// The next command, waiting for it: for a thread that has nothing else to do.
    #[cfg(test)]
    pub(crate) fn recv_within(&self, limit: Duration) -> Option<Command> {
        self.commands.recv_timeout(limit).ok()
    }

    fn clear_wake(&self) {
        let mut count = [0; 8];
        // Nothing to read is the usual case.
        let _ = rustix::io::read(&self.wake, &mut count);
    }
}

/// Both ends.
///
/// # Errors
/// No descriptor is left.
pub fn channel() -> io::Result<(Handle, Port)> {
    let (sender, receiver) = mpsc::channel();
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok((Handle { commands: sender, wake: Arc::clone(&wake) }, Port { commands: receiver, wake }))
}

/// What a packet thread talks to besides its data path.
#[derive(Debug)]
pub struct Ends {
    /// The connector's side of the link.
    pub slot: Arc<Slot>,
    /// The link's endpoint, for the status.
    pub peer: String,
    /// Commands.
    pub port: Port,
    /// The monitor of the own QEMU, where it is followed.
    pub monitor: Option<Monitor>,
    /// How long that QEMU may take to answer, and its guest to run again.
    pub vm_limit: Duration,
    /// Heartbeats over other links, where there are any.
    pub heart: Option<Heart>,
}

/// The link while there is one.
struct Peer {
    link: Option<Link>,
    /// What it was told of the own interfaces over this link.
    told: Option<Carrying>,
    slot: Arc<Slot>,
    /// As given, for the status.
    name: String,
}

impl Peer {
    fn new(slot: Arc<Slot>, name: String) -> Self {
        Self { link: None, told: None, slot, name }
    }

    /// A link whose hellos are done.
    fn take(&mut self, connected: Connected) {
        self.told = None;
        self.link = Some(Link::new(connected.stream, connected.hello));
    }

    /// Tells which of the own interfaces carry frames, if that has changed.
    fn tell_path(&mut self, paths: &Paths) {
        let Some(link) = &mut self.link else { return };
        let now = Carrying::of(paths);
        if link.peer().features & HEARS_PATH != 0 && self.told.replace(now) != Some(now) {
            link.outbox().push(&Message::Path(now));
        }
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        self.link.as_mut().map(Link::outbox)
    }

    /// Closes the link, with a last word where there is one: the socket takes it, or the peer never knows.
    fn close(&mut self, bye: Option<(ByeReason, String)>) {
        let Some(mut link) = self.link.take() else { return };
        if let Some((reason, text)) = bye {
            if reason == ByeReason::TookOver {
                self.slot.rest();
            }
            link.outbox().push(&Message::Bye { reason, text: &text });
            link.flush();
        }
        self.slot.free();
    }

    /// Reads once from `link`, and says in the log why it is lost, if it is.
    fn read(link: &mut Link, peer: &str) -> Reading {
        match link.fill() {
            Ok(Fill::Some { more }) => Reading::Some { more },
            Ok(Fill::Empty) => Reading::Empty,
            Ok(Fill::Closed { partial }) => {
                warn!(
                    "link: the {peer} closed it{}",
                    if partial { " in the middle of a message" } else { "" }
                );
                Reading::Lost
            }
            Err(error) => {
                warn!("link: {error}");
                Reading::Lost
            }
        }
    }

    /// Writes what waits. False if the peer cannot keep up: the link is stalled. That it is lost is found by reading.
    fn flush(&mut self) -> bool {
        let Some(link) = &mut self.link else { return true };
        if link.outbox().stalled() {
            return false;
        }
        link.flush();
        true
    }

    fn wait(
        &self,
        datapath: &mut Datapath,
        port: &Port,
        eye: Option<&Eye>,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let mut fds: SmallVec<[BorrowedFd<'_>; 3]> = SmallVec::new();
        let mut writes: SmallVec<[bool; 3]> = SmallVec::new();
        let link = self.link.as_ref().map(|link| (link.as_fd(), link.wants_write()));
        let (has_link, monitor) = (link.is_some(), eye.and_then(Eye::poll));
        for (fd, write) in [Some((port.wake.as_fd(), false)), link, monitor].into_iter().flatten() {
            fds.push(fd);
            writes.push(write);
        }
        let wake = datapath.wait(&fds, &writes, timeout)?;
        let mut ready = wake.others.iter().map(|fd| *fd != Ready::default());
        if ready.next() == Some(true) {
            port.clear_wake();
        }
        let link = has_link && ready.next() == Some(true);
        Ok(Woken { link, monitor: monitor.is_some() && ready.next() == Some(true) })
    }
}

/// What a sleep ended for, besides frames: each read that would find nothing costs a request its part of the time.
#[derive(Clone, Copy, Debug)]
struct Woken {
    /// The link has something, or is closed.
    link: bool,
    /// The monitor of the own QEMU has.
    monitor: bool,
}

impl Woken {
    /// Before the first sleep nothing is known.
    const UNKNOWN: Self = Self { link: true, monitor: true };
}

/// Takes frames off the ring behind those that wait already; true if there may be more.
fn take(datapath: &mut Datapath, taken: &mut VecDeque<Captured>) -> bool {
    while taken.len() < CAPTURE_BATCH {
        let Some(captured) = datapath.next_captured() else { return false };
        taken.push_back(captured);
    }
    true
}

/// Whether the guest runs again by what was told.
fn runs(told: &VecDeque<Told>) -> bool {
    told.iter().any(|told| {
        matches!(
            told,
            Told::Ran(_) | Told::Doubtful { .. } | Told::Continued | Told::TookOver | Told::Placed { .. }
        )
    })
}

/// What a read from the link came to.
enum Reading {
    /// Bytes; another read is worth its call if there may be `more`.
    Some {
        more: bool,
    },
    Empty,
    Lost,
}

/// How long to sleep.
fn timeout(busy: bool, now: Mono, deadline: Option<Mono>) -> Option<Duration> {
    if busy { Some(Duration::ZERO) } else { deadline.map(|at| at.saturating_since(now)) }
}

/// The words for the data path in a status.
fn words(attached: Attached, backend: HoldBackend) -> (super::status::Attach, &'static str) {
    let attach = super::status::Attach { guest: attached.guest, uplink: attached.uplink };
    let hold = match backend {
        HoldBackend::Ringbuf => "ringbuf",
        HoldBackend::Afxdp | HoldBackend::Auto => "afxdp",
    };
    (attach, hold)
}

/// All counters under their names; those of the data path keep theirs where two parts count the same.
fn all_counters(
    datapath: &mut Datapath,
    core: impl Iterator<Item = (String, u64)>,
    peers_refused: u64,
) -> BTreeMap<String, u64> {
    let mut counters: BTreeMap<String, u64> = core.collect();
    counters.insert("peers_refused".into(), peers_refused);
    counters.insert(output::MISSING.into(), output::log_missing());
    counters.insert(process::UNLOGGED.into(), process::unlogged());
    for counter in datapath.counters().iter() {
        let name = counter.name;
        let name = if counters.contains_key(name) { format!("datapath_{name}") } else { name.to_owned() };
        counters.insert(name, counter.value);
    }
    counters
}

//! The thread: one turn reads what came, then tells the clock, then beats.
//!
//! What has arrived is read before time is told to the detector, so that a thread that was itself off its processor does not blame the
//! peer for what waited in its sockets.

use super::prober::Prober;
use super::{Options, Shared, Shown};
use crate::agent::packet::{Command, Handle};
use crate::datapath::{Answerer, set_realtime};
use crate::heartbeat::beat::MAX_LEN;
use crate::heartbeat::detector::PeerState;
use crate::heartbeat::{Beat, Condition, DecodeError, Detector, Event, HostState, LinkState, Verdict};

use crate::mono::Mono;
use colo_ebpf::liveness::MAGIC as PROBE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd as _;
use smallvec::SmallVec;
use socket2::SockRef;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// The link between the agents, among those of the detector.
const DATA: usize = 0;
/// Most datagrams taken from one link in one turn; the rest waits for the next.
const BATCH: usize = 32;
/// Least time between two reports.
const LOOK: Duration = Duration::from_millis(100);
/// Type of service of a beat, network control: it does not wait behind bulk data.
const NETWORK_CONTROL: u32 = 0xc0;

struct Thread {
    options: Options,
    shared: Arc<Shared>,
    agent: Handle,
    detector: Detector,
    sockets: Vec<UdpSocket>,
    /// Answers for this host, and asks the peer's.
    probing: Option<(Answerer, Prober)>,
    /// When the last message came over the data link, as known here; whether there is one.
    heard: u64,
    linked: bool,
    said: Condition,
    told: Option<Verdict>,
    looked: Mono,
    unsent: u64,
    refused: u64,
    /// What was complained of already.
    complained: SmallVec<[DecodeError; 4]>,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

/// Binds the links and starts the thread.
pub(super) fn start(options: Options, shared: Arc<Shared>, agent: Handle) -> io::Result<()> {
    let bind = |local: SocketAddr| {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("heartbeat: cannot listen on {local}: {error}"))
        };
        let socket = UdpSocket::bind(local).map_err(named)?;
        socket.set_nonblocking(true)?;
        let socket_ref = SockRef::from(&socket);
        // Where it is not to be had, a beat is one datagram among others.
        let _ = match local {
            SocketAddr::V4(_) => socket_ref.set_tos_v4(NETWORK_CONTROL),
            SocketAddr::V6(_) => socket_ref.set_tclass_v6(NETWORK_CONTROL),
        };
        io::Result::Ok(socket)
    };
    let sockets = options.links.iter().map(|link| bind(link.local)).collect::<io::Result<Vec<_>>>()?;
    let probing = match &options.probe {
        Some(interface) => {
            let ports = options.links.iter().map(|link| link.local.port()).collect();
            let mut answerer = Answerer::load(options.boot, ports).map_err(io::Error::other)?;
            let how = answerer.attach(interface).map_err(io::Error::other)?;
            info!("probes of this host are answered on {interface} ({how} XDP)");
            Some((answerer, Prober::new(&options.links, options.settings.limit())?))
        }
        None => None,
    };
    let now = Mono::now();
    let names = ["data".to_owned()].into_iter().chain(options.links.iter().map(ToString::to_string));
    let detector = Detector::new(options.settings, options.boot, names, now);
    let thread = Thread {
        options,
        shared,
        agent,
        detector,
        sockets,
        probing,
        heard: 0,
        linked: false,
        said: Condition::default(),
        told: None,
        looked: Mono::ZERO,
        unsent: 0,
        refused: 0,
        complained: SmallVec::new(),
        events: Vec::new(),
        buffer: Vec::with_capacity(MAX_LEN),
    };
    thread::Builder::new().name("heart".into()).spawn(move || thread.run())?;
    Ok(())
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = set_realtime(self.options.realtime.max(1)) {
            warn!("the heartbeat has no real-time priority ({error}): under load it may be late");
        }
        while !self.shared.stop.load(Ordering::Acquire) {
            self.turn();
            let deadline = self.detector.next_deadline();
            if let Err(error) = self.wait(deadline.saturating_since(Mono::now())) {
                warn!("the heartbeat ends: {error}");
                return;
            }
        }
    }

    fn turn(&mut self) {
        for link in 0..self.sockets.len() {
            self.read(link);
        }
        let now = Mono::now();
        self.data_link(now);
        self.detector.tick(now, &mut self.events);
        let condition = self.shared.condition();
        if std::mem::replace(&mut self.said, condition) != condition {
            self.detector.hurry(now);
        }
        let due = self.detector.due(now, condition);
        if let Some((answerer, prober)) = &mut self.probing {
            // The map takes a known key always.
            let _ = answerer.stamp(now);
            prober.turn(now, !due.is_empty());
        }
        for (link, beat) in due {
            self.send(link, &beat);
        }
        self.tell(now);
    }

    /// Takes the beats that came over the other link number `link`.
    fn read(&mut self, link: usize) {
        let mut bytes = [0; MAX_LEN + 1];
        for _ in 0..BATCH {
            let (length, from) = match self.sockets[link].recv_from(&mut bytes) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nothing, or what became of an earlier beat: the detector says when it matters.
                Err(_) => return,
            };
            let peer = self.options.links[link].peer;
            if bytes[..length].starts_with(&PROBE) {
                // Its kernel should have answered; the peer sees that it did not.
                continue;
            }
            if !same(from, peer) {
                self.refused += 1;
                continue;
            }
            match Beat::decode(&bytes[..length], &self.options.pair) {
                Ok(beat) => self.detector.heard(Mono::now(), link + 1, &beat, &mut self.events),
                Err(error) => self.complain(peer, error),
            }
        }
    }

    /// Once for each kind: whoever sends one sends many.
    fn complain(&mut self, peer: SocketAddr, error: DecodeError) {
        self.refused += 1;
        let told = |known: &DecodeError| std::mem::discriminant(known) == std::mem::discriminant(&error);
        if !self.complained.iter().any(told) {
            warn!("from {peer}: {error}");
            self.complained.push(error);
        }
    }

    /// What the packet thread says of the data link.
    fn data_link(&mut self, now: Mono) {
        let linked = self.shared.linked.load(Ordering::Acquire);
        let heard = self.shared.heard.load(Ordering::Acquire);
        if linked && heard > self.heard {
            self.heard = heard;
            self.detector.sign(now, DATA, Mono::from_nanos(heard), &mut self.events);
        }
        if std::mem::replace(&mut self.linked, linked) && !linked {
            self.detector.broken(now, DATA, &mut self.events);
        }
    }

    fn send(&mut self, link: usize, beat: &Beat) {
        self.buffer.clear();
        beat.encode(&self.options.pair, &mut self.buffer);
        let other = link - 1;
        if self.sockets[other].send_to(&self.buffer, self.options.links[other].peer).is_err() {
            self.unsent += 1;
        }
    }

    /// Tells the packet thread, the log, and whoever asks for a status.
    fn tell(&mut self, now: Mono) {
        let changed = !self.events.is_empty();
        for event in std::mem::take(&mut self.events) {
            self.log(event);
        }
        let due = now.saturating_since(self.looked) >= LOOK;
        if due {
            self.looked = now;
        }
        if changed || due {
            let condition = self.detector.verdict().condition;
            let host = self.probing.as_ref().map(|(_, prober)| prober.host());
            let age = host.and_then(|host| host.agent_age(now));
            let shown = Shown {
                report: self.detector.report(now),
                uplink_carrier: self.said.carrier,
                peer_uplink_carrier: condition.map(|c| c.carrier),
                peer_promotable: condition.map(|c| c.promotable),
                host: host.map_or(HostState::Unknown, |host| host.state(now)).word(),
                agent_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                unsent: self.unsent,
                refused: self.refused,
            };
            if let Ok(mut place) = self.shared.shown.try_lock() {
                *place = Some(shown);
            }
        }
        let verdict = self.detector.verdict();
        if self.told.replace(verdict) != Some(verdict) {
            // A thread that has ended needs no verdict.
            let _ = self.agent.send(Command::Peer(verdict));
        }
    }

    fn log(&self, event: Event) {
        match event {
            Event::Link { link, to: to @ LinkState::Lost } => {
                warn!("heartbeat over {}: {}", self.detector.name(link), to.word());
            }
            Event::Link { link, to: to @ (LinkState::Alive | LinkState::Waiting) } => {
                info!("heartbeat over {}: {}", self.detector.name(link), to.word());
            }
            Event::Peer { from, to: to @ PeerState::Lost, silent } => {
                warn!("heartbeat: the peer is {} (it was {}), silent for {silent:?}", to.word(), from.word());
            }
            Event::Peer { from: from @ PeerState::Lost, to, .. } => {
                info!("heartbeat: the peer is {} (it was {})", to.word(), from.word());
            }
            // Late and paused come and go: they are counted.
            Event::Link { to: LinkState::Late, .. } | Event::Peer { .. } => {}
            Event::Restarted { boot } => {
                warn!("heartbeat: the peer's agent was started anew, as {boot:016x}");
            }
        }
    }

    fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut fds: SmallVec<[PollFd<'_>; 8]> = self
            .sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        fds.push(PollFd::from_borrowed_fd(self.shared.wake.as_fd(), PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut count = [0; 8];
        // Nothing to read is the usual case.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        Ok(())
    }
}

/// Whether a datagram came from where the peer is said to be.
fn same(from: SocketAddr, peer: SocketAddr) -> bool {
    (from.ip().to_canonical(), from.port()) == (peer.ip().to_canonical(), peer.port())
}

//! The heart of an agent: a thread of its own that beats, listens for the peer's beats, and tells the packet thread what
//! it makes of them.
//!
//! The packet thread may be busy, or wait for a processor behind its guest; the heart is neither. It has a real-time priority where
//! that is to be had, works for microseconds at a time, and waits for nobody: what the packet thread tells it goes
//! through atomics, what it tells goes through that thread's commands, and only when something has changed. What is shown in a
//! status is left behind a lock that it takes only if nobody holds it.
//!
//! By file: [`link`] is the syntax of an endpoint, [`thread`] the thread, [`prober`] asks the peer's host. Dropping the [`Heart`] ends it within one beat.

pub mod link;
mod prober;
mod thread;

pub use link::BeatLink;

use super::packet::Handle;
use super::protection::{Protection, Reason};
use crate::failover::Elsewhere;
use crate::heartbeat::detector::PeerState;
use crate::heartbeat::{Condition, Report, Settings, Verdict};
use crate::judge::Pair;
use crate::link::frame::Hello;
use crate::mono::Mono;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a heart is told once.
#[derive(Clone, Debug)]
pub struct Options {
    /// The links, besides the one between the agents.
    pub links: Vec<BeatLink>,
    /// How often, and how many may be missed.
    pub settings: Settings,
    /// The pair's name, which every beat bears.
    pub pair: Pair,
    /// Drawn at the start of this agent.
    pub boot: u64,
    /// At least 1.
    pub realtime: u8,
    /// The interface on which probes of this host are answered; the peer's host is probed then, too.
    pub probe: Option<String>,
}

/// What is shown of it: `heartbeat` in a status.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    report: Report,
    /// Whether the own uplink carries frames.
    uplink_carrier: bool,
    /// Whether the peer's has, as it says.
    peer_uplink_carrier: Option<bool>,
    /// Whether the peer is a secondary that could take over at once.
    peer_promotable: Option<bool>,
    /// A word of [`HostState`](crate::heartbeat::HostState), of the peer's host.
    host: &'static str,
    /// How long ago the peer's agent was alive, as its host's kernel says, in milliseconds.
    agent_age_ms: Option<u64>,
    /// Beats that could not be sent.
    unsent: u64,
    /// Datagrams that were no beats of this pair, or came from elsewhere.
    refused: u64,
}

/// What both threads see.
#[derive(Debug)]
struct Shared {
    /// When the last message came over the data link, in nanoseconds.
    heard: AtomicU64,
    linked: AtomicBool,
    /// A [`Condition`], as its flags and its term.
    flags: AtomicU8,
    term: AtomicU64,
    stop: AtomicBool,
    wake: OwnedFd,
    shown: Mutex<Option<Shown>>,
}

impl Shared {
    fn condition(&self) -> Condition {
        let flags = self.flags.load(Ordering::Acquire);
        Condition::of(flags, self.term.load(Ordering::Acquire))
    }

    fn wake(&self) {
        // The counter cannot be full: the thread reads it each turn.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The packet thread's end.
#[derive(Debug)]
pub struct Heart {
    shared: Arc<Shared>,
    settings: Settings,
    verdict: Option<Verdict>,
    /// Of the agent at the other end of the data link.
    session: Option<u64>,
    told: (bool, Condition),
}

impl Heart {
    /// Binds the links and starts the thread; its verdicts go to `agent`.
    ///
    /// # Errors
    /// An address is not here, or taken.
    pub fn start(options: Options, agent: Handle) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            heard: AtomicU64::new(0),
            linked: AtomicBool::new(false),
            flags: AtomicU8::new(0),
            term: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            wake,
            shown: Mutex::new(None),
        });
        let settings = options.settings;
        thread::start(options, Arc::clone(&shared), agent)?;
        let told = (false, Condition::default());
        Ok(Self { shared, settings, verdict: None, session: None, told })
    }

    /// What goes over the data link for it: heartbeats this often.
    #[must_use]
    pub const fn interval(&self) -> std::time::Duration {
        self.settings.interval
    }

    /// A message came over the data link.
    pub fn heard(&self, now: Mono) {
        self.shared.heard.store(now.as_nanos(), Ordering::Release);
    }

    /// The data link is there, with the agent that said `hello`.
    pub fn connected(&mut self, now: Mono, hello: &Hello) {
        self.heard(now);
        self.session = Some(boot_of(hello.boot));
    }

    /// The thread has come to another verdict. Why the peer is lost, if it is: silent on all links, or gone, as another agent was
    /// started in the place of the one at the other end of the data link.
    pub fn judged(&mut self, verdict: Verdict) -> Option<Reason> {
        self.verdict = Some(verdict);
        let replaced = self.session.is_some() && self.session == verdict.replaced;
        if self.is_lost() { Some(Reason::PeerSilent) } else { replaced.then_some(Reason::PeerLost) }
    }

    /// The end of a turn of the packet thread: whether there is a data link, and what is said of this side.
    pub fn tell(&mut self, linked: bool, condition: Condition) {
        if self.told == (linked, condition) {
            return;
        }
        self.told = (linked, condition);
        if !linked {
            self.session = None;
        }
        self.shared.linked.store(linked, Ordering::Release);
        self.shared.term.store(condition.term, Ordering::Release);
        self.shared.flags.store(condition.flags(), Ordering::Release);
        self.shared.wake();
    }

    /// Whether the peer was heard over other links once, and now over none.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.elsewhere() == Elsewhere::Silent
    }

    /// For the failover machine. A peer that was never heard over these links is judged as if there were none.
    #[must_use]
    pub fn elsewhere(&self) -> Elsewhere {
        match self.verdict {
            Some(Verdict { state, condition: Some(condition), .. }) => match state {
                PeerState::Lost => Elsewhere::Silent,
                PeerState::Waiting => Elsewhere::Unknown,
                _ if condition.primary && condition.closed => Elsewhere::Closed(condition.term),
                PeerState::Alive | PeerState::Paused | PeerState::Late => Elsewhere::Alive,
            },
            _ => Elsewhere::Unknown,
        }
    }

    /// Whether the peer is a secondary that could take over in `term` at once, with an uplink that has carrier.
    #[must_use]
    pub fn relieves(&self, term: Option<u64>) -> bool {
        let alive = matches!(self.elsewhere(), Elsewhere::Alive);
        let condition = self.verdict.and_then(|verdict| verdict.condition);
        alive && condition.is_some_and(|c| c.promotable && c.carrier && Some(c.term) == term)
    }

    /// The words for a protection that was lost: a link beside a peer that lives is a lost link.
    #[must_use]
    pub fn name(&self, protection: Protection) -> Protection {
        match protection {
            Protection::Not(Reason::PeerLost | Reason::PeerSilent)
                if matches!(self.elsewhere(), Elsewhere::Alive | Elsewhere::Closed(_)) =>
            {
                Protection::Not(Reason::LinkLost)
            }
            other => other,
        }
    }

    /// What is shown of it; nothing before its first turn.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
    }
}

/// The start number that beats bear, of an agent that says hello with `boot`; never 0.
#[must_use]
pub fn boot_of(boot: [u8; 16]) -> u64 {
    boot.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)).max(1)
}

#[cfg(test)]
mod tests;

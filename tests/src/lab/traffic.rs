//! The load that lives through a failover: every kind of traffic at once, and each TCP connection kept for the whole run.
//!
//! [`run`] opens them all inside the client's namespace, one thread for each, and hands the caller a [`Control`]: it waits
//! until all are under way, makes its event, waits until all have gone on, and returns; then the connections
//! finish what they do and end. Where [`super::load`] opens a new connection after a failure, here a connection that
//! fails is what the run is about: it is not replaced, and the [`Report`] says why it broke and what it lost.
//!
//! Every byte is checked, either way: answers and downloads against content that this side makes itself, uploads by the hash
//! that the guest answers. A connection's requests have different seeds, so that bytes that come twice, late or on
//! another connection are wrong bytes.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    load::Wait,
    topology::{SERVER_V4, SERVER_V6},
};
use crate::netns::Netns;

mod connection;
mod report;

pub use report::{Connection, Report, Sample};

/// Connections of a burst, per IP version.
pub const BURST: usize = 24;
/// How often [`Control`] looks.
const LOOK: Duration = Duration::from_millis(5);

/// What one connection, or one row of short ones, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One request at the beginning and one at the end.
    Idle,
    /// Request and response.
    Lines,
    /// Bulk to the client.
    Download,
    /// Bulk to the guest.
    Upload,
    /// One connection after the other, a request on each.
    Short,
    /// Request and response on a connection that the guest opened.
    Dialled,
    /// UDP, sent again when no answer comes.
    Datagram,
    /// Many connections opened at one moment, when [`Control::burst`] says so.
    Burst,
}

impl Kind {
    /// For tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle keep-alive",
            Self::Lines => "request/response",
            Self::Download => "bulk to client",
            Self::Upload => "bulk to guest",
            Self::Short => "short connections",
            Self::Dialled => "opened by guest",
            Self::Datagram => "UDP echo",
            Self::Burst => "burst of connects",
        }
    }

    /// Whether it makes progress all the time.
    fn is_busy(self) -> bool {
        !matches!(self, Self::Idle | Self::Burst)
    }
}

/// What shall run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the content is made from.
    pub seed: u64,
    /// The connections.
    pub streams: Vec<Stream>,
    /// How long a connection waits for a byte, or to be accepted, before it is broken.
    pub patience: Duration,
}

/// One row of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// What it does.
    pub kind: Kind,
    /// The guest's address.
    pub server: IpAddr,
    /// Time between an answer and the next request.
    pub pause: Duration,
}

impl Plan {
    /// Everything at once, over both IP versions. What is small pauses, or it would be most of the traffic.
    pub fn all(seed: u64) -> Self {
        let paced = [
            (Kind::Idle, 0),
            (Kind::Lines, 5),
            (Kind::Download, 0),
            (Kind::Upload, 0),
            (Kind::Short, 2),
            (Kind::Dialled, 5),
            (Kind::Datagram, 5),
            (Kind::Burst, 0),
        ];
        let of =
            |server| paced.map(|(kind, pause)| Stream { kind, server, pause: Duration::from_millis(pause) });
        let streams = [of(SERVER_V4), of(SERVER_V6)].concat();
        Self { seed, streams, patience: Duration::from_secs(30) }
    }
}

/// What the connections and their control share.
#[derive(Debug)]
struct Shared<'a> {
    begun: Instant,
    ending: AtomicBool,
    burst: AtomicBool,
    /// Requests done, by stream.
    done: Vec<AtomicU64>,
    /// Streams that are over, well or not.
    ended: Vec<AtomicBool>,
    stop: &'a AtomicBool,
}

/// The caller's hand on the traffic.
#[derive(Debug)]
pub struct Control<'a> {
    shared: &'a Shared<'a>,
    streams: &'a [Stream],
}

impl Control<'_> {
    /// Time since the traffic began, as in the report.
    pub fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// Opens the burst's connections.
    pub fn burst(&self) {
        self.shared.burst.store(true, Ordering::Relaxed);
    }

    /// Requests done by now, by stream.
    pub fn progress(&self) -> Vec<u64> {
        self.shared.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every busy stream has done `requests` more than in `since`, idle ones their first. An error names those
    /// that have not, or that are over already.
    pub fn wait_for(&self, requests: u64, since: &[u64], within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let behind: Vec<String> = (self.streams.iter().zip(since).enumerate())
                .filter(|(index, (stream, since))| {
                    let done = self.shared.done[*index].load(Ordering::Relaxed);
                    match stream.kind {
                        Kind::Burst => false,
                        Kind::Idle => done == 0,
                        _ => done < *since + requests,
                    }
                })
                .map(|(_, (stream, _))| named(stream))
                .collect();
            let over: Vec<String> = (self.streams.iter().enumerate())
                .filter(|(index, stream)| {
                    stream.kind.is_busy() && self.shared.ended[*index].load(Ordering::Relaxed)
                })
                .map(|(_, stream)| named(stream))
                .collect();
            if !over.is_empty() {
                bail!("broken: {}", over.join("; "));
            }
            if behind.is_empty() {
                return Ok(());
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                bail!("the lab was stopped");
            }
            if Instant::now() > deadline {
                bail!("no {requests} further requests within {within:?}: {}", behind.join("; "));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until every stream has begun and done a few requests.
    pub fn wait_steady(&self, within: Duration) -> Result<()> {
        self.wait_for(3, &vec![0; self.streams.len()], within)
    }
}

/// `request/response, IPv6`.
fn named(stream: &Stream) -> String {
    let version = if stream.server.is_ipv4() { "" } else { ", IPv6" };
    format!("{}{version}", stream.kind.name())
}

/// Runs the plan inside `client` while `during` runs, ends the connections in order, and returns what both say. `stop` ends
/// every wait at once.
pub fn run<T: Send>(
    client: &Netns,
    plan: &Plan,
    stop: &AtomicBool,
    during: impl FnOnce(&Control<'_>) -> T,
) -> (T, Report) {
    let shared = Shared {
        begun: Instant::now(),
        ending: AtomicBool::new(false),
        burst: AtomicBool::new(false),
        done: plan.streams.iter().map(|_| AtomicU64::new(0)).collect(),
        ended: plan.streams.iter().map(|_| AtomicBool::new(false)).collect(),
        stop,
    };
    let shared = &shared;
    thread::scope(|scope| {
        let workers: Vec<_> = (plan.streams.iter().enumerate())
            .map(|(index, stream)| {
                scope.spawn(move || client.enter(|| connection::run(shared, plan, index, stream)))
            })
            .collect();
        let ending = Ending(&shared.ending);
        let outcome = during(&Control { shared, streams: &plan.streams });
        drop(ending);
        let mut report = Report { took: shared.begun.elapsed(), ..Report::default() };
        for worker in workers {
            report.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        report.samples.sort_by_key(|sample| sample.at);
        (outcome, report)
    })
}

/// Ends the connections also when the caller's part panics: the threads would be waited for without end.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A wait of no length.
fn no_wait(shared: &Shared<'_>) -> Wait {
    Wait { begun: shared.begun, length: Duration::ZERO }
}

#[cfg(test)]
mod tests;

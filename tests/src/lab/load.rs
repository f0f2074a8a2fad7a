//! What the client does, and the check of every byte it gets.
//!
//! A [`Load`] is one kind of [`Work`] done by some workers, each a thread inside the client's namespace, until
//! the time is over or the count is reached; a request under way is finished. Each answer is checked
//! against content that the client makes itself ([`super::content`]): a worker that sees a wrong
//! byte, an error or no answer within [`PATIENCE`] counts a failure and goes on with a new connection.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    content::Check,
    replica::{ECHO, HTTP, LINES},
};
use crate::netns::Netns;

pub(super) mod datagram;
mod http;
mod mix;
mod patient;

pub use http::{Http, Received, path};
pub use mix::mix;
pub use patient::{Patient, Wait};

/// How long a worker waits for the next byte.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Failures whose text is kept, per load.
const FAILURES_KEPT: usize = 8;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// HTTP downloads; on one connection, or each on its own that the server closes.
    Download {
        /// Bytes of the body.
        length: u64,
        /// A connection for each.
        close: bool,
    },
    /// HTTP uploads on one connection.
    Upload {
        /// Bytes of the body.
        length: u64,
    },
    /// Line protocol requests on one connection.
    Lines {
        /// Bytes of the answer.
        length: usize,
    },
    /// A connection, one line protocol request, and the end, which the client begins.
    Short {
        /// Bytes of the answer.
        length: usize,
    },
    /// UDP echo.
    Echo {
        /// Bytes of the datagram.
        length: usize,
    },
    /// ICMP echo, the kernel's own.
    Ping {
        /// Bytes of its data.
        length: usize,
    },
}

/// Some workers doing the same.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What the report calls it.
    pub name: &'static str,
    /// The guests' address.
    pub server: IpAddr,
    /// What each worker does.
    pub work: Work,
    /// Threads that do it at once.
    pub workers: u32,
    /// Time between an answer and a worker's next request.
    pub pause: Duration,
    /// Requests after which a worker has done enough.
    pub at_most: u64,
}

impl Load {
    /// One worker, one request.
    pub fn once(name: &'static str, server: IpAddr, work: Work) -> Self {
        Self { name, server, work, workers: 1, pause: Duration::ZERO, at_most: 1 }
    }
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The load's name.
    pub name: &'static str,
    /// Requests answered right.
    pub done: u64,
    /// Bytes of content checked, either direction.
    pub bytes: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Datagrams sent again.
    pub resent: u64,
    /// The first failures, said in full.
    pub failures: Vec<String>,
    /// How long each answered request took, sorted.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// The latency that `percent` of the requests did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default()
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(format!("{}: {error:#}", self.name));
        }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.resent += other.resent;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
        self.latencies.extend(other.latencies);
    }
}

/// Runs all loads at once inside `client` until `end` or `stop`, and returns an outcome for each.
pub fn run(client: &Netns, loads: &[Load], end: Instant, stop: &AtomicBool) -> Vec<Outcome> {
    thread::scope(|scope| {
        let workers: Vec<_> = loads
            .iter()
            .enumerate()
            .flat_map(|(index, load)| (0..load.workers).map(move |worker| (index, worker, load)))
            .map(|(index, worker, load)| {
                let first_seed = (index as u64) << 48 | u64::from(worker) << 32;
                (index, scope.spawn(move || client.enter(|| work(load, first_seed, end, stop))))
            })
            .collect();
        let mut outcomes: Vec<Outcome> =
            loads.iter().map(|load| Outcome { name: load.name, ..Outcome::default() }).collect();
        for (index, worker) in workers {
            outcomes[index].add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        for outcome in &mut outcomes {
            outcome.latencies.sort_unstable();
        }
        outcomes
    })
}

fn work(load: &Load, first_seed: u64, end: Instant, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome { name: load.name, ..Outcome::default() };
    let mut worker =
        Worker { server: load.server, work: load.work, http: None, lines: None, resent: 0, stop };
    let mut requests = 0;
    while requests < load.at_most && Instant::now() < end && !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match worker.request(first_seed + requests) {
            Ok(bytes) => {
                outcome.done += 1;
                outcome.bytes += bytes;
                outcome.latencies.push(begun.elapsed());
            }
            Err(error) => {
                (worker.http, worker.lines) = (None, None);
                outcome.fail(&error);
            }
        }
        requests += 1;
        thread::sleep(load.pause.min(end.saturating_duration_since(Instant::now())));
    }
    outcome.resent = worker.resent;
    outcome
}

/// One worker and the connection it keeps.
#[derive(Debug)]
struct Worker<'a> {
    server: IpAddr,
    work: Work,
    http: Option<Http<'a>>,
    lines: Option<BufReader<Patient<'a>>>,
    resent: u64,
    stop: &'a AtomicBool,
}

impl<'a> Worker<'a> {
    /// One request; the bytes that were checked.
    fn request(&mut self, seed: u64) -> Result<u64> {
        match self.work {
            Work::Download { length, close } => {
                let mut http = self.http()?;
                http.download(seed, length, close)?;
                if !close {
                    self.http = Some(http);
                }
                Ok(length)
            }
            Work::Upload { length } => {
                let mut http = self.http()?;
                http.upload(seed, length)?;
                self.http = Some(http);
                Ok(length)
            }
            Work::Lines { length } => {
                let mut lines = self.lines.take().map_or_else(|| self.lines(), Ok)?;
                ask(&mut lines, seed, length)?;
                self.lines = Some(lines);
                Ok(length as u64)
            }
            Work::Short { length } => {
                let mut lines = self.lines()?;
                ask(&mut lines, seed, length)?;
                end(&mut lines)?;
                Ok(length as u64)
            }
            Work::Echo { length } => {
                let sends = datagram::udp((self.server, ECHO).into(), seed, length, &[], self.stop)?;
                self.resent += u64::from(sends - 1);
                Ok(length as u64)
            }
            Work::Ping { length } => {
                let sends = datagram::ping(self.server, seed, length, self.stop)?;
                self.resent += u64::from(sends - 1);
                Ok(length as u64)
            }
        }
    }

    fn http(&mut self) -> Result<Http<'a>> {
        self.http.take().map_or_else(|| Http::connect((self.server, HTTP).into(), PATIENCE, self.stop), Ok)
    }

    fn lines(&self) -> Result<BufReader<Patient<'a>>> {
        Ok(BufReader::new(connect((self.server, LINES).into(), PATIENCE, self.stop)?))
    }
}

/// Connects from any port.
pub(super) fn connect(server: SocketAddr, patience: Duration, stop: &AtomicBool) -> Result<Patient<'_>> {
    Patient::connect(0, server, patience, stop).with_context(|| format!("connecting to {server}"))
}

/// One request of the line protocol.
pub(super) fn ask(lines: &mut BufReader<Patient<'_>>, seed: u64, length: usize) -> Result<()> {
    lines.get_mut().write_all(format!("{seed} {length}\n").as_bytes())?;
    let mut answer = vec![0; length + 1];
    lines.read_exact(&mut answer).context("waiting for a line")?;
    let mut check = Check::new();
    check.update(&answer[..length]);
    check.against(seed, length as u64)?;
    ensure!(answer[length] == b'\n', "the answer is not ended by a newline");
    Ok(())
}

/// Ends a connection from this side and waits for the other side's end.
pub(super) fn end(lines: &mut BufReader<Patient<'_>>) -> Result<()> {
    lines.get_ref().finish()?;
    let rest = lines.fill_buf().context("waiting for the end of the connection")?.len();
    ensure!(rest == 0, "{rest} bytes too many");
    Ok(())
}

#[cfg(test)]
mod tests;

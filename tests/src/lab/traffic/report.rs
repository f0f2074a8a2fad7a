//! What came of the traffic: per connection, and every request with its time.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{super::load::Wait, Kind};

/// One request that was answered right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it began, since the traffic began.
    pub at: Duration,
    /// How long it took.
    pub latency: Duration,
    /// What it was.
    pub kind: Kind,
}

/// What became of one connection, or of one row of short ones.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Kind and IP version.
    pub name: String,
    /// What it did.
    pub kind: Kind,
    /// Requests answered right.
    pub done: u64,
    /// Bytes of content checked, either direction.
    pub bytes: u64,
    /// Bytes that were due and did not come right: nothing is ever lost on a connection that lives.
    pub lost: u64,
    /// Datagrams sent again.
    pub resent: u64,
    /// The longest time in which it wanted to go on and could not.
    pub longest: Gap,
    /// Why it broke, if it did; of short ones, the first that did.
    pub broken: Option<String>,
    /// How many broke: one or none, but for short ones.
    pub failures: u64,
}

/// A stretch of time, since the traffic began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub at: Duration,
    /// How long it was.
    pub length: Duration,
}

impl Gap {
    /// A wait, in the time of the traffic.
    pub(super) fn of(wait: Wait, begun: Instant) -> Self {
        Self { at: wait.begun.saturating_duration_since(begun), length: wait.length }
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How long the traffic ran before it was told to end.
    pub took: Duration,
    /// In the order of the plan.
    pub connections: Vec<Connection>,
    /// In the order of time.
    pub samples: Vec<Sample>,
}

impl Report {
    pub(super) fn add(&mut self, (connection, samples): (Connection, Vec<Sample>)) {
        self.connections.push(connection);
        self.samples.extend(samples);
    }

    /// Requests answered right.
    pub fn done(&self) -> u64 {
        self.connections.iter().map(|connection| connection.done).sum()
    }

    /// Bytes that were due and did not come right.
    pub fn lost(&self) -> u64 {
        self.connections.iter().map(|connection| connection.lost).sum()
    }

    /// The TCP connection with the longest gap. Datagrams have their own timer, in the client.
    pub fn slowest(&self) -> Option<&Connection> {
        let tcp = self.connections.iter().filter(|connection| connection.kind != Kind::Datagram);
        tcp.max_by_key(|connection| connection.longest.length)
    }

    /// The longest gap of any TCP connection.
    pub fn longest(&self) -> Gap {
        self.slowest().map(|connection| connection.longest).unwrap_or_default()
    }

    /// What broke: empty if all went on.
    pub fn broken(&self) -> Vec<String> {
        let broken = |connection: &Connection| {
            let why = connection.broken.as_ref()?;
            Some(format!("{} ({} of its connections): {why}", connection.name, connection.failures))
        };
        self.connections.iter().filter_map(broken).collect()
    }

    /// The latency that `percent` of the requests of a kind did not exceed.
    pub fn percentile(&self, kind: Kind, percent: usize) -> Option<Duration> {
        let of_kind = self.samples.iter().filter(|sample| sample.kind == kind);
        let mut latencies: Vec<Duration> = of_kind.map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        latencies.get(latencies.len().checked_sub(1)? * percent / 100).copied()
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut text = format!(
            "  {:<26} {:>9} {:>9} {:>7} {:>9} {:>9} {:>11} {:>6}\n",
            "connection", "requests", "MiB", "resent", "p50 ms", "p99 ms", "longest ms", "lost"
        );
        for connection in &self.connections {
            let millis = |time: Option<Duration>| {
                time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
            };
            writeln!(
                text,
                "  {:<26} {:>9} {:>9.1} {:>7} {:>9} {:>9} {:>11} {:>6}",
                connection.name,
                connection.done,
                connection.bytes as f64 / f64::from(1 << 20),
                connection.resent,
                millis(self.percentile(connection.kind, 50)),
                millis(self.percentile(connection.kind, 99)),
                millis(Some(connection.longest.length)),
                connection.lost,
            )
            .expect("a string takes all that is written");
        }
        for broken in self.broken() {
            writeln!(text, "  ! {broken}").expect("a string takes all that is written");
        }
        text
    }
}

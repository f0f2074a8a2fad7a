//! What a client does, and what is measured of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    super::Better,
    both,
    checkpoints::Count,
    shadow,
    side::{Running, Side},
};
use crate::{
    lab::{
        load::{self, Load, Outcome, PATIENCE, Work},
        topology::SERVER_V4,
    },
    netns::Netns,
};

/// Bytes of one transfer in bulk; one follows the other on one connection.
const BULK: u64 = 4 << 20;
/// Requests before the clock starts: addresses are resolved and the server has its threads.
const WARM: u64 = 20;
/// Connections with requests at a time where there are many: what a server under load has.
const MANY: u32 = 16;
/// Longest time for a number of requests.
const ENOUGH: Duration = Duration::from_secs(1800);

/// One kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Requests with an answer of one byte, one after the other on one connection.
    Byte,
    /// With 1 KiB.
    Kilobyte,
    /// As [`Self::Byte`], on [`MANY`] connections at a time.
    Bytes,
    /// With 1 KiB.
    Kilobytes,
    /// In bulk from the guest to the client, one connection.
    Out,
    /// In bulk to the guest.
    In,
    /// HTTP requests with 1 KiB of answer, a connection for each, four at a time.
    Http,
}

/// One quantity of a case in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// What, with its unit.
    pub quantity: &'static str,
    /// Which way is better.
    pub better: Better,
    /// How much.
    pub value: f64,
}

impl Case {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 7] =
        [Self::Byte, Self::Kilobyte, Self::Bytes, Self::Kilobytes, Self::Out, Self::In, Self::Http];

    /// As it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Byte => "request/response, 1 B",
            Self::Kilobyte => "request/response, 1 KiB",
            Self::Bytes => "16 at a time, 1 B",
            Self::Kilobytes => "16 at a time, 1 KiB",
            Self::Out => "bulk, guest to client",
            Self::In => "bulk, client to guest",
            Self::Http => "HTTP, a connection each",
        }
    }

    /// Bytes of an answer.
    #[must_use]
    pub const fn answer(self) -> u64 {
        match self {
            Self::Byte | Self::Bytes => 1,
            Self::Kilobyte | Self::Kilobytes | Self::Http => 1024,
            Self::Out | Self::In => BULK,
        }
    }

    /// Connections at a time.
    #[must_use]
    pub const fn workers(self) -> u32 {
        match self {
            Self::Bytes | Self::Kilobytes => MANY,
            Self::Http => 4,
            _ => 1,
        }
    }

    fn load(self) -> Load {
        let work = match self {
            Self::Byte | Self::Kilobyte | Self::Bytes | Self::Kilobytes => {
                Work::Lines { length: self.answer() as usize }
            }
            Self::Out => Work::Download { length: BULK, close: false },
            Self::In => Work::Upload { length: BULK },
            Self::Http => Work::Download { length: self.answer(), close: true },
        };
        let workers = self.workers();
        Load { workers, at_most: u64::MAX, ..Load::once(self.name(), SERVER_V4, work) }
    }
}

/// How much of a case is done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// As much as can be in this time; what is under way is finished.
    For(Duration),
    /// So many requests, all connections together.
    Requests(u64),
}

/// Runs a case on a side, and its shadow beside it where the side has one.
pub fn measure(running: &Running, case: Case, amount: Amount) -> Result<Vec<Value>> {
    let client = &running.pair().topology.client;
    let never = AtomicBool::new(false);
    let bulk = matches!(case, Case::Out | Case::In);
    let warm = Load { workers: 1, at_most: if bulk { 1 } else { WARM }, ..case.load() };
    load::run(client, &[warm], Instant::now() + PATIENCE, &never);
    let (load, limit) = match amount {
        Amount::For(duration) => (case.load(), duration),
        Amount::Requests(n) => {
            (Load { at_most: n.div_ceil(u64::from(case.workers())), ..case.load() }, ENOUGH)
        }
    };
    if running.side == Side::Both
        && let Some(second) = &running.shadow
    {
        let begun = Instant::now();
        let mut latencies = both::work([client, second], SERVER_V4, case.answer(), limit)
            .with_context(|| format!("{}: the client of both VMs", case.name()))?;
        let took = begun.elapsed();
        latencies.sort_unstable();
        let done = latencies.len() as u64;
        let outcome = Outcome { done, latencies, ..Outcome::default() };
        return Ok(values(case, &outcome, took, None));
    }
    let done = AtomicBool::new(false);
    let shadows = running.shadow.iter().flat_map(|client| (0..case.workers()).map(move |_| client));
    thread::scope(|scope| {
        let shadow = |client: &'_ Netns| client.enter(|| shadow::work(case, SERVER_V4, &done));
        let shadows: Vec<_> = shadows.map(|client| scope.spawn(move || shadow(client))).collect();
        let begun = Instant::now();
        let outcome = load::run(client, &[load], begun + limit, &never).remove(0);
        let ended = Instant::now();
        done.store(true, Ordering::Relaxed);
        for shadow in shadows {
            let served = shadow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            served.with_context(|| format!("{}: the second VM's client", case.name()))?;
        }
        for failure in &outcome.failures {
            eprintln!("      {failure}");
        }
        Ok(values(case, &outcome, ended - begun, running.checkpoints((begun, ended))))
    })
}

/// What a round came to.
fn values(case: Case, outcome: &Outcome, took: Duration, checkpoints: Option<Count>) -> Vec<Value> {
    use Better::{Higher, Lower};
    let micros = |percent| outcome.percentile(percent).as_secs_f64() * 1e6;
    let rate = outcome.done as f64 / took.as_secs_f64();
    let mut values = match case {
        Case::Out | Case::In => {
            vec![("Mbit/s", Higher, outcome.bytes as f64 * 8.0 / took.as_secs_f64() / 1e6)]
        }
        _ => vec![
            (if case == Case::Http { "connections/s" } else { "transactions/s" }, Higher, rate),
            ("p50 us", Lower, micros(50)),
            ("p99 us", Lower, micros(99)),
        ],
    };
    values.push(("failed", Lower, outcome.failed as f64));
    if let Some(count) = checkpoints {
        let asked = count.asked as f64;
        if case == Case::Http {
            values.push(("checkpoints per 1,000", Lower, asked * 1000.0 / (outcome.done as f64).max(1.0)));
        } else {
            values.push(("checkpoints", Lower, asked));
        }
        values.push(("periodic checkpoints", Lower, count.periodic as f64));
    }
    values.into_iter().map(|(quantity, better, value)| Value { quantity, better, value }).collect()
}

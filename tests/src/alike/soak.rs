//! `colo-lab soak compare`: many seeds of both properties on all processors.

use super::{Failure, Property, agree, differ, holds};
use crate::lab::stop;
use serde_json::json;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Most failures that are shown.
const SHOWN: usize = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// How many seeds, each for both properties.
    pub sequences: u64,
    /// The first seed; each further one is the next.
    pub seed: u64,
    /// One JSON object on standard output in place of the text.
    pub json: bool,
}

/// Runs them, and says what came of it: success if nothing failed.
///
/// # Errors
/// Signals cannot be waited for.
pub fn soak(soak: &Soak) -> anyhow::Result<ExitCode> {
    stop::on_signals()?;
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failures: Mutex<Vec<(&str, Failure)>> = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || {
            while !stop::wanted() {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= soak.sequences {
                    break;
                }
                let seed = soak.seed.wrapping_add(n);
                for (name, property) in [("agree", agree as Property), ("differ", differ)] {
                    if let Err(failure) = holds(property, seed) {
                        failures.lock().expect("no worker panics").push((name, failure));
                    }
                }
            }
        };
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut said = Instant::now();
        while working.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(20));
            if said.elapsed() >= Duration::from_secs(1) {
                said = Instant::now();
                let done = next.load(Ordering::Relaxed).min(soak.sequences);
                let failed = failures.lock().expect("no worker panics").len();
                // A reader that went away is no reason to stop.
                let _ = writeln!(
                    io::stderr(),
                    "  {:>4} s  {done} of {} sequences, {failed} failed",
                    begun.elapsed().as_secs(),
                    soak.sequences
                );
            }
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let done = next.load(Ordering::Relaxed).min(soak.sequences);
    let mut failures = failures.into_inner().expect("no worker panics");
    failures.sort_by_key(|(_, failure)| failure.seed);
    if soak.json {
        let failed: Vec<_> = failures
            .iter()
            .map(|(property, failure)| json!({"property": property, "seed": failure.seed, "what": failure.what}))
            .collect();
        let all = json!({"sequences": done, "seed": soak.seed, "seconds": took, "failed": failed});
        writeln!(io::stdout(), "{all}")?;
    } else {
        for (property, failure) in failures.iter().take(SHOWN) {
            writeln!(io::stdout(), "FAILED {property}: {failure}")?;
        }
        writeln!(
            io::stdout(),
            "{done} sequences from seed {}, each said alike and otherwise, in {took:.1} s: {} failed",
            soak.seed,
            failures.len()
        )?;
    }
    Ok(if stop::wanted() {
        ExitCode::from(stop::STOPPED)
    } else if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! `colo-lab soak sim`: many schedules on all processors, and what they reached, as a table and as JSON.

use super::fault::Fault;
use super::{Broken, JudgeKind, Outcome, Plan, run, shortest};
use crate::lab::stop;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// How many schedules.
    pub schedules: u64,
    /// The first one's seed; each further one has the next.
    pub seed: u64,
    /// Whom the agents ask; without one each seed is run with both, one schedule after the other.
    pub judge: Option<JudgeKind>,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// An operator orders this and that.
    pub orders: bool,
    /// Show every event of what fails, or of the only schedule.
    pub trace: bool,
    /// One JSON object on standard output in place of the table.
    pub json: bool,
}

impl Soak {
    /// The seed and the plan of one of the schedules.
    fn schedule(&self, n: u64) -> (u64, Plan) {
        let (n, judge) = match self.judge {
            Some(judge) => (n, judge),
            None => (n / 2, JudgeKind::ALL[(n % 2) as usize]),
        };
        (self.seed.wrapping_add(n), Plan { judge, broken: self.broken, orders: self.orders, trace: false })
    }
}

/// What all schedules came to.
#[derive(Debug, Default)]
struct Sum {
    schedules: u64,
    events: u64,
    checkpoints: u64,
    answers: u64,
    reached: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    /// Seeds that failed, with the judge and what failed.
    failed: Vec<(u64, JudgeKind, String)>,
}

impl Sum {
    fn add(&mut self, (seed, plan): (u64, Plan), outcome: &Outcome) {
        self.schedules += 1;
        self.events += outcome.events;
        self.checkpoints += outcome.checkpoints;
        self.answers += outcome.answers;
        for mark in &outcome.reached {
            *self.reached.entry(mark).or_default() += 1;
        }
        for kind in &outcome.faults {
            *self.faults.entry(kind).or_default() += 1;
        }
        if let Some(violation) = &outcome.violation {
            self.failed.push((seed, plan.judge, violation.to_string()));
        }
    }

    fn join(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.checkpoints += other.checkpoints;
        self.answers += other.answers;
        for (mark, n) in other.reached {
            *self.reached.entry(mark).or_default() += n;
        }
        for (kind, n) in other.faults {
            *self.faults.entry(kind).or_default() += n;
        }
        self.failed.extend(other.failed);
    }

    fn json(&self, soak: &Soak, took: Duration) -> Value {
        json!({
            "seed": soak.seed,
            "judge": soak.judge.map(JudgeKind::name),
            "broken": soak.broken.map(Broken::name),
            "orders": soak.orders,
            "schedules": self.schedules,
            "seconds": took.as_secs_f64(),
            "events": self.events,
            "checkpoints": self.checkpoints,
            "answers": self.answers,
            "reached": self.reached,
            "faults": self.faults,
            "failed": self.failed
                .iter()
                .map(|(seed, judge, what)| json!({ "seed": seed, "judge": judge.name(), "what": what }))
                .collect::<Vec<_>>(),
        })
    }

    fn table(&self, soak: &Soak, took: Duration) -> String {
        let rate = self.schedules as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
        let mut text = format!(
            "{} schedules from seed {} in {:.1} s ({rate:.0}/s): {} events, {} checkpoints, {} answers, {} failed\n",
            self.schedules,
            soak.seed,
            took.as_secs_f64(),
            self.events,
            self.checkpoints,
            self.answers,
            self.failed.len()
        );
        let faults =
            Fault::KINDS.iter().map(|kind| (*kind, self.faults.get(kind).copied().unwrap_or_default()));
        let reached = self.reached.iter().map(|(mark, n)| (*mark, *n));
        for (title, rows) in [("went wrong", faults.collect::<Vec<_>>()), ("reached", reached.collect())] {
            writeln!(text, "\n  {title:<32} {:>9} {:>8}", "schedules", "share").expect("a string takes it");
            for (name, n) in rows {
                let share = n as f64 * 100.0 / self.schedules.max(1) as f64;
                writeln!(text, "  {name:<32} {n:>9} {share:>7.2}%").expect("a string takes it");
            }
        }
        text
    }
}

/// Runs them, and says what came of it: success if nothing failed.
///
/// # Errors
/// Signals cannot be waited for.
pub fn soak(soak: &Soak) -> anyhow::Result<ExitCode> {
    stop::on_signals()?;
    // What the cores say of themselves when they fail is part of the outcome.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let failures = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let working: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut own = Sum::default();
                    while !stop::wanted() {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= soak.schedules {
                            break;
                        }
                        let (seed, plan) = soak.schedule(n);
                        let outcome = run(seed, plan);
                        if let Some(violation) = &outcome.violation {
                            failures.fetch_add(1, Ordering::Relaxed);
                            // At once: what follows may take hours.
                            let judge = plan.judge.name();
                            let _ = writeln!(io::stderr(), "  FAILED seed {seed} ({judge}): {violation}");
                        }
                        own.add((seed, plan), &outcome);
                    }
                    sum.lock().expect("no worker panics").join(own);
                })
            })
            .collect();
        let mut said = Instant::now();
        while working.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(20));
            if said.elapsed() >= Duration::from_secs(1) {
                said = Instant::now();
                let done = next.load(Ordering::Relaxed).min(soak.schedules);
                let rate = done as f64 / begun.elapsed().as_secs_f64();
                let failed = failures.load(Ordering::Relaxed);
                // A reader that went away is no reason to stop.
                let _ = writeln!(
                    io::stderr(),
                    "  {:>4} s  {done} of {} schedules, {rate:.0}/s, {failed} failed",
                    begun.elapsed().as_secs(),
                    soak.schedules
                );
            }
        }
    });
    let took = begun.elapsed();
    let mut sum = sum.into_inner().expect("no worker panics");
    sum.failed.sort();
    let mut text = if soak.json { sum.json(soak, took).to_string() } else { sum.table(soak, took) };
    if !soak.json {
        text.push_str(&failures_text(soak, &sum));
    }
    writeln!(io::stdout(), "{text}")?;
    Ok(if stop::wanted() {
        ExitCode::from(stop::STOPPED)
    } else if sum.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Most failures that are named.
const NAMED: usize = 20;

/// The first failures, of the first of them the shortest schedule, and with a trace what happened in it.
fn failures_text(soak: &Soak, sum: &Sum) -> String {
    let mut text = String::new();
    for (seed, judge, what) in sum.failed.iter().take(NAMED) {
        text.push_str(&format!("\n  FAILED seed {seed} ({}): {what}", judge.name()));
    }
    if let Some((seed, judge, _)) = sum.failed.first() {
        let plan = Plan { judge: *judge, broken: soak.broken, orders: soak.orders, trace: true };
        let failed = shortest(*seed, plan);
        text.push_str(&format!("\n\nseed {seed} fails with these alone:\n  {}", failed.faults.join("\n  ")));
        let trace = &failed.outcome.trace;
        let shown = if soak.trace { trace.len() } else { 40 };
        text.push_str(&format!("\n{}\n", trace[trace.len() - shown.min(trace.len())..].join("\n")));
        let broken = soak.broken.map_or_else(String::new, |broken| format!(" --broken {}", broken.name()));
        let orders = if soak.orders { " --orders" } else { "" };
        let judge = judge.name();
        text.push_str(&format!(
            "again: cargo xtask soak sim --judge {judge} --seed {seed} --schedules 1 --trace{broken}{orders}\n"
        ));
    } else if soak.trace && soak.schedules == 1 {
        let (seed, plan) = soak.schedule(0);
        text.push_str(&run(seed, Plan { trace: true, ..plan }).trace.join("\n"));
    }
    text
}

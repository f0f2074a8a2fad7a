//! `colo-lab soak`: the cases of [`super::failover`] again and again, and many short connections on guests that agree.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    failover::{self, Outcome, TWICE},
    protected::{Options, Protected},
    watch::Side,
};
use crate::lab::{
    child::Programs,
    load::{self, Load, Work},
    report::say,
    stop::{self, STOP},
    topology::SERVER_V4,
};

/// Runs each case `runs` times with seeds from `seed` on, and prints a table.
pub fn failover(programs: &Programs, runs: u64, case: Option<&str>, seed: u64) -> Result<ExitCode> {
    stop::on_signals()?;
    let twice = case.is_none_or(|case| case == TWICE);
    let cases = match case {
        None => failover::Case::all(),
        Some(TWICE) => Vec::new(),
        Some(name) => failover::named(name)?,
    };
    let mut rows = Vec::new();
    for case in cases {
        rows.push(Row::run(&case.to_string(), runs, seed, |seed| {
            failover::run(programs, case, seed, &STOP)
        })?);
    }
    if twice {
        rows.push(Row::run(TWICE, runs, seed, |seed| failover::run_twice(programs, seed, &STOP))?);
    }
    say!("\n{}", table(&rows));
    Ok(if stop::wanted() {
        ExitCode::from(stop::STOPPED)
    } else if rows.iter().all(|row| row.failed.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the runs of one case came to.
#[derive(Debug, Default)]
struct Row {
    name: String,
    runs: usize,
    /// Seeds of the runs in which something was wrong.
    failed: Vec<u64>,
    /// Longest gaps, one for each run.
    gaps: Vec<Duration>,
    lost: u64,
}

impl Row {
    fn run(name: &str, runs: u64, seed: u64, mut run: impl FnMut(u64) -> Result<Outcome>) -> Result<Self> {
        let mut row = Self { name: name.to_owned(), ..Self::default() };
        for seed in seed..seed + runs {
            if stop::wanted() {
                break;
            }
            let begun = Instant::now();
            let outcome = match run(seed) {
                Err(_) if stop::wanted() => break,
                outcome => outcome?,
            };
            let well = if outcome.wrong.is_empty() { "ok" } else { "FAILED" };
            let went_on = outcome.went_on.map_or_else(|| "-".to_owned(), |time| format!("{time:.0?}"));
            say!(
                "{name} seed {seed}: {well}, went on after {went_on}, longest gap {:.0?} ({}), {} bytes lost ({:.0?})",
                outcome.longest,
                outcome.slowest,
                outcome.lost,
                begun.elapsed()
            );
            row.runs += 1;
            row.gaps.push(outcome.longest);
            row.lost += outcome.lost;
            if !outcome.wrong.is_empty() {
                row.failed.push(seed);
                say!("  {}\n{}", outcome.wrong.join("\n  "), outcome.seen);
            }
        }
        row.gaps.sort_unstable();
        Ok(row)
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28} {:>4} {:>4} {:>13} {:>12} {:>10}  failed seeds\n",
        "case", "runs", "ok", "median gap ms", "worst gap ms", "bytes lost"
    );
    for row in rows {
        let millis = |gap: Option<&Duration>| gap.map_or(0.0, |gap| gap.as_secs_f64() * 1e3);
        let seeds: Vec<String> = row.failed.iter().map(u64::to_string).collect();
        text += &format!(
            "{:<28} {:>4} {:>4} {:>13.0} {:>12.0} {:>10}  {}\n",
            row.name,
            row.runs,
            row.runs - row.failed.len(),
            millis(row.gaps.get(row.gaps.len() / 2)),
            millis(row.gaps.last()),
            row.lost,
            seeds.join(" ")
        );
    }
    text
}

/// Bytes of each short connection's answer.
const SHORT: u64 = 1024;
/// How many are open at a time.
const AT_ONCE: u32 = 4;
/// Checkpoints that are not periodic, per thousand connections: what agreeing guests stay below.
const LIMIT: f64 = 0.1;

/// Opens so many HTTP connections, a request on each, and counts the checkpoints that were asked for.
pub fn short(programs: &Programs, connections: u64) -> Result<ExitCode> {
    stop::on_signals()?;
    ensure!(connections > 0, "no connections, no rate");
    let options = Options { delay: Duration::from_secs(20), ..Options::default() };
    let pair = Protected::start(programs, options, &STOP)?;
    let each = connections.div_ceil(u64::from(AT_ONCE));
    let work = Work::Download { length: SHORT, close: true };
    let load = Load { workers: AT_ONCE, at_most: each, ..Load::once("short HTTP", SERVER_V4, work) };
    // Far more than they take: a run that hangs ends too.
    let limit = Instant::now() + Duration::from_millis(100) * u32::try_from(connections)?;
    let begun = Instant::now();
    let outcome = load::run(&pair.pair.topology.client, &[load], limit, &STOP).remove(0);
    let took = begun.elapsed();
    if stop::wanted() {
        return Ok(ExitCode::from(stop::STOPPED));
    }
    let status = pair.status(Side::First)?;
    let (came, asked) = (pair.journal.pauses("primary").len(), status.checkpoints());
    let rate = asked as f64 * 1e3 / outcome.done.max(1) as f64;
    say!(
        "{} connections in {:.0} s ({:.0}/s), {} failed; {came} checkpoints, {asked} of them asked for ({}): {rate:.3} per 1,000",
        outcome.done,
        took.as_secs_f64(),
        outcome.done as f64 / took.as_secs_f64(),
        outcome.failed,
        status.json()["checkpoints"]["by"],
    );
    for failure in &outcome.failures {
        say!("  {failure}");
    }
    for divergence in status.divergences() {
        say!("  {divergence}");
    }
    let well = outcome.failed == 0 && outcome.done >= connections && rate < LIMIT;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_what_failed_by_seed() {
        let outcome = |seed: u64| Outcome {
            wrong: if seed == 8 { vec!["wrong".into()] } else { Vec::new() },
            longest: Duration::from_millis(seed),
            slowest: String::new(),
            went_on: None,
            lost: 0,
            seen: String::new(),
        };
        let row = Row::run("case", 3, 7, |seed| Ok(outcome(seed))).unwrap();
        assert_eq!((row.runs, row.failed.as_slice()), (3, &[8][..]));
        let table = table(&[row]);
        assert!(
            table.ends_with(
                "case                            3    2             8            9          0  8\n"
            ),
            "{table}"
        );
    }
}

//! `colo-lab soak`: the cases of [`super::failover`] again and again, [`mod@takeover`] in every setting, and many short connections on
//! guests that agree.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    failover::{Outcome, Run},
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

mod takeover;

pub use takeover::takeover;

/// Runs each case `runs` times with seeds from `seed` on, and prints a table. What fails is said, and the next run begins.
pub fn failover(programs: &Programs, runs: u64, only: Option<&str>, seed: u64) -> Result<ExitCode> {
    stop::on_signals()?;
    let cases = only.map_or_else(|| Ok(Run::all()), Run::named)?;
    let mut rows = Vec::new();
    for case in cases {
        let mut row = Row { name: case.to_string(), ..Row::default() };
        for seed in seed..seed + runs {
            if stop::wanted() {
                break;
            }
            let begun = Instant::now();
            let outcome = match case.run(programs, seed, &STOP) {
                Err(_) if stop::wanted() => break,
                Err(error) => Outcome { wrong: vec![format!("the set-up: {error:#}")], ..Outcome::default() },
                Ok(outcome) => outcome,
            };
            say!("{}", line(&row.name, seed, &outcome, begun.elapsed()));
            row.add(seed, outcome);
        }
        rows.push(row);
    }
    say!("\n{}", table(&rows));
    let failures: Vec<String> = rows.iter().flat_map(Row::failures).collect();
    if !failures.is_empty() {
        say!("{} failed:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(if stop::wanted() {
        ExitCode::from(stop::STOPPED)
    } else if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Of two in the middle the longer one.
fn median_and_worst(times: &[Duration]) -> [Option<Duration>; 2] {
    let mut times = times.to_vec();
    times.sort_unstable();
    [times.get(times.len() / 2).copied(), times.last().copied()]
}

fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", time.as_secs_f64() * 1e3))
}

/// What one run came to, and all that is seen of one that failed.
fn line(name: &str, seed: u64, outcome: &Outcome, took: Duration) -> String {
    let well = if outcome.wrong.is_empty() { "ok" } else { "FAILED" };
    let mut text = format!(
        "{name} seed {seed}: {well}, other side heard after {} ms, first answer after {} ms, all went on after {} ms, {} bytes lost, {} segments taken back \
         ({:.0} s)",
        millis(outcome.spoke),
        millis(outcome.answered),
        millis(outcome.went_on),
        outcome.lost,
        outcome.taken_back,
        took.as_secs_f64()
    );
    let gaps: Vec<String> =
        outcome.gaps.iter().map(|(kind, gap)| format!("{} {}", kind.name(), millis(Some(*gap)))).collect();
    if !gaps.is_empty() {
        text += &format!("\n  longest gaps, ms: {}", gaps.join(", "));
    }
    if !outcome.wrong.is_empty() {
        text += &format!("\n  {}\n{}", outcome.wrong.join("\n  "), outcome.seen);
    }
    text
}

/// What the runs of one case came to.
#[derive(Debug, Default)]
struct Row {
    name: String,
    runs: usize,
    /// Seed and first fault of the runs in which something was wrong.
    failed: Vec<(u64, String)>,
    /// One for each run that has one.
    answered: Vec<Duration>,
    gaps: Vec<Duration>,
    lost: u64,
    taken_back: u64,
}

impl Row {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        self.answered.extend(outcome.answered);
        self.gaps.push(outcome.longest);
        self.lost += outcome.lost;
        self.taken_back += outcome.taken_back;
        let fault = outcome.wrong.into_iter().next();
        self.failed.extend(fault.map(|fault| (seed, fault)));
    }

    /// A line for each run that failed, with what repeats it.
    fn failures(&self) -> impl Iterator<Item = String> {
        self.failed.iter().map(|(seed, fault)| {
            let fault = fault.lines().next().unwrap_or_default();
            format!("  --only {} --seed {seed} --runs 1: {fault}", self.name)
        })
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["case", "runs", "ok", "answer ms", "worst", "gap ms", "worst", "bytes lost", "taken back"];
    let mut text = row(head.map(str::to_owned));
    for Row { name, runs, failed, answered, gaps, lost, taken_back } in rows {
        let [answer, worst_answer] = median_and_worst(answered).map(millis);
        let [gap, worst_gap] = median_and_worst(gaps).map(millis);
        let (ok, runs) = ((runs - failed.len()).to_string(), runs.to_string());
        let (lost, back) = (lost.to_string(), taken_back.to_string());
        text += &row([name.clone(), runs, ok, answer, worst_answer, gap, worst_gap, lost, back]);
    }
    text
}

fn row([name, runs, ok, answer, worst_answer, gap, worst_gap, lost, back]: [String; 9]) -> String {
    format!(
        "{name:<28} {runs:>4} {ok:>4} {answer:>9} {worst_answer:>6} {gap:>6} {worst_gap:>6} {lost:>10} {back:>10}\n"
    )
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
    use crate::lab::traffic::Kind;

    #[test]
    fn a_row_counts_what_failed_by_seed() {
        let mut row = Row { name: "case".into(), ..Row::default() };
        for seed in 7..10 {
            let wrong = if seed == 8 { vec!["wrong".into(), "and more".into()] } else { Vec::new() };
            let answered = (seed != 8).then_some(Duration::from_millis(seed * 10));
            row.add(
                seed,
                Outcome { wrong, answered, longest: Duration::from_millis(seed), ..Outcome::default() },
            );
        }
        assert_eq!(row.failures().collect::<Vec<_>>(), ["  --only case --seed 8 --runs 1: wrong"]);
        let table = table(&[row]);
        let last =
            "case                            3    2        90     90      8      9          0          0\n";
        assert!(table.ends_with(last), "{table}");
    }

    #[test]
    fn a_line_says_what_each_kind_waited() {
        let gaps = [(Kind::Lines, Duration::from_millis(12)), (Kind::Short, Duration::from_millis(3))].into();
        let wrong = vec!["broken".to_owned()];
        let outcome = Outcome { gaps, wrong, lost: 5, seen: "logs".into(), ..Outcome::default() };
        assert_eq!(
            line("case", 1, &outcome, Duration::from_secs(2)),
            "case seed 1: FAILED, other side heard after - ms, first answer after - ms, all went on after - ms, 5 bytes lost, \
             0 segments taken back (2 s)\n  \
             longest gaps, ms: request/response 12, short connections 3\n  broken\nlogs"
        );
    }
}

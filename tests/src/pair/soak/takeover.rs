//! `colo-lab soak takeover`: the primary's host is killed under all traffic at once, again and again, with the agents set to
//! find out in each of several ways; how long a client waits, beside the time that is set.
//!
//! A pair is used up by its takeover: each run boots its own. Two times are measured from the kill on, by the client: until
//! the secondary's first frame on its switch, and until the first answer of the secondary's guest.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use colo_user::failover::Config;
use serde_json::{Value, json};

use super::{line, median_and_worst, millis};
use crate::{
    lab::{
        child::Programs,
        report::say,
        stop::{self, STOP},
    },
    pair::{
        failover::{Case, Event, Moment, Outcome, run_as},
        protected::{Beats, Etcd, Options},
    },
};

/// What is lost, and when: the seed picks the instant.
const CASE: Case = Case { event: Event::PrimaryHost, moment: Moment::Steady };
/// `--peer-timeout` where nothing is said, in milliseconds.
const DEFAULT: u64 = 2000;

/// How the pair is set to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    /// `--peer-timeout`, in milliseconds.
    peer_timeout: u64,
    heartbeat: Option<Beats>,
    etcd: Option<Etcd>,
}

/// Every setting: the judge's defaults, and the shortest times that are allowed. etcd itself gives no lease that is shorter
/// than one and a half of its election timeouts, in whole seconds.
const SETTINGS: [Setting; 6] = [
    Setting { name: "lock", peer_timeout: DEFAULT, heartbeat: None, etcd: None },
    Setting {
        name: "lock-short",
        peer_timeout: 100,
        heartbeat: Some(Beats { interval: 20, multiplier: 4 }),
        etcd: None,
    },
    etcd("etcd-1", 1, 5, DEFAULT),
    etcd("etcd-1-short", 1, 2, 1000),
    etcd("etcd-3", 3, 5, DEFAULT),
    etcd("etcd-3-short", 3, 2, 1000),
];

const fn etcd(name: &'static str, members: usize, ttl: u64, peer_timeout: u64) -> Setting {
    Setting { name, peer_timeout, heartbeat: None, etcd: Some(Etcd { members, ttl }) }
}

impl Setting {
    /// All, or the one with this name; an error names all.
    fn named(only: Option<&str>) -> Result<Vec<Self>> {
        let found: Vec<Self> =
            SETTINGS.into_iter().filter(|setting| only.is_none_or(|only| only == setting.name)).collect();
        let names = SETTINGS.map(|setting| setting.name).join(", ");
        ensure!(!found.is_empty(), "no setting {:?}; there are {names}", only.unwrap_or_default());
        Ok(found)
    }

    fn options(&self) -> Options {
        let timeout = ["--peer-timeout".to_owned(), self.peer_timeout.to_string()];
        Options { heartbeat: self.heartbeat, etcd: self.etcd, both: timeout.into(), ..Options::default() }
    }

    /// The secondary asks its judge so long after it has heard the primary last.
    fn asks(&self) -> Duration {
        let lease = Duration::from_millis(self.peer_timeout);
        lease + Config::margin(lease)
    }

    /// What etcd gives the primary's lease, counted from its last renewal.
    fn lease(&self) -> Option<Duration> {
        self.etcd.map(|etcd| Duration::from_secs(etcd.ttl))
    }

    /// The set detection time: the secondary may have its yes so long after the primary's last sign of life, at the latest.
    fn set(&self) -> Duration {
        self.asks().max(self.lease().unwrap_or_default())
    }

    /// What it consists of, for a person.
    fn words(&self) -> String {
        let timeout = Duration::from_millis(self.peer_timeout);
        let mut text = format!(
            "--peer-timeout {} and {} more until the secondary asks",
            self.peer_timeout,
            millis(Some(self.asks() - timeout))
        );
        if let Some(Beats { interval, multiplier }) = self.heartbeat {
            text += &format!("; --heartbeat-interval {interval} --heartbeat-multiplier {multiplier}");
        }
        match self.etcd {
            None => text += "; a lock",
            Some(Etcd { members, ttl }) => {
                text += &format!(
                    "; etcd of {members}, a lease of {ttl} s, renewed three times in it; ended ones are looked for twice a second"
                );
            }
        }
        text
    }
}

/// What the runs of one setting came to.
#[derive(Debug)]
struct Row {
    setting: Setting,
    runs: usize,
    /// Seed and what was wrong.
    failed: Vec<(u64, String)>,
    /// Of the runs in which nothing was wrong.
    spoke: Vec<Duration>,
    answered: Vec<Duration>,
    went_on: Vec<Duration>,
    lost: u64,
    broken: u64,
}

impl Row {
    const fn new(setting: Setting) -> Self {
        Self {
            setting,
            runs: 0,
            failed: Vec::new(),
            spoke: Vec::new(),
            answered: Vec::new(),
            went_on: Vec::new(),
            lost: 0,
            broken: 0,
        }
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        self.lost += outcome.lost;
        self.broken += outcome.broken;
        match outcome.wrong.into_iter().next() {
            Some(fault) => self.failed.push((seed, fault)),
            None => {
                self.spoke.extend(outcome.spoke);
                self.answered.extend(outcome.answered);
                self.went_on.extend(outcome.went_on);
            }
        }
    }

    fn text(&self) -> String {
        let Self { setting, runs, failed, spoke, answered, went_on, lost, broken } = self;
        let set = millis(Some(setting.set()));
        let [heard, worst_heard] = median_and_worst(spoke).map(millis);
        let [answer, worst_answer] = median_and_worst(answered).map(millis);
        let [all, worst_all] = median_and_worst(went_on).map(millis);
        let ok = runs - failed.len();
        format!(
            "{:<13} {set:>6} {runs:>4} {ok:>4} {heard:>8} {worst_heard:>6} {answer:>8} {worst_answer:>6} {all:>7} {worst_all:>6} \
             {lost:>10} {broken:>6}\n",
            setting.name
        )
    }

    fn json(&self) -> Value {
        let Setting { name, peer_timeout, heartbeat, etcd } = self.setting;
        let times = |times: &[Duration]| {
            let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let [median, worst] = median_and_worst(times).map(|time| time.map(whole));
            json!({ "median": median, "worst": worst, "all": times.iter().copied().map(whole).collect::<Vec<_>>() })
        };
        json!({
            "setting": name,
            "peer_timeout_ms": peer_timeout,
            "asks_after_ms": self.setting.asks().as_millis() as u64,
            "heartbeat_interval_ms": heartbeat.map(|beats| beats.interval),
            "heartbeat_multiplier": heartbeat.map(|beats| beats.multiplier),
            "etcd_members": etcd.map(|etcd| etcd.members),
            "lease_ms": self.setting.lease().map(|lease| lease.as_millis() as u64),
            "set_ms": self.setting.set().as_millis() as u64,
            "runs": self.runs,
            "failed": self.failed.iter().map(|(seed, what)| json!({ "seed": seed, "what": what })).collect::<Vec<_>>(),
            "heard_ms": times(&self.spoke),
            "answered_ms": times(&self.answered),
            "all_went_on_ms": times(&self.went_on),
            "bytes_lost": self.lost,
            "connections_broken": self.broken,
        })
    }
}

/// What stands above the rows of the table.
fn head() -> String {
    format!(
        "{:<13} {:>6} {:>4} {:>4} {:>8} {:>6} {:>8} {:>6} {:>7} {:>6} {:>10} {:>6}\n",
        "ms",
        "set",
        "runs",
        "ok",
        "heard",
        "worst",
        "answer",
        "worst",
        "all on",
        "worst",
        "bytes lost",
        "broken"
    )
}

/// Kills the primary's host `runs` times with each setting, or with the one named `only`, with seeds from `seed` on, and prints
/// a table, or one JSON object with `as_json`. What fails is said, and the next run begins.
pub fn takeover(
    programs: &Programs,
    runs: u64,
    only: Option<&str>,
    seed: u64,
    as_json: bool,
) -> Result<ExitCode> {
    stop::on_signals()?;
    let mut rows: Vec<Row> = Setting::named(only)?.into_iter().map(Row::new).collect();
    // The settings take turns: what else the machine does meanwhile is shared by all.
    for seed in seed..seed + runs {
        for row in &mut rows {
            if stop::wanted() {
                break;
            }
            let begun = Instant::now();
            let outcome = match run_as(programs, CASE, row.setting.options(), seed, &STOP) {
                Err(_) if stop::wanted() => break,
                Err(error) => Outcome { wrong: vec![format!("the set-up: {error:#}")], ..Outcome::default() },
                Ok(outcome) => outcome,
            };
            // Standard output is for the object alone.
            let text = line(row.setting.name, seed, &outcome, begun.elapsed());
            if as_json {
                eprintln!("{text}");
            } else {
                say!("{text}");
            }
            row.add(seed, outcome);
        }
    }
    let failed = rows.iter().any(|row| !row.failed.is_empty());
    if as_json {
        let settings: Vec<Value> = rows.iter().map(Row::json).collect();
        say!("{:#}", json!({ "seed": seed, "settings": settings }));
    } else {
        let table: String = rows.iter().map(Row::text).collect();
        let words: Vec<String> =
            rows.iter().map(|row| format!("  {}: {}", row.setting.name, row.setting.words())).collect();
        say!("\n{}{table}\nset:\n{}", head(), words.join("\n"));
        for (row, (seed, fault)) in
            rows.iter().flat_map(|row| row.failed.iter().map(move |failed| (row, failed)))
        {
            let fault = fault.lines().next().unwrap_or_default();
            say!("failed: --only {} --seed {seed} --runs 1: {fault}", row.setting.name);
        }
    }
    Ok(if stop::wanted() {
        ExitCode::from(stop::STOPPED)
    } else if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[cfg(test)]
mod tests;

//! One side of a pair is lost under all traffic at once: the cases, a run of one, and what must be true after it.
//!
//! A case is an [`Event`] at a [`Moment`]. What must be true is the same for all: every connection goes on with the right
//! bytes, none is lost, nothing that was said is said otherwise later, and the witness on the client's switch sees the sides
//! speak one after the other, never both. The seed makes the content and picks the instant of the event.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    protected::{Options, Protected},
    watch::{Heard, Side, Watch},
};
use crate::lab::{
    child::Programs,
    content,
    topology::UPLINK,
    traffic::{self, Control, Report},
};

/// How long all connections may take to go on. A lost SYN alone is sent again after 1, 3, 7 and 15 seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Requests after which a connection goes on.
const GOES_ON: u64 = 3;
/// How long a frozen primary that runs again may try to speak.
const THAWED: Duration = Duration::from_secs(2);
/// The host's end of the link between the agents.
const LINK: &str = "link0";

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The primary's QEMU is killed.
    PrimaryVm,
    /// The primary's host: its wires are cut, agent and QEMU are killed.
    PrimaryHost,
    /// The primary's QEMU stands still, and runs again when the other side has taken over.
    PrimaryFrozen,
    /// The secondary's QEMU is killed.
    SecondaryVm,
    /// The secondary's agent is killed.
    SecondaryAgent,
    /// Only the wire between the agents.
    Link,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In the middle of the traffic.
    Steady,
    /// While many connections are being opened.
    Handshakes,
    /// While a checkpoint is made.
    Checkpoint,
}

/// An event at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is lost.
    pub event: Event,
    /// When.
    pub moment: Moment,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 6] = [
        Self::PrimaryVm,
        Self::PrimaryHost,
        Self::PrimaryFrozen,
        Self::SecondaryVm,
        Self::SecondaryAgent,
        Self::Link,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::PrimaryVm => "primary-vm",
            Self::PrimaryHost => "primary-host",
            Self::PrimaryFrozen => "primary-frozen",
            Self::SecondaryVm => "secondary-vm",
            Self::SecondaryAgent => "secondary-agent",
            Self::Link => "link",
        }
    }

    /// Who is heard, in order. With the link alone lost the primary is first at the judge.
    fn sides(self) -> &'static [Side] {
        match self {
            Self::PrimaryVm | Self::PrimaryHost | Self::PrimaryFrozen => &[Side::First, Side::Second],
            Self::SecondaryVm | Self::SecondaryAgent | Self::Link => &[Side::First],
        }
    }
}

impl Moment {
    /// Every moment.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Handshakes, Self::Checkpoint];

    fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Handshakes => "handshakes",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.event.name(), self.moment.name())
    }
}

impl Case {
    /// Every event at every moment.
    pub fn all() -> Vec<Self> {
        let at = |event| Moment::ALL.map(|moment| Self { event, moment });
        Event::ALL.into_iter().flat_map(at).collect()
    }
}

/// What one run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was wrong: nothing, if all is well.
    pub wrong: Vec<String>,
    /// The longest time a connection stood still.
    pub longest: Duration,
    /// Which.
    pub slowest: String,
    /// From the event until all connections had gone on.
    pub went_on: Option<Duration>,
    /// Bytes that were due and did not come right.
    pub lost: u64,
    /// For a failure: connections, logs, what QEMU has said.
    pub seen: String,
}

impl Outcome {
    fn of(wrong: Vec<String>, went_on: Option<Duration>, report: &Report, seen: String) -> Self {
        let slowest = report.slowest().map(|connection| connection.name.clone()).unwrap_or_default();
        Self { wrong, longest: report.longest().length, slowest, went_on, lost: report.lost(), seen }
    }
}

/// Boots a pair, protects it, and runs one case. An error is one of the set-up; what the case showed is in the outcome.
pub fn run(programs: &Programs, case: Case, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    let mut pair = Protected::start(programs, Options::default(), stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let client = Arc::clone(&pair.pair.topology.client);
    let chance = Chance(seed);
    let (went_on, report) = traffic::run(&client, &traffic::Plan::all(seed), stop, |control| {
        control.wait_steady(PATIENCE).context("before the event")?;
        meet(&mut pair, control, case.moment, chance)?;
        let (before, begun) = (control.progress(), Instant::now());
        happen(&mut pair, case.event)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the event")?;
        let went_on = begun.elapsed();
        if case.event == Event::PrimaryFrozen {
            thaw(&mut pair, control)?;
        }
        Ok(went_on)
    });
    let heard = watch.finish()?;
    let wrong = judge(&went_on, &report, &heard, case.event.sides());
    let seen = if wrong.is_empty() { String::new() } else { report.table() + &pair.logs() };
    Ok(Outcome::of(wrong, went_on.ok(), &report, seen))
}

/// Goes on until the moment has come.
fn meet(pair: &mut Protected, control: &Control<'_>, moment: Moment, chance: Chance) -> Result<()> {
    thread::sleep(chance.within(0, Duration::from_millis(300)));
    match moment {
        Moment::Steady => {}
        Moment::Handshakes => {
            control.burst();
            thread::sleep(chance.within(1, Duration::from_millis(40)));
        }
        Moment::Checkpoint => {
            pair.checkpoint()?;
            thread::sleep(chance.within(2, Duration::from_millis(20)));
        }
    }
    Ok(())
}

/// Lets the event happen.
fn happen(pair: &mut Protected, event: Event) -> Result<()> {
    match event {
        Event::PrimaryVm => pair.vm(Side::First).process().kill(),
        Event::PrimaryHost => {
            pair.host(Side::First).netns.run(&format!("ip link set {UPLINK} down"))?;
            pair.host(Side::First).netns.run(&format!("ip link set {LINK} down"))?;
            pair.agent(Side::First).kill();
            pair.vm(Side::First).process().kill();
        }
        Event::PrimaryFrozen => pair.vm(Side::First).process().signal(Signal::STOP)?,
        Event::SecondaryVm => pair.vm(Side::Second).process().kill(),
        Event::SecondaryAgent => pair.agent(Side::Second).kill(),
        Event::Link => {
            pair.host(Side::First).netns.run(&format!("ip link set {LINK} down"))?;
        }
    }
    Ok(())
}

/// The frozen primary runs again, and everything still goes on without it.
fn thaw(pair: &mut Protected, control: &Control<'_>) -> Result<()> {
    pair.vm(Side::First).process().signal(Signal::CONT)?;
    let before = control.progress();
    thread::sleep(THAWED);
    control.wait_for(GOES_ON, &before, PATIENCE).context("after the frozen primary ran again")
}

/// What is not as it must be.
pub fn judge<T>(outcome: &Result<T>, report: &Report, heard: &Heard, sides: &[Side]) -> Vec<String> {
    let mut wrong = report.broken();
    wrong.extend(outcome.as_ref().err().map(|error| format!("{error:#}")));
    if report.lost() > 0 {
        wrong.push(format!("{} bytes lost", report.lost()));
    }
    if heard.sides() != sides {
        wrong.push(format!(
            "the client's switch heard {:?}, not {sides:?}: {:?}",
            heard.sides(),
            heard.changes
        ));
    }
    if heard.taken_back > 0 {
        wrong.push(format!(
            "{} segments say otherwise what was said before: {:?}",
            heard.taken_back, heard.examples
        ));
    }
    wrong
}

/// Loses the primary, protects the survivor by a new secondary, and loses the survivor: the same connections live on.
pub fn run_twice(programs: &Programs, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    let mut pair = Protected::start(programs, Options::default(), stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let client = Arc::clone(&pair.pair.topology.client);
    let chance = Chance(seed);
    let begun = Instant::now();
    let (outcome, report) = traffic::run(&client, &traffic::Plan::all(seed), stop, |control| {
        control.wait_steady(PATIENCE).context("before the event")?;
        meet(&mut pair, control, Moment::Steady, chance)?;
        let before = control.progress();
        happen(&mut pair, Event::PrimaryVm)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the first takeover")?;
        pair.protect_survivor(Side::Second, "third", stop)?;
        let before = control.progress();
        control.wait_for(GOES_ON, &before, PATIENCE).context("protected again")?;
        let before = control.progress();
        pair.vm(Side::Second).process().kill();
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the second takeover")?;
        Ok(begun.elapsed())
    });
    let heard = watch.finish()?;
    let wrong = judge(&outcome, &report, &heard, &[Side::First, Side::Second, Side::First]);
    let seen = if wrong.is_empty() { String::new() } else { report.table() + &pair.logs() };
    Ok(Outcome::of(wrong, outcome.ok(), &report, seen))
}

/// Numbers from a seed.
#[derive(Debug, Clone, Copy)]
struct Chance(u64);

impl Chance {
    /// A time below `limit`; each `which` has its own.
    fn within(self, which: u64, limit: Duration) -> Duration {
        let mut bytes = [0; 4];
        content::fill(self.0, which * 8, &mut bytes);
        limit.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }
}

/// A case by its name, as in `primary-vm:steady`; an error names those there are.
pub fn named(name: &str) -> Result<Vec<Case>> {
    let cases: Vec<Case> = Case::all()
        .into_iter()
        .filter(|case| case.to_string() == name || case.event.name() == name || case.moment.name() == name)
        .collect();
    let all: Vec<String> = Case::all().iter().map(ToString::to_string).collect();
    ensure!(
        !cases.is_empty(),
        "no case {name:?}; there are {TWICE}, {}, and each part of their names",
        all.join(", ")
    );
    Ok(cases)
}

/// The name of [`run_twice`].
pub const TWICE: &str = "protected-again";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_name_or_part() {
        assert_eq!(Case::all().len(), 18);
        assert_eq!(named("primary-vm:steady").unwrap().len(), 1);
        assert_eq!(named("link").unwrap().len(), 3);
        assert_eq!(named("handshakes").unwrap().len(), 6);
        assert!(named("nothing").unwrap_err().to_string().contains("secondary-agent:checkpoint"));
    }

    #[test]
    fn a_judgement_names_all_that_is_wrong() {
        let heard = Heard { taken_back: 2, ..Heard::default() };
        let outcome: Result<()> = Err(anyhow::anyhow!("stuck"));
        let wrong = judge(&outcome, &Report::default(), &heard, &[Side::First]);
        assert!(wrong.len() == 3 && wrong[0].contains("stuck"), "{wrong:?}");
        assert!(judge(&Ok(()), &Report::default(), &Heard::default(), &[]).is_empty());
    }

    #[test]
    fn chance_is_made_of_the_seed() {
        let limit = Duration::from_millis(10);
        assert_eq!(Chance(1).within(0, limit), Chance(1).within(0, limit));
        assert_ne!(Chance(1).within(0, limit), Chance(2).within(0, limit));
        assert!((0..100).all(|seed| Chance(seed).within(1, limit) <= limit));
    }
}

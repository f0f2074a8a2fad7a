//! One side of a pair is lost under all traffic at once: the cases, and what must be true after each.
//!
//! A case is an [`Event`] at a [`Moment`]. What must be true is the same for all: every connection goes on with the right
//! bytes, none is lost, nothing that was said is said otherwise later, the witness on the client's switch sees the sides
//! speak one after the other, never both, and in the end one side is alone, the other closed with its guest stopped. The
//! seed makes the content and picks the instant of the event.
//!
//! [`play`] is a run of a case, [`stories`] are longer ones, [`leased`] are those with etcd, [`outcome`] is what they come to.

use std::{fmt, sync::atomic::AtomicBool};

use anyhow::{Result, ensure};

use super::watch::Side;
use crate::lab::child::Programs;

mod leased;
mod outcome;
mod play;
mod stories;

pub use leased::{Cut, LEASE, cut_off};
pub use outcome::{Outcome, judge};
pub use play::{run, run_as};
pub use stories::{before_protection, promoted_agent, protected_again, watched};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The primary's QEMU is killed.
    PrimaryVm,
    /// The primary's host: its wires are cut, agent and QEMU are killed.
    PrimaryHost,
    /// The primary's QEMU stands still, and runs again when the other side has taken over.
    PrimaryFrozen,
    /// The primary's agent is killed, and started again when the other side has taken over.
    PrimaryAgent,
    /// An operator says `x-colo-lost-heartbeat` to the primary's QEMU: both QEMUs leave COLO and run on.
    PrimaryLeft,
    /// The secondary's QEMU is killed.
    SecondaryVm,
    /// The secondary's QEMU stands still, and runs again when the primary goes on alone.
    SecondaryFrozen,
    /// The secondary's agent is killed.
    SecondaryAgent,
    /// An operator says `x-colo-lost-heartbeat` to the secondary's QEMU, which the primary's notices at the next checkpoint.
    SecondaryLeft,
    /// An operator says it to both.
    BothLeft,
    /// Nothing comes through between the QEMUs any more, and both live: a checkpoint does not end.
    Channel,
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
    pub const ALL: [Self; 12] = [
        Self::PrimaryVm,
        Self::PrimaryHost,
        Self::PrimaryFrozen,
        Self::PrimaryAgent,
        Self::PrimaryLeft,
        Self::SecondaryVm,
        Self::SecondaryFrozen,
        Self::SecondaryAgent,
        Self::SecondaryLeft,
        Self::BothLeft,
        Self::Channel,
        Self::Link,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::PrimaryVm => "primary-vm",
            Self::PrimaryHost => "primary-host",
            Self::PrimaryFrozen => "primary-frozen",
            Self::PrimaryAgent => "primary-agent",
            Self::PrimaryLeft => "primary-left",
            Self::SecondaryVm => "secondary-vm",
            Self::SecondaryFrozen => "secondary-frozen",
            Self::SecondaryAgent => "secondary-agent",
            Self::SecondaryLeft => "secondary-left",
            Self::BothLeft => "both-left",
            Self::Channel => "channel",
            Self::Link => "link",
        }
    }

    /// Who goes on. With the link alone lost the primary is first at the judge, as it is where QEMU leaves COLO.
    fn survivor(self) -> Side {
        match self {
            Self::PrimaryVm | Self::PrimaryHost | Self::PrimaryFrozen | Self::PrimaryAgent => Side::Second,
            _ => Side::First,
        }
    }

    /// Who is heard, in order.
    fn sides(self) -> &'static [Side] {
        match self.survivor() {
            Side::First => &[Side::First],
            Side::Second => &[Side::First, Side::Second],
        }
    }

    /// Moments that make a difference.
    fn moments(self) -> &'static [Moment] {
        match self {
            Self::PrimaryAgent
            | Self::PrimaryLeft
            | Self::SecondaryFrozen
            | Self::SecondaryLeft
            | Self::BothLeft => &[Moment::Steady, Moment::Checkpoint],
            Self::Channel => &[Moment::Checkpoint],
            _ => &Moment::ALL,
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
    /// Every event at every moment that makes a difference.
    pub fn all() -> Vec<Self> {
        let at = |event: Event| event.moments().iter().map(move |&moment| Self { event, moment });
        Event::ALL.into_iter().flat_map(at).collect()
    }
}

/// Something that can be run with a seed. An error is one of the set-up; what the run showed is in the outcome.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// One side is lost once.
    Case(Case),
    /// More happens.
    Story(Story),
}

/// Name and run.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    name: &'static str,
    run: fn(&Programs, u64, &AtomicBool) -> Result<Outcome>,
}

/// Every story.
const STORIES: [Story; 4] = [
    Story { name: "protected-again", run: protected_again },
    Story { name: "watched", run: watched },
    Story { name: "promoted-agent", run: promoted_agent },
    Story { name: "before-protection", run: before_protection },
];

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(case) => case.fmt(f),
            Self::Story(story) => story.name.fmt(f),
        }
    }
}

impl Run {
    /// All there are.
    pub fn all() -> Vec<Self> {
        Case::all().into_iter().map(Self::Case).chain(STORIES.map(Self::Story)).collect()
    }

    /// Those with this name, as in `primary-vm:steady`, or with one of its parts; an error names all.
    pub fn named(name: &str) -> Result<Vec<Self>> {
        let all = Self::all();
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let is = |run: &Self| run.to_string() == name || run.to_string().split(':').any(|part| part == name);
        let found: Vec<Self> = all.into_iter().filter(is).collect();
        ensure!(
            !found.is_empty(),
            "no case {name:?}; there are {}, and each part of their names",
            names.join(", ")
        );
        Ok(found)
    }

    /// Boots a pair and runs it.
    pub fn run(self, programs: &Programs, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
        match self {
            Self::Case(case) => run(programs, case, seed, stop),
            Self::Story(story) => (story.run)(programs, seed, stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_name_or_part() {
        assert_eq!(Case::all().len(), 29);
        let count = |name| Run::named(name).unwrap().len();
        assert_eq!((count("primary-vm:steady"), count("link"), count("handshakes")), (1, 3, 6));
        assert_eq!((count("protected-again"), count("channel")), (1, 1));
        assert!(Run::named("nothing").unwrap_err().to_string().contains("secondary-agent:checkpoint"));
    }
}

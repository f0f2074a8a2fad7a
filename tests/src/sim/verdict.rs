//! What a schedule came to.

use colo_user::failover::{Standing, Why};
use std::fmt;

/// What must never happen, or must happen and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two sides spoke to the client where one may.
    BothSpeak(String),
    /// A client was told something that does not hold any more.
    TakenBack(String),
    /// Nobody serves although somebody could.
    NobodyServes(String),
    /// Somebody serves, and clients wait for ever.
    Stuck(String),
    /// The cores themselves failed.
    Panic(String),
}

impl Violation {
    /// Its kind, in a word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BothSpeak(_) => "both sides speak",
            Self::TakenBack(_) => "taken back",
            Self::NobodyServes(_) => "nobody serves",
            Self::Stuck(_) => "stuck",
            Self::Panic(_) => "panic",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BothSpeak(text)
            | Self::TakenBack(text)
            | Self::NobodyServes(text)
            | Self::Stuck(text)
            | Self::Panic(text) => write!(f, "{}: {text}", self.kind()),
        }
    }
}

/// What happened in one schedule.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was wrong, if anything.
    pub violation: Option<Violation>,
    /// Marks of what was reached, by their words.
    pub reached: Vec<&'static str>,
    /// Kinds of what went wrong.
    pub faults: Vec<&'static str>,
    /// Events of the simulation.
    pub events: u64,
    /// Checkpoints that were completed.
    pub checkpoints: u64,
    /// Answers that the client got.
    pub answers: u64,
    /// How the two sides stood at the end; none where there is no agent.
    pub stood: [Option<(Standing, Why)>; 2],
    /// The trace, where it was asked for.
    pub trace: Vec<String>,
}

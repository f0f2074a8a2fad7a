//! When a pair is to be protected again, and which way round. No I/O: what two monitors show and `now` in, what to do out.
//!
//! ```text
//!   waits ──a VM runs alone, the other QEMU waits for a state──▶ protect ──done──▶ both in COLO
//!     ▲ ▲                                                          │                   │
//!     │ └──────── after a pause, doubled each time ────failed──────┘                   │
//!     └────────────────────────────── a side is lost ──────────────────────────────────┘
//! ```
//!
//! Who goes on after a loss is not decided here: a VM is a survivor once it has left COLO and runs, which its agent brings about
//! with the judge's yes. A guest that was closed stands still, and one whose COLO was never ended is in it still: neither is
//! protected. Only a QEMU that waits for its first state becomes a secondary.

use super::checks;
use crate::{
    mono::Mono,
    qmp::{ColoMode, Snapshot},
};
use std::time::Duration;

/// The pause after a first failure.
pub const PAUSE: Duration = Duration::from_secs(2);
/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Which of the two is the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The first.
    There,
    /// The second.
    Back,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: both are in COLO and run.
    Rest,
    /// Look again later; what is seen.
    Wait(String),
    /// Protect.
    Protect(Way),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Again {
    /// Whether the second may be the primary.
    back: bool,
    /// Failures in a row after which it gives up.
    attempts: u32,
    failures: u32,
    not_before: Mono,
}

impl Again {
    /// Gives up after `attempts` failures in a row; `back`: also the second VM is protected.
    #[must_use]
    pub const fn new(back: bool, attempts: u32) -> Self {
        Self { back, attempts, failures: 0, not_before: Mono::ZERO }
    }

    /// The monitors show this; none, if one does not answer.
    #[must_use]
    pub fn look(&self, now: Mono, sides: [Option<&Snapshot>; 2]) -> Next {
        let text = || {
            let seen = sides.map(|side| side.map_or_else(|| "no answer".to_owned(), checks::seen));
            format!("--primary: {}; --secondary: {}", seen[0], seen[1])
        };
        let [Some(first), Some(second)] = sides else { return Next::Wait(text()) };
        let pair = |primary, secondary| {
            checks::in_colo(primary, ColoMode::Primary) && checks::in_colo(secondary, ColoMode::Secondary)
        };
        if pair(first, second) || pair(second, first) {
            return Next::Rest;
        }
        let way = if checks::states(first, second).is_ok() {
            Way::There
        } else if checks::states(second, first).is_ok() {
            Way::Back
        } else {
            return Next::Wait(text());
        };
        if way == Way::Back && !self.back {
            return Next::Wait(format!("{}; protected only with --back-uri", text()));
        }
        if now < self.not_before {
            return Next::Wait(format!("{} failed in a row; tried again after a pause", self.failures));
        }
        Next::Protect(way)
    }

    /// The attempt succeeded.
    pub const fn done(&mut self) {
        (self.failures, self.not_before) = (0, Mono::ZERO);
    }

    /// The attempt failed. False: no other is made.
    pub fn failed(&mut self, now: Mono) -> bool {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        self.not_before = now + pause;
        self.failures < self.attempts
    }
}

#[cfg(test)]
mod tests;

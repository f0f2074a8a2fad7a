//! A host's own clocks: they start anywhere and run at a rate of their own. The simulator's time is nobody's.

use colo_user::mono::{Boot, Mono};
use std::time::Duration;

/// Most that a clock runs too fast or too slow, in millionths: far more than any crystal, less than the margin of the lease.
pub const MAX_DRIFT_PPM: i64 = 10_000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    offset: u64,
    ppm: i64,
    /// When the monotonic clock stood still because the host was suspended, in order.
    slept: Vec<(Mono, Mono)>,
}

impl Clock {
    pub const fn new(offset: Duration, ppm: i64) -> Self {
        Self { offset: offset.as_nanos() as u64, ppm, slept: Vec::new() }
    }

    /// The host is suspended.
    pub fn sleeps(&mut self, from: Mono, to: Mono) {
        let from = self.slept.last().map_or(from, |(_, woke)| from.max(*woke));
        if from < to {
            self.slept.push((from, to));
        }
    }

    /// What its monotonic clock says at the simulator's time.
    pub fn local(&self, at: Mono) -> Mono {
        let slept = self.slept.iter().map(|(from, to)| at.min(*to).saturating_since(*from).as_nanos() as u64);
        let nanos = (at.as_nanos() - slept.sum::<u64>()) as i64;
        Mono::from_nanos(self.offset + (nanos + nanos / 1_000_000 * self.ppm) as u64)
    }

    /// What the clock says that goes on while the host is suspended.
    pub const fn boot(&self, at: Mono) -> Boot {
        let nanos = at.as_nanos() as i64;
        // To the nanosecond: it never goes back, not even by what the other is rounded.
        let ahead = nanos / 1_000_000 * self.ppm + nanos % 1_000_000 * self.ppm / 1_000_000;
        Boot::from_nanos(self.offset + (nanos + ahead) as u64)
    }

    /// When the monotonic clock says this, rounded up.
    pub fn global(&self, at: Mono) -> Mono {
        let nanos = at.as_nanos().saturating_sub(self.offset) as i64;
        let rate = 1_000_000 + self.ppm;
        // Rounding here and above differ by less than a microsecond.
        let awake =
            Mono::from_nanos((nanos / rate * 1_000_000 + nanos % rate * 1_000_000 / rate) as u64 + 1000);
        self.slept
            .iter()
            .fold(awake, |at, (from, to)| if at > *from { at + to.saturating_since(*from) } else { at })
    }
}

#[cfg(test)]
mod tests;

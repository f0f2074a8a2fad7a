//! A host's own clock: it starts anywhere and runs at a rate of its own. The simulator's time is nobody's.

use colo_user::mono::Mono;
use std::time::Duration;

/// Most that a host's clock runs too fast or too slow, in millionths: far more than any crystal, less than the margin of
/// the lease.
pub const MAX_DRIFT_PPM: i64 = 10_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    offset: u64,
    ppm: i64,
}

impl Clock {
    pub const fn new(offset: Duration, ppm: i64) -> Self {
        Self { offset: offset.as_nanos() as u64, ppm }
    }

    /// What the host reads at the simulator's time.
    pub const fn local(self, at: Mono) -> Mono {
        let nanos = at.as_nanos() as i64;
        Mono::from_nanos(self.offset + (nanos + nanos / 1_000_000 * self.ppm) as u64)
    }

    /// When the host reads this, rounded up.
    pub const fn global(self, at: Mono) -> Mono {
        let nanos = at.as_nanos().saturating_sub(self.offset) as i64;
        let rate = 1_000_000 + self.ppm;
        // Rounding here and above differ by less than a microsecond.
        Mono::from_nanos((nanos / rate * 1_000_000 + nanos % rate * 1_000_000 / rate) as u64 + 1000)
    }
}

#[cfg(test)]
mod tests;

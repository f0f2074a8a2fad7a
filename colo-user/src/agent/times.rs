//! How long things took: a histogram of fixed size, and what a status says of it.
//!
//! Buckets are log-linear: eight to each doubling, so that a percentile is at most an eighth above the true one,
//! from a nanosecond to centuries, in 4 KiB that never grow.

use serde::Serialize;
use std::time::Duration;

/// Buckets to each doubling, as a power of two.
const FINE_BITS: u32 = 3;
const FINE: usize = 1 << FINE_BITS;
const BUCKETS: usize = FINE * (u64::BITS - FINE_BITS + 1) as usize;

/// See the module.
#[derive(Clone, Debug)]
pub struct Times {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    longest: Duration,
}

/// What a status says of a histogram. Microseconds; zero where nothing has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// All but one in a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, longest: Duration::ZERO }
    }
}

impl Times {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        self.buckets[bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
        self.longest = self.longest.max(took);
    }

    /// The time that `percent` of all did not exceed, at most an eighth too long.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_nanos(upper(index)).min(self.longest);
            }
        }
        Duration::ZERO
    }

    /// The whole in a few numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Summary {
            count: self.count,
            p50_us: micros(self.percentile(50)),
            p99_us: micros(self.percentile(99)),
            max_us: micros(self.longest),
        }
    }
}

/// Where a number of nanoseconds is counted: small ones each for itself, then by leading bit and the bits after it.
fn bucket(nanos: u64) -> usize {
    if nanos < FINE as u64 {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - FINE_BITS;
    FINE * shift as usize + (nanos >> shift) as usize
}

/// The largest number of nanoseconds in a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let shift = bucket / FINE - 1;
    let first = (bucket - FINE * shift) as u64;
    // The last bucket ends where the numbers do.
    (first << shift) + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests;

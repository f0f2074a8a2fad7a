//! Time as the cores see it: a number they are given, never a clock they read.
//!
//! The shells take it from `CLOCK_MONOTONIC` (which is also what `bpf_ktime_get_ns` stamps frames with) and, where a lease is
//! concerned, from `CLOCK_BOOTTIME`; tests, simulators and offline comparison make it up.

use rustix::time::{ClockId, clock_gettime};
use std::marker::PhantomData;
use std::ops::Add;
use std::time::Duration;

/// A clock that counts up from the host's start.
pub trait Clock {
    /// The kernel's name of it.
    const ID: ClockId;
}

/// Stands still while the host sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic;

impl Clock for Monotonic {
    const ID: ClockId = ClockId::Monotonic;
}

/// Goes on while the host sleeps: what a lease is measured in, which its giver does not put to sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boottime;

impl Clock for Boottime {
    const ID: ClockId = ClockId::Boottime;
}

/// A point in time by one clock, in nanoseconds since an origin that only has to stay the same. Points of two clocks cannot be
/// compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point<C>(u64, PhantomData<C>);

/// A point in monotonic time.
pub type Mono = Point<Monotonic>;

/// A point in time that goes on while the host sleeps.
pub type Boot = Point<Boottime>;

impl<C> Point<C> {
    /// The origin.
    pub const ZERO: Self = Self(0, PhantomData);

    /// The point `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos, PhantomData)
    }

    /// The point `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl<C: Clock> Point<C> {
    /// What the clock says. For the shells only.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(C::ID);
        // Neither field of such a clock is ever negative.
        Self::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }
}

impl<C> Add<Duration> for Point<C> {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self::from_nanos(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

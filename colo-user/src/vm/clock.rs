//! When things happened at QEMU: its wall clock mapped to the monotonic one, and the silence of a guest that stood still.

use crate::mono::Mono;
use std::time::Duration;

/// A mapped time may be off by this much: reading two clocks, and one that is slewed.
const SLACK: Duration = Duration::from_millis(1);

/// Both clocks read at one moment: the wall clock between two readings of the monotonic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The middle of the two.
    pub mono: Mono,
    /// The wall clock, since 1970.
    pub wall: Duration,
}

impl Clocks {
    /// The monotonic time of a wall-clock time.
    #[must_use]
    pub fn mono(self, wall: Duration) -> Mono {
        if wall >= self.wall {
            return self.mono + (wall - self.wall);
        }
        let ago = u64::try_from((self.wall - wall).as_nanos()).unwrap_or(u64::MAX);
        Mono::from_nanos(self.mono.as_nanos().saturating_sub(ago))
    }
}

/// When an event was written: surely after `after` (the monitor was empty then) and before `before` (it was read then).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The look before.
    pub after: Mono,
    /// The look that found it.
    pub before: Mono,
    /// By QEMU's own clock.
    pub at: Option<Mono>,
}

impl Moment {
    /// QEMU's own time, unless it contradicts the order of what was seen: then a clock was stepped.
    fn sane(self) -> Option<Mono> {
        self.at.filter(|&at| at + SLACK >= self.after && at <= self.before + SLACK)
    }
}

/// Which side of a cut a frame was said on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the guest stood still.
    Before,
    /// After it ran again.
    After,
    /// The clocks do not say.
    Unsure,
}

/// The time in which a guest stood still and said nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    from: Mono,
    until: Mono,
    sure: bool,
}

impl Silence {
    /// Between a STOP and a RESUME.
    #[must_use]
    pub fn between(stop: Moment, resume: Moment) -> Self {
        match (stop.sane(), resume.sane()) {
            (Some(from), Some(until)) if from <= until => Self { from, until, sure: true },
            _ => Self { from: stop.after, until: resume.before, sure: false },
        }
    }

    /// How long the guest stood still.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.until.saturating_since(self.from)
    }

    /// Before the first RESUME of a guest that never ran: it has said nothing.
    #[must_use]
    pub const fn first(resume: Moment) -> Self {
        Self { from: resume.after, until: resume.after, sure: true }
    }

    /// Whether the clocks agree with the order of events.
    #[must_use]
    pub const fn sure(&self) -> bool {
        self.sure
    }

    /// Where a frame with this stamp belongs: the boundary is the middle.
    #[must_use]
    pub fn side(&self, stamp: Mono) -> Side {
        let middle = self.from + self.until.saturating_since(self.from) / 2;
        if !self.sure && stamp >= self.from && stamp <= self.until {
            Side::Unsure
        } else if stamp < middle {
            Side::Before
        } else {
            Side::After
        }
    }
}

#[cfg(test)]
mod tests;

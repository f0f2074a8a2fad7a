//! Whether the peer's agent lives, heard over several links at once. No I/O, no clock: beats and `now` in, a [`Verdict`] and
//! [`Event`]s out.
//!
//! Each link is watched by itself:
//!
//! ```text
//!             first sign           an interval and a half without
//!   waiting ─────────────▶ alive ────────────────────────────────▶ late
//!      │                    ▲ ▲                                      │
//!      │ limit              │ └──────────────── sign ────────────────┤
//!      ▼                    │                                        │ limit
//!    lost ──────sign────────┘◀───────────────────────────────────────┘
//! ```
//!
//! *Limit* is interval times multiplier. A link that breaks is lost at once. The peer is lost when every link is: one silent
//! link beside a living one is a lost link, and said so. Told apart from that:
//!
//! * **restarted**: beats carry the number of the agent's start. A new one is another agent, whatever its beats are like; what
//!   still comes of an earlier one counts for nothing.
//! * **paused**: the agent beats and says that its guest stands still for a checkpoint. It is alive.
//! * **false alarm**: a peer that was lost is heard again and has not been started anew meanwhile. Too short a limit for this
//!   load shows as a number of them per hour.
//! * **own pause**: who did not run itself accuses nobody. If more than half the limit has passed since the last call, the
//!   time of all links begins anew, and that is counted.
//!
//! The verdict makes an agent act earlier, or leaves precedence to a peer that lives. Who may speak rests on the judge and on the lease of
//! [`crate::failover`] alone: no beat lengthens or shortens that.
//!
//! By file: [`beat`] is a beat and its bytes, [`watch`] one link, [`detector`] all of them, [`host`] the peer's host.

pub mod beat;
pub mod detector;
pub mod host;
pub mod watch;

pub use beat::{Beat, Condition, DecodeError};
pub use detector::{Detector, Event, Report, Verdict};
pub use host::{Host, HostState};
pub use watch::{LinkReport, LinkState};

use std::num::NonZeroU8;
use std::time::Duration;

/// Most links of one pair: the data link and others.
pub const MAX_LINKS: usize = 8;
/// Shortest and longest interval between two beats, in milliseconds.
pub const INTERVALS_MS: std::ops::RangeInclusive<u64> = 5..=60_000;
/// Fewest and most intervals without a beat after which a link is lost. One would take any delay for a loss.
pub const MULTIPLIERS: std::ops::RangeInclusive<u8> = 2..=100;

/// How often beats go out, and how many may be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between two beats.
    pub interval: Duration,
    /// Intervals without a beat that make a link lost.
    pub multiplier: NonZeroU8,
}

impl Settings {
    /// Without a sign of life for this long a link is lost.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.interval * u32::from(self.multiplier.get())
    }

    /// Without one for this long it is late.
    #[must_use]
    pub fn late(&self) -> Duration {
        self.interval + self.interval / 2
    }
}

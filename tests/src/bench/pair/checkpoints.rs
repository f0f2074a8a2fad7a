//! The checkpoints of a pair, as the primary's guest stood still for them.
//!
//! Nothing says why a checkpoint was made. QEMU's timer begins anew with each, so one that comes a whole period after the
//! one before is the timer's, and one that comes earlier was asked for.

use std::time::{Duration, Instant};

use crate::pair::journal::Pause;

/// How much earlier than its period a periodic checkpoint may seem to come.
const SLACK: Duration = Duration::from_millis(200);

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// That the proxy asked for.
    pub asked: usize,
    /// That came by time.
    pub periodic: usize,
}

/// Counts the checkpoints that began within `during`, of a pair whose first epoch began at `entered`.
#[must_use]
pub fn count(entered: Instant, period: Duration, pauses: &[Pause], during: (Instant, Instant)) -> Count {
    let (mut count, mut before) = (Count::default(), entered);
    for pause in pauses {
        if (during.0..during.1).contains(&pause.heard) {
            let by_time = pause.heard + SLACK >= before + period;
            *(if by_time { &mut count.periodic } else { &mut count.asked }) += 1;
        }
        before = pause.heard;
    }
    count
}

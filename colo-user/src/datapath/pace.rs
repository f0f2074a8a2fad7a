//! A real-time thread is woken by every frame at once, in the middle of what QEMU does with the next ones. When frames come thick
//! it sleeps a moment instead, as network cards moderate their interrupts: what it would be woken for comes in batches
//! then. A request and its answer never meet this, a stream in bulk always does.

use std::time::{Duration, Instant};

/// How long the frames are counted for.
const WINDOW: Duration = Duration::from_millis(1);
/// Frames in a [`WINDOW`] that are a stream.
const MANY: u64 = 12;
/// Pause between two looks at a stream.
const PAUSE: Duration = Duration::from_micros(100);

/// Frames lately.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    frames: u64,
    stream: bool,
}

impl Pace {
    /// From now on.
    pub fn new(now: Instant) -> Self {
        Self { since: now, frames: 0, stream: false }
    }

    /// The pause to make now, with so many frames taken ever.
    pub fn pause(&mut self, now: Instant, frames: u64) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let came = u128::from(frames.saturating_sub(self.frames));
            self.stream = came * WINDOW.as_nanos() >= u128::from(MANY) * passed.as_nanos();
            (self.since, self.frames) = (now, frames);
        }
        self.stream.then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests;

//! When the packet thread is to come before all others. A real-time thread is woken by every frame at once, in the middle of
//! what QEMU does with the next ones: right for a request that waits for its answer, where input and output take turns, and
//! wrong for streams and for many who ask at a time, where the thread does its work in batches if it waits for its turn.

use std::time::{Duration, Instant};

/// How long the frames are counted for.
const WINDOW: Duration = Duration::from_millis(2);
/// Frames in a [`WINDOW`] that are too few to cost anything.
const FEW: u64 = 4;
/// Frames in a [`WINDOW`] that are a stream, whatever turns they take.
const MANY: u64 = 32;

/// Windows without either, one after the other, before the thread comes first again: a stream has its gaps.
const CALM: u32 = 16;

/// Frames so far, by their direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// For the guest.
    pub input: u64,
    /// Of the guest.
    pub output: u64,
}

/// Frames lately.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    last: Frames,
    /// The last frame was for the guest.
    heard: bool,
    frames: u64,
    /// Frames that went the other way than the one before.
    turns: u64,
    /// Windows lately without a stream; [`CALM`] and more are as good as many.
    calm: u32,
}

impl Pace {
    /// From now on.
    pub fn new(now: Instant) -> Self {
        Self { since: now, last: Frames::default(), heard: false, frames: 0, turns: 0, calm: CALM }
    }

    /// Whether the thread is to come first from now on, if that changes; with so many frames taken ever.
    pub fn change(&mut self, now: Instant, frames: Frames) -> Option<bool> {
        let input = frames.input.saturating_sub(self.last.input);
        let output = frames.output.saturating_sub(self.last.output);
        self.last = frames;
        self.frames += input + output;
        // Of what came together the order is not known: as many turns as there can be.
        self.turns += 2 * input.min(output);
        if input != output {
            let heard = input > output;
            self.turns += u64::from(heard != self.heard || input.min(output) > 0);
            self.heard = heard;
        }
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return None;
        }
        let rate = u128::from(self.frames) * WINDOW.as_nanos() / passed.as_nanos();
        let crowded = self.turns * 4 < self.frames * 3;
        let calm = rate < u128::from(FEW) || rate < u128::from(MANY) && !crowded;
        (self.since, self.frames, self.turns) = (now, 0, 0);
        let before = self.calm >= CALM;
        self.calm = if calm { (self.calm + 1).min(CALM) } else { 0 };
        let first = self.calm >= CALM;
        (first != before).then_some(first)
    }
}

#[cfg(test)]
mod tests;

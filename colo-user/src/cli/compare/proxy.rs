//! `colo compare` without its sockets: bytes of four streams in, bytes of two streams out.
//!
//! The shell reads into the spaces offered here and says how much, writes what is offered and says how much, and
//! tells when peers come and go. Everything that colo-compare promises is decided here: what is held, what leaves,
//! when a checkpoint is asked for, and what a peer that breaks off in mid-frame costs (that frame and nothing else).

use std::{io::IoSlice, time::Duration};

use tracing::{info, warn};

use super::hold::{Bound, Hold, READ};
use crate::{
    checkpoint::notify_dev::{Notify, Said},
    compare::{Action, Bypass, Comparator, Limits, Policy},
    link::chardev::{Decoder, Framing, Oversized},
    mono::Mono,
};

/// Bytes that both guests said and that are kept in each flow for retransmissions. Nothing here tells what the client
/// has acknowledged, so this is about a window; what is older is compared anew.
const SAID_BYTES: usize = 64 * 1024;

/// Causes logged in one [`LOG_PERIOD`]; further ones are only counted.
const LOGGED_CAUSES: u32 = 16;

/// See [`LOGGED_CAUSES`].
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Framing of all packet streams.
    pub framing: Framing,
    /// How long a frame may stay alone before a checkpoint is asked for.
    pub compare_timeout: Duration,
    /// How often an unanswered request is sent again.
    pub scan_cycle: Duration,
    /// Frames held in one flow before a checkpoint is asked for.
    pub max_queue_size: usize,
    /// What is let out without comparison.
    pub bypass: Vec<Bypass>,
    /// Frames and bytes held and queued before `primary_in` is paused.
    pub bound: Bound,
}

/// Longest time that datagrams of both sides may stand against each other without a match.
const MISMATCH: Duration = Duration::from_millis(500);

impl Settings {
    fn policy(&self) -> Policy {
        Policy {
            wait_min: self.compare_timeout,
            wait_max: self.compare_timeout,
            wait_ack: self.compare_timeout,
            wait_mismatch: self.compare_timeout.min(MISMATCH),
            late_primary: Some(self.compare_timeout),
            bypass: self.bypass.clone(),
            ..Policy::default()
        }
    }

    fn limits(&self) -> Limits {
        let limits = Limits::default();
        // What is held is kept in the comparator too, and leaves its room to the rest.
        let kept_bytes = limits.kept_bytes.saturating_add(self.bound.bytes);
        Limits { queue: self.max_queue_size, said_bytes: SAID_BYTES, kept_bytes, ..limits }
    }
}

/// What the proxy counts beside the comparator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Frames sent to `out` completely.
    pub frames_out: u64,
    /// Frames broken off by a peer that disconnected.
    pub partial_frames: u64,
    /// Connections closed for an announced length beyond the limit.
    pub oversized: u64,
    /// Times that `primary_in` was paused because the bound was reached.
    pub primary_pauses: u64,
    /// Texts on `notify` that were not understood.
    pub unknown_texts: u64,
    /// Checkpoints wanted; several causes at a time are one.
    pub checkpoints_wanted: u64,
}

/// The state machine.
pub struct Proxy {
    comparator: Comparator,
    hold: Hold,
    secondary: Decoder,
    notify: Notify,
    /// Scratch for the comparator's actions.
    actions: Vec<Action>,
    counters: Counters,
    paused: bool,
    /// Causes logged since then.
    logged: (u32, Mono),
}

impl Proxy {
    /// A proxy nobody has connected to.
    pub fn new(settings: &Settings, now: Mono) -> Self {
        Self {
            comparator: Comparator::new(settings.policy(), settings.limits(), now),
            hold: Hold::new(settings.framing, settings.bound),
            secondary: Decoder::new(settings.framing, READ),
            notify: Notify::new(settings.framing, settings.scan_cycle),
            actions: Vec::new(),
            counters: Counters::default(),
            paused: false,
            logged: (0, now),
        }
    }

    /// False while the bound is reached: `primary_in` is not to be read.
    pub fn wants_primary(&self) -> bool {
        !self.paused
    }

    /// Where to read `primary_in` to.
    pub fn primary_space(&mut self) -> &mut [u8] {
        self.hold.space()
    }

    /// `n` bytes of `primary_in` have been read. On an error its connection is to be closed.
    pub fn primary_read(&mut self, n: usize, now: Mono) -> Result<(), Oversized> {
        self.hold.filled(n);
        self.compare_primary(now)
    }

    /// Compares all that is read and has room.
    fn compare_primary(&mut self, now: Mono) -> Result<(), Oversized> {
        let outcome = loop {
            match self.hold.next_frame() {
                Ok(Some((token, frame))) => self.comparator.primary(now, token, frame, &mut self.actions),
                Ok(None) => break Ok(()),
                Err(oversized) => {
                    self.counters.oversized += 1;
                    break Err(oversized);
                }
            }
        };
        self.act(now);
        if !self.hold.has_room() && !self.paused {
            self.paused = true;
            self.counters.primary_pauses += 1;
            warn!(
                frames = self.hold.frames(),
                bytes = self.hold.bytes(),
                "the bound of held frames is reached: primary_in is paused"
            );
            // With most of it held, not queued for a slow reader, the secondary is what is waited for.
            if self.comparator.held() * 2 > self.hold.frames() {
                self.want(now);
            }
        }
        outcome
    }

    /// The peer on `primary_in` has gone.
    pub fn primary_gone(&mut self) {
        self.counters.partial_frames += u64::from(self.hold.reset_input());
    }

    /// Where to read `secondary_in` to.
    pub fn secondary_space(&mut self) -> &mut [u8] {
        self.secondary.space()
    }

    /// `n` bytes of `secondary_in` have been read. On an error its connection is to be closed.
    pub fn secondary_read(&mut self, n: usize, now: Mono) -> Result<(), Oversized> {
        self.secondary.filled(n);
        let outcome = loop {
            match self.secondary.next_frame() {
                Ok(Some(frame)) => self.comparator.secondary(now, frame, &mut self.actions),
                Ok(None) => break Ok(()),
                Err(oversized) => {
                    self.counters.oversized += 1;
                    break Err(oversized);
                }
            }
        };
        self.act(now);
        outcome
    }

    /// The peer on `secondary_in` has gone.
    pub fn secondary_gone(&mut self) {
        self.counters.partial_frames += u64::from(self.secondary.reset());
    }

    /// True when there is something to write to `out`.
    pub fn has_output(&self) -> bool {
        self.hold.has_output()
    }

    /// What to write to `out`.
    pub fn output(&self) -> Vec<IoSlice<'_>> {
        self.hold.output()
    }

    /// `n` bytes have been written to `out`.
    pub fn output_written(&mut self, n: usize) {
        self.counters.frames_out += self.hold.written(n) as u64;
    }

    /// The peer on `out` has gone.
    pub fn output_gone(&mut self) {
        self.hold.rewind();
    }

    /// A peer has connected to `notify`.
    pub fn notify_connected(&mut self, now: Mono) {
        self.notify.connected(now);
    }

    /// The peer on `notify` has said this. On an error its connection is to be closed.
    pub fn notify_read(&mut self, bytes: &[u8], now: Mono) -> Result<(), Oversized> {
        let (comparator, actions, counters) = (&mut self.comparator, &mut self.actions, &mut self.counters);
        let outcome = self.notify.received(bytes, |said, text| match said {
            Said::Init => info!("notify: the peer introduced itself"),
            Said::Checkpoint => {
                info!(held = comparator.held(), "checkpoint: everything held leaves");
                comparator.checkpoint(now, actions);
            }
            Said::Unknown => {
                counters.unknown_texts += 1;
                warn!(%text, "notify: not understood");
            }
        });
        self.act(now);
        self.counters.oversized += u64::from(outcome.is_err());
        outcome
    }

    /// The peer on `notify` has gone.
    pub fn notify_gone(&mut self) {
        self.counters.partial_frames += u64::from(self.notify.gone());
    }

    /// What to write to `notify`.
    pub fn notify_output(&self) -> &[u8] {
        self.notify.output()
    }

    /// `n` bytes have been written to `notify`.
    pub fn notify_written(&mut self, n: usize) {
        self.notify.written(n);
    }

    /// Does what is due by time.
    pub fn tick(&mut self, now: Mono) {
        self.comparator.tick(now, &mut self.actions);
        self.act(now);
        self.notify.tick(now);
    }

    /// When to call [`Proxy::tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Mono> {
        [self.comparator.next_deadline(), self.notify.next_deadline()].into_iter().flatten().min()
    }

    /// Ends a pause of `primary_in` once there is room: compares what had been read before it. To be called after
    /// every change; true if it did something. An error is one of `primary_in`.
    pub fn resume(&mut self, now: Mono) -> Result<bool, Oversized> {
        if !self.paused || !self.hold.has_ample_room() {
            return Ok(false);
        }
        self.paused = false;
        self.compare_primary(now).map(|()| true)
    }

    fn act(&mut self, now: Mono) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Release(token) => self.hold.release(token),
                Action::Drop(token) => self.hold.discard(token),
                Action::Checkpoint(cause) => {
                    self.want(now);
                    let (count, since) = self.logged;
                    self.logged =
                        if now.saturating_since(since) < LOG_PERIOD { (count + 1, since) } else { (1, now) };
                    if self.logged.0 <= LOGGED_CAUSES {
                        warn!("checkpoint wanted: {cause}");
                    }
                }
                // The policy asks for none: there is no way out for a frame of the secondary.
                Action::Emit(_) | Action::Window(..) => {}
            }
        }
        self.actions = actions;
    }

    fn want(&mut self, now: Mono) {
        self.counters.checkpoints_wanted += u64::from(!self.notify.wanted());
        self.notify.want(now);
    }

    /// Everything counted, with the names of the summary.
    pub fn counted(&self) -> Vec<(String, u64)> {
        let counters = &self.counters;
        let own = [
            ("frames_out", counters.frames_out),
            ("held_at_exit", self.comparator.held() as u64),
            ("queued_at_exit", (self.hold.frames() - self.comparator.held().min(self.hold.frames())) as u64),
            ("hold_memory_bytes", self.hold.memory() as u64),
            ("comparator_kept_bytes", self.comparator.held_bytes() as u64),
            ("flows", self.comparator.flows() as u64),
            ("partial_frames", counters.partial_frames),
            ("oversized_frames", counters.oversized),
            ("primary_pauses", counters.primary_pauses),
            ("unknown_texts", counters.unknown_texts),
            ("checkpoints_wanted", counters.checkpoints_wanted),
            ("checkpoint_requests", self.notify.asked()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.comparator.counters().named()).collect()
    }
}

#[cfg(test)]
mod tests;

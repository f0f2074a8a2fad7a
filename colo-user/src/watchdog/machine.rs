//! One watchdog: connections, frames and `now` in, what to send and what has happened out.
//!
//! ```text
//!   never-seen ──frame──▶ alive ◀──────frame───────┐
//!       │                   │                      │
//!       └───────┬───────────┘                      │
//!               │ timeout                          │
//!               ├── debounce left ──▶ late ────────┤
//!               │                      │ timeout,  │
//!               │                      │ none left │
//!               └── none left ──▶ timed-out ───────┘
//! ```
//!
//! Without debounce, which is the default, `late` never occurs. The script becomes owed on each entry of timed-out, and
//! nowhere else. An owed script leaves when there is a notification node; one that breaks off in the middle of it gets it whole
//! again after it has come back. A peer that is heard again does not take back what is owed: a timeout is a
//! timeout.
//!
//! The order of calls matters at a deadline: frames that have arrived are told before [`Machine::tick`], so that a watchdog that was
//! itself not run for a while does not blame its peer.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{PULSE, REPLY};
use crate::mono::Mono;

/// Connections of a peer at one time. A peer that has come back after its host died is there beside its own dead
/// connection; beyond the bound the one that was silent for longest is closed.
pub const MAX_PEERS: usize = 8;

/// Scripts owed to a notification node that is not there; further timeouts owe none, and are counted.
pub const MAX_OWED: u32 = 16;

/// The parameters of a watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This side does not answer frames.
    pub server: bool,
    /// Milliseconds between two pulses.
    pub pulse_interval: NonZeroU32,
    /// Milliseconds without a frame that make a timeout.
    pub timeout: NonZeroU32,
    /// Timeouts in a row that are let pass first.
    pub debounce: u32,
}

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No frame has come since the start.
    NeverSeen,
    /// A frame has come within the timeout.
    Alive,
    /// A timeout has passed, and debounce lets it.
    Late,
    /// It is given up, until the next frame.
    TimedOut,
}

impl State {
    /// Its name, as machines are told.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NeverSeen => "never-seen",
            Self::Alive => "alive",
            Self::Late => "late",
            Self::TimedOut => "timed-out",
        }
    }
}

/// A connection of the peer, numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a frame with this body.
    Send(PeerId, &'static [u8]),
    /// Close the connection. It is told as gone afterwards, or not; both are fine.
    Close(PeerId),
    /// Write the script, whole, to the notification node, and tell when that is done.
    Script,
    /// Tell people and machines.
    Changed {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// How long nothing had been heard, or since the start.
        silent: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    state: State,
    /// When the last frame came, or the start.
    heard: Mono,
    /// Timeouts since then.
    missed: u32,
    /// When the next timeout is; none once the peer is given up.
    timeout: Option<Mono>,
    pulse: Mono,
    /// Connections, each with its last frame or its begin.
    peers: Vec<(PeerId, Mono)>,
    notification: bool,
    owed: u32,
    writing: bool,
    not_owed: u64,
}

impl Machine {
    /// A watchdog that starts now, with nobody connected.
    #[must_use]
    pub fn new(settings: Settings, now: Mono) -> Self {
        Self {
            settings,
            state: State::NeverSeen,
            heard: now,
            missed: 0,
            timeout: Some(now + millis(settings.timeout)),
            pulse: now + millis(settings.pulse_interval),
            peers: Vec::with_capacity(MAX_PEERS),
            notification: false,
            owed: 0,
            writing: false,
            not_owed: 0,
        }
    }

    /// What is known of the peer.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Timeouts whose script was not owed any more because [`MAX_OWED`] were.
    #[must_use]
    pub const fn not_owed(&self) -> u64 {
        self.not_owed
    }

    /// When [`Machine::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.timeout.map_or(self.pulse, |timeout| timeout.min(self.pulse))
    }

    /// A peer has connected. That alone is no sign of life, and it is sent nothing yet.
    pub fn peer_up(&mut self, peer: PeerId, now: Mono, out: &mut Vec<Action>) {
        if self.peers.len() >= MAX_PEERS
            && let Some(silent) = (0..self.peers.len()).min_by_key(|&at| self.peers[at].1)
        {
            let (closed, _) = self.peers.remove(silent);
            out.push(Action::Close(closed));
        }
        self.peers.push((peer, now));
    }

    /// A connection has ended. The timer runs on.
    pub fn peer_down(&mut self, peer: PeerId) {
        self.peers.retain(|&(other, _)| other != peer);
    }

    /// A complete frame has come.
    pub fn frame(&mut self, from: PeerId, body: &[u8], now: Mono, out: &mut Vec<Action>) {
        // What still comes on a connection that was closed is as much a sign of life.
        if let Some((_, heard)) = self.peers.iter_mut().find(|(peer, _)| *peer == from) {
            *heard = now;
            if !self.settings.server && body != REPLY {
                out.push(Action::Send(from, REPLY));
            }
        }
        self.enter(State::Alive, now, out);
        self.heard = now;
        self.missed = 0;
        self.timeout = Some(now + millis(self.settings.timeout));
    }

    /// Time has passed. Sends at most one pulse and finds at most one timeout, however much of it: who was not run for a
    /// while does not make up for it.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.pulse <= now {
            self.pulse = after(self.pulse, millis(self.settings.pulse_interval), now);
            out.extend(self.peers.iter().map(|&(peer, _)| Action::Send(peer, PULSE)));
        }
        let Some(timeout) = self.timeout.filter(|&timeout| timeout <= now) else { return };
        if self.missed < self.settings.debounce {
            self.missed += 1;
            self.timeout = Some(after(timeout, millis(self.settings.timeout), now));
            self.enter(State::Late, now, out);
        } else {
            self.timeout = None;
            self.enter(State::TimedOut, now, out);
            if self.owed < MAX_OWED {
                self.owed += 1;
            } else {
                self.not_owed += 1;
            }
            self.write(out);
        }
    }

    /// The notification node is there.
    pub fn notification_up(&mut self, out: &mut Vec<Action>) {
        (self.notification, self.writing) = (true, false);
        self.write(out);
    }

    /// The notification node is gone. A script that was not wholly written is owed still.
    pub fn notification_down(&mut self) {
        (self.notification, self.writing) = (false, false);
    }

    /// The script is written.
    pub fn script_written(&mut self, out: &mut Vec<Action>) {
        if self.writing {
            self.writing = false;
            self.owed -= 1;
            self.write(out);
        }
    }

    fn write(&mut self, out: &mut Vec<Action>) {
        if self.owed > 0 && self.notification && !self.writing {
            self.writing = true;
            out.push(Action::Script);
        }
    }

    fn enter(&mut self, to: State, now: Mono, out: &mut Vec<Action>) {
        if self.state != to {
            let silent = now.saturating_since(self.heard);
            out.push(Action::Changed { from: self.state, to, silent });
            self.state = to;
        }
    }
}

fn millis(millis: NonZeroU32) -> Duration {
    Duration::from_millis(millis.get().into())
}

/// One period after `due`, or after `now` if that has passed as well.
fn after(due: Mono, period: Duration, now: Mono) -> Mono {
    let next = due + period;
    if next > now { next } else { now + period }
}

#[cfg(test)]
mod tests;

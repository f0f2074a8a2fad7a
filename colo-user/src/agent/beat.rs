//! Heartbeats of one session: when to send one, what it says, and when the peer has been silent for too long. No I/O, no
//! clock. Any message counts as a sign of life; heartbeats make sure that there is one, and tell when both directions
//! work.
//!
//! A primary is *leased* ([`Beat::lease`]): what counts for it is not what it hears, but the last thing it said that the
//! secondary confirms to have heard. So the secondary knows when a primary that it has not heard since has stopped.

use crate::link::frame::Heartbeat;
use crate::mono::Mono;
use std::time::Duration;

/// Longest time between two heartbeats, unless [`Beat::every`] says otherwise.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// Heartbeats in one limit, at least: some may be late, on a host that is busy.
pub const BEATS: u32 = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Beat {
    started: Mono,
    next: Mono,
    interval: Duration,
    limit: Duration,
    last_heard: Mono,
    /// Own heartbeats count as heard when they are confirmed, from the time they were sent.
    leased: bool,
    /// `sent` of the peer's last heartbeat.
    echo: u64,
    /// The peer has answered a heartbeat of this session.
    answered: bool,
    /// Messages with frames taken from the link.
    pub frames: u64,
}

impl Beat {
    /// A session that begins now and is lost after `limit` without a sign of life. The first heartbeat is due at once.
    #[must_use]
    pub fn new(now: Mono, limit: Duration) -> Self {
        Self {
            started: now,
            next: now,
            interval: INTERVAL.min(limit / BEATS),
            limit,
            last_heard: now,
            leased: false,
            echo: 0,
            answered: false,
            frames: 0,
        }
    }

    /// The same for a side that stops by itself when it is not confirmed to be heard.
    #[must_use]
    pub fn lease(now: Mono, limit: Duration) -> Self {
        Self { leased: true, ..Self::new(now, limit) }
    }

    /// The same with heartbeats at least this often, where that is said.
    #[must_use]
    pub fn every(self, interval: Option<Duration>) -> Self {
        Self { interval: interval.map_or(self.interval, |interval| interval.min(self.interval)), ..self }
    }

    /// Something came from the peer.
    pub const fn alive(&mut self, now: Mono) {
        if !self.leased {
            self.last_heard = now;
        }
    }

    /// When the peer was heard last.
    #[must_use]
    pub const fn last_heard(&self) -> Mono {
        self.last_heard
    }

    /// A heartbeat came. It is answered at once while the session starts, so that sync takes one round trip.
    pub fn heard(&mut self, now: Mono, heartbeat: &Heartbeat) {
        self.echo = heartbeat.sent;
        if self.leased {
            self.last_heard = self.last_heard.max(Mono::from_nanos(heartbeat.echo).min(now));
        }
        if !self.answered {
            self.next = now;
            self.answered = heartbeat.echo >= self.started.as_nanos().max(1);
        }
    }

    /// The next heartbeat is due now: its echo will prove something.
    pub const fn hurry(&mut self, now: Mono) {
        self.next = now;
    }

    /// Whether both directions work.
    #[must_use]
    pub const fn answered(&self) -> bool {
        self.answered
    }

    /// The heartbeat to send now, if one is due.
    pub fn due(&mut self, now: Mono, lost: u64) -> Option<Heartbeat> {
        (now >= self.next).then(|| {
            self.next = now + self.interval;
            Heartbeat { sent: now.as_nanos().max(1), echo: self.echo, frames: self.frames, lost }
        })
    }

    /// Whether the peer has been silent for too long.
    #[must_use]
    pub fn silent(&self, now: Mono) -> bool {
        now.saturating_since(self.last_heard) >= self.limit
    }

    /// When [`Self::due`] or [`Self::silent`] changes.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.next.min(self.last_heard + self.limit)
    }
}

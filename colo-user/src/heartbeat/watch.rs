//! One link: when the peer was heard over it, which beats came, and how often it was late or lost.

use serde::Serialize;
use std::time::Duration;

use super::{Beat, Settings};
use crate::mono::Mono;

/// Beats below the highest sequence number that are told from duplicates.
const WINDOW: u64 = 64;

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Nothing has come yet, and the limit has not passed.
    Waiting,
    /// Signs of life come in time.
    Alive,
    /// One is overdue.
    Late,
    /// None for the limit, or the link broke.
    Lost,
}

impl LinkState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Alive, Self::Late, Self::Lost];

    /// The word, an interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

/// What is shown of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// Its name: `data`, or its endpoint.
    pub link: String,
    /// A word of [`LinkState`].
    pub state: &'static str,
    /// Signs of life that came; of the data link at most one for each look.
    pub heard: u64,
    /// Times that one was overdue.
    pub late: u64,
    /// Times that the link was lost.
    pub lost: u64,
    /// Of these, ended by the same agent, heard again.
    pub false_alarms: u64,
    /// The longest time between two signs of one agent, in microseconds.
    pub worst_gap_us: u64,
    /// Beats that never came, by their numbers.
    pub missing: u64,
    /// Beats that came behind a later one.
    pub reordered: u64,
    /// Beats that came again.
    pub duplicated: u64,
    /// The last way there and back, in microseconds; 0 if not known.
    pub round_trip_us: u64,
    /// Whether the peer hears this side over it.
    pub heard_by_peer: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watch {
    state: LinkState,
    /// The last sign of life.
    heard: Option<Mono>,
    /// Silence counts from here: the last sign, the start, or the end of an own pause.
    since: Mono,
    highest: u64,
    /// Which of the numbers below `highest` have come.
    seen: u64,
    /// What goes back with the next beat: `sent` of the peer's last one.
    echo: u64,
    echoed: Option<Mono>,
    /// When the last own beat was sent that the peer is known to have heard.
    confirmed: Option<Mono>,
    report: LinkReport,
}

impl Watch {
    /// A link over which nothing has come; `name` is for people.
    #[must_use]
    pub fn new(now: Mono, name: String) -> Self {
        Self {
            state: LinkState::Waiting,
            heard: None,
            since: now,
            highest: 0,
            seen: 0,
            echo: 0,
            echoed: None,
            confirmed: None,
            report: LinkReport { link: name, ..LinkReport::default() },
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn state(&self) -> LinkState {
        self.state
    }

    /// When the peer was heard over it last.
    #[must_use]
    pub const fn heard(&self) -> Option<Mono> {
        self.heard
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.report.link
    }

    /// The peer that is heard from here on is another one: its numbers begin anew.
    pub fn restart(&mut self) {
        (self.highest, self.seen, self.echo) = (0, 0, 0);
        (self.heard, self.echoed, self.confirmed) = (None, None, None);
    }

    /// Something came at `at`. True if the link was lost.
    pub fn sign(&mut self, at: Mono) -> bool {
        let report = &mut self.report;
        report.heard += 1;
        if let Some(heard) = self.heard {
            let gap = at.saturating_since(heard).as_micros();
            report.worst_gap_us = report.worst_gap_us.max(u64::try_from(gap).unwrap_or(u64::MAX));
        }
        let was_lost = self.state == LinkState::Lost;
        if was_lost && self.heard.is_some() {
            report.false_alarms += 1;
        }
        self.heard = Some(self.heard.map_or(at, |heard| heard.max(at)));
        self.since = self.since.max(at);
        self.state = LinkState::Alive;
        was_lost
    }

    /// A beat of the agent that is heard; false if it came before.
    pub fn beat(&mut self, now: Mono, own_boot: u64, beat: &Beat) -> bool {
        let report = &mut self.report;
        if beat.seq > self.highest {
            let skipped = beat.seq - self.highest - 1;
            // What was said before the first one that came was said before this side listened.
            if self.highest > 0 {
                report.missing = report.missing.saturating_add(skipped);
            }
            let shift = skipped.saturating_add(1);
            self.seen = if shift < WINDOW { self.seen << shift } else { 0 };
            if self.highest > 0 && shift <= WINDOW {
                self.seen |= 1 << (shift - 1);
            }
            self.highest = beat.seq;
            (self.echo, self.echoed) = (beat.sent, Some(now));
        } else {
            let below = self.highest - beat.seq;
            let bit = if (1..=WINDOW).contains(&below) { 1 << (below - 1) } else { 0 };
            // What lies below the window is as old as a duplicate.
            if bit == 0 || self.seen & bit != 0 {
                report.duplicated += 1;
                return false;
            }
            self.seen |= bit;
            report.reordered += 1;
            report.missing = report.missing.saturating_sub(1);
        }
        if beat.heard_boot == own_boot && beat.echo > 0 {
            let sent = Mono::from_nanos(beat.echo);
            let way = now.saturating_since(sent + Duration::from_nanos(beat.held)).as_micros();
            self.report.round_trip_us = u64::try_from(way).unwrap_or(u64::MAX);
            self.confirmed = self.confirmed.max(Some(sent.min(now)));
        }
        true
    }

    /// The link broke.
    pub fn broken(&mut self) {
        if self.state != LinkState::Lost {
            self.state = LinkState::Lost;
            self.report.lost += 1;
        }
    }

    /// Silence counts from `now` on.
    pub fn begin_anew(&mut self, now: Mono) {
        self.since = self.since.max(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Mono, settings: &Settings) {
        let silent = now.saturating_since(self.since);
        match self.state {
            LinkState::Lost => {}
            _ if silent >= settings.limit() => {
                // A look that comes late finds both at once.
                if self.state == LinkState::Alive {
                    self.report.late += 1;
                }
                self.broken();
            }
            LinkState::Alive if silent >= settings.late() => {
                self.state = LinkState::Late;
                self.report.late += 1;
            }
            LinkState::Waiting | LinkState::Alive | LinkState::Late => {}
        }
        self.report.heard_by_peer =
            self.confirmed.is_some_and(|confirmed| now.saturating_since(confirmed) < settings.limit());
    }

    /// When [`Self::tick`] finds something.
    #[must_use]
    pub fn next_deadline(&self, settings: &Settings) -> Option<Mono> {
        match self.state {
            LinkState::Alive => Some(self.since + settings.late()),
            LinkState::Waiting | LinkState::Late => Some(self.since + settings.limit()),
            LinkState::Lost => None,
        }
    }

    /// What the next beat over this link says of the last one that came: `echo` and `held`.
    #[must_use]
    pub fn echo(&self, now: Mono) -> (u64, u64) {
        let held = self.echoed.map_or(Duration::ZERO, |at| now.saturating_since(at));
        (self.echo, u64::try_from(held.as_nanos()).unwrap_or(u64::MAX))
    }

    /// What is shown of it.
    #[must_use]
    pub fn report(&self) -> LinkReport {
        LinkReport { state: self.state.word(), ..self.report.clone() }
    }
}

#[cfg(test)]
mod tests;

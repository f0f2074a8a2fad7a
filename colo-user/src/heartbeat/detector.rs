//! All links together: the peer's state, its boot, and what leaves in return.

use serde::Serialize;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::Duration;

use super::watch::Watch;
use super::{Beat, Condition, LinkReport, LinkState, MAX_LINKS, Settings};
use crate::mono::Mono;

/// Earlier starts of the peer that are remembered: a beat of theirs is a late one, not another restart.
const PAST_BOOTS: usize = 4;

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// It has not been heard yet, and the limit has not passed.
    Waiting,
    /// It is heard in time over one link at least.
    Alive,
    /// As above, and it says that its guest stands still for a checkpoint.
    Paused,
    /// No link is in time, and not every one is lost.
    Late,
    /// Every link is lost.
    Lost,
}

impl PeerState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Alive, Self::Paused, Self::Late, Self::Lost];

    /// The word, an interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Alive => "alive",
            Self::Paused => "paused",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

/// What a user of the detector goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is known of the peer.
    pub state: PeerState,
    /// What the agent that is heard said of itself last; none if none was heard.
    pub condition: Option<Condition>,
    /// The boot of the agent that was heard before the one that is heard now.
    pub replaced: Option<u64>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link stands otherwise.
    Link {
        /// Its number, in the order of [`Detector::new`].
        link: usize,
        /// As it stands now.
        to: LinkState,
    },
    /// The peer does.
    Peer {
        /// As it was.
        from: PeerState,
        /// As it is.
        to: PeerState,
        /// How long nothing had been heard of it over any link, or since the start.
        silent: Duration,
    },
    /// Another agent speaks: the peer was started anew.
    Restarted {
        /// Its boot.
        boot: u64,
    },
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// A word of [`PeerState`].
    pub peer: &'static str,
    /// Why, from a fixed list ([`REASONS`]).
    pub reason: &'static str,
    /// Milliseconds between two beats.
    pub interval_ms: u64,
    /// Intervals without one that make a link lost.
    pub multiplier: u8,
    /// Since the peer was heard last, over any link, or since the start, in milliseconds.
    pub silent_ms: u64,
    /// Times that no link was in time.
    pub late: u64,
    /// Times that the peer was lost.
    pub lost: u64,
    /// Of these, ended by the same agent, heard again.
    pub false_alarms: u64,
    /// Likewise, for each hour that this agent has run.
    pub false_alarms_per_hour: f64,
    /// Times that the peer was started anew.
    pub restarts: u64,
    /// Times that this side did not run for more than half the limit.
    pub own_pauses: u64,
    /// The longest of them, in microseconds.
    pub worst_own_pause_us: u64,
    /// Beats of an agent that was there before the one that is heard, and own ones.
    pub stale: u64,
    /// Beats sent, over all links.
    pub sent: u64,
    /// The data link first.
    pub links: Vec<LinkReport>,
}

/// All reasons of a [`Report`].
pub const REASONS: [&str; 6] = [IN_TIME, LINK_LOST, IN_CHECKPOINT, OVERDUE, SILENT, NEVER_HEARD];
const IN_TIME: &str = "beats in time";
const LINK_LOST: &str = "link lost";
const IN_CHECKPOINT: &str = "guest in a checkpoint";
const OVERDUE: &str = "beats overdue";
const SILENT: &str = "all links silent";
const NEVER_HEARD: &str = "never heard";

/// See the module above. Link 0 is the data link: its signs of life are any messages, and no beats of this kind go over it.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: Settings,
    boot: u64,
    links: Vec<Watch>,
    /// Numbers of the last beat sent, by link.
    seqs: Vec<u64>,
    started: Mono,
    called: Mono,
    next: Mono,
    state: PeerState,
    /// The boot that is heard; 0 before the first beat.
    peer_boot: u64,
    past: VecDeque<u64>,
    /// The newest of its beats: when it was sent, and what it said.
    newest: Option<(u64, Condition)>,
    /// The agent that was lost, until it or another one beats.
    lost_boot: Option<u64>,
    late: u64,
    lost: u64,
    false_alarms: u64,
    restarts: u64,
    own_pauses: u64,
    worst_own_pause: Duration,
    stale: u64,
    sent: u64,
}

impl Detector {
    /// A detector of an agent with start number `boot`, over links called so, the data link first; those beyond
    /// [`MAX_LINKS`] are left out.
    #[must_use]
    pub fn new(settings: Settings, boot: u64, links: impl IntoIterator<Item = String>, now: Mono) -> Self {
        let links: Vec<_> = links.into_iter().take(MAX_LINKS).map(|name| Watch::new(now, name)).collect();
        Self {
            settings,
            boot,
            seqs: vec![0; links.len()],
            links,
            started: now,
            called: now,
            next: now,
            state: PeerState::Waiting,
            peer_boot: 0,
            past: VecDeque::with_capacity(PAST_BOOTS),
            newest: None,
            lost_boot: None,
            late: 0,
            lost: 0,
            false_alarms: 0,
            restarts: 0,
            own_pauses: 0,
            worst_own_pause: Duration::ZERO,
            stale: 0,
            sent: 0,
        }
    }

    /// What is known of the peer.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let condition = self.newest.map(|(_, condition)| condition);
        Verdict { state: self.state, condition, replaced: self.past.front().copied() }
    }

    /// The name of a link.
    #[must_use]
    pub fn name(&self, link: usize) -> &str {
        self.links.get(link).map_or("?", Watch::name)
    }

    /// A beat has come over `link`.
    pub fn heard(&mut self, now: Mono, link: usize, beat: &Beat, out: &mut Vec<Event>) {
        if link >= self.links.len() {
            return;
        }
        // A link that leads back to this agent says nothing of the peer.
        if beat.boot == self.boot {
            self.stale += 1;
            return;
        }
        if beat.boot != self.peer_boot {
            if self.past.contains(&beat.boot) {
                self.stale += 1;
                return;
            }
            if self.peer_boot != 0 {
                self.restarts += 1;
                self.past.truncate(PAST_BOOTS - 1);
                self.past.push_front(self.peer_boot);
                self.links.iter_mut().for_each(Watch::restart);
                (self.newest, self.lost_boot) = (None, None);
                out.push(Event::Restarted { boot: beat.boot });
            }
            self.peer_boot = beat.boot;
        }
        let watch = &mut self.links[link];
        if !watch.beat(now, self.boot, beat) {
            return;
        }
        // Only a beat proves who is there: a data link that comes back may be another agent's.
        if self.lost_boot.take() == Some(beat.boot) {
            self.false_alarms += 1;
        }
        if self.newest.is_none_or(|(sent, _)| beat.sent >= sent) {
            self.newest = Some((beat.sent, beat.condition));
        }
        let before = watch.state();
        watch.sign(now);
        self.settle(now, link, before, out);
    }

    /// Something has come over `link`, which carries no beats, at `at`.
    pub fn sign(&mut self, now: Mono, link: usize, at: Mono, out: &mut Vec<Event>) {
        let Some(watch) = self.links.get_mut(link) else { return };
        let before = watch.state();
        watch.sign(at);
        self.settle(now, link, before, out);
    }

    /// `link` broke.
    pub fn broken(&mut self, now: Mono, link: usize, out: &mut Vec<Event>) {
        let Some(watch) = self.links.get_mut(link) else { return };
        let before = watch.state();
        watch.broken();
        self.settle(now, link, before, out);
    }

    /// Time has passed; all that has come was told before.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Event>) {
        let slept = now.saturating_since(std::mem::replace(&mut self.called, now));
        if slept > self.settings.limit() / 2 {
            self.own_pauses += 1;
            self.worst_own_pause = self.worst_own_pause.max(slept);
            self.links.iter_mut().for_each(|watch| watch.begin_anew(now));
        }
        for link in 0..self.links.len() {
            let before = self.links[link].state();
            self.links[link].tick(now, &self.settings);
            self.settle(now, link, before, out);
        }
    }

    /// The beats to send now over each link but the data link, if they are due.
    pub fn due(&mut self, now: Mono, condition: Condition) -> SmallVec<[(usize, Beat); MAX_LINKS]> {
        let mut beats = SmallVec::new();
        if now < self.next {
            return beats;
        }
        // Not made up for: a burst of old beats says no more than one.
        let on_time = self.next + self.settings.interval;
        self.next = if on_time > now { on_time } else { now + self.settings.interval };
        for (link, watch) in self.links.iter().enumerate().skip(1) {
            let (echo, held) = watch.echo(now);
            self.seqs[link] += 1;
            self.sent += 1;
            let beat = Beat {
                boot: self.boot,
                seq: self.seqs[link],
                sent: now.as_nanos().max(1),
                echo,
                held,
                heard_boot: self.peer_boot,
                condition,
            };
            beats.push((link, beat));
        }
        beats
    }

    /// The next beats are due at once: there is something to say.
    pub const fn hurry(&mut self, now: Mono) {
        self.next = now;
    }

    /// When [`Self::tick`] or [`Self::due`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        let links = self.links.iter().filter_map(|watch| watch.next_deadline(&self.settings));
        // Often enough that an own pause shows.
        links.fold(self.next.min(self.called + self.settings.limit() / 4), Mono::min)
    }

    /// What is shown.
    #[must_use]
    pub fn report(&self, now: Mono) -> Report {
        let heard = self.links.iter().filter_map(Watch::heard).max();
        let hours = now.saturating_since(self.started).as_secs_f64().max(1.0) / 3600.0;
        let rate = self.false_alarms as f64 / hours;
        Report {
            peer: self.state.word(),
            reason: self.reason(),
            interval_ms: millis(self.settings.interval),
            multiplier: self.settings.multiplier.get(),
            silent_ms: millis(now.saturating_since(heard.unwrap_or(self.started))),
            late: self.late,
            lost: self.lost,
            false_alarms: self.false_alarms,
            false_alarms_per_hour: (rate * 100.0).round() / 100.0,
            restarts: self.restarts,
            own_pauses: self.own_pauses,
            worst_own_pause_us: u64::try_from(self.worst_own_pause.as_micros()).unwrap_or(u64::MAX),
            stale: self.stale,
            sent: self.sent,
            links: self.links.iter().map(Watch::report).collect(),
        }
    }

    fn reason(&self) -> &'static str {
        let never = self.links.iter().all(|watch| watch.heard().is_none());
        match self.state {
            PeerState::Waiting => NEVER_HEARD,
            PeerState::Lost if never => NEVER_HEARD,
            PeerState::Lost => SILENT,
            PeerState::Late => OVERDUE,
            PeerState::Alive | PeerState::Paused if self.any(LinkState::Lost) => LINK_LOST,
            PeerState::Paused => IN_CHECKPOINT,
            PeerState::Alive => IN_TIME,
        }
    }

    fn any(&self, state: LinkState) -> bool {
        self.links.iter().any(|watch| watch.state() == state)
    }

    /// Tells of a link that stands otherwise than `before`, and of the peer.
    fn settle(&mut self, now: Mono, link: usize, before: LinkState, out: &mut Vec<Event>) {
        let to = self.links[link].state();
        if to != before {
            out.push(Event::Link { link, to });
        }
        let state = if self.any(LinkState::Alive) {
            let paused = self.newest.is_some_and(|(_, condition)| condition.paused);
            if paused { PeerState::Paused } else { PeerState::Alive }
        } else if self.any(LinkState::Late) {
            PeerState::Late
        } else if self.any(LinkState::Waiting) {
            PeerState::Waiting
        } else {
            PeerState::Lost
        };
        let from = std::mem::replace(&mut self.state, state);
        if from == state {
            return;
        }
        match state {
            PeerState::Late => self.late += 1,
            PeerState::Lost => {
                self.lost += 1;
                self.lost_boot = (self.peer_boot != 0).then_some(self.peer_boot);
            }
            PeerState::Waiting | PeerState::Alive | PeerState::Paused => {}
        }
        let heard = self.links.iter().filter_map(Watch::heard).max().unwrap_or(self.started);
        out.push(Event::Peer { from, to: state, silent: now.saturating_since(heard) });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! A primary that follows its own QEMU: which epoch a frame is of, and from when on the secondary shares it.
//!
//! ```text
//!  guard    Free ──COLO entered──▶ Colo ──COLO left──▶ Lost ──COLO entered──▶ Colo
//!             ▲                      └─────────────────┴──── goes on alone ──▶ Free
//!           Colo ──paused──▶ Paused ──resumed──▶ Resuming ──checkpoint──▶ Colo
//!  session  begun ──the secondary answers (begin)──▶ ready ──commit──▶ covered
//! ```
//!
//! *Free*, *Paused* and *Resuming*: output leaves at once. Otherwise it is compared once *covered*, and waits until then. A STOP between the
//! beginning of a session and its answer may be of a checkpoint that the secondary does not count: the session begins anew
//! when the guest runs, so that both count from the same one on. Every checkpoint since then is a [`Cut`] in a queue; frames
//! are placed by their stamps against the silence of the first, and wait undecided behind it.

use super::{Action, Effect, Primary, Session};
use crate::agent::place::Place;
use crate::agent::protection::{Protection, Reason};
use crate::checkpoint::Request;
use crate::failover::Trouble;
use crate::link::buffer::Outbox;
use crate::link::frame::Message;
use crate::mono::Mono;
use crate::translate::Base;
use crate::vm::{Side, Silence, Told};
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    Free,
    Colo,
    Lost,
    /// In COLO, and output leaves at once.
    Paused,
    /// The same, until the next checkpoint.
    Resuming,
}

/// A checkpoint on its way from STOP to commit.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// First input that the state lacks.
    pub first: u64,
    /// Nothing was read between the copy and the count.
    pub exact: bool,
    pub bases: Vec<Base>,
    pub sent: bool,
    /// Set once the guest runs again.
    pub silence: Option<Silence>,
    /// All that it said before has been handed in.
    pub drained: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Following {
    /// The monitor has said where the VM is.
    placed: bool,
    stopped: bool,
    guard: Guard,
    ready: bool,
    covered: bool,
    /// The guest stopped since the session began.
    disturbed: bool,
    anew: bool,
    term: u64,
    cuts: VecDeque<Cut>,
    /// Since when a checkpoint is due and none begins.
    due: Option<Mono>,
}

impl Following {
    pub fn new(seed: u64) -> Self {
        Self {
            placed: false,
            stopped: false,
            guard: Guard::Free,
            ready: false,
            covered: false,
            disturbed: false,
            anew: false,
            term: next_term(seed),
            cuts: VecDeque::new(),
            due: None,
        }
    }

    /// Whether output leaves at once.
    pub fn free(&self) -> bool {
        matches!(self.guard, Guard::Free | Guard::Paused | Guard::Resuming)
    }

    /// Whether the secondary shares the epoch.
    pub fn covered(&self) -> bool {
        self.covered && !self.free()
    }

    /// Whether the secondary has answered the session.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// The cut that comes to its end next.
    pub fn cut(&self) -> Option<&Cut> {
        self.cuts.front()
    }

    pub fn unsent(&mut self) -> Option<&mut Cut> {
        self.cuts.front_mut().filter(|cut| !cut.sent)
    }

    /// The next epoch has begun.
    pub fn committed(&mut self) -> Option<Cut> {
        self.covered = true;
        self.cuts.pop_front()
    }

    /// Nothing that was begun comes to its end.
    fn void(&mut self) {
        (self.ready, self.covered) = (false, false);
        self.cuts.clear();
    }

    fn begun(&mut self) {
        self.void();
        self.disturbed = self.stopped;
        self.anew = false;
    }

    const fn protection(&self) -> Protection {
        Protection::Not(match self.guard {
            _ if !self.placed => Reason::MonitorLost,
            Guard::Free => Reason::NotInColo,
            Guard::Lost => Reason::LeftColo,
            Guard::Paused => Reason::Paused,
            Guard::Resuming => Reason::CheckpointDue,
            Guard::Colo if self.covered => return Protection::Protected,
            Guard::Colo => Reason::CheckpointDue,
        })
    }
}

/// Another name for another protection: a step of SplitMix64, public domain.
const fn next_term(term: u64) -> u64 {
    let z = term.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Primary {
    /// Names the protection; 0 where no QEMU is followed.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| following.term)
    }

    /// The next session is of this protection.
    pub fn set_term(&mut self, term: u64) {
        if let Some(following) = &mut self.following {
            following.term = term;
        }
    }

    /// Whether what the secondary says counts.
    pub(super) fn covered(&self) -> bool {
        self.following.as_ref().is_none_or(Following::covered)
    }

    /// Where a frame with this stamp belongs. It was taken before the monitor was last read.
    #[must_use]
    pub fn place(&self, stamp: Mono) -> Place {
        let Some(following) = &self.following else {
            return if self.epochs.cutting() { Place::Wait } else { Place::Now };
        };
        match following.cut().map(|cut| cut.silence) {
            _ if !following.placed => Place::Wait,
            None | Some(None) => Place::Now,
            Some(Some(silence)) => match silence.side(stamp) {
                Side::Before => Place::Now,
                // Compared in the next epoch, it leaves too late rather than too early.
                Side::After | Side::Unsure => Place::Wait,
            },
        }
    }

    /// All that was said before the first cut has been handed in. True if the next epoch has begun with that: what waited
    /// may be placed now.
    pub fn drained(&mut self, now: Mono, outbox: Option<&mut Outbox>, effects: &mut Vec<Effect>) -> bool {
        let Some(following) = &mut self.following else { return false };
        let Some(cut) = following.cuts.front_mut().filter(|cut| cut.silence.is_some()) else { return false };
        cut.drained = true;
        let before = self.epochs.epoch();
        if let Some(outbox) = outbox {
            self.commit(now, outbox, effects);
        }
        self.epochs.epoch() != before
    }

    /// The own QEMU told something; what it copies comes by [`Self::copied`].
    pub fn told(&mut self, now: Mono, told: Told, outbox: Option<&mut Outbox>) {
        let Some(following) = &mut self.following else { return };
        match told {
            Told::Placed { colo, stopped, missed } => {
                following.placed = true;
                following.stopped = stopped;
                let entered = colo && matches!(following.guard, Guard::Free | Guard::Lost);
                if entered {
                    following.guard = Guard::Colo;
                }
                if entered || missed {
                    self.begin_anew(now, outbox);
                }
            }
            Told::Unheard => {
                following.placed = false;
                self.uncover(now);
            }
            Told::Stopped => (following.stopped, following.disturbed) = (true, true),
            Told::Ran(silence) | Told::Doubtful { silence, .. } => {
                following.stopped = false;
                if let Some(cut) = following.cuts.back_mut().filter(|cut| cut.silence.is_none()) {
                    cut.silence = Some(silence);
                    self.pauses.record(silence.length());
                    self.own.cuts_unsure += u64::from(!silence.sure());
                    self.cut_started = Some(now);
                }
            }
            Told::Continued | Told::TookOver => following.stopped = false,
            Told::Left => {
                following.guard = Guard::Lost;
                self.uncover(now);
            }
            Told::Copied { .. } => {}
        }
        self.judge_protection_if_linked();
    }

    /// Begins the session anew if that was left until the guest runs.
    pub fn settle_session(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        if self.following.as_ref().is_some_and(|f| f.anew && f.placed && !f.stopped) {
            self.begin_anew(now, outbox);
        }
    }

    /// The guest that stands still is copied, and its QEMU has read the input before `first`: exactly, unless it may have
    /// run since. `bases` is the translation that the state brings along.
    pub fn copied(
        &mut self,
        entry: bool,
        (first, exact): (u64, bool),
        bases: Vec<Base>,
        outbox: Option<&mut Outbox>,
    ) {
        let Some(following) = &mut self.following else { return };
        if entry && following.guard == Guard::Lost {
            following.term = next_term(following.term);
            following.anew = true;
        }
        // One that went on alone may have stayed in COLO.
        if entry || following.guard == Guard::Free {
            following.guard = Guard::Colo;
        }
        if !following.ready || following.anew {
            self.own.cuts_refused += 1;
            following.anew |= following.ready;
        } else {
            self.own.input_cuts_inexact += u64::from(!exact);
            if following.guard == Guard::Resuming {
                following.guard = Guard::Colo;
            }
            following.cuts.push_back(Cut { first, exact, bases, sent: false, silence: None, drained: false });
            self.send_cut(outbox);
        }
        self.judge_protection_if_linked();
    }

    /// Tells the peer that a session begins.
    pub(super) fn begin_session(&mut self, outbox: &mut Outbox) {
        let term = match &mut self.following {
            Some(following) => {
                following.begun();
                following.term
            }
            None => 0,
        };
        outbox.push(&Message::Session { epoch: self.epochs.epoch(), term, lease: self.peer_limit });
    }

    /// Begins the session anew, over the same link, as soon as the guest runs.
    pub(super) fn begin_anew(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        self.uncover(now);
        let Some(following) = &mut self.following else { return };
        following.anew = true;
        let (Some(outbox), false) = (outbox, following.stopped || !following.placed) else { return };
        if matches!(self.session, Session::Apart) {
            return;
        }
        self.own.sessions_anew += 1;
        // By two: a begin that is on its way must not be taken for an answer.
        self.epochs.restart();
        self.epochs.restart();
        self.begin_session(outbox);
        self.judge_protection_if_linked();
    }

    /// The secondary stands in no checkpoint, and counts from here on.
    pub(super) fn ready(&mut self, now: Mono, outbox: &mut Outbox, effects: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else { return };
        if following.disturbed {
            return self.begin_anew(now, Some(outbox));
        }
        following.ready = true;
        if matches!(following.guard, Guard::Colo | Guard::Resuming) {
            let text = "the agents have met, and the secondary's state is older".into();
            let request = Request { kind: "session", text, epoch: self.epochs.epoch(), divergence: None };
            self.post(now, request, effects);
        }
    }

    /// The secondary shares the epoch no longer, or not for sure: what is held waits for the next commit.
    pub(super) fn uncover(&mut self, now: Mono) {
        let Some(following) = &mut self.following else { return };
        following.void();
        self.cut_started = None;
        self.withheld.clear();
        self.withheld_bytes = 0;
        if following.free() {
            return;
        }
        self.comparator.release_all(now, &mut self.actions);
        for action in self.actions.drain(..) {
            if let Action::Release(token) | Action::Drop(token) = action {
                self.waiting.push_back(token);
            }
        }
    }

    /// Counts for how long a checkpoint is due and none begins: the agents have met and the secondary does not share the epoch, or one
    /// was asked for in this epoch.
    pub(super) fn await_checkpoint(&mut self, now: Mono) {
        let (joined, asked) = (self.joined(), self.asks.wanted_since.is_some());
        let Some(following) = &mut self.following else { return };
        let colo = matches!(following.guard, Guard::Colo | Guard::Resuming);
        let idle = following.placed && !following.stopped && following.cuts.is_empty();
        let due = joined && colo && idle && (asked || !following.covered);
        following.due = due.then(|| following.due.unwrap_or(now));
    }

    /// Whether none has begun for too long, though the guest runs and the secondary's agent answers. A QEMU whose channel to the
    /// other is gone makes none, and says so only once: an agent that was not there to hear it learns nothing of it from any look.
    /// Either QEMU may take `vm_limit`.
    #[must_use]
    pub fn no_checkpoint(&self, now: Mono, vm_limit: Duration) -> Option<Trouble> {
        let since = self.following.as_ref()?.due?;
        (now.saturating_since(since) >= 2 * vm_limit).then_some(Trouble::NoCheckpoint)
    }

    /// Whether QEMU has left COLO, upon which output is held.
    #[must_use]
    pub fn has_left_colo(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.guard == Guard::Lost)
    }

    /// The judge has said yes: everything held leaves in order, and from here on at once, until COLO is entered again.
    pub fn go_on_alone(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.uncover(now);
        let Some(following) = &mut self.following else { return };
        following.guard = Guard::Free;
        following.term = next_term(following.term);
        following.anew = true;
        self.release_all(now, effects);
        self.judge_protection_if_linked();
    }

    /// This side is the service, and part of no pair: what is held leaves in order. The guest said it before, and it was taken
    /// when QEMU had entered COLO.
    pub fn let_out(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.held() > 0 {
            self.release_all(now, effects);
        }
    }

    /// Protection is switched off: everything held leaves in order, and from here on at once; checkpoints go on.
    pub fn pause(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(following) = &mut self.following else { return };
        following.guard = Guard::Paused;
        self.release_all(now, effects);
        self.judge_protection_if_linked();
    }

    /// Protection is switched on: the session begins anew, and from its first checkpoint on output is held.
    pub fn unpause(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        let Some(following) = &mut self.following else { return };
        following.guard = Guard::Resuming;
        self.begin_anew(now, outbox);
        self.judge_protection_if_linked();
    }

    /// What its next steps depend on, times apart.
    #[cfg(test)]
    pub(in crate::agent) fn summary(&self) -> String {
        let Some(f) = &self.following else { return String::new() };
        let cuts: Vec<_> =
            f.cuts.iter().map(|c| (c.first, c.exact, c.sent, c.silence.is_some(), c.drained)).collect();
        let flags = (f.placed, f.stopped, f.guard, f.ready, f.covered, f.disturbed, f.anew);
        let waits = (self.waiting.len(), self.withheld.len(), self.comparator.held());
        format!("{flags:?}{cuts:?}{waits:?}{:?}", self.epochs)
    }

    fn judge_protection_if_linked(&mut self) {
        if matches!(self.session, Session::InSync(_)) {
            self.judge_protection();
        }
    }

    pub(super) fn judge_protection(&mut self) {
        if let Some(following) = &self.following {
            self.protection = following.protection();
        }
    }
}

#[cfg(test)]
mod tests;

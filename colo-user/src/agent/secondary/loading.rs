//! A secondary that follows its own QEMU: when a state is loaded, what is said and owned before and after it.
//!
//! ```text
//!              STOP                   RESUME, loaded                 input-cut(n,k) there, ring drained
//!  running(n) ──────▶ stopped: injects ─────────────▶ loaded: frames ───────────────────────────────────▶ running(n+1)
//!       ▲             nothing                │        after the silence wait    end(n), begin(n+1); injects from k on
//!       └──────────── RESUME, continued ─────┘
//! ```
//!
//! Loads and input cuts pair in order: both sides count from the answer to the primary's session on ([`Secondary::message`]).
//! A RESUME of which nobody knows whether it loaded waits for either the input cut or a heartbeat of the primary that
//! answers one sent after it: had there been a checkpoint, its cut would have come before.
//!
//! A load of which no cut will be known any more (the link was lost, or nobody counts with this side) changes what the guest is
//! all the same: its translation is the loaded state's, and what it said before is of a state that is gone.
//!
//! What was given to the guest since the last cut is remembered, in the order it was given, at most [`QUEUE_FRAMES`] and
//! [`QUEUE_BYTES`]: from k on the loaded state lacks it. What lies unread in the guest's interface stays there and is not
//! given twice, unless it was translated by numbers that the state does not know.
//!
//! A state that the primary's agent has cut is *confirmed*: before that agent says `input-cut` it has read all that its QEMU
//! told before the copy, and it cuts no more once a write has missed the secondary's disk. QEMU itself goes on with
//! checkpoints then, and the state that they bring, beside a disk that lacks the write, is one of which no cut ever comes.

use super::{AskReason, Effect, Input, QUEUE_BYTES, QUEUE_FRAMES, Secondary, Session, Violation};
use crate::agent::place::Place;
use crate::agent::protection::{Protection, Reason};
use crate::epoch::{Epoch, ProtocolError};
use crate::link::buffer::Outbox;
use crate::link::frame::Message;
use crate::mono::Mono;
use crate::translate::Base;
use crate::vm::{Side, Silence, Told};
use std::collections::VecDeque;

/// Most cuts and loads that wait for each other.
pub const MAX_PENDING: usize = 64;

/// How a frame of input was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// As the client said it.
    Same,
    /// Translated.
    Changed,
    /// Not yet: the translator keeps it.
    Kept,
}

#[derive(Clone, Debug)]
struct Load {
    silence: Silence,
    /// Set while nobody knows whether it was one: when it was seen.
    doubtful: Option<Mono>,
    /// Rather none: an operator had stopped the guest.
    paused: bool,
}

impl Load {
    /// Whether it was rather one than none.
    const fn likely(&self) -> bool {
        self.doubtful.is_none() || !self.paused
    }
}

#[derive(Clone, Debug)]
struct InputCut {
    first: u64,
    bases: Vec<Base>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Loading {
    placed: bool,
    stopped: bool,
    left: bool,
    /// The primary's session is not answered yet.
    answer_due: bool,
    counts: bool,
    covered: bool,
    alone: bool,
    /// The last state that was settled is one that the primary's agent has cut.
    confirmed: bool,
    loads: VecDeque<Load>,
    cuts: VecDeque<InputCut>,
    bases: Vec<Base>,
    /// Those of the state that was loaded last.
    last_bases: Vec<Base>,
    /// Before the last load of which no cut is known: what was said before it counts for nothing.
    gone: Option<Silence>,
    given: VecDeque<(Input, Given)>,
    given_bytes: usize,
    /// Frames that lay unread in the guest's interface at the last STOP.
    unread: usize,
    /// Input before this index is remembered no longer.
    forgotten: u64,
}

impl Loading {
    pub const fn covered(&self) -> bool {
        self.covered
    }

    /// Whether input may go in.
    pub fn injects(&self) -> bool {
        let own = self.covered && self.placed && self.loads.is_empty() && self.cuts.is_empty();
        !self.stopped && (own || self.alone)
    }

    pub fn protection(&self) -> Protection {
        Protection::Not(match () {
            () if !self.placed => Reason::MonitorLost,
            () if self.left => Reason::LeftColo,
            () if self.covered => return Protection::Protected,
            () => Reason::CheckpointDue,
        })
    }

    /// Whether the state in which the VM runs is one that the primary's agent has cut.
    pub fn confirmed(&self) -> bool {
        self.confirmed && !self.loads.iter().skip(self.cuts.len()).any(Load::likely)
    }

    pub fn disconnected(&mut self) {
        self.given.clear();
        (self.given_bytes, self.unread, self.forgotten) = (0, 0, 0);
    }

    pub fn lost(&mut self) {
        (self.counts, self.answer_due) = (false, false);
    }

    /// A session begins: what was counted in the last one is void.
    pub fn begin(&mut self) {
        (self.counts, self.covered, self.answer_due) = (false, false, true);
        self.bases.clear();
    }

    /// Input up to here is gone for good.
    pub fn forget(&mut self, index: u64) {
        self.forgotten = self.forgotten.max(index + 1);
    }

    pub fn remember(&mut self, input: Input, given: Given) {
        self.given_bytes += input.frame.len();
        self.given.push_back((input, given));
        while self.given.len() > QUEUE_FRAMES || self.given_bytes > QUEUE_BYTES {
            let Some((oldest, _)) = self.given.pop_front() else { return };
            self.given_bytes -= oldest.frame.len();
            self.forget(oldest.index);
        }
    }

    /// What the loaded state lacks of what was given, in order. What lies in the guest's interface stays given.
    fn lacking(&mut self, first: u64) -> Vec<Input> {
        let mut unread = std::mem::take(&mut self.unread);
        let mut again = Vec::new();
        for (input, given) in std::mem::take(&mut self.given).into_iter().rev() {
            let lies = given != Given::Kept && unread > 0;
            unread -= usize::from(lies);
            if input.index < first {
                continue;
            }
            if lies && given == Given::Same {
                self.given.push_front((input, given));
            } else {
                again.push(input);
            }
        }
        again.reverse();
        self.given_bytes = self.given.iter().map(|(input, _)| input.frame.len()).sum();
        again
    }
}

impl Secondary {
    /// Where a frame with this stamp belongs. It was taken before the monitor was last read.
    #[must_use]
    pub fn place(&self, stamp: Mono) -> Place {
        let Some(loading) = &self.loading else { return Place::Now };
        if !loading.placed {
            return Place::Drop;
        }
        if loading.gone.is_some_and(|gone| gone.side(stamp) != Side::After) {
            return Place::Drop;
        }
        match loading.loads.front().map(|load| load.silence.side(stamp)) {
            None | Some(Side::Before) => Place::Now,
            Some(Side::After) => Place::Wait,
            Some(Side::Unsure) => Place::Drop,
        }
    }

    /// A frame was dropped because nobody knows its epoch.
    pub fn unsure(&mut self) {
        self.own.output_unsure += 1;
    }

    /// The own QEMU told something. For a STOP, `unread` are the frames that lie unread in the guest's interface, and whether
    /// the guest stood still while they were counted.
    pub fn told(&mut self, now: Mono, told: Told, unread: Option<(u64, bool)>, outbox: Option<&mut Outbox>) {
        let Some(loading) = &mut self.loading else { return };
        match told {
            Told::Placed { stopped, missed, .. } => {
                (loading.placed, loading.stopped) = (true, stopped);
                if missed {
                    self.doubt(now);
                }
            }
            Told::Unheard => {
                loading.placed = false;
                self.doubt(now);
            }
            Told::Stopped => {
                loading.stopped = true;
                let (unread, exact) = unread.unwrap_or_default();
                loading.unread = usize::try_from(unread).unwrap_or(usize::MAX);
                self.own.input_cuts_inexact += u64::from(!exact);
                // The next load would be taken for one that may have been none.
                if loading.loads.back().is_some_and(|load| load.doubtful.is_some()) && loading.cuts.is_empty()
                {
                    self.doubt(now);
                }
            }
            Told::Ran(silence) => self.loaded(now, Load { silence, doubtful: None, paused: false }),
            Told::Doubtful { silence, paused } => {
                self.loaded(now, Load { silence, doubtful: Some(now), paused });
                if let Session::Syncing { beat, .. } | Session::InSync(beat) = &mut self.session {
                    beat.hurry(now);
                }
            }
            Told::Continued => loading.stopped = false,
            Told::TookOver => (loading.stopped, loading.alone) = (false, true),
            Told::Left => loading.left = true,
            Told::Copied { .. } => {}
        }
        if let Some(outbox) = outbox {
            self.answer_session(outbox);
        }
        self.judge_protection();
    }

    fn loaded(&mut self, now: Mono, load: Load) {
        let Some(loading) = &mut self.loading else { return };
        (loading.stopped, loading.left) = (false, false);
        // One that was cut before the link was lost counts still.
        if loading.counts || loading.loads.len() < loading.cuts.len() {
            loading.loads.push_back(load);
        } else if load.likely() {
            self.load_uncut(now, load.silence);
        }
    }

    /// A state was loaded whose cut is not known and will not be: its translation is that of the last one. What the client
    /// was told to be owned is part of it, for nothing leaves the primary before this side has answered the cut.
    fn load_uncut(&mut self, now: Mono, silence: Silence) {
        let Some(loading) = &mut self.loading else { return };
        loading.confirmed = false;
        loading.gone = Some(silence);
        loading.disconnected();
        let bases = loading.last_bases.clone();
        self.forget_translation(now, bases);
        self.unreleased.clear();
    }

    /// The loads so far will not be settled. What was loaded is what the guest is all the same.
    pub(super) fn void_loads(&mut self, now: Mono) {
        let Some(loading) = &mut self.loading else { return };
        let confirmed = loading.confirmed();
        let loads = std::mem::take(&mut loading.loads);
        let cuts = std::mem::take(&mut loading.cuts);
        if let Some(last) = loads.iter().rev().find(|load| load.likely()) {
            // The primary may have died before it could say what the last state brings along.
            if let Some(cut) = cuts.into_iter().take(loads.len()).next_back() {
                loading.last_bases = cut.bases;
            }
            self.load_uncut(now, last.silence);
        }
        if let Some(loading) = &mut self.loading {
            loading.confirmed = confirmed;
        }
    }

    /// A checkpoint may have been missed: both sides have to count anew.
    fn doubt(&mut self, now: Mono) {
        let Some(loading) = &mut self.loading else { return };
        if loading.counts {
            self.asks.push(AskReason::EpochsInDoubt);
        }
        (loading.counts, loading.covered) = (false, false);
        self.void_loads(now);
    }

    /// Answers the primary's session once the guest stands in no checkpoint.
    pub(super) fn answer_session(&mut self, outbox: &mut Outbox) {
        let Some(loading) = &mut self.loading else { return };
        if loading.answer_due && loading.placed && !loading.stopped {
            (loading.answer_due, loading.counts) = (false, true);
            outbox.push(&Message::Begin(self.epochs.epoch()));
        }
    }

    fn refuse(&self, what: &'static str, got: Epoch) -> Violation {
        let state = "no such cut can come";
        ProtocolError { what, got, epoch: self.epochs.epoch(), state }.into()
    }

    pub(super) fn bases(&mut self, epoch: Epoch, bases: &[Base]) -> Result<(), Violation> {
        let refusal = self.refuse("bases", epoch);
        let limit = self.translator_limits.flows;
        let Some(loading) = &mut self.loading else { return Err(refusal) };
        if loading.bases.len() + bases.len() > limit {
            self.asks.push(AskReason::TranslationFull);
            return Ok(());
        }
        loading.bases.extend_from_slice(bases);
        Ok(())
    }

    pub(super) fn input_cut(&mut self, epoch: Epoch, first: u64) -> Result<(), Violation> {
        let refusal = self.refuse("input-cut", epoch);
        let Some(loading) = &mut self.loading else {
            return Ok(self.epochs.input_cut(epoch, first)?);
        };
        let bases = std::mem::take(&mut loading.bases);
        if !loading.counts {
            // On its way when the counting ended here: a new session follows.
            return Ok(());
        }
        if epoch != self.epochs.epoch() || loading.cuts.len() >= MAX_PENDING {
            return Err(refusal);
        }
        loading.cuts.push_back(InputCut { first, bases });
        Ok(())
    }

    /// The primary has answered what was sent at `echo`.
    pub(super) fn proved(&mut self, echo: u64) {
        let Some(loading) = &mut self.loading else { return };
        while loading.cuts.is_empty()
            && loading
                .loads
                .front()
                .is_some_and(|load| load.doubtful.is_some_and(|since| echo >= since.as_nanos()))
        {
            loading.loads.pop_front();
        }
    }

    /// Whether [`Self::settle`] would begin an epoch.
    #[must_use]
    pub fn settles(&self) -> bool {
        self.loading.as_ref().is_some_and(|loading| !loading.loads.is_empty() && !loading.cuts.is_empty())
    }

    /// All that was said before the first load has been handed in: the next epoch begins if its input cut is there. True
    /// if it has begun: what waited may be placed now.
    pub fn settle(&mut self, now: Mono, outbox: Option<&mut Outbox>) -> bool {
        if !self.settles() {
            return false;
        }
        let Some(loading) = &mut self.loading else { return false };
        if loading.loads.pop_front().is_some_and(|load| !load.silence.sure()) {
            self.asks.push(AskReason::CutUnsure);
        }
        let Some(cut) = loading.cuts.pop_front() else { return false };
        self.own.cuts += 1;
        self.own.input_forgotten += loading.forgotten.saturating_sub(cut.first);
        loading.forgotten = loading.forgotten.min(cut.first);
        let again = loading.lacking(cut.first);
        (loading.covered, loading.confirmed) = (true, true);
        self.own.input_unread += loading.given.len() as u64;
        self.own.input_again += again.len() as u64;
        for input in again.into_iter().rev() {
            self.queue_bytes += input.frame.len();
            self.queue.push_front(input);
        }
        loading.last_bases.clone_from(&cut.bases);
        self.forget_translation(now, cut.bases);
        self.unreleased.clear();
        let (ended, begun) = self.epochs.load(cut.first);
        if let Some(outbox) = outbox {
            outbox.push(&Message::End(ended));
            outbox.push(&Message::Begin(begun));
        }
        self.judge_protection();
        true
    }

    /// What its next steps depend on, times apart.
    #[cfg(test)]
    pub(in crate::agent) fn summary(&self) -> String {
        let Some(l) = &self.loading else { return String::new() };
        let loads: Vec<_> = l.loads.iter().map(|load| (load.doubtful.is_some(), load.paused)).collect();
        let cuts: Vec<_> = l.cuts.iter().map(|cut| cut.first).collect();
        let given: Vec<_> = l.given.iter().map(|(input, given)| (input.index, *given)).collect();
        let queue: Vec<_> = self.queue.iter().map(|input| input.index).collect();
        let flags = (l.placed, l.stopped, l.answer_due, l.counts, l.covered, l.confirmed);
        format!("{flags:?}{loads:?}{cuts:?}{given:?}{queue:?}{}{:?}", l.unread, self.epochs)
    }

    /// What this host does when it goes on alone: drift becomes base, and what the guest lacks is injected.
    pub fn take_over(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.lost(Reason::PeerLost, effects);
        let Some(loading) = &mut self.loading else { return };
        loading.alone = true;
        self.void_loads(now);
        self.translator.take_over(now);
        self.unreleased.take_over();
    }
}

#[cfg(test)]
mod tests;

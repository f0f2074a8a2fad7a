//! How the primary ends an epoch: `cut` where somebody else reports the checkpoint, `input-cut` where the own QEMU is
//! followed, and the commit that both come to.

use super::following::Following;
use super::{Effect, Primary, Session, Violation};
use crate::epoch::Epoch;
use crate::link::buffer::Outbox;
use crate::link::frame::{MAX_BASES, Message};
use crate::mono::Mono;
use std::time::Duration;

/// A cut must be answered in this time: the secondary only empties its queue for it. Where the QEMUs are followed it runs
/// from the own RESUME, which comes after the secondary's.
pub const CUT_LIMIT: Duration = Duration::from_secs(10);

impl Primary {
    /// Whether an epoch ends that has not ended yet.
    pub(super) fn cut_runs(&self) -> bool {
        self.following.as_ref().map_or_else(|| self.epochs.cutting(), |following| following.cut().is_some())
    }

    /// The guest was copied, and all that it had said before has been handed in: begins the cut. Out of sync there is
    /// nobody to cut with, and where the own QEMU is followed nobody else is believed: the call is counted and void.
    pub fn cut(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        let (Session::InSync(_), Some(outbox), None) = (&self.session, outbox, &self.following) else {
            self.own.cuts_refused += 1;
            return;
        };
        if let Some(epoch) = self.epochs.cut() {
            self.cut_started = Some(now);
            outbox.push(&Message::Cut(epoch));
            outbox.push(&Message::InputCut { epoch, first: self.next_index });
        }
    }

    /// Sends the cut that is next, unless another one runs.
    pub(super) fn send_cut(&mut self, outbox: Option<&mut Outbox>) {
        let (Some(following), Some(outbox)) = (&mut self.following, outbox) else { return };
        let Some(cut) = following.unsent() else { return };
        let Some(epoch) = self.epochs.cut() else { return };
        for bases in cut.bases.chunks(MAX_BASES) {
            outbox.push(&Message::Bases { epoch, bases: bases.to_vec() });
        }
        outbox.push(&Message::InputCut { epoch, first: cut.first });
        cut.sent = true;
    }

    /// The secondary owns the next epoch's state; or it has answered the session.
    pub(super) fn begin(
        &mut self,
        now: Mono,
        epoch: Epoch,
        outbox: &mut Outbox,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        if self.following.is_some() && epoch == self.epochs.epoch() {
            self.ready(now, outbox, effects);
            return Ok(());
        }
        self.epochs.begin(epoch)?;
        self.commit(now, outbox, effects);
        Ok(())
    }

    /// Begins the next epoch if everything is there for it: all that is held leaves, then what the secondary has said in
    /// it is decided.
    pub(super) fn commit(&mut self, now: Mono, outbox: &mut Outbox, effects: &mut Vec<Effect>) {
        let due = self.following.as_ref().is_none_or(|f| f.cut().is_some_and(|cut| cut.drained));
        if !due || !self.epochs.commit() {
            return;
        }
        self.own.cuts += 1;
        self.cut_started = None;
        let cut = self.following.as_mut().and_then(Following::committed);
        self.comparator.checkpoint(now, &mut self.actions);
        if let Some(since) = self.asks.wanted_since.take() {
            self.comparator.checkpoint_cost(now.saturating_since(since));
        }
        effects.push(Effect::Settle(self.epochs.epoch()));
        self.act(now, effects);
        effects.extend(self.waiting.drain(..).map(Effect::Release));
        for frame in std::mem::take(&mut self.withheld) {
            self.comparator.secondary(now, &frame, &mut self.actions);
        }
        self.withheld_bytes = 0;
        self.act(now, effects);
        if let Some(cut) = cut {
            self.judge_protection();
            if !cut.exact {
                let text = "the guest ran before its unread input could be counted".into();
                self.ask(now, "input-cut-inexact", text, effects);
            }
            if cut.silence.is_some_and(|silence| !silence.sure()) {
                let text = "the clocks do not say where the last epoch ended".into();
                self.ask(now, "cut-unsure", text, effects);
            }
            self.send_cut(Some(outbox));
        } else if self.epochs.cut_wanted() {
            self.cut(now, Some(outbox));
        }
    }
}

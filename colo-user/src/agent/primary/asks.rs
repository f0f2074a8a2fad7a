//! When the primary asks for a checkpoint: what the comparator found, what the data path lost, what the peer lacks.

use super::{Effect, Primary, Session};
use crate::checkpoint::Request;
use crate::compare::{Cause, Divergence};
use crate::link::buffer::Outbox;
use crate::link::frame::AskReason;
use crate::mono::Mono;
use crate::path::Carrying;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Divergences remembered for the status.
pub const REMEMBERED: usize = 16;
/// While a loss goes on, it asks for a checkpoint at most this often.
pub const ASK_PAUSE: Duration = Duration::from_secs(1);

/// How the shell's numbers stand, see [`Primary::losses`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames of the guest that were lost before the agent saw them, for whatever reason.
    pub captured: u64,
    /// Those among them that were too long to be held.
    pub oversized: u64,
    /// Copies of input that were lost before the agent saw them.
    pub mirrored: u64,
    /// Times that the path to the guest was had again.
    pub restored: u64,
    /// Whether buffers run short.
    pub scarce: bool,
}

/// What was asked so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    pub wanted_since: Option<Mono>,
    pub peer_lost_input: u64,
    losses: Losses,
    last: BTreeMap<&'static str, Mono>,
    asked: BTreeMap<&'static str, u64>,
    divergences: VecDeque<Divergence>,
}

impl Primary {
    /// How the data path's numbers stand now: what has grown asks for a checkpoint by name.
    pub fn losses(&mut self, now: Mono, losses: Losses, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.asks.losses, losses);
        let oversized = losses.oversized.saturating_sub(before.oversized);
        if oversized > 0 {
            let text = format!(
                "{oversized} frames of the guest are longer than can be held: switch its segmentation offload off, or \
                 lower its MTU"
            );
            self.ask(now, "oversized-frame", text, effects);
        }
        let n = losses.captured.saturating_sub(before.captured).saturating_sub(oversized);
        if n > 0 {
            self.ask(
                now,
                "capture-lost",
                format!("{n} frames of the guest were lost before they could be held"),
                effects,
            );
        }
        if losses.mirrored > before.mirrored {
            let n = losses.mirrored - before.mirrored;
            self.ask(
                now,
                "mirror-input-lost",
                format!("{n} frames of input found no room in the mirror"),
                effects,
            );
        }
        if losses.restored > before.restored {
            let text =
                "the guest's interface carried nothing for a while: the guest lacks what was said to it"
                    .into();
            self.ask(now, "path-restored", text, effects);
        }
        if losses.scarce {
            self.ask(now, "pressure", format!("buffers run short with {} frames held", self.held()), effects);
        }
    }

    /// Frames of input that the secondary's guest did not get, ever.
    pub(super) fn peer_losses(&mut self, now: Mono, lost: u64, effects: &mut Vec<Effect>) {
        if lost > self.asks.peer_lost_input {
            let more = lost - self.asks.peer_lost_input;
            self.asks.peer_lost_input = lost;
            let text = format!("{more} frames of input did not reach the secondary's guest");
            self.ask(now, "input-lost", text, effects);
        }
    }

    /// The secondary has told of its interfaces.
    pub(super) fn peer_path(&mut self, now: Mono, path: Carrying, effects: &mut Vec<Effect>) {
        if self.reach.told(path) {
            let text =
                "the interface of the secondary's guest carried nothing for a while: that guest lacks input"
                    .into();
            self.ask(now, "secondary-path-restored", text, effects);
        }
    }

    /// Whether both interfaces of the secondary carry frames; `None` while it has not said so in this session.
    #[must_use]
    pub const fn peer_reaches(&self) -> Option<bool> {
        match self.session {
            Session::Apart => None,
            Session::Syncing(_) | Session::InSync(_) => self.reach.is_whole(),
        }
    }

    pub(super) fn peer_asks(
        &mut self,
        now: Mono,
        reason: AskReason,
        outbox: &mut Outbox,
        effects: &mut Vec<Effect>,
    ) {
        let (kind, text) = match reason {
            AskReason::TranslationFull => ("translation-full", "the secondary's translation table is full"),
            AskReason::CaptureLost => ("secondary-capture-lost", "the secondary lost output of its guest"),
            AskReason::CutUnsure => {
                ("secondary-cut-unsure", "the secondary's clocks do not say where the last epoch ended")
            }
            // Starting anew asks by itself once the secondary has answered.
            AskReason::EpochsInDoubt => return self.begin_anew(now, Some(outbox)),
        };
        self.ask(now, kind, text.into(), effects);
    }

    pub(super) fn diverged(&mut self, now: Mono, cause: &Cause, effects: &mut Vec<Effect>) {
        if self.cut_runs() {
            // Said before the guest was copied: leaves with the copy.
            self.own.asks_covered += 1;
            return;
        }
        let request = Request::of_cause(cause, self.epochs.epoch());
        if let Some(divergence) = &request.divergence {
            if self.asks.divergences.len() == REMEMBERED {
                self.asks.divergences.pop_front();
            }
            self.asks.divergences.push_back(divergence.clone());
        }
        self.post(now, request, effects);
    }

    /// Asks for what the agent itself saw; out of sync there is nothing to ask for.
    pub(super) fn ask(&mut self, now: Mono, kind: &'static str, text: String, effects: &mut Vec<Effect>) {
        let again = self.asks.last.get(kind).is_none_or(|&last| now.saturating_since(last) >= ASK_PAUSE);
        if !again || !matches!(self.session, Session::InSync(_)) || !self.covered() {
            return;
        }
        self.asks.last.insert(kind, now);
        self.post(now, Request { kind, text, epoch: self.epochs.epoch(), divergence: None }, effects);
    }

    pub(super) fn post(&mut self, now: Mono, request: Request, effects: &mut Vec<Effect>) {
        self.asks.wanted_since.get_or_insert(now);
        *self.asks.asked.entry(request.kind).or_default() += 1;
        effects.push(Effect::Ask(request));
    }

    /// Checkpoints asked for, by kind.
    #[must_use]
    pub const fn asked(&self) -> &BTreeMap<&'static str, u64> {
        &self.asks.asked
    }

    /// The last [`REMEMBERED`] divergences, newest last.
    pub fn divergences(&self) -> impl Iterator<Item = &Divergence> {
        self.asks.divergences.iter()
    }
}

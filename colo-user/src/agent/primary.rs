//! What the primary's agent decides, without I/O: comparator, epochs, session and policy joined.
//!
//! ```text
//!              connected            answered
//!   Apart ───────────────▶ Syncing ─────────▶ InSync
//!     ▲                        │                 │
//!     └────────────────────────┴─────────────────┘  lost: link, silence, stall, protocol, unanswered cut
//! ```
//!
//! *Apart* before the first sync, and *Syncing*: guest output leaves at once. *InSync*: it is compared, flows begun from now on
//! only ([`Coverage::NewFlows`]) until a checkpoint copies the rest. *Apart* after a loss: as [`OnPeerLoss`] says.
//!
//! The shell hands in frames, messages and the time, and carries out [`Effect`]s in order.

use super::beat::Beat;
use super::protection::{Protection, Reason};
use crate::checkpoint::Request;
use crate::compare::{Action, Cause, Comparator, Coverage, Divergence, Limits, Policy, Token};
use crate::epoch::{Epoch, PrimaryEpochs, ProtocolError, Verdict};
use crate::link::buffer::Outbox;
use crate::link::frame::{AskReason, ByeReason, Message};
use crate::mono::Mono;
use crate::translate::initial_of;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A cut must be answered in this time: the secondary only empties its queue for it.
pub const CUT_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of the secondary's next epoch that wait for its begin. More than that is a stalled link.
pub const WITHHELD_BYTES: usize = 16 << 20;
/// Divergences remembered for the status.
pub const REMEMBERED: usize = 16;
/// While a loss goes on, it asks for a checkpoint at most this often.
pub const ASK_PAUSE: Duration = Duration::from_secs(1);

/// What becomes of guest output when a pair that was in sync has lost its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPeerLoss {
    /// What is held leaves in order, and the rest at once.
    Pass,
    /// It is held until the peer is back and a checkpoint has been made.
    Hold,
    /// What is held is dropped, and the rest too, until the peer is back.
    Close,
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Give this frame, which is about to leave, another TCP window.
    Window(Token, u16),
    /// Let this frame out.
    Release(Token),
    /// This frame never leaves.
    Drop(Token),
    /// Let a frame of our own out.
    Emit(Vec<u8>),
    /// Ask for a checkpoint.
    Ask(Request),
    /// This epoch has begun: earlier requests are settled.
    Settle(Epoch),
    /// Close the link; the reason goes to the peer where one is given.
    CloseLink(Option<(ByeReason, String)>),
}

#[derive(Clone, Debug)]
enum Session {
    Apart,
    Syncing(Beat),
    InSync(Beat),
}

/// How the shell's numbers stand, see [`Primary::losses`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Frames of the guest that were lost before the agent saw them, for whatever reason.
    pub captured: u64,
    /// Those among them that were too long to be held.
    pub oversized: u64,
    /// Copies of input that were lost before the agent saw them.
    pub mirrored: u64,
    /// Whether buffers run short.
    pub scarce: bool,
}

/// Counters of the agent itself.
#[derive(Clone, Debug, Default)]
struct Own {
    released_apart: u64,
    dropped_apart: u64,
    input_sent: u64,
    input_not_sent: u64,
    learned_sent: u64,
    output_stale: u64,
    output_received: u64,
    sessions: u64,
    sessions_lost: u64,
    cuts: u64,
    cuts_refused: u64,
}

/// See the module.
pub struct Primary {
    comparator: Comparator,
    epochs: PrimaryEpochs,
    session: Session,
    protection: Protection,
    on_loss: OnPeerLoss,
    peer_limit: Duration,
    /// The policy for lost peers applies: the pair was in sync once.
    was_in_sync: bool,
    withheld: VecDeque<Vec<u8>>,
    withheld_bytes: usize,
    /// The index after the last one mirrored.
    next_index: u64,
    cut_started: Option<Mono>,
    wanted_since: Option<Mono>,
    losses: Losses,
    peer_lost_input: u64,
    last_ask: BTreeMap<&'static str, Mono>,
    asked: BTreeMap<&'static str, u64>,
    divergences: VecDeque<Divergence>,
    actions: Vec<Action>,
    own: Own,
}

impl Primary {
    /// A primary whose peer has not come yet.
    #[must_use]
    pub fn new(policy: Policy, limits: Limits, on_loss: OnPeerLoss, peer_limit: Duration, now: Mono) -> Self {
        let policy = Policy {
            emit_solicitations: true,
            emit_acknowledgements: true,
            narrow_windows: true,
            coverage: Coverage::NewFlows,
            ..policy
        };
        Self {
            comparator: Comparator::new(policy, limits, now),
            epochs: PrimaryEpochs::new(Epoch::FIRST),
            session: Session::Apart,
            protection: Protection::Not(Reason::Connecting),
            on_loss,
            peer_limit,
            was_in_sync: false,
            withheld: VecDeque::new(),
            withheld_bytes: 0,
            next_index: 0,
            cut_started: None,
            wanted_since: None,
            losses: Losses::default(),
            peer_lost_input: 0,
            last_ask: BTreeMap::new(),
            asked: BTreeMap::new(),
            divergences: VecDeque::new(),
            actions: Vec::new(),
            own: Own::default(),
        }
    }

    /// Whether the pair protects its client.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// The current epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epochs.epoch()
    }

    /// Frames held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.comparator.held()
    }

    /// Whether guest output may be handed in: while a cut runs it belongs to the next epoch and stays where it is.
    #[must_use]
    pub fn takes_output(&self) -> bool {
        !self.epochs.cutting()
    }

    /// A connection whose hellos are done. The session begins in a new epoch.
    pub fn connected(&mut self, now: Mono, outbox: &mut Outbox) {
        self.own.sessions += 1;
        outbox.push(&Message::Begin(self.epochs.epoch()));
        self.session = Session::Syncing(Beat::new(now, self.peer_limit));
        self.protection = Protection::Not(Reason::Syncing);
    }

    /// A frame of the guest, parked under `token`.
    pub fn captured(
        &mut self,
        now: Mono,
        token: Token,
        frame: &[u8],
        outbox: Option<&mut Outbox>,
        effects: &mut Vec<Effect>,
    ) {
        let lost = self.was_in_sync && !matches!(self.session, Session::InSync(_));
        match (&self.session, outbox) {
            (Session::InSync(_), Some(outbox)) => {
                if let Some(initial) = initial_of(frame) {
                    // Before the frame may be released, so that it comes before any answer to it.
                    self.own.learned_sent += 1;
                    outbox.push(&Message::Learned { epoch: self.epochs.epoch(), initial });
                }
                self.comparator.primary(now, token, frame, &mut self.actions);
                self.act(now, effects);
            }
            _ if lost && self.on_loss == OnPeerLoss::Hold => {
                self.comparator.primary(now, token, frame, &mut self.actions);
                self.act(now, effects);
            }
            _ if lost && self.on_loss == OnPeerLoss::Close => {
                self.own.dropped_apart += 1;
                effects.push(Effect::Drop(token));
            }
            _ => {
                self.own.released_apart += 1;
                effects.push(Effect::Release(token));
            }
        }
    }

    /// A copy of a frame that went to the guest, with its number.
    pub fn mirrored(&mut self, now: Mono, index: u64, frame: &[u8], outbox: Option<&mut Outbox>) {
        self.next_index = index.wrapping_add(1);
        match (&self.session, outbox) {
            (Session::Syncing(_) | Session::InSync(_), Some(outbox)) => {
                self.own.input_sent += 1;
                outbox.push(&Message::Input { epoch: self.epochs.epoch(), index, frame });
            }
            _ => self.own.input_not_sent += 1,
        }
        self.comparator.client(now, frame);
    }

    /// A message of the peer.
    ///
    /// # Errors
    /// What the peer cannot say; the link has to be closed by [`Self::lost`].
    pub fn message(
        &mut self,
        now: Mono,
        message: &Message<'_>,
        outbox: &mut Outbox,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        let (Session::Syncing(beat) | Session::InSync(beat)) = &mut self.session else { return Ok(()) };
        beat.alive(now);
        match message {
            Message::Output { epoch, frame } => {
                beat.frames += 1;
                self.own.output_received += 1;
                self.output(now, *epoch, frame, effects)?;
            }
            Message::Heartbeat(heartbeat) => {
                beat.heard(now, heartbeat);
                let answered = beat.answered();
                if let (true, Session::Syncing(beat)) = (answered, &self.session) {
                    self.session = Session::InSync(beat.clone());
                    self.in_sync(now, effects);
                }
                if heartbeat.lost > self.peer_lost_input {
                    let more = heartbeat.lost - self.peer_lost_input;
                    self.peer_lost_input = heartbeat.lost;
                    self.ask(
                        now,
                        "input-lost",
                        format!("{more} frames of input did not reach the secondary's guest"),
                        effects,
                    );
                }
            }
            Message::End(epoch) => self.epochs.end(*epoch)?,
            Message::Begin(epoch) => self.begin(now, *epoch, outbox, effects)?,
            Message::Ask(AskReason::TranslationFull) => {
                self.ask(
                    now,
                    "translation-full",
                    "the secondary's translation table is full".into(),
                    effects,
                );
            }
            Message::Ask(AskReason::CaptureLost) => {
                self.ask(
                    now,
                    "secondary-capture-lost",
                    "the secondary lost output of its guest".into(),
                    effects,
                );
            }
            Message::Bye { reason, text } => {
                tracing::warn!("the secondary says goodbye: {}: {text}", reason.name());
                self.lost(now, Reason::PeerLeft, effects);
            }
            Message::Input { .. } => return Err(Violation::Kind("input")),
            Message::Learned { .. } => return Err(Violation::Kind("learned")),
            Message::Cut(_) => return Err(Violation::Kind("cut")),
            Message::InputCut { .. } => return Err(Violation::Kind("input-cut")),
        }
        Ok(())
    }

    fn output(
        &mut self,
        now: Mono,
        epoch: Epoch,
        frame: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        match self.epochs.output(epoch)? {
            Verdict::Now if matches!(self.session, Session::InSync(_)) => {
                self.comparator.secondary(now, frame, &mut self.actions);
                self.act(now, effects);
            }
            Verdict::Withhold => {
                self.withheld_bytes += frame.len();
                if self.withheld_bytes > WITHHELD_BYTES {
                    return Err(Violation::Withheld);
                }
                self.withheld.push_back(frame.to_vec());
            }
            Verdict::Now | Verdict::Stale => self.own.output_stale += 1,
        }
        Ok(())
    }

    fn in_sync(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.was_in_sync && self.on_loss == OnPeerLoss::Hold {
            self.ask(
                now,
                "peer-returned",
                "the peer is back; what was held meanwhile is not its own".into(),
                effects,
            );
        } else {
            self.comparator.set_coverage(Coverage::NewFlows);
        }
        self.was_in_sync = true;
        self.protection = Protection::Protected;
        effects.push(Effect::Settle(self.epochs.epoch()));
    }

    /// The guest was copied, and all that it had said before has been handed in: begins the cut. Out of sync there is
    /// nobody to cut with, and the call is counted and void.
    pub fn cut(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        let (Session::InSync(_), Some(outbox)) = (&self.session, outbox) else {
            self.own.cuts_refused += 1;
            return;
        };
        if let Some(epoch) = self.epochs.cut() {
            self.cut_started = Some(now);
            outbox.push(&Message::Cut(epoch));
            outbox.push(&Message::InputCut { epoch, first: self.next_index });
        }
    }

    fn begin(
        &mut self,
        now: Mono,
        epoch: Epoch,
        outbox: &mut Outbox,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Violation> {
        self.epochs.begin(epoch)?;
        self.own.cuts += 1;
        self.cut_started = None;
        self.comparator.checkpoint(now, &mut self.actions);
        if let Some(since) = self.wanted_since.take() {
            self.comparator.checkpoint_cost(now.saturating_since(since));
        }
        effects.push(Effect::Settle(epoch));
        self.act(now, effects);
        for frame in std::mem::take(&mut self.withheld) {
            self.comparator.secondary(now, &frame, &mut self.actions);
        }
        self.withheld_bytes = 0;
        self.act(now, effects);
        if self.epochs.cut_wanted() {
            self.cut(now, Some(outbox));
        }
        Ok(())
    }

    /// The peer is lost, for `reason`: the link is closed and the policy applied.
    pub fn lost(&mut self, now: Mono, reason: Reason, effects: &mut Vec<Effect>) {
        if matches!(self.session, Session::Apart) {
            return;
        }
        self.own.sessions_lost += 1;
        self.session = Session::Apart;
        self.protection = Protection::Not(reason);
        self.epochs.restart();
        self.cut_started = None;
        self.withheld.clear();
        self.withheld_bytes = 0;
        self.peer_lost_input = 0;
        effects.push(Effect::CloseLink(match reason {
            Reason::LinkStalled => Some((ByeReason::Stalled, "the link did not drain".into())),
            Reason::ProtocolBroken | Reason::CutUnanswered => {
                Some((ByeReason::Protocol, reason.text().into()))
            }
            Reason::Exiting => Some((ByeReason::Exit, "the primary's agent ends".into())),
            _ => None,
        }));
        match self.on_loss {
            OnPeerLoss::Pass => self.release_all(now, effects),
            OnPeerLoss::Close => self.drop_all(now, effects),
            OnPeerLoss::Hold => {}
        }
    }

    /// The agent ends: says goodbye, and lets out what is held, or not.
    pub fn exit(&mut self, now: Mono, release: bool, effects: &mut Vec<Effect>) {
        if !matches!(self.session, Session::Apart) {
            effects.push(Effect::CloseLink(Some((ByeReason::Exit, "the primary's agent ends".into()))));
        }
        self.session = Session::Apart;
        self.protection = Protection::Not(Reason::Exiting);
        if release {
            self.release_all(now, effects);
        } else {
            self.drop_all(now, effects);
        }
    }

    fn release_all(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.comparator.release_all(now, &mut self.actions);
        self.act(now, effects);
    }

    fn drop_all(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.comparator.release_all(now, &mut self.actions);
        for action in self.actions.drain(..) {
            if let Action::Release(token) | Action::Drop(token) = action {
                self.own.dropped_apart += 1;
                effects.push(Effect::Drop(token));
            }
        }
    }

    /// How the data path's numbers stand now: what has grown asks for a checkpoint by name.
    pub fn losses(&mut self, now: Mono, losses: Losses, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.losses, losses);
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
        if losses.scarce {
            self.ask(now, "pressure", format!("buffers run short with {} frames held", self.held()), effects);
        }
    }

    /// The outbox had to drop a message.
    pub fn stalled(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.lost(now, Reason::LinkStalled, effects);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, outbox: Option<&mut Outbox>, effects: &mut Vec<Effect>) {
        self.comparator.tick(now, &mut self.actions);
        self.act(now, effects);
        let (Session::Syncing(beat) | Session::InSync(beat), Some(outbox)) = (&mut self.session, outbox)
        else {
            return;
        };
        if let Some(heartbeat) = beat.due(now, 0) {
            outbox.push(&Message::Heartbeat(heartbeat));
        }
        if beat.silent(now) {
            self.lost(now, Reason::PeerSilent, effects);
        } else if self.cut_started.is_some_and(|since| now.saturating_since(since) >= CUT_LIMIT) {
            self.lost(now, Reason::CutUnanswered, effects);
        }
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let beat = match &self.session {
            Session::Apart => None,
            Session::Syncing(beat) | Session::InSync(beat) => Some(beat.next_deadline()),
        };
        let cut = self.cut_started.map(|since| since + CUT_LIMIT);
        beat.into_iter().chain(cut).chain(self.comparator.next_deadline()).min()
    }

    fn act(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Window(token, window) => effects.push(Effect::Window(token, window)),
                Action::Release(token) => effects.push(Effect::Release(token)),
                Action::Drop(token) => effects.push(Effect::Drop(token)),
                Action::Emit(frame) => effects.push(Effect::Emit(frame)),
                Action::Checkpoint(cause) => self.diverged(now, &cause, effects),
            }
        }
        self.actions = actions;
    }

    fn diverged(&mut self, now: Mono, cause: &Cause, effects: &mut Vec<Effect>) {
        let request = Request::of_cause(cause, self.epochs.epoch());
        if let Some(divergence) = &request.divergence {
            if self.divergences.len() == REMEMBERED {
                self.divergences.pop_front();
            }
            self.divergences.push_back(divergence.clone());
        }
        self.wanted_since.get_or_insert(now);
        *self.asked.entry(request.kind).or_default() += 1;
        effects.push(Effect::Ask(request));
    }

    /// Asks for what the agent itself saw; out of sync there is nothing to ask for.
    fn ask(&mut self, now: Mono, kind: &'static str, text: String, effects: &mut Vec<Effect>) {
        let again = self.last_ask.get(kind).is_none_or(|&last| now.saturating_since(last) >= ASK_PAUSE);
        if !again || !matches!(self.session, Session::InSync(_)) {
            return;
        }
        self.last_ask.insert(kind, now);
        self.wanted_since.get_or_insert(now);
        *self.asked.entry(kind).or_default() += 1;
        effects.push(Effect::Ask(Request { kind, text, epoch: self.epochs.epoch(), divergence: None }));
    }

    /// Checkpoints asked for, by kind.
    #[must_use]
    pub const fn asked(&self) -> &BTreeMap<&'static str, u64> {
        &self.asked
    }

    /// The last [`REMEMBERED`] divergences, newest last.
    pub fn divergences(&self) -> impl Iterator<Item = &Divergence> {
        self.divergences.iter()
    }

    /// All counters of the agent and its comparator.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let own = &self.own;
        let named = [
            ("released_apart", own.released_apart),
            ("dropped_apart", own.dropped_apart),
            ("input_sent", own.input_sent),
            ("input_not_sent", own.input_not_sent),
            ("learned_sent", own.learned_sent),
            ("output_received", own.output_received),
            ("output_stale", own.output_stale),
            ("sessions", own.sessions),
            ("sessions_lost", own.sessions_lost),
            ("cuts", own.cuts),
            ("cuts_refused", own.cuts_refused),
            ("flows", self.comparator.flows() as u64),
            ("held_bytes", self.comparator.held_bytes() as u64),
        ];
        let named = named.into_iter().map(|(name, n)| (name.to_owned(), n));
        named.chain(self.comparator.counters().named())
    }
}

/// What a peer cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A marker or tag out of place.
    #[error(transparent)]
    Epoch(#[from] ProtocolError),
    /// A message that only the other role sends.
    #[error("a peer in this role never sends {0}")]
    Kind(&'static str),
    /// More of the next epoch than fits before its begin.
    #[error("more than {WITHHELD_BYTES} bytes of output before the epoch's begin")]
    Withheld,
}

#[cfg(test)]
mod tests;

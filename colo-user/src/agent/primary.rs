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
//! A primary that follows its QEMU ([`following`]) lets output leave at once until COLO is entered, and from then on only
//! what was compared in an epoch whose state the secondary owns; everything else it holds, peer or not.
//!
//! Here are session and frames; [`cuts`] ends epochs, [`asks`] asks for checkpoints, [`counters`] counts.
//!
//! The shell hands in frames, messages and the time, and carries out [`Effect`]s in order.

mod asks;
mod counters;
mod cuts;
mod following;

pub use asks::{ASK_PAUSE, Losses, REMEMBERED};
pub use cuts::CUT_LIMIT;

use super::beat::Beat;
use super::protection::{Protection, Reason};
use super::reach::Reach;
use super::times::{Summary, Times};
use crate::checkpoint::Request;
use crate::compare::{Action, Comparator, Coverage, Limits, Policy, Token};
use crate::epoch::{Epoch, PrimaryEpochs, ProtocolError, Verdict};
use crate::failover::Loss;
use crate::link::buffer::Outbox;
use crate::link::frame::{ByeReason, Message};
use crate::mono::Mono;
use crate::translate::initial_of;
use asks::Asks;
use counters::Own;
use following::Following;
use std::collections::VecDeque;
use std::time::Duration;

/// Most bytes of the secondary's next epoch that wait for its begin. More than that is a stalled link.
pub const WITHHELD_BYTES: usize = 16 << 20;
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

/// See the module.
#[derive(Clone)]
pub struct Primary {
    comparator: Comparator,
    epochs: PrimaryEpochs,
    session: Session,
    protection: Protection,
    on_loss: OnPeerLoss,
    peer_limit: Duration,
    /// Between two heartbeats, where that is said.
    interval: Option<Duration>,
    /// The policy for lost peers applies: the pair was in sync once.
    was_in_sync: bool,
    withheld: VecDeque<Vec<u8>>,
    withheld_bytes: usize,
    /// The index after the last one mirrored.
    next_index: u64,
    cut_started: Option<Mono>,
    asks: Asks,
    /// Set where the own QEMU is followed.
    following: Option<Following>,
    /// How the session was lost, until somebody asks.
    loss: Option<Loss>,
    /// Held until the next commit, in order: said while no epoch was known to be the secondary's too.
    waiting: VecDeque<Token>,
    actions: Vec<Action>,
    own: Own,
    /// How long checkpoints made the guest stand still.
    pauses: Times,
    reach: Reach,
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
            interval: None,
            was_in_sync: false,
            withheld: VecDeque::new(),
            withheld_bytes: 0,
            next_index: 0,
            cut_started: None,
            asks: Asks::default(),
            following: None,
            loss: None,
            waiting: VecDeque::new(),
            actions: Vec::new(),
            own: Own::default(),
            pauses: Times::default(),
            reach: Reach::default(),
        }
    }

    /// The same beside a QEMU that it follows. `seed` is random: protections are named after it.
    #[must_use]
    pub fn following(mut self, seed: u64) -> Self {
        self.comparator.set_coverage(Coverage::All);
        self.following = Some(Following::new(seed));
        self
    }

    /// The same with heartbeats over the link at least this often.
    #[must_use]
    pub fn beating(self, interval: Option<Duration>) -> Self {
        Self { interval, ..self }
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

    /// How long checkpoints made the guest stand still, where its QEMU is followed.
    #[must_use]
    pub fn pauses(&self) -> Summary {
        self.pauses.summary()
    }

    /// Frames held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.comparator.held() + self.waiting.len()
    }

    /// A connection whose hellos are done. The session begins in a new epoch.
    pub fn connected(&mut self, now: Mono, outbox: &mut Outbox) {
        self.own.sessions += 1;
        self.reach = Reach::default();
        self.begin_session(outbox);
        let beat = if self.following.is_some() { Beat::lease } else { Beat::new };
        self.session = Session::Syncing(beat(now, self.peer_limit).every(self.interval));
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
        match &self.following {
            Some(following) if following.free() => {
                self.own.released_apart += 1;
                return effects.push(Effect::Release(token));
            }
            Some(following) if !following.covered() => return self.wait(token, effects),
            _ => {}
        }
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

    /// Output of an epoch that the secondary may not share: it leaves at the next commit, or never.
    fn wait(&mut self, token: Token, effects: &mut Vec<Effect>) {
        if self.on_loss == OnPeerLoss::Close && matches!(self.session, Session::Apart) {
            self.own.dropped_apart += 1;
            effects.push(Effect::Drop(token));
        } else {
            self.own.waited += 1;
            self.waiting.push_back(token);
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
                self.peer_losses(now, heartbeat.lost, effects);
            }
            // Of a session that was begun anew since.
            Message::End(epoch) | Message::Begin(epoch)
                if self.following.is_some() && *epoch < self.epochs.epoch() => {}
            Message::End(epoch) => self.epochs.end(*epoch)?,
            Message::Begin(epoch) => self.begin(now, *epoch, outbox, effects)?,
            Message::Ask(reason) => self.peer_asks(now, *reason, outbox, effects),
            Message::Path(path) => self.peer_path(now, *path, effects),
            Message::Bye { reason, text } => {
                tracing::warn!("the secondary says goodbye: {}: {text}", reason.name());
                self.lost(now, Reason::PeerLeft, effects);
                self.loss = Some(Loss::Bye((*reason).into()));
            }
            Message::Input { .. } => return Err(Violation::Kind("input")),
            Message::Learned { .. } => return Err(Violation::Kind("learned")),
            Message::Cut(_) => return Err(Violation::Kind("cut")),
            Message::InputCut { .. } => return Err(Violation::Kind("input-cut")),
            Message::Session { .. } => return Err(Violation::Kind("session")),
            Message::Bases { .. } => return Err(Violation::Kind("bases")),
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
            Verdict::Now if matches!(self.session, Session::InSync(_)) && self.covered() => {
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
        effects.push(Effect::Settle(self.epochs.epoch()));
        let returned = std::mem::replace(&mut self.was_in_sync, true);
        if self.following.is_some() {
            return self.judge_protection();
        }
        self.protection = Protection::Protected;
        if returned && self.on_loss == OnPeerLoss::Hold {
            self.ask(
                now,
                "peer-returned",
                "the peer is back; what was held meanwhile is not its own".into(),
                effects,
            );
        } else {
            self.comparator.set_coverage(Coverage::NewFlows);
        }
    }

    /// The peer is lost, for `reason`: the link is closed and the policy applied.
    pub fn lost(&mut self, now: Mono, reason: Reason, effects: &mut Vec<Effect>) {
        if matches!(self.session, Session::Apart) {
            return;
        }
        self.own.sessions_lost += 1;
        self.session = Session::Apart;
        self.loss = Some(if reason == Reason::PeerSilent { Loss::Silent } else { Loss::Link });
        self.protection = Protection::Not(reason);
        self.epochs.restart();
        self.cut_started = None;
        self.withheld.clear();
        self.withheld_bytes = 0;
        self.asks.peer_lost_input = 0;
        self.uncover(now);
        effects.push(Effect::CloseLink(match reason {
            Reason::LinkStalled => Some((ByeReason::Stalled, "the link did not drain".into())),
            Reason::ProtocolBroken | Reason::CutUnanswered => {
                Some((ByeReason::Protocol, reason.text().into()))
            }
            Reason::Exiting => Some((ByeReason::Exit, "the primary's agent ends".into())),
            _ => None,
        }));
        match self.on_loss {
            OnPeerLoss::Pass if self.following.is_none() => self.release_all(now, effects),
            OnPeerLoss::Close => self.drop_all(now, effects),
            OnPeerLoss::Pass | OnPeerLoss::Hold => {}
        }
    }

    /// How the session was lost since the last call, if it was.
    pub const fn take_loss(&mut self) -> Option<Loss> {
        self.loss.take()
    }

    /// Closes the session for a reason of this side's own.
    pub fn part(&mut self, now: Mono, reason: ByeReason, text: &str, effects: &mut Vec<Effect>) {
        if !matches!(self.session, Session::Apart) {
            self.lost(now, Reason::PeerLeft, effects);
            self.loss = None;
            effects.pop_if(|effect| matches!(effect, Effect::CloseLink(_)));
        }
        effects.push(Effect::CloseLink(Some((reason, text.to_owned()))));
    }

    /// Epochs that the secondary owns by now.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.own.cuts
    }

    /// Whether the peer has answered the session's beginning.
    #[must_use]
    pub fn joined(&self) -> bool {
        match self.session {
            Session::Apart => false,
            Session::Syncing(_) => self.following.as_ref().is_some_and(Following::is_ready),
            Session::InSync(_) => true,
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
        // What waits is younger than what the comparator has.
        self.comparator.release_all(now, &mut self.actions);
        self.act(now, effects);
        effects.extend(self.waiting.drain(..).map(Effect::Release));
    }

    /// Drops all that is held.
    pub fn drop_all(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.comparator.release_all(now, &mut self.actions);
        let held = self.actions.drain(..).filter_map(|action| match action {
            Action::Release(token) | Action::Drop(token) => Some(token),
            Action::Window(..) | Action::Emit(_) | Action::Checkpoint(_) => None,
        });
        for token in held.chain(self.waiting.drain(..)) {
            self.own.dropped_apart += 1;
            effects.push(Effect::Drop(token));
        }
    }

    /// Whether the peer has been silent for too long, whatever waits to be read.
    #[must_use]
    pub fn overdue(&self, now: Mono) -> bool {
        matches!(&self.session, Session::Syncing(beat) | Session::InSync(beat) if beat.silent(now))
    }

    /// The outbox had to drop a message.
    pub fn stalled(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        self.lost(now, Reason::LinkStalled, effects);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, outbox: Option<&mut Outbox>, effects: &mut Vec<Effect>) {
        self.comparator.tick(now, &mut self.actions);
        self.act(now, effects);
        self.await_checkpoint(now);
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

//! What the secondary's agent decides, without I/O: translator, epochs, session and the queue of input.
//!
//! States as in [`super::primary`]: *Apart*, *Syncing* from the connection to the primary's session and first answer,
//! then *InSync*. Output of the guest is translated to wire space and sent, tagged with the epoch; apart it is
//! translated all the same (so that the table stays right) and dropped. Input waits in one queue, bounded by
//! [`QUEUE_FRAMES`] and [`QUEUE_BYTES`]: beyond that it is dropped and told as lost. It is translated when its turn to
//! be injected has come, since a cut may come before, and kept for a while after that: a secondary that follows its QEMU
//! ([`loading`]) injects again what a loaded state lacks.

mod counters;
mod loading;
mod unreleased;

use super::beat::Beat;
use super::primary::Violation;
use super::protection::{Protection, Reason};
use super::reach::Reach;
use crate::epoch::{Epoch, SecondaryEpochs, Verdict};
use crate::failover::Loss;
use crate::link::buffer::Outbox;
use crate::link::frame::{AskReason, ByeReason, Message};
use crate::mono::Mono;
use crate::translate::{Base, Direction, Event, Limits, Outcome, Translator};
use counters::Own;
use loading::{Given, Loading};
use std::collections::VecDeque;
use std::time::Duration;
use unreleased::Unreleased;

/// Most frames of input that wait for the guest.
pub const QUEUE_FRAMES: usize = 16_384;
/// Most bytes of input that wait for the guest.
pub const QUEUE_BYTES: usize = 32 << 20;

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Hand in all that the guest has said so far, then call [`Secondary::drained`]: an epoch ends.
    Drain,
    /// Close the link; the reason goes to the peer where one is given.
    CloseLink(Option<(ByeReason, String)>),
}

/// What became of a frame that the shell was to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// The guest has it.
    Sent,
    /// Not now: try again later, in order.
    Later,
    /// It can never go in.
    Never,
}

#[derive(Clone, Debug)]
enum Session {
    Apart,
    Syncing { beat: Beat, begun: bool },
    InSync(Beat),
}

#[derive(Clone, Debug)]
struct Input {
    index: u64,
    frame: Vec<u8>,
}

/// See the module.
#[derive(Clone)]
pub struct Secondary {
    translator: Translator,
    translator_limits: Limits,
    epochs: SecondaryEpochs,
    session: Session,
    protection: Protection,
    peer_limit: Duration,
    /// Between two heartbeats, where that is said.
    interval: Option<Duration>,
    queue: VecDeque<Input>,
    queue_bytes: usize,
    /// The front of the queue in guest space, once its turn has come.
    ready: Option<Vec<u8>>,
    /// Input that the translator had kept and handed out: before the queue.
    handed: VecDeque<Vec<u8>>,
    capture_lost: u64,
    asks: Vec<AskReason>,
    /// Set where the own QEMU is followed.
    loading: Option<Loading>,
    /// What the guest said and the primary may not have let out.
    unreleased: Unreleased,
    /// What is known of the last session until somebody asks: how it was offered, and how it was lost.
    offered: Option<(u64, Duration)>,
    loss: Option<Loss>,
    heard: Mono,
    own: Own,
    reach: Reach,
}

impl Secondary {
    /// A secondary whose peer has not come yet.
    #[must_use]
    pub fn new(limits: Limits, peer_limit: Duration) -> Self {
        Self {
            translator_limits: limits,
            translator: Translator::new(limits),
            epochs: SecondaryEpochs::default(),
            session: Session::Apart,
            protection: Protection::Not(Reason::Connecting),
            peer_limit,
            interval: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            ready: None,
            handed: VecDeque::new(),
            capture_lost: 0,
            asks: Vec::new(),
            loading: None,
            unreleased: Unreleased::default(),
            offered: None,
            loss: None,
            heard: Mono::ZERO,
            own: Own::default(),
            reach: Reach::default(),
        }
    }

    /// The same beside a QEMU that it follows.
    #[must_use]
    pub fn following(mut self) -> Self {
        self.loading = Some(Loading::default());
        self
    }

    /// The same with heartbeats over the link at least this often.
    #[must_use]
    pub fn beating(mut self, interval: Option<Duration>) -> Self {
        self.interval = interval;
        self.unreleased.paced(interval.is_some());
        self
    }

    /// Whether the pair protects its client.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether both interfaces of the primary carry frames; `None` while it has not said so in this session.
    #[must_use]
    pub const fn peer_reaches(&self) -> Option<bool> {
        match self.session {
            Session::Apart => None,
            Session::Syncing { .. } | Session::InSync(_) => self.reach.is_whole(),
        }
    }

    /// The current epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epochs.epoch()
    }

    /// Frames of input that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.handed.len()
    }

    /// Frames of input that did not reach the guest, ever.
    #[must_use]
    pub const fn lost_input(&self) -> u64 {
        self.own.input_overflow + self.own.input_never + self.own.input_forgotten
    }

    /// A connection whose hellos are done.
    pub fn connected(&mut self, now: Mono) {
        self.own.sessions += 1;
        self.reach = Reach::default();
        self.unreleased.session();
        if let Some(loading) = &mut self.loading {
            // Numbered by another session, maybe by another agent; the next state has it or the primary sends it again.
            loading.disconnected();
            self.own.input_stale += self.queue.len() as u64;
            self.clear_queue();
        }
        self.session =
            Session::Syncing { beat: Beat::new(now, self.peer_limit).every(self.interval), begun: false };
        self.protection = Protection::Not(Reason::Syncing);
    }

    /// A frame that the guest said; changed in place.
    pub fn captured(&mut self, now: Mono, frame: &mut [u8], mut outbox: Option<&mut Outbox>) {
        if self.translator.output(now, frame).forward() {
            self.say(frame, outbox.as_deref_mut());
        }
        self.events(outbox);
    }

    fn say(&mut self, frame: &[u8], outbox: Option<&mut Outbox>) {
        let begun = matches!(self.session, Session::InSync(_) | Session::Syncing { begun: true, .. })
            && self.loading.as_ref().is_none_or(Loading::covered);
        if self.loading.is_some() {
            self.unreleased.said(frame);
        }
        match outbox {
            Some(outbox) if begun => {
                self.own.output_sent += 1;
                self.unreleased.sent();
                outbox.push(&Message::Output { epoch: self.epochs.epoch(), frame });
            }
            _ => self.own.output_not_sent += 1,
        }
    }

    fn events(&mut self, mut outbox: Option<&mut Outbox>) {
        while let Some(event) = self.translator.next_event() {
            match event {
                Event::Forward(Direction::Output, frame) => self.say(&frame, outbox.as_deref_mut()),
                Event::Forward(Direction::Input, frame) => self.handed.push_back(frame),
                Event::TableFull { .. } => self.asks.push(AskReason::TranslationFull),
                Event::Refused { flow, signature } => {
                    tracing::warn!(
                        "{flow:?} cannot be translated: {signature:?}; bypass it on the primary (--bypass)"
                    );
                }
            }
        }
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
        // No primary relies on what it is told before it has begun a session.
        let begun = !matches!(self.session, Session::Syncing { begun: false, .. });
        let (Session::Syncing { beat, .. } | Session::InSync(beat)) = &mut self.session else {
            return Ok(());
        };
        beat.alive(now);
        if begun || matches!(message, Message::Session { .. }) {
            self.heard = now;
        }
        match message {
            Message::Input { epoch, index, frame } => {
                beat.frames += 1;
                self.epochs.check_input(*epoch)?;
                if self.loading.is_some() {
                    self.unreleased.heard(frame);
                }
                self.input(*index, frame);
            }
            // What was learned before the state was loaded is part of it.
            Message::Learned { epoch, .. } if self.loading.is_some() && *epoch != self.epochs.epoch() => {}
            Message::Learned { initial, .. } => {
                self.own.learned_received += 1;
                // What it is paired with, if with anything, comes out as events.
                let _ = self.translator.learn(now, initial);
                self.events(Some(outbox));
            }
            Message::Session { epoch, term, lease } => {
                self.offered = Some((*term, *lease));
                if let Session::Syncing { begun, .. } = &mut self.session {
                    *begun = true;
                }
                self.begin(now, *epoch);
            }
            Message::Cut(epoch) => {
                self.epochs.cut(*epoch)?;
                effects.push(Effect::Drain);
            }
            Message::Bases { epoch, bases } => self.bases(*epoch, bases)?,
            Message::InputCut { epoch, first } => self.input_cut(*epoch, *first)?,
            Message::Heartbeat(heartbeat) => {
                beat.heard(now, heartbeat);
                self.unreleased.told(now, heartbeat.frames);
                self.proved(heartbeat.echo);
                if let Session::Syncing { beat, begun: true } = &self.session
                    && beat.answered()
                {
                    self.session = Session::InSync(beat.clone());
                    self.judge_protection();
                }
            }
            Message::Bye { reason, text } => {
                tracing::warn!("the primary says goodbye: {}: {text}", reason.name());
                self.lost(Reason::PeerLeft, effects);
                self.loss = Some(Loss::Bye((*reason).into()));
            }
            // The primary has the checkpoint made that it needs.
            Message::Path(path) => {
                self.reach.told(*path);
            }
            Message::Output { .. } => return Err(Violation::Kind("output")),
            Message::End(_) => return Err(Violation::Kind("end")),
            Message::Begin(_) => return Err(Violation::Kind("begin")),
            Message::Ask(_) => return Err(Violation::Kind("ask")),
        }
        Ok(())
    }

    /// A session begins. Without a QEMU that is followed, input of the last one that is still withheld by a cut has no known
    /// side any more: dropped, and told as lost.
    fn begin(&mut self, now: Mono, epoch: Epoch) {
        self.void_loads(now);
        if let Some(loading) = &mut self.loading {
            loading.begin();
        } else if self.queue.front().is_some_and(|input| self.epochs.input(input.index) == Verdict::Withhold)
        {
            self.own.input_overflow += self.queue.len() as u64;
            self.clear_queue();
        }
        self.epochs.restart(epoch);
        self.judge_protection();
    }

    fn clear_queue(&mut self) {
        self.queue.clear();
        self.queue_bytes = 0;
        self.ready = None;
    }

    fn judge_protection(&mut self) {
        if matches!(self.session, Session::InSync(_)) {
            self.protection = self.loading.as_ref().map_or(Protection::Protected, Loading::protection);
        }
    }

    fn input(&mut self, index: u64, frame: &[u8]) {
        self.own.input_received += 1;
        let full =
            |core: &Self| core.queue.len() >= QUEUE_FRAMES || core.queue_bytes + frame.len() > QUEUE_BYTES;
        // Before the first state the oldest goes: that state has it.
        while full(self) && self.loading.as_ref().is_some_and(|loading| !loading.covered()) {
            let Some(oldest) = self.queue.front().map(|input| input.index) else { break };
            self.pop();
            self.own.input_stale += 1;
            self.loading.as_mut().expect("asked above").forget(oldest);
        }
        if full(self) {
            self.own.input_overflow += 1;
            return;
        }
        self.queue_bytes += frame.len();
        self.queue.push_back(Input { index, frame: frame.to_vec() });
    }

    /// All that the guest had said has been handed in: the epoch ends, and the next one begins.
    pub fn drained(&mut self, now: Mono, outbox: Option<&mut Outbox>) {
        self.own.cuts += 1;
        let ended = self.epochs.epoch();
        let begun = self.epochs.loaded();
        // No base: a primary that has taken over follows its QEMU.
        self.own.input_stale += self.handed.len() as u64;
        self.forget_translation(now, Vec::new());
        if let Some(outbox) = outbox {
            outbox.push(&Message::End(ended));
            outbox.push(&Message::Begin(begun));
        }
    }

    fn forget_translation(&mut self, now: Mono, bases: Vec<Base>) {
        if self.translator.epoch_cut(now, bases).is_err() {
            self.asks.push(AskReason::TranslationFull);
        }
        // Input is translated anew, by what is learned from here on.
        self.ready = None;
        self.handed.clear();
    }

    /// Injects what may go in now, at most `budget` frames. Returns true if more is waiting and would go in.
    pub fn inject(
        &mut self,
        now: Mono,
        budget: usize,
        mut outbox: Option<&mut Outbox>,
        mut put: impl FnMut(&[u8]) -> Injection,
    ) -> bool {
        if self.loading.as_ref().is_some_and(|loading| !loading.injects()) {
            return false;
        }
        for _ in 0..budget {
            if let Some(frame) = self.handed.front() {
                let injection = put(frame);
                if !self.injected(injection) {
                    return false;
                }
                self.handed.pop_front();
                continue;
            }
            let Some(input) = self.queue.front() else { return false };
            match self.epochs.input(input.index) {
                Verdict::Withhold => return false,
                Verdict::Stale => {
                    self.own.input_stale += 1;
                    self.pop();
                    continue;
                }
                Verdict::Now => {}
            }
            if self.ready.is_none() {
                let mut frame = input.frame.clone();
                let outcome = self.translator.input(now, &mut frame);
                self.events(outbox.as_deref_mut());
                if !outcome.forward() {
                    self.own.input_untranslatable += u64::from(outcome == Outcome::Dropped);
                    self.given(Given::Kept);
                    continue;
                }
                self.ready = Some(frame);
                if !self.handed.is_empty() {
                    // What had waited for this very frame goes first.
                    continue;
                }
            }
            let injection = self.ready.as_deref().map_or(Injection::Never, &mut put);
            if !self.injected(injection) {
                return false;
            }
            let same = self.queue.front().map(|input| &input.frame) == self.ready.as_ref();
            self.given(if same { Given::Same } else { Given::Changed });
        }
        true
    }

    /// The front of the queue has been given to the guest, or to the translator.
    fn given(&mut self, given: Given) {
        let input = self.pop();
        if let (Some(loading), Some(input)) = (&mut self.loading, input) {
            loading.remember(input, given);
        }
    }

    /// Counts; false if it is to be tried again.
    const fn injected(&mut self, injection: Injection) -> bool {
        match injection {
            Injection::Sent => self.own.input_injected += 1,
            Injection::Later => return false,
            Injection::Never => self.own.input_never += 1,
        }
        true
    }

    fn pop(&mut self) -> Option<Input> {
        self.ready = None;
        let input = self.queue.pop_front()?;
        self.queue_bytes -= input.frame.len();
        Some(input)
    }

    /// Frames of the guest that were lost before the agent saw them, ever.
    pub fn losses(&mut self, captured: u64) {
        if captured > self.capture_lost {
            self.capture_lost = captured;
            self.asks.push(AskReason::CaptureLost);
        }
    }

    /// The peer is lost, for `reason`.
    pub fn lost(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        if matches!(self.session, Session::Apart) {
            return;
        }
        self.own.sessions_lost += 1;
        self.session = Session::Apart;
        self.loss = Some(if reason == Reason::PeerSilent { Loss::Silent } else { Loss::Link });
        self.protection = Protection::Not(reason);
        if let Some(loading) = &mut self.loading {
            loading.lost();
        }
        effects.push(Effect::CloseLink(match reason {
            Reason::LinkStalled => Some((ByeReason::Stalled, "the link did not drain".into())),
            Reason::ProtocolBroken => Some((ByeReason::Protocol, reason.text().into())),
            Reason::Exiting => Some((ByeReason::Exit, "the secondary's agent ends".into())),
            _ => None,
        }));
    }

    /// How the session was lost since the last call, if it was, and when the primary was heard last.
    pub fn take_loss(&mut self) -> Option<(Loss, Mono)> {
        self.loss.take().map(|loss| (loss, self.heard))
    }

    /// Term and lease of a session that the primary has begun since the last call: this side says [`Self::join`] or
    /// [`Self::part`].
    pub const fn take_offer(&mut self) -> Option<(u64, Duration)> {
        self.offered.take()
    }

    /// Takes part in the session that was begun. It is answered at once, or when the guest stands in no checkpoint: a primary
    /// in COLO asks for a checkpoint then.
    pub fn join(&mut self, outbox: Option<&mut Outbox>) {
        if let Some(outbox) = outbox {
            self.answer_session(outbox);
        }
    }

    /// Closes the session for a reason of this side's own.
    pub fn part(&mut self, reason: ByeReason, text: &str, effects: &mut Vec<Effect>) {
        if !matches!(self.session, Session::Apart) {
            self.lost(Reason::PeerLeft, effects);
            self.loss = None;
            effects.pop_if(|effect| matches!(effect, Effect::CloseLink(_)));
        }
        effects.push(Effect::CloseLink(Some((reason, text.to_owned()))));
    }

    /// States loaded so far, with all that was said before them.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.own.cuts
    }

    /// Whether the VM runs in a state that the primary's agent has cut: one of which it knows all that its QEMU told before.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.loading.as_ref().is_none_or(Loading::confirmed)
    }

    /// Whether both directions of a session work.
    #[must_use]
    pub const fn joined(&self) -> bool {
        matches!(self.session, Session::InSync(_))
    }

    /// After [`Self::take_over`]: what the guest said and the network may lack, in order.
    pub fn next_unreleased(&mut self) -> Option<Vec<u8>> {
        self.unreleased.next()
    }

    /// Whether [`Self::next_unreleased`] has something.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.unreleased.speaks()
    }

    /// After [`Self::take_over`]: the guest's translation.
    pub const fn translator(&self) -> &Translator {
        &self.translator
    }

    /// Whether the peer has been silent for too long, whatever waits to be read.
    #[must_use]
    pub fn overdue(&self, now: Mono) -> bool {
        matches!(&self.session, Session::Syncing { beat, .. } | Session::InSync(beat) if beat.silent(now))
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, outbox: Option<&mut Outbox>, effects: &mut Vec<Effect>) {
        self.translator.tick(now);
        let lost_input = self.lost_input();
        let (Session::Syncing { beat, .. } | Session::InSync(beat), Some(outbox)) =
            (&mut self.session, outbox)
        else {
            self.asks.clear();
            return;
        };
        for reason in self.asks.drain(..) {
            outbox.push(&Message::Ask(reason));
        }
        if let Some(heartbeat) = beat.due(now, lost_input) {
            outbox.push(&Message::Heartbeat(heartbeat));
        }
        if beat.silent(now) {
            self.lost(Reason::PeerSilent, effects);
        }
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let beat = match &self.session {
            Session::Apart => None,
            Session::Syncing { beat, .. } | Session::InSync(beat) => Some(beat.next_deadline()),
        };
        beat.into_iter().chain(self.translator.next_deadline()).min()
    }
}

#[cfg(test)]
mod tests;

//! The secondary's side: see the module above. What an operator orders of it is in [`verbs`].

mod verbs;

use super::elsewhere::{Elsewhere, precedence};
use super::takeover::{Step, Takeover};
use super::{
    ASK_AGAIN, ASK_SOON, Config, Loss, Memory, Order, Parting, Past, Question, Standing, Trouble, Why,
};
use crate::judge::etcd::keeper::Tenure;
use crate::judge::{Answer, Claimant};
use crate::mono::Mono;
use crate::qmp::Failure;
use serde_json::Value;
use std::time::Duration;

#[derive(Clone, Debug)]
enum State {
    /// It cannot take over: for now, or until another VM comes.
    Closed {
        done: bool,
    },
    Protected,
    Holding {
        ask_at: Option<Mono>,
    },
    Asking(Question),
    TakingOver(Takeover),
    Alone,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Secondary {
    config: Config,
    state: State,
    why: Why,
    claimant: Claimant,
    /// Of the state that the VM has loaded.
    term: Option<u64>,
    /// Of the session, if it is another: replaces `term` when a state of it is loaded.
    next: Option<u64>,
    /// How long the primary may let output out after it was heard last.
    lease: Duration,
    /// The judge was asked in this term.
    asked: bool,
    joined: bool,
    /// The primary has said that it is closed: nobody has to shut it off.
    peer_closed: bool,
    elsewhere: Elsewhere,
    /// The primary's agent has cut the state in which the VM runs.
    confirmed: bool,
    /// An operator has this side take over whatever the judge says.
    forced: bool,
    /// The primary has gone on alone since a state was loaded.
    stale: bool,
    /// The VM is the primary of its pair, and was not closed.
    leads: bool,
    kept: Option<Memory>,
}

impl Secondary {
    /// A secondary whose VM has no state yet. `claimant` is who it is to the judge; `kept` is what an agent before it
    /// remembered.
    #[must_use]
    pub fn new(config: Config, claimant: Claimant, kept: Option<Memory>) -> Self {
        let lease = config.lease;
        Self {
            config,
            state: State::Closed { done: false },
            why: Why::Unknown,
            claimant,
            term: None,
            next: None,
            lease,
            asked: false,
            joined: false,
            peer_closed: false,
            elsewhere: Elsewhere::Unknown,
            confirmed: false,
            forced: false,
            stale: false,
            leads: false,
            kept,
        }
    }

    /// What this side does.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self.state {
            State::Closed { .. } => Standing::Closed,
            State::Protected => Standing::Protected,
            State::Holding { .. } => Standing::Holding,
            State::Asking(_) => Standing::Asking,
            State::TakingOver(_) => Standing::TakingOver,
            State::Alone => Standing::Alone,
        }
    }

    /// Why.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }

    /// The term of the state that the VM has loaded.
    #[must_use]
    pub const fn term(&self) -> Option<u64> {
        self.term
    }

    /// Who it is to the judge.
    #[must_use]
    pub const fn claimant(&self) -> Claimant {
        self.claimant
    }

    /// Whether this VM's agent may be a primary's: it has taken over, or is the primary of its pair already and was not closed.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        matches!(self.state, State::Alone) || self.leads && self.why == Why::WrongRole
    }

    /// What a primary's agent that goes on from here must know; none if this side has not taken over.
    #[must_use]
    pub fn legacy(&self) -> Option<Memory> {
        let standing = self.standing();
        let term = self.term.filter(|_| standing == Standing::Alone)?;
        Some(Memory { term, next: None, claimant: self.claimant, standing })
    }

    /// What it was told once.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
    }

    /// How it stands with the lease, where the judge gives one: the service that was followed by another is none any more.
    pub fn tenure(&mut self, tenure: &Tenure, out: &mut Vec<Order>) {
        if matches!(tenure, Tenure::Taken(_)) && matches!(self.state, State::Alone | State::TakingOver(_)) {
            out.push(Order::Shut);
            self.close(Why::LeaseTaken, out);
        }
    }

    /// The monitor has said where the VM is: at the start, or after the monitor was lost. `pinned`: an agent before this one
    /// was the service, and its translation is in the kernel still.
    pub fn placed(&mut self, past: Past, pinned: bool, out: &mut Vec<Order>) {
        let State::Closed { done } = &mut self.state else { return };
        let kept = self.kept.take();
        match (past, kept) {
            // One that spoke already goes on, with what is in the kernel.
            (Past::Was, Some(kept))
                if kept.standing == Standing::Alone || pinned && kept.standing == Standing::TakingOver =>
            {
                (self.term, self.claimant) = (Some(kept.term), kept.claimant);
                self.take_over(out);
            }
            (Past::Secondary | Past::Was, Some(kept))
                if matches!(kept.standing, Standing::Asking | Standing::TakingOver) =>
            {
                (self.term, self.claimant, self.asked) = (Some(kept.term), kept.claimant, true);
                self.untranslated(past == Past::Was, out);
            }
            (Past::Secondary | Past::Was, None) if self.why == Why::TranslationLost => {
                self.untranslated(past == Past::Was, out);
            }
            (Past::Primary, kept) => {
                self.why = Why::WrongRole;
                // One that was closed stays so, until another VM comes.
                self.leads = kept.is_some_and(|kept| kept.standing != Standing::Closed);
            }
            // The primary of that pair goes on without this side.
            (Past::Secondary, _) if *done && self.term.is_some() => out.push(Order::halt()),
            (Past::Secondary, Some(kept)) if kept.standing == Standing::Closed => {
                self.term = Some(kept.term);
                self.close(Why::AgentRestarted, out);
            }
            (Past::Was, _) => *done = true,
            (Past::Fresh | Past::Secondary, _) => {
                *done = false;
                self.why = Why::AwaitsCheckpoint;
            }
        }
    }

    /// The primary begins a session in `term`, in which it lets output out for `lease` after it was heard. False if this
    /// side does not join it.
    pub fn session(&mut self, term: u64, lease: Duration, out: &mut Vec<Order>) -> bool {
        (self.joined, self.peer_closed) = (false, false);
        let refused = match self.state {
            State::TakingOver(_) | State::Alone => Some(Parting::TookOver),
            State::Closed { done: true }
                if matches!(self.why, Why::VmGone | Why::VmFrozen | Why::GuestLost) =>
            {
                Some(Parting::VmGone)
            }
            // Another VM has to come first.
            State::Closed { done: true } => Some(Parting::Left),
            _ => None,
        };
        if let Some(parting) = refused {
            out.push(Order::Bye(parting));
            return false;
        }
        self.lease = lease;
        if self.term == Some(term) {
            self.next = None;
            if self.asked {
                out.push(Order::Bye(Parting::Refused));
            }
            return !self.asked;
        }
        self.next = Some(term);
        true
    }

    /// Whether the primary's agent has cut the state in which the VM runs. With a replicated disk one that it has not
    /// may lack what that disk has missed: this side does not go on in it.
    pub const fn confirmed(&mut self, confirmed: bool) {
        self.confirmed = confirmed;
    }

    /// Whether it has no state yet, and its VM is one that may get one.
    const fn waits_for_a_pair(&self) -> bool {
        matches!(self.state, State::Closed { done: false })
            && !matches!(self.why, Why::Unknown | Why::WrongRole | Why::TranslationLost)
    }

    fn may_serve(&self) -> bool {
        self.confirmed || self.config.before.is_empty()
    }

    /// Both directions of the session work.
    pub fn in_sync(&mut self) {
        self.joined = self.next.is_some() || !self.asked;
        if self.waits_for_a_pair() {
            self.why = Why::AwaitsCheckpoint;
        }
        self.protected();
    }

    /// The VM has loaded a state of the session's term. Whatever was asked in the old one is not listened to any more.
    pub fn loaded(&mut self, out: &mut Vec<Order>) {
        if matches!(self.state, State::Closed { done: true } | State::TakingOver(_) | State::Alone) {
            return;
        }
        if let Some(term) = self.next.take() {
            (self.term, self.asked, self.stale) = (Some(term), false, false);
            (self.state, self.why) = (State::Holding { ask_at: None }, Why::AwaitsCheckpoint);
            self.remember(Standing::Protected, out);
        }
        self.protected();
    }

    /// A state and a primary make a pair. A state stays good while the link is away: the primary lets nothing out then, and
    /// after it only what this side has said as well.
    fn protected(&mut self) {
        if self.joined && matches!(self.state, State::Protected | State::Holding { .. }) {
            self.forced = false;
            (self.state, self.why) = match self.next {
                None => (State::Protected, Why::InSync),
                // The old state is good for as long as there is no new one.
                Some(_) => (State::Holding { ask_at: None }, Why::AwaitsCheckpoint),
            };
        }
    }

    /// The peer is lost; it was heard last at `heard`.
    pub fn lost(&mut self, loss: Loss, heard: Mono, out: &mut Vec<Order>) {
        (self.joined, self.peer_closed) = (false, loss == Loss::Bye(Parting::Closed));
        self.next = None;
        if loss == Loss::Bye(Parting::TookOver) {
            (self.stale, self.forced) = (true, false);
        }
        match (&self.state, loss) {
            (
                State::Closed { .. } | State::Protected | State::Holding { .. },
                Loss::Bye(Parting::TookOver),
            ) => {
                self.close(Why::PeerTookOver, out);
            }
            (State::Protected | State::Holding { .. }, Loss::Bye(Parting::Closed)) => {
                self.ask(loss.why(), out);
            }
            (State::Protected | State::Holding { .. }, _) => {
                self.why = self.elsewhere.why(loss);
                self.state = State::Holding { ask_at: Some(heard + self.lease + Config::margin(self.lease)) };
                self.closed_elsewhere(out);
            }
            (State::Closed { done: false }, _) if self.waits_for_a_pair() => self.why = loss.why(),
            _ => {}
        }
    }

    /// What other links say of the primary.
    pub fn elsewhere(&mut self, heard: Elsewhere, out: &mut Vec<Order>) {
        if std::mem::replace(&mut self.elsewhere, heard) != heard
            && matches!(self.state, State::Holding { ask_at: Some(_) })
        {
            self.why = heard.again(self.why);
            self.closed_elsewhere(out);
        }
    }

    /// The link is lost: the primary's last word on it may be lost too, and is said again elsewhere.
    fn closed_elsewhere(&mut self, out: &mut Vec<Order>) {
        if matches!(self.elsewhere, Elsewhere::Closed(term) if self.term == Some(term)) {
            self.ask(Why::PeerClosed, out);
        }
    }

    /// Something is wrong with the own VM.
    pub fn trouble(&mut self, trouble: Trouble, out: &mut Vec<Order>) {
        match (trouble, &self.state) {
            (_, State::Alone)
            | (Trouble::Frozen, State::TakingOver(_))
            | (Trouble::Stuck | Trouble::NoCheckpoint | Trouble::LeftColo | Trouble::Stranded, _) => {}
            (Trouble::Gone | Trouble::Frozen, _) => {
                self.close(if trouble == Trouble::Gone { Why::VmGone } else { Why::VmFrozen }, out);
                out.push(Order::Bye(Parting::VmGone));
            }
        }
    }

    /// The guest's interface has carried nothing for too long: it hears no input and nobody hears it, as if it were gone. Beside a
    /// primary that is lost it is the last one that could be the service, when its interface comes back.
    pub fn unreachable(&mut self, out: &mut Vec<Order>) {
        if self.joined && matches!(self.state, State::Protected | State::Holding { .. }) {
            self.close(Why::GuestLost, out);
            out.push(Order::Bye(Parting::VmGone));
        }
    }

    /// The judge has answered in `term`.
    pub fn answer(&mut self, now: Mono, term: u64, answer: &Answer, out: &mut Vec<Order>) {
        if self.term != Some(term) || !matches!(self.state, State::Asking(_)) {
            return;
        }
        match answer {
            Answer::Yes if !self.may_serve() => self.close(Why::Unconfirmed, out),
            Answer::Yes => {
                self.forced = false;
                self.begin_takeover(now, out);
            }
            // The state here may be old: a second order overrules that.
            Answer::No(_) if self.why == Why::TranslationLost => self.close(Why::JudgeSaidNo, out),
            Answer::No(_) | Answer::None(_) | Answer::NotYet(_) | Answer::NotFenced(_)
                if self.forced && self.may_serve() =>
            {
                self.begin_takeover(now, out);
            }
            Answer::No(_) => {
                self.close(Why::JudgeSaidNo, out);
            }
            Answer::None(_) => {
                self.why = Why::JudgeSilent;
                self.state = State::Asking(Question { again: Some(now + ASK_AGAIN) });
            }
            Answer::NotYet(_) => {
                self.why = Why::OtherLease;
                self.state = State::Asking(Question { again: Some(now + ASK_SOON) });
            }
            Answer::NotFenced(_) => {
                self.why = Why::NotFenced;
                self.state = State::Asking(Question { again: Some(now + ASK_AGAIN) });
            }
        }
    }

    /// A command of [`Order::Command`] is over.
    pub fn done(&mut self, now: Mono, step: Step, outcome: &Result<Value, Failure>, out: &mut Vec<Order>) {
        if let State::TakingOver(takeover) = &mut self.state
            && takeover.done(now, step, outcome, out)
        {
            // QEMU may have loaded another state before it left COLO.
            if self.may_serve() { self.take_over(out) } else { self.close(Why::Unconfirmed, out) }
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Order>) {
        let due = self.next_deadline().is_some_and(|at| now >= at);
        match &mut self.state {
            State::Holding { .. } | State::Asking(_) if due => {
                if self.forced && !self.config.judged && self.may_serve() {
                    return self.begin_takeover(now, out);
                }
                self.ask(self.why, out);
            }
            State::TakingOver(takeover) => takeover.tick(now, out),
            _ => {}
        }
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Holding { ask_at } => match self.elsewhere {
                Elsewhere::Alive => ask_at.map(|at| at + precedence(self.lease)),
                Elsewhere::Unknown | Elsewhere::Silent | Elsewhere::Closed(_) => *ask_at,
            },
            State::Asking(question) => question.again,
            State::TakingOver(takeover) => Some(takeover.next_deadline()),
            _ => None,
        }
    }

    fn ask(&mut self, why: Why, out: &mut Vec<Order>) {
        if !self.may_serve() {
            // Until the next checkpoint that is cut.
            (self.state, self.why) = (State::Holding { ask_at: None }, Why::Unconfirmed);
            return;
        }
        self.why = why;
        let Some(term) = self.term.filter(|_| self.config.judged) else {
            self.why = Why::NoJudge;
            self.state = State::Holding { ask_at: None };
            return;
        };
        if !std::mem::replace(&mut self.asked, true) {
            // A session that is just being begun again: the primary would rely on it.
            out.push(Order::Bye(Parting::Refused));
        }
        self.state = State::Asking(Question { again: None });
        self.remember(Standing::Asking, out);
        out.push(Order::Ask { term, claimant: self.claimant, fence: !self.peer_closed });
    }

    fn begin_takeover(&mut self, now: Mono, out: &mut Vec<Order>) {
        self.why = if self.forced { Why::Forced } else { Why::JudgeSaidYes };
        self.remember(Standing::TakingOver, out);
        out.push(Order::Bye(Parting::TookOver));
        let before = self.config.before.clone();
        self.state = State::TakingOver(Takeover::begin(now, before, self.config.vm_limit, out));
    }

    fn take_over(&mut self, out: &mut Vec<Order>) {
        let why = if self.forced { Why::Forced } else { Why::JudgeSaidYes };
        (self.state, self.why) = (State::Alone, why);
        // Who remembers that it was alone finds its translation in the kernel.
        out.push(Order::TakeOver);
        self.remember(Standing::Alone, out);
    }

    /// An agent before this one had asked. Of the state that it asked for it knew the translation; whether QEMU has loaded
    /// another since, nobody can say. So this side does not go on by itself: clients' connections would break. It loads a
    /// state of another term, where the primary comes back; without COLO (`done`) it never does.
    fn untranslated(&mut self, done: bool, out: &mut Vec<Order>) {
        (self.state, self.why) = (State::Closed { done }, Why::TranslationLost);
        self.ran(out);
    }

    fn close(&mut self, why: Why, out: &mut Vec<Order>) {
        (self.state, self.why) = (State::Closed { done: true }, why);
        // One that may have the judge's yes can still be promoted when it is started again.
        if !(self.asked && why == Why::VmFrozen) {
            self.remember(Standing::Closed, out);
        }
        self.ran(out);
    }

    /// The guest has begun to run. That of a side that is closed for good may although it was told to stand still: a QEMU that
    /// leaves COLO lets it run on, and so may an operator.
    pub fn ran(&self, out: &mut Vec<Order>) {
        // One without a state waits for a primary's.
        let halted = self.term.is_some() && self.why != Why::VmGone;
        if matches!(self.state, State::Closed { done: true }) && halted {
            out.push(Order::halt());
        }
    }

    fn remember(&self, standing: Standing, out: &mut Vec<Order>) {
        if let Some(term) = self.term {
            out.push(Order::Remember(Memory { term, next: None, claimant: self.claimant, standing }));
        }
    }
}

#[cfg(test)]
mod tests;

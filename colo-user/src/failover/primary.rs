//! The primary's side: see the module above. What an operator orders of it is in [`verbs`].

mod verbs;

use super::elsewhere::{Elsewhere, precedence};
use super::takeover::{Step, Takeover};
use super::{
    ASK_AGAIN, ASK_SOON, Config, GRACE, Loss, Memory, Order, Parting, Past, Question, Standing, Trouble, Why,
};
use crate::judge::etcd::keeper::Tenure;
use crate::judge::{Answer, Claimant};
use crate::mono::Mono;
use crate::path::GRACE as PATH_GRACE;
use crate::qmp::Failure;
use serde_json::Value;

/// A term that the agents join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    term: u64,
    /// A cut was begun in it: the secondary may own a state of it.
    cut: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// Where the VM is has not been said.
    Unknown,
    /// `alone`: it went on alone before, and does so again if the peer leaves before there is a pair.
    Passing {
        alone: bool,
    },
    Protected,
    /// Until `ask_at`, if ever; `None` while the peer is there and a checkpoint is awaited, or nobody can be asked.
    Holding {
        ask_at: Option<Mono>,
    },
    Asking(Question),
    TakingOver(Takeover),
    Alone,
    /// The judge has said yes, and the pair is kept; or the agents begin another term.
    Paused {
        resuming: bool,
    },
    Closed,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Primary {
    config: Config,
    state: State,
    why: Why,
    claimant: Claimant,
    /// The term of the state that the secondary owns for sure.
    term: Option<u64>,
    /// The one that replaces it once the secondary owns a state of it.
    next: Option<Next>,
    /// The judge was asked in `term`, or the secondary has asked: the agents meet again in another one only.
    spent: bool,
    /// The peer answers in the session.
    joined: bool,
    /// The secondary has said that it is closed: nobody has to shut it off.
    peer_closed: bool,
    elsewhere: Elsewhere,
    /// Since when an interface carries nothing.
    pathless: Option<Mono>,
    /// The judge has said no in `term`: until then a secondary that does not use its yes may be met in another.
    refused: Option<Mono>,
    /// An operator has this side go on whatever the judge says.
    forced: bool,
    /// The judge was asked for a pause.
    pausing: bool,
    /// The service is handed over at the next checkpoint, unless none has come by then.
    plan: Option<Mono>,
    /// The lease that it needs to be heard is not had.
    unleased: bool,
    /// Another has had the lease since, and the judge has not said yet to whom the term belongs.
    followed: bool,
    /// The last term that was drawn: what one is remembered by that has no other.
    drawn: Option<u64>,
    kept: Option<Memory>,
}

impl Primary {
    /// A primary that knows nothing yet: nothing leaves. `claimant` is who it is to the judge; `kept` is what an agent
    /// before it remembered.
    pub fn new(config: Config, claimant: Claimant, kept: Option<Memory>, out: &mut Vec<Order>) -> Self {
        out.push(Order::Hold);
        let (state, why) = (State::Unknown, Why::Unknown);
        Self {
            config,
            state,
            why,
            claimant,
            term: None,
            next: None,
            spent: false,
            joined: false,
            peer_closed: false,
            elsewhere: Elsewhere::Unknown,
            pathless: None,
            refused: None,
            forced: false,
            pausing: false,
            plan: None,
            unleased: false,
            followed: false,
            drawn: None,
            kept,
        }
    }

    /// What this side does.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self.state {
            State::Passing { .. } => Standing::Passing,
            State::Protected => Standing::Protected,
            State::Unknown | State::Holding { .. } => Standing::Holding,
            State::Asking(_) => Standing::Asking,
            State::TakingOver(_) => Standing::TakingOver,
            State::Alone => Standing::Alone,
            State::Paused { .. } => Standing::Paused,
            State::Closed => Standing::Closed,
        }
    }

    /// Whether it went on alone and is no part of a new pair yet: the guest is the service, whoever else is there.
    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self.state, State::Alone | State::Passing { alone: true })
    }

    /// Why.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }

    /// The term of this protection, if there is one.
    #[must_use]
    pub const fn term(&self) -> Option<u64> {
        self.term
    }

    /// Who it is to the judge.
    #[must_use]
    pub const fn claimant(&self) -> Claimant {
        self.claimant
    }

    /// How it stands with the lease, where the judge gives one. Without a word of it none is needed.
    pub fn tenure(&mut self, now: Mono, tenure: &Tenure, out: &mut Vec<Order>) {
        self.unleased = !matches!(tenure, Tenure::Held(_));
        match (tenure, &self.state) {
            (Tenure::Held(_), _) => self.followed = false,
            (_, State::Closed) => {}
            // The answer is on its way, and may give this side the term: who has had the lease since had it by one that is over.
            (Tenure::Taken(_), State::Asking(_)) => self.followed = true,
            (Tenure::Taken(_), _) => self.close(Why::LeaseTaken, out),
            (Tenure::Over, State::Protected | State::Holding { ask_at: None }) if self.term.is_some() => {
                (self.joined, self.plan) = (false, None);
                self.hold(Some(now + self.config.lease), Why::LeaseOver, out);
                out.push(Order::Bye(Parting::Left));
            }
            (Tenure::Over, _) => {}
        }
    }

    /// The monitor has said where the VM is: at the start, or after the monitor was lost.
    pub fn placed(&mut self, now: Mono, past: Past, out: &mut Vec<Order>) {
        match self.state {
            State::Unknown => {}
            State::Closed if past != Past::Fresh => return self.ran(out),
            _ => return,
        }
        let kept = self.kept.take().filter(|_| past != Past::Fresh);
        if let Some(kept) = kept {
            (self.term, self.claimant) = (Some(kept.term), kept.claimant);
            self.next = kept.next.map(|term| Next { term, cut: true });
        }
        let stood = kept.map(|kept| kept.standing);
        self.spent = matches!(stood, Some(Standing::Asking | Standing::TakingOver | Standing::Paused));
        match (past, stood) {
            (Past::Fresh, _) => {
                (self.state, self.why) = (State::Passing { alone: false }, Why::Fresh);
                out.push(Order::Resume);
            }
            (Past::Secondary, _) => self.close(Why::WrongRole, out),
            (_, Some(Standing::Closed)) => self.close(Why::AgentRestarted, out),
            // It is the service, and the judge never takes a yes back.
            (Past::Was, Some(Standing::Alone)) => self.alone(out),
            (Past::Primary, Some(Standing::Protected | Standing::Holding)) => {
                // The peer may be seeking this side as well.
                self.hold(Some(now + self.config.lease), Why::AgentRestarted, out);
            }
            (Past::Primary | Past::Was, _) => self.hold(Some(now), Why::AgentRestarted, out),
        }
    }

    /// A session begins: the term to begin it with, `fresh` unless the old one goes on. None if there can be no session.
    pub fn session(&mut self, fresh: u64, out: &mut Vec<Order>) -> Option<u64> {
        (self.joined, self.peer_closed) = (false, false);
        match self.state {
            State::Closed => {
                out.push(Order::Bye(Parting::Closed));
                return None;
            }
            State::Unknown | State::Paused { .. } => {
                // Which term to offer is known when the VM is, or when the loss of the last session is.
                out.push(Order::Bye(Parting::Left));
                return None;
            }
            // A secondary that is not met may follow.
            _ if self.unleased => {
                out.push(Order::Bye(Parting::Left));
                return None;
            }
            State::TakingOver(_) => {
                out.push(Order::Bye(Parting::TookOver));
                return None;
            }
            // Perhaps a new secondary, for a new protection.
            State::Alone | State::Passing { .. } => {
                return Some(self.draw(fresh));
            }
            State::Protected | State::Holding { .. } | State::Asking(_) => {}
        }
        match (self.next, self.term) {
            (Some(next), _) => Some(next.term),
            (None, Some(term)) if !self.spent => Some(term),
            _ => Some(self.draw(fresh)),
        }
    }

    /// Another term is to be joined.
    fn draw(&mut self, fresh: u64) -> u64 {
        (self.next, self.drawn) = (Some(Next { term: fresh, cut: false }), Some(fresh));
        fresh
    }

    /// The peer has heard the session's beginning, and answers.
    pub fn in_sync(&mut self, out: &mut Vec<Order>) {
        if matches!(self.state, State::Alone) {
            self.state = State::Passing { alone: true };
            (self.term, self.spent, self.refused) = (None, false, None);
            out.push(Order::Guard);
        } else if self.next.is_none() && self.spent {
            // Asked while the session was being begun: the answer still counts.
            out.push(Order::Bye(Parting::Left));
            return;
        }
        self.joined = true;
        if matches!(self.state, State::Holding { .. }) {
            (self.state, self.why) = (State::Holding { ask_at: None }, Why::AwaitsCheckpoint);
        }
    }

    /// A cut begins: from here on the secondary may own a state of the session's term.
    pub fn cut(&mut self, out: &mut Vec<Order>) {
        if !self.joined {
            return;
        }
        if matches!(self.state, State::Passing { .. } | State::Paused { resuming: true }) {
            (self.spent, self.forced) = (false, false);
            self.term = self.next.take().map(|next| next.term).or(self.term);
            (self.state, self.why) = (State::Protected, Why::AwaitsCheckpoint);
            self.remember(Standing::Protected, out);
        } else if let Some(next) = &mut self.next
            && !std::mem::replace(&mut next.cut, true)
        {
            self.remember(self.standing(), out);
        }
    }

    /// The secondary owns the state: what is of it leaves.
    pub fn owned(&mut self, out: &mut Vec<Order>) {
        if !self.joined {
            return;
        }
        match self.state {
            State::Protected => {
                self.why = Why::InSync;
                self.handed_over(out);
            }
            // It was asked about a term that is over: neither side listens to the answer.
            State::Holding { .. } | State::Asking(_) if self.next.is_some() || !self.spent => {
                if let Some(next) = self.next.take() {
                    (self.term, self.spent, self.refused) = (Some(next.term), false, None);
                }
                (self.forced, self.pausing) = (false, false);
                (self.state, self.why) = (State::Protected, Why::InSync);
                self.remember(Standing::Protected, out);
                if self.followed {
                    return self.close(Why::LeaseTaken, out);
                }
                out.push(Order::Resume);
            }
            // The pair is well again, and the judge has not answered: they meet again in another term.
            State::Asking(Question { again: Some(_) }) => out.push(Order::Bye(Parting::Left)),
            _ => {}
        }
    }

    /// The peer is lost.
    pub fn lost(&mut self, now: Mono, loss: Loss, out: &mut Vec<Order>) {
        (self.joined, self.peer_closed) = (false, loss == Loss::Bye(Parting::Closed));
        self.next = self.next.filter(|next| next.cut);
        if matches!(self.state, State::Unknown | State::TakingOver(_) | State::Alone | State::Closed) {
            return;
        }
        match loss {
            // Also to a VM that was started anew beside a secondary that serves.
            Loss::Bye(Parting::TookOver) => return self.close(Why::PeerTookOver, out),
            Loss::Bye(Parting::Refused) => self.spent = true,
            _ => {}
        }
        self.plan = None;
        match self.state {
            State::Passing { alone: true } => self.alone(out),
            State::Paused { .. } => self.take_over(now, out),
            State::Protected | State::Holding { .. } => {
                let grace = match loss {
                    Loss::Link | Loss::Bye(Parting::Refused) => GRACE.min(self.config.lease / 2),
                    Loss::Silent | Loss::Bye(_) => std::time::Duration::ZERO,
                };
                self.hold(Some(self.refused.unwrap_or(now + grace)), self.elsewhere.why(loss), out);
            }
            _ => {}
        }
    }

    /// What other links say of the peer.
    pub fn elsewhere(&mut self, now: Mono, heard: Elsewhere) {
        if std::mem::replace(&mut self.elsewhere, heard) == heard {
            return;
        }
        if let State::Holding { ask_at: Some(at) } = &mut self.state {
            let why = heard.again(self.why);
            if heard == Elsewhere::Silent && why != self.why {
                // Nobody is there for whom it would wait.
                *at = now.min(*at);
            }
            self.why = why;
        }
    }

    /// Whether the interfaces carry the guest's frames, and if not, why; `relief`: the secondary says that it could take over at once,
    /// with interfaces that do. Then this side asks to be relieved: it closes, and says so, upon which the secondary asks the judge
    /// at once.
    pub fn path(&mut self, now: Mono, lost: Option<Why>, relief: bool, out: &mut Vec<Order>) {
        let Some(why) = lost else {
            self.pathless = None;
            return;
        };
        let since = *self.pathless.get_or_insert(now);
        let whole = matches!(self.state, State::Protected) && self.why == Why::InSync && self.joined;
        if relief && whole && self.config.judged && now.saturating_since(since) >= PATH_GRACE {
            self.close(why, out);
        }
    }

    /// Something is wrong with the own VM.
    pub fn trouble(&mut self, now: Mono, trouble: Trouble, out: &mut Vec<Order>) {
        match (trouble, &self.state) {
            // It went into COLO for a pair that never was: no other side can be the service.
            (
                Trouble::Stuck | Trouble::NoCheckpoint | Trouble::Stranded,
                State::Passing { .. } | State::Alone,
            ) => {
                self.take_over(now, out);
                let left = trouble == Trouble::Stranded;
                self.why = if left { Why::LeftColo } else { Why::CheckpointOverdue };
            }
            (_, State::Unknown | State::Alone | State::Closed) | (Trouble::Frozen, State::TakingOver(_)) => {}
            // Another may be started there.
            (Trouble::Gone, State::Passing { .. }) => {
                (self.state, self.why) = (State::Unknown, Why::Unknown);
                out.push(Order::Hold);
            }
            (_, State::Passing { .. }) => {}
            (Trouble::Gone, _) => self.close(Why::VmGone, out),
            (Trouble::Frozen, _) => self.close(Why::VmFrozen, out),
            (_, State::Paused { .. }) => self.take_over(now, out),
            // Also while a checkpoint is awaited: the pair will not be whole again.
            (Trouble::Stuck | Trouble::NoCheckpoint, State::Protected | State::Holding { ask_at: None }) => {
                self.hold(Some(now), Why::CheckpointOverdue, out);
            }
            (Trouble::LeftColo | Trouble::Stranded, State::Protected | State::Holding { ask_at: None }) => {
                self.hold(Some(now), Why::LeftColo, out);
            }
            (_, State::Holding { .. } | State::Asking(_) | State::TakingOver(_)) => {}
        }
    }

    /// The judge has answered in `term`.
    pub fn answer(&mut self, now: Mono, term: u64, answer: &Answer, out: &mut Vec<Order>) {
        if self.term != Some(term) || !matches!(self.state, State::Asking(_)) {
            return;
        }
        match answer {
            Answer::Yes => match self.next.take().filter(|next| next.cut || self.pausing && self.joined) {
                // The other side has lost the old term for good, and may have the new one; or gets it, where the pair is kept.
                Some(next) => {
                    self.term = Some(next.term);
                    self.ask(out);
                }
                None if self.pausing && self.joined => self.paused(out),
                None => {
                    self.forced = false;
                    self.take_over(now, out);
                }
            },
            Answer::No(_) | Answer::None(_) | Answer::NotYet(_) | Answer::NotFenced(_) if self.forced => {
                self.take_over(now, out);
            }
            Answer::No(_) if self.followed => self.close(Why::LeaseTaken, out),
            Answer::No(_) if self.pausing => self.close(Why::JudgeSaidNo, out),
            Answer::No(_) => self.refuse(now, out),
            Answer::None(_) | Answer::NotYet(_) => {
                if self.pausing {
                    self.not_paused(out);
                }
                let (why, again) = match answer {
                    Answer::NotYet(_) => (Why::OtherLease, ASK_SOON),
                    _ => (Why::JudgeSilent, ASK_AGAIN),
                };
                self.why = why;
                self.state = State::Asking(Question { again: Some(now + again) });
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
            self.alone(out);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Order>) {
        self.plan = self.plan.filter(|until| now < *until);
        match &mut self.state {
            State::Holding { ask_at: Some(at) } if now >= *at => self.ask(out),
            State::Asking(Question { again: Some(at) }) if now >= *at => self.ask(out),
            State::TakingOver(takeover) => takeover.tick(now, out),
            _ => {}
        }
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Holding { ask_at } => *ask_at,
            State::Asking(question) => question.again,
            State::TakingOver(takeover) => Some(takeover.next_deadline()),
            _ => self.plan,
        }
    }

    fn hold(&mut self, ask_at: Option<Mono>, why: Why, out: &mut Vec<Order>) {
        self.why = why;
        self.state = State::Holding { ask_at };
        out.push(Order::Hold);
    }

    /// The other side goes on, in this term or in the next, and says so when it is met. Only one whose agent was started again
    /// since it asked may not be able to: it loads a state of another term, while this side can still make one.
    fn refuse(&mut self, now: Mono, out: &mut Vec<Order>) {
        let until = *self.refused.get_or_insert_with(|| now + precedence(self.config.lease));
        self.hold(Some(until).filter(|_| !self.joined), Why::JudgeSaidNo, out);
    }

    fn ask(&mut self, out: &mut Vec<Order>) {
        if self.refused.is_some() && !self.forced {
            return self.close(Why::JudgeSaidNo, out);
        }
        let Some(term) = self.term.filter(|_| self.config.judged) else {
            self.why = if self.config.judged { Why::TermUnknown } else { Why::NoJudge };
            self.state = State::Holding { ask_at: None };
            return;
        };
        self.spent = true;
        self.state = State::Asking(Question { again: None });
        self.remember(Standing::Asking, out);
        out.push(Order::Ask { term, claimant: self.claimant, fence: !(self.pausing || self.peer_closed) });
    }

    fn take_over(&mut self, now: Mono, out: &mut Vec<Order>) {
        self.why = if self.forced { Why::Forced } else { Why::JudgeSaidYes };
        (self.refused, self.followed) = (None, false);
        self.remember(Standing::TakingOver, out);
        out.push(Order::Bye(Parting::TookOver));
        let before = self.config.before.clone();
        self.state = State::TakingOver(Takeover::begin(now, before, self.config.vm_limit, out));
    }

    fn alone(&mut self, out: &mut Vec<Order>) {
        let why = match (&self.state, self.why) {
            // Nobody was asked.
            (State::TakingOver(_), why @ (Why::LeftColo | Why::CheckpointOverdue)) => why,
            _ if self.forced => Why::Forced,
            _ => Why::JudgeSaidYes,
        };
        (self.state, self.why, self.pausing) = (State::Alone, why, false);
        self.remember(Standing::Alone, out);
        out.push(Order::Open);
    }

    fn close(&mut self, why: Why, out: &mut Vec<Order>) {
        (self.state, self.why) = (State::Closed, why);
        out.push(Order::Shut);
        self.remember(Standing::Closed, out);
        out.push(Order::Bye(Parting::Closed));
        if self.is_halted() {
            out.push(Order::halt());
        }
    }

    /// The guest has begun to run. That of a closed side may although it was told to stand still: a QEMU whose checkpoint fails
    /// lets it run on, and so may an operator.
    pub fn ran(&self, out: &mut Vec<Order>) {
        if matches!(self.state, State::Closed) && self.is_halted() {
            out.push(Order::halt());
        }
    }

    /// Whether the guest of this closed side is not to run: not one that is gone, and not the one that serves as secondary.
    const fn is_halted(&self) -> bool {
        !matches!(self.why, Why::VmGone | Why::WrongRole)
    }

    fn remember(&self, standing: Standing, out: &mut Vec<Order>) {
        // A survivor that has met a new secondary has the session's term alone, also when that is lost again: what it remembers
        // replaces that it was alone.
        if let Some(term) = self.term.or_else(|| self.next.map(|next| next.term)).or(self.drawn) {
            let next = self.next.filter(|next| next.cut).map(|next| next.term);
            out.push(Order::Remember(Memory { term, next, claimant: self.claimant, standing }));
        }
    }
}

#[cfg(test)]
mod tests;

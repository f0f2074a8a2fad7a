//! What an operator orders of the primary.

use super::super::verbs::{Commanded, Context, Ended, PLAN_LIMIT, Refusal, Rehearsal, Reply, Verb};
use super::super::{Order, Parting, Standing, Why};
use super::{Primary, Question, State};
use crate::judge::Prospect;
use crate::mono::Mono;

impl Commanded for Primary {
    fn stands(&self) -> (Standing, Why) {
        (self.standing(), self.why())
    }

    fn order(&mut self, now: Mono, verb: Verb, context: &Context, out: &mut Vec<Order>) -> Reply {
        let decided = match verb {
            Verb::Promote { force } => self.promote(now, force, out),
            Verb::Demote => Ok(self.demote(out)),
            Verb::Pause => self.pause(&context.judge, out),
            Verb::Resume => self.resume(context.fresh, out),
            Verb::Failover => self.hand_over(now, context, out),
            Verb::Reprotect => self.reprotect(),
        };
        decided.unwrap_or_else(Reply::Refused)
    }

    fn progress(&self, verb: Verb) -> Option<Ended> {
        use Ended::{Done, Failed};
        match (verb, &self.state) {
            (Verb::Failover, State::Closed) if self.why == Why::HandedOver => Some(Done(HANDED_OVER)),
            (Verb::Failover, State::Protected) if self.plan.is_some() => None,
            (Verb::Failover, State::Protected) => {
                Some(Failed("no checkpoint came in time: the pair is as it was"))
            }
            (Verb::Promote { .. }, State::Passing { .. } | State::Protected | State::Alone) => {
                Some(Done(SERVICE))
            }
            (Verb::Pause, State::Paused { .. }) => Some(Done(PAUSED)),
            (Verb::Pause, State::Asking(_)) if self.pausing => None,
            (Verb::Pause, State::Asking(_) | State::Protected) => {
                Some(Failed("the judge gave no answer: protection goes on after the next checkpoint"))
            }
            (Verb::Pause | Verb::Resume, State::Alone) => {
                Some(Failed("the secondary was lost: this side is alone"))
            }
            (Verb::Resume, State::Protected) if self.why == Why::InSync => Some(Done(PROTECTED)),
            (Verb::Demote, State::Closed) => Some(Done(CLOSED)),
            (_, State::Closed) => Some(Failed("this side is closed")),
            (Verb::Reprotect, State::Unknown) => None,
            (Verb::Reprotect, _) => Some(Done(self.leads())),
            (Verb::Failover, State::Holding { .. } | State::Asking(_) | State::Alone) => {
                Some(Failed("the secondary was lost"))
            }
            _ => None,
        }
    }

    fn rehearse(&self, context: &Context) -> Rehearsal {
        Rehearsal::new(
            self.stands(),
            self.config.lease,
            &self.config,
            context,
            "this side goes on alone instead",
        )
    }
}

/// What holds when an order is done.
const HANDED_OVER: &str = "this side is closed; the secondary owns all and was told to take over";
const SERVICE: &str = "this side is the service";
const PAUSED: &str = "protection is off: output leaves at once, and the secondary cannot take over";
const PROTECTED: &str = "protection is on";
const READY: &str = "this side is the primary, and takes a new secondary";
const LEADS: &str = "this side is the primary of a pair";
const CLOSED: &str =
    "this side is closed for good: its uplink lets nothing through, and the other side was told";

impl Primary {
    fn promote(&mut self, now: Mono, force: bool, out: &mut Vec<Order>) -> Result<Reply, Refusal> {
        match self.state {
            State::Passing { .. } | State::Protected | State::Alone | State::Paused { .. } => {
                return Ok(Reply::Done(SERVICE));
            }
            State::TakingOver(_) => return Ok(Reply::Begun),
            State::Unknown => return Err(Refusal::VmUnknown),
            State::Closed => return Err(Refusal::Closed(self.why)),
            State::Holding { .. } | State::Asking(_)
                if self.joined && (force || self.why == Why::AwaitsCheckpoint) =>
            {
                return Err(Refusal::AwaitsCheckpoint);
            }
            State::Holding { .. } | State::Asking(_) if self.refused.is_some() && !force => {
                return Err(Refusal::JudgeSaidNo);
            }
            State::Holding { .. } | State::Asking(_) => {}
        }
        let asks = self.config.judged && self.term.is_some();
        if !asks && !force {
            return Err(if self.config.judged { Refusal::TermUnknown } else { Refusal::NoJudge });
        }
        self.forced |= force;
        match self.state {
            // Its answer is on its way.
            State::Asking(Question { again: None }) => {}
            State::Asking(_) if force => self.take_over(now, out),
            _ if asks => self.ask(out),
            _ => self.take_over(now, out),
        }
        Ok(Reply::Begun)
    }

    fn reprotect(&self) -> Result<Reply, Refusal> {
        match self.state {
            State::Closed => Err(Refusal::Closed(self.why)),
            _ => Ok(Reply::Done(self.leads())),
        }
    }

    const fn leads(&self) -> &'static str {
        if matches!(self.state, State::Alone | State::Passing { .. }) { READY } else { LEADS }
    }

    fn demote(&mut self, out: &mut Vec<Order>) -> Reply {
        if !matches!(self.state, State::Closed) {
            self.close(Why::Demoted, out);
        }
        Reply::Done(CLOSED)
    }

    /// In sync, with a peer that answers.
    fn in_pair(&self) -> Result<(), Refusal> {
        match self.state {
            State::Protected if self.joined && self.why == Why::InSync => Ok(()),
            State::Closed => Err(Refusal::Closed(self.why)),
            _ => Err(Refusal::NotInSync(self.standing(), self.why)),
        }
    }

    /// The right to go on alone is asked for first, so that the secondary never gets it: what it owns grows old from here on.
    fn pause(&mut self, judge: &Prospect, out: &mut Vec<Order>) -> Result<Reply, Refusal> {
        if matches!(self.state, State::Paused { resuming: false }) {
            return Ok(Reply::Done(PAUSED));
        }
        self.in_pair()?;
        match judge {
            Prospect::None => return Err(Refusal::NoJudge),
            Prospect::Unfenced => return Err(Refusal::Unfenced),
            Prospect::Unreachable(text) => return Err(Refusal::JudgeUnreachable(text.clone())),
            Prospect::Reachable | Prospect::Unknown(_) => {}
        }
        (self.pausing, self.plan) = (true, None);
        self.hold(None, Why::Paused, out);
        self.ask(out);
        Ok(Reply::Begun)
    }

    /// The judge's yes for a pause: with the secondary still there the pair is kept, else this side is alone.
    pub(super) fn paused(&mut self, out: &mut Vec<Order>) {
        self.pausing = false;
        (self.state, self.why) = (State::Paused { resuming: false }, Why::Paused);
        self.remember(Standing::Paused, out);
        out.push(Order::Pause);
    }

    /// The judge has not said yes for a pause: agents meet again in another term, as the judge was asked in this one.
    pub(super) fn not_paused(&mut self, out: &mut Vec<Order>) {
        self.pausing = false;
        out.push(Order::Bye(Parting::Left));
    }

    fn resume(&mut self, fresh: u64, out: &mut Vec<Order>) -> Result<Reply, Refusal> {
        match self.state {
            State::Paused { resuming: true } => Ok(Reply::Begun),
            State::Paused { resuming: false } => {
                (self.state, self.why) = (State::Paused { resuming: true }, Why::AwaitsCheckpoint);
                self.joined = false;
                out.push(Order::Anew(self.draw(fresh)));
                Ok(Reply::Begun)
            }
            State::Protected if self.why == Why::InSync => Ok(Reply::Done(PROTECTED)),
            State::Closed => Err(Refusal::Closed(self.why)),
            _ => Err(Refusal::NotPaused(self.standing())),
        }
    }

    fn hand_over(&mut self, now: Mono, context: &Context, out: &mut Vec<Order>) -> Result<Reply, Refusal> {
        if matches!(self.state, State::Closed) && self.why == Why::HandedOver {
            return Ok(Reply::Done(HANDED_OVER));
        }
        self.in_pair()?;
        if !context.path {
            return Err(Refusal::NoPath);
        }
        match &context.judge {
            // The secondary would ask in vain.
            Prospect::None => return Err(Refusal::NoJudge),
            Prospect::Unreachable(text) => return Err(Refusal::JudgeUnreachable(text.clone())),
            Prospect::Unfenced | Prospect::Reachable | Prospect::Unknown(_) => {}
        }
        if self.plan.is_none() {
            self.plan = Some(now + PLAN_LIMIT);
            out.push(Order::Checkpoint);
        }
        Ok(Reply::Begun)
    }

    /// The secondary owns a state: a planned failover has what it waited for. What was held for that state leaves first.
    pub(super) fn handed_over(&mut self, out: &mut Vec<Order>) {
        if self.plan.take().is_some() {
            out.push(Order::Flush);
            self.close(Why::HandedOver, out);
        }
    }
}

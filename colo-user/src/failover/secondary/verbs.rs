//! What an operator orders of the secondary.

use super::super::verbs::{Commanded, Context, Ended, Refusal, Rehearsal, Reply, Verb};
use super::super::{Order, Parting, Question, Standing, Why};
use super::{Secondary, State};
use crate::mono::Mono;

/// What holds when an order is done.
const SERVICE: &str = "this side is the service";
const CLOSED: &str = "this side is closed for good, and the other side was told";

impl Commanded for Secondary {
    fn stands(&self) -> (Standing, Why) {
        (self.standing(), self.why())
    }

    fn order(&mut self, now: Mono, verb: Verb, _: &Context, out: &mut Vec<Order>) -> Reply {
        match verb {
            Verb::Promote { force } => self.promote(now, force, out).unwrap_or_else(Reply::Refused),
            Verb::Demote => self.demote(out),
            Verb::Reprotect => self.reprotect().unwrap_or_else(Reply::Refused),
            Verb::Pause | Verb::Resume | Verb::Failover => Reply::Refused(Refusal::OtherSide),
        }
    }

    fn progress(&self, verb: Verb) -> Option<Ended> {
        match (verb, &self.state) {
            (Verb::Promote { .. }, State::Alone) => Some(Ended::Done(SERVICE)),
            (Verb::Promote { .. }, State::Protected) => Some(Ended::Failed("the primary is back")),
            (Verb::Promote { .. }, State::Holding { ask_at: None }) if self.why == Why::Unconfirmed => {
                Some(Ended::Failed("the disk here may lack what is in the state here"))
            }
            // The shell hands over once it can, and the primary's machine says that it is done.
            (Verb::Reprotect, _) if self.may_lead() => None,
            (Verb::Promote { .. } | Verb::Reprotect, State::Closed { .. }) => {
                Some(Ended::Failed("this side is closed"))
            }
            _ => None,
        }
    }

    fn rehearse(&self, context: &Context) -> Rehearsal {
        Rehearsal::new(self.stands(), self.lease, &self.config, context, "this side takes over")
    }
}

impl Secondary {
    fn promote(&mut self, now: Mono, force: bool, out: &mut Vec<Order>) -> Result<Reply, Refusal> {
        if self.stale {
            return Err(Refusal::Stale);
        }
        let judged = self.config.judged;
        match self.state {
            State::Alone => return Ok(Reply::Done(SERVICE)),
            State::TakingOver(_) => {}
            State::Protected => return Err(Refusal::PeerThere),
            State::Holding { ask_at: None } if self.why == Why::Unconfirmed => {
                return Err(Refusal::Unconfirmed);
            }
            State::Holding { ask_at: None } if self.why != Why::NoJudge => {
                return Err(Refusal::AwaitsCheckpoint);
            }
            State::Holding { .. } | State::Asking(_) | State::Closed { done: true }
                if self.joined && force =>
            {
                return Err(Refusal::PeerThere);
            }
            State::Closed { .. } if self.why == Why::TranslationLost => {
                if self.joined {
                    return Err(Refusal::PeerThere);
                }
                if !force {
                    return Err(Refusal::TranslationLost);
                }
                if !self.may_serve() {
                    return Err(Refusal::Unconfirmed);
                }
                self.forced = true;
                // A yes keeps the primary from going on as well.
                if judged { self.ask(Why::TranslationLost, out) } else { self.begin_takeover(now, out) }
            }
            State::Closed { done: false } => return Err(Refusal::NoState),
            State::Closed { done: true } if self.why != Why::JudgeSaidNo || self.term.is_none() => {
                return Err(Refusal::Closed(self.why));
            }
            State::Closed { done: true } if !force => return Err(Refusal::JudgeSaidNo),
            State::Holding { .. } | State::Asking(_) | State::Closed { done: true } if !self.may_serve() => {
                return Err(Refusal::Unconfirmed);
            }
            State::Closed { done: true } => {
                self.forced = true;
                self.begin_takeover(now, out);
            }
            State::Holding { .. } | State::Asking(_) if !judged && !force => return Err(Refusal::NoJudge),
            // Until then the primary may still be heard.
            State::Holding { ask_at: Some(_) } | State::Asking(Question { again: None }) => {
                self.forced |= force;
            }
            State::Holding { ask_at: None } => {
                self.forced = force;
                self.begin_takeover(now, out);
            }
            State::Asking(_) => {
                self.forced |= force;
                if force { self.begin_takeover(now, out) } else { self.ask(self.why, out) }
            }
        }
        Ok(Reply::Begun)
    }

    fn reprotect(&self) -> Result<Reply, Refusal> {
        match self.state {
            _ if self.may_lead() => Ok(Reply::Begun),
            State::Closed { done: true } => Err(Refusal::Closed(self.why)),
            _ => Err(Refusal::NotAlone(self.standing(), self.why)),
        }
    }

    fn demote(&mut self, out: &mut Vec<Order>) -> Reply {
        if !matches!(self.state, State::Closed { done: true }) || self.why == Why::TranslationLost {
            out.push(Order::Shut);
            self.close(Why::Demoted, out);
            out.push(Order::Bye(Parting::Closed));
        }
        Reply::Done(CLOSED)
    }
}

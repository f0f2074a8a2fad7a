//! What an operator does: a service without a second gets one, and a side that has lost its translation is promoted where
//! nobody else is left.

use super::host::{Agent, Datapath};
use super::vm::Vm;
use super::world::{Event, World};
use colo_user::failover::verbs::{Reply, Verb};
use colo_user::failover::{Standing, Why};
use std::time::Duration;

/// How long after the last fault the operator gives order.
const ORDERS: Duration = Duration::from_secs(2);
/// Between two looks of the operator.
const LOOK: Duration = Duration::from_millis(300);

impl World {
    /// A side stands for another reason.
    pub(super) fn stands(&mut self, side: usize, why: Why) {
        self.closed_by_order(side, why);
        if why == Why::TranslationLost {
            self.mark("translation lost");
            self.at(self.calm + ORDERS, Event::Promote(side));
        }
    }

    /// Whether a side waits for the primary or for an operator.
    pub(super) fn translation_lost(&self, side: usize) -> bool {
        let host = &self.hosts[side];
        host.vm_lives(self.now)
            && host.agent.as_ref().is_some_and(|agent| agent.standing().1 == Why::TranslationLost)
    }

    /// The operator has this side take over without the connections of the pair, if the other side is off or closed.
    pub(super) fn promote(&mut self, side: usize) {
        if !self.translation_lost(side) {
            return;
        }
        let other = &self.hosts[1 - side];
        let closed = other.agent.as_ref().is_none_or(|agent| agent.standing().0 == Standing::Closed);
        if self.hosts[side].agent_ready() > self.now || other.vm_lives(self.now) && !closed {
            return self.after(LOOK, Event::Promote(side));
        }
        self.forsaken = Some(side);
        let reply = self.give(side, Verb::Promote { force: true });
        self.note(|| format!("{side} is to be promoted: {reply:?}"));
        if reply != Some(Reply::Begun) {
            self.forsaken = None;
            self.after(LOOK, Event::Promote(side));
        }
    }

    /// The service gets a new secondary on the other host, which is repaired for it: a new VM, a new agent. A survivor that
    /// was the secondary's agent ends in order and a primary's takes its place.
    pub(super) fn protect_again(&mut self, side: usize) {
        let alone =
            self.hosts[side].agent.as_ref().is_some_and(|agent| agent.standing().0 == Standing::Alone);
        let well = self.service == side && self.hosts[side].vm_lives(self.now);
        if self.again == 0 || self.now >= self.calm {
            return;
        }
        if !alone || !well || self.hosts[side].agent_ready() > self.now {
            return self.after(Duration::from_millis(300), Event::Again(side));
        }
        self.again -= 1;
        self.note(|| format!("{side} gets a new secondary"));
        let other = 1 - side;
        self.agent_gone(other);
        let now = self.now;
        let host = &mut self.hosts[other];
        (host.up, host.agent, host.keeping, host.vm_at) = (true, None, None, None);
        (host.io.vm, host.io.datapath, host.io.kept) = (Vm::new(now, false), Datapath::new(), None);
        host.io.closed.clear();
        host.io.answers.clear();
        if matches!(self.hosts[side].agent, Some(Agent::Secondary(_))) {
            self.agent_gone(side);
            self.hosts[side].agent = None;
            self.hosts[side].io.answers.clear();
            self.primary = side;
            self.start_agent(side);
        }
        self.start_agent(other);
        self.hosts.iter_mut().for_each(|host| host.harmed = false);
        (self.protected, self.protected_unharmed, self.rights) = (false, false, self.judge.said_yes.len());
        self.after(Duration::from_millis(100), Event::Enter);
    }

    /// Whether this is not the first protection.
    pub(super) fn primary_was_alone(&self) -> bool {
        self.rights > 0
    }
}

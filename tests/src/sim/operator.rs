//! What an operator does: a service without a second gets one.

use super::host::{Agent, Datapath};
use super::vm::Vm;
use super::world::{Event, World};
use colo_user::failover::Standing;
use std::time::Duration;

impl World {
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
        (host.up, host.agent, host.vm_at) = (true, None, None);
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

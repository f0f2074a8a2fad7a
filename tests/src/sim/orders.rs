//! What an operator orders of the agents at any time: drawn from the seed by a stream of its own, so that what else goes wrong
//! is the same without it.

use super::fault::{AGAIN, FIRST, Fault, LAST};
use super::host::Agent;
use super::world::{Event, World};
use crate::random::Random;
use colo_user::failover::Why;
use colo_user::failover::verbs::{Context, Reply, Verb};
use colo_user::judge::Prospect;
use colo_user::mono::Mono;
use std::time::Duration;

/// Most of them in one schedule; an order to go on after a pause is one more.
const MOST: u64 = 3;

/// What is ordered beside `faults`, half of it in the wake of one of them.
pub(super) fn draw(random: &mut Random, faults: &[(Mono, Fault)]) -> Vec<(Mono, Fault)> {
    let mut orders = Vec::new();
    for _ in 0..=random.below(MOST) {
        let again = if random.below(3) == 0 { AGAIN } else { Duration::ZERO };
        let anywhere = Mono::ZERO + random.millis(FIRST, LAST) + again;
        let beside = faults[random.below(faults.len() as u64) as usize].0 + random.micros(0, 400_000);
        let at = if random.below(2) == 0 { anywhere } else { beside };
        let side = random.below(2) as usize;
        let after = random.millis(50, 3000);
        let verb = match random.below(8) {
            0..=2 => Verb::Pause,
            3 => Verb::Resume,
            4..=5 => Verb::Failover,
            6 => Verb::Demote,
            _ => Verb::Promote { force: false },
        };
        orders.push((at, Fault::Ordered(side, verb)));
        if verb == Verb::Pause && random.below(3) != 0 {
            orders.push((at + after, Fault::Ordered(side, Verb::Resume)));
        }
    }
    orders
}

impl World {
    /// An operator gives an order: what only the primary takes, to its agent.
    pub(super) fn ordered(&mut self, side: usize, verb: Verb) {
        let side = match verb {
            Verb::Pause | Verb::Resume | Verb::Failover => self.primary,
            Verb::Promote { .. } | Verb::Demote | Verb::Reprotect => side,
        };
        if self.hosts[side].up && self.hosts[side].agent_ready() > self.now {
            let ready = self.hosts[side].agent_ready();
            return self.at(ready, Event::Fault(Fault::Ordered(side, verb)));
        }
        let reply = self.give(side, verb);
        self.note(|| format!("{side} is ordered to {verb}: {reply:?}"));
        if matches!(reply, Some(Reply::Begun | Reply::Done(_))) {
            self.mark(match verb {
                Verb::Pause => "paused by order",
                Verb::Resume => "resumed by order",
                Verb::Failover => "failover by order",
                Verb::Demote => "demoted by order",
                Verb::Promote { .. } => "promoted by order",
                Verb::Reprotect => "made a primary by order",
            });
        }
    }

    /// An order reaches an agent; none where there is none.
    pub(super) fn give(&mut self, side: usize, verb: Verb) -> Option<Reply> {
        let now = self.local(side);
        let host = &mut self.hosts[side];
        host.io.boot = host.clock.boot(self.now);
        let context = Context { judge: Prospect::Reachable, fresh: host.io.fresh.next(), path: true };
        let reply = match host.agent.as_mut().filter(|_| host.up)? {
            Agent::Primary(agent) => agent.ordered(now, verb, &context, &mut host.io),
            Agent::Secondary(agent) => agent.ordered(now, verb, &context, &mut host.io),
        };
        if let Some(agent) = &self.hosts[side].agent {
            self.closed_by_order(side, agent.standing().1);
        }
        self.carry_out(side);
        self.wake(side);
        self.vm_turns(side);
        Some(reply)
    }

    /// A side that is closed by order serves no more, as one that was lost.
    pub(super) fn closed_by_order(&mut self, side: usize, why: Why) {
        self.hosts[side].harmed |= matches!(why, Why::Demoted | Why::HandedOver);
    }
}

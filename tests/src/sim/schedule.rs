//! One schedule: from its seed to its verdict, and to the shortest one that fails alike.

use super::fault::{Fault, shrink};
use super::host::Agent;
use super::keeping::TTL;
use super::network::PATIENCE;
use super::verdict::{Outcome, Violation};
use super::world::{World, faults};
use super::{Broken, JudgeKind};
use colo_user::failover::Standing;
use colo_user::mono::Mono;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// One side serves in this time after the last fault has ended.
pub const BOUND: Duration = Duration::from_secs(8);
/// The same where the judge gives a lease: that of the other side has to end first, and a new leader of etcd's members may have
/// it begin anew.
pub const BOUND_ETCD: Duration = Duration::from_secs(8 + 2 * TTL.as_secs());

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Whom the agents ask.
    pub judge: JudgeKind,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// Whether an operator orders this and that.
    pub orders: bool,
    /// Whether to keep a trace.
    pub trace: bool,
}

/// Runs the schedule of `seed`.
#[must_use]
pub fn run(seed: u64, plan: Plan) -> Outcome {
    run_with(seed, &faults(seed, plan), plan)
}

/// A schedule that fails with as few faults as one at a time can be left out.
#[derive(Debug)]
pub struct Failed {
    /// What is left of what goes wrong, a line each.
    pub faults: Vec<String>,
    /// What it comes to, with its trace.
    pub outcome: Outcome,
}

/// Makes the schedule of `seed`, which fails, as short as it gets.
#[must_use]
pub fn shortest(seed: u64, plan: Plan) -> Failed {
    let kind = run(seed, plan).violation.map(|violation| violation.kind());
    let fails = |faults: &[(Mono, Fault)]| {
        let found = run_with(seed, faults, Plan { trace: false, ..plan }).violation;
        kind.is_some() && found.map(|violation| violation.kind()) == kind
    };
    let fewest = shrink(faults(seed, plan), fails);
    let outcome = run_with(seed, &fewest, Plan { trace: true, ..plan });
    let faults = fewest.iter().map(|(at, fault)| format!("{:9.6} {fault:?}", at.as_nanos() as f64 / 1e9));
    Failed { faults: faults.collect(), outcome }
}

fn run_with(seed: u64, faults: &[(Mono, Fault)], plan: Plan) -> Outcome {
    let mut world = World::new(seed, faults, plan);
    let mut events = 0;
    let ran = catch_unwind(AssertUnwindSafe(|| play(&mut world, &mut events)));
    let violation = match ran {
        Ok(violation) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Some(Violation::Panic(text.unwrap_or_default()))
        }
    };
    if let Some(violation) = &violation {
        let text = violation.to_string();
        world.note(|| text);
    }
    let mut kinds: Vec<_> = faults.iter().map(|(_, fault)| fault.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    Outcome {
        violation,
        reached: world.marks,
        faults: kinds,
        events,
        checkpoints: world.checkpoints,
        answers: world.client.answers,
        stood: [0, 1].map(|side| world.hosts[side].agent.as_ref().map(Agent::standing)),
        trace: world.trace.unwrap_or_default(),
    }
}

/// Runs until all is well, something is wrong, or the time is over.
fn play(world: &mut World, events: &mut u64) -> Option<Violation> {
    let bound = if world.etcd.is_some() { BOUND_ETCD } else { BOUND };
    let end = world.calm + bound + PATIENCE;
    let mut looked = world.calm;
    let mut served: Option<Mono> = None;
    while world.step(end) {
        *events += 1;
        if world.violation.is_some() {
            return world.violation.take();
        }
        if !world.protected && world.secondary_owns_a_state() {
            world.protected = true;
            world.protected_unharmed = !world.hosts[world.primary].harmed;
            world.mark(if world.primary_was_alone() { "protected again" } else { "protected" });
        }
        // What follows looks now and then only.
        if world.now < looked {
            continue;
        }
        looked = world.now + Duration::from_millis(100);
        if world.now <= world.calm {
            continue;
        }
        if world.served() {
            let since = *served.get_or_insert(world.now);
            let quiet = world.now > world.calm + Duration::from_secs(1);
            if quiet && world.client.waiting().is_empty() && world.held() == 0 {
                world.mark("served to the end");
                return world.owned_at_the_end();
            }
            if world.now > since + PATIENCE {
                let text =
                    format!("connections {:?} wait, {} frames held", world.client.waiting(), world.held());
                return Some(Violation::Stuck(text));
            }
        } else {
            served = None;
            if world.now > world.calm + bound {
                if let Err(text) = world.excused() {
                    return Some(Violation::NobodyServes(text));
                }
                world.mark("nobody left");
                return None;
            }
        }
    }
    Some(Violation::Stuck("time is over".into()))
}

impl World {
    /// Whether one side lets its guest be heard: the service alone, or the primary of a pair or without one.
    fn served(&self) -> bool {
        let host = &self.hosts[self.service];
        let standing = host.agent.as_ref().map(|agent| agent.standing().0);
        let speaks = matches!(
            standing,
            Some(Standing::Alone | Standing::Protected | Standing::Passing | Standing::Paused)
        );
        speaks && host.vm_lives(self.now) && !host.io.datapath.is_over(host.clock.boot(self.now))
    }

    fn held(&self) -> usize {
        self.hosts[self.service].agent.as_ref().map_or(0, Agent::held)
    }

    fn owned_at_the_end(&self) -> Option<Violation> {
        self.client.owned_by(&self.hosts[self.service].io.vm.guest).err().map(Violation::TakenBack)
    }

    /// Whether the judge has not said yes to the other side: in the term of this one, where it has one, else last.
    fn may_have_the_right(&self, side: usize) -> bool {
        let yeses = &self.judge.said_yes[self.rights..];
        match self.hosts[side].agent.as_ref().and_then(Agent::term) {
            Some(term) => !yeses.contains(&(1 - side, term)),
            None => yeses.last().is_none_or(|(last, _)| *last == side),
        }
    }

    /// Whether nobody has to serve; if somebody has, how both stand.
    fn excused(&mut self) -> Result<(), String> {
        let harmed = [self.hosts[0].harmed, self.hosts[1].harmed];
        let lost = match harmed {
            // The operator is there for it.
            _ if (0..2).any(|side| self.translation_lost(side) && self.may_have_the_right(side)) => None,
            [true, true] => Some("both sides lost"),
            [true, false] | [false, true] if harmed[self.primary] && !self.protected_unharmed => {
                Some("lost before it was protected")
            }
            [false, false] => None,
            // The right is with a side that was lost after it got it.
            _ => Some("lost with the right").filter(|_| !self.may_have_the_right(usize::from(harmed[0]))),
        };
        if let Some(lost) = lost {
            self.mark(lost);
            return Ok(());
        }
        let stand = |side: usize| match &self.hosts[side].agent {
            Some(agent) => format!("{side} stands {} ({})", agent.standing().0, agent.standing().1),
            None => format!("{side} has no agent"),
        };
        Err(format!("{}, {}", stand(0), stand(1)))
    }
}

//! What goes wrong, and when: drawn from a seed, and made shorter where a schedule fails.

use super::etcd::{MEMBERS, Which};
use crate::random::Random;
use colo_user::failover::verbs::Verb;
use colo_user::mono::Mono;
use std::time::Duration;

/// When faults begin and end to begin: a pair may be protected by then, or not yet.
pub(super) const FIRST: u64 = 600;
pub(super) const LAST: u64 = 7000;
/// How much later the faults are that hit a pair that is protected again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Most of them in one schedule.
const MOST: u64 = 6;
/// One more than the most of them that hit members of etcd.
const MOST_MEMBERS: u64 = 4;

/// One of the two hosts, by number: the primary's is 0.
pub(super) type Side = usize;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The host loses its power, for good.
    HostCrash(Side),
    /// QEMU is killed.
    VmKilled(Side),
    /// QEMU is stopped by a signal, and continued.
    VmFrozen(Side, Duration),
    /// The agent is killed, and started again after a while.
    AgentKilled(Side, Duration),
    /// The agent is stopped by a signal, and continued.
    AgentPaused(Side, Duration),
    /// The whole host does nothing for a while: its clock goes on.
    HostPaused(Side, Duration),
    /// The agents' connection breaks, and the sides named see it.
    Reset { seen: [bool; 2] },
    /// Nothing gets from the side given to the other for a while.
    Partition { from: [bool; 2], lasts: Duration },
    /// A host's questions do not reach the judge, or its answers do not reach the host.
    JudgeCut { side: Side, questions: bool, answers: bool, lasts: Duration },
    /// Too few members of the judge are up to answer.
    JudgeAway(Duration),
    /// What is sent over the link takes so much longer.
    Slow(Duration),
    /// A checkpoint begins.
    Checkpoint,
    /// An operator orders something.
    Ordered(Side, Verb),
    /// A member of etcd is lost for good; the first one only.
    MemberGone(Which),
    /// A member does nothing for a while: its clock goes on.
    MemberPaused(Which, Duration),
    /// The other members do not hear it, nor it them.
    MemberIsolated(Which, Duration),
    /// A host reaches no other member.
    MemberOnly { side: Side, reaches: Which, lasts: Duration },
}

impl Fault {
    /// Until when it lasts, if it ends by itself.
    pub const fn lasts(self) -> Duration {
        match self {
            Self::VmFrozen(_, lasts)
            | Self::AgentKilled(_, lasts)
            | Self::AgentPaused(_, lasts)
            | Self::HostPaused(_, lasts)
            | Self::Partition { lasts, .. }
            | Self::JudgeCut { lasts, .. }
            | Self::MemberPaused(_, lasts)
            | Self::MemberOnly { lasts, .. }
            | Self::MemberIsolated(_, lasts)
            | Self::JudgeAway(lasts) => lasts,
            Self::Slow(_) => SLOW,
            _ => Duration::ZERO,
        }
    }

    /// Its kind, for the table.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::HostCrash(_) => "host crash",
            Self::VmKilled(_) => "QEMU killed",
            Self::VmFrozen(..) => "QEMU frozen",
            Self::AgentKilled(..) => "agent restarted",
            Self::AgentPaused(..) => "agent paused",
            Self::HostPaused(..) => "host paused",
            Self::Reset { .. } => "link reset",
            Self::Partition { from: [true, true], .. } => "partition",
            Self::Partition { .. } => "one-way partition",
            Self::JudgeCut { .. } => "judge cut off",
            Self::JudgeAway(_) => "judge away",
            Self::Slow(_) => "slow link",
            Self::Checkpoint => "forced checkpoint",
            Self::Ordered(..) => "order",
            Self::MemberGone(_) => "etcd member gone",
            Self::MemberPaused(..) => "etcd member paused",
            Self::MemberIsolated(..) => "etcd member isolated",
            Self::MemberOnly { .. } => "one etcd member reached",
        }
    }

    /// All kinds.
    pub const KINDS: [&'static str; 18] = [
        "host crash",
        "QEMU killed",
        "QEMU frozen",
        "agent restarted",
        "agent paused",
        "host paused",
        "link reset",
        "partition",
        "one-way partition",
        "judge cut off",
        "judge away",
        "slow link",
        "forced checkpoint",
        "order",
        "etcd member gone",
        "etcd member paused",
        "etcd member isolated",
        "one etcd member reached",
    ];

    fn draw(random: &mut Random) -> Self {
        let side = random.below(2) as Side;
        // Short of every limit, about as long as one, or far beyond it.
        let lasts = match random.below(3) {
            0 => random.millis(5, 300),
            1 => random.millis(600, 1800),
            _ => random.millis(1800, 5000),
        };
        match random.below(20) {
            0 => Self::HostCrash(side),
            1 => Self::VmKilled(side),
            2 => Self::VmFrozen(side, lasts),
            3 => Self::AgentKilled(side, random.millis(20, 1500)),
            4 | 5 => Self::AgentPaused(side, lasts),
            6 => Self::HostPaused(side, lasts),
            7 | 8 => Self::Reset { seen: [random.below(3) != 0, random.below(3) != 0] },
            9..=12 => {
                let which = random.below(4);
                Self::Partition { from: [which != 1, which != 0], lasts }
            }
            13 | 14 => {
                let which = random.below(3);
                Self::JudgeCut { side, questions: which != 1, answers: which != 0, lasts }
            }
            15 => Self::JudgeAway(lasts),
            16 => Self::Slow(random.millis(5, 400)),
            _ => Self::Checkpoint,
        }
    }
}

/// How long a link stays slow.
const SLOW: Duration = Duration::from_secs(2);

/// What goes wrong in one schedule, in order.
pub(super) fn draw(random: &mut Random) -> Vec<(Mono, Fault)> {
    let count = 1 + random.below(MOST);
    // Half of the schedules go on for long enough that a pair may be protected again.
    let late = random.below(2) == 0;
    let anywhere = |random: &mut Random| {
        let again = if late && random.below(2) == 0 { AGAIN } else { Duration::ZERO };
        random.millis(FIRST, LAST) + again
    };
    let mut at = anywhere(random);
    let mut faults: Vec<_> = (0..count)
        .map(|_| {
            // Most of them in the wake of the one before.
            at = match random.below(3) {
                0 => anywhere(random),
                1 => at + random.micros(0, 400_000),
                _ => at + random.micros(0, 30_000),
            };
            (Mono::ZERO + at, Fault::draw(random))
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// What goes wrong besides with the members of etcd, most of it around what goes wrong anyway.
pub(super) fn draw_members(random: &mut Random, faults: &mut Vec<(Mono, Fault)>) {
    for _ in 0..random.below(MOST_MEMBERS) {
        let near = faults[random.below(faults.len() as u64) as usize].0;
        let at = match random.below(3) {
            0 => Mono::ZERO + random.millis(FIRST, LAST),
            1 => near + random.millis(0, 1500),
            _ => Mono::from_nanos(near.as_nanos().saturating_sub(random.millis(0, 1500).as_nanos() as u64)),
        };
        let which = if random.below(2) == 0 {
            Which::Leader
        } else {
            Which::Member(random.below(MEMBERS as u64) as usize)
        };
        let lasts = if random.below(2) == 0 { random.millis(20, 800) } else { random.millis(800, 5000) };
        let fault = match random.below(8) {
            0 => Fault::MemberGone(which),
            1..=3 => Fault::MemberPaused(which, lasts),
            4 | 5 => Fault::MemberOnly { side: random.below(2) as Side, reaches: which, lasts },
            _ => Fault::MemberIsolated(which, lasts),
        };
        faults.push((at, fault));
    }
    faults.sort_by_key(|(at, _)| *at);
}

/// The fewest of `faults` with which `fails` still says yes, leaving out one at a time.
pub(super) fn shrink(
    mut faults: Vec<(Mono, Fault)>,
    fails: impl Fn(&[(Mono, Fault)]) -> bool,
) -> Vec<(Mono, Fault)> {
    let mut at = 0;
    while at < faults.len() {
        let mut fewer = faults.clone();
        fewer.remove(at);
        if fails(&fewer) {
            faults = fewer;
            at = 0;
        } else {
            at += 1;
        }
    }
    faults
}

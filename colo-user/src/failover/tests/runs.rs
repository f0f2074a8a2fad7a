//! The model's runs: what goes wrong, and when.

use super::super::verbs::Verb;
use super::super::*;
use super::model::{Fault, World};
use crate::random::Random;

/// When faults begin: the pair is protected by then.
const PROTECTED: u64 = 5_000;

/// Runs a world to its end. A failure prints the seed and what happened.
fn run(seed: u64, faults: Vec<(Mono, Fault)>, serves: bool) {
    run_in(World::new(seed, faults), seed, serves);
}

fn run_in(mut world: World, seed: u64, serves: bool) -> World {
    let told = world.faults();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        while world.now < Mono::from_millis(PROTECTED - 100) {
            world.step();
        }
        assert!(world.protected(), "the pair is not protected before its first fault");
        while world.now < Mono::from_millis(60_000) {
            world.step();
        }
        if serves {
            world.settled().unwrap();
        }
    }));
    if let Err(panic) = outcome {
        eprintln!("seed {seed}, faults {told}:\n{}", world.log.join("\n"));
        std::panic::resume_unwind(panic);
    }
    world
}

fn single() -> Vec<Fault> {
    let short = Duration::from_millis(300);
    let long = Duration::from_secs(9);
    let cut = |to_secondary, to_primary, lasts| Fault::Partition { to_secondary, to_primary, lasts };
    vec![
        Fault::PrimaryHost,
        Fault::SecondaryHost,
        Fault::PrimaryVm,
        Fault::SecondaryVm,
        Fault::PrimaryVmFrozen,
        Fault::SecondaryVmFrozen,
        Fault::PrimaryAgent,
        Fault::SecondaryAgent,
        Fault::PrimaryPause(short),
        Fault::PrimaryPause(long),
        Fault::SecondaryPause(short),
        Fault::SecondaryPause(long),
        Fault::Reset,
        Fault::Stuck,
        cut(true, true, short),
        cut(true, true, long),
        cut(true, false, long),
        cut(false, true, long),
        cut(true, true, Duration::from_secs(600)),
    ]
}

fn any(random: &mut Random) -> Fault {
    let lasts = random.millis(50, 8000);
    match random.below(14) {
        0 => Fault::PrimaryHost,
        1 => Fault::SecondaryHost,
        2 => Fault::PrimaryVm,
        3 => Fault::SecondaryVm,
        4 => Fault::PrimaryVmFrozen,
        5 => Fault::SecondaryVmFrozen,
        6 => Fault::PrimaryAgent,
        7 => Fault::SecondaryAgent,
        8 => Fault::PrimaryPause(lasts),
        9 => Fault::SecondaryPause(lasts),
        10 => Fault::Reset,
        11 => Fault::JudgeAway(lasts),
        12 => Fault::Stuck,
        _ => {
            let which = random.below(3);
            Fault::Partition { to_secondary: which != 0, to_primary: which != 1, lasts }
        }
    }
}

#[test]
fn one_fault_leaves_one_service() {
    for seed in 0..12 {
        let mut random = Random(seed);
        for fault in single() {
            let at = Mono::from_millis(PROTECTED + random.below(3000));
            run(seed, vec![(at, fault)], true);
        }
    }
}

/// The judge answers late: until then nobody goes on, and then one does.
#[test]
fn one_fault_while_the_judge_is_away() {
    for seed in 0..6 {
        let mut random = Random(seed);
        for fault in single() {
            let at = Mono::from_millis(PROTECTED + random.below(3000));
            let away = (Mono::from_millis(PROTECTED), Fault::JudgeAway(Duration::from_secs(20)));
            run(seed, vec![away, (at, fault)], true);
        }
    }
}

/// A link that comes and goes is no reason for an end of the service, whatever the judge does.
#[test]
fn a_link_that_flaps_leaves_one_service() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let mut faults = Vec::new();
        for _ in 0..1 + random.below(8) {
            let at = Mono::from_millis(PROTECTED + random.below(15_000));
            let lasts = random.millis(50, 6000);
            let fault = match random.below(5) {
                0 => Fault::Reset,
                1 => Fault::JudgeAway(lasts),
                2 => Fault::PrimaryPause(lasts),
                _ => {
                    let which = random.below(3);
                    Fault::Partition { to_secondary: which != 0, to_primary: which != 1, lasts }
                }
            };
            faults.push((at, fault));
        }
        run(seed, faults, true);
    }
}

/// A link that comes back about when a side asks, and a judge that takes its time: what is asked, joined and answered
/// crosses in every order.
#[test]
fn a_link_that_comes_back_while_somebody_asks_leaves_one_service() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut faults = Vec::new();
        let mut at = PROTECTED + random.below(1000);
        for _ in 0..2 + random.below(5) {
            let reset = random.below(3) == 0;
            let lasts = if reset { random.millis(700, 1100) } else { random.millis(1900, 2900) };
            let cut = Fault::Partition { to_secondary: true, to_primary: true, lasts };
            faults.push((Mono::from_millis(at), cut));
            if reset {
                faults.push((Mono::from_millis(at), Fault::Reset));
            }
            at += 1000 + random.below(4500);
        }
        let mut world = World::new(seed, faults);
        world.judge_takes = 10 + random.below(4000);
        run_in(world, seed, true);
    }
}

/// A disk that misses a write, about when the primary is lost, and whatever else: a state that holds the write is not
/// served beside it.
#[test]
fn a_disk_that_misses_a_write_is_not_served() {
    let mut refused = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let begin = PROTECTED + random.below(3000);
        let lost = match random.below(3) {
            0 => Fault::PrimaryHost,
            1 => Fault::PrimaryVm,
            _ => Fault::PrimaryPause(Duration::from_secs(9)),
        };
        let mut faults = vec![
            (Mono::from_millis(begin + 500), Fault::DiskMiss),
            (Mono::from_millis(begin + random.below(1000)), lost),
        ];
        for _ in 0..random.below(4) {
            faults.push((Mono::from_millis(begin + random.below(3000)), any(&mut random)));
        }
        refused += u64::from(run_in(World::disk(seed, faults), seed, false).refused_stale());
    }
    assert!(refused > 0, "it never came to it");
}

/// With a disk that misses nothing one side serves, as without one.
#[test]
fn one_fault_leaves_one_service_with_a_disk() {
    for seed in 0..4 {
        let mut random = Random(seed);
        for fault in single() {
            let at = Mono::from_millis(PROTECTED + random.below(3000));
            // An agent that is away cuts nothing: what is loaded meanwhile is not served before it is back.
            let serves = !matches!(fault, Fault::PrimaryPause(_));
            run_in(World::disk(seed, vec![(at, fault)]), seed, serves);
        }
    }
}

/// The orders that need nobody's word for a risk.
const ORDERS: [(bool, Verb); 6] = [
    (true, Verb::Failover),
    (true, Verb::Pause),
    (true, Verb::Resume),
    (true, Verb::Demote),
    (false, Verb::Demote),
    (false, Verb::Promote { force: false }),
];

/// An order to a pair that is well leaves one service.
#[test]
fn an_order_leaves_one_service() {
    for seed in 0..12 {
        let mut random = Random(seed);
        for (primary, verb) in ORDERS {
            let at = Mono::from_millis(PROTECTED + random.below(3000));
            run(seed, vec![(at, Fault::Order { primary, verb })], true);
        }
    }
}

/// Paused and resumed, and the primary lost at any time: the secondary takes over where it owns what clients were told, and
/// never else.
#[test]
fn a_pair_that_was_paused_never_goes_on_in_an_old_state() {
    let mut served = 0;
    for seed in 0..100 {
        let mut random = Random(seed);
        let paused = PROTECTED + random.below(500);
        let resumed = paused + 500 + random.below(3000);
        let order = |at, verb| (Mono::from_millis(at), Fault::Order { primary: true, verb });
        let lost = (Mono::from_millis(paused + random.below(8000)), Fault::PrimaryHost);
        let world = World::new(seed, vec![order(paused, Verb::Pause), order(resumed, Verb::Resume), lost]);
        served += u32::from(run_in(world, seed, false).settled().is_ok());
    }
    assert!((10..100).contains(&served), "{served} of 100 were protected again in time");
}

/// Orders in the middle of faults never make two, and nothing is taken back.
#[test]
fn orders_and_faults_never_make_two() {
    let mut done = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let faults = (0..2 + random.below(8))
            .map(|_| {
                let fault = if random.below(2) == 0 {
                    any(&mut random)
                } else {
                    let (primary, verb) = ORDERS[random.below(ORDERS.len() as u64) as usize];
                    Fault::Order { primary, verb }
                };
                (Mono::from_millis(PROTECTED + random.below(12_000)), fault)
            })
            .collect();
        let world = if seed % 3 == 0 { World::disk(seed, faults) } else { World::new(seed, faults) };
        done += run_in(world, seed, false).done;
    }
    assert!(done > 150, "{done} orders were not refused");
}

/// With any number of faults nobody may be left. Never two.
#[test]
fn many_faults_never_make_two() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let faults = (0..2 + random.below(6))
            .map(|_| (Mono::from_millis(PROTECTED + random.below(20_000)), any(&mut random)))
            .collect();
        run(seed, faults, false);
    }
}

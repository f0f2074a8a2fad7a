//! A slice of the simulator's schedules with each judge, and the broken variants that it must find.

use colo_tests::sim::{self, Broken, JudgeKind, Plan};
use std::time::Instant;

/// Schedules in the slice of each judge.
const SLICE: u64 = 1000;

const LOCK: Plan = Plan { judge: JudgeKind::Lock, broken: None, orders: false, trace: false };
const ETCD: Plan = Plan { judge: JudgeKind::Etcd, ..LOCK };

fn none_fails(plan: Plan) {
    let begun = Instant::now();
    let mut events = 0;
    for seed in 1..=SLICE {
        let outcome = sim::run(seed, plan);
        events += outcome.events;
        if let Some(violation) = outcome.violation {
            let failed = sim::shortest(seed, plan);
            panic!(
                "seed {seed} ({}): {violation}\n{}\n{}",
                plan.judge.name(),
                failed.faults.join("\n"),
                failed.outcome.trace.join("\n")
            );
        }
    }
    let judge = plan.judge.name();
    println!("{judge}, seeds 1 to {SLICE}: {SLICE} schedules, {events} events in {:.1?}", begun.elapsed());
}

#[test]
fn no_schedule_of_the_slice_breaks_a_property() {
    none_fails(LOCK);
}

#[test]
fn no_schedule_with_an_operators_orders_breaks_a_property() {
    none_fails(Plan { orders: true, ..LOCK });
}

#[test]
fn no_schedule_with_etcd_breaks_a_property() {
    none_fails(ETCD);
}

/// Each of them once showed what no other had.
#[test]
fn what_was_found_once_stays_away() {
    // The secondary's agent was killed after it had asked: its successor took over without its translation, or with an old one.
    let without_translation = [
        7_071, 10_362, 17_709, 19_009, 35_349, 54_459, 54_798, 58_615, 62_871, 66_091, 69_184, 73_093,
        95_209, 95_328, 98_954,
    ];
    // The channel between the QEMUs broke as a survivor entered COLO, without a link between the agents.
    let in_colo_without_a_pair = [72_463];
    // A delta that a survivor had learned after its takeover was not told to its new secondary.
    let learned_alone = [103_490];
    let rest = [80_604, 94_146];
    let all = without_translation.into_iter().chain(in_colo_without_a_pair).chain(learned_alone).chain(rest);
    for seed in all {
        assert_eq!(sim::run(seed, LOCK).violation, None, "seed {seed}");
    }
    // QEMU's channel broke while the primary had no agent: its next one waited for a checkpoint that no QEMU made.
    let seed = 7_709_539;
    for plan in [LOCK, ETCD] {
        assert_eq!(sim::run(seed, plan).violation, None, "seed {seed} with {}", plan.judge.name());
    }
    // A secondary that kept the role which came with a yes in a term that was over.
    let kept_role = [3_641, 5_815, 7_072];
    // One that said what it still had although its lease had ended before it could.
    let spoke_late = [15_418, 17_238, 24_383];
    // A delta learned alone, as above.
    let learned_alone = [60_581];
    for seed in kept_role.into_iter().chain(spoke_late).chain(learned_alone) {
        assert_eq!(sim::run(seed, ETCD).violation, None, "seed {seed} with etcd");
    }
    // A new secondary's host was lost as QEMU entered COLO.
    let lost_at_the_entry = [20_560];
    // A survivor whose new secondary was demoted as QEMU entered COLO, while the survivor's agent slept.
    let demoted_at_the_entry = [74_194];
    // Paused by a yes in another term than that in which the agents had met again.
    let paused_in_the_old_term = [100_069];
    // A demotion while the judge was asked for a pause: the right went to the side that was closed by order.
    let demoted_while_asking = [8_138_048];
    let entry = lost_at_the_entry.into_iter().chain(demoted_at_the_entry);
    for seed in entry.chain(paused_in_the_old_term).chain(demoted_while_asking) {
        assert_eq!(sim::run(seed, Plan { orders: true, ..LOCK }).violation, None, "seed {seed} with orders");
    }
    // An order that came to a side before it had looked at its clock again.
    let before_its_clock = [49_974];
    // A secondary's claim that came too late for its term brought it the role, and the primary closed although it had just got the
    // right in the term that held.
    let followed_by_a_late_claim = [8_006_237];
    // A survivor without a term was demoted, and its next agent did not know of it.
    let demoted_without_a_term = [8_013_572];
    for seed in before_its_clock.into_iter().chain(followed_by_a_late_claim).chain(demoted_without_a_term) {
        let violation = sim::run(seed, Plan { orders: true, ..ETCD }).violation;
        assert_eq!(violation, None, "seed {seed} with etcd and orders");
    }
}

/// `first` is the first seed that shows it.
fn is_found(broken: Broken, plan: Plan, first: u64) {
    let plan = Plan { broken: Some(broken), ..plan };
    let (name, judge) = (broken.name(), plan.judge.name());
    let found = (1..=first).find_map(|seed| Some((seed, sim::run(seed, plan).violation?)));
    let (seed, violation) =
        found.unwrap_or_else(|| panic!("{name} with {judge} is not found any more in seeds 1 to {first}"));
    println!("{name} with {judge}: first failing seed {seed}: {violation}");
    assert_eq!(seed, first, "{name} with {judge} is found earlier");
    let sound = Plan { broken: None, ..plan };
    assert_eq!(sim::run(seed, sound).violation, None, "seed {seed} fails unbroken");
}

#[test]
fn a_missing_fencing_token_is_found() {
    is_found(Broken::NoFencing, LOCK, 3);
    is_found(Broken::NoFencing, ETCD, 45);
}

#[test]
fn a_lease_longer_than_the_self_fence_is_found() {
    is_found(Broken::LongLease, LOCK, 148);
    is_found(Broken::LongLease, ETCD, 8);
}

#[test]
fn a_release_before_the_commit_is_found() {
    is_found(Broken::EarlyRelease, LOCK, 225);
}

#[test]
fn a_translation_reset_at_failover_is_found() {
    is_found(Broken::FailoverResets, LOCK, 7);
    is_found(Broken::FailoverResets, ETCD, 7);
}

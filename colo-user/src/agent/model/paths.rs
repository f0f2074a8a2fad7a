//! Every path of the model, and what must hold along and at the end of it.

use super::{Budget, STEPS, Step, World};
use crate::agent::protection::Protection;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The share of states from which the model checks how the pair comes to rest.
const REST_SHARE: u64 = 64;

/// Follows every path from a protected pair, states that were seen before left out; returns how many there are. `rest` is
/// what must hold wherever the pair comes to rest.
fn explore(left: Budget, rest: fn(&World, &World, &str)) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![(World::protected(left), Vec::new())];
    while let Some((world, path)) = open.pop() {
        let mut at_rest = false;
        for step in STEPS.into_iter().filter(|step| world.can(*step)) {
            let mut next = world.clone();
            let mut path: Vec<Step> = path.clone();
            path.push(step);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                next.step(step);
                next
            }));
            let next = outcome.unwrap_or_else(|_| panic!("after {path:?}"));
            let print = hash(&next.fingerprint());
            if seen.insert(print) {
                // Any state may be the one in which nothing more happens; some of them will do.
                at_rest |= print.is_multiple_of(REST_SHARE);
                open.push((next, path));
            }
        }
        if at_rest {
            let shown = format!("{path:?}");
            let asked = world.asked;
            let mut end = world.clone();
            end.finish();
            rest(&World { asked, ..world }, &end, &shown);
        }
    }
    seen.len()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whatever happened: the pair is whole again, nothing is held, and all input was owned once.
fn whole(_: &World, end: &World, path: &str) {
    assert_eq!(end.primary.protection(), Protection::Protected, "{path}");
    assert_eq!(end.secondary.protection(), Protection::Protected, "{path}");
    assert_eq!(end.primary.epoch(), end.secondary.epoch(), "{path}");
    assert_eq!((end.primary.held(), end.p.taken.len()), (0, 0), "{path}");
    let owned = (0..end.inputs).filter(|index| end.owned.contains(index)).count();
    assert_eq!(owned as u64, end.inputs, "input is missing after {path}");
}

/// The same, and nobody asked for a checkpoint unless the primary's agent looked too late at its guest's input.
fn whole_and_quiet(world: &World, end: &World, path: &str) {
    whole(world, end, path);
    let inexact = end.count("input_cuts_inexact");
    assert!(end.asked <= inexact, "{} checkpoints asked for, {inexact} late looks: {path}", end.asked);
    assert_eq!(end.count("sessions_anew"), 0, "{path}");
}

const NOTHING: Budget = Budget {
    checkpoints: 0,
    primary_says: 0,
    secondary_says: 0,
    inputs: 0,
    primary_stops: 0,
    secondary_stops: 0,
    clocks: true,
};

#[test]
fn output_is_of_its_epoch_however_late_an_agent_looks() {
    let states =
        explore(Budget { checkpoints: 1, primary_says: 1, secondary_says: 1, ..NOTHING }, whole_and_quiet);
    println!("{states} states");
    assert!(states > 1000, "{states} states: the model does not move");
}

#[test]
fn input_is_owned_once_however_late_an_agent_looks() {
    let states = explore(Budget { checkpoints: 1, inputs: 2, ..NOTHING }, whole_and_quiet);
    println!("{states} states");
    assert!(states > 1000, "{states} states: the model does not move");
}

#[test]
fn two_checkpoints_may_pass_before_anybody_looks() {
    // A secondary that looks so late may have to count anew, which costs one more.
    let states = explore(Budget { checkpoints: 2, ..NOTHING }, whole);
    println!("{states} states");
    assert!(states > 1000, "{states} states: the model does not move");
}

#[test]
fn operators_may_stop_and_continue_either_guest() {
    for (primary_stops, secondary_stops) in [(1, 0), (0, 1)] {
        let budget = Budget { checkpoints: 1, primary_stops, secondary_stops, ..NOTHING };
        let states = explore(budget, whole);
        println!("{states} states");
        assert!(states > 1000, "{states} states: the model does not move");
    }
}

#[test]
fn without_usable_clocks_nothing_leaves_too_early_either() {
    let budget = Budget { checkpoints: 1, primary_says: 1, secondary_says: 1, clocks: false, ..NOTHING };
    let states = explore(budget, whole);
    println!("{states} states");
    assert!(states > 1000, "{states} states: the model does not move");
}

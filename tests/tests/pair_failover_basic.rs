//! One side of a real pair is killed, and the other goes on alone with every connection: the two cases that all others
//! are variations of (`cargo xtask soak` has the rest).

use std::sync::atomic::AtomicBool;

use colo_tests::{
    lab::child::Programs,
    pair::failover::{Case, Event, Moment, run},
};

static NEVER: AtomicBool = AtomicBool::new(false);

fn all_goes_on(event: Event, seed: u64) {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let case = Case { event, moment: Moment::Steady };
    let outcome = run(&programs, case, seed, &NEVER).unwrap();
    println!("{case}: went on after {:?}, longest gap {:?}", outcome.went_on, outcome.longest);
    assert!(outcome.wrong.is_empty(), "{case}, seed {seed}: {:#?}\n{}", outcome.wrong, outcome.seen);
}

#[test]
fn the_secondary_takes_over_when_the_primary_is_killed() {
    all_goes_on(Event::PrimaryVm, 1);
}

#[test]
fn the_primary_goes_on_when_the_secondary_is_killed() {
    all_goes_on(Event::SecondaryVm, 2);
}

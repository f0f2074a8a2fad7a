//! A pair that protects itself again: its hosts are lost in turn, each comes back with a new VM and `colo secondary`, and the same
//! connections live through all of it.

use std::sync::atomic::AtomicBool;

use colo_tests::{lab::child::Programs, pair::failover::watched};

const SEED: u64 = 3001;
static NEVER: AtomicBool = AtomicBool::new(false);

#[test]
fn both_hosts_are_lost_in_turn_and_nobody_gives_an_order() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let outcome = watched(&programs, SEED, &NEVER).unwrap();
    println!(
        "first answer after {:?}, all went on after {:?}, longest gap {:?} ({})",
        outcome.answered, outcome.went_on, outcome.longest, outcome.slowest
    );
    assert!(outcome.wrong.is_empty(), "seed {SEED}: {:#?}\n{}", outcome.wrong, outcome.seen);
}

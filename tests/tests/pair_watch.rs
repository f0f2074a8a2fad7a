//! A pair that protects itself again: its hosts are lost in turn, each comes back with a new VM and `colo secondary`, and the same
//! connections live through all of it.

use std::sync::atomic::AtomicBool;

use colo_tests::{
    lab::{
        agents::{Role, Status},
        child::Programs,
        topology::SERVER_V4,
    },
    pair::{
        failover::watched,
        line::Line,
        protected::{Options, Protected},
        watch::Side,
    },
};

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

/// As a service that has one command line, whatever role its VM has by now.
#[test]
fn an_agent_that_is_started_again_as_a_secondary_beside_a_primary_is_the_primarys() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    // Longer than an agent takes to start on a busy machine, so that the secondary waits for it.
    let both = ["--peer-timeout", "12000"].map(str::to_owned).to_vec();
    let options = Options { both, secondary: vec!["--reprotect".to_owned()], ..Options::default() };
    let mut pair = Protected::start(&programs, options, &NEVER).unwrap();
    let mut line = Line::open(&pair.pair.topology, SERVER_V4);
    line.ask();
    pair.restart_agent(Side::First, Role::Secondary).unwrap();
    pair.wait_primary(Side::First, &NEVER).unwrap();
    pair.wait_for(Side::First, "protection", &NEVER, Status::is_protected).unwrap();
    line.ask();
    assert_eq!(pair.standing(Side::Second).unwrap(), "protected", "{}", pair.logs());

    // One that was closed stays so.
    let demoted = pair.order(Side::First, &["demote"]).unwrap();
    assert_eq!(demoted.code, 0, "{demoted:?}");
    pair.wait_standing(Side::Second, "alone", &NEVER).unwrap();
    pair.restart_agent(Side::First, Role::Secondary).unwrap();
    pair.wait_standing(Side::First, "closed", &NEVER).unwrap();
    pair.wait_primary(Side::Second, &NEVER).unwrap();
    line.ask();
    assert_eq!(pair.status(Side::First).unwrap().json()["role"], "secondary", "{}", pair.logs());
}

//! A real pair with a real etcd of three members, and real partitions: the side that is cut off falls silent by itself before
//! the other speaks, and nobody is heard beyond the end of a lease.

use std::sync::atomic::AtomicBool;

use colo_tests::{
    lab::child::Programs,
    pair::failover::{Cut, LEASE, cut_off},
};

/// What makes content and instants.
const SEED: u64 = 2001;
/// After so long without a word the agents give each other up: their default.
const PEER_TIMEOUT: u64 = 2;
static NEVER: AtomicBool = AtomicBool::new(false);

fn is_followed(cut: Cut) {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let outcome = cut_off(&programs, cut, SEED, &NEVER).unwrap();
    println!(
        "{cut:?}: set to find out after {PEER_TIMEOUT} s, with a lease of {LEASE} s; first answer after {:.2?}, all went on after \
         {:.2?}, longest gap {:.2?}",
        outcome.answered.unwrap_or_default(),
        outcome.went_on.unwrap_or_default(),
        outcome.longest
    );
    assert!(outcome.wrong.is_empty(), "{cut:?}, seed {SEED}: {:#?}\n{}", outcome.wrong, outcome.seen);
}

#[test]
fn a_host_that_is_lost_is_followed_when_its_lease_has_ended() {
    is_followed(Cut::Host);
}

#[test]
fn a_host_that_is_cut_off_closes_before_the_other_speaks() {
    is_followed(Cut::Island);
}

#[test]
fn a_host_that_is_not_heard_closes_before_the_other_speaks() {
    is_followed(Cut::Mute);
}

#[test]
fn a_host_with_a_minority_of_the_judge_closes_before_the_other_speaks() {
    is_followed(Cut::Minority);
}

#[test]
fn a_frozen_agents_side_is_closed_by_xdp_before_the_other_speaks() {
    is_followed(Cut::Frozen);
}

//! One side of a real pair is lost under all traffic at once: every connection goes on with the right bytes, and the
//! client's switch never hears two sides. `cargo xtask soak failover` does the same many times.

use std::sync::atomic::AtomicBool;

use colo_tests::{
    lab::child::Programs,
    pair::failover::{self, Case, Event, Moment, Outcome, before_protection, promoted_agent},
};

/// Another content and another instant than the soak's first ones.
const SEED: u64 = 1001;
static NEVER: AtomicBool = AtomicBool::new(false);

fn programs() -> Programs {
    Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref())
}

fn check(name: &str, outcome: &Outcome) {
    println!(
        "{name}: answered after {:?}, went on after {:?}, longest gap {:?}",
        outcome.answered, outcome.went_on, outcome.longest
    );
    assert!(outcome.wrong.is_empty(), "{name}, seed {SEED}: {:#?}\n{}", outcome.wrong, outcome.seen);
}

fn lose(event: Event, moment: Moment) {
    let case = Case { event, moment };
    check(&case.to_string(), &failover::run(&programs(), case, SEED, &NEVER).unwrap());
}

/// A test for each of these cases, so that a failure has its name.
macro_rules! cases {
    ($($name:ident: $event:ident $moment:ident),+ $(,)?) => {
        $(#[test] fn $name() { lose(Event::$event, Moment::$moment); })+

        #[test]
        fn every_event_and_every_moment_is_tested() {
            let tested = [$(Case { event: Event::$event, moment: Moment::$moment }),+];
            assert!(Event::ALL.iter().all(|event| tested.iter().any(|case| case.event == *event)));
            assert!(Moment::ALL.iter().all(|moment| tested.iter().any(|case| case.moment == *moment)));
        }
    };
}

cases! {
    primary_vm_in_a_steady_state: PrimaryVm Steady,
    primary_vm_during_handshakes: PrimaryVm Handshakes,
    primary_vm_during_a_checkpoint: PrimaryVm Checkpoint,
    primary_host_in_a_steady_state: PrimaryHost Steady,
    frozen_primary_during_handshakes: PrimaryFrozen Handshakes,
    frozen_primary_during_a_checkpoint: PrimaryFrozen Checkpoint,
    primary_agent_in_a_steady_state: PrimaryAgent Steady,
    primary_leaves_colo: PrimaryLeft Steady,
    secondary_vm_during_a_checkpoint: SecondaryVm Checkpoint,
    frozen_secondary_during_a_checkpoint: SecondaryFrozen Checkpoint,
    secondary_agent_during_handshakes: SecondaryAgent Handshakes,
    secondary_leaves_colo: SecondaryLeft Steady,
    both_leave_colo_during_a_checkpoint: BothLeft Checkpoint,
    channel_during_a_checkpoint: Channel Checkpoint,
    link_in_a_steady_state: Link Steady,
}

/// The agent of the first survivor is stopped, killed and started again in between.
#[test]
fn the_primary_is_lost_and_then_the_new_primary() {
    check("promoted-agent", &promoted_agent(&programs(), SEED, &NEVER).unwrap());
}

#[test]
fn a_secondary_that_owns_no_state_stays_closed() {
    check("before-protection", &before_protection(&programs(), SEED, &NEVER).unwrap());
}

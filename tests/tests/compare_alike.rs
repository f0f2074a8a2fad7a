//! Whatever both guests say alike leaves and asks for nothing; what leaves, the secondary has said. Seeds are fixed; `cargo xtask
//! soak compare` runs many more.

use colo_tests::alike::{self, Property, draw};
use colo_tests::random::Random;
use colo_user::compare::Class;

/// Seeds of each property.
const SLICE: u64 = 5000;

fn holds(property: Property) {
    for seed in 1..=SLICE {
        if let Err(failure) = alike::holds(property, seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn what_both_guests_say_alike_leaves_and_asks_for_nothing() {
    holds(alike::agree);
}

#[test]
fn what_leaves_the_secondary_has_said() {
    holds(alike::differ);
}

#[test]
fn the_sequences_are_of_every_class() {
    let mut seen = [0_usize; Class::COUNT];
    for seed in 1..=500 {
        for class in alike::classes(&draw::sequence(&mut Random::new(seed))) {
            seen[class as usize] += 1;
        }
    }
    let never: Vec<Class> =
        Class::ALL.into_iter().filter(|&class| class != Class::Bypass && seen[class as usize] < 50).collect();
    assert!(never.is_empty(), "too few frames of {never:?}: {seen:?}");
}

//! The lab itself: with a plain kernel bridge in the agents' place every load gets every byte right, and a
//! replica that differs is seen. What fails with the agents between and passes here is theirs.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    child::Programs,
    load::{self, Load, Work},
    relay::Way,
    stage::Stage,
    topology::{SERVER_V4, SERVER_V6, Wires},
    witness,
};

fn stage(wires: Wires) -> Stage {
    let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires).unwrap();
    stage.topology.forward_plain().unwrap();
    stage
}

/// Twin of the proof that nothing left: with nobody in between, the same witness sees all of it leave.
#[test]
fn the_witness_sees_every_byte_that_left() {
    let stage = stage(Wires::Veth);
    let stop = AtomicBool::new(false);
    let witnessed = witness::download(&stage, 1, 5_000_000, Duration::from_secs(10), &stop).unwrap();
    assert_eq!(witnessed.error, None);
    assert_eq!(witnessed.received.body, 5_000_000);
    assert_eq!(witnessed.left.end, witnessed.received.head + 5_000_000);
}

/// Twin of the test of a secondary that loses frames: a wire told to lose some does.
#[test]
fn a_lossy_wire_loses() {
    let stage = stage(Wires::TapGuest);
    stage.topology.primary.lose(Way::Output, 1, 4);
    stage.topology.primary.lose(Way::Input, 1, 4);
    let load = Load { at_most: 6, ..Load::once("datagrams", SERVER_V4, Work::Echo { length: 512 }) };
    let end = Instant::now() + Duration::from_secs(60);
    let outcomes = load::run(&stage.topology.client, &[load], end, &AtomicBool::new(false));
    assert_eq!(outcomes[0].done, 6, "{outcomes:?}");
    assert!(outcomes[0].resent > 0, "{outcomes:?}");
}

#[test]
fn veth() {
    every_load_gets_every_byte_right_and_a_difference_is_seen(Wires::Veth);
}

#[test]
fn tap() {
    every_load_gets_every_byte_right_and_a_difference_is_seen(Wires::TapGuest);
}

#[test]
fn vlan() {
    every_load_gets_every_byte_right_and_a_difference_is_seen(Wires::Tagged(100));
}

fn every_load_gets_every_byte_right_and_a_difference_is_seen(wires: Wires) {
    let mut stage = stage(wires);

    let mut loads = Vec::new();
    for server in [SERVER_V4, SERVER_V6] {
        for (name, work) in [
            ("download", Work::Download { length: 2 << 20, close: false }),
            ("download, close", Work::Download { length: 64 << 10, close: true }),
            ("upload", Work::Upload { length: 2 << 20 }),
            ("lines", Work::Lines { length: 1024 }),
            ("short", Work::Short { length: 1 }),
            ("datagrams", Work::Echo { length: 512 }),
            ("fragments", Work::Echo { length: 8000 }),
            ("ping", Work::Ping { length: 56 }),
            ("fragmented ping", Work::Ping { length: 4000 }),
        ] {
            loads.push(Load { at_most: 4, ..Load::once(name, server, work) });
        }
    }
    let end = Instant::now() + Duration::from_secs(60);
    for outcome in load::run(&stage.topology.client, &loads, end, &AtomicBool::new(false)) {
        assert_eq!((outcome.done, outcome.failed), (4, 0), "{outcome:?}");
    }

    let length = 100_000;
    stage.primary.differ(&load::path(0, length), 99_999).unwrap();
    let download = Load::once("differing", SERVER_V4, Work::Download { length, close: true });
    let outcomes = load::run(&stage.topology.client, &[download], end, &AtomicBool::new(false));
    assert_eq!((outcomes[0].done, outcomes[0].failed), (0, 1), "{outcomes:?}");
    assert!(outcomes[0].failures[0].contains("SHA-256"), "{outcomes:?}");
}

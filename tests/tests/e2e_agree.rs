//! Replicas that agree, through both agents: every byte right, every flow compared, no checkpoint asked for.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    agents::{Agents, Options, Role},
    child::Programs,
    load::{self, Load, Work},
    stage::Stage,
    topology::{SERVER_V4, SERVER_V6, Wires},
};

/// Bytes of one large transfer.
const LARGE: u64 = 200_000_000;

static NEVER: AtomicBool = AtomicBool::new(false);

fn agree(wires: Wires, hold: &str, loads: &[Load], seconds: u64) {
    let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires).unwrap();
    let mut agents = Agents::start(&stage, Options::patient(&["--hold", hold])).unwrap();
    let before = agents.wait_protected(&NEVER).unwrap();
    assert_eq!(before.json()["hold"], hold);

    let end = Instant::now() + Duration::from_secs(seconds);
    for outcome in load::run(&stage.topology.client, loads, end, &NEVER) {
        assert!(outcome.done > 0 && outcome.failed == 0, "{outcome:?}");
    }
    let after = agents.status(Role::Primary).unwrap();
    assert!(after.is_protected(), "{}", after.json());
    let secondary = agents.status(Role::Secondary).unwrap();
    let both = format!("{}; the secondary: {}", after.json(), secondary.json());
    assert_eq!((after.checkpoints(), after.divergences().len()), (0, 0), "{both}");
    let compared = after.compared().unwrap() - before.compared().unwrap();
    assert!(compared > 0, "nothing was compared: {}", after.json());
    for role in [Role::Primary, Role::Secondary] {
        assert!(agents.process(role).stop(), "the {} agent had to be killed", role.name());
    }
}

/// 200 MB down and 200 MB up over each IP version, all four at once.
fn large() -> Vec<Load> {
    vec![
        Load::once("download", SERVER_V4, Work::Download { length: LARGE, close: true }),
        Load::once("upload", SERVER_V4, Work::Upload { length: LARGE }),
        Load::once("download, IPv6", SERVER_V6, Work::Download { length: LARGE, close: true }),
        Load::once("upload, IPv6", SERVER_V6, Work::Upload { length: LARGE }),
    ]
}

#[test]
fn large_transfers_held_by_af_xdp() {
    agree(Wires::Veth, "afxdp", &large(), 1);
}

#[test]
fn large_transfers_held_by_ring_buffer() {
    agree(Wires::Veth, "ringbuf", &large(), 1);
}

#[test]
fn all_loads_held_by_af_xdp() {
    agree(Wires::Veth, "afxdp", &load::mix(), 5);
}

#[test]
fn all_loads_held_by_ring_buffer() {
    agree(Wires::Veth, "ringbuf", &load::mix(), 5);
}

#[test]
fn guests_on_taps_held_by_af_xdp() {
    agree(Wires::TapGuest, "afxdp", &load::mix(), 5);
}

#[test]
fn guests_on_taps_held_by_ring_buffer() {
    agree(Wires::TapGuest, "ringbuf", &load::mix(), 5);
}

#[test]
fn tagged_frames_held_by_af_xdp() {
    agree(Wires::Tagged(100), "afxdp", &load::mix(), 5);
}

#[test]
fn tagged_frames_held_by_ring_buffer() {
    agree(Wires::Tagged(100), "ringbuf", &load::mix(), 5);
}

//! The held path by itself: every frame of the guest is captured, parked and released at once, nothing is compared.
//! What fails here is the data path's, what fails only with the agents is theirs.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    child::Programs,
    load, report,
    stage::Stage,
    topology::{GUEST, UPLINK, Wires},
};
use colo_user::datapath::{Config, Datapath, HoldBackend, Role};

static NEVER: AtomicBool = AtomicBool::new(false);

fn released_at_once(wires: Wires, hold: HoldBackend) {
    let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires).unwrap();
    let config = Config { hold, ..Config::new(Role::Primary, GUEST, UPLINK) };
    let mut datapath = stage.topology.primary.netns.enter(|| Datapath::attach(&config)).unwrap();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let outcomes = thread::scope(|scope| {
        let turner = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                datapath.wait(&[], &[], Some(Duration::from_millis(100))).unwrap();
                while datapath.next_mirrored(|_| {}) > 0 {}
                while let Some(captured) = datapath.next_captured() {
                    datapath.release(captured.id);
                }
                datapath.flush().unwrap();
            }
        });
        let outcomes =
            load::run(&stage.topology.client, &load::mix(), begun + Duration::from_secs(3), &NEVER);
        stop.store(true, Ordering::Relaxed);
        turner.join().unwrap();
        outcomes
    });
    println!("{wires:?} {hold:?}\n{}", report::table(&outcomes, begun.elapsed()));
    for outcome in &outcomes {
        assert!(outcome.done > 0 && outcome.failed == 0, "{outcome:?}");
    }
    let counters = datapath.counters();
    let count = |name| counters.get(name).unwrap();
    assert!(count("captured") > 0 && datapath.pressure().lost == 0, "{counters:?}");
    assert_eq!(count("captured"), count("released"), "{counters:?}");
    assert_eq!((count("uplink_mirror_lost"), count("mirror_gaps")), (0, 0), "{counters:?}");
}

#[test]
fn veth_af_xdp() {
    released_at_once(Wires::Veth, HoldBackend::Afxdp);
}

#[test]
fn veth_ring_buffer() {
    released_at_once(Wires::Veth, HoldBackend::Ringbuf);
}

#[test]
fn tap_af_xdp() {
    released_at_once(Wires::TapGuest, HoldBackend::Afxdp);
}

#[test]
fn tagged_af_xdp() {
    released_at_once(Wires::Tagged(100), HoldBackend::Afxdp);
}

#[test]
fn tagged_ring_buffer() {
    released_at_once(Wires::Tagged(100), HoldBackend::Ringbuf);
}

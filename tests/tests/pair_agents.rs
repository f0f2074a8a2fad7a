//! The agents on a real pair: what the guests say alike leaves at once, what differs costs a checkpoint of QEMU's.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use colo_tests::{
    lab::{
        agents::Status,
        child::Programs,
        load::{self, Load, Outcome, Work},
        topology::{SERVER_V4, SERVER_V6},
    },
    pair::{
        line::Line,
        protected::{Options, Protected},
        watch::Side,
    },
};

static NEVER: AtomicBool = AtomicBool::new(false);

fn protected() -> Protected {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    Protected::start(&programs, Options::default(), &NEVER).unwrap()
}

/// What a failure shows: both agents' counters, the logs, and what QEMU has said.
fn seen(pair: &Protected) -> String {
    let status =
        |side| pair.status(side).map_or_else(|error| error.to_string(), |s| format!("{:#}", s.json()));
    format!("{}\n{}\n{}", status(Side::First), status(Side::Second), pair.logs())
}

/// Checkpoints asked for, but for those of cuts that could not be exact, which are counted and are no word of the guests.
fn by_the_guests(status: &Status) -> u64 {
    status.checkpoints() - status.checkpoints_by_cuts()
}

/// The guests have stood still so often, and besides at most once for each such cut.
fn stood_still(pair: &Protected, wanted: u64) {
    let pauses = pair.journal.pauses("primary").len() as u64;
    let by_cuts = pair.status(Side::First).unwrap().checkpoints_by_cuts();
    assert!((wanted..=wanted + by_cuts).contains(&pauses), "{pauses}, not {wanted}: {}", seen(pair));
}

fn run(pair: &Protected, load: Load) -> Outcome {
    let end = Instant::now() + Duration::from_secs(25);
    let outcome = load::run(&pair.pair.topology.client, &[load], end, &NEVER).remove(0);
    println!("{}: p50 {:?}, p99 {:?}", load.name, outcome.percentile(50), outcome.percentile(99));
    assert_eq!((outcome.done, outcome.failed), (load.at_most, 0), "{outcome:?}\n{}", seen(pair));
    outcome
}

#[test]
fn a_difference_costs_exactly_one_checkpoint_and_no_client_sees_it() {
    let mut pair = protected();
    for (name, server, work, at_most) in [
        ("lines", SERVER_V4, Work::Lines { length: 1024 }, 200),
        ("lines, IPv6", SERVER_V6, Work::Lines { length: 1 }, 200),
        ("short", SERVER_V4, Work::Short { length: 1 }, 50),
        ("download", SERVER_V4, Work::Download { length: 1 << 20, close: false }, 4),
        ("upload", SERVER_V4, Work::Upload { length: 1 << 20 }, 4),
        ("datagrams", SERVER_V4, Work::Echo { length: 512 }, 50),
    ] {
        run(&pair, Load { at_most, ..Load::once(name, server, work) });
    }
    let agreed = pair.status(Side::First).unwrap();
    assert_eq!(by_the_guests(&agreed), 0, "{}", seen(&pair));
    let count = |name| agreed.count(name).unwrap();
    assert_eq!(count("cuts_refused"), 0, "{}", seen(&pair));
    stood_still(&pair, 0);
    assert!(count("released_compared") > 1000 && count("released_checkpoint") < 10, "{}", seen(&pair));

    let length = 100_000;
    pair.pair.secondary.differ(&load::path(0, length), length / 2).unwrap();
    run(&pair, Load::once("differs", SERVER_V4, Work::Download { length, close: true }));
    let differed = pair.status(Side::First).unwrap();
    assert_eq!(differed.divergences()[0]["kind"], "payload", "{}", seen(&pair));
    assert!(differed.is_protected(), "{}", seen(&pair));
    stood_still(&pair, 1);
    // The secondary has the primary's memory now, and with it none of the difference.
    run(&pair, Load::once("differed", SERVER_V4, Work::Download { length, close: true }));
    let healed = pair.status(Side::First).unwrap();
    assert_eq!(by_the_guests(&healed), by_the_guests(&differed), "{}", seen(&pair));
    stood_still(&pair, 1);
}

#[test]
fn an_operators_stop_of_either_guest_ends_no_epoch_and_raises_no_alarm() {
    let pair = protected();
    let lines = Load { at_most: 100, ..Load::once("lines", SERVER_V4, Work::Lines { length: 100 }) };
    run(&pair, lines);
    let before = pair.status(Side::First).unwrap();
    for (n, side) in [(1, Side::Second), (2, Side::First)] {
        pair.pause(side, Duration::from_millis(200)).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while pair.status(side).unwrap().count("vm_operator_stops").unwrap() == 0 {
            assert!(Instant::now() < end, "{}", seen(&pair));
            std::thread::sleep(Duration::from_millis(20));
        }
        // The secondary goes on when the primary has answered that there was no checkpoint, and its word is needed here.
        Line::open(&pair.pair.topology, SERVER_V4).ask();
        run(&pair, lines);
        let after = pair.status(Side::First).unwrap();
        assert!(after.is_protected(), "{n}: {}", seen(&pair));
        assert_eq!(after.json()["epoch"], before.json()["epoch"], "{n}: {}", seen(&pair));
        assert_eq!(by_the_guests(&after), 0, "{n}: {}", seen(&pair));
    }
}

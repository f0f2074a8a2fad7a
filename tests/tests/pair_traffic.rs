//! All traffic at once on a protected pair, through checkpoints: every byte is right, and nothing is taken back.

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use colo_tests::{
    lab::{
        child::Programs,
        topology::SERVER_V4,
        traffic::{self, Kind, Plan, Report, Stream},
    },
    pair::{
        protected::{Options, Protected},
        watch::{Heard, Side, Watch},
    },
};

static NEVER: AtomicBool = AtomicBool::new(false);
/// How long all streams may take to go on by a few requests.
const PATIENCE: Duration = Duration::from_secs(30);

fn protected() -> Protected {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    Protected::start(&programs, Options::default(), &NEVER).unwrap()
}

/// Forces checkpoints one after the other under the plan's traffic.
fn through_checkpoints(pair: &Protected, plan: &Plan, checkpoints: usize) -> (Report, Heard) {
    let watch = Watch::start(&pair.pair.topology.client).unwrap();
    let (outcome, report) = traffic::run(&pair.pair.topology.client, plan, &NEVER, |control| {
        control.wait_steady(PATIENCE)?;
        control.burst();
        let so_far = pair.journal.pauses("primary").len();
        for n in 1..=checkpoints {
            pair.checkpoint()?;
            let end = Instant::now() + PATIENCE;
            while pair.journal.pauses("primary").len() < so_far + n {
                assert!(Instant::now() < end, "checkpoint {n} does not come");
                thread::sleep(Duration::from_millis(5));
            }
        }
        control.wait_for(3, &control.progress(), PATIENCE)
    });
    let heard = watch.finish().unwrap();
    let status = pair.status(Side::First).unwrap();
    println!("{}{:?}\n{:#}", report.table(), report.longest(), status.json()["checkpoints"]);
    let seen = || format!("{heard:?}\n{:#}\n{}", status.json(), pair.logs());
    assert!(outcome.is_ok(), "{outcome:?}\n{}", seen());
    assert_eq!((report.broken(), report.lost()), (Vec::new(), 0), "{}", seen());
    assert_eq!((heard.sides(), heard.taken_back), (vec![Side::First], 0), "{}", seen());
    assert!(status.is_protected(), "{}", seen());
    (report, heard)
}

#[test]
fn every_kind_of_traffic_goes_on_through_checkpoints() {
    let pair = protected();
    let (report, heard) = through_checkpoints(&pair, &Plan::all(1), 10);
    assert!(report.done() > 100 && heard.frames > 1000, "{}", report.table());
}

#[test]
fn a_bulk_upload_across_50_checkpoints_asks_for_none_of_its_own() {
    let pair = protected();
    let stream = Stream { kind: Kind::Upload, server: SERVER_V4, pause: Duration::ZERO };
    let plan = Plan { streams: vec![stream], ..Plan::all(2) };
    through_checkpoints(&pair, &plan, 50);
    let status = pair.status(Side::First).unwrap();
    // A guest that runs before its unread input is counted costs one more, by no word of the guests.
    let (asked, by_cuts) = (status.checkpoints(), status.checkpoints_by_cuts());
    let inexact = status.count("input_cuts_inexact").unwrap() + status.count("cuts_unsure").unwrap();
    let seen = || format!("{:#}\n{}", status.json(), pair.logs());
    assert_eq!((asked, status.divergences().len()), (by_cuts, 0), "{}", seen());
    assert!(by_cuts <= inexact, "{by_cuts} for {inexact} cuts: {}", seen());
}

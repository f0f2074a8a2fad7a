//! The agents on a real pair: what the guests say alike leaves at once, what differs costs a checkpoint of QEMU's.

use std::{
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use colo_tests::{
    lab::{
        child::{Programs, Tethered},
        load::{self, Load, Outcome, Work},
        topology::{GUEST, Host, LINK_PRIMARY, SERVER_V4, SERVER_V6, UPLINK},
    },
    pair::stage::{Followed, PATIENCE, Pair, cache},
};
use colo_user::qmp::EventKind;
use serde_json::Value;

/// No periodic checkpoint falls into the test.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn a_difference_costs_a_checkpoint_and_no_client_sees_it() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let mut pair = Pair::boot(&programs, &cache(&programs.lab)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut primary = runtime.block_on(async {
        let (mut primary, _) = Followed::open("primary", &pair.primary).await.unwrap();
        let (mut secondary, _) = Followed::open("secondary", &pair.secondary).await.unwrap();
        pair.protect(&mut primary, &mut secondary, NEVER).await.unwrap();
        primary
    });
    let qmp = format!("qmp:{}", pair.primary.agent_monitor());
    let peer = format!("tcp:{LINK_PRIMARY}:9000");
    let server = format!("{peer},server=on");
    let topology = &pair.topology;
    let first = agent(
        &pair,
        &topology.primary,
        "primary",
        &["--peer", &server, "--wait-min", "500", "--checkpoint", &qmp],
    );
    let second = agent(&pair, &topology.secondary, "secondary", &["--peer", &peer]);
    let control = pair.path("primary.sock");
    let end = Instant::now() + PATIENCE;
    while status(&programs, &control).is_none_or(|status| status["state"] != "protected") {
        assert!(Instant::now() < end, "not protected:\n{}\n{}", first.log(), second.log());
        std::thread::sleep(Duration::from_millis(100));
    }

    for (name, server, work, at_most) in [
        ("lines", SERVER_V4, Work::Lines { length: 1024 }, 200),
        ("lines, IPv6", SERVER_V6, Work::Lines { length: 1 }, 200),
        ("short", SERVER_V4, Work::Short { length: 1 }, 50),
        ("download", SERVER_V4, Work::Download { length: 1 << 20, close: false }, 4),
        ("upload", SERVER_V4, Work::Upload { length: 1 << 20 }, 4),
        ("datagrams", SERVER_V4, Work::Echo { length: 512 }, 50),
    ] {
        let outcome = run(&pair, Load { at_most, ..Load::once(name, server, work) });
        println!("{name}: p50 {:?}, p99 {:?}", outcome.percentile(50), outcome.percentile(99));
        assert_eq!((outcome.done, outcome.failed), (at_most, 0), "{outcome:?}");
    }
    let agreed = status(&programs, &control).unwrap();
    assert_eq!(agreed["checkpoints"]["asked"], 0, "the guests agree: {agreed:#}\n{}", first.log());

    let length = 100_000;
    pair.secondary.differ(&load::path(0, length), length / 2).unwrap();
    let outcome = run(&pair, Load::once("differs", SERVER_V4, Work::Download { length, close: true }));
    println!("a download that differs: {:?}", outcome.percentile(100));
    let differed = status(&programs, &control).unwrap();
    let seen = || format!("{outcome:?}\n{differed:#}\n{}\n{}", first.log(), second.log());
    assert_eq!((outcome.done, outcome.failed), (1, 0), "{}", seen());
    assert_eq!(differed["divergences"][0]["kind"], "payload", "{}", seen());
    assert_eq!(differed["epoch"], 2, "{}", seen());
    assert_eq!(differed["state"], "protected", "{}", seen());
    runtime.block_on(async {
        for wanted in [EventKind::Stop, EventKind::Resume] {
            primary.until(|kind| *kind == wanted).await.unwrap();
        }
    });
    // The secondary has the primary's memory now, and with it none of the difference.
    let outcome = run(&pair, Load::once("differed", SERVER_V4, Work::Download { length, close: true }));
    assert_eq!((outcome.done, outcome.failed), (1, 0), "{}", seen());
    let healed = status(&programs, &control).unwrap();
    assert_eq!(healed["checkpoints"], differed["checkpoints"], "{healed:#}\n{}", first.log());
}

fn run(pair: &Pair, load: Load) -> Outcome {
    let end = Instant::now() + Duration::from_secs(25);
    load::run(&pair.topology.client, &[load], end, &AtomicBool::new(false)).remove(0)
}

fn agent(pair: &Pair, host: &Host, role: &str, more: &[&str]) -> Tethered {
    let control = pair.path(&format!("{role}.sock")).display().to_string();
    let fixed = [role, "--guest", GUEST, "--uplink", UPLINK, "--control", &control];
    let arguments: Vec<String> = fixed.iter().chain(more).map(|word| (*word).to_owned()).collect();
    let log = pair.path(&format!("agent-{role}.log"));
    Tethered::start(&pair.programs, &host.netns, &pair.programs.colo, &arguments, &log, false).unwrap()
}

fn status(programs: &Programs, control: &Path) -> Option<Value> {
    let output =
        Command::new(&programs.colo).args(["status", "--json", "--control"]).arg(control).output().unwrap();
    serde_json::from_slice(&output.stdout).ok()
}

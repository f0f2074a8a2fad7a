//! A pair with a replicated disk: what a client was told to be kept is on the disk of whoever goes on, and the file system
//! is whole.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use colo_tests::{
    lab::{
        agents::Status,
        child::Programs,
        content,
        topology::{Host, SERVER_V4, SERVER_V6, UPLINK},
    },
    pair::{
        disk::{self, Files},
        line::Line,
        ours::Running,
        protected::{Options, Protected},
        stage::{Followed, PATIENCE, Pair, Setup, cache},
        vm::Vm,
        watch::Side,
        watched::{Watched, rename},
    },
};
use colo_user::qmp::{Client, EventKind, Notice, command};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Between periodic checkpoints, so that many fall into a test.
const OFTEN: Duration = Duration::from_millis(400);
/// No periodic checkpoint falls into the test.
const NEVER: Duration = Duration::from_secs(3600);
/// How long files are written.
const WRITING: Duration = Duration::from_secs(6);
/// How long the connections may take to go on.
const GOES_ON: Duration = Duration::from_secs(40);
/// Files of a connection that goes on.
const MORE: usize = 3;
/// How long an answer may take that will never come.
const LAST_ANSWER: Duration = Duration::from_secs(3);

/// The length of a file is a function of its name.
fn length(name: u64) -> usize {
    1000 + (name as usize * 7919) % 60_000
}

/// Checks the disk of a VM that has ended: it is whole, and has every file that a client was told of.
fn check(image: &Path, told: &[u64]) {
    let files = Files::of(image).unwrap();
    for &name in told {
        let found = files.read(name).unwrap();
        let expected = content::bytes(name, length(name));
        assert!(
            found.as_deref() == Some(&*expected),
            "file {name} of {told:?}: {:?}",
            found.map(|f| f.len())
        );
    }
    println!("{}: whole, with {} files", image.display(), told.len());
}

/// Ends the writers also when a test panics: they would be waited for without end.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writers on three connections go on while `event` happens to a protected pair, and after it. All that they were told of is on
/// the disk of `survivor`. The event is told what waits until all of them have gone on since.
fn survives(event: impl FnOnce(&mut Protected, &dyn Fn(&Protected)), survivor: Side) {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let stop = AtomicBool::new(false);
    let options = Options { disk: true, delay: OFTEN, ..Options::default() };
    let mut protected = Protected::start(&programs, options, &stop).unwrap();
    let told = [const { Mutex::new(Vec::new()) }; 3];
    let count = |told: &Mutex<Vec<u64>>| told.lock().unwrap().len();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for ((first, server), told) in [(0, SERVER_V4), (1, SERVER_V6), (2, SERVER_V4)].into_iter().zip(&told)
        {
            let mut line = Line::open(&protected.pair.topology, server);
            line.patience(GOES_ON);
            let done = &done;
            scope.spawn(move || {
                let mut names = (first..).step_by(3);
                while !done.load(Ordering::Relaxed) {
                    let name = names.next().unwrap();
                    match line.keep(name, length(name)) {
                        Ok(()) => told.lock().unwrap().push(name),
                        Err(error) => return eprintln!("file {name}: {error}"),
                    }
                }
            });
        }
        thread::sleep(WRITING);
        let ending = Ending(&done);
        let go_on = |pair: &Protected| {
            let before = told.each_ref().map(count);
            let end = Instant::now() + GOES_ON;
            let went_on = || told.iter().zip(before).all(|(told, before)| count(told) >= before + MORE);
            while !went_on() {
                assert!(Instant::now() < end, "{before:?} {:?}\n{}", told.each_ref().map(count), pair.logs());
                thread::sleep(Duration::from_millis(50));
            }
        };
        assert!(told.iter().all(|told| count(told) > 0), "{}", protected.logs());
        event(&mut protected, &go_on);
        go_on(&protected);
        drop(ending);
    });
    let name = protected.vm(survivor).name();
    protected.vm(survivor).process().kill();
    let told: Vec<u64> = told.into_iter().flat_map(|told| told.into_inner().unwrap()).collect();
    check(&disk::image(&protected.pair.path(""), name), &told);
}

#[test]
fn every_file_that_a_client_was_told_of_survives_the_primary() {
    survives(|pair, _| pair.vm(Side::First).process().kill(), Side::Second);
}

/// The survivor's disk is copied to a new secondary while it is written to, which then goes on alone.
#[test]
fn every_file_survives_the_primary_and_then_the_new_primary() {
    let lose_both = |pair: &mut Protected, go_on: &dyn Fn(&Protected)| {
        pair.vm(Side::First).process().kill();
        go_on(pair);
        pair.protect_survivor(Side::Second, "third", &AtomicBool::new(false)).unwrap();
        go_on(pair);
        pair.vm(Side::Second).process().kill();
    };
    survives(lose_both, Side::First);
}

/// As above, and `colo protect --watch` does it: the disk goes the other way round, and the survivor's agent is ordered to go on as
/// a primary's.
#[test]
fn every_file_survives_both_primaries_of_a_watched_pair() {
    let lose_both = |pair: &mut Protected, go_on: &dyn Fn(&Protected)| {
        let agent = ["--agent".to_owned(), pair.control(Side::Second).display().to_string()];
        let watching = Watched::start(&pair.pair, pair.delay(), &agent).unwrap();
        pair.vm(Side::First).process().kill();
        go_on(pair);
        pair.come_back(Side::First, "third").unwrap();
        rename(&pair.pair, Side::First).unwrap();
        let protected =
            pair.wait_for(Side::Second, "protection", &AtomicBool::new(false), Status::is_protected);
        let printed = watching.pairs(1);
        protected.unwrap_or_else(|error| panic!("{error:#}\n{printed:?}\n{:?}", watching.end()));
        let printed = printed.unwrap();
        assert_eq!(printed[0]["disks"], serde_json::json!([disk::DISK]));
        go_on(pair);
        pair.vm(Side::Second).process().kill();
    };
    survives(lose_both, Side::First);
}

/// QEMU goes on with checkpoints as if nothing were wrong.
#[test]
fn a_secondary_whose_disk_has_missed_a_write_is_none_any_more() {
    let cut = |pair: &mut Protected, _: &dyn Fn(&Protected)| {
        let monitor = pair.vm(Side::First).spare_monitor();
        runtime().block_on(async {
            let (client, mut notices) = Client::open(monitor);
            while !matches!(notices.next().await.expect("the client lives"), Notice::Up { .. }) {}
            client.call(command::yank_block_node("colo-nbd0")).await.unwrap();
        });
        let alone = |status: &Value| status["failover"]["standing"] == "alone";
        let end = Instant::now() + PATIENCE;
        while !pair.status(Side::First).is_ok_and(|status| alone(status.json())) {
            assert!(Instant::now() < end, "{}", pair.logs());
            thread::sleep(Duration::from_millis(50));
        }
        let other = pair.status(Side::Second).unwrap();
        assert_ne!(other.json()["failover"]["standing"], "alone", "{other:?}");
    };
    survives(cut, Side::First);
}

/// The primary's QEMU hangs on the writes that nobody answers, its monitor too when it is told to leave COLO: its agent yanks the node
/// of the secondary's disk first.
#[test]
fn a_secondarys_host_that_stands_still_hangs_nobody() {
    let freeze = |pair: &mut Protected, _: &dyn Fn(&Protected)| {
        pair.agent(Side::Second).signal(Signal::STOP).unwrap();
        pair.vm(Side::Second).process().signal(Signal::STOP).unwrap();
        pair.wait_standing(Side::First, "alone", &AtomicBool::new(false)).unwrap();
        assert!(pair.runs(Side::First).unwrap(), "{}", pair.logs());
    };
    survives(freeze, Side::First);
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The secondary goes on alone, as far as QEMU is concerned.
fn take_over(runtime: &Runtime, vm: &Vm) {
    runtime.block_on(async {
        let (client, mut notices) = Client::open(vm.spare_monitor());
        while !matches!(notices.next().await.expect("the client lives"), Notice::Up { .. }) {}
        client.call(command::nbd_server_stop()).await.unwrap();
        client.call(command::lost_heartbeat()).await.unwrap();
        let resumed = async {
            while let Some(notice) = notices.next().await {
                if matches!(notice, Notice::Event(event) if event.kind == EventKind::Resume) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, resumed).await.unwrap();
    });
}

/// Whether a host is on the client's network.
fn heard(host: &Host, on: bool) {
    host.netns.run(&format!("ip link set {UPLINK} {}", if on { "up" } else { "down" })).unwrap();
}

/// The migration finds nobody: no child, node, job or export is left over.
fn refused(pair: &Pair) {
    let sides = [pair.primary.spare_monitor(), pair.secondary.spare_monitor()];
    let place = |name: &str| format!("unix:{}", pair.path(name).display());
    let nbd = place("secondary.nbd");
    let more = ["--disk", disk::DISK, "--nbd", &nbd].map(str::to_owned);
    let ended = Running::start(&pair.programs, &sides, &place("nowhere"), NEVER, &more).unwrap();
    let ended = ended.wait().unwrap();
    assert_eq!((ended.code, &ended.object["left"]), (1, &serde_json::json!([])), "{ended:?}");
    assert!(ended.said.contains("written to alike"), "{ended:?}");
}

/// Over plain bridges: a secondary that stands still blocks the guest's writes and is given up; the disk of the next one is
/// filled anew, and it goes on alone.
#[test]
fn a_survivors_disk_is_replicated_again() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let setup = Setup { disk: true, ..Setup::default() };
    let mut pair = Pair::boot_as(&programs, &cache(&programs.lab), &setup).unwrap();
    pair.topology.forward_plain().unwrap();
    pair.topology.secondary.forward_plain().unwrap();
    heard(&pair.topology.secondary, false);
    let runtime = runtime();
    let mut line = Line::open(&pair.topology, SERVER_V4);
    let mut told = Vec::new();
    let mut keep = |line: &mut Line, names: std::ops::Range<u64>| {
        for name in names {
            line.keep(name, length(name)).unwrap();
            told.push(name);
        }
    };
    keep(&mut line, 0..10);
    refused(&pair);
    keep(&mut line, 10..15);
    let mut primary = runtime.block_on(async {
        let (mut primary, _) = Followed::open("primary", &pair.primary).await.unwrap();
        let (mut secondary, _) = Followed::open("secondary", &pair.secondary).await.unwrap();
        pair.protect(&mut primary, &mut secondary, NEVER).await.unwrap();
        primary
    });
    keep(&mut line, 15..20);

    pair.secondary.process().signal(Signal::STOP).unwrap();
    line.patience(LAST_ANSWER);
    line.keep(20, length(20)).expect_err("the write waits for the secondary");
    runtime.block_on(async {
        let node = command::yank_block_node("colo-nbd0");
        primary.client.call(node).await.unwrap();
        let missed =
            |kind: &EventKind| matches!(kind, EventKind::QuorumBad { node, .. } if node == "colo-nbd0");
        primary.until(missed).await.unwrap();
        primary.client.call(command::quorum_remove("colo-disk0", "children.1")).await.unwrap();
        primary.client.call(command::lost_heartbeat()).await.unwrap();
        primary.until(|kind| *kind == EventKind::Resume).await.unwrap();
    });
    let mut line = Line::open(&pair.topology, SERVER_V4);
    keep(&mut line, 20..30);

    pair.replace(Side::Second, "third").unwrap();
    runtime.block_on(async {
        let (mut third, _) = Followed::open("third", &pair.secondary).await.unwrap();
        pair.protect(&mut primary, &mut third, NEVER).await.unwrap();
        // What is said now is kept by a checkpoint, for the third VM hears no client.
        keep(&mut line, 30..40);
        tokio::time::sleep(Duration::from_millis(500)).await;
        primary.client.call(command::set_checkpoint_delay(NEVER)).await.unwrap();
        for wanted in [EventKind::Stop, EventKind::Resume] {
            third.until(|kind| *kind == wanted).await.unwrap();
        }
        primary.until(|kind| *kind == EventKind::Stop).await.unwrap();
        primary.until(|kind| *kind == EventKind::Resume).await.unwrap();
    });
    pair.primary.process().kill();
    heard(&pair.topology.primary, false);
    heard(&pair.topology.secondary, true);
    take_over(&runtime, &pair.secondary);
    keep(&mut line, 40..50);
    for name in (0..50).step_by(7) {
        assert!(line.show(name) == content::bytes(name, length(name)), "file {name}");
    }
    pair.secondary.process().kill();
    check(&disk::image(&pair.path(""), "third"), &told);
}

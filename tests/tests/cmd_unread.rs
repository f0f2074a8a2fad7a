//! What `colo` says where nobody reads it: a log that stands still, or is closed, costs its lines and nothing else.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use colo_tests::{
    awd::{Node, PULSE, SCRIPT, frame, script},
    lab::child::Programs,
    oracle::{Options, Program, Running, framed},
    samples::address,
    unread::Unread,
};
use colo_user::{
    link::chardev::Framing,
    output::{LINES, MISSING},
    wire::build::{Wrap, udp_frame},
};
use rustix::process::{Pid, Signal, kill_process};

/// How long something may take that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Divergences, each in a flow of its own, and then texts that are not understood: a line of the log for most of them.
const DIVERGENCES: u32 = 2000;
const TEXTS: usize = 2 * LINES;

fn colo() -> PathBuf {
    Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo
}

fn datagram(flow: u32, payload: &[u8]) -> Vec<u8> {
    let guest = SocketAddr::new(IpAddr::from([10, 0, (flow >> 8) as u8, flow as u8]), 53);
    udp_frame(guest, address("192.0.2.9:5000"), payload, &Wrap::default())
}

/// Divergences in a flood, far more lines than a pipe and the queue before it hold, and in the end frames that both say.
fn flood(compare: &mut Running) {
    for flow in 0..DIVERGENCES {
        compare.p(&datagram(flow, b"good"));
        compare.s(&datagram(flow, b"evil"));
    }
    assert_eq!(compare.notices(1, SOON), [b"DO_CHECKPOINT"], "they were seen");
    let text = framed(Framing { vnet_header: false }, b"what is this?");
    for _ in 0..TEXTS {
        compare.notify.write_all(&text).unwrap();
    }
    assert_eq!(compare.settle(), Vec::<Vec<u8>>::new(), "what differs stays");
    compare.checkpoint();
    assert_eq!(compare.released(DIVERGENCES as usize, SOON).len(), DIVERGENCES as usize);
    compare.p(&datagram(0, b"on it goes"));
    compare.s(&datagram(0, b"on it goes"));
    assert_eq!(compare.released(1, SOON), [datagram(0, b"on it goes")]);
}

/// With short waits, so that each divergence is found at once.
fn options() -> Options {
    Options { compare_timeout: 600_000, scan_cycle: 100, ..Options::default() }
}

#[test]
fn compare_goes_on_when_nobody_reads_its_log_and_counts_what_is_missing() {
    let log = Unread::new().unwrap();
    let streams = [None, Some(log.stdio().unwrap())];
    let mut compare = Running::start_to(&Program::Colo(colo()), &options(), streams).unwrap();
    flood(&mut compare);
    assert!(log.is_full().unwrap(), "somebody read it");
    let summary = compare.stop().unwrap();
    let missing = summary.get(MISSING).copied().unwrap_or_default();
    assert!(missing >= (TEXTS - LINES) as u64, "{summary:?}");
    assert_eq!(summary["frames_out"], u64::from(DIVERGENCES) + 2, "{summary:?}");
}

#[test]
fn compare_says_what_is_missing_once_somebody_reads_again() {
    let log = Unread::new().unwrap();
    let streams = [None, Some(log.stdio().unwrap())];
    let mut compare = Running::start_to(&Program::Colo(colo()), &options(), streams).unwrap();
    flood(&mut compare);
    let log = log.read();
    let end = Instant::now() + SOON;
    // The last that was said before the reader came.
    while !log.text().contains("checkpoint: everything held leaves") {
        assert!(Instant::now() < end, "{}", log.text());
        compare.say(b"is there room?");
        compare.checkpoint();
        thread::sleep(Duration::from_millis(50));
    }
    let summary = compare.stop().unwrap();
    let log = log.end();
    let missing = format!("colo: {} lines of this log are missing", summary[MISSING]);
    assert_eq!(log.matches(&missing).count(), 1, "{missing}");
    assert!(log.lines().last().unwrap().contains("stopping"), "the last lines are not lost");
}

#[test]
fn compare_goes_on_when_its_log_is_closed() {
    let log = Unread::new().unwrap();
    let streams = [None, Some(log.stdio().unwrap())];
    let mut compare = Running::start_to(&Program::Colo(colo()), &options(), streams).unwrap();
    log.close();
    flood(&mut compare);
    let summary = compare.stop().unwrap();
    // All but what waits still.
    assert!(summary[MISSING] >= (TEXTS - LINES) as u64, "{summary:?}");
}

#[test]
fn compare_ends_when_nobody_reads_its_counters_either() {
    let streams = Unread::new().unwrap();
    let both = [(); 2].map(|()| Some(streams.stdio().unwrap()));
    let mut compare = Running::start_to(&Program::Colo(colo()), &options(), both).unwrap();
    flood(&mut compare);
    assert!(streams.is_full().unwrap());
    // There is no summary; the exit status is asked for in it.
    compare.stop().unwrap();
}

#[test]
fn the_log_of_one_that_is_read_slowly_is_whole() {
    let log = Unread::new().unwrap();
    let streams = [None, Some(log.stdio().unwrap())];
    let mut compare = Running::start_to(&Program::Colo(colo()), &options(), streams).unwrap();
    for _ in 0..500 {
        compare.say(b"what is this?");
    }
    assert_eq!(compare.settle(), Vec::<Vec<u8>>::new());
    let log = log.read_slowly(Duration::from_millis(1));
    let summary = compare.stop().unwrap();
    let log = log.end();
    assert_eq!(log.matches("what is this?").count(), 500, "{log}");
    assert!(!summary.contains_key(MISSING), "{summary:?}");
    assert!(log.lines().last().unwrap().contains("stopping"), "{log}");
}

/// Waits for the end of a process that is not to hang.
fn end(mut child: Child) -> ExitStatus {
    let end = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it has not ended: {:?}", child.wait());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_command_ends_with_its_exit_status_when_nobody_reads_why() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none").display().to_string();
    let in_use = directory.path().join("in-use");
    fs::write(&in_use, "").unwrap();
    let wrong = format!("unix:{}/no/such/directory,server=on", directory.path().display());
    let agent =
        |role| [role, "--guest", "no-such-guest", "--uplink", "no-such-up", "--peer", "unix:/nowhere"];
    let control = ["--control", &nowhere];
    let cases: [(&[&str], i32); 13] = [
        (&[], 2),
        (&["compare"], 2),
        (&["compare", "--max-queue-size", "0"], 2),
        (&["compare", "--primary-in", &wrong, "--secondary-in", &wrong, "--out", &wrong], 1),
        (&["diff", &nowhere, &nowhere], 2),
        (&["status", "--control", &nowhere], 2),
        (&["promote", "--force", "--control", &nowhere], 2),
        (&["failover"], 2),
        (&["detach", "--guest", "no-such-guest", "--uplink", "no-such-up"], 1),
        (&["watchdog", "--config", &nowhere], 2),
        (&["protect", "--primary", "unix:/a", "--secondary", "unix:/a", "--uri", "unix:/b"], 2),
        (&[&agent("primary")[..], &control].concat(), 1),
        (&[&agent("secondary")[..], &control].concat(), 1),
    ];
    for (words, code) in cases {
        for closed in [false, true] {
            let log = Unread::new().unwrap();
            let streams = [(); 2].map(|()| log.stdio().unwrap());
            let [stdout, stderr] = streams;
            // To print a result it may wait; an error it may not.
            let child = Command::new(colo()).args(words).stdout(stdout).stderr(stderr).spawn().unwrap();
            let log = if closed {
                log.close();
                None
            } else {
                Some(log)
            };
            assert_eq!(end(child).code(), Some(code), "colo {words:?}, closed: {closed}");
            drop(log);
        }
    }
}

#[test]
fn protect_that_waits_is_ended_though_nobody_reads_what_it_waits_for() {
    let streams = Unread::new().unwrap();
    let child = Command::new(colo())
        .args(["protect", "--watch", "--json", "--primary", "unix:/nowhere/a", "--secondary"])
        .args(["unix:/nowhere/b", "--uri", "tcp:127.0.0.1:1", "--back-uri", "tcp:127.0.0.1:2"])
        .stdout(streams.stdio().unwrap())
        .stderr(streams.stdio().unwrap())
        .spawn()
        .unwrap();
    // It catches signals from its first turn on: asked before, it has ended by the signal itself.
    let term = Pid::from_child(&child);
    thread::sleep(Duration::from_secs(2));
    kill_process(term, Signal::TERM).unwrap();
    assert_eq!(end(child).code(), Some(0));
}

#[test]
fn the_watchdog_beats_says_its_script_and_runs_its_command_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (awd, notification) = (Node::new(dir, "awd", true), Node::new(dir, "notification", true));
    let (file, ran) = (dir.join("script"), dir.join("ran"));
    fs::write(&file, SCRIPT).unwrap();
    // The command says more than any pipe holds, ahead of what it is there for.
    let command =
        format!("exec:yes out | head -n 200000; yes err | head -n 200000 >&2; echo ran >> {}", ran.display());
    let streams = Unread::new().unwrap();
    let mut child = Command::new(colo())
        .args(["watchdog", "--json", "--server", "--awd-node", &awd.endpoint()])
        .args(["--notification-node", &notification.endpoint(), "--opt-script"])
        .arg(&file)
        .args(["--pulse-interval", "50", "--timeout", "1500", "--on-timeout", &command])
        .stdin(Stdio::null())
        .stdout(streams.stdio().unwrap())
        .stderr(streams.stdio().unwrap())
        .spawn()
        .unwrap();
    let (mut peer, mut monitor) = (awd.meet(), notification.meet());
    let runs = || fs::read_to_string(&ran).map_or(0, |text| text.lines().count());
    for timeout in 1..=2 {
        for _ in 0..20 {
            assert_eq!(frame(&mut peer), PULSE);
        }
        peer.write_all(PULSE).unwrap();
        // Each reading of the script is a line of both kinds.
        for _ in 0..50 {
            kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
        }
        script(&mut monitor, SCRIPT);
        let end = Instant::now() + SOON;
        while runs() < timeout {
            assert!(Instant::now() < end, "the command of timeout {timeout} stands in a write");
            // Its pulses go on meanwhile.
            assert_eq!(frame(&mut peer), PULSE);
        }
    }
    assert!(streams.is_full().unwrap() && child.try_wait().unwrap().is_none());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(end(child).code(), Some(0));
}

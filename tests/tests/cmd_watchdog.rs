//! `colo watchdog` as a process, against a peer that speaks the original's frames.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use colo_tests::{
    awd::{Dog, Node, PULSE, REPLY, SCRIPT, SOON, Set, frame, ms, script, silence},
    lab::child::Programs,
};
use rustix::process::Signal;
use serde_json::Value;

fn colo() -> Command {
    Command::new(Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo)
}

#[test]
fn pulses_and_replies_are_the_originals_in_both_roles_and_directions() {
    for (server, listens) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut more = vec!["--pulse-interval", "400", "--timeout", "600000"];
        more.push(match (server, listens) {
            (true, true) => "--server",
            (true, false) => "--server=on",
            (false, _) => "--server=off",
        });
        let set = Set::new(colo(), listens, &more);
        let mut peer = set.peer();
        for nth in 1..=3 {
            assert_eq!(frame(&mut peer), PULSE, "server {server}, listens {listens}");
            assert!(set.dog.started.elapsed() >= ms(400) * nth, "not before its time, and none on connect");
        }
        for said in [PULSE, b"\x00\x00\x00\x02hi", b"\x00\x00\x00\x00"] {
            peer.write_all(said).unwrap();
        }
        set.dog.state("alive");
        let heard: Vec<_> = (0..8).map(|_| frame(&mut peer)).collect();
        let replies = heard.iter().filter(|frame| **frame == REPLY).count();
        assert_eq!(replies, if server { 0 } else { 3 }, "server {server}, listens {listens}");
        assert!(heard.iter().all(|frame| frame == PULSE || frame == REPLY));
        assert_eq!(set.dog.end().code(), Some(0));
    }
}

#[test]
fn over_tcp_too_and_without_a_line_of_log_for_each_pulse() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, SCRIPT).unwrap();
    let log = dir.path().join("log");
    let child = colo()
        .args(["watchdog", "--json", "--awd-node", "tcp:127.0.0.1:0,server=on"])
        .args(["--notification-node", "tcp:127.0.0.1:0,server=on", "--opt-script"])
        .arg(&script)
        .args(["--pulse-interval", "10", "--timeout", "600000"])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).unwrap())
        .spawn();
    let mut child = child.unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["event"], &line["node"]), (&"listening".into(), &"awd_node".into()));
    let mut peer =
        TcpStream::connect(line["address"].as_str().unwrap().strip_prefix("tcp:").unwrap()).unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    let mut replies = 0;
    for _ in 0..100 {
        peer.write_all(PULSE).unwrap();
        replies += usize::from(frame(&mut peer) == REPLY);
    }
    assert!(replies >= 50);
    child.kill().unwrap();
    child.wait().unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.lines().count() < 10, "{said}");
}

#[test]
fn a_peer_that_is_heard_is_left_alone_and_one_that_falls_silent_is_not() {
    let set = Set::new(colo(), true, &["--server", "--timeout", "3000", "--pulse-interval", "60000"]);
    let (mut peer, mut monitor) = (set.peer(), set.monitor());
    let mut last = Instant::now();
    for _ in 0..45 {
        last = Instant::now();
        peer.write_all(PULSE).unwrap();
        silence(&mut monitor, ms(100));
    }
    script(&mut monitor, SCRIPT);
    assert!(last.elapsed() >= ms(3000));
    assert!(set.dog.state("timed-out")["silent_ms"].as_u64().unwrap() >= 3000);
}

#[test]
fn a_timeout_is_within_a_tenth_of_the_set_value() {
    let set = Set::new(colo(), false, &["--timeout", "500", "--pulse-interval", "60000"]);
    let (mut peer, mut monitor) = (set.peer(), set.monitor());
    let mut measured = Vec::new();
    // A busy machine may delay any one of them, but hardly all.
    while measured.iter().all(|&time| time > ms(550)) {
        assert!(measured.len() < 20, "{measured:?}");
        let sent = Instant::now();
        peer.write_all(PULSE).unwrap();
        set.dog.state("alive");
        script(&mut monitor, SCRIPT);
        measured.push(sent.elapsed());
        assert!(measured.iter().all(|&time| time >= ms(500)), "{measured:?}");
    }
}

#[test]
fn each_timeout_says_the_script_once_after_reconnects_of_either_node_too() {
    for listens in [true, false] {
        let set = Set::new(colo(), listens, &["--server", "--timeout", "1500", "--pulse-interval", "60000"]);
        let mut monitor = set.monitor();
        let mut peer = set.peer();
        peer.write_all(PULSE).unwrap();
        script(&mut monitor, SCRIPT);
        silence(&mut monitor, ms(3500));

        // The peer comes back, and is lost again.
        drop(peer);
        let mut peer = set.peer();
        silence(&mut monitor, ms(200));
        peer.write_all(PULSE).unwrap();
        script(&mut monitor, SCRIPT);

        // The monitor comes back: nothing is owed to it, until the next timeout.
        drop(monitor);
        let mut monitor = set.monitor();
        silence(&mut monitor, ms(500));
        peer.write_all(PULSE).unwrap();
        script(&mut monitor, SCRIPT);

        // The monitor is away at the timeout: the script waits for it.
        drop(monitor);
        set.dog.wait_for("disconnected", |line| line["node"] == "notification_node");
        peer.write_all(PULSE).unwrap();
        if listens {
            // Here colo connects, and the listener's queue is what it would reach.
            fs::rename(&set.notification.path, set.dir.path().join("away")).unwrap();
        }
        set.dog.state("timed-out");
        if listens {
            fs::rename(set.dir.path().join("away"), &set.notification.path).unwrap();
        }
        let mut monitor = set.notification.meet();
        script_after_empty(&set, &mut monitor);
        silence(&mut monitor, ms(500));
    }
}

/// The script on this connection, or on the next one if this was begun before the monitor was away.
#[track_caller]
fn script_after_empty(set: &Set, monitor: &mut UnixStream) {
    let mut bytes = vec![0; SCRIPT.len()];
    if monitor.read_exact(&mut bytes).is_err() {
        *monitor = set.notification.meet();
        monitor.read_exact(&mut bytes).expect("the script");
    }
    assert_eq!(bytes, SCRIPT.as_bytes());
}

#[test]
fn a_peer_that_never_comes_is_missed() {
    for listens in [true, false] {
        let mut set = Set::new(colo(), listens, &["--timeout", "700"]);
        set.awd.listener = None;
        let mut monitor = set.notification.meet();
        script(&mut monitor, SCRIPT);
        assert!(set.dog.started.elapsed() >= ms(700));
        assert_eq!(set.dog.state("timed-out")["was"], "never-seen");
        silence(&mut monitor, ms(1000));
    }
}

#[test]
fn a_bad_frame_costs_its_connection_alone() {
    let set = Set::new(colo(), true, &["--pulse-interval", "200", "--timeout", "600000"]);
    let mut good = set.peer();
    good.write_all(PULSE).unwrap();
    set.dog.state("alive");
    for bad in [&b"\xff\xff\xff\xff"[..], b"\x00\x01\x10\x01", b"QMP{\"execute\""] {
        let mut peer = set.peer();
        peer.write_all(bad).unwrap();
        let line = set.dog.wait_for("disconnected", |line| line["node"] == "awd_node");
        assert!(line["reason"].as_str().unwrap().contains("bad frame"), "{line}");
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).expect("closed");
    }
    let mut cut = set.peer();
    cut.write_all(&PULSE[..9]).unwrap();
    drop(cut);
    let line = set.dog.wait_for("disconnected", |line| line["node"] == "awd_node");
    assert!(line["reason"].as_str().unwrap().contains("middle of a frame"), "{line}");
    // The longest legal frame, in two pieces, on a connection that was there all along.
    let mut longest = vec![0xa5; 4 + 69_632];
    longest[..4].copy_from_slice(&69_632_u32.to_be_bytes());
    good.write_all(&longest[..30_000]).unwrap();
    thread::sleep(ms(50));
    good.write_all(&longest[30_000..]).unwrap();
    let replies = (0..).map(|_| frame(&mut good)).filter(|frame| frame == REPLY).take(2).count();
    assert_eq!(replies, 2);
}

#[test]
fn each_frame_of_a_burst_is_answered() {
    let set = Set::new(colo(), true, &["--pulse-interval", "60000", "--timeout", "600000"]);
    let mut peer = set.peer();
    let mut burst = peer.try_clone().unwrap();
    let writer = thread::spawn(move || burst.write_all(&PULSE.repeat(2000)).unwrap());
    for _ in 0..2000 {
        assert_eq!(frame(&mut peer), REPLY);
    }
    writer.join().unwrap();
    silence(&mut peer, ms(100));
}

#[test]
fn a_watchdog_that_was_not_run_does_not_blame_its_peer() {
    let set = Set::new(colo(), true, &["--server", "--timeout", "1500", "--pulse-interval", "60000"]);
    let (mut peer, mut monitor) = (set.peer(), set.monitor());
    peer.write_all(PULSE).unwrap();
    set.dog.state("alive");
    set.dog.signal(Signal::STOP);
    for _ in 0..25 {
        peer.write_all(PULSE).unwrap();
        thread::sleep(ms(100));
    }
    let last = Instant::now();
    peer.write_all(PULSE).unwrap();
    set.dog.signal(Signal::CONT);
    script(&mut monitor, SCRIPT);
    assert!(last.elapsed() >= ms(1500), "after {:?}", last.elapsed());
}

#[test]
fn debounce_lets_timeouts_pass() {
    let set = Set::new(
        colo(),
        true,
        &["--server", "--timeout", "400", "--debounce", "2", "--pulse-interval", "60000"],
    );
    let (mut peer, mut monitor) = (set.peer(), set.monitor());
    let sent = Instant::now();
    peer.write_all(PULSE).unwrap();
    script(&mut monitor, SCRIPT);
    assert!(sent.elapsed() >= ms(1200));
    set.dog.state("late");
    assert_eq!(set.dog.state("timed-out")["was"], "late");
}

#[test]
fn the_script_is_read_again_on_sighup() {
    let set = Set::new(colo(), true, &["--server", "--timeout", "500", "--pulse-interval", "60000"]);
    let mut monitor = set.monitor();
    script(&mut monitor, SCRIPT);
    let path = set.dir.path().join("script");
    let mut peer = set.peer();
    for (text, wanted) in [("quit\n", "quit\n"), ("", "quit\n")] {
        fs::write(&path, text).unwrap();
        set.dog.signal(Signal::HUP);
        let line = set.dog.wait_for("script_read", |_| true);
        assert_eq!(line["error"].is_string(), text.is_empty(), "{line}");
        peer.write_all(PULSE).unwrap();
        script(&mut monitor, wanted);
    }
}

#[test]
fn a_command_runs_at_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let action = format!("exec:echo $COLO_WATCHDOG $COLO_SILENT_MS >> {}", seen.display());
    let awd = format!("unix:{},server=on", dir.path().join("awd").display());
    let dog = Dog::start(
        colo(),
        dir.path(),
        &["--name", "vm7", "--awd-node", &awd, "--on-timeout", &action, "--timeout", "300"],
    );
    assert_eq!(dog.wait_for("command", |_| true)["outcome"], "exit status: 0");
    let text = fs::read_to_string(&seen).unwrap();
    let (name, silent) = text.trim().split_once(' ').unwrap();
    assert!(name == "vm7" && silent.parse::<u64>().unwrap() >= 300, "{text}");
}

/// A QEMU without a machine, ended on drop.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_qemu_is_told_each_command_at_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let commands = path("commands");
    fs::write(&commands, "{\"execute\":\"stop\"}\n").unwrap();
    let (awd, qmp) = (format!("unix:{},server=on", path("awd")), format!("qmp:unix:{}", path("qmp")));
    let arguments =
        ["--awd-node", &awd, "--on-timeout", &qmp, "--qmp-script", &commands, "--timeout", "1000"];
    let dog = Dog::start(colo(), dir.path(), &[&arguments[..], &["--pulse-interval", "60000"]].concat());
    fs::write(&commands, "{\"execute\":\"dance\"}\n{\"execute\":\"stop\"}\n").unwrap();
    dog.signal(Signal::HUP);
    assert_eq!(dog.wait_for("commands_read", |_| true)["commands"], 2);
    // Its monitor comes after the timeout.
    dog.state("timed-out");
    let monitor = format!("unix:{},server=on,wait=off", path("qmp"));
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "none", "-nodefaults", "-display", "none", "-qmp", &monitor])
        .spawn();
    let _qemu = Qemu(qemu.unwrap());
    let refused = dog.wait_for("command", |_| true);
    assert_eq!(refused["execute"], "dance");
    assert!(refused["outcome"].as_str().unwrap().contains("dance has not been found"), "{refused}");
    let done = dog.wait_for("command", |_| true);
    assert_eq!((&done["execute"], &done["outcome"]), (&"stop".into(), &"done".into()));
    // The monitor is free again, and the guest stands still.
    let mut qmp = UnixStream::connect(path("qmp")).unwrap();
    qmp.set_read_timeout(Some(SOON)).unwrap();
    qmp.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n").unwrap();
    let lines = BufReader::new(qmp).lines().map_while(Result::ok);
    let status = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let status = status.map(|line| line["return"]["status"].clone()).find(Value::is_string);
    assert_eq!(status.unwrap(), "paused");
}

#[test]
fn several_watchdogs_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let script_file = dir.path().join("script");
    fs::write(&script_file, SCRIPT).unwrap();
    let nodes =
        |name: &str| (Node::new(dir.path(), &format!("{name}.awd"), true), Node::new(dir.path(), name, true));
    let (one, two) = (nodes("one"), nodes("two"));
    let entry = |name: &str, (awd, notification): &(Node, Node), timeout: u32| {
        format!(
            "[[watchdog]]\nname = {name:?}\nserver = true\nawd_node = {:?}\nnotification_node = {:?}\nopt_script = {script_file:?}\n\
             pulse_interval = 100\ntimeout = {timeout}\n",
            awd.endpoint(),
            notification.endpoint()
        )
    };
    let config = dir.path().join("watchdogs.toml");
    fs::write(&config, entry("one", &one, 600_000) + &entry("two", &two, 400)).unwrap();
    let dog = Dog::start(colo(), dir.path(), &["--config", config.to_str().unwrap()]);
    let (mut first, mut second) = (one.1.meet(), two.1.meet());
    script(&mut second, SCRIPT);
    assert_eq!(dog.state("timed-out")["watchdog"], "two");
    silence(&mut first, ms(200));
    assert_eq!(frame(&mut one.0.meet()), PULSE);
    assert_eq!(dog.end().code(), Some(0));
    assert!(!one.0.path.exists(), "its sockets are gone");
}

#[test]
fn it_needs_no_root() {
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    // Where it was built may be closed to others.
    let copy = dir.path().join("colo");
    fs::copy(colo().get_program(), &copy).unwrap();
    let script_file = dir.path().join("script");
    fs::write(&script_file, SCRIPT).unwrap();
    let [awd, notification] = ["awd", "notification"].map(|name| Node::new(dir.path(), name, true));
    let ends = [awd.endpoint(), notification.endpoint(), script_file.display().to_string()];
    let mut unprivileged = Command::new(copy);
    unprivileged.uid(NOBODY).gid(NOBODY);
    let dog = Dog::start(
        unprivileged,
        dir.path(),
        &[
            "--awd-node",
            &ends[0],
            "--notification-node",
            &ends[1],
            "--opt-script",
            &ends[2],
            "--timeout",
            "300",
        ],
    );
    assert_eq!(fs::metadata(&awd.path).unwrap().uid(), NOBODY);
    script(&mut notification.meet(), SCRIPT);
    assert_eq!(dog.end().code(), Some(0));
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("config"), "[[watchdog]]\nname = 'x'\n").unwrap();
    fs::write(path("script"), SCRIPT).unwrap();
    let awd = format!("unix:{}", path("awd"));
    let taken = format!("unix:{},server=on", path("script"));
    let free = format!("unix:{},server=on", path("free"));
    let run = |arguments: &[&str]| {
        let output = colo().arg("watchdog").args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (script, missing, config) = (path("script"), path("missing"), path("config"));
    let with = |more: &[&str]| {
        let base = ["--awd-node", &awd, "--notification-node", &awd, "--opt-script"];
        run(&[&base[..], more].concat())
    };
    for (outcome, code, said) in [
        (with(&[&missing]), 1, "missing"),
        (
            run(&["--awd-node", &taken, "--notification-node", &awd, "--opt-script", &script]),
            1,
            "not a socket",
        ),
        (
            with(&[&script, "--timeout", "0"]),
            2,
            "'--timeout <MS>': `0` is no whole number of milliseconds from 1 to",
        ),
        (with(&[&script, "--pulse-interval", "-5"]), 2, "'--pulse-interval <MS>': `-5` is no whole number"),
        (with(&[&script, "--timeout", "4294967296"]), 2, "from 1 to 4294967295"),
        (with(&[&script, "--pulse_interval", "fast"]), 2, "`fast` is no whole number"),
        (with(&[&script, "--debounce", "-1"]), 2, "-1 is not in 0..="),
        (with(&[&script, "--server=maybe"]), 2, "--server"),
        (with(&[&script, "--name", " "]), 2, "name is empty"),
        (
            run(&["--awd_node", &free, "--notification_node", &free, "--opt_script", &script]),
            2,
            "watchdog `watchdog`: unix:",
        ),
        (run(&["--awd-node", &awd]), 2, "--opt-script"),
        (run(&["--awd-node", &awd, "--on-timeout", "reboot"]), 2, "exec:COMMAND"),
        (run(&["--awd-node", &awd, "--on-timeout", "qmp:unix:/nowhere"]), 2, "qmp_script"),
        (run(&["--config", &config]), 2, "awd_node"),
        (run(&["--config", &config, "--timeout", "5"]), 2, "--config"),
    ] {
        assert!(outcome.0 == code && outcome.1.contains(said), "wanted {code} and `{said}`: {outcome:?}");
    }
}

//! Two agents with a heartbeat link besides their own: what each loss is called, and what it costs.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    agents::{Agents, Options, Role, Status},
    child::Programs,
    load::{self, Load, Work},
    stage::Stage,
    topology::{CAPTURE, SERVER_V4, SERVER_V6, Wires},
    witness,
};
use colo_user::output::{LINES, MISSING};
use colo_user::process::UNLOGGED;
use rustix::process::Signal;
use serde_json::Value;

/// How long anything may take; the limits of the agents are far below, or above.
const PATIENCE: Duration = Duration::from_secs(20);
/// A peer timeout that never passes here: what is found, the heartbeats have found.
const NEVER_BY_TIMEOUT: &str = "600000";

static NEVER: AtomicBool = AtomicBool::new(false);

struct Lab {
    agents: Agents,
    stage: Stage,
}

impl Lab {
    /// Agents with a second wire between their hosts, which beat each 20 ms and may miss `multiplier` of them.
    fn new(multiplier: &str, peer_timeout: &str) -> Self {
        Self::with(multiplier, peer_timeout, Options::default())
    }

    /// The same with more options.
    fn with(multiplier: &str, peer_timeout: &str, more: Options) -> Self {
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let stage = Stage::new(&programs, Wires::Veth).unwrap();
        let (primary, secondary) = (&stage.topology.primary.netns, &stage.topology.secondary.netns);
        primary.veth("beat0", secondary, "beat0").unwrap();
        primary.run("ip addr add 10.98.0.1/24 dev beat0").unwrap();
        secondary.run("ip addr add 10.98.0.2/24 dev beat0").unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut options = Options::patient(&[
            "--pair",
            "lab",
            "--heartbeat-interval",
            "20",
            "--heartbeat-multiplier",
            multiplier,
            "--peer-timeout",
            peer_timeout,
        ]);
        options.primary.extend(words(&["--heartbeat", "udp:10.98.0.2:9701@10.98.0.1:9701"]));
        options.secondary.extend(words(&["--heartbeat", "udp:10.98.0.1:9701"]));
        options.primary.extend(more.primary);
        options.unread = more.unread;
        let agents = Agents::start(&stage, options).unwrap();
        let mut lab = Self { agents, stage };
        lab.agents.wait_protected(&NEVER).unwrap();
        lab.until("the peer's beats", |status| is(status, "peer", "alive") && link(status, 1)["heard"] != 0);
        lab
    }

    fn until(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        self.agents.wait_for(what, PATIENCE, &NEVER, wanted).unwrap()
    }
}

fn heartbeat(status: &Status) -> &Value {
    &status.json()["heartbeat"]
}

fn is(status: &Status, field: &str, value: &str) -> bool {
    heartbeat(status)[field] == value
}

fn link(status: &Status, link: usize) -> &Value {
    &heartbeat(status)["links"][link]
}

#[test]
fn an_agent_that_stops_is_silent_on_all_links_and_its_return_a_false_alarm() {
    let mut lab = Lab::new("4", NEVER_BY_TIMEOUT);
    lab.agents.process(Role::Secondary).signal(Signal::STOP).unwrap();
    let stopped = Instant::now();
    let lost = lab.until("the loss", |status| is(status, "peer", "lost") && !status.is_protected());
    println!("lost {:?} after the stop, by the status; set are 80 ms", stopped.elapsed());
    assert_eq!(lost.json()["reason"], "peer silent");
    assert_eq!(heartbeat(&lost)["reason"], "all links silent");
    lab.agents.process(Role::Secondary).signal(Signal::CONT).unwrap();
    lab.agents.wait_protected(&NEVER).unwrap();
    let back = lab.until("the return", |status| !is(status, "peer", "lost"));
    let shown = heartbeat(&back);
    assert!(shown["false_alarms"].as_u64() >= Some(1) && shown["restarts"] == 0, "{shown}");
    assert!(shown["false_alarms_per_hour"].as_f64() > Some(0.0), "{shown}");
}

#[test]
fn a_lost_link_beside_a_living_peer_is_a_lost_link() {
    let mut lab = Lab::new("50", "2000");
    let secondary = |lab: &Lab, what: &str| {
        lab.stage.topology.secondary.netns.run(&format!("ip link set {what}")).unwrap();
    };
    // The one for heartbeats alone: nothing is lost but its name.
    secondary(&lab, "beat0 down");
    let status = lab.until("the loss of one link", |status| is(status, "reason", "link lost"));
    assert!(status.is_protected(), "{}", status.json());
    assert_eq!((&link(&status, 0)["state"], &link(&status, 1)["state"]), (&"alive".into(), &"lost".into()));
    secondary(&lab, "beat0 up");
    lab.until("its return", |status| is(status, "reason", "beats in time"));
    // The one between the agents: not protected, and why.
    secondary(&lab, "link0 down");
    let status = lab.until("the loss of the link", |status| !status.is_protected());
    assert_eq!(status.json()["reason"], "link lost", "{}", status.json());
    assert!(is(&status, "peer", "alive") && is(&status, "reason", "link lost"), "{}", status.json());
    assert_eq!(link(&status, 0)["state"], "lost");
    secondary(&lab, "link0 up");
    let status = lab.agents.wait_protected(&NEVER).unwrap();
    assert_eq!(heartbeat(&status)["restarts"], 0);
    // Both: the peer is lost, whoever it was.
    secondary(&lab, "beat0 down");
    secondary(&lab, "link0 down");
    let status =
        lab.until("the loss of the peer", |status| is(status, "peer", "lost") && !status.is_protected());
    assert_eq!(status.json()["reason"], "peer silent", "{}", status.json());
}

#[test]
fn an_agent_that_was_started_anew_is_another_and_no_false_alarm() {
    let mut lab = Lab::new("50", NEVER_BY_TIMEOUT);
    lab.agents.process(Role::Secondary).kill();
    lab.until("the loss", |status| !status.is_protected());
    lab.agents.restart(&lab.stage, Role::Secondary).unwrap();
    lab.agents.wait_protected(&NEVER).unwrap();
    let status = lab.until("the restart", |status| heartbeat(status)["restarts"] == 1);
    assert_eq!(heartbeat(&status)["false_alarms"], 0, "{}", status.json());
}

#[test]
fn both_know_an_uplink_without_carrier() {
    let mut lab = Lab::new("50", NEVER_BY_TIMEOUT);
    lab.until("the carrier", |status| heartbeat(status)["uplink_carrier"] == true);
    lab.stage.topology.client.run(&format!("ip link set {CAPTURE} down")).unwrap();
    lab.until("the loss of carrier", |status| heartbeat(status)["uplink_carrier"] == false);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = lab.agents.status(Role::Secondary).unwrap();
        let shown = heartbeat(&status);
        if shown["peer_uplink_carrier"] == false {
            assert_eq!(shown["uplink_carrier"], true, "{shown}");
            break;
        }
        assert!(Instant::now() < deadline, "the secondary does not know: {shown}");
    }
    lab.stage.topology.client.run(&format!("ip link set {CAPTURE} up")).unwrap();
    lab.until("the carrier again", |status| heartbeat(status)["uplink_carrier"] == true);
}

/// Requests that are answered right while all else happens.
fn others(lab: &Lab, time: Duration) {
    let loads = [
        Load::once("download", SERVER_V6, Work::Download { length: 1 << 20, close: false }),
        Load::once("lines", SERVER_V4, Work::Lines { length: 64 }),
        Load::once("datagrams", SERVER_V4, Work::Echo { length: 64 }),
    ]
    .map(|load| Load { at_most: u64::MAX, pause: Duration::from_millis(5), ..load });
    for outcome in load::run(&lab.stage.topology.client, &loads, Instant::now() + time, &NEVER) {
        assert!(outcome.done > 0 && outcome.failed == 0, "{outcome:?}");
    }
}

#[test]
fn agents_whose_log_nobody_reads_beat_compare_ask_and_lose_a_peer_all_the_same() {
    const LENGTH: u64 = 300_000;
    const SEED: u64 = 1 << 60;
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    // It says more than any pipe holds, on both streams, ahead of what it is there for.
    let flood = "yes out | head -n 100000; yes err | head -n 100000 >&2";
    // It then runs on, until the agent ends.
    let hook = format!("exec:{flood}; echo $$ $COLO_KIND >> {}; exec sleep 1000", asked.display());
    let primary = vec!["--checkpoint".to_owned(), hook];
    let mut lab = Lab::with("50", "2000", Options { unread: true, primary, ..Options::default() });

    // A divergence: what differs stays, the checkpoint is asked for, and all else goes on.
    lab.stage.secondary.differ(&load::path(SEED, LENGTH), LENGTH / 2).unwrap();
    let witnessed = thread::scope(|scope| {
        let rest = scope.spawn(|| others(&lab, Duration::from_secs(5)));
        let witnessed = witness::download(&lab.stage, SEED, LENGTH, Duration::from_secs(3), &NEVER).unwrap();
        rest.join().unwrap();
        witnessed
    });
    assert!(witnessed.error.is_some(), "the client got what only one replica said");
    let status = lab.until("the hook's end", |status| {
        fs::read_to_string(&asked).is_ok_and(|kinds| kinds.contains("payload"))
            && status.count(UNLOGGED).is_ok_and(|lines| lines > 0)
    });
    assert!(status.is_protected(), "{}", status.json());

    // More lines than there is room for, of which each thread of an agent has some.
    for role in [Role::Primary, Role::Secondary] {
        let control = lab.stage.path(&format!("{}.sock", role.name()));
        let end = Instant::now() + 3 * PATIENCE;
        while lab.agents.status(role).unwrap().count(MISSING).unwrap() == 0 {
            assert!(Instant::now() < end, "nothing is dropped");
            // Whoever asks and leaves is a line.
            for _ in 0..LINES / 8 {
                let mut stream = UnixStream::connect(&control).unwrap();
                stream.write_all(b"{\"command\":\"status\"}\n").unwrap();
            }
        }
        assert!(lab.agents.process(role).is_unread().unwrap());
    }
    others(&lab, Duration::from_secs(1));

    // The peer falls silent, and comes back.
    lab.agents.process(Role::Secondary).signal(Signal::STOP).unwrap();
    lab.until("the loss", |status| is(status, "peer", "lost") && !status.is_protected());
    lab.agents.process(Role::Secondary).signal(Signal::CONT).unwrap();
    lab.agents.wait_protected(&NEVER).unwrap();
    lab.until("the peer's beats", |status| is(status, "peer", "alive"));

    // The log is closed for good: nobody minds, and each ends as it is told, with the command that it runs.
    for role in [Role::Primary, Role::Secondary] {
        lab.agents.process(role).take_unread().unwrap().close();
    }
    others(&lab, Duration::from_secs(1));
    assert!(lab.agents.status(Role::Primary).unwrap().is_protected());
    let newest = || {
        let runs = fs::read_to_string(&asked).unwrap();
        runs.lines().last().and_then(|run| run.split(' ').next()).unwrap().to_owned()
    };
    lab.until("a hook that runs", |_| sleeps(&newest()));
    let hook = newest();
    for role in [Role::Primary, Role::Secondary] {
        let process = lab.agents.process(role);
        assert!(process.stop(), "it had to be killed");
        assert!(process.ended().unwrap().success());
    }
    // It was killed before its agent's end.
    assert!(!sleeps(&hook), "it is left behind");
}

/// Whether a process is one that sleeps by the command, and has not ended.
fn sleeps(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.contains("(sleep) ") && !stat.contains(") Z "))
}

#[test]
fn agents_end_in_order_though_nobody_reads_their_last_words() {
    let mut lab = Lab::with("50", "2000", Options { unread: true, ..Options::default() });
    for role in [Role::Secondary, Role::Primary] {
        let process = lab.agents.process(role);
        assert!(process.stop(), "it had to be killed");
        assert!(process.ended().unwrap().success() && process.is_unread().unwrap());
    }
}

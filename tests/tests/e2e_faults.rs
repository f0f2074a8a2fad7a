//! A secondary that lags, loses frames or restarts: named, the policy applied, clients unharmed.

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::{
    agents::{Agents, Options, Role, Status},
    child::{Programs, Tethered},
    load::{self, Load, Outcome, Work},
    relay::Way,
    stage::Stage,
    topology::{SERVER_V4, SERVER_V6, Wires},
    witness,
};
use rustix::process::Signal;

/// How long the primary may take to see that the secondary is gone.
const UNTIL_NOTICED: Duration = Duration::from_secs(15);

static NEVER: AtomicBool = AtomicBool::new(false);

struct Lab {
    agents: Agents,
    stage: Stage,
}

impl Lab {
    fn new(wires: Wires, mut options: Options, primary: &[&str]) -> Self {
        let stage = Stage::new(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), wires).unwrap();
        options.primary.extend(primary.iter().map(|word| (*word).to_owned()));
        let mut agents = Agents::start(&stage, options).unwrap();
        agents.wait_protected(&NEVER).unwrap();
        Self { agents, stage }
    }

    /// Runs loads for `seconds` while `fault` happens.
    fn during(
        &mut self,
        loads: &[Load],
        seconds: u64,
        fault: impl FnOnce(&mut Agents, &Stage),
    ) -> Vec<Outcome> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let (agents, stage) = (&mut self.agents, &self.stage);
        thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&stage.topology.client, loads, end, &NEVER));
            fault(agents, stage);
            load.join().unwrap()
        })
    }

    fn status(&self) -> Status {
        self.agents.status(Role::Primary).unwrap()
    }

    /// New flows are compared and right.
    fn protects_new_flows(&mut self) {
        let before = self.agents.wait_protected(&NEVER).unwrap().compared().unwrap();
        unharmed(&self.during(&loads(3), 30, |_, _| {}));
        let after = self.status();
        assert!(after.compared().unwrap() > before, "{}", after.json());
    }
}

fn loads(at_most: u64) -> Vec<Load> {
    [
        Load::once("download", SERVER_V4, Work::Download { length: 1 << 20, close: true }),
        Load::once("upload", SERVER_V6, Work::Upload { length: 1 << 20 }),
        Load::once("lines", SERVER_V4, Work::Lines { length: 1024 }),
        Load::once("short", SERVER_V6, Work::Short { length: 1 }),
    ]
    .map(|load| Load { at_most, pause: Duration::from_millis(5), ..load })
    .to_vec()
}

fn unharmed(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.done > 0 && outcome.failed == 0, "{outcome:?}");
    }
}

/// The guest's wire loses a frame of each `every` from now on; 0 ends it.
fn lose(stage: &Stage, ways: &[Way], every: u64) {
    ways.iter().for_each(|&way| stage.topology.secondary.lose(way, 1, every));
}

/// Stops a process for a while.
fn pause(process: &Tethered, pause: Duration) {
    process.signal(Signal::STOP).unwrap();
    thread::sleep(pause);
    process.signal(Signal::CONT).unwrap();
}

#[test]
fn a_replica_that_lags_within_the_wait_costs_nothing_but_time() {
    let mut lab = Lab::new(Wires::Veth, Options::waiting(8000, 9000), &[]);
    let outcomes = lab.during(&loads(u64::MAX), 8, |_, stage| {
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(800));
            // Longer than several of a guest's retransmission timeouts.
            pause(&stage.secondary.process, Duration::from_millis(1200));
        }
    });
    unharmed(&outcomes);
    let slowest = outcomes.iter().map(|outcome| outcome.percentile(100)).max().unwrap();
    assert!(slowest >= Duration::from_secs(1), "the lag was not felt: {outcomes:?}");
    let status = lab.status();
    assert_eq!((status.checkpoints(), status.divergences().len()), (0, 0), "{}", status.json());
}

#[test]
fn a_replica_that_lags_beyond_the_wait_is_named() {
    let mut lab = Lab::new(Wires::Veth, Options::waiting(300, 600), &[]);
    let outcomes = lab.during(&loads(u64::MAX), 6, |_, stage| {
        thread::sleep(Duration::from_secs(1));
        pause(&stage.secondary.process, Duration::from_secs(2));
    });
    unharmed(&outcomes);
    let status = lab.status();
    assert!(status.checkpoints() > 0, "{}", status.json());
    assert!(status.count("divergence_late_secondary").unwrap() > 0, "{}", status.json());
    assert_eq!(status.count("divergence_payload").unwrap(), 0, "{}", status.json());
    lab.protects_new_flows();
}

/// Frames lost between the secondary's agent and its guest are nowhere counted. Its guest repeats what it can, a flow that
/// is late is named, and what the client gets is right.
#[test]
fn a_secondary_that_loses_frames_is_named_late_and_nothing_wrong_leaves() {
    let mut lab = Lab::new(Wires::TapGuest, Options::waiting(300, 600), &[]);
    let outcomes = lab.during(&loads(u64::MAX), 5, |_, stage| lose(stage, &[Way::Input, Way::Output], 50));
    lose(&lab.stage, &[Way::Input, Way::Output], 0);
    for outcome in outcomes {
        // These replicas cannot be checkpointed: a flow may stay held until its client gives up.
        assert!(outcome.failures.iter().all(|failure| failure.contains("nothing for")), "{outcome:?}");
    }
    let status = lab.status();
    assert!(status.count("divergence_late_secondary").unwrap() > 0, "{}", status.json());
    assert_eq!(status.count("divergence_payload").unwrap(), 0, "{}", status.json());
    assert!(status.checkpoints() > 0, "{}", status.json());
    lab.protects_new_flows();
}

/// What the client has acknowledged it does not say again by itself, and a guest that has not heard it waits for it.
#[test]
fn a_secondary_that_loses_what_the_client_says_hears_it_again() {
    let mut lab = Lab::new(Wires::TapGuest, Options::patient(&[]), &[]);
    let loads = [
        Load::once("download", SERVER_V4, Work::Download { length: 2_000_000, close: false }),
        Load::once("download, IPv6", SERVER_V6, Work::Download { length: 50_000, close: false }),
        Load::once("lines", SERVER_V4, Work::Lines { length: 20_000 }),
    ]
    .map(|load| Load { at_most: u64::MAX, ..load });
    let outcomes = lab.during(&loads, 6, |_, stage| stage.topology.secondary.lose(Way::Input, 4, 150));
    lab.stage.topology.secondary.lose(Way::Input, 0, 0);
    unharmed(&outcomes);
    let status = lab.status();
    assert_eq!(status.checkpoints(), 0, "{}", status.json());
    lab.protects_new_flows();
}

#[test]
fn a_secondary_agent_that_hangs_is_lost_and_comes_back() {
    let mut lab = Lab::new(Wires::Veth, Options::patient(&[]), &["--on-peer-loss", "pass"]);
    let outcomes = lab.during(&loads(u64::MAX), 12, |agents, _| {
        thread::sleep(Duration::from_secs(1));
        agents.process(Role::Secondary).signal(Signal::STOP).unwrap();
        let lost =
            agents.wait_for("notice of the silence", UNTIL_NOTICED, &NEVER, |status| !status.is_protected());
        agents.process(Role::Secondary).signal(Signal::CONT).unwrap();
        let lost = lost.unwrap();
        assert!(
            lost.json()["reason"].as_str().is_some_and(|reason| reason.starts_with("peer")),
            "{}",
            lost.json()
        );
    });
    unharmed(&outcomes);
    lab.protects_new_flows();
}

#[test]
fn a_secondary_agent_that_restarts_leaves_clients_unharmed_and_protects_new_flows() {
    let mut lab = Lab::new(Wires::Veth, Options::patient(&[]), &["--on-peer-loss", "pass"]);
    let outcomes = lab.during(&loads(u64::MAX), 8, |agents, stage| {
        thread::sleep(Duration::from_secs(1));
        agents.process(Role::Secondary).kill();
        let lost = agents
            .wait_for("notice of the loss", UNTIL_NOTICED, &NEVER, |status| !status.is_protected())
            .unwrap();
        assert!(lost.json()["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{}", lost.json());
        thread::sleep(Duration::from_secs(1));
        agents.restart(stage, Role::Secondary).unwrap();
    });
    unharmed(&outcomes);
    lab.protects_new_flows();
}

#[test]
fn after_the_loss_of_the_secondary_a_closed_primary_says_nothing() {
    let mut lab = Lab::new(Wires::Veth, Options::patient(&[]), &["--on-peer-loss", "close"]);
    unharmed(&lab.during(&loads(3), 30, |_, _| {}));
    lab.agents.process(Role::Secondary).kill();
    lab.agents
        .wait_for("notice of the loss", UNTIL_NOTICED, &NEVER, |status| !status.is_protected())
        .unwrap();
    let witnessed = witness::download(&lab.stage, 1, 1000, Duration::from_secs(3), &NEVER);
    assert!(format!("{:#}", witnessed.unwrap_err()).contains("connecting"), "a closed primary answered");
    lab.agents.restart(&lab.stage, Role::Secondary).unwrap();
    lab.protects_new_flows();
}

#[test]
fn a_primary_agent_that_restarts_leaves_clients_unharmed_and_protects_new_flows() {
    let mut lab = Lab::new(Wires::Veth, Options::patient(&[]), &["--on-exit", "release"]);
    let outcomes = lab.during(&loads(u64::MAX), 8, |agents, stage| {
        thread::sleep(Duration::from_secs(1));
        assert!(agents.process(Role::Primary).stop());
        thread::sleep(Duration::from_millis(500));
        agents.restart(stage, Role::Primary).unwrap();
    });
    unharmed(&outcomes);
    lab.protects_new_flows();
}

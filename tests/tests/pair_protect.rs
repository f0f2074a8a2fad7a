//! `colo protect` on real VMs: what it refuses and takes back, and one guest on five QEMUs in turn.
//!
//! As in `pair_stock` the path is plain kernel bridges, so the connections are idle when a side is lost.

use std::net::IpAddr;

use colo_tests::{
    lab::{
        child::Programs,
        topology::{Host, SERVER_V4, SERVER_V6, UPLINK},
    },
    pair::{
        line::Line,
        ours::{Ended, protect},
        stage::{Followed, Pair, cache},
        vm::{Extras, Parts, Vm},
    },
};
use colo_user::qmp::{ColoMode, EventKind, MigrationStatus, Snapshot, command};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// As `colo protect` is told here.
const DELAY: Duration = Duration::from_secs(3600);
/// For the last acknowledgements to come before the state is taken that is gone on from.
const SETTLED: Duration = Duration::from_millis(500);

/// The pair, the VMs that follow it, and what must live.
struct Rig {
    lines: Vec<Line>,
    parts: Parts,
    pair: Pair,
    runtime: Runtime,
}

impl Rig {
    fn boot() -> Self {
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let pair = Pair::boot(&programs, &cache(&programs.lab)).unwrap();
        pair.topology.forward_plain().unwrap();
        pair.topology.secondary.forward_plain().unwrap();
        heard(&pair.topology.secondary, false);
        let guest = programs.lab.with_file_name("colo-guest");
        let more = pair.path("more");
        std::fs::create_dir(&more).unwrap();
        let parts = Parts::new(&cache(&programs.lab), &guest, &more).unwrap();
        let open = |server: IpAddr| Line::open(&pair.topology, server);
        let lines = vec![open(SERVER_V4), open(SERVER_V6), Line::accept(&pair.topology, SERVER_V4)];
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { lines, parts, pair, runtime }
    }

    /// Where a VM waits for its state.
    fn uri(&self, name: &str) -> String {
        format!("unix:{}", self.pair.path(name).display())
    }

    fn protect(&self, primary: &Vm, secondary: &Vm, uri: &str) -> Ended {
        let sides = [primary.spare_monitor(), secondary.spare_monitor()];
        protect(&self.pair.programs, &sides, uri, DELAY, &[]).unwrap()
    }

    /// A new VM that waits on a host whose own is gone.
    fn another(&self, host: &Host, name: &'static str) -> Vm {
        let (programs, uri) = (&self.pair.programs, self.uri(name));
        Vm::start(programs, &host.netns, &self.parts, name, Some(&uri), &Extras::default()).unwrap()
    }

    fn look(&self, vm: &Vm) -> Snapshot {
        // The first notice of a follower tells where the VM is.
        self.runtime.block_on(Followed::open("a VM", vm)).unwrap().1
    }

    /// Both sides say that they are in COLO and run.
    fn assert_in_colo(&self, primary: &Vm, secondary: &Vm) {
        for (vm, mode) in [(primary, ColoMode::Primary), (secondary, ColoMode::Secondary)] {
            let seen = self.look(vm);
            assert!(seen.status.running, "{seen:?}");
            assert_eq!((seen.migration, seen.colo.mode), (Some(MigrationStatus::Colo), mode));
        }
    }

    /// A checkpoint with all lines idle.
    fn checkpoint(&self, primary: &Vm) {
        self.runtime.block_on(async {
            let (mut primary, _) = Followed::open("primary", primary).await.unwrap();
            tokio::time::sleep(SETTLED).await;
            primary.client.call(command::set_checkpoint_delay(DELAY)).await.unwrap();
            for wanted in [EventKind::Stop, EventKind::Resume] {
                primary.until(|kind| *kind == wanted).await.unwrap();
            }
        });
    }

    /// `survivor` goes on alone.
    fn alone(&self, survivor: &Vm, last: ColoMode) {
        self.runtime.block_on(async {
            let (mut survivor, _) = Followed::open("survivor", survivor).await.unwrap();
            survivor.client.call(command::lost_heartbeat()).await.unwrap();
            survivor.until(|kind| *kind == EventKind::Resume).await.unwrap();
        });
        let seen = self.look(survivor);
        assert!(seen.status.running && !seen.in_colo(), "{seen:?}");
        assert_eq!(seen.colo.last_mode, last);
    }

    fn ask(&mut self) {
        self.lines.iter_mut().for_each(Line::ask);
    }
}

/// Whether a host is on the client's network.
fn heard(host: &Host, on: bool) {
    host.netns.run(&format!("ip link set {UPLINK} {}", if on { "up" } else { "down" })).unwrap();
}

fn refused(ended: &Ended, reason: &str) {
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.object["protected"], false);
    assert_eq!(ended.object["left"], json!([]), "{ended:?}");
    let said = ended.object["reason"].as_str().unwrap();
    assert!(said.contains(reason) && ended.said.contains(reason), "{ended:?}");
}

fn protected(ended: &Ended, survivor_of: Value) {
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.object["protected"], true);
    assert_eq!(ended.object["survivor_of"], survivor_of, "{ended:?}");
    assert_eq!((&ended.object["stopped_ms"], &ended.object["disks"]), (&Value::Null, &json!([])));
    println!("COLO entered: {} ms", ended.object["took_ms"]);
}

#[test]
fn a_guest_is_protected_again_after_every_loss() {
    let mut rig = Rig::boot();
    rig.ask();
    let uri = rig.uri("migration");

    let (first, second) = (&rig.pair.primary, &rig.pair.secondary);
    refused(&rig.protect(second, first, &uri), "wrong way round");
    let nowhere = rig.uri("nowhere");
    refused(&rig.protect(first, second, &nowhere), "Failed to connect");
    let capabilities = rig.runtime.block_on(async {
        let (first, seen) = Followed::open("primary", first).await.unwrap();
        assert!(seen.status.running && !seen.in_colo(), "{seen:?}");
        first.client.call(command::query_capabilities()).await.unwrap()
    });
    assert!(capabilities.iter().any(|c| c.name == "x-colo" && !c.on), "taken back: {capabilities:?}");

    protected(&rig.protect(first, second, &uri), Value::Null);
    rig.assert_in_colo(first, second);
    refused(&rig.protect(first, second, &uri), "in COLO already");
    rig.ask();
    rig.checkpoint(&rig.pair.primary);
    rig.pair.primary.process().kill();
    heard(&rig.pair.topology.primary, false);
    heard(&rig.pair.topology.secondary, true);
    rig.alone(&rig.pair.secondary, ColoMode::Secondary);
    rig.ask();

    let third = rig.another(&rig.pair.topology.primary, "third");
    protected(&rig.protect(&rig.pair.secondary, &third, &rig.uri("third")), json!("secondary"));
    rig.assert_in_colo(&rig.pair.secondary, &third);
    rig.ask();
    rig.checkpoint(&rig.pair.secondary);
    rig.pair.secondary.process().kill();
    heard(&rig.pair.topology.secondary, false);
    heard(&rig.pair.topology.primary, true);
    rig.alone(&third, ColoMode::Secondary);
    rig.ask();

    let mut fourth = rig.another(&rig.pair.topology.secondary, "fourth");
    protected(&rig.protect(&third, &fourth, &rig.uri("fourth")), json!("secondary"));
    rig.ask();
    fourth.process().kill();
    rig.alone(&third, ColoMode::Primary);
    rig.ask();

    let fifth = rig.another(&rig.pair.topology.secondary, "fifth");
    protected(&rig.protect(&third, &fifth, &rig.uri("fifth")), json!("primary"));
    rig.assert_in_colo(&third, &fifth);
    rig.checkpoint(&third);
    drop(third);
    heard(&rig.pair.topology.primary, false);
    heard(&rig.pair.topology.secondary, true);
    rig.alone(&fifth, ColoMode::Secondary);
    rig.ask();
}

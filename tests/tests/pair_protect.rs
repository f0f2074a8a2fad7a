//! `colo protect` on real VMs: what it refuses and takes back, and one guest on four QEMUs in turn.
//!
//! As in `pair_stock` the path is plain kernel bridges, so the connections are idle when a side is lost.

use std::{
    fs,
    net::IpAddr,
    time::{Duration, Instant},
};

use colo_tests::{
    lab::{
        child::Programs,
        topology::{Host, SERVER_V4, SERVER_V6, UPLINK},
    },
    pair::{
        line::Line,
        ours::{Ended, Running},
        stage::{Followed, PATIENCE, Pair, cache},
        vm::Vm,
        watch::Side,
        watched::{Watched, rename},
    },
};
use colo_user::qmp::{ColoMode, EventKind, MigrationStatus, Snapshot, command};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// As `colo protect` is told here.
const DELAY: Duration = Duration::from_secs(3600);
/// For the last acknowledgements to come before the state is taken that is gone on from.
const SETTLED: Duration = Duration::from_millis(500);

/// The pair, and what must live.
struct Rig {
    lines: Vec<Line>,
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
        let open = |server: IpAddr| Line::open(&pair.topology, server);
        let lines = vec![open(SERVER_V4), open(SERVER_V6), Line::accept(&pair.topology, SERVER_V4)];
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { lines, pair, runtime }
    }

    fn vm(&mut self, side: Side) -> &mut Vm {
        match side {
            Side::First => &mut self.pair.primary,
            Side::Second => &mut self.pair.secondary,
        }
    }

    fn start(&mut self, primary: Side, uri: &str, more: &[&str]) -> Running {
        let sides = [primary, primary.other()].map(|side| self.vm(side).spare_monitor());
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        Running::start(&self.pair.programs, &sides, uri, DELAY, &more).unwrap()
    }

    /// To the end.
    fn protect(&mut self, primary: Side) -> Ended {
        let uri = self.pair.uri().to_owned();
        self.start(primary, &uri, &[]).wait().unwrap()
    }

    /// So slowly that it can be ended while the memory is copied, which has begun when this returns.
    fn protect_slowly(&mut self, primary: Side) -> Running {
        let uri = self.pair.uri().to_owned();
        let running = self.start(primary, &uri, &["--max-bandwidth", "1000000"]);
        let end = Instant::now() + PATIENCE;
        while self.look(primary).migration != Some(MigrationStatus::Active) {
            assert!(Instant::now() < end, "{:?}", running.wait());
        }
        running
    }

    /// Everything is as it was, and the guest serves.
    fn assert_untouched(&mut self, side: Side) {
        let seen = self.look(side);
        assert!(seen.status.running && !seen.in_colo(), "{seen:?}");
        let (capabilities, bandwidth) = self.runtime.block_on(async {
            let client = self.follow(side).await.0.client;
            let capabilities = client.call(command::query_capabilities()).await.unwrap();
            (capabilities, client.call(command::query_parameters()).await.unwrap().max_bandwidth)
        });
        assert!(capabilities.iter().any(|c| c.name == "x-colo" && !c.on), "{capabilities:?}");
        assert_eq!(bandwidth, 128 << 20, "QEMU's own");
        self.ask();
    }

    async fn follow(&self, side: Side) -> (Followed, Snapshot) {
        let vm = if side == Side::First { &self.pair.primary } else { &self.pair.secondary };
        Followed::open(vm.name(), vm).await.unwrap()
    }

    fn look(&self, side: Side) -> Snapshot {
        self.runtime.block_on(self.follow(side)).1
    }

    /// Both sides say that they are in COLO and run.
    fn assert_in_colo(&self, primary: Side) {
        for (side, mode) in [(primary, ColoMode::Primary), (primary.other(), ColoMode::Secondary)] {
            let seen = self.look(side);
            assert!(seen.status.running, "{seen:?}");
            assert_eq!((seen.migration, seen.colo.mode), (Some(MigrationStatus::Colo), mode));
        }
    }

    /// Puts a new one where one was lost.
    fn replace(&mut self, side: Side, name: &'static str) {
        self.pair.replace(side, name).unwrap();
        rename(&self.pair, side).unwrap();
    }

    /// A checkpoint with all lines idle, and the end of the primary; the other goes on alone.
    fn lose_primary(&mut self, primary: Side) {
        self.runtime.block_on(async {
            let mut side = self.follow(primary).await.0;
            tokio::time::sleep(SETTLED).await;
            side.client.call(command::set_checkpoint_delay(DELAY)).await.unwrap();
            side.until(|kind| *kind == EventKind::Resume).await.unwrap();
        });
        self.vm(primary).process().kill();
        heard(self.host(primary), false);
        heard(self.host(primary.other()), true);
        self.alone(primary.other(), ColoMode::Secondary);
    }

    fn host(&self, side: Side) -> &Host {
        match side {
            Side::First => &self.pair.topology.primary,
            Side::Second => &self.pair.topology.secondary,
        }
    }

    /// The side goes on alone, and serves.
    fn alone(&mut self, survivor: Side, last: ColoMode) {
        self.runtime.block_on(async {
            let mut side = self.follow(survivor).await.0;
            side.client.call(command::lost_heartbeat()).await.unwrap();
            side.until(|kind| *kind == EventKind::Resume).await.unwrap();
        });
        let seen = self.look(survivor);
        assert!(seen.status.running && !seen.in_colo(), "{seen:?}");
        assert_eq!(seen.colo.last_mode, last);
        self.ask();
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
fn what_fails_is_taken_back_and_a_guest_is_protected_again_after_every_loss() {
    use Side::{First, Second};
    let mut rig = Rig::boot();
    rig.ask();

    refused(&rig.protect(Second), "wrong way round");
    let nowhere = format!("unix:{}", rig.pair.path("nowhere").display());
    refused(&rig.start(First, &nowhere, &[]).wait().unwrap(), "Failed to connect");
    rig.assert_untouched(First);
    let slow = rig.protect_slowly(First);
    slow.terminate().unwrap();
    refused(&slow.wait().unwrap(), "ended by a signal");
    rig.assert_untouched(First);
    rig.pair.replace(Second, "another").unwrap();
    let slow = rig.protect_slowly(First);
    rig.vm(Second).process().kill();
    refused(&slow.wait().unwrap(), "failed");
    rig.assert_untouched(First);

    rig.pair.replace(Second, "second").unwrap();
    protected(&rig.protect(First), Value::Null);
    rig.assert_in_colo(First);
    refused(&rig.protect(First), "in COLO already");
    rig.ask();
    rig.lose_primary(First);

    rig.pair.replace(First, "third").unwrap();
    protected(&rig.protect(Second), json!("secondary"));
    rig.assert_in_colo(Second);
    rig.ask();
    rig.lose_primary(Second);

    rig.pair.replace(Second, "fourth").unwrap();
    protected(&rig.protect(First), json!("secondary"));
    rig.ask();
    rig.vm(Second).process().kill();
    rig.alone(First, ColoMode::Primary);

    rig.pair.replace(Second, "fifth").unwrap();
    protected(&rig.protect(First), json!("primary"));
    rig.assert_in_colo(First);
    rig.lose_primary(First);
}

#[test]
fn a_watched_pair_is_protected_again_by_each_new_secondary_on_either_side() {
    use Side::{First, Second};
    let mut rig = Rig::boot();
    rig.ask();
    let told = rig.pair.path("told");
    let before = format!("exec:echo survivor of: $COLO_SURVIVOR_OF >>{}", told.display());
    let watching = Watched::start(&rig.pair, DELAY, &["--before".to_owned(), before]).unwrap();
    watching.pairs(1).unwrap();
    rig.assert_in_colo(First);
    rig.ask();

    rig.lose_primary(First);
    let unanswered =
        |line: &Value| line["waits"].as_str().is_some_and(|why| why.starts_with("--primary: no answer"));
    watching.lines(1, unanswered).unwrap();
    rig.replace(First, "third");
    watching.pairs(2).unwrap();
    rig.assert_in_colo(Second);
    rig.ask();

    rig.vm(First).process().kill();
    rig.alone(Second, ColoMode::Primary);
    rig.replace(First, "fourth");
    let pairs = watching.pairs(3).unwrap();
    rig.assert_in_colo(Second);
    rig.ask();

    let [first, second] = watching.monitors.clone();
    let (code, said) = watching.end().unwrap();
    assert_eq!(code, Some(0), "{said}");
    let seen: Vec<_> = pairs.iter().map(|line| [&line["primary"], &line["survivor_of"]]).collect();
    let expected =
        [[json!(first), Value::Null], [json!(second), json!("secondary")], [json!(second), json!("primary")]];
    assert_eq!(seen, expected.each_ref().map(<[Value; 2]>::each_ref), "{said}");
    let told = fs::read_to_string(told).unwrap();
    assert_eq!(told, "survivor of:\nsurvivor of: secondary\nsurvivor of: primary\n");
}

//! What a real pair knows of its data plane, under traffic: an uplink without carrier, a link that swallows what is
//! said, a guest that an operator has stopped. Who goes on has every connection, and each side says why.
//!
//! A guest that does not run again after a checkpoint is in `pair_failover` (`channel_during_a_checkpoint`), a QEMU that hangs on the
//! replication of its disk in `pair_disk`.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use colo_tests::{
    lab::{
        agents::Status,
        child::Programs,
        topology::{CAPTURE, LINK, LINK_PRIMARY, LINK_SECONDARY},
        traffic::{self, Control, Kind, Plan},
    },
    pair::{
        failover::judge,
        protected::{Beats, Options, Protected},
        watch::{Side, Watch},
    },
};
use serde_json::Value;

/// How long all connections may take to go on.
const PATIENCE: Duration = Duration::from_secs(40);
const SEED: u64 = 11;
/// Longer than the pair's `--vm-timeout` and `--peer-timeout`.
const LONG: Duration = Duration::from_secs(6);
/// A neighbour that is nobody's: who speaks to it is not heard, and not told so.
const NOBODY: &str = "02:00:00:00:00:99";

static NEVER: AtomicBool = AtomicBool::new(false);

/// A pair with a second wire for heartbeats, which may be silent for three seconds; its secondary could take over.
fn pair() -> Protected {
    let heartbeat = Some(Beats { interval: 50, multiplier: 60 });
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let pair = Protected::start(&programs, Options { heartbeat, ..Options::default() }, &NEVER).unwrap();
    let ready = |status: &Status| {
        let heartbeat = &status.json()["heartbeat"];
        heartbeat["peer_promotable"] == true && heartbeat["peer_uplink_carrier"] == true
    };
    pair.wait_for(Side::First, "a secondary that could take over", &NEVER, ready).unwrap();
    pair
}

/// Tells `event` under the traffic of `plan`, after which every connection goes on and the client's switch has heard `sides`, in order.
fn told(plan: &Plan, sides: &[Side], event: impl FnOnce(&Protected, &Control<'_>) -> Result<()>) {
    let pair = pair();
    let watch = Watch::start(&pair.pair.topology.client).unwrap();
    let client = Arc::clone(&pair.pair.topology.client);
    let (done, report) = traffic::run(&client, plan, &NEVER, |control| {
        control.wait_steady(PATIENCE)?;
        let begun = Instant::now();
        event(&pair, control)?;
        control.wait_for(3, &control.progress(), PATIENCE)?;
        println!("seed {SEED}: all went on after {:.2?}", begun.elapsed());
        Ok(())
    });
    let wrong = judge(&done, &report, &watch.finish().unwrap(), sides);
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}\n{}{}", report.table(), pair.logs());
}

/// How a side stands, and why.
fn stands(status: &Status) -> (&Value, &Value) {
    let failover = &status.json()["failover"];
    (&failover["standing"], &failover["reason"])
}

fn wait(pair: &Protected, side: Side, standing: &str, reason: &str) -> Result<()> {
    let wanted = (&Value::from(standing), &Value::from(reason));
    pair.wait_for(side, &format!("{standing} ({reason})"), &NEVER, |status| stands(status) == wanted)
}

#[test]
fn a_primary_without_carrier_is_relieved() {
    told(&Plan::all(SEED), &[Side::First, Side::Second], |pair, _| {
        pair.pair.topology.client.run(&format!("ip link set {CAPTURE} down"))?;
        wait(pair, Side::First, "closed", "uplink without carrier")?;
        wait(pair, Side::Second, "alone", "judge said yes")?;
        pair.wait_stopped(Side::First, &NEVER)
    });
}

/// Both hear each other on the other wire, so that the primary goes on and the secondary leaves it the time to: that one asks
/// only when it has waited twice as long again, and is told no.
#[test]
fn a_link_that_swallows_what_is_said_leaves_the_primary_its_clients() {
    told(&Plan::all(SEED), &[Side::First], |pair, control| {
        for (side, peer) in [(Side::First, LINK_SECONDARY), (Side::Second, LINK_PRIMARY)] {
            let neighbour = format!("ip neigh replace {peer} lladdr {NOBODY} dev {LINK} nud permanent");
            pair.host(side).netns.run(&neighbour)?;
        }
        let lost = |status: &Status| {
            let heartbeat = &status.json()["heartbeat"];
            (&heartbeat["peer"], &heartbeat["reason"]) == (&"alive".into(), &"link lost".into())
        };
        wait(pair, Side::Second, "holding", "link lost")?;
        wait(pair, Side::First, "alone", "judge said yes")?;
        pair.wait_for(Side::Second, "a lost link beside a peer that lives", &NEVER, lost)?;
        let status = pair.status(Side::Second)?;
        ensure!(stands(&status).0 == "holding", "the secondary has asked: {}", status.json());
        control.wait_for(3, &control.progress(), PATIENCE)?;
        wait(pair, Side::Second, "closed", "judge said no")?;
        pair.wait_stopped(Side::Second, &NEVER)
    });
}

/// No checkpoint is asked for meanwhile, either: it would let the guest run.
#[test]
fn a_primary_that_an_operator_stops_for_long_is_no_loss() {
    let mut plan = Plan::all(SEED);
    // A bulk transfer that stood still for so long needs longer than a test has to be as fast as before.
    plan.streams.retain(|stream| !matches!(stream.kind, Kind::Download | Kind::Upload));
    told(&plan, &[Side::First], |pair, _| {
        let stopped = |status: &Status| status.count("vm_operator_stopped").is_ok_and(|n| n == 1);
        thread::scope(|scope| {
            let pause = scope.spawn(|| pair.pause(Side::First, LONG));
            pair.wait_for(Side::First, "the operator's stop", &NEVER, stopped)?;
            thread::sleep(LONG.mul_f64(0.9));
            let status = pair.status(Side::First)?;
            ensure!(stopped(&status), "it runs: {}", status.json());
            for side in [Side::First, Side::Second] {
                let status = pair.status(side)?;
                let (standing, reason) = stands(&status);
                ensure!(standing == "protected" && reason == "in sync", "{side:?}: {}", status.json());
            }
            let status = pair.status(Side::Second)?;
            let heartbeat = &status.json()["heartbeat"];
            ensure!(heartbeat["peer"] == "alive" && heartbeat["reason"] == "beats in time", "{heartbeat}");
            pause.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        pair.wait_for(Side::First, "protection", &NEVER, |status| status.is_protected() && !stopped(status))
    });
}

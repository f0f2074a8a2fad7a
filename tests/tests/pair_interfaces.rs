//! Interfaces of a real pair go, come back, or are made useless, under traffic and beside QEMU: a primary without a path is relieved
//! by a secondary that has one, also where the agents have no link but their own; a secondary whose guest nobody reaches leaves; and what is
//! right again in time, or where nobody could go on instead, is used again by itself, with every connection.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use colo_tests::{
    lab::{
        agents::Status,
        child::Programs,
        topology::{CAPTURE, GUEST, UPLINK},
        traffic::{self, Control, Plan},
    },
    pair::{
        failover::judge,
        protected::{Options, Protected},
        watch::{Side, Watch},
    },
};
use colo_user::link::endpoint::Address;
use serde_json::Value;

/// How long all connections may take to go on.
const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 0x1face;
const FIRST: Side = Side::First;
const SECOND: Side = Side::Second;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Tells `event` under all traffic, after which every connection goes on and the client's switch has heard `sides`, in order.
fn told(
    options: Options,
    sides: &[Side],
    event: impl FnOnce(&mut Protected, &Control<'_>) -> Result<()> + Send,
) {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let mut pair = Protected::start(&programs, options, &NEVER).unwrap();
    let watch = Watch::start(&pair.pair.topology.client).unwrap();
    let client = Arc::clone(&pair.pair.topology.client);
    let (done, report) = traffic::run(&client, &Plan::all(SEED), &NEVER, |control| {
        control.wait_steady(PATIENCE)?;
        event(&mut pair, control)?;
        control.wait_for(3, &control.progress(), PATIENCE)
    });
    let wrong = judge(&done, &report, &watch.finish().unwrap(), sides);
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}\n{}{}", report.table(), pair.logs());
}

fn on(pair: &Protected, side: Side, line: &str) -> Result<()> {
    pair.host(side).netns.run(line).map(drop)
}

fn wait(pair: &Protected, side: Side, standing: &str, reason: &str) -> Result<()> {
    let wanted = (&Value::from(standing), &Value::from(reason));
    pair.wait_for(side, &format!("{standing} ({reason})"), &NEVER, |status| {
        let failover = &status.json()["failover"];
        (&failover["standing"], &failover["reason"]) == wanted
    })
}

/// Waits until a side says for this reason that it is not protected.
fn says(pair: &Protected, side: Side, reason: &str) -> Result<()> {
    let begun = Instant::now();
    pair.wait_for(side, reason, &NEVER, |status| {
        status.json()["reason"] == reason && !status.is_protected()
    })?;
    println!("{side:?} says {reason} after {:?}", begun.elapsed());
    Ok(())
}

/// The socket of the second VM's monitor that is its agent's.
fn agents_monitor(pair: &Protected) -> Result<PathBuf> {
    match pair.pair.vm(SECOND).agent_monitor().address {
        Address::Unix(path) => Ok(path),
        other => bail!("{other} is no path"),
    }
}

fn both_protected(pair: &Protected) -> Result<()> {
    [FIRST, SECOND]
        .into_iter()
        .try_for_each(|side| pair.wait_for(side, "protection", &NEVER, Status::is_protected))
}

#[test]
fn a_primary_whose_uplink_is_deleted_is_relieved() {
    told(Options::default(), &[FIRST, SECOND], |pair, _| {
        on(pair, FIRST, &format!("ip link del {UPLINK}"))?;
        says(pair, FIRST, "uplink gone")?;
        wait(pair, FIRST, "closed", "uplink lost")?;
        wait(pair, SECOND, "alone", "judge said yes")?;
        pair.wait_stopped(FIRST, &NEVER)?;
        // It is attached to again, and lets nothing through.
        pair.host(FIRST).plug_uplink(&pair.pair.topology.client, CAPTURE)?;
        pair.wait_for(FIRST, "a whole uplink", &NEVER, |status| {
            status.json()["interfaces"]["uplink"]["state"] == "whole"
        })?;
        wait(pair, FIRST, "closed", "uplink lost")?;
        let way_out = pair.status(FIRST)?.json()["failover"]["way_out"].clone();
        ensure!(way_out.as_str().is_some_and(|text| text.contains("new VM")), "{way_out}");
        Ok(())
    });
}

#[test]
fn a_primary_whose_guests_interface_is_set_down_is_relieved() {
    told(Options::default(), &[FIRST, SECOND], |pair, _| {
        on(pair, FIRST, &format!("ip link set {GUEST} down"))?;
        says(pair, FIRST, "guest interface down")?;
        wait(pair, FIRST, "closed", "guest interface lost")?;
        wait(pair, SECOND, "alone", "judge said yes")?;
        pair.wait_stopped(FIRST, &NEVER)
    });
}

/// Nobody may go on instead, however long it takes: what is had again is used again, and the pair is kept.
#[test]
fn interfaces_that_come_back_keep_the_pair() {
    let options = Options { judge: Some("none".to_owned()), ..Options::default() };
    told(options, &[FIRST], |pair, control| {
        on(pair, FIRST, &format!("ip link del {UPLINK}"))?;
        says(pair, FIRST, "uplink gone")?;
        says(pair, SECOND, "peer without path")?;
        pair.host(FIRST).plug_uplink(&pair.pair.topology.client, CAPTURE)?;
        both_protected(pair)?;
        control.wait_for(3, &control.progress(), PATIENCE).context("a new uplink")?;

        let asked =
            |status: &Status| status.json()["checkpoints"]["by"]["path-restored"].as_u64().unwrap_or(0);
        let before = asked(&pair.status(FIRST)?);
        on(pair, FIRST, &format!("ip link set {GUEST} down"))?;
        says(pair, FIRST, "guest interface down")?;
        says(pair, SECOND, "peer without path")?;
        on(pair, FIRST, &format!("ip link set {GUEST} up"))?;
        // The guest lacks input: a checkpoint makes the other one lack the same.
        pair.wait_for(FIRST, "a checkpoint", &NEVER, |status| asked(status) > before)?;
        both_protected(pair)?;
        control.wait_for(3, &control.progress(), PATIENCE).context("a tap that was down")?;

        on(pair, SECOND, &format!("ip link del {UPLINK}"))?;
        says(pair, SECOND, "uplink gone")?;
        says(pair, FIRST, "peer without path")?;
        let answer = pair.order(FIRST, &["test-failover"])?;
        let checks = answer.object["checks"].as_array().cloned().unwrap_or_default();
        ensure!(checks.iter().any(|check| check["name"] == "path" && check["ok"] == false), "{answer:?}");
        let answer = pair.order(FIRST, &["failover", "--planned"])?;
        ensure!(answer.code == 1 && answer.object["refusal"] == "no-path", "{answer:?}");
        Ok(())
    });
}

#[test]
fn a_secondary_whose_guest_nobody_reaches_leaves_and_a_new_vm_on_a_new_tap_takes_its_place() {
    told(Options::default(), &[FIRST], |pair, control| {
        // Shorter than `--vm-timeout`.
        on(pair, SECOND, &format!("ip link set {GUEST} down"))?;
        says(pair, SECOND, "guest interface down")?;
        on(pair, SECOND, &format!("ip link set {GUEST} up"))?;
        both_protected(pair)?;
        control.wait_for(3, &control.progress(), PATIENCE).context("a tap that was down")?;

        on(pair, SECOND, &format!("ip link del {GUEST}"))?;
        says(pair, SECOND, "guest interface gone")?;
        says(pair, FIRST, "peer without path")?;
        wait(pair, SECOND, "closed", "guest interface lost")?;
        wait(pair, FIRST, "alone", "judge said yes")?;
        control.wait_for(3, &control.progress(), PATIENCE).context("alone")?;
        // The agents stay: the new QEMU's monitor is where the last one's was.
        let monitor = agents_monitor(pair)?;
        pair.host(SECOND).plug_tap()?;
        pair.pair.replace(SECOND, "third")?;
        // A QEMU that was killed has left it.
        let _ = std::fs::remove_file(&monitor);
        std::os::unix::fs::symlink(agents_monitor(pair)?, monitor)?;
        pair.wait_for(SECOND, "a guest that is reached", &NEVER, |status| {
            status.json()["interfaces"]["guest"]["state"] == "whole"
        })?;
        pair.wait_for(FIRST, "the agents to meet", &NEVER, |status| {
            status.json()["reason"] == "not in COLO"
        })?;
        pair.enter_colo(FIRST)?;
        both_protected(pair)
    });
}

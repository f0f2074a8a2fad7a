//! An operator's orders to a real pair under all traffic at once: what is refused says why and changes nothing, a pause costs
//! no connection and ends in protection, and the service is handed over with every connection, nothing lost or taken back. A
//! secondary whose agent was killed between its question and the answer waits for an order.

use std::sync::{Arc, atomic::AtomicBool};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_tests::{
    lab::{
        agents::{Role, Status},
        child::Programs,
        topology::SERVER_V4,
        traffic,
    },
    pair::{
        failover::judge,
        line::Line,
        order::Answer,
        protected::{Options, Protected},
        watch::{Side, Watch},
    },
};
use rustix::process::Signal;

const SEED: u64 = 77;
/// As in the other runs.
const PATIENCE: Duration = Duration::from_secs(40);
const GOES_ON: u64 = 3;
/// From an order until the agent is told to end: it has begun, or is about to.
const MEANWHILE: Duration = Duration::from_millis(8);
static NEVER: AtomicBool = AtomicBool::new(false);

fn is(answer: &Answer, code: i32, field: &str, word: &str) -> Result<()> {
    ensure!(answer.code == code && answer.object[field] == word, "not {code}, {word}: {answer:?}");
    Ok(())
}

/// All orders to one pair, in order.
fn orders(pair: &mut Protected, control: &traffic::Control<'_>) -> Result<Duration> {
    use Side::{First, Second};
    control.wait_steady(PATIENCE).context("before the orders")?;
    for side in [First, Second] {
        is(&pair.order(side, &["test-failover"])?, 0, "text", "the secondary takes over")?;
    }
    is(&pair.order(Second, &["promote", "--force"])?, 1, "refusal", "peer-there")?;
    is(&pair.order(Second, &["pause"])?, 1, "refusal", "other-side")?;
    is(&pair.order(Second, &["reprotect"])?, 1, "refusal", "not-alone")?;
    is(&pair.order(First, &["promote"])?, 0, "standing", "protected")?;
    is(&pair.order(First, &["resume"])?, 0, "standing", "protected")?;

    let before = control.progress();
    is(&pair.order(First, &["pause"])?, 0, "standing", "paused")?;
    control.wait_for(GOES_ON, &before, PATIENCE).context("paused")?;
    is(&pair.order(First, &["failover", "--planned"])?, 1, "refusal", "not-in-sync")?;
    is(&pair.order(First, &["test-failover"])?, 1, "standing", "paused")?;
    let status = pair.status(First)?;
    ensure!(status.json()["reason"] == "paused" && !status.is_protected(), "{}", status.json());
    let before = control.progress();
    is(&pair.order(First, &["resume"])?, 0, "standing", "protected")?;
    control.wait_for(GOES_ON, &before, PATIENCE).context("resumed")?;
    pair.wait_for(First, "protection", &NEVER, Status::is_protected)?;

    let (before, begun) = (control.progress(), Instant::now());
    is(&pair.order(First, &["failover", "--planned"])?, 0, "reason", "handed over")?;
    control.wait_for(GOES_ON, &before, PATIENCE).context("handed over")?;
    let went_on = begun.elapsed();
    is(&pair.order(Second, &["promote"])?, 0, "standing", "alone")?;
    ensure!(pair.status(First)?.json()["reason"] == "closed", "the old primary stays closed");
    is(&pair.order(First, &["promote", "--force"])?, 1, "refusal", "closed")?;
    ensure!(pair.status(Second)?.json()["reason"] == "alone");
    is(&pair.order(First, &["reprotect"])?, 1, "refusal", "closed")?;

    is_told_to_end_meanwhile(pair, control)?;
    // The survivor's agent becomes a primary's under all traffic.
    let pid = || std::fs::read_to_string(pair.control(Second).with_extension("sock.lock"));
    let (before, one) = (control.progress(), pid()?);
    is(&pair.order(Second, &["reprotect"])?, 0, "standing", "alone")?;
    ensure!(pair.status(Second)?.json()["role"] == "primary" && pid()? == one);
    control.wait_for(GOES_ON, &before, PATIENCE).context("with a primary's agent")?;
    is(&pair.order(Second, &["reprotect"])?, 0, "outcome", "done")?;
    Ok(went_on)
}

/// The survivor's agent is told to end while it becomes a primary's: it ends, the guest goes on, and so does the next agent.
fn is_told_to_end_meanwhile(pair: &mut Protected, control: &traffic::Control<'_>) -> Result<()> {
    let before = control.progress();
    let survivor: &Protected = pair;
    thread::scope(|scope| {
        let ordered = scope.spawn(|| survivor.order(Side::Second, &["reprotect"]));
        thread::sleep(MEANWHILE);
        survivor.signal(Side::Second, Signal::TERM)?;
        // It was done, or nobody answers any more.
        let _ = ordered.join();
        anyhow::Ok(())
    })?;
    ensure!(pair.agent(Side::Second).stop(), "it does not end");
    control.wait_for(GOES_ON, &before, PATIENCE).context("without an agent")?;
    pair.restart_agent(Side::Second, Role::Secondary)?;
    pair.wait_standing(Side::Second, "alone", &NEVER)?;
    control.wait_for(GOES_ON, &control.progress(), PATIENCE).context("with another agent")
}

#[test]
fn a_pair_is_paused_resumed_and_handed_over_and_no_client_notices() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    // It would let nobody go on: who closes by an order is not shot at.
    let both = ["--fence", "false"].map(str::to_owned).to_vec();
    let mut pair = Protected::start(&programs, Options { both, ..Options::default() }, &NEVER).unwrap();
    let watch = Watch::start(&pair.pair.topology.client).unwrap();
    let client = Arc::clone(&pair.pair.topology.client);
    let (outcome, report) =
        traffic::run(&client, &traffic::Plan::all(SEED), &NEVER, |control| orders(&mut pair, control));
    let heard = watch.finish().unwrap();
    let wrong = judge(&outcome, &report, &heard, &[Side::First, Side::Second]);
    println!("handed over: went on after {:?}, longest gap {:?}", outcome, report.longest().length);
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}\n{}{}", report.table(), pair.logs());
}

/// Shutting the other side off takes so long: in this time the agent is killed.
const FENCE: &str = "sleep 10";
/// Longer than that: an agent that had asked would be the service.
const TEMPTED: Duration = Duration::from_secs(13);

#[test]
fn a_secondary_that_was_started_again_after_it_had_asked_serves_by_force_alone() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let both = ["--fence", FENCE].map(str::to_owned).to_vec();
    let options = Options { both, ..Options::default() };
    let mut pair = Protected::start(&programs, options, &NEVER).unwrap();
    let told = without_its_translation(&mut pair);
    told.unwrap_or_else(|error| panic!("{error:#}\n{}", pair.logs()));
    Line::open(&pair.pair.topology, SERVER_V4).ask();
}

fn without_its_translation(pair: &mut Protected) -> Result<()> {
    use Side::{First, Second};
    Line::open(&pair.pair.topology, SERVER_V4).ask();
    pair.lose_host(First)?;
    pair.wait_standing(Second, "asking", &NEVER)?;
    pair.agent(Second).kill();
    pair.restart_agent(Second, Role::Secondary)?;
    let lost = |status: &Status| status.json()["failover"]["reason"] == "translation lost";
    pair.wait_for(Second, "the reason", &NEVER, lost)?;
    thread::sleep(TEMPTED);
    let status = pair.status(Second)?;
    let failover = &status.json()["failover"];
    ensure!(failover["standing"] == "closed" && lost(&status), "it asks nobody: {failover}");
    ensure!(failover["way_out"].as_str().is_some_and(|text| text.contains("promote --force")), "{failover}");
    is(&pair.order(Second, &["promote"])?, 1, "refusal", "translation-lost")?;
    is(&pair.order(Second, &["promote", "--force"])?, 0, "standing", "alone")?;
    let status = pair.status(Second)?;
    ensure!(status.json()["failover"]["reason"] == "judge said yes", "{}", status.json());
    ensure!(pair.runs(Second)?, "the guest runs");
    Ok(())
}

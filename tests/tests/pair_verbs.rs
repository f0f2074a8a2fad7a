//! An operator's orders to a real pair under all traffic at once: what is refused says why and changes nothing, a pause costs
//! no connection and ends in protection, and the service is handed over with every connection, nothing lost or taken back.

use std::sync::{Arc, atomic::AtomicBool};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_tests::{
    lab::{agents::Status, child::Programs, traffic},
    pair::{
        failover::judge,
        order::Answer,
        protected::{Options, Protected},
        watch::{Side, Watch},
    },
};

const SEED: u64 = 77;
/// As in the other runs.
const PATIENCE: Duration = Duration::from_secs(40);
const GOES_ON: u64 = 3;
static NEVER: AtomicBool = AtomicBool::new(false);

fn is(answer: &Answer, code: i32, field: &str, word: &str) -> Result<()> {
    ensure!(answer.code == code && answer.object[field] == word, "not {code}, {word}: {answer:?}");
    Ok(())
}

/// All orders to one pair, in order.
fn orders(pair: &Protected, control: &traffic::Control<'_>) -> Result<Duration> {
    use Side::{First, Second};
    control.wait_steady(PATIENCE).context("before the orders")?;
    for side in [First, Second] {
        is(&pair.order(side, &["test-failover"])?, 0, "text", "the secondary takes over")?;
    }
    is(&pair.order(Second, &["promote", "--force"])?, 1, "refusal", "peer-there")?;
    is(&pair.order(Second, &["pause"])?, 1, "refusal", "other-side")?;
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
    Ok(went_on)
}

#[test]
fn a_pair_is_paused_resumed_and_handed_over_and_no_client_notices() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let pair = Protected::start(&programs, Options::default(), &NEVER).unwrap();
    let watch = Watch::start(&pair.pair.topology.client).unwrap();
    let client = Arc::clone(&pair.pair.topology.client);
    let (outcome, report) =
        traffic::run(&client, &traffic::Plan::all(SEED), &NEVER, |control| orders(&pair, control));
    let heard = watch.finish().unwrap();
    let wrong = judge(&outcome, &report, &heard, &[Side::First, Side::Second]);
    println!("handed over: went on after {:?}, longest gap {:?}", outcome, report.longest().length);
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:#?}\n{}{}", report.table(), pair.logs());
}

//! Runs in which more happens than one loss.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    Outcome,
    outcome::{Event, judge},
    play::{Chance, GOES_ON, PATIENCE},
};
use crate::{
    lab::{
        agents::{Role, Status},
        child::Programs,
        topology::SERVER_V4,
        traffic::{self, Control, Report},
    },
    pair::{
        line::Line,
        protected::{Options, Protected},
        watch::{Side, Watch},
        watched::{Watched, rename},
    },
};

/// Sides that are heard where each of two takeovers goes to the other one.
const THERE_AND_BACK: [Side; 3] = [Side::First, Side::Second, Side::First];
/// How long a secondary is given to do what it must not: longer than it waits for the primary's lease, and than the judge.
const TEMPTED: Duration = Duration::from_secs(9);

/// All traffic at once while `tale` is told, from a steady state on; it begins with an event.
fn told(
    programs: &Programs,
    seed: u64,
    stop: &AtomicBool,
    sides: &[Side],
    options: Options,
    tale: impl FnOnce(&mut Protected, &Control<'_>) -> Result<(Event, Duration)> + Send,
) -> Result<Outcome> {
    let mut pair = Protected::start(programs, options, stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let client = Arc::clone(&pair.pair.topology.client);
    let (done, report) = traffic::run(&client, &traffic::Plan::all(seed), stop, |control| {
        control.wait_steady(PATIENCE).context("before the event")?;
        thread::sleep(Chance(seed).within(0, Duration::from_millis(300)));
        tale(&mut pair, control)
    });
    let heard = watch.finish()?;
    Ok(Outcome::of(&pair, &done, &report, &heard, sides))
}

/// Every connection goes on from here.
fn goes_on(control: &Control<'_>, what: &'static str) -> Result<()> {
    control.wait_for(GOES_ON, &control.progress(), PATIENCE).context(what)
}

/// The primary's QEMU is killed, and all go on: when it was, and how long they took.
fn lose_primary(pair: &mut Protected, control: &Control<'_>) -> Result<(Event, Duration)> {
    let (before, event) = (control.progress(), Event::now(control));
    pair.vm(Side::First).process().kill();
    control.wait_for(GOES_ON, &before, PATIENCE).context("after the first takeover")?;
    Ok((event, event.elapsed()))
}

/// The survivor is protected by a new VM and killed.
fn lose_survivor(pair: &mut Protected, control: &Control<'_>, stop: &AtomicBool) -> Result<()> {
    pair.protect_survivor(Side::Second, "third", stop)?;
    goes_on(control, "protected again")?;
    let before = control.progress();
    pair.vm(Side::Second).process().kill();
    control.wait_for(GOES_ON, &before, PATIENCE).context("after the second takeover")
}

/// Loses the primary, protects the survivor by a new secondary, and loses the survivor: the same connections live on.
pub fn protected_again(programs: &Programs, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    told(programs, seed, stop, &THERE_AND_BACK, Options::default(), |pair, control| {
        let first = lose_primary(pair, control)?;
        lose_survivor(pair, control, stop)?;
        Ok(first)
    })
}

/// As [`protected_again`] with whole hosts, and nobody does anything but to bring a lost host back with a new VM and
/// `colo secondary`: the survivor's agent becomes a primary's in place, and `colo protect --watch` does the rest.
pub fn watched(programs: &Programs, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    let options = Options { secondary: vec!["--reprotect".to_owned()], ..Options::default() };
    told(programs, seed, stop, &THERE_AND_BACK, options, |pair, control| {
        let agent = ["--agent".to_owned(), pair.control(Side::Second).display().to_string()];
        let watching = Watched::start(&pair.pair, pair.delay(), &agent)?;
        let (before, first) = (control.progress(), Event::now(control));
        pair.lose_host(Side::First)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the first takeover")?;
        let went_on = first.elapsed();

        pair.wait_primary(Side::Second, stop)?;
        pair.come_back(Side::First, "third")?;
        rename(&pair.pair, Side::First)?;
        pair.wait_for(Side::Second, "protection", stop, Status::is_protected)?;
        ensure!(watching.pairs(1)?.len() == 1, "protected by somebody else, or more than once");
        goes_on(control, "protected again")?;

        let before = control.progress();
        pair.lose_host(Side::Second)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the second takeover")?;
        pair.wait_primary(Side::First, stop)?;
        goes_on(control, "ready for the next secondary")?;
        let (code, said) = watching.end()?;
        ensure!(code == Some(0), "{code:?}: {said}");
        Ok((first, went_on))
    })
}

/// As [`protected_again`], and the agent of the survivor is stopped, killed and started again: connections old and new go on
/// through what it has pinned, with no user-space hop.
pub fn promoted_agent(programs: &Programs, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    told(programs, seed, stop, &THERE_AND_BACK, Options::default(), |pair, control| {
        let first = lose_primary(pair, control)?;
        let survivor = Side::Second;
        pair.wait_standing(survivor, "alone", stop)?;
        pair.agent(survivor).signal(Signal::STOP)?;
        control.burst();
        goes_on(control, "with a stopped agent")?;
        pair.agent(survivor).signal(Signal::CONT)?;
        pair.wait_standing(survivor, "alone", stop)?;
        let through = pair.status(survivor)?.count("guest_passed")?;
        ensure!(through > 0, "the guest's output went through the agent");

        pair.agent(survivor).kill();
        goes_on(control, "with a killed agent")?;
        pair.restart_agent(survivor, Role::Secondary)?;
        pair.wait_standing(survivor, "alone", stop)?;
        let status = pair.status(survivor)?;
        ensure!(
            status.count("guest_passed")? > through,
            "nothing passed while the agent was gone: {status:?}"
        );
        goes_on(control, "with an agent that was started again")?;
        lose_survivor(pair, control, stop)?;
        Ok(first)
    })
}

/// The primary's host dies when both QEMUs are in COLO and the agents have not yet agreed on a state: what it said left
/// uncompared, so the secondary stays closed, as there would be nobody had the VM never been protected.
pub fn before_protection(programs: &Programs, _seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    let mut pair = Protected::meet(programs, Options::default(), stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let mut line = Line::open(&pair.pair.topology, SERVER_V4);
    line.ask();
    // What it does not read it does not tell.
    pair.agent(Side::First).signal(Signal::STOP)?;
    pair.enter_colo(Side::First)?;
    let standing = pair.standing(Side::Second)?;
    pair.agent(Side::First).kill();
    pair.vm(Side::First).process().kill();
    thread::sleep(TEMPTED);
    let after = pair.standing(Side::Second)?;
    let done = if (standing.as_str(), after.as_str()) == ("closed", "closed") {
        Ok(())
    } else {
        Err(anyhow::anyhow!("the secondary was {standing} and is {after} after the end of the primary"))
    };
    let heard = watch.finish()?;
    let wrong = judge(&done, &Report::default(), &heard, &[Side::First]);
    let seen = if wrong.is_empty() { String::new() } else { pair.logs() };
    Ok(Outcome { wrong, seen, ..Outcome::default() })
}

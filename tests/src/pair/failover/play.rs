//! One run of a case.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use colo_user::qmp::EventKind;
use rustix::process::Signal;

use super::{Case, Event, Moment, Outcome, outcome};
use crate::{
    lab::{
        agents::Role,
        child::Programs,
        content,
        topology::LINK,
        traffic::{self, Control},
    },
    pair::{
        protected::{Options, Protected},
        watch::{Side, Watch},
    },
};

/// How long all connections may take to go on. A lost SYN alone is sent again after 1, 3, 7 and 15 seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Requests after which a connection goes on.
pub(super) const GOES_ON: u64 = 3;
/// How long a frozen VM that runs again may try to speak.
pub(super) const THAWED: Duration = Duration::from_secs(2);
/// Between an operator's word to the secondary and the checkpoint at which the primary notices.
const UNNOTICED: Duration = Duration::from_millis(200);

/// Boots a pair, protects it, and runs one case. An error is one of the set-up; what the case showed is in the outcome.
pub fn run(programs: &Programs, case: Case, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    run_as(programs, case, Options::default(), seed, stop)
}

/// As [`run`], with a pair that is protected so.
pub fn run_as(
    programs: &Programs,
    case: Case,
    options: Options,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let options = Options { stallable: case.event == Event::Channel, ..options };
    let mut pair = Protected::start(programs, options, stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let client = Arc::clone(&pair.pair.topology.client);
    let (done, report) = traffic::run(&client, &traffic::Plan::all(seed), stop, |control| {
        control.wait_steady(PATIENCE).context("before the event")?;
        let standing = pair.standing(Side::Second)?;
        ensure!(
            standing == "protected",
            "before the event the secondary is {standing}: the pair was given up"
        );
        meet(&mut pair, control, case, Chance(seed))?;
        let (before, event) = (control.progress(), outcome::Event::now(control));
        happen(&mut pair, case.event)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the event")?;
        let went_on = event.elapsed();
        come_back(&mut pair, case.event, control)?;
        settled(&mut pair, case.event, stop)?;
        Ok((event, went_on))
    });
    let heard = watch.finish()?;
    Ok(Outcome::of(&pair, &done, &report, &heard, case.event.sides()))
}

/// Goes on until the moment has come.
fn meet(pair: &mut Protected, control: &Control<'_>, case: Case, chance: Chance) -> Result<()> {
    thread::sleep(chance.within(0, Duration::from_millis(300)));
    match (case.moment, case.event) {
        (Moment::Steady, _) => {}
        (Moment::Handshakes, _) => {
            control.burst();
            thread::sleep(chance.within(1, Duration::from_millis(40)));
        }
        // One that is silent for the first time in a checkpoint is so from a guest's STOP on.
        (Moment::Checkpoint, Event::SecondaryFrozen) => {
            pair.checkpoint_until(Side::Second, &EventKind::Stop)?;
        }
        (Moment::Checkpoint, Event::Channel) => pair.checkpoint_until(Side::First, &EventKind::Stop)?,
        (Moment::Checkpoint, _) => {
            pair.checkpoint()?;
            thread::sleep(chance.within(2, Duration::from_millis(20)));
        }
    }
    Ok(())
}

/// Lets the event happen.
fn happen(pair: &mut Protected, event: Event) -> Result<()> {
    match event {
        Event::PrimaryVm => pair.vm(Side::First).process().kill(),
        Event::PrimaryHost => pair.lose_host(Side::First)?,
        Event::PrimaryFrozen => pair.vm(Side::First).process().signal(Signal::STOP)?,
        Event::PrimaryAgent => pair.agent(Side::First).kill(),
        Event::PrimaryLeft => pair.leave_colo(Side::First)?,
        Event::SecondaryVm => pair.vm(Side::Second).process().kill(),
        Event::SecondaryFrozen => pair.vm(Side::Second).process().signal(Signal::STOP)?,
        Event::SecondaryAgent => pair.agent(Side::Second).kill(),
        Event::SecondaryLeft => {
            pair.leave_colo(Side::Second)?;
            thread::sleep(UNNOTICED);
            pair.checkpoint()?;
        }
        Event::BothLeft => {
            pair.leave_colo(Side::Second)?;
            pair.leave_colo(Side::First)?;
        }
        Event::Channel => pair.pair.stall()?,
        Event::Link => {
            pair.host(Side::First).netns.run(&format!("ip link set {LINK} down"))?;
        }
    }
    Ok(())
}

/// What was lost comes back where it can, and everything still goes on without it.
fn come_back(pair: &mut Protected, event: Event, control: &Control<'_>) -> Result<()> {
    match event {
        Event::PrimaryFrozen => pair.vm(Side::First).process().signal(Signal::CONT)?,
        Event::SecondaryFrozen => pair.vm(Side::Second).process().signal(Signal::CONT)?,
        Event::PrimaryAgent => pair.restart_agent(Side::First, Role::Primary)?,
        _ => return Ok(()),
    }
    let before = control.progress();
    thread::sleep(THAWED);
    control.wait_for(GOES_ON, &before, PATIENCE).context("after the lost side came back")
}

/// One side is alone, and says so. The other says that it is closed if its agent lives; where its QEMU lives too, the guest
/// stands still.
fn settled(pair: &mut Protected, event: Event, stop: &AtomicBool) -> Result<()> {
    let survivor = event.survivor();
    pair.wait_standing(survivor, "alone", stop)?;
    ensure!(pair.runs(survivor)?, "the guest that goes on does not run");
    if matches!(event, Event::PrimaryHost | Event::SecondaryAgent) {
        return Ok(());
    }
    pair.wait_standing(survivor.other(), "closed", stop)?;
    if matches!(event, Event::PrimaryVm | Event::SecondaryVm) {
        return Ok(());
    }
    pair.wait_stopped(survivor.other(), stop)
}

/// Numbers from a seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A time below `limit`; each `which` has its own.
    pub(super) fn within(self, which: u64, limit: Duration) -> Duration {
        let mut bytes = [0; 4];
        content::fill(self.0, which * 8, &mut bytes);
        limit.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_made_of_the_seed() {
        let limit = Duration::from_millis(10);
        assert_eq!(Chance(1).within(0, limit), Chance(1).within(0, limit));
        assert_ne!(Chance(1).within(0, limit), Chance(2).within(0, limit));
        assert!((0..100).all(|seed| Chance(seed).within(1, limit) <= limit));
    }
}

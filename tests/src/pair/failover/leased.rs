//! With etcd as the judge: the primary's side is cut off in every way from whom it needs, clients reach it as before, and the
//! witness on their switch hears it fall silent before the other side speaks.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    Outcome,
    outcome::Event,
    play::{Chance, GOES_ON, PATIENCE, THAWED},
};
use crate::{
    etcd::WIRE,
    lab::{
        child::Programs,
        topology::{CAPTURE_SECONDARY, LINK, LINK_SECONDARY},
        traffic::{self, Control},
    },
    pair::{
        protected::{Etcd, Options, Protected},
        watch::{Side, Watch},
    },
};

/// Of which one may be lost.
const MEMBERS: usize = 3;
/// The lease, in seconds.
pub const LEASE: u64 = 5;
/// How long a survivor whose lease has ended is listened to.
const SILENT: Duration = Duration::from_secs(2);

/// What the primary's side loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The whole host: its wires are cut, agent and QEMU are killed.
    Host,
    /// The host's wires to the other one and to etcd; clients reach it.
    Island,
    /// What the host says to the other one and to etcd; it hears everything, and clients reach it.
    Mute,
    /// All members of etcd but one, the leader, which has lost the others; the wire to the other host stands.
    Minority,
    /// Its agent stands still, and goes on when the other side is the service.
    Frozen,
}

/// Boots a pair with etcd, cuts the primary off, and waits until the other side is the service; then what was cut is joined
/// again. In the end the survivor's agent stands still until its lease has ended, and goes on.
pub fn cut_off(programs: &Programs, cut: Cut, seed: u64, stop: &AtomicBool) -> Result<Outcome> {
    let etcd = Some(Etcd { members: MEMBERS, ttl: LEASE });
    let options = Options { etcd, ..Options::default() };
    let mut pair = Protected::start(programs, options, stop)?;
    let watch = Watch::start(&pair.pair.topology.client)?;
    let client = Arc::clone(&pair.pair.topology.client);
    let (done, report) = traffic::run(&client, &traffic::Plan::all(seed), stop, |control| {
        control.wait_steady(PATIENCE).context("before the event")?;
        thread::sleep(Chance(seed).within(0, Duration::from_millis(300)));
        let (before, event) = (control.progress(), Event::now(control));
        let member = happen(&mut pair, cut, true, None)?;
        // Until its lease ends, a primary that has lost etcd alone is heard.
        pair.wait_standing(Side::Second, "alone", stop)?;
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the event")?;
        let went_on = event.elapsed();
        let before = control.progress();
        happen(&mut pair, cut, false, member)?;
        thread::sleep(THAWED);
        control.wait_for(GOES_ON, &before, PATIENCE).context("after the lost side came back")?;
        if cut != Cut::Host {
            pair.wait_standing(Side::First, "closed", stop)?;
            pair.wait_stopped(Side::First, stop)?;
        } else {
            leads(&mut pair, control, stop)?;
        }
        falls_silent(&mut pair, control)?;
        Ok((event, went_on))
    });
    let heard = watch.finish()?;
    Ok(Outcome::of(&pair, &done, &report, &heard, &[Side::First, Side::Second]))
}

/// Cuts, or joins what was cut. Returns the member of etcd that was cut off.
fn happen(pair: &mut Protected, cut: Cut, cuts: bool, member: Option<usize>) -> Result<Option<usize>> {
    let cluster = pair.cluster.as_ref().context("a pair with etcd")?;
    let netns = &pair.host(Side::First).netns;
    let link = |name: &str| netns.run(&format!("ip link set {name} {}", if cuts { "down" } else { "up" }));
    let drops = |to: &str| {
        netns.run(&format!("ip route {} blackhole {to}/32", if cuts { "add" } else { "del" })).map(drop)
    };
    match cut {
        Cut::Host if cuts => pair.lose_host(Side::First)?,
        Cut::Host => {}
        Cut::Island => [LINK, WIRE].map(link).into_iter().try_for_each(|done| done.map(drop))?,
        Cut::Mute => {
            drops(LINK_SECONDARY)?;
            (0..cluster.members()).try_for_each(|member| drops(&cluster.address(member)))?;
        }
        Cut::Minority => {
            let alone = member.map_or_else(|| cluster.leader(), Ok)?;
            let mut others = (0..cluster.members()).filter(|&member| member != alone);
            others.try_for_each(|member| drops(&cluster.address(member)))?;
            cluster.isolate(alone, cuts)?;
            return Ok(Some(alone));
        }
        Cut::Frozen => {
            pair.agent(Side::First).signal(if cuts { Signal::STOP } else { Signal::CONT })?;
        }
    }
    Ok(None)
}

/// The survivor's agent becomes a primary's with the lease that it has.
fn leads(pair: &mut Protected, control: &Control<'_>, stop: &AtomicBool) -> Result<()> {
    let token =
        |pair: &Protected| pair.status(Side::Second).map(|status| status.json()["lease"]["token"].clone());
    let before = token(pair)?;
    let answer = pair.order(Side::Second, &["reprotect"])?;
    ensure!(answer.code == 0, "{answer:?}");
    pair.wait_primary(Side::Second, stop)?;
    let after = token(pair)?;
    ensure!(before == after && before.is_number(), "the fencing token was {before} and is {after}");
    control.wait_for(GOES_ON, &control.progress(), PATIENCE).context("with a primary's agent")
}

/// The survivor's frames go straight through the kernel; without its agent they do so until its lease ends.
fn falls_silent(pair: &mut Protected, control: &Control<'_>) -> Result<()> {
    let client = Arc::clone(&pair.pair.topology.client);
    let said = || -> Result<u64> {
        let file = format!("/sys/class/net/{CAPTURE_SECONDARY}/statistics/rx_packets");
        Ok(client.run(&format!("cat {file}"))?.trim().parse()?)
    };
    pair.agent(Side::Second).signal(Signal::STOP)?;
    thread::sleep(Duration::from_secs(LEASE));
    let before = said()?;
    thread::sleep(SILENT);
    let after = said();
    pair.agent(Side::Second).signal(Signal::CONT)?;
    let after = after?;
    ensure!(before == after, "{} frames left after the end of the lease", after - before);
    control.wait_for(GOES_ON, &control.progress(), PATIENCE).context("after the lease was had again")
}

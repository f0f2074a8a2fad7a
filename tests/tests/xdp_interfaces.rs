//! Interfaces that go, come back, or are made useless, under the data path alone: what was held is kept, what was released leaves in
//! order once it can, nothing leaves uncompared, and it says all the while which side carries nothing, and why.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_tests::ends::{End, Ends, GUEST, Joint, QUIET, UPLINK, capture, numbered};
use colo_tests::netns::Netns;
use colo_tests::stranger;
use colo_user::datapath::{
    AttachMode, Captured, Config, Datapath, HoldBackend, Injected, Mode, Role, TAP_CREDIT, detach_pinned,
};
use colo_user::path::{Paths, Side};

/// How long anything may take; a second is promised, on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);
const JOINTS: [Joint; 2] = [Joint::Tap, Joint::Veth];

/// Runs `body` for guests on taps and veth pairs, with both backends, in the driver and in the generic path.
fn everywhere(role: Role, body: impl Fn(&mut Ends, &mut Datapath) -> Result<()>) {
    for (joint, backend, mode) in [
        (Joint::Tap, HoldBackend::Afxdp, AttachMode::Auto),
        (Joint::Tap, HoldBackend::Ringbuf, AttachMode::Skb),
        (Joint::Veth, HoldBackend::Afxdp, AttachMode::Skb),
        (Joint::Veth, HoldBackend::Ringbuf, AttachMode::Auto),
    ] {
        let run = || -> Result<()> {
            let (mut ends, mut datapath) = attach_as(role, joint, backend, mode)?;
            body(&mut ends, &mut datapath)
        };
        run().unwrap_or_else(|error| panic!("guest on {joint:?}, {backend:?}, {mode:?}: {error:?}"));
    }
}

/// A data path on a thread that stays where its interfaces are, as an agent's does.
fn attach_as(role: Role, joint: Joint, backend: HoldBackend, mode: AttachMode) -> Result<(Ends, Datapath)> {
    let ends = Ends::new(joint, Joint::Veth)?;
    ends.host.stay()?;
    let datapath = Datapath::attach(&ends.config(role, mode, backend))?;
    Ok((ends, datapath))
}

fn attach(role: Role, joint: Joint, backend: HoldBackend) -> Result<(Ends, Datapath)> {
    attach_as(role, joint, backend, AttachMode::Auto)
}

/// Turns until the paths are as wanted.
fn until(datapath: &mut Datapath, what: &str, wanted: impl Fn(&Paths) -> bool) -> Result<()> {
    let begun = Instant::now();
    while !wanted(datapath.paths()) {
        ensure!(begun.elapsed() < PATIENCE, "not {what}: {:?}", datapath.paths());
        datapath.wait(&[], &[], Some(Duration::from_millis(20)))?;
    }
    println!("{what}: after {:?}", begun.elapsed());
    Ok(())
}

/// Turns until the first side that carries nothing has this reason.
fn lost(datapath: &mut Datapath, reason: &str) -> Result<()> {
    until(datapath, reason, |paths| paths.fault().is_some_and(|(side, fault)| fault.reason(side) == reason))
}

fn whole(datapath: &mut Datapath) -> Result<()> {
    until(datapath, "whole", Paths::is_whole)
}

/// The guest says a frame, which is held.
fn said(ends: &Ends, datapath: &mut Datapath, number: u32) -> Result<Captured> {
    ends.guest.say(&numbered(number, 200))?;
    let held = capture(datapath, 1)?.remove(0);
    ensure!(datapath.frame(held.id) == numbered(number, 200), "another frame than {number}");
    ensure!(ends.client.hear(QUIET)?.is_none(), "{number} left uncompared");
    Ok(held)
}

/// A client says a frame, which the guest hears, and the agent has a copy under the next number.
fn heard(ends: &Ends, datapath: &mut Datapath, number: u32) -> Result<u64> {
    ends.client.say(&numbered(number, 300))?;
    ensure!(ends.guest.hear_exactly(1)? == [numbered(number, 300)]);
    let mut copies = Vec::new();
    while datapath.next_mirrored(|copy| copies.push((copy.index, copy.frame.to_vec()))) > 0 {}
    ensure!(copies.len() == 1 && copies[0].1 == numbered(number, 300), "{copies:?}");
    Ok(copies[0].0)
}

/// Frames go both ways, held and mirrored.
fn works(ends: &Ends, datapath: &mut Datapath, number: u32) -> Result<()> {
    let held = said(ends, datapath, number)?;
    datapath.release(held.id);
    datapath.flush()?;
    ensure!(ends.client.hear_exactly(1)? == [numbered(number, 200)], "guest to client");
    heard(ends, datapath, number).map(drop)
}

fn delete(ends: &Ends, interface: &str) -> Result<()> {
    ends.host.run(&format!("ip link del {interface}")).map(drop)
}

#[test]
fn what_is_held_outlives_the_interface_of_the_guest() {
    everywhere(Role::Primary, |ends, datapath| {
        let first = said(ends, datapath, 1)?;
        ensure!(heard(ends, datapath, 2)? == 0);
        // Not taken off the ring yet.
        ends.guest.say(&numbered(3, 200))?;
        std::thread::sleep(QUIET);
        delete(ends, GUEST)?;
        lost(datapath, "guest interface gone")?;
        ensure!(datapath.paths().of(Side::Uplink).is_whole() && datapath.frame(first.id) == numbered(1, 200));
        let second = capture(datapath, 1)?.remove(0);
        ensure!(datapath.frame(second.id) == numbered(3, 200), "what the guest said last is lost");
        // Clients' frames go nowhere, are counted and not numbered.
        ends.client.say(&numbered(4, 300))?;
        datapath.release(first.id);
        datapath.flush()?;
        ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
        ensure!(datapath.counters().get("uplink_no_guest") == Some(1), "{:?}", datapath.counters());

        ends.make_anew(GUEST)?;
        whole(datapath)?;
        ensure!(heard(ends, datapath, 5)? == 1, "the next number");
        let third = said(ends, datapath, 6)?;
        for held in [second, third] {
            datapath.release(held.id);
        }
        datapath.flush()?;
        ensure!(ends.client.hear_exactly(2)? == [numbered(3, 200), numbered(6, 200)]);
        let counters = datapath.counters();
        ensure!((counters.get("guest_lost"), counters.get("guest_restored")) == (Some(1), Some(1)));
        ensure!(datapath.pressure().lost == 0, "{:?}", datapath.pressure());
        Ok(())
    });
}

#[test]
fn what_is_released_waits_for_the_next_uplink_in_order() {
    everywhere(Role::Primary, |ends, datapath| {
        let first = said(ends, datapath, 1)?;
        delete(ends, UPLINK)?;
        lost(datapath, "uplink gone")?;
        datapath.release(first.id);
        ensure!(datapath.emit(&numbered(2, 100)));
        datapath.flush()?;
        ensure!(!datapath.is_flushed());
        // What the guest says is held all the while.
        ends.guest.say(&numbered(3, 200))?;
        let second = capture(datapath, 1)?.remove(0);
        datapath.release(second.id);
        datapath.flush()?;
        ends.make_anew(UPLINK)?;
        whole(datapath)?;
        datapath.flush()?;
        ensure!(datapath.is_flushed());
        let heard = ends.client.hear_exactly(3)?;
        ensure!(heard == [numbered(1, 200), numbered(2, 100), numbered(3, 200)], "{heard:02x?}");
        works(ends, datapath, 4)?;
        let pressure = datapath.pressure();
        ensure!((pressure.lost, pressure.sending, pressure.held) == (0, 0, 0), "{pressure:?}");
        Ok(())
    });
}

#[test]
fn both_may_go_again_and_again() {
    everywhere(Role::Primary, |ends, datapath| {
        let first = said(ends, datapath, 1)?;
        for round in 0..3 {
            for interface in [GUEST, UPLINK] {
                delete(ends, interface)?;
            }
            until(datapath, "both gone", |paths| Side::ALL.iter().all(|side| !paths.of(*side).is_whole()))?;
            let order = if round % 2 == 0 { [GUEST, UPLINK] } else { [UPLINK, GUEST] };
            order.into_iter().try_for_each(|interface| ends.make_anew(interface))?;
            whole(datapath)?;
            works(ends, datapath, 10 + round)?;
        }
        ensure!(datapath.frame(first.id) == numbered(1, 200), "a frame changed while it was held");
        datapath.release(first.id);
        datapath.flush()?;
        ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
        Ok(())
    });
}

#[test]
fn one_that_is_set_down_says_so_and_is_used_again_when_it_is_up() {
    everywhere(Role::Primary, |ends, datapath| {
        for (interface, reason) in [(GUEST, "guest interface down"), (UPLINK, "uplink down")] {
            let first = said(ends, datapath, 1)?;
            ends.host.run(&format!("ip link set {interface} down"))?;
            lost(datapath, reason)?;
            if interface == UPLINK {
                datapath.release(first.id);
                datapath.flush()?;
            }
            ends.host.run(&format!("ip link set {interface} up"))?;
            whole(datapath)?;
            if interface == GUEST {
                datapath.release(first.id);
            }
            datapath.flush()?;
            ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
            works(ends, datapath, 2)?;
        }
        Ok(())
    });
}

#[test]
fn one_without_carrier_is_the_same_when_it_has_one() -> Result<()> {
    let (ends, mut datapath) = attach(Role::Primary, Joint::Veth, HoldBackend::Afxdp)?;
    for (end, reason) in
        [(&ends.guest, "guest interface without carrier"), (&ends.client, "uplink without carrier")]
    {
        let End::Veth(_, far) = end else { anyhow::bail!("both ends are on veth pairs") };
        far.run("ip link set far0 down")?;
        lost(&mut datapath, reason)?;
        far.run("ip link set far0 up")?;
        whole(&mut datapath)?;
        works(&ends, &mut datapath, 1)?;
    }
    Ok(())
}

#[test]
fn one_that_begins_without_carrier_carries_nothing_from_the_start() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let End::Veth(_, far) = &ends.client else { anyhow::bail!("the client is on a veth") };
    far.run("ip link set far0 down")?;
    ends.host.stay()?;
    let mut datapath = Datapath::attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Afxdp))?;
    ensure!(
        datapath
            .paths()
            .fault()
            .is_some_and(|(side, fault)| side == Side::Uplink && fault.word() == "no carrier")
    );
    far.run("ip link set far0 up")?;
    whole(&mut datapath)?;
    works(&ends, &mut datapath, 1)
}

#[test]
fn a_new_name_changes_nothing_but_the_name() {
    everywhere(Role::Primary, |ends, datapath| {
        for (interface, side) in [(GUEST, Side::Guest), (UPLINK, Side::Uplink)] {
            ends.host.run(&format!("ip link set {interface} down"))?;
            ends.host.run(&format!("ip link set {interface} name other0"))?;
            ends.host.run("ip link set other0 up")?;
            until(datapath, "called other0", |paths| paths.of(side).name == "other0")?;
            whole(datapath)?;
            ensure!(datapath.paths().of(side).given == interface);
            works(ends, datapath, 1)?;
            // Another that has the old name now is nobody.
            ends.host.run(&format!("ip link add {interface} type bridge"))?;
            ends.host.run(&format!("ip link set {interface} up"))?;
            works(ends, datapath, 2)?;
            ensure!(datapath.paths().is_whole(), "{:?}", datapath.paths());
            ends.host.run(&format!("ip link del {interface}"))?;
            ends.host.run(&format!("ip link set other0 name {interface}"))?;
            until(datapath, "called as before", |paths| paths.of(side).name == interface)?;
            works(ends, datapath, 3)?;
        }
        Ok(())
    });
}

#[test]
fn one_that_is_moved_away_is_left_as_it_was_found_and_taken_when_it_is_back() {
    everywhere(Role::Primary, |ends, datapath| {
        for (interface, reason) in [(GUEST, "guest interface moved"), (UPLINK, "uplink moved")] {
            let first = said(ends, datapath, 1)?;
            let elsewhere = Netns::new("colo-elsewhere")?;
            ends.host.run(&format!("ip link set {interface} netns {}", elsewhere.name()))?;
            lost(datapath, reason)?;
            ensure!(stranger::program_on(&elsewhere, interface)?.is_none(), "our program is on it still");
            datapath.release(first.id);
            elsewhere.run(&format!("ip link set {interface} netns {}", host_of(ends)))?;
            ends.host.run(&format!("ip link set {interface} up"))?;
            whole(datapath)?;
            datapath.flush()?;
            ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
            works(ends, datapath, 2)?;
        }
        Ok(())
    });
}

fn host_of(ends: &Ends) -> &str {
    ends.host.name()
}

#[test]
fn a_program_that_somebody_takes_off_is_put_back() {
    everywhere(Role::Primary, |ends, datapath| {
        for interface in [GUEST, UPLINK] {
            // The usual commands do not: the program is held by a link.
            for mode in ["xdp", "xdpdrv", "xdpgeneric"] {
                let _ = ends.host.run(&format!("ip link set dev {interface} {mode} off"));
            }
            works(ends, datapath, 1)?;
            let before = datapath.paths().clone();
            ensure!(before.is_whole(), "{before:?}");
            stranger::take_off(&ends.host, interface)?;
            let side = if interface == GUEST { Side::Guest } else { Side::Uplink };
            until(datapath, "put back", |paths| {
                paths.is_whole() && paths.of(side).restored > before.of(side).restored
            })?;
            ensure!(datapath.paths().of(side).lost == before.of(side).lost + 1);
            works(ends, datapath, 2)?;
        }
        Ok(())
    });
}

#[test]
fn the_program_of_somebody_else_is_left_alone_until_it_leaves() {
    everywhere(Role::Primary, |ends, datapath| {
        for (interface, reason) in [(GUEST, "guest interface taken"), (UPLINK, "uplink taken")] {
            let first = said(ends, datapath, 1)?;
            stranger::take_off(&ends.host, interface)?;
            let other = stranger::attach(&ends.host, interface, stranger::NATIVE)?;
            let theirs = stranger::program_on(&ends.host, interface)?;
            lost(datapath, reason)?;
            for _ in 0..20 {
                datapath.wait(&[], &[], Some(Duration::from_millis(20)))?;
            }
            ensure!(stranger::program_on(&ends.host, interface)? == theirs, "it was touched");
            let fault = datapath.paths().fault().map(|(_, fault)| fault.clone());
            let way_out = fault.context("a fault")?.way_out(Side::Guest, interface, interface);
            ensure!(way_out.contains(&format!("program {}", theirs.context("a program")?)), "{way_out}");
            drop(other);
            whole(datapath)?;
            datapath.release(first.id);
            datapath.flush()?;
            ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
            works(ends, datapath, 2)?;
            // In the place of ours, in our own link: that one is ours to take away.
            let before = datapath.paths().clone();
            stranger::replace(&ends.host, interface)?;
            until(datapath, "put back", |paths| {
                let restored =
                    |paths: &Paths| Side::ALL.map(|side| paths.of(side).restored).iter().sum::<u64>();
                paths.is_whole() && restored(paths) > restored(&before)
            })?;
            works(ends, datapath, 3)?;
        }
        Ok(())
    });
}

/// Neither index nor name tells it from the one before.
#[test]
fn one_with_the_index_of_the_one_before_is_another() -> Result<()> {
    let (mut ends, mut datapath) = attach(Role::Primary, Joint::Veth, HoldBackend::Afxdp)?;
    let first = said(&ends, &mut datapath, 1)?;
    let index = datapath.paths().of(Side::Guest).index;
    delete(&ends, GUEST)?;
    ends.make_anew_with(GUEST, index)?;
    until(&mut datapath, "restored", |paths| paths.is_whole() && paths.of(Side::Guest).restored == 1)?;
    ensure!(datapath.paths().of(Side::Guest).index == index);
    datapath.release(first.id);
    datapath.flush()?;
    ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
    works(&ends, &mut datapath, 2)
}

#[test]
fn what_the_guest_has_read_is_counted_anew_on_a_new_tap() -> Result<()> {
    let (mut ends, mut datapath) = attach(Role::Primary, Joint::Tap, HoldBackend::Afxdp)?;
    let read = |datapath: &mut Datapath| {
        while datapath.next_mirrored(|_| {}) > 0 {}
        datapath.input_read()
    };
    heard(&ends, &mut datapath, 1)?;
    let before = read(&mut datapath);
    ensure!(before.first == 1, "{before:?}");
    // Two that it never reads.
    for number in [2, 3] {
        ends.client.say(&numbered(number, 300))?;
    }
    std::thread::sleep(QUIET);
    ensure!(read(&mut datapath).first == 1);
    delete(&ends, GUEST)?;
    lost(&mut datapath, "guest interface gone")?;
    let gone = read(&mut datapath);
    ensure!(gone.first == 3 && gone.changes > before.changes, "{gone:?}");
    ends.make_anew(GUEST)?;
    whole(&mut datapath)?;
    ensure!(read(&mut datapath).first == 3);
    for number in [4, 5, 6] {
        ends.client.say(&numbered(number, 300))?;
    }
    ensure!(ends.guest.hear(PATIENCE)? == Some(numbered(4, 300)));
    let after = read(&mut datapath);
    ensure!(after.first == 4 && after.changes > gone.changes, "{after:?}");
    Ok(())
}

#[test]
fn input_for_a_secondary_waits_for_its_guest_and_credit_begins_anew() {
    everywhere(Role::Secondary, |ends, datapath| {
        ensure!(datapath.inject(&numbered(1, 300))? == Injected::Sent);
        ensure!(ends.guest.hear_exactly(1)? == [numbered(1, 300)]);
        // As many as a tap has credit for, never read.
        while matches!(ends.guest, End::Tap(_)) && datapath.inject(&numbered(2, 300))? == Injected::Sent {}
        delete(ends, GUEST)?;
        lost(datapath, "guest interface gone")?;
        ensure!(datapath.inject(&numbered(3, 300))? == Injected::NoCredit);
        ensure!(datapath.injected_unread() == 0);
        ends.make_anew(GUEST)?;
        whole(datapath)?;
        for number in 0..TAP_CREDIT {
            ensure!(datapath.inject(&numbered(10 + number, 300))? == Injected::Sent, "{number}");
            ensure!(ends.guest.hear(PATIENCE)? == Some(numbered(10 + number, 300)));
        }
        // What its guest says is captured, and the client network is shut out.
        said(ends, datapath, 4).map(drop)
    });
}

#[test]
fn what_a_closed_side_had_released_never_leaves() {
    everywhere(Role::Primary, |ends, datapath| {
        let first = said(ends, datapath, 1)?;
        let second = said(ends, datapath, 2)?;
        ends.host.run(&format!("ip link set {UPLINK} down"))?;
        lost(datapath, "uplink down")?;
        datapath.release(first.id);
        datapath.release(second.id);
        datapath.flush()?;
        datapath.abandon();
        ensure!(datapath.counters().get("abandoned") == Some(2) && datapath.is_flushed());
        ensure!(datapath.pressure().sending == 0, "{:?}", datapath.pressure());
        ends.host.run(&format!("ip link set {UPLINK} up"))?;
        whole(datapath)?;
        datapath.flush()?;
        ensure!(ends.client.hear(QUIET)?.is_none(), "it left");
        works(ends, datapath, 3)
    });
}

#[test]
fn what_is_pinned_is_found_by_the_next_agent_on_the_new_interfaces() {
    for joint in JOINTS {
        let run = || -> Result<()> {
            let (mut ends, mut first) = attach(Role::Primary, joint, HoldBackend::Afxdp)?;
            first.pin()?;
            first.set_mode(Mode::Pass)?;
            for interface in [GUEST, UPLINK] {
                delete(&ends, interface)?;
                until(&mut first, "lost", |paths| !paths.is_whole())?;
                ends.make_anew(interface)?;
                whole(&mut first)?;
            }
            first.leave()?;
            // Nobody is there.
            ends.guest.say(&numbered(1, 200))?;
            ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)]);
            let config: Config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Afxdp);
            let mut second = Datapath::attach(&config)?;
            ensure!(second.is_adopted());
            ends.client.say(&numbered(2, 300))?;
            ensure!(ends.guest.hear_exactly(1)? == [numbered(2, 300)]);
            second.set_mode(Mode::Protect)?;
            works(&ends, &mut second, 3)?;
            second.detach()?;
            ensure!(!ends.host.enter(|| detach_pinned(GUEST, UPLINK))?, "pins were left");
            ensure!(stranger::program_on(&ends.host, GUEST)?.is_none());
            Ok(())
        };
        run().unwrap_or_else(|error| panic!("guest on {joint:?}: {error:?}"));
    }
}

#[test]
fn one_that_cannot_be_attached_to_says_why_and_is_tried_again() -> Result<()> {
    let (ends, mut datapath) = attach(Role::Primary, Joint::Tap, HoldBackend::Afxdp)?;
    delete(&ends, UPLINK)?;
    lost(&mut datapath, "uplink gone")?;
    ends.host.run(&format!(
        "ip link add {UPLINK} numrxqueues 2 numtxqueues 2 type veth peer name many1 numrxqueues 2 numtxqueues 2"
    ))?;
    ends.host.run("ip link set many1 up")?;
    ends.host.run(&format!("ethtool -L {UPLINK} rx 2 tx 2"))?;
    ends.host.run(&format!("ip link set {UPLINK} up"))?;
    lost(&mut datapath, "uplink refused")?;
    let fault = datapath.paths().fault().map(|(_, fault)| fault.clone()).context("a fault")?;
    let way_out = fault.way_out(Side::Uplink, UPLINK, UPLINK);
    ensure!(way_out.contains("2 receive queues") && way_out.contains("ethtool -L"), "{way_out}");
    ends.host.run(&format!("ethtool -L {UPLINK} rx 1"))?;
    whole(&mut datapath)
}

//! The data path between a guest and a client in real namespaces: on taps and veth pairs, native and generic, with both
//! hold backends.

use anyhow::{Context as _, Result, ensure};
use colo_tests::ends::{End, Ends, GUEST, Joint, QUIET, SOON, UPLINK, capture, mirrored, numbered};
use colo_user::datapath::{AttachMode, Datapath, HoldBackend, Injected, Mode, Role};
use colo_user::mono::Mono;

const JOINTS: [(Joint, Joint); 4] = [
    (Joint::Tap, Joint::Veth),
    (Joint::Veth, Joint::Veth),
    (Joint::Tap, Joint::Tap),
    (Joint::Veth, Joint::Tap),
];
const BACKENDS: [HoldBackend; 2] = [HoldBackend::Afxdp, HoldBackend::Ringbuf];
const MODES: [(AttachMode, &str); 2] = [(AttachMode::Native, "native"), (AttachMode::Skb, "skb")];

/// Runs `body` for every kind of interface, attach mode and hold backend.
fn everywhere(role: Role, body: impl Fn(&Ends, &mut Datapath) -> Result<()>) {
    for (guest, client) in JOINTS {
        for (attach, shown) in MODES {
            for backend in BACKENDS {
                let run = || -> Result<()> {
                    let ends = Ends::new(guest, client)?;
                    let mut datapath = ends.attach(&ends.config(role, attach, backend))?;
                    ensure!(datapath.attached().guest == shown && datapath.attached().uplink == shown);
                    ensure!(datapath.backend() == backend);
                    body(&ends, &mut datapath)?;
                    let counters = datapath.counters();
                    ensure!(counters.get("stale_frame") == Some(0), "{counters:?}");
                    ensure!(counters.get("hold_unstamped").unwrap_or(0) == 0, "{counters:?}");
                    let pressure = datapath.pressure();
                    ensure!(pressure.total == 1024, "{pressure:?}");
                    Ok(())
                };
                run().unwrap_or_else(|error| {
                    panic!("guest on {guest:?}, client on {client:?}, {shown}, {backend:?}: {error:?}")
                });
            }
        }
    }
}

fn lengths() -> impl Iterator<Item = usize> {
    [60, 61, 127, 128, 129, 511, 512, 513, 1000, 1513, 1514].into_iter().chain(200..240)
}

/// Says frames, releases them as they come, and compares what the client hears with what `expected` makes of each.
fn relay(ends: &Ends, datapath: &mut Datapath, expected: impl Fn(Vec<u8>) -> Vec<u8>) -> Result<()> {
    let frames: Vec<_> = (0..).zip(lengths()).map(|(number, length)| numbered(number, length)).collect();
    let before = Mono::now();
    for frame in &frames {
        ends.guest.say(frame)?;
    }
    let captured = capture(datapath, frames.len())?;
    let stamps: Vec<_> = captured.iter().map(|frame| frame.stamp).collect();
    ensure!(stamps.is_sorted(), "stamps go back");
    ensure!(before <= stamps[0] && stamps[stamps.len() - 1] <= Mono::now(), "stamps are of another clock");
    ensure!(ends.client.hear(QUIET)?.is_none(), "a frame left before its release");
    ensure!(datapath.pressure().held as usize == frames.len(), "{:?}", datapath.pressure());
    for (frame, held) in frames.iter().zip(&captured) {
        ensure!(datapath.frame(held.id) == frame && held.len as usize == frame.len());
        datapath.release(held.id);
    }
    datapath.flush()?;
    let heard = ends.client.hear_exactly(frames.len())?;
    for (said, heard) in frames.into_iter().zip(heard) {
        ensure!(expected(said) == heard, "a frame was changed on its way");
    }
    Ok(())
}

#[test]
fn released_frames_arrive_unchanged_and_in_order() {
    everywhere(Role::Primary, |ends, datapath| relay(ends, datapath, |frame| frame));
}

#[test]
fn a_corrupted_byte_would_be_seen() {
    let ends = Ends::new(Joint::Tap, Joint::Veth).unwrap();
    let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
    let mut datapath = ends.attach(&config).unwrap();
    let corrupt = |mut frame: Vec<u8>| {
        if let Some(byte) = frame.get_mut(1513) {
            *byte ^= 1;
        }
        frame
    };
    let error = relay(&ends, &mut datapath, corrupt).unwrap_err().to_string();
    assert!(error.contains("changed"), "{error}");
}

#[test]
fn discarded_frames_never_arrive_and_their_buffers_come_back() {
    everywhere(Role::Primary, |ends, datapath| {
        for round in 0..20 {
            for number in 0..100 {
                ends.guest.say(&numbered(round * 100 + number, 200))?;
            }
            for held in capture(datapath, 100)? {
                datapath.discard(held.id);
            }
        }
        ensure!(ends.client.hear(QUIET)?.is_none());
        let pressure = datapath.pressure();
        ensure!((pressure.held, pressure.lost) == (0, 0), "{pressure:?}");
        Ok(())
    });
}

#[test]
fn vlan_tags_stay_in_the_frame() {
    everywhere(Role::Primary, |ends, datapath| {
        // A packet socket takes the tag off what it hears; a tap does not.
        let single: &[u8] = &[0x81, 0, 0, 100];
        let double: &[u8] = &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100];
        let old: &[u8] = &[0x91, 0, 0, 200, 0x81, 0, 0, 100];
        let deep: &[u8] = &[0x93, 0, 0, 1, 0x92, 0, 0, 2, 0x91, 0, 0, 3, 0x88, 0xa8, 0, 4];
        for (number, length, tags) in [(1, 1514, single), (2, 1506, double), (3, 1506, old), (4, 1400, deep)]
        {
            let mut frame = numbered(number, length);
            frame.splice(12..12, tags.iter().copied());
            ends.guest.say(&frame)?;
            let held = capture(datapath, 1)?.remove(0);
            ensure!(datapath.frame(held.id) == frame, "captured without its tag");
            datapath.release(held.id);
            datapath.flush()?;
            let heard = ends.client.hear(SOON)?.context("nothing was released")?;
            if matches!(ends.client, End::Tap(_)) {
                ensure!(heard == frame, "released without its tag");
            }
        }
        Ok(())
    });
}

#[test]
fn frames_are_released_in_the_order_of_release() {
    everywhere(Role::Primary, |ends, datapath| {
        for number in 0..50 {
            ends.guest.say(&numbered(number, 100))?;
        }
        let captured = capture(datapath, 50)?;
        for held in captured.iter().rev() {
            datapath.release(held.id);
        }
        datapath.flush()?;
        let heard = ends.client.hear_exactly(50)?;
        for (number, frame) in (0..50).rev().zip(heard) {
            ensure!(frame == numbered(number, 100));
        }
        Ok(())
    });
}

#[test]
fn emitted_frames_queue_behind_released_ones() {
    everywhere(Role::Primary, |ends, datapath| {
        ends.guest.say(&numbered(1, 100))?;
        let held = capture(datapath, 1)?.remove(0);
        datapath.release(held.id);
        ensure!(datapath.emit(&numbered(2, 1514)));
        ensure!(!datapath.emit(&[]) && !datapath.emit(&[0; 9000]));
        datapath.flush()?;
        ensure!(ends.client.hear_exactly(2)? == [numbered(1, 100), numbered(2, 1514)]);
        Ok(())
    });
}

#[test]
fn client_frames_reach_guest_and_mirror_with_consecutive_numbers() {
    everywhere(Role::Primary, |ends, datapath| {
        let frames: Vec<_> = (0..).zip(lengths()).map(|(number, length)| numbered(number, length)).collect();
        for frame in &frames {
            ends.client.say(frame)?;
        }
        ensure!(ends.guest.hear_exactly(frames.len())? == frames, "the guest heard something else");
        let mut copies = Vec::new();
        while copies.len() < frames.len() {
            let wake = datapath.wait(&[], &[], Some(SOON))?;
            let before = copies.len();
            datapath.next_mirrored(|copy| copies.push((copy.index, copy.frame.to_vec(), copy.stamp)));
            ensure!(copies.len() > before || !wake.mirrored, "woken for nothing");
        }
        for (number, ((index, copy, _), frame)) in copies.iter().zip(&frames).enumerate() {
            ensure!(*index == number as u64, "index {index} in place {number}");
            ensure!(copy == frame, "the copy of frame {number} differs");
        }
        ensure!(copies.is_sorted_by_key(|(.., stamp)| *stamp));
        ensure!(datapath.counters().get("uplink_forwarded") == Some(frames.len() as u64));
        Ok(())
    });
}

#[test]
fn a_full_mirror_ring_costs_the_copy_and_not_the_frame() -> Result<()> {
    let ends = Ends::new(Joint::Veth, Joint::Veth)?;
    let config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
    let mut datapath = ends.attach(&config)?;
    // 16 MiB hold fewer than 11,000 full frames.
    let said = 12_000;
    for number in 0..said {
        ends.client.say(&numbered(number, 1514))?;
        if let Some(frame) = ends.guest.hear(SOON)? {
            ensure!(frame == numbered(number, 1514));
        }
    }
    let counters = datapath.counters();
    let lost = counters.get("uplink_mirror_lost").context("no such counter")?;
    ensure!(counters.get("uplink_forwarded") == Some(u64::from(said)), "{counters:?}");
    ensure!(lost > 0, "{counters:?}");
    let mut copies = 0;
    while datapath.next_mirrored(|copy| copies += u64::from(copy.frame.len() == 1514)) > 0 {}
    ensure!(copies + lost == u64::from(said), "{copies} copies, {lost} lost of {said}");
    // The next copy shows the gap, too.
    ends.client.say(&numbered(said, 100))?;
    ends.guest.hear(SOON)?.context("the frame after the gap")?;
    let (index, _) = mirrored(&mut datapath)?;
    ensure!(index == u64::from(said));
    ensure!(datapath.pressure().mirror_lost == lost, "{:?}", datapath.pressure());
    Ok(())
}

#[test]
fn pass_and_close_are_what_they_say() {
    everywhere(Role::Primary, |ends, datapath| {
        datapath.set_mode(Mode::Pass)?;
        ends.guest.say(&numbered(1, 300))?;
        ensure!(ends.client.hear_exactly(1)? == [numbered(1, 300)]);
        ends.client.say(&numbered(2, 300))?;
        ensure!(ends.guest.hear_exactly(1)? == [numbered(2, 300)]);
        datapath.set_mode(Mode::Closed)?;
        ends.guest.say(&numbered(3, 300))?;
        ends.client.say(&numbered(4, 300))?;
        ensure!(ends.client.hear(QUIET)?.is_none() && ends.guest.hear(QUIET)?.is_none());
        let counters = datapath.counters();
        for name in ["guest_passed", "uplink_passed", "guest_closed", "uplink_closed"] {
            ensure!(counters.get(name) == Some(1), "{name}: {counters:?}");
        }
        ensure!(datapath.next_captured().is_none());
        Ok(())
    });
}

#[test]
fn a_secondary_is_shut_off_from_clients_and_takes_injected_input() {
    everywhere(Role::Secondary, |ends, datapath| {
        ends.client.say(&numbered(1, 300))?;
        ensure!(ends.guest.hear(QUIET)?.is_none());
        ends.guest.say(&numbered(2, 300))?;
        let held = capture(datapath, 1)?.remove(0);
        ensure!(datapath.frame(held.id) == numbered(2, 300));
        datapath.discard(held.id);
        for number in 10..30 {
            ensure!(datapath.inject(&numbered(number, 60 + number as usize))? == Injected::Sent);
        }
        for (number, frame) in (10..30).zip(ends.guest.hear_exactly(20)?) {
            ensure!(frame == numbered(number, 60 + number as usize));
        }
        ensure!(datapath.inject(&[0; 3000])? == Injected::TooLong);
        ensure!(ends.client.hear(QUIET)?.is_none());
        let counters = datapath.counters();
        ensure!(counters.get("uplink_secondary") == Some(1), "{counters:?}");
        Ok(())
    });
}

#[test]
fn injection_waits_for_a_slow_reader_and_loses_nothing() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let config = ends.config(Role::Secondary, AttachMode::Auto, HoldBackend::Auto);
    let mut datapath = ends.attach(&config)?;
    let (mut next, mut read, mut waited) = (0, 0, 0);
    while read < 5000 {
        // A burst as far as the credit goes, then a few reads.
        while next < 5000 && datapath.inject(&numbered(next, 100))? == Injected::Sent {
            next += 1;
        }
        waited += 1;
        for _ in 0..64 {
            if let Some(frame) = ends.guest.hear(std::time::Duration::ZERO)? {
                ensure!(frame == numbered(read, 100), "frame {read} was lost or changed");
                read += 1;
            }
        }
    }
    ensure!(waited > 10, "nothing ever waited");
    let counters = datapath.counters();
    ensure!(counters.get("guest_tx_dropped") == Some(0), "{counters:?}");
    Ok(())
}

#[test]
fn exhaustion_is_seen_before_a_frame_is_lost_and_counted_when_it_is() {
    everywhere(Role::Primary, |ends, datapath| {
        let mut captured = Vec::new();
        let mut number = 0;
        let mut scarce_at = None;
        while number < 1400 {
            for _ in 0..50 {
                ends.guest.say(&numbered(number, 1514))?;
                number += 1;
            }
            datapath.wait(&[], &[], Some(QUIET))?;
            captured.extend(std::iter::from_fn(|| datapath.next_captured()));
            let pressure = datapath.pressure();
            if pressure.scarce && scarce_at.is_none() {
                ensure!(pressure.lost == 0, "scarce only after a loss: {pressure:?}");
                scarce_at = Some(captured.len());
            }
        }
        let start = std::time::Instant::now();
        datapath.wait(&[], &[], Some(QUIET))?;
        ensure!(start.elapsed() >= QUIET / 2, "a full hold keeps the agent awake");
        ensure!(scarce_at.is_some_and(|at| (700..900).contains(&at)), "scarce at {scarce_at:?}");
        // All is released; what was not lost arrives in order, and losses are counted exactly.
        std::thread::sleep(QUIET);
        let mut heard = Vec::new();
        let mut hear = |datapath: &mut Datapath| -> Result<()> {
            datapath.flush()?;
            while let Some(frame) = ends.client.hear(std::time::Duration::from_millis(1))? {
                heard.push(frame);
            }
            Ok(())
        };
        let mut released = 0;
        loop {
            for held in std::mem::take(&mut captured) {
                datapath.release(held.id);
                released += 1;
                if released % 32 == 0 {
                    hear(datapath)?;
                }
            }
            hear(datapath)?;
            captured.extend(std::iter::from_fn(|| datapath.next_captured()));
            if captured.is_empty() {
                break;
            }
        }
        ends.guest.say(&numbered(number, 100))?;
        capture(datapath, 1)?;
        std::thread::sleep(QUIET);
        datapath.wait(&[], &[], Some(QUIET))?;
        let lost = datapath.pressure().lost;
        ensure!(
            released + lost == u64::from(number),
            "{released} released, {lost} lost of {number}: {:?}",
            datapath.counters()
        );
        ensure!(heard.len() as u64 == released, "{} heard of {released}", heard.len());
        ensure!(heard.is_sorted_by_key(|frame| frame[14..18].to_vec()), "order was lost");
        if datapath.backend() == HoldBackend::Afxdp {
            ensure!(lost > 0);
        }
        ensure!(!datapath.pressure().scarce, "{:?}", datapath.pressure());
        Ok(())
    });
}

#[test]
fn a_frame_longer_than_the_path_is_counted() -> Result<()> {
    for backend in BACKENDS {
        for (guest, client) in JOINTS {
            let ends = Ends::new(guest, client)?;
            // The guest's interface takes more than the uplink carries.
            ends.host.run(&format!("ip link set {GUEST} mtu 3000"))?;
            if let End::Veth(_, far) = &ends.guest {
                far.run("ip link set far0 mtu 3000")?;
            }
            let mut datapath = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, backend))?;
            ends.guest.say(&numbered(1, 1515))?;
            ends.guest.say(&numbered(2, 1514))?;
            let held = capture(&mut datapath, 1)?.remove(0);
            ensure!(datapath.frame(held.id) == numbered(2, 1514));
            datapath.release(held.id);
            datapath.flush()?;
            ensure!(ends.client.hear_exactly(1)? == [numbered(2, 1514)]);
            std::thread::sleep(QUIET);
            datapath.wait(&[], &[], Some(QUIET))?;
            ensure!(datapath.pressure().lost == 1, "{:?}", datapath.pressure());
            ensure!(datapath.counters().get("guest_hold_too_long") == Some(1));
            datapath.set_mode(Mode::Pass)?;
            ends.guest.say(&numbered(3, 1515))?;
            ensure!(ends.client.hear(QUIET)?.is_none());
            ensure!(datapath.counters().get("guest_pass_too_long") == Some(1), "{:?}", datapath.counters());
        }
    }
    Ok(())
}

#[test]
fn a_filtering_uplink_takes_only_what_is_the_guests() {
    let guest_mac = [2, 0, 0, 0, 0, 9];
    for (guest, client) in JOINTS {
        let run = || -> Result<()> {
            let ends = Ends::new(guest, client)?;
            let mut config = ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto);
            config.guest_mac = Some(guest_mac);
            let mut datapath = ends.attach(&config)?;
            let to = |address: [u8; 6]| {
                let mut frame = numbered(1, 100);
                frame[..6].copy_from_slice(&address);
                frame
            };
            ends.client.say(&to([2, 0, 0, 0, 0, 8]))?;
            let taken = [to(guest_mac), to([0xff; 6]), to([0x33, 0x33, 0, 0, 0, 1])];
            for frame in &taken {
                ends.client.say(frame)?;
            }
            ensure!(ends.guest.hear_exactly(3)? == taken);
            let counters = datapath.counters();
            ensure!(counters.get("uplink_not_for_guest") == Some(1), "{counters:?}");
            Ok(())
        };
        run().unwrap_or_else(|error| panic!("guest on {guest:?}, client on {client:?}: {error:?}"));
    }
}

#[test]
fn interfaces_are_as_they_were_found() {
    for (guest, client) in JOINTS {
        for backend in BACKENDS {
            let run = || -> Result<()> {
                let ends = Ends::new(guest, client)?;
                let look = || -> Result<String> {
                    let shown = ends.host.run(&format!("ip -o -d link show {GUEST}"))?
                        + &ends.host.run(&format!("ip -o -d link show {UPLINK}"))?;
                    Ok(shown
                        + &ends.host.run(&format!("ethtool -k {GUEST}"))?
                        + &ends.host.run(&format!("ethtool -k {UPLINK}"))?)
                };
                let before = look()?;
                for attach in [AttachMode::Native, AttachMode::Skb] {
                    let datapath = ends.attach(&ends.config(Role::Primary, attach, backend))?;
                    ensure!(look()?.contains("xdp"), "nothing was attached");
                    drop(datapath);
                    let after = look()?;
                    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
                    ends.attach(&ends.config(Role::Secondary, attach, backend))?.detach()?;
                    ensure!(before == look()?);
                }
                Ok(())
            };
            run().unwrap_or_else(|error| {
                panic!("guest on {guest:?}, client on {client:?}, {backend:?}: {error:?}")
            });
        }
    }
}

#[test]
fn a_datapath_may_move_to_its_thread() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut datapath = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto))?;
    ends.guest.say(&numbered(1, 100))?;
    // A thread outside of the namespace in which it was attached.
    let relay = std::thread::spawn(move || -> Result<()> {
        let held = capture(&mut datapath, 1)?.remove(0);
        datapath.release(held.id);
        datapath.flush()?;
        ensure!(
            datapath.counters().get("uplink_tx_dropped") == Some(0),
            "the counters are of another namespace"
        );
        Ok(datapath.detach()?)
    });
    relay.join().expect("no panic")?;
    ensure!(ends.client.hear_exactly(1)? == [numbered(1, 100)]);
    Ok(())
}

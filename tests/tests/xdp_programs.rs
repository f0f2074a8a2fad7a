//! The XDP programs by themselves, run on made-up frames by BPF_PROG_TEST_RUN: verdicts, counters, copies.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions};
use colo_ebpf::{
    ABI_VERSION, Counter, Hold, MAP_HOLD_RING, MAP_MIRROR_RING, MAX_FRAME, Mode, RECORD_CLASSES,
    RECORD_HEADER_LEN, Settings, tags::TAG_TYPES,
};
use colo_tests::{
    ends::{Ends, Joint, numbered},
    loaded::{load, settings},
    random::Random,
};
use colo_user::datapath::{
    AttachMode, HoldBackend, Role,
    programs::{Programs, Side},
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;
const RING: u32 = 1 << 20;
/// Longest frame that is passed on.
const LIMIT: u32 = 1514;

fn run(programs: &mut Programs, side: Side, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
    let result =
        programs.program(side)?.test_run(options).with_context(|| format!("{} bytes", frame.len()))?;
    Ok((result.return_value, result.duration))
}

fn values(programs: &Programs) -> Result<[u64; Counter::COUNT]> {
    let mut values = [0; Counter::COUNT];
    for (value, counter) in values.iter_mut().zip(Counter::ALL) {
        *value = programs.counter(counter)?;
    }
    Ok(values)
}

/// Runs one frame and returns the verdict and which counters it raised, each by one.
fn judge(programs: &mut Programs, side: Side, frame: &[u8]) -> Result<(u32, Vec<Counter>)> {
    let before = values(programs)?;
    let (verdict, _) = run(programs, side, frame, 1)?;
    let mut raised = Vec::new();
    for ((before, after), counter) in before.into_iter().zip(values(programs)?).zip(Counter::ALL) {
        ensure!(after - before <= 1, "{counter:?} was raised by {}", after - before);
        if after > before {
            raised.push(counter);
        }
    }
    let fates = raised.iter().filter(|counter| counter.is_verdict()).count();
    ensure!(fates == 1, "a frame has one fate, not {raised:?}");
    Ok((verdict, raised))
}

/// A frame of any length and content.
fn any_frame(random: &mut Random) -> Vec<u8> {
    // Lengths around every size class and limit, and any other.
    let edges = [14, 15, 18, 60, 1514, 1518, 1519, 3520, 4096, MAX_FRAME];
    let length = match random.next() % 3 {
        0 => edges[random.next() as usize % edges.len()],
        1 => (RECORD_CLASSES[random.next() as usize % 5] + random.next() as usize % 3).saturating_sub(1),
        _ => 14 + random.next() as usize % (MAX_FRAME - 13),
    };
    let length = length.clamp(14, MAX_FRAME);
    (0..length.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes()).take(length).collect()
}

#[test]
fn every_mode_has_its_verdicts_and_counters() -> Result<()> {
    use Counter::*;
    let frame = numbered(1, 100);
    let long = numbered(2, 1515);
    let mut tagged = numbered(3, 1514);
    tagged.splice(12..12, [0x81, 0, 0, 100]);
    let mut tagged_long = numbered(4, 1515);
    tagged_long.splice(12..12, [0x81, 0, 0, 100]);
    for hold in [Hold::Socket, Hold::Ring] {
        let (_namespace, mut programs) = load(settings(hold, LIMIT), RING)?;
        // No socket is bound here; the one that is, is tried below.
        let held = if hold == Hold::Ring { GuestHeld } else { GuestHoldNoSocket };
        for (mode, side, frame, verdict, counter) in [
            (Mode::Closed, Side::Guest, &frame, DROP, GuestClosed),
            (Mode::Closed, Side::Uplink, &frame, DROP, UplinkClosed),
            (Mode::Pass, Side::Guest, &frame, REDIRECT, GuestPassed),
            (Mode::Pass, Side::Guest, &long, DROP, GuestPassTooLong),
            (Mode::Pass, Side::Guest, &tagged, REDIRECT, GuestPassed),
            (Mode::Pass, Side::Guest, &tagged_long, DROP, GuestPassTooLong),
            (Mode::Pass, Side::Uplink, &tagged, REDIRECT, UplinkPassed),
            (Mode::Pass, Side::Uplink, &frame, REDIRECT, UplinkPassed),
            (Mode::Pass, Side::Uplink, &long, DROP, UplinkTooLong),
            (Mode::Protect, Side::Guest, &frame, DROP, held),
            (Mode::Protect, Side::Uplink, &frame, REDIRECT, UplinkForwarded),
            (Mode::Protect, Side::Uplink, &long, DROP, UplinkTooLong),
            (Mode::Secondary, Side::Guest, &frame, DROP, held),
            (Mode::Secondary, Side::Uplink, &frame, DROP, UplinkSecondary),
        ] {
            programs.set_mode(mode)?;
            let judged = judge(&mut programs, side, frame)?;
            ensure!(judged == (verdict, vec![counter]), "{hold:?} {mode:?} {side:?}: {judged:?}");
        }
        programs.set_mode(Mode::Pass)?;
        for kind in TAG_TYPES {
            let with_tag = |mut frame: Vec<u8>| {
                frame.splice(12..12, [kind.to_be_bytes(), [0, 100]].concat());
                frame
            };
            let judged = judge(&mut programs, Side::Guest, &with_tag(numbered(3, 1514)))?;
            ensure!(judged == (REDIRECT, vec![GuestPassed]), "{kind:#x}: {judged:?}");
            let judged = judge(&mut programs, Side::Guest, &with_tag(numbered(4, 1515)))?;
            ensure!(judged == (DROP, vec![GuestPassTooLong]), "{kind:#x}: {judged:?}");
        }
        programs.set_mode(Mode::Protect)?;
        programs.set_settings(Settings { hold_limit: 99, ..settings(hold, LIMIT) })?;
        let judged = judge(&mut programs, Side::Guest, &frame)?;
        ensure!(judged == (DROP, vec![GuestHoldTooLong]), "{judged:?}");
    }
    Ok(())
}

#[test]
fn a_bound_socket_gets_the_frame() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut datapath = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Afxdp))?;
    let judged = judge(datapath.programs(), Side::Guest, &numbered(1, 100))?;
    ensure!(judged == (REDIRECT, vec![Counter::GuestHeld]), "{judged:?}");
    let best = (0..2000)
        .map(|_| run(datapath.programs(), Side::Guest, &numbered(1, 1500), 1).map(|(_, took)| took))
        .collect::<Result<Vec<_>>>()?;
    println!("hold by socket, one 1500-byte frame: at best {:?}", best.iter().min());
    Ok(())
}

#[test]
fn programs_that_were_told_nothing_or_of_another_version_drop() -> Result<()> {
    let mut programs = Programs::load(0, 0)?;
    let judged = judge(&mut programs, Side::Guest, &numbered(1, 60))?;
    ensure!(judged == (DROP, vec![Counter::GuestMisconfigured]), "{judged:?}");
    programs.set_mode(Mode::Pass)?;
    programs.set_settings(Settings { abi: ABI_VERSION + 1, ..settings(Hold::Ring, LIMIT) })?;
    let judged = judge(&mut programs, Side::Uplink, &numbered(1, 60))?;
    ensure!(judged == (DROP, vec![Counter::UplinkMisconfigured]), "{judged:?}");
    programs.set_settings(settings(Hold::Ring, LIMIT))?;
    for (side, counter) in [(Side::Guest, Counter::GuestNoUplink), (Side::Uplink, Counter::UplinkNoGuest)] {
        for mode in [Mode::Pass, Mode::Protect] {
            programs.set_mode(mode)?;
            if (side, mode) != (Side::Guest, Mode::Protect) {
                let judged = judge(&mut programs, side, &numbered(1, 60))?;
                ensure!(judged == (DROP, vec![counter]), "{judged:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_filter_takes_the_guests_frames_and_groups() -> Result<()> {
    let (_namespace, mut programs) = load(settings(Hold::Ring, LIMIT), RING)?;
    let mut settings = settings(Hold::Ring, LIMIT);
    (settings.filter, settings.guest_mac) = (1, [2, 0, 0, 0, 0, 9]);
    programs.set_settings(settings)?;
    for mode in [Mode::Pass, Mode::Protect, Mode::Secondary, Mode::Closed] {
        programs.set_mode(mode)?;
        for (address, ours) in [
            ([2, 0, 0, 0, 0, 9], true),
            ([2, 0, 0, 0, 0, 8], false),
            ([3, 0, 0, 0, 0, 9], true),
            ([0xff; 6], true),
            ([0; 6], false),
        ] {
            let mut frame = numbered(1, 60);
            frame[..6].copy_from_slice(&address);
            let (verdict, raised) = judge(&mut programs, Side::Uplink, &frame)?;
            let left = raised == [Counter::UplinkNotForGuest];
            ensure!(
                left != ours && (verdict == PASS) == left,
                "{mode:?} {address:02x?}: {verdict} {raised:?}"
            );
        }
    }
    Ok(())
}

/// What a ring buffer holds next: index and frame.
fn next_record(ring: &mut aya::maps::RingBuf<aya::maps::MapData>) -> Option<(u64, Vec<u8>)> {
    let record = ring.next()?;
    let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let length = word(16) as u32 as usize;
    Some((word(8), record[RECORD_HEADER_LEN..RECORD_HEADER_LEN + length].to_vec()))
}

#[test]
fn frames_of_any_length_and_content_are_judged_and_copied_whole() -> Result<()> {
    let seed = 0x00c0_1011_u64;
    let (_namespace, mut programs) = load(settings(Hold::Ring, LIMIT), RING)?;
    let wide = Settings { uplink_limit: u32::MAX, guest_limit: u32::MAX, ..settings(Hold::Ring, LIMIT) };
    programs.set_settings(wide)?;
    programs.set_mode(Mode::Protect)?;
    let mut rings = [programs.take_ring(MAP_HOLD_RING)?, programs.take_ring(MAP_MIRROR_RING)?];
    let random = &mut Random::new(seed);
    for number in 0..3000 {
        let frame = any_frame(random);
        let place = format!("seed {seed:#x}, frame {number}, {} bytes", frame.len());
        for (side, verdict, counter, ring) in [
            (Side::Guest, DROP, Counter::GuestHeld, 0),
            (Side::Uplink, REDIRECT, Counter::UplinkForwarded, 1),
        ] {
            let judged = judge(&mut programs, side, &frame).context(place.clone())?;
            ensure!(judged == (verdict, vec![counter]), "{place}: {judged:?}");
            let (index, copy) = next_record(&mut rings[ring]).with_context(|| place.clone())?;
            ensure!(index == number && copy == frame, "{place}: the copy differs");
            ensure!(rings[ring].next().is_none(), "{place}: two copies");
        }
    }
    Ok(())
}

#[test]
fn a_full_ring_is_counted_and_the_original_goes_on() -> Result<()> {
    let (_namespace, mut programs) = load(settings(Hold::Ring, LIMIT), RING)?;
    programs.set_mode(Mode::Protect)?;
    let frame = numbered(1, 1500);
    let mut lost = 0;
    for _ in 0..1000 {
        let (verdict, raised) = judge(&mut programs, Side::Uplink, &frame)?;
        ensure!(verdict == REDIRECT && raised.contains(&Counter::UplinkForwarded), "{raised:?}");
        lost += u64::from(raised.contains(&Counter::UplinkMirrorLost));
    }
    ensure!((1..1000).contains(&lost), "{lost} lost");
    let mut full = false;
    for _ in 0..1000 {
        let (verdict, raised) = judge(&mut programs, Side::Guest, &frame)?;
        ensure!(verdict == DROP);
        ensure!(!full || raised == [Counter::GuestHoldRingFull], "{raised:?}");
        full = raised == [Counter::GuestHoldRingFull];
    }
    ensure!(full);
    Ok(())
}

#[test]
fn the_kernel_takes_the_types_of_the_object() -> Result<()> {
    let mut programs = Programs::load(0, 0)?;
    for side in [Side::Guest, Side::Uplink] {
        let info = programs.program(side)?.info()?;
        ensure!(
            info.btf_id().is_some(),
            "the kernel refused the BTF of {side:?}: is bpf-linker older than 0.13?"
        );
        ensure!(info.gpl_compatible() == Some(true));
    }
    Ok(())
}

#[test]
fn time_per_frame_is_shown() -> Result<()> {
    let (_namespace, mut programs) = load(settings(Hold::Ring, LIMIT), RING)?;
    for (mode, side) in [
        (Mode::Closed, Side::Guest),
        (Mode::Pass, Side::Guest),
        (Mode::Protect, Side::Uplink),
        (Mode::Secondary, Side::Uplink),
    ] {
        programs.set_mode(mode)?;
        for length in [64, 1500] {
            let (_, took) = run(&mut programs, side, &numbered(1, length), 500)?;
            println!("{mode:?} {side:?} {length} bytes: {took:?} per frame, its ring full after some");
        }
    }
    Ok(())
}

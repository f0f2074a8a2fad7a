//! What else is to be said of translation in the kernel: which space a copy is in, what cannot be translated, checksums that
//! are left to a NIC, flows that are over, and the time it takes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapData, RingBuf};
use aya::{TestRun as _, TestRunOptions};
use colo_ebpf::{Counter, Hold, MAP_HOLD_RING, MAP_MIRROR_RING, MAX_FRAME, Mode, RECORD_HEADER_LEN};
use colo_tests::ends::{Ends, Joint};
use colo_tests::loaded::{load, settings};
use colo_tests::netns::Netns;
use colo_user::datapath::programs::{Programs, Side};
use colo_user::datapath::{AttachMode, HoldBackend, Role};
use colo_user::mono::Mono;
use colo_user::translate::limits::MSL;
use colo_user::translate::{Base, Delta, EntryView, Limits, Translator, initial_of};
use colo_user::wire::build::{Tcp, Wrap, fragments, ip};
use colo_user::wire::checksum::Sum;
use colo_user::wire::{TcpFlags, proto};

const DROP: u32 = 1;
const REDIRECT: u32 = 4;
const DELTA: Delta = Delta { seq: 0x1234_5678, ts: 777 };
/// Offset of the TCP header in an untagged IPv4 frame.
const TCP: usize = 34;

fn in_mode(mode: Mode) -> Result<(Netns, Programs)> {
    let (namespace, mut programs) = load(settings(Hold::Ring, 9014), 1 << 20)?;
    programs.set_mode(mode)?;
    Ok((namespace, programs))
}

/// Verdict, the bytes that come out, and the time of a run.
fn run(programs: &mut Programs, side: Side, frame: &[u8], repeat: u32) -> Result<(u32, Vec<u8>, Duration)> {
    let mut out = vec![0; MAX_FRAME];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat,
        ..TestRunOptions::default()
    };
    let result = programs.program(side)?.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out, result.duration))
}

fn guest() -> SocketAddr {
    "192.0.2.1:80".parse().expect("an address")
}

fn peer(number: u32) -> SocketAddr {
    let port = 1024 + number % 60_000;
    format!("192.0.{}.9:{port}", 2 + number / 60_000).parse().expect("an address")
}

/// What a host that took over long ago knows of `count` connections.
fn views(count: u32) -> Vec<EntryView> {
    let mut translator = Translator::new(Limits::default());
    let bases = (0..count).map(|number| {
        let syn = Tcp::new(guest(), peer(number)).flag(TcpFlags::SYN).frame();
        Base { flow: initial_of(&syn).expect("a SYN").flow, delta: DELTA, guest_isn: None }
    });
    translator.epoch_cut(Mono::ZERO, bases).expect("room for all");
    translator.take_over(Mono::ZERO);
    translator.entries().collect()
}

fn seq_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[TCP + 4..TCP + 8].try_into().expect("four bytes"))
}

fn ack_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[TCP + 8..TCP + 12].try_into().expect("four bytes"))
}

/// The sum over pseudo header and segment of an IPv4 frame: all ones if the checksum is right.
fn sum_of(frame: &[u8]) -> u16 {
    let segment = &frame[TCP..];
    let length = segment.len() as u32;
    Sum::ZERO.pseudo_header(&frame[26..30], &frame[30..34], proto::TCP, length).bytes(segment).folded()
}

fn next_record(ring: &mut RingBuf<MapData>) -> Option<Vec<u8>> {
    let record = ring.next()?;
    let length = u32::from_ne_bytes(record[16..20].try_into().expect("four bytes")) as usize;
    Some(record[RECORD_HEADER_LEN..RECORD_HEADER_LEN + length].to_vec())
}

#[test]
fn copies_are_in_wire_space_and_the_guest_hears_its_own() -> Result<()> {
    let (_namespace, mut programs) = in_mode(Mode::Protect)?;
    let mut rings = [programs.take_ring(MAP_HOLD_RING)?, programs.take_ring(MAP_MIRROR_RING)?];
    programs.set_translations(Mono::ZERO, views(1))?;
    let said = Tcp::new(guest(), peer(0)).seq(1000).ack(5).data(b"hello").frame();
    let (verdict, ..) = run(&mut programs, Side::Guest, &said, 1)?;
    let held = next_record(&mut rings[0]).context("it was not held")?;
    ensure!(verdict == DROP && seq_of(&held) == 1000_u32.wrapping_sub(DELTA.seq) && sum_of(&held) == 0xffff);
    let heard = Tcp::new(peer(0), guest()).seq(5).ack(2000).data(b"world").frame();
    let (verdict, forwarded, _) = run(&mut programs, Side::Uplink, &heard, 1)?;
    let copy = next_record(&mut rings[1]).context("it was not mirrored")?;
    ensure!(verdict == REDIRECT && copy == heard, "the copy is not what the client said");
    ensure!(ack_of(&forwarded) == 2000 + DELTA.seq && sum_of(&forwarded) == 0xffff);
    for (counter, value) in [(Counter::GuestTranslated, 1), (Counter::UplinkTranslated, 1)] {
        ensure!(programs.counter(counter)? == value, "{counter:?}");
    }
    // A secondary's agent translates itself, and a flow without an entry is left alone.
    programs.set_mode(Mode::Secondary)?;
    run(&mut programs, Side::Guest, &said, 1)?;
    ensure!(next_record(&mut rings[0]).context("it was not held")? == said);
    programs.set_mode(Mode::Pass)?;
    let other = Tcp::new(guest(), peer(1)).seq(1000).ack(5).frame();
    ensure!(run(&mut programs, Side::Guest, &other, 1)?.1 == other);
    Ok(())
}

#[test]
fn what_cannot_be_translated_is_dropped_and_counted() -> Result<()> {
    let (_namespace, mut programs) = in_mode(Mode::Protect)?;
    let mut mirror = programs.take_ring(MAP_MIRROR_RING)?;
    programs.set_translations(Mono::ZERO, views(1))?;
    let wrap = Wrap::default();
    for (number, side, counter) in [
        (0, Side::Guest, Some(Counter::GuestUntranslatable)),
        (0, Side::Uplink, Some(Counter::UplinkUntranslatable)),
        (1, Side::Uplink, None),
    ] {
        let (src, dst) = if side == Side::Guest { (guest(), peer(number)) } else { (peer(number), guest()) };
        let whole = Tcp::new(src, dst).seq(1).ack(2).data(&[7; 600]).segment();
        let before = counter.map_or(Ok(0), |counter| programs.counter(counter))?;
        for (index, piece) in fragments(src.ip(), dst.ip(), proto::TCP, &whole, 200, &wrap).iter().enumerate()
        {
            let (verdict, out, _) = run(&mut programs, side, piece, 1)?;
            let dropped = index == 0 && counter.is_some();
            ensure!(out == *piece, "fragment {index} was edited");
            ensure!(side == Side::Guest || (verdict == DROP) == dropped, "fragment {index}: {verdict}");
            // What the guest does not get, the secondary must not get either.
            let copied = next_record(&mut mirror).is_some();
            ensure!(copied == (side == Side::Uplink && !dropped), "fragment {index}: copied {copied}");
        }
        let after = counter.map_or(Ok(1), |counter| programs.counter(counter))?;
        ensure!(after == before + 1, "{counter:?}");
    }
    // Headers that are longer than what is looked at; nobody looks when nothing is translated.
    let v6 = |address: &str| address.parse().expect("an address");
    let mut long = vec![proto::TCP, 63];
    long.extend([0; 510]);
    long.extend(Tcp::new(guest(), peer(0)).segment());
    let long = ip(v6("2001:db8::1"), v6("2001:db8::9"), proto::DEST_OPTIONS, &long, &wrap);
    programs.set_mode(Mode::Pass)?;
    ensure!(run(&mut programs, Side::Guest, &long, 1)?.0 == DROP);
    let (_other, mut untold) = in_mode(Mode::Pass)?;
    ensure!(run(&mut untold, Side::Guest, &long, 1)?.0 == REDIRECT);
    Ok(())
}

#[test]
fn an_unfinished_checksum_stays_unfinished() -> Result<()> {
    let (_namespace, mut programs) = in_mode(Mode::Pass)?;
    programs.set_translations(Mono::ZERO, views(1))?;
    for length in [0, 1, 100, 1399, 1400] {
        let mut frame = Tcp::new(guest(), peer(0)).seq(1000).ack(5).data(&vec![7; length]).frame();
        let size = (frame.len() - TCP) as u32;
        let pseudo = Sum::ZERO.pseudo_header(&frame[26..30], &frame[30..34], proto::TCP, size).folded();
        frame[TCP + 16..TCP + 18].copy_from_slice(&pseudo.to_be_bytes());
        let (_, out, _) = run(&mut programs, Side::Guest, &frame, 1)?;
        ensure!(seq_of(&out) == 1000_u32.wrapping_sub(DELTA.seq));
        ensure!(out[TCP + 16..TCP + 18] == pseudo.to_be_bytes(), "{length}: it was changed");
        // A finished one may be the same number: then it goes on as a finished one.
        let same = (0..=u16::MAX).find_map(|word| {
            let mut data = word.to_be_bytes().to_vec();
            data.resize(length.max(2), 9);
            let frame = Tcp::new(guest(), peer(0)).seq(1000).ack(5).data(&data).frame();
            let size = (frame.len() - TCP) as u32;
            let pseudo = Sum::ZERO.pseudo_header(&frame[26..30], &frame[30..34], proto::TCP, size).folded();
            (frame[TCP + 16..TCP + 18] == pseudo.to_be_bytes()).then_some(frame)
        });
        let same = same.context("no such segment")?;
        let (_, out, _) = run(&mut programs, Side::Guest, &same, 1)?;
        ensure!(sum_of(&out) == 0xffff, "{length}: a finished checksum is wrong now");
    }
    Ok(())
}

#[test]
fn an_entry_leaves_when_its_connection_is_over_and_never_for_being_idle() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut datapath = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto))?;
    datapath.set_translations(views(3))?;
    datapath.set_mode(Mode::Pass)?;
    let days = Duration::from_secs(100 * 24 * 3600);
    ensure!(datapath.forget_closed(Mono::now() + days)? == 0, "one was forgotten for being idle");
    ensure!(datapath.translations()?.len() == 3);

    let says = |number: u32| Tcp::new(guest(), peer(number));
    let hears = |number: u32| Tcp::new(peer(number), guest());
    let through = |frame: Vec<u8>, by_guest: bool| -> Result<Vec<u8>> {
        let (from, to) = if by_guest { (&ends.guest, &ends.client) } else { (&ends.client, &ends.guest) };
        from.say(&frame)?;
        Ok(to.hear_exactly(1)?.remove(0))
    };
    // The first is reset by the guest; by the client that would not count.
    let reset = hears(1).seq(5).ack(100).flag(TcpFlags::RST).frame();
    through(reset, false)?;
    ensure!(datapath.translations()?.len() == 3, "a client's RST alone was believed");
    let out = through(says(0).seq(1000).ack(5).flag(TcpFlags::RST).frame(), true)?;
    ensure!(seq_of(&out) == 1000_u32.wrapping_sub(DELTA.seq), "the reset itself was not translated");
    ensure!(datapath.translations()?.len() == 2);
    // The second closes both ways.
    through(says(1).seq(1000).ack(5).flag(TcpFlags::FIN).frame(), true)?;
    let wire = 1001_u32.wrapping_sub(DELTA.seq);
    through(hears(1).seq(5).ack(wire).flag(TcpFlags::FIN).frame(), false)?;
    through(says(1).seq(1001).ack(6).frame(), true)?;
    ensure!(datapath.forget_closed(Mono::now() + Duration::from_secs(2))? == 1, "the one that was reset");
    ensure!(datapath.translations()?.len() == 2, "before its time");
    ensure!(datapath.forget_closed(Mono::now() + 2 * MSL + Duration::from_secs(1))? == 1, "the closed one");
    ensure!(datapath.translations()?.len() == 1);
    ensure!(datapath.counters().get("translations_forgotten") == Some(2));

    // A guest that begins another connection under the same name: nobody else answers for that one.
    std::thread::sleep(colo_user::translate::limits::TAKEOVER_GRACE);
    let syn = says(2).seq(77).flag(TcpFlags::SYN).frame();
    ensure!(through(syn.clone(), true)? == syn);
    ensure!(datapath.translations()?.is_empty());
    ensure!(datapath.forget_closed(Mono::now() + days)? == 1);
    // Nothing is looked at any more.
    ensure!(through(syn.clone(), true)? == syn);
    Ok(())
}

#[test]
fn time_per_frame_is_shown() -> Result<()> {
    let frames = [
        ("other flow", Tcp::new(guest(), "192.0.99.9:99".parse()?).seq(1).ack(2).data(&[7; 10]).frame()),
        ("translated", Tcp::new(guest(), peer(0)).seq(1).ack(2).data(&[7; 10]).frame()),
        ("translated, 1448 bytes", Tcp::new(guest(), peer(0)).seq(1).ack(2).data(&[7; 1448]).frame()),
    ];
    for count in [0, 1, 10_000] {
        let (_namespace, mut programs) = in_mode(Mode::Pass)?;
        if count > 0 {
            programs.set_translations(Mono::ZERO, views(count))?;
        }
        for (what, frame) in &frames {
            let mut took = Vec::new();
            for _ in 0..15 {
                took.push(run(&mut programs, Side::Guest, frame, 20_000)?.2);
            }
            took.sort_unstable();
            println!("{count} entries, {what}: {:?} at best, {:?} median", took[0], took[7]);
        }
    }
    let (_namespace, mut programs) = in_mode(Mode::Pass)?;
    for side in [Side::Guest, Side::Uplink] {
        println!(
            "{side:?}: {:?} instructions verified",
            programs.program(side)?.info()?.verified_instruction_count()
        );
    }
    Ok(())
}

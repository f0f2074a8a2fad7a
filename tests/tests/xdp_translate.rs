//! The translation of the XDP programs beside the agent's own, on made-up frames by BPF_PROG_TEST_RUN: the same bytes come
//! out.
//!
//! Where they may differ, and nowhere else:
//! - what the agent's translator keeps (a delta that is not known yet, fragments) the kernel drops and counts;
//! - of a fragmented segment it drops the first fragment alone, the rest comes to nothing without it;
//! - a header beyond the first 512 bytes of a frame: dropped and counted;
//! - an unfinished checksum stays unfinished, where the agent completes it before it translates.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions};
use colo_ebpf::{
    Hold, MAX_FRAME, Mode,
    tags::{SNAP_LEN, TAG_LEN, TAG_TYPES},
};
use colo_tests::loaded::{load, settings};
use colo_tests::random::Random;
use colo_user::datapath::programs::{Programs, Side};
use colo_user::mono::Mono;
use colo_user::translate::{
    Base, Delta, Direction, EntryView, Flow, Handshake, LearnedInitial, Limits, Progress, Translator,
    initial_of,
};
use colo_user::wire::build::{Tcp, Wrap, icmp_frame, ip};
use colo_user::wire::{TcpFlags, Vlans, ether::ethertype, proto};

const DROP: u32 = 1;
const REDIRECT: u32 = 4;
const HOUR: Duration = Duration::from_secs(3600);

/// What the kernel makes of a frame; `None` if it drops it.
fn kernel(programs: &mut Programs, direction: Direction, frame: &[u8]) -> Result<Option<Vec<u8>>> {
    let side = match direction {
        Direction::Output => Side::Guest,
        Direction::Input => Side::Uplink,
    };
    let mut out = vec![0; MAX_FRAME];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat: 1,
        ..TestRunOptions::default()
    };
    let result = programs.program(side)?.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    match result.return_value {
        REDIRECT => Ok(Some(out)),
        DROP => Ok(None),
        other => anyhow::bail!("verdict {other}"),
    }
}

fn any_bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// A connection that frames are made for.
#[derive(Clone, Copy)]
struct Connection {
    guest: SocketAddr,
    peer: SocketAddr,
    vlans: Vlans,
    /// Numbers around which the guest's lie, guest space.
    seq: u32,
    ts: u32,
    /// Guest minus wire.
    delta: Delta,
    peer_seq: u32,
}

impl Connection {
    fn wrap(&self) -> Wrap {
        Wrap { vlans: self.vlans, ..Wrap::default() }
    }

    /// Where the IP header of its frames begins.
    fn start(&self) -> usize {
        14 + TAG_LEN * self.vlans.tags().count() + if self.vlans.snap().is_some() { SNAP_LEN } else { 0 }
    }
}

fn connections() -> Vec<Connection> {
    let mut all = Vec::new();
    // Tags of every type, alone and in any order, and 802.3 frames.
    let tags = [
        Vlans::NONE,
        Vlans::stacked(&[100]),
        Vlans::stacked(&[100, 7]),
        Vlans::of(&[(0x9100, 100), (0x8100, 7)]),
        Vlans::of(&[(0x9200, 5), (0x9300, 5), (0x88a8, 5), (0x8100, 5)]),
        Vlans::of(&[(0x8100, 4095), (0x9100, 0)]).in_snap(),
    ];
    for (index, vlans) in (0_u16..).zip(tags) {
        for (v6, port) in [(false, 80), (true, 80), (false, 81), (true, 82)] {
            let (guest, peer) =
                if v6 { ("[2001:db8::1]", "[2001:db8::9]") } else { ("192.0.2.1", "192.0.2.9") };
            let address = |host: &str, port: u16| format!("{host}:{port}").parse().expect("an address");
            let seed = u32::from(index) * 1000 + u32::from(port) + u32::from(v6) * 77;
            // Numbers near the ends of their circles too.
            let spread = seed.wrapping_mul(0x9e37_79b9);
            all.push(Connection {
                guest: address(guest, port),
                peer: address(peer, 40_000 + index),
                vlans,
                seq: if port == 81 { u32::MAX - 900 } else { spread },
                ts: if port == 82 { u32::MAX - 20 } else { spread.rotate_left(7) },
                delta: Delta { seq: spread ^ 0x0123_4567, ts: spread.rotate_left(13) },
                peer_seq: spread.rotate_left(21),
            });
        }
    }
    all
}

/// Options as stacks write them, and as they never do.
fn options(random: &mut Random, c: &Connection, direction: Direction) -> Vec<u8> {
    let mut options = Vec::new();
    let near = |random: &mut Random, base: u32| base.wrapping_add(random.below(64) as u32);
    let edge = |random: &mut Random| {
        let base = if direction == Direction::Input { c.seq.wrapping_sub(c.delta.seq) } else { c.peer_seq };
        base.wrapping_add(random.below(3000) as u32).to_be_bytes()
    };
    while options.len() < 40 && !random.one_in(4) {
        match random.below(12) {
            0..=2 => options.push(1),
            3..=6 => {
                let (value, echo) = match direction {
                    Direction::Output => (near(random, c.ts), random.next() as u32),
                    Direction::Input => (random.next() as u32, near(random, c.ts.wrapping_sub(c.delta.ts))),
                };
                let echo = if random.one_in(8) { 0 } else { echo };
                options.extend([8, 10]);
                options.extend(value.to_be_bytes());
                options.extend(echo.to_be_bytes());
            }
            7 | 8 => {
                let blocks = random.below(4) as u8;
                options.extend([5, 2 + 8 * blocks]);
                (0..2 * blocks).for_each(|_| options.extend(edge(random)));
            }
            9 => options.extend([2, 4, 5, 180]),
            10 => options.extend([3, 3, 7]),
            _ => match random.below(6) {
                0 => {
                    options.extend([19, 18]);
                    options.extend(any_bytes(random, 16));
                }
                1 => options.push(0),
                2 => options.extend([5, random.next() as u8]),
                3 => options.extend([8, random.next() as u8]),
                _ => options.extend([1, 1]),
            },
        }
    }
    options.truncate(40);
    options
}

fn segment(random: &mut Random, c: &Connection, direction: Direction) -> Tcp {
    let near = |random: &mut Random, base: u32| base.wrapping_add(random.below(1200) as u32);
    let (src, dst, seq, ack) = match direction {
        Direction::Output => (c.guest, c.peer, near(random, c.seq), near(random, c.peer_seq)),
        Direction::Input => {
            (c.peer, c.guest, near(random, c.peer_seq), near(random, c.seq.wrapping_sub(c.delta.seq)))
        }
    };
    let mut tcp = Tcp::new(src, dst).seq(seq).options(&options(random, c, direction));
    if !random.one_in(12) {
        tcp = tcp.ack(ack);
    }
    if random.one_in(6) {
        tcp = tcp.flag(pick(random, &[TcpFlags::FIN, TcpFlags::PSH, TcpFlags(0x20), TcpFlags(0xc0)]));
    }
    if random.one_in(40) {
        tcp = tcp.flag(TcpFlags::RST);
    }
    if random.one_in(40) {
        tcp = tcp.flag(TcpFlags::SYN);
    }
    let length = pick(random, &[0, 0, 1, 2, 7, 100, 1200]);
    let payload = any_bytes(random, length);
    tcp.data(&payload)
}

/// The datagram of a segment in a frame, with IPv4 options or IPv6 extension headers now and then.
fn frame(random: &mut Random, c: &Connection, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    if src.is_ipv6() && random.one_in(3) {
        let kinds: Vec<u8> = (0..=random.below(3))
            .map(|_| {
                pick(
                    random,
                    &[proto::HOP_BY_HOP, proto::ROUTING, proto::DEST_OPTIONS, proto::AH, proto::FRAGMENT],
                )
            })
            .collect();
        let mut bytes = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let next = kinds.get(index + 1).copied().unwrap_or(proto::TCP);
            let units = random.below(4) as u8;
            let length = match *kind {
                proto::FRAGMENT => 8,
                proto::AH => (usize::from(units) + 2) * 4,
                _ => (usize::from(units) + 1) * 8,
            };
            let mut header = any_bytes(random, length);
            header[..2].copy_from_slice(&[next, if *kind == proto::FRAGMENT { 0 } else { units }]);
            if *kind == proto::FRAGMENT && !random.one_in(6) {
                // An atomic fragment.
                header[2..4].copy_from_slice(&[0, 0]);
            }
            bytes.extend(header);
        }
        bytes.extend_from_slice(payload);
        return ip(src.ip(), dst.ip(), kinds[0], &bytes, &c.wrap());
    }
    let mut frame = ip(src.ip(), dst.ip(), proto::TCP, payload, &c.wrap());
    let start = c.start();
    if src.is_ipv4() && random.one_in(4) {
        let words = 1 + random.below(10) as usize;
        frame[start] = 0x45 + words as u8;
        let total = u16::from_be_bytes([frame[start + 2], frame[start + 3]]) + 4 * words as u16;
        frame[start + 2..start + 4].copy_from_slice(&total.to_be_bytes());
        let at = start + 20;
        frame.splice(at..at, any_bytes(random, 4 * words));
    }
    if src.is_ipv4() && random.one_in(30) {
        // A fragment, whose number of bytes need not be possible.
        frame[start + 6] |= 0x20 * u8::from(random.one_in(2));
        frame[start + 7] = pick(random, &[0, 0, 1, 200]);
    }
    frame
}

/// What a router or the other side says about a segment that went the other way, quoting as much as it likes.
fn quoting(random: &mut Random, c: &Connection, direction: Direction) -> Vec<u8> {
    let quoted = match direction {
        Direction::Output => Direction::Input,
        Direction::Input => Direction::Output,
    };
    let tcp = segment(random, c, quoted);
    let inner = frame(random, &Connection { vlans: Vlans::NONE, ..*c }, tcp.src, tcp.dst, &tcp.segment());
    let keep = if random.one_in(3) { inner.len() } else { 14 + random.below(140) as usize };
    let inner = &inner[14..keep.min(inner.len()).max(14)];
    let (src, dst) = match direction {
        Direction::Output => (c.guest.ip(), c.peer.ip()),
        Direction::Input => (c.peer.ip(), c.guest.ip()),
    };
    let kind = if src.is_ipv4() { pick(random, &[3, 11, 12, 8]) } else { pick(random, &[1, 2, 3, 128]) };
    icmp_frame(src, dst, kind, 1, [0; 4], inner, &c.wrap())
}

fn any_frame(random: &mut Random, connections: &[Connection], direction: Direction) -> Vec<u8> {
    let c = pick(random, connections);
    let mut frame = if random.one_in(6) {
        quoting(random, &c, direction)
    } else {
        let tcp = segment(random, &c, direction);
        frame(random, &c, tcp.src, tcp.dst, &tcp.segment())
    };
    match random.below(30) {
        // Padding, as short frames have it; a cut; a flaw anywhere, most of all in the headers.
        0 => frame.extend(any_bytes(random, 20)),
        1 => frame.truncate(14 + random.below(frame.len() as u64 - 13) as usize),
        2 | 3 => {
            let at = random.below(frame.len().min(120) as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        4 => {
            // No length: the rest of the frame. A tag of a stack may be one too many, too.
            let start = c.start();
            let at = if c.guest.is_ipv4() { start + 2 } else { start + 4 };
            frame[at..at + 2].fill(0);
            if random.one_in(3) {
                let tag = pick(random, &TAG_TYPES).to_be_bytes();
                frame.splice(12..12, [tag[0], tag[1], 0, 9]);
            }
        }
        _ => {}
    }
    frame
}

fn flow(c: &Connection) -> Flow {
    let tcp = Tcp::new(c.guest, c.peer).flag(TcpFlags::SYN);
    initial_of(&tcp.frame_in(&c.wrap())).expect("a SYN").flow
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options
}

/// A translator just after its takeover: connections that a former takeover left, learned ones, handshakes of either
/// side that are pending, one that only the primary had begun, and connections that it does not know.
fn taken_over(now: Mono, connections: &[Connection]) -> Result<Translator> {
    // Nothing is kept: what cannot be translated is dropped on both sides.
    let limits = Limits { kept_frames: 0, reassemblies: 0, ..Limits::default() };
    let mut translator = Translator::new(limits);
    let bases = connections.iter().step_by(6).map(|c| Base {
        flow: flow(c),
        delta: c.delta,
        guest_isn: Some(c.seq.wrapping_sub(1000)),
    });
    translator.epoch_cut(now, bases).ok().context("bases")?;
    for (index, c) in connections.iter().enumerate() {
        let isn = c.seq.wrapping_sub(1000);
        let told = LearnedInitial {
            flow: flow(c),
            primary_isn: isn.wrapping_sub(c.delta.seq),
            primary_tsval: Some(c.ts.wrapping_sub(c.delta.ts)),
        };
        let syn = Tcp::new(c.guest, c.peer).seq(isn).flag(TcpFlags::SYN).options(&timestamps(c.ts, 0));
        let says = match index % 6 {
            1 | 2 => Some(syn.ack(c.peer_seq)),
            3 => Some(syn),
            _ => None,
        };
        if let Some(syn) = says {
            let mut frame = syn.frame_in(&c.wrap());
            ensure!(translator.output(now, &mut frame).forward());
        }
        if matches!(index % 6, 1 | 4) {
            let _ = translator.learn(now, &told);
        }
    }
    translator.take_over(now);
    Ok(translator)
}

fn is_fragment(frame: &[u8]) -> bool {
    use colo_user::wire::{Ether, Ip};
    let Ok(ether) = Ether::parse(frame) else { return false };
    matches!(ether.ethertype, ethertype::IPV4 | ethertype::IPV6)
        && Ip::parse(frame, ether.payload, ether.ethertype).is_ok_and(|ip| ip.fragment.is_some())
}

/// The entry of the kernel says what the agent's does, as far as both have one.
fn ensure_same_entry(programs: &Programs, view: &EntryView) -> Result<()> {
    use colo_ebpf::translation::{KNOWN, PENDING, TOLD, guest, peer};
    let Some(entry) = programs.translation(&view.flow)? else {
        // What needs no translation is not written.
        ensure!(view.handshake == Handshake::Known && view.base + view.drift == Delta::ZERO, "it is missing");
        return Ok(());
    };
    let noted = |flags: u32, flag: u32, value: u32| (flags & flag != 0).then_some(value);
    let (g, p) = (entry.guest_flags, entry.peer_flags);
    ensure!(g & guest::GONE == 0, "it is gone");
    let handshake = match view.handshake {
        Handshake::Known => KNOWN,
        Handshake::Pending { .. } => PENDING,
        Handshake::Told { .. } => TOLD,
    };
    let total = view.base + view.drift;
    let drifted = if handshake == PENDING { Delta::ZERO } else { total };
    ensure!(entry.handshake == handshake, "handshake {}", entry.handshake);
    ensure!(entry.base.seq.wrapping_add(entry.drift.seq) == drifted.seq, "sequence delta");
    ensure!(entry.base.ts.wrapping_add(entry.drift.ts) == drifted.ts, "timestamp delta");
    let Progress { last_tsval, said, guest_fin, peer_fin, established, peer_closed, guest_closed, .. } =
        view.progress;
    ensure!(noted(g, guest::LAST, entry.last_tsval) == last_tsval, "last TSval");
    ensure!(noted(g, guest::SAID, entry.said) == said, "said");
    ensure!(noted(g, guest::FIN, entry.guest_fin) == guest_fin, "the guest's FIN");
    ensure!(noted(p, peer::FIN, entry.peer_fin) == peer_fin, "the peer's FIN");
    ensure!((g & guest::ESTABLISHED | p & peer::ESTABLISHED != 0) == established, "established");
    ensure!(
        (g & guest::PEER_CLOSED != 0, p & peer::GUEST_CLOSED != 0) == (peer_closed, guest_closed),
        "closed"
    );
    Ok(())
}

/// Runs random frames through both and compares.
fn compare(seed: u64, in_grace: bool) -> Result<[u64; 4]> {
    const ROUNDS: u64 = 60;
    const FRAMES: u64 = 200;
    let (_namespace, mut programs) = load(settings(Hold::Ring, 9014), 0)?;
    programs.set_mode(Mode::Pass)?;
    let connections = connections();
    let mut tally = [0; 4];
    for round in 0..ROUNDS {
        let random = &mut Random::new(seed + round);
        let place = format!("seed {:#x}", seed + round);
        let start = Mono::now();
        let mut translator = taken_over(start, &connections)?;
        // The kernel's own clock decides there whether the takeover is long ago.
        let (written, now) =
            if in_grace { (start + HOUR, start) } else { (Mono::ZERO, start + Duration::from_secs(10)) };
        programs.set_translations(written, translator.entries())?;
        for number in 0..FRAMES {
            let direction = pick(random, &[Direction::Output, Direction::Input]);
            let frame = any_frame(random, &connections, direction);
            let place = format!("{place}, frame {number}, {direction:?} {frame:02x?}");
            let mut edited = frame.clone();
            let outcome = match direction {
                Direction::Output => translator.output(now, &mut edited),
                Direction::Input => translator.input(now, &mut edited),
            };
            let told = kernel(&mut programs, direction, &frame).context(place.clone())?;
            if is_fragment(&frame) {
                ensure!(told.is_none_or(|told| told == frame), "a fragment was edited: {place}");
                continue;
            }
            let expected = outcome.forward().then_some(edited);
            tally[outcome as usize] += 1;
            ensure!(told == expected, "{outcome:?}\nkernel {told:02x?}\nagent  {expected:02x?}\nof {place}");
        }
        for view in translator.entries() {
            ensure_same_entry(&programs, &view)
                .with_context(|| format!("{place}: {}: {view:?}", view.flow))?;
        }
        while translator.next_event().is_some() {}
    }
    println!("unchanged, translated, kept, dropped: {tally:?}");
    Ok(tally)
}

#[test]
fn the_kernel_translates_as_the_agent_does() -> Result<()> {
    let [unchanged, translated, _, dropped] = compare(0xc010_0001, false)?;
    ensure!(unchanged > 1000 && translated > 1000 && dropped > 100, "too little was tried");
    Ok(())
}

#[test]
fn the_kernel_learns_as_the_agent_does_just_after_a_takeover() -> Result<()> {
    let [unchanged, translated, _, dropped] = compare(0xc010_8001, true)?;
    ensure!(unchanged > 1000 && translated > 1000 && dropped > 100, "too little was tried");
    Ok(())
}

//! `colo compare` against QEMU's own colo-compare, with the same frames to both: where they agree, and where colo differs
//! on purpose. Each deviation is data with its reason, and is checked to be one still. Without QEMU these tests fail.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use colo_tests::{
    captures::Random,
    lab::child::Programs,
    oracle::{Options, Program, Running},
    samples::{address, datagram, tcp},
};
use colo_user::wire::{
    TcpFlags, Vlans,
    build::{Tcp, Wrap, ether, fragments, ip, udp, udp_frame},
    proto,
};

/// How long something may take that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Longer than colo waits with datagrams that do not match (stock asks at once).
const ASKED: Duration = Duration::from_millis(900);

/// What guests say, in order, and what happens.
#[derive(Clone, Debug)]
enum Step {
    /// The primary's guest says this.
    P(Vec<u8>),
    /// The secondary's guest says this.
    S(Vec<u8>),
    /// All of that is compared before what follows is said.
    Settle,
}
use Step::{P, S, Settle};

/// What came of it. Frames of the primary are named by their number in the script.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// What left without a checkpoint, in order.
    left: Vec<usize>,
    /// Whether a checkpoint was asked for.
    asked: bool,
    /// What a checkpoint then let out, in order.
    flushed: Vec<usize>,
}

fn colo() -> Program {
    Program::Colo(Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo)
}

fn start(program: &Program) -> Running {
    let options = Options { compare_timeout: 600_000, ..Options::default() };
    Running::start(program, &options).expect("the comparator starts; the peer is qemu-system-x86_64")
}

fn play(program: &Program, script: &[Step]) -> Outcome {
    let mut running = start(program);
    let mut left = Vec::new();
    let mut said: Vec<&Vec<u8>> = Vec::new();
    for step in script {
        match step {
            P(frame) => {
                running.p(frame);
                said.push(frame);
            }
            S(frame) => running.s(frame),
            Settle => left.extend(running.settle()),
        }
    }
    left.extend(running.settle());
    let asked = !running.notices(1, ASKED).is_empty();
    running.checkpoint();
    let flushed = running.released(said.len() - left.len(), Duration::from_millis(500));
    // Equal frames are told apart by which of them have been named already.
    let mut free = vec![true; said.len()];
    let mut name = |frames: Vec<Vec<u8>>| -> Vec<usize> {
        let mut number = |frame: Vec<u8>| {
            let at = (0..said.len()).find(|&at| free[at] && *said[at] == frame).expect("said by the primary");
            free[at] = false;
            at
        };
        frames.into_iter().map(&mut number).collect()
    };
    Outcome { left: name(left), asked, flushed: name(flushed) }
}

/// A stream cut at random places.
fn segments(stream: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let end = stream.len().min(at + 1 + random.below(1448));
        made.push(tcp().seq(1000 + at as u32).data(&stream[at..end]).frame());
        at = end;
    }
    made
}

/// Both sides in order, each in its own, taking random turns.
fn interleaved(primary: Vec<Vec<u8>>, secondary: Vec<Vec<u8>>, random: &mut Random) -> Vec<Step> {
    let (mut primary, mut secondary) = (primary.into_iter().peekable(), secondary.into_iter().peekable());
    let mut script = Vec::new();
    while primary.peek().is_some() || secondary.peek().is_some() {
        let turn = if random.one_in(2) { primary.next().map(P) } else { secondary.next().map(S) };
        script.extend(turn);
        script.extend(random.one_in(4).then_some(Settle));
    }
    script
}

#[test]
fn both_agree_on_streams_cut_anywhere() {
    for seed in 1..9 {
        let random = &mut Random::new(seed);
        let stream: Vec<u8> = (0..8000).map(|_| random.below(256) as u8).collect();
        let script = interleaved(segments(&stream, random), segments(&stream, random), random);
        let (ours, stock) = (play(&colo(), &script), play(&Program::Stock, &script));
        assert_eq!(ours, stock, "seed {seed}");
        let all = script.iter().filter(|step| matches!(step, P(_))).count();
        assert_eq!((ours.left.len(), ours.asked), (all, false), "seed {seed}");
    }
}

#[test]
fn both_agree_on_where_a_stream_differs() {
    for seed in 1..9 {
        let random = &mut Random::new(seed);
        let stream: Vec<u8> = (0..8000).map(|_| random.below(256) as u8).collect();
        let mut other = stream.clone();
        other[random.below(8000)] ^= 1;
        let script = interleaved(segments(&stream, random), segments(&other, random), random);
        let (ours, mut stock) = (play(&colo(), &script), play(&Program::Stock, &script));
        assert!(ours.asked && !ours.flushed.is_empty(), "seed {seed}: {ours:?}");
        // In which order a checkpoint lets them out is a deviation of its own.
        stock.flushed.sort_unstable();
        assert_eq!(ours, stock, "seed {seed}");
    }
}

#[test]
fn both_agree_on_datagrams_in_turns() {
    let mut script = Vec::new();
    for number in 0..20_u8 {
        script.extend([P(datagram(&[number; 100])), S(datagram(&[number; 100])), Settle]);
    }
    let (ours, stock) = (play(&colo(), &script), play(&Program::Stock, &script));
    assert_eq!(ours, stock);
    assert_eq!(ours, Outcome { left: (0..20).collect(), asked: false, flushed: vec![] });
    let differ = [P(datagram(b"good")), S(datagram(b"evil"))];
    let (ours, stock) = (play(&colo(), &differ), play(&Program::Stock, &differ));
    assert_eq!(ours, stock);
    assert_eq!(ours, Outcome { left: vec![], asked: true, flushed: vec![0] });
}

#[test]
fn both_agree_on_frames_that_are_not_compared_or_lone() {
    let arp = || ether(0x0806, &[0; 28], &Wrap::default());
    for script in [
        vec![P(arp()), S(arp())],
        vec![P(arp())],
        vec![S(arp())],
        vec![P(tcp().seq(1).data(b"lone").frame())],
        vec![S(tcp().seq(1).data(b"lone").frame())],
        vec![P(tcp().seq(1).frame())],
        vec![P(datagram(b"lone"))],
    ] {
        assert_eq!(play(&colo(), &script), play(&Program::Stock, &script), "{script:?}");
    }
}

/// Something that colo does otherwise than stock, and why.
struct Deviation {
    name: &'static str,
    reason: &'static str,
    script: Vec<Step>,
    colo: Outcome,
    stock: Outcome,
}

fn outcome(left: &[usize], asked: bool, flushed: &[usize]) -> Outcome {
    Outcome { left: left.to_vec(), asked, flushed: flushed.to_vec() }
}

fn deviations() -> Vec<Deviation> {
    let wrap = Wrap::default();
    let tagged = Wrap { vlans: Vlans::stacked(&[100]), ..Wrap::default() };
    let (guest6, client6) = (address("[2001:db8::1]:80"), address("[2001:db8::9]:40000"));
    let data = |seq, ack, payload: &[u8]| tcp().seq(seq).ack(ack).data(payload).frame();
    let syn = |isn, options: &[u8]| tcp().seq(isn).flag(TcpFlags::SYN).options(options).frame();
    let gre = |id| {
        let wrap = Wrap { id, ..Wrap::default() };
        ip(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 9]), 47, &[7; 40], &wrap)
    };
    let padded = || {
        let mut frame = tcp().seq(1).frame();
        frame.resize(60, 0);
        frame
    };
    let whole = udp(address("192.0.2.1:53"), address("192.0.2.9:5000"), &[9; 2000]);
    let cut = |size, id| {
        let wrap = Wrap { id, ..Wrap::default() };
        fragments(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 9]), proto::UDP, &whole, size, &wrap)
    };
    vec![
        Deviation {
            name: "IPv6",
            reason: "stock lets IPv6 out uncompared: no output commit for any service over it",
            script: vec![
                P(Tcp::new(guest6, client6).ack(1).seq(1).data(b"good").frame()),
                S(Tcp::new(guest6, client6).ack(1).seq(1).data(b"evil").frame()),
            ],
            colo: outcome(&[], true, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "VLAN",
            reason: "stock lets tagged frames out uncompared",
            script: vec![
                P(tcp().seq(1).data(b"good").frame_in(&tagged)),
                S(tcp().seq(1).data(b"evil").frame_in(&tagged)),
            ],
            colo: outcome(&[], true, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "another sequence number",
            reason: "stock does not check where equal bytes stand: the client would get them at another place",
            script: vec![P(data(100, 7, b"same")), S(data(777, 7, b"same"))],
            colo: outcome(&[], false, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "reused connection",
            reason: "stock goes on from the old connection's sequence number and lets out a new one below it uncompared",
            script: vec![
                P(data(9000, 7, b"old")),
                S(data(9000, 7, b"old")),
                Settle,
                P(syn(100, &[])),
                S(syn(100, &[])),
                Settle,
                P(data(101, 7, b"good")),
                S(data(101, 7, b"evil")),
            ],
            colo: outcome(&[0, 1], true, &[2]),
            stock: outcome(&[0, 1, 2], false, &[]),
        },
        Deviation {
            name: "retransmission with other bytes",
            reason: "stock does not compare what was sent before; here the primary's stays, and asks if the secondary does not \
                     say it too in time",
            script: vec![
                P(data(1, 7, b"said")),
                S(data(1, 7, b"said")),
                Settle,
                P(data(1, 7, b"sole")),
                S(data(1, 7, b"said")),
            ],
            colo: outcome(&[0], false, &[1]),
            stock: outcome(&[0, 1], false, &[]),
        },
        Deviation {
            name: "retransmission of the primary alone",
            reason: "what has been said and let out before may leave again at once; stock holds it",
            script: vec![P(data(1, 7, b"said")), S(data(1, 7, b"said")), Settle, P(data(1, 7, b"said"))],
            colo: outcome(&[0, 1], false, &[]),
            stock: outcome(&[0], false, &[1]),
        },
        Deviation {
            name: "FIN that the secondary did not say",
            reason: "stock lets out any segment without payload against any other: the client would see a connection \
                     close that the secondary keeps open",
            script: vec![P(tcp().seq(1).flag(TcpFlags::FIN).frame()), S(tcp().seq(1).frame())],
            colo: outcome(&[], false, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "RST that the secondary did not say",
            reason: "the same for a reset",
            script: vec![P(tcp().seq(1).flag(TcpFlags::RST).frame()), S(tcp().seq(1).frame())],
            colo: outcome(&[], false, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "SYN options",
            reason: "stock compares no options: the client would agree on a segment size that the secondary does not have",
            script: vec![P(syn(1, &[2, 4, 5, 180])), S(syn(1, &[2, 4, 2, 24]))],
            colo: outcome(&[], true, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "acknowledgement ahead",
            reason: "stock lets out an acknowledgement of input that the secondary has not got: the client forgets it",
            script: vec![P(data(1, 500, b"same")), S(data(1, 1, b"same"))],
            colo: outcome(&[], false, &[0]),
            stock: outcome(&[0], false, &[]),
        },
        Deviation {
            name: "padding",
            reason: "stock takes Ethernet padding for payload",
            script: vec![P(padded()), S(tcp().seq(1).frame())],
            colo: outcome(&[0], false, &[]),
            stock: outcome(&[], false, &[0]),
        },
        Deviation {
            name: "two datagrams outstanding",
            reason: "stock compares the newest first and asks for a checkpoint though both match",
            script: vec![
                P(datagram(b"one")),
                P(datagram(b"two")),
                Settle,
                S(datagram(b"one")),
                Settle,
                S(datagram(b"two")),
            ],
            colo: outcome(&[0, 1], false, &[]),
            stock: outcome(&[1, 0], true, &[]),
        },
        Deviation {
            name: "order of a flush",
            reason: "stock lets out held datagrams newest first",
            script: vec![P(datagram(b"1")), P(datagram(b"2")), P(datagram(b"3"))],
            colo: outcome(&[], false, &[0, 1, 2]),
            stock: outcome(&[], false, &[2, 1, 0]),
        },
        Deviation {
            name: "another IP identification",
            reason: "stock compares other protocols with their whole headers",
            script: vec![P(gre(1)), S(gre(2))],
            colo: outcome(&[0], false, &[]),
            stock: outcome(&[], true, &[0]),
        },
        Deviation {
            name: "fragments cut differently",
            reason: "stock compares fragments as if they were datagrams, with their data as ports",
            script: cut(1480, 1).into_iter().map(P).chain(cut(800, 2).into_iter().map(S)).collect(),
            colo: outcome(&[0, 1], false, &[]),
            stock: outcome(&[], true, &[0, 1]),
        },
        Deviation {
            name: "other ethertypes",
            reason: "stock lets out whatever is not IPv4 uncompared",
            script: vec![P(ether(0x88b5, b"good", &wrap)), S(ether(0x88b5, b"evil", &wrap))],
            colo: outcome(&[], true, &[0]),
            stock: outcome(&[0], false, &[]),
        },
    ]
}

#[test]
fn each_deviation_is_intended_and_real() {
    let mut wrong = Vec::new();
    for Deviation { name, reason, script, colo: of_colo, stock: of_stock } in deviations() {
        assert_ne!(of_colo, of_stock, "{name} is a deviation");
        let (ours, stock) = (play(&colo(), &script), play(&Program::Stock, &script));
        println!("{name}: {reason}\n  colo {ours:?}\n  stock {stock:?}");
        for (who, is, expected) in [("colo", ours, of_colo), ("stock", stock, of_stock)] {
            if is != expected {
                wrong.push(format!("{name}: {who} was {is:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many of `frames`, said by both and first by the primary, leave.
fn count(program: &Program, frames: &[Vec<u8>]) -> usize {
    let mut running = start(program);
    frames.iter().for_each(|frame| running.p(frame));
    let mut left = running.settle().len();
    frames.iter().for_each(|frame| running.s(frame));
    left += running.released(frames.len(), Duration::from_secs(2)).len();
    left
}

#[test]
fn stock_loses_what_is_beyond_its_queue_and_colo_does_not() {
    let frames: Vec<Vec<u8>> =
        (0..2000_u32).map(|n| tcp().seq(1 + n * 10).data(&[n as u8; 10]).frame()).collect();
    assert_eq!(count(&colo(), &frames), 2000);
    let stock = count(&Program::Stock, &frames);
    assert!(stock < 1100, "stock let out {stock}");
}

#[test]
fn stock_loses_its_table_and_colo_does_not() {
    let flow = |n: u32| {
        let guest = SocketAddr::new(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]), 53);
        udp_frame(guest, address("192.0.2.9:5000"), &n.to_be_bytes(), &Wrap::default())
    };
    let flushed = |program: &Program| {
        let mut running = start(program);
        (0..16_500).for_each(|n| running.p(&flow(n)));
        running.settle();
        running.checkpoint();
        running.released(16_500, Duration::from_secs(2)).len()
    };
    assert_eq!(flushed(&colo()), 16_500);
    let stock = flushed(&Program::Stock);
    assert!(stock < 1000, "stock let out {stock}");
}

/// How often a frame comes out after one that was said later, with a reader that begins late.
fn inversions(program: &Program) -> usize {
    let mut running = start(program);
    let frames: Vec<Vec<u8>> =
        (0..600_u32).map(|n| datagram(&[&n.to_be_bytes()[..], &[0; 2000]].concat())).collect();
    for frame in &frames {
        running.p(frame);
        running.s(frame);
        // Both are read in turns, as stock takes two datagrams of one side for a divergence.
        std::thread::sleep(Duration::from_micros(500));
    }
    let left = running.released(frames.len(), SOON.min(Duration::from_secs(3)));
    let number = |frame: &Vec<u8>| frames.iter().position(|f| f == frame);
    let order: Vec<_> = left.iter().map(number).collect();
    assert_eq!(order.len(), frames.len(), "all of them come out");
    order.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

#[test]
fn stock_turns_the_order_round_under_back_pressure_and_colo_does_not() {
    assert_eq!(inversions(&colo()), 0);
    let stock = inversions(&Program::Stock);
    println!("stock: {stock} inversions in 600 frames");
    assert!(stock > 0);
}

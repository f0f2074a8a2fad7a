//! `colo compare` as a process behind sockets: what leaves and what is held, in which order, and what a peer can do to it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use colo_tests::{
    captures::Random,
    lab::child::Programs,
    oracle::{Options, Program, Running, framed, frames},
    samples::{address, datagram, tcp},
};
use colo_user::{
    link::chardev::{Decoder, Framing, MAX_FRAME},
    wire::{
        TcpFlags, Vlans,
        build::{Tcp, Wrap, fragments, icmp_frame, ip, udp, udp_frame},
        proto,
    },
};

/// How long something may take that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(200);

fn program() -> Program {
    Program::Colo(Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo)
}

fn start(options: &Options) -> Running {
    Running::start(&program(), options).expect("colo compare starts")
}

/// With a timeout that no test reaches by accident.
fn patient() -> Running {
    start(&Options { compare_timeout: 600_000, ..Options::default() })
}

/// The datagram that flow number `flow` says.
fn of_flow(flow: u32, payload: &[u8]) -> Vec<u8> {
    let guest = SocketAddr::new(IpAddr::from([10, (flow >> 16) as u8, (flow >> 8) as u8, flow as u8]), 53);
    udp_frame(guest, address("192.0.2.9:5000"), payload, &Wrap::default())
}

fn requests(colo: &mut Running) -> usize {
    let notices = colo.notices(usize::MAX, QUIET);
    assert!(notices.iter().all(|text| text == b"DO_CHECKPOINT"), "{notices:?}");
    notices.len()
}

/// What the primary says is held, and leaves only once the secondary has said `then`.
#[track_caller]
fn held_until(primary: &[Vec<u8>], secondary: &[Vec<u8>], then: &[Vec<u8>]) {
    let mut colo = patient();
    primary.iter().for_each(|frame| colo.p(frame));
    secondary.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.settle(), Vec::<Vec<u8>>::new(), "held");
    then.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.released(primary.len(), SOON), primary);
}

/// What the primary says is held whatever else happens, until a checkpoint; one is asked for.
#[track_caller]
fn held_for_good(before: &[Vec<u8>], primary: &[Vec<u8>], secondary: &[Vec<u8>]) {
    let mut colo = start(&Options { compare_timeout: 400, scan_cycle: 100, ..Options::default() });
    for frame in before {
        colo.p(frame);
        colo.s(frame);
    }
    assert_eq!(colo.released(before.len(), SOON), before);
    primary.iter().for_each(|frame| colo.p(frame));
    secondary.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.settle(), Vec::<Vec<u8>>::new(), "held");
    assert_eq!(colo.notices(1, SOON), [b"DO_CHECKPOINT"]);
    assert_eq!(colo.settle(), Vec::<Vec<u8>>::new(), "held after the request");
    colo.checkpoint();
    assert_eq!(colo.released(primary.len(), SOON), primary);
}

/// Both sides are said, all of the primary's leaves, and no checkpoint is asked for.
#[track_caller]
fn equal(primary: &[Vec<u8>], secondary: &[Vec<u8>]) {
    let mut colo = patient();
    primary.iter().for_each(|frame| colo.p(frame));
    secondary.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.released(primary.len(), SOON), primary);
    assert_eq!(requests(&mut colo), 0);
}

#[test]
fn equal_bytes_leave_however_they_are_cut() {
    let whole = [tcp().seq(100).data(&[5; 1448]).frame()];
    let halves = [tcp().seq(100).data(&[5; 724]).frame(), tcp().seq(824).data(&[5; 724]).frame()];
    equal(&whole, &halves);
    equal(&halves, &whole);
    held_until(&whole, &halves[..1], &halves[1..]);
}

#[test]
fn equal_bytes_at_another_sequence_number_are_held() {
    held_for_good(&[], &[tcp().seq(100).data(b"same").frame()], &[tcp().seq(777).data(b"same").frame()]);
}

#[test]
fn a_reused_connection_with_other_bytes_is_held() {
    let syn = |isn| tcp().seq(isn).flag(TcpFlags::SYN).frame();
    let before = [syn(9000), tcp().seq(9001).data(b"first").frame()];
    let open = [syn(100), tcp().seq(101).data(b"good").frame()];
    let other = [syn(100), tcp().seq(101).data(b"evil").frame()];
    let mut colo = start(&Options { compare_timeout: 400, scan_cycle: 100, ..Options::default() });
    for frame in &before {
        colo.p(frame);
        colo.s(frame);
    }
    assert_eq!(colo.released(2, SOON), before);
    open.iter().for_each(|frame| colo.p(frame));
    other.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.settle(), open[..1], "the handshake is equal, the bytes are not");
    assert_eq!(colo.notices(1, SOON), [b"DO_CHECKPOINT"]);
    colo.checkpoint();
    assert_eq!(colo.released(1, SOON), open[1..]);
}

#[test]
fn an_end_that_the_secondary_never_said_is_held() {
    let before = [tcp().seq(100).data(b"data").frame()];
    for flag in [TcpFlags::FIN, TcpFlags::RST] {
        held_for_good(&before, &[tcp().seq(104).flag(flag).frame()], &[tcp().seq(104).frame()]);
    }
}

#[test]
fn an_end_that_both_say_leaves() {
    for flag in [TcpFlags::FIN, TcpFlags::RST] {
        let end = [tcp().seq(104).flag(flag).frame()];
        held_until(&end, &[tcp().seq(104).frame()], &end);
    }
}

#[test]
fn an_acknowledgement_ahead_of_the_secondarys_waits_for_it() {
    let data = |ack| tcp().seq(100).ack(ack).data(b"data").frame();
    held_until(&[data(500)], &[data(1)], &[tcp().seq(104).ack(500).frame()]);
    held_until(&[tcp().seq(100).ack(500).frame()], &[tcp().seq(100).ack(499).frame()], &[data(501)]);
}

#[test]
fn padding_is_no_payload() {
    let short = tcp().seq(100).frame();
    let mut padded = short.clone();
    padded.resize(60, 0x55);
    let (short, padded) = ([short], [padded]);
    equal(&padded, &short);
    equal(&short, &padded);
}

#[test]
fn two_datagrams_outstanding_are_no_divergence() {
    let (one, two) = (datagram(b"one"), datagram(b"two"));
    held_until(&[one.clone(), two.clone()], &[], &[one.clone(), two.clone()]);
    equal(&[one.clone(), two.clone()], &[two, one]);
}

#[test]
fn headers_that_routers_change_do_not_matter() {
    let gre = |id, ttl| {
        let wrap = Wrap { id, ttl, ..Wrap::default() };
        ip(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 9]), 47, b"\0\0\x08\0tunnelled", &wrap)
    };
    equal(&[gre(1, 64)], &[gre(999, 3)]);
    let mut tcp_frame = tcp().seq(100).data(b"data");
    let original = tcp_frame.frame();
    tcp_frame.window = 17;
    equal(&[original], &[tcp_frame.frame_in(&Wrap { id: 77, ttl: 1, ..Wrap::default() })]);
}

#[test]
fn every_other_class_is_compared_too() {
    let wrap = Wrap::default();
    let tagged = Wrap { vlans: Vlans::stacked(&[100]), ..Wrap::default() };
    let stacked = Wrap { vlans: Vlans::stacked(&[7, 100]), ..Wrap::default() };
    let v6 = (address("[2001:db8::1]:80"), address("[2001:db8::9]:40000"));
    let echo = |data: &[u8]| icmp_frame(v6.0.ip(), v6.1.ip(), 129, 0, [0, 1, 0, 1], data, &wrap);
    type Say<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let classes: [(&str, Say<'_>); 6] = [
        ("TCP over IPv6", &|data| Tcp::new(v6.0, v6.1).ack(1).seq(1).data(data).frame()),
        ("UDP over IPv6", &|data| udp_frame(v6.0, v6.1, data, &wrap)),
        ("VLAN", &|data| udp_frame(address("192.0.2.1:53"), address("192.0.2.9:5000"), data, &tagged)),
        ("QinQ", &|data| tcp().seq(1).data(data).frame_in(&stacked)),
        ("ICMPv6 echo reply", &|data| echo(data)),
        ("runt", &|data| data.to_vec()),
    ];
    for (name, say) in classes {
        println!("{name}");
        held_until(&[say(b"good")], &[], &[say(b"good")]);
        held_for_good(&[], &[say(b"good")], &[say(b"evil")]);
    }
}

#[test]
fn fragments_cut_differently_are_equal() {
    let (guest, client) = (address("192.0.2.1:53"), address("192.0.2.9:5000"));
    let whole = udp(guest, client, &[9; 4000]);
    let cut = |size, id| {
        fragments(guest.ip(), client.ip(), proto::UDP, &whole, size, &Wrap { id, ..Wrap::default() })
    };
    equal(&cut(1480, 1), &cut(800, 2));
    equal(&cut(1480, 1), &[ip(guest.ip(), client.ip(), proto::UDP, &whole, &Wrap::default())]);
    held_until(&cut(1480, 1), &cut(800, 2)[1..], &cut(800, 2)[..1]);
}

#[test]
fn a_slow_reader_gets_everything_in_order() {
    let mut colo = patient();
    let frames: Vec<Vec<u8>> =
        (0..600_u32).map(|number| datagram(&[&number.to_be_bytes()[..], &[0; 8000]].concat())).collect();
    for frame in &frames {
        colo.p(frame);
        colo.s(frame);
    }
    // Nobody has read yet; far more is released than the socket takes.
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(colo.released(1, SOON).pop().as_ref(), Some(frame), "frame {number}");
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(requests(&mut colo), 0);
}

#[test]
fn three_thousand_outstanding_on_one_flow_are_not_lost() {
    let mut colo = patient();
    let frames: Vec<Vec<u8>> =
        (0..3000_u32).map(|n| tcp().seq(1 + n * 100).data(&[n as u8; 100]).frame()).collect();
    frames.iter().for_each(|frame| colo.p(frame));
    assert_eq!(colo.notices(1, SOON), [b"DO_CHECKPOINT"], "the queue's bound asks for a checkpoint");
    frames.iter().for_each(|frame| colo.s(frame));
    assert_eq!(colo.released(3000, SOON), frames);
}

/// `flows` one-packet flows are held at once; none is lost.
fn many_flows(flows: u32) {
    let options = Options { more: vec!["--max-held-frames".into(), "1000000".into()], ..Options::default() };
    let mut colo = start(&Options { compare_timeout: 600_000, ..options });
    let resident = |colo: &Running| {
        let status = fs::read_to_string(format!("/proc/{}/status", colo.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
    };
    let before = resident(&colo);
    let say = |stream: &mut UnixStream| {
        let mut bytes = Vec::new();
        for flow in 0..flows {
            bytes.extend(framed(Framing { vnet_header: false }, &of_flow(flow, &flow.to_be_bytes())));
        }
        stream.write_all(&bytes).expect("taken");
    };
    say(&mut colo.primary);
    assert_eq!(colo.settle(), Vec::<Vec<u8>>::new());
    let held = resident(&colo) - before;
    println!(
        "{flows} flows, one 46-byte frame held in each: {} bytes of memory per flow",
        held / u64::from(flows)
    );
    let mut secondary = colo.secondary.try_clone().expect("a second handle");
    let left = thread::scope(|scope| {
        scope.spawn(|| say(&mut secondary));
        colo.released(flows as usize, SOON)
    });
    assert_eq!(left.len(), flows as usize);
    for (flow, frame) in left.iter().enumerate() {
        assert_eq!(*frame, of_flow(flow as u32, &(flow as u32).to_be_bytes()));
    }
    assert_eq!(requests(&mut colo), 0);
}

#[test]
fn twenty_thousand_flows_lose_nothing() {
    many_flows(20_000);
}

#[test]
fn two_hundred_thousand_flows_lose_nothing() {
    many_flows(200_000);
}

#[test]
fn a_peer_that_breaks_off_in_mid_frame_costs_only_that_frame() {
    for name in ["p", "s"] {
        let mut colo = patient();
        let (one, two) = (datagram(b"one"), datagram(b"two"));
        colo.p(&one);
        colo.s(&one);
        assert_eq!(colo.released(1, SOON), [one]);
        let half = colo.framed(&two)[..20].to_vec();
        if name == "p" {
            colo.primary.write_all(&half).expect("taken");
            colo.primary = colo.connect("p").expect("again");
        } else {
            colo.secondary.write_all(&half).expect("taken");
            colo.secondary = colo.connect("s").expect("again");
        }
        colo.p(&two);
        colo.s(&two);
        assert_eq!(colo.released(1, SOON), [two]);
        let summary = colo.stop().expect("ends");
        assert_eq!(summary.get("partial_frames"), Some(&1));
    }
}

#[test]
fn an_impossible_length_costs_only_that_connection() {
    for name in ["p", "s", "n"] {
        let mut colo = patient();
        let held = datagram(b"held before");
        colo.p(&held);
        let mut bad = colo.connect(name).ok();
        let stream = match name {
            "p" => &mut colo.primary,
            "s" => &mut colo.secondary,
            _ => &mut colo.notify,
        };
        stream.write_all(&69_633_u32.to_be_bytes()).expect("taken");
        let mut byte = [0];
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        assert_eq!(stream.read(&mut byte).expect("closed"), 0, "{name} is closed");
        // The connection that waited behind it takes its place.
        let next = bad.take().expect("connected");
        match name {
            "p" => colo.primary = next,
            "s" => colo.secondary = next,
            _ => colo.notify = next,
        }
        colo.s(&held);
        assert_eq!(colo.released(1, SOON), [held]);
        assert_eq!(colo.stop().expect("ends").get("oversized_frames"), Some(&1));
    }
}

#[test]
fn the_longest_and_the_shortest_frame_are_legal() {
    let all = [vec![], vec![1], vec![7; MAX_FRAME], datagram(b"last")];
    equal(&all, &all);
}

#[test]
fn garbage_costs_nothing_else() {
    let mut colo = patient();
    let random = &mut Random::new(3);
    let mut garbage = Vec::new();
    for number in 0..2000 {
        let mut frame = match number % 3 {
            0 => tcp().seq(number).data(b"payload").frame(),
            1 => datagram(b"payload"),
            _ => vec![0; random.below(200)],
        };
        for _ in 0..random.below(8) {
            if !frame.is_empty() {
                let at = random.below(frame.len());
                frame[at] = random.below(256) as u8;
            }
        }
        frame.truncate(1 + random.below(frame.len() + 1));
        garbage.push(frame);
    }
    let good: Vec<Vec<u8>> = (0..100).map(|flow| of_flow(flow, b"good")).collect();
    for (number, frame) in garbage.iter().enumerate() {
        colo.p(frame);
        if number % 2 == 0 {
            colo.s(&garbage[number / 2]);
        }
    }
    for frame in &good {
        colo.p(frame);
        colo.s(frame);
    }
    let left = colo.settle();
    assert!(good.iter().all(|frame| left.contains(frame)));
    colo.checkpoint();
    let rest = colo.released(usize::MAX, Duration::from_secs(1));
    assert_eq!(left.len() + rest.len(), garbage.len() + good.len(), "nothing of the primary's is lost");
}

#[test]
fn without_a_secondary_frames_are_held() {
    let mut colo = patient();
    colo.secondary = UnixStream::pair().expect("a pair").0;
    let frame = datagram(b"alone");
    colo.p(&frame);
    assert!(colo.released(1, QUIET).is_empty());
    colo.secondary = colo.connect("s").expect("back");
    colo.s(&frame);
    assert_eq!(colo.released(1, SOON), [frame]);
}

#[test]
fn out_may_come_late_and_go_in_mid_frame() {
    let mut colo = patient();
    let big: Vec<Vec<u8>> = (0..40_u8).map(|n| datagram(&[n; 60_000])).collect();
    for frame in &big {
        colo.p(frame);
        colo.s(frame);
    }
    // The first reader takes five frames and a half.
    let framing = Framing { vnet_header: false };
    let mut taken = vec![0; framed(framing, &big[0]).len() * 11 / 2];
    colo.out.set_read_timeout(Some(SOON)).expect("a timeout");
    colo.out.read_exact(&mut taken).expect("readable");
    let mut next = colo.connect("o").expect("waits behind the first");
    colo.out = UnixStream::pair().expect("a pair").0;
    let frames = frames(&mut Decoder::new(framing, 1 << 20), &mut next, usize::MAX, Duration::from_secs(2));
    // What the first peer's socket had taken is lost with it; the rest is whole and in order.
    assert!(!frames.is_empty() && frames.len() < big.len() - 5, "{}", frames.len());
    assert_eq!(frames, big[big.len() - frames.len()..]);
}

#[test]
fn the_bound_pauses_the_primary_and_nothing_is_lost() {
    let more = ["--max-held-frames", "100"].map(str::to_owned).to_vec();
    let mut colo = start(&Options { compare_timeout: 600_000, more, ..Options::default() });
    let frames: Vec<Vec<u8>> = (0..5000).map(|flow| of_flow(flow, b"said")).collect();
    let stream: Vec<u8> = frames.iter().flat_map(|f| framed(Framing { vnet_header: false }, f)).collect();
    let (mut primary, mut secondary) =
        (colo.primary.try_clone().expect("a handle"), colo.secondary.try_clone().expect("a handle"));
    let left = thread::scope(|scope| {
        scope.spawn(|| primary.write_all(&stream).expect("taken"));
        scope.spawn(|| secondary.write_all(&stream).expect("taken: the secondary is always read"));
        colo.released(frames.len(), SOON)
    });
    assert_eq!(left, frames);
    assert!(colo.stop().expect("ends").get("primary_pauses").is_some_and(|&n| n > 0));
}

#[test]
fn a_lone_frame_of_either_side_asks_after_the_timeout() {
    for primary in [true, false] {
        let mut colo = start(&Options { compare_timeout: 500, scan_cycle: 100, ..Options::default() });
        let begin = Instant::now();
        let lone = tcp().seq(1).data(b"lone").frame();
        if primary {
            colo.p(&lone);
        } else {
            colo.s(&lone);
        }
        assert_eq!(colo.notices(2, SOON), [b"DO_CHECKPOINT", b"DO_CHECKPOINT"], "asked, and again");
        assert!(begin.elapsed() >= Duration::from_millis(500), "not before its time");
        colo.checkpoint();
        assert_eq!(colo.released(1, QUIET), if primary { vec![lone] } else { vec![] });
        colo.notices(usize::MAX, QUIET);
        assert_eq!(requests(&mut colo), 0, "never again after the checkpoint");
    }
}

#[test]
fn a_notify_peer_that_connects_late_is_asked_and_needs_no_introduction() {
    let mut colo = start(&Options { scan_cycle: 100, ..Options::default() });
    colo.notify = UnixStream::pair().expect("a pair").0;
    colo.p(&tcp().seq(1).data(b"good").frame());
    colo.s(&tcp().seq(1).data(b"evil").frame());
    colo.settle();
    thread::sleep(QUIET);
    colo.notify = colo.connect("n").expect("late");
    assert_eq!(colo.notices(2, SOON), [b"DO_CHECKPOINT", b"DO_CHECKPOINT"]);
    colo.say(b"COLO_USERSPACE_PROXY_INIT");
    let answer = (0..100).find_map(|_| colo.notices(1, SOON).pop().filter(|text| text != b"DO_CHECKPOINT"));
    assert_eq!(answer.as_deref(), Some(&b"COLO_COMPARE_GET_XEN_INIT"[..]));
    colo.say(b"SOMETHING_ELSE");
    colo.checkpoint();
    assert_eq!(colo.released(1, SOON).len(), 1);
    // No frame waits for the log.
    let end = Instant::now() + SOON;
    while !colo.log().contains("SOMETHING_ELSE") {
        assert!(Instant::now() < end, "{}", colo.log());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn virtio_headers_travel_along_and_are_not_compared() {
    let mut colo = start(&Options { vnet_header: true, compare_timeout: 600_000, ..Options::default() });
    let frame = datagram(b"behind a header");
    let with = |header: &[u8]| {
        let length = u32::try_from(header.len() + frame.len()).expect("short").to_be_bytes();
        let header_length = u32::try_from(header.len()).expect("short").to_be_bytes();
        [&length[..], &header_length, header, &frame].concat()
    };
    let primary = with(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    colo.primary.write_all(&primary).expect("taken");
    colo.secondary.write_all(&with(&[0; 12])).expect("taken");
    let mut left = vec![0; primary.len()];
    colo.out.set_read_timeout(Some(SOON)).expect("a timeout");
    colo.out.read_exact(&mut left).expect("released");
    assert_eq!(left, primary);
    colo.p(&frame);
    colo.settle();
    colo.checkpoint();
    assert_eq!(colo.released(1, SOON), [frame]);
}

#[test]
fn stopping_writes_what_may_leave_and_counts() {
    let mut colo = patient();
    let frames: Vec<Vec<u8>> = (0..50).map(|n| of_flow(n, &[1; 1000])).collect();
    for frame in &frames {
        colo.p(frame);
        colo.s(frame);
    }
    colo.p(&of_flow(99, b"never said by the secondary"));
    let mut left = colo.settle();
    let mut out = colo.out.try_clone().expect("a handle");
    let summary = colo.stop().expect("exit status 0");
    let rest = &mut Decoder::new(Framing { vnet_header: false }, 0);
    left.extend(colo_tests::oracle::frames(rest, &mut out, usize::MAX, SOON));
    assert_eq!(left, frames);
    for (name, value) in [("held_at_exit", 1), ("frames_out", 51), ("primary_udp", 52), ("secondary_udp", 51)]
    {
        assert_eq!(summary.get(name), Some(&value), "{name} in {summary:?}");
    }
}

#[test]
fn a_socket_left_behind_is_replaced_and_a_living_one_is_not() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let line = program().command_line(dir.path(), &Options::default());
    drop(UnixListener::bind(dir.path().join("p")).expect("a server that leaves its file behind"));
    let mut first = Command::new(&line[0]).args(&line[1..]).stderr(Stdio::null()).spawn().expect("starts");
    let end = Instant::now() + SOON;
    while UnixStream::connect(dir.path().join("n")).is_err() {
        assert!(Instant::now() < end, "the stale socket was not replaced");
        thread::sleep(Duration::from_millis(10));
    }
    let second = Command::new(&line[0]).args(&line[1..]).output().expect("starts");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && told.contains("another program listens"), "{told}");
    first.kill().expect("ours");
    first.wait().expect("reaped");
}

#[test]
fn tcp_servers_and_clients_work_as_local_ones_do() {
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let port = |n: usize| listeners[n].local_addr().expect("an address").port();
    let Program::Colo(colo) = program() else { unreachable!("it is colo's") };
    let notify = TcpListener::bind("[::1]:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let mut child = Command::new(colo)
        .arg("compare")
        .args(["--primary-in", &format!("tcp:127.0.0.1:{}", port(0))])
        .args(["--secondary-in", &format!("tcp:localhost:{}", port(1))])
        .args(["--out", &format!("tcp:127.0.0.1:{}", port(2))])
        .args(["--notify", &format!("tcp:[::1]:{notify},server=on")])
        .args(["--expired-scan-cycle", "100"])
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut streams: Vec<TcpStream> = listeners.iter().map(|l| l.accept().expect("it connects").0).collect();
    let framing = Framing { vnet_header: false };
    let bytes = framed(framing, &tcp().seq(1).data(b"over TCP").frame());
    streams[0].write_all(&bytes).expect("taken");
    streams[1].write_all(&bytes).expect("taken");
    let mut left = vec![0; bytes.len()];
    streams[2].set_read_timeout(Some(SOON)).expect("a timeout");
    streams[2].read_exact(&mut left).expect("released");
    assert_eq!(left, bytes);
    // A client whose server goes away comes back.
    drop(streams.remove(0));
    let mut again = listeners[0].accept().expect("it connects again").0;
    again.write_all(&framed(framing, &tcp().seq(9).data(b"good").frame())).expect("taken");
    streams[0].write_all(&framed(framing, &tcp().seq(9).data(b"evil").frame())).expect("taken");
    let mut asked = TcpStream::connect(format!("[::1]:{notify}")).expect("it listens");
    let mut request = vec![0; 17];
    asked.set_read_timeout(Some(SOON)).expect("a timeout");
    asked.read_exact(&mut request).expect("asked");
    assert_eq!(request, framed(framing, b"DO_CHECKPOINT"));
    child.kill().expect("ours");
    child.wait().expect("reaped");
}

#[test]
fn polling_busily_changes_nothing_but_the_time() {
    let more = ["--busy-poll", "1000"].map(str::to_owned).to_vec();
    let mut colo = start(&Options { compare_timeout: 500, more, ..Options::default() });
    let (matched, lone) = (datagram(b"both"), tcp().seq(1).data(b"one").frame());
    colo.p(&matched);
    colo.s(&matched);
    colo.p(&lone);
    assert_eq!(colo.released(1, SOON), [matched]);
    assert_eq!(colo.notices(1, SOON), [b"DO_CHECKPOINT"]);
}

#[test]
fn what_a_rule_lets_through_is_not_held() {
    let more = ["--bypass", "tcp:22", "--bypass", "vlan:100"].map(str::to_owned).to_vec();
    let mut colo = start(&Options { compare_timeout: 600_000, more, ..Options::default() });
    let ssh =
        Tcp::new(address("192.0.2.1:22"), address("192.0.2.9:40000")).ack(1).seq(1).data(b"differs").frame();
    let tagged =
        tcp().seq(1).data(b"differs").frame_in(&Wrap { vlans: Vlans::stacked(&[100]), ..Wrap::default() });
    let other = tcp().seq(1).data(b"held").frame();
    [&ssh, &other, &tagged].into_iter().for_each(|frame| colo.p(frame));
    assert_eq!(colo.settle(), [ssh, tagged]);
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    let Program::Colo(colo) = program() else { unreachable!("it is colo's") };
    let good = ["--primary-in", "unix:/a", "--secondary-in", "unix:/b", "--out", "unix:/c"];
    for option in [
        "--compare-timeout",
        "--expired-scan-cycle",
        "--max-queue-size",
        "--max-held-bytes",
        "--max-held-frames",
    ] {
        let output =
            Command::new(&colo).arg("compare").args(good).args([option, "0"]).output().expect("starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(option) && told.contains("1.."), "{told}");
    }
    let output = Command::new(&colo).args(["compare", "--out", "udp:x:1"]).output().expect("starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("unix:PATH"), "{told}");
}

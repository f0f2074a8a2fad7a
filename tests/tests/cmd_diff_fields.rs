//! `colo diff` on frames of every kind: which fields are compared, where content ends, and which tags are seen through.

use std::net::{IpAddr, SocketAddr};

use colo_tests::{
    captures::{self, Random, load},
    diff::{Case, assert_identical},
    files::{Pcap, snapped, whole},
    samples::tcp,
};
use colo_user::wire::{
    Vlans,
    build::{Wrap, ether, icmp_frame, ip, udp_frame},
};

fn case() -> Case {
    Case::new(env!("CARGO_BIN_EXE_colo-lab"))
}

fn guest() -> (SocketAddr, SocketAddr) {
    ("10.0.0.2:53".parse().expect("an address"), "10.0.0.1:9".parse().expect("an address"))
}

fn guest_v6() -> (SocketAddr, SocketAddr) {
    ("[fd00::2]:53".parse().expect("an address"), "[fd00::1]:9".parse().expect("an address"))
}

/// The guests say these, alone and among other things, and differ or not.
#[track_caller]
fn assert_verdict(case: &Case, one: &[u8], other: &[u8], identical: bool, what: &str) {
    let same = udp_frame(guest().0, guest().1, b"both say this", &Wrap::default());
    for around in [vec![], vec![same]] {
        let said = |frame: &[u8]| [&around[..], &[frame.to_vec()], &around[..]].concat();
        for (p, s) in [(one, other), (other, one)] {
            let report = case.diff(&said(p), &said(s), &[]);
            if identical {
                assert_identical(&report, what);
            } else {
                assert_eq!(report["verdict"], "diverged", "{what}: {report:#}");
                assert!(report["held"].as_u64() > Some(0), "{what}: {report:#}");
            }
        }
        assert_identical(&case.diff(&said(one), &said(one), &[]), what);
    }
}

/// An IPv4 frame with these options.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[14] += (options.len() / 4) as u8;
    let total = u16::from_be_bytes([frame[16], frame[17]]) + options.len() as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame.splice(34..34, options.iter().copied());
    frame
}

/// An IPv6 frame with this extension header.
fn with_header(frame: &[u8], next: u8, header: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut header = header.to_vec();
    (header[0], frame[20]) = (frame[20], next);
    let length = u16::from_be_bytes([frame[18], frame[19]]) + header.len() as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame.splice(54..54, header);
    frame
}

#[test]
fn routes_and_options_are_compared() {
    let case = case();
    let wrap = Wrap::default();
    let (a, b) = guest();
    let (a6, b6) = guest_v6();
    let v4 = [
        tcp().seq(1).data(b"hello").frame(),
        udp_frame(a, b, b"hello", &wrap),
        ip(a.ip(), b.ip(), 47, b"hello", &wrap),
    ];
    let mut segment = tcp().seq(1).data(b"hello");
    (segment.src, segment.dst) = (a6, b6);
    let v6 = [segment.frame(), udp_frame(a6, b6, b"hello", &wrap), ip(a6.ip(), b6.ip(), 47, b"hello", &wrap)];
    for frame in &v4 {
        let routed = |last: u8| with_options(frame, &[0x83, 7, 4, 10, 0, 0, last, 0]);
        assert_verdict(&case, &routed(9), &routed(8), false, "another source route");
        assert_verdict(&case, &routed(9), frame, false, "a source route or none");
        let recorded = |free: u8| with_options(frame, &[7, 7, 4, free, free, free, free, 0]);
        assert_verdict(&case, &recorded(0), &recorded(9), true, "free places of a record");
    }
    for frame in &v6 {
        let option = |kind: u8, value: u8| with_header(frame, 60, &[0, 0, kind, 1, value, 1, 1, 0]);
        assert_verdict(&case, &option(4, 1), &option(4, 2), false, "another destination option");
        assert_verdict(&case, &option(0x3e, 1), &option(0x3e, 2), true, "data that may change on the way");
        let routed =
            |last: u8| with_header(frame, 43, &[&[0, 2, 2, 1, 0, 0, 0, 0][..], &[7; 15], &[last]].concat());
        assert_verdict(&case, &routed(9), &routed(8), false, "another address on the way");
    }
}

#[test]
fn what_icmp_errors_say_is_compared() {
    let case = case();
    let (a, b): (IpAddr, IpAddr) = (guest().0.ip(), guest().1.ip());
    let (a6, b6): (IpAddr, IpAddr) = (guest_v6().0.ip(), guest_v6().1.ip());
    let quote =
        |from: SocketAddr, to: SocketAddr| udp_frame(from, to, b"quoted", &Wrap::default())[14..].to_vec();
    let v4 =
        |kind, code, rest| icmp_frame(a, b, kind, code, rest, &quote(guest().1, guest().0), &Wrap::default());
    let v6 = |kind, code, rest| {
        icmp_frame(a6, b6, kind, code, rest, &quote(guest_v6().1, guest_v6().0), &Wrap::default())
    };
    for (one, other, what) in [
        (v4(5, 1, [10, 0, 0, 7]), v4(5, 1, [10, 0, 0, 8]), "a redirect's gateway"),
        (v4(3, 4, [0, 0, 5, 0]), v4(3, 4, [0, 0, 5, 1]), "an MTU"),
        (v4(12, 0, [20, 0, 0, 0]), v4(12, 0, [21, 0, 0, 0]), "a parameter's place"),
        (v6(2, 0, [0, 0, 5, 0]), v6(2, 0, [0, 0, 5, 1]), "an MTU"),
        (v6(4, 0, [0, 0, 0, 6]), v6(4, 0, [0, 0, 0, 7]), "a parameter's place"),
    ] {
        assert_verdict(&case, &one, &other, false, what);
    }
    // One guest alone may have been at its limit.
    let report = case.diff(&[v4(5, 1, [10, 0, 0, 7])], &[], &[]);
    assert_eq!((&report["verdict"], &report["held"]), (&"identical".into(), &1.into()), "{report:#}");
}

#[test]
fn what_the_readme_names_as_not_compared_changes_nothing() {
    let case = case();
    let far =
        Wrap { id: 9, ttl: 3, dst_mac: [2, 0, 0, 0, 9, 9], src_mac: [2, 0, 0, 0, 8, 8], ..Wrap::default() };
    for (a, b) in [guest(), guest_v6()] {
        let frames = |wrap: &Wrap| [udp_frame(a, b, b"hello", wrap), ip(a.ip(), b.ip(), 47, b"hello", wrap)];
        for (one, mut other) in frames(&Wrap::default()).into_iter().zip(frames(&far)) {
            assert_verdict(&case, &one, &other, true, "addresses of Ethernet, identification, TTL");
            if a.is_ipv4() {
                other[15] = 0xff;
                other[20] ^= 0x40;
            } else {
                other[14..18].copy_from_slice(&[0x6f, 0xff, 0xff, 0xff]);
            }
            assert_verdict(&case, &one, &other, true, "class of service, don't fragment, flow label");
        }
    }
}

#[test]
fn content_ends_where_a_protocol_says() {
    let case = case();
    for vlans in [Vlans::NONE, Vlans::of(&[(0x9100, 7)])] {
        let wrap = Wrap { vlans, ..Wrap::default() };
        let bpdu = [0x42, 0x42, 3, 0, 0, 2, 2, 0x3c];
        for (frame, what) in [
            (ether(8, &bpdu, &wrap), "802.3"),
            (
                udp_frame(guest().0, guest().1, b"hi", &Wrap { vlans: vlans.in_snap(), ..wrap.clone() }),
                "SNAP",
            ),
            (ether(0x8863, &[0x11, 9, 0, 0, 0, 2, 7, 7], &wrap), "PPPoE"),
            (ether(0x888e, &[1, 3, 0, 2, 7, 7], &wrap), "EAP over LAN"),
            (ether(0x88cc, &[2, 2, 7, 7, 6, 2, 0, 120, 0, 0], &wrap), "LLDP"),
        ] {
            let padded = |with: u8| [&frame[..], &[with; 40]].concat();
            assert_verdict(&case, &frame, &padded(7), true, what);
            assert_verdict(&case, &padded(1), &padded(7), true, what);
            // Before LLDP's end, and the last byte of all others.
            let at = frame.len() - if what == "LLDP" { 3 } else { 1 };
            let mut other = padded(7);
            other[at] ^= 1;
            assert_verdict(&case, &frame, &other, false, what);
        }
    }
}

#[test]
fn tags_of_every_type_are_seen_through() {
    let case = case();
    let types = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
    let original = captures::load_guest("chat-v6").expect("readable");
    for outer in types {
        for inner in types {
            let stack = [outer, inner, outer, inner];
            for depth in 1..=4 {
                let tagged = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    let tags: Vec<u8> = (0..depth)
                        .flat_map(|at| {
                            let [a, b] = u16::to_be_bytes(stack[at]);
                            [a, b, 0x20, at as u8 + 1]
                        })
                        .collect();
                    frames.iter().map(|f| [&f[..12], &tags, &f[12..]].concat()).collect()
                };
                let random = &mut Random::new(1);
                let wild = captures::disguised(&captures::resegmented(&original, random), random);
                let what = format!("{outer:#x} {inner:#x}, {depth} deep");
                assert_identical(&case.diff(&tagged(&original), &tagged(&wild), &[]), &what);
                if depth == 4 && outer == inner {
                    assert_identical(&case.diff(&tagged(&original), &[], &["--bypass", "vlan:4"]), &what);
                    assert_eq!(
                        case.diff(&tagged(&original), &original, &[])["verdict"],
                        "diverged",
                        "{what}"
                    );
                }
            }
        }
    }
}

/// Frames of captures, changed anywhere, most of all in their headers.
fn mutated(random: &mut Random) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = (0..3)
        .flat_map(|_| load(captures::ALL[random.below(captures::ALL.len())]).expect("readable"))
        .collect();
    for frame in &mut frames {
        for _ in 0..random.below(4) {
            let at = random.below(frame.len().min(90));
            frame[at] = if random.one_in(3) { 0 } else { random.below(256) as u8 };
        }
        match random.below(12) {
            0 => frame.truncate(random.below(frame.len())),
            1 => frame.extend([7; 20]),
            2 => {
                let tag = [0x8100_u16, 0x9100, 0x88a8, 8, 100][random.below(5)].to_be_bytes();
                frame.splice(12..12, [tag[0], tag[1], 0, 7]);
            }
            _ => {}
        }
    }
    frames
}

#[test]
fn mutated_captures_are_identical_to_themselves() {
    let case = case();
    for seed in 1..61 {
        let random = &mut Random::new(seed);
        let frames = mutated(random);
        let file = match seed % 3 {
            0 => whole(&frames),
            1 => snapped(&frames, 20 + random.below(120)),
            // Each cut elsewhere.
            _ => frames.iter().flat_map(|f| snapped(std::slice::from_ref(f), random.below(200))).collect(),
        };
        let file = case.bytes("itself", &Pcap::default().file(&file));
        for options in [&[][..], &["--align"]] {
            assert_identical(&case.json(&file, &file, options), &format!("seed {seed} {options:?}"));
        }
        // The same frames with one more at the end are another capture: nothing is taken for equal frame by frame.
        let more = udp_frame(guest().0, guest().1, b"one more", &Wrap::default());
        let report = case.diff(&frames, &[&frames[..], &[more]].concat(), &[]);
        let kinds: Vec<_> =
            report["divergences"].as_array().expect("a list").iter().map(|d| d["flow"].to_string()).collect();
        assert!(
            kinds.iter().any(|flow| flow.contains("10.0.0.2:53 > 10.0.0.1:9")),
            "seed {seed}: {report:#}"
        );
        assert_eq!(kinds.len(), 1, "seed {seed}: {report:#}");
    }
}

//! `colo diff` on captures as programs write them: every variant of the file formats, frames cut short, packets without a length, frame
//! check sequences, and senders that are not there.

use colo_tests::{
    captures::{self, Random, disguised, load, load_guest, payload_start, resegmented, tcp},
    diff::{Case, assert_identical, assert_unusable, divergence},
    files::{Block, Blocks, Kept, Order, Pcap, snapped, whole},
};
use colo_user::wire::{Ether, ether::ethertype};

fn case() -> Case {
    Case::new(env!("CARGO_BIN_EXE_colo-lab"))
}

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

/// The frames in every format, with its name.
fn every_format(frames: &[Kept]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for order in ORDERS {
        for (magic, name) in
            [(0xa1b2_c3d4, "pcap"), (Pcap::NANOSECONDS, "nanoseconds"), (Pcap::PATCHED, "longer records")]
        {
            let file = Pcap { order, magic, ..Pcap::default() }.file(frames);
            files.push((format!("{name} {order:?}"), file));
        }
        files.push((format!("pcap 2.2 {order:?}"), Pcap { order, minor: 2, ..Pcap::default() }.file(frames)));
        for block in [Block::Enhanced, Block::Obsolete] {
            let file = Blocks::new(order).interface(1, 0, &[]).frames(block, frames).file();
            files.push((format!("pcapng {block:?} {order:?}"), file));
        }
        // Two sections of either order, each with an interface of another kind that says nothing.
        let (first, second) = frames.split_at(frames.len() / 2);
        let other = ORDERS[usize::from(order == Order::Little)];
        let sections = Blocks::new(order)
            .interface(113, 96, &[])
            .interface(1, 0, &[])
            .frames(Block::Enhanced, first)
            .section(other)
            .interface(105, 0, &[])
            .interface(1, 0, &[])
            .frames(Block::Enhanced, second)
            .file();
        files.push((format!("two sections {order:?}"), sections));
    }
    files
}

#[test]
fn every_file_format_has_the_same_frames() {
    let case = case();
    let frames = load_guest("chat-v4").expect("readable");
    let plain = case.file("plain", &frames);
    let mut flipped = frames.clone();
    let number = flipped.iter().rposition(|f| payload_start(f).is_some()).expect("has payload");
    *flipped[number].last_mut().expect("has payload") ^= 1;
    for (name, bytes) in every_format(&whole(&frames)) {
        assert_identical(&case.json(&plain, &case.bytes("other", &bytes), &[]), &name);
        let itself = case.bytes("itself", &bytes);
        assert_identical(&case.json(&itself, &itself, &[]), &name);
    }
    for (name, bytes) in every_format(&whole(&flipped)) {
        let report = case.json(&plain, &case.bytes("other", &bytes), &[]);
        assert_eq!(divergence(&report, &name)["kind"], "payload", "{name}");
    }
}

#[test]
fn a_simple_packet_block_is_as_long_as_the_snap_length() {
    let case = case();
    let frames = load_guest("chat-v4").expect("readable");
    let plain = case.file("plain", &frames);
    for order in ORDERS {
        let simple = |snap: usize| {
            Blocks::new(order)
                .interface(1, snap as u32, &[])
                .frames(Block::Simple, &snapped(&frames, snap))
                .file()
        };
        for snap in [65_535, 96] {
            let file = case.bytes("simple", &simple(snap));
            assert_identical(&case.json(&file, &file, &[]), "itself");
            assert_identical(&case.json(&plain, &file, &[]), "the other");
        }
        // No snap length.
        let file = Blocks::new(order).interface(1, 0, &[]).frames(Block::Simple, &whole(&frames)).file();
        assert_identical(&case.json(&plain, &case.bytes("all", &file), &[]), "without a snap length");
    }
}

/// Both captures, cut or not, in the order given and the other.
fn both_ways(case: &Case, primary: &[Kept], secondary: &[Kept], options: &[&str], what: &str) {
    let file = |name: &str, frames: &[Kept]| case.bytes(name, &Pcap::default().file(frames));
    let (p, s) = (file("p", primary), file("s", secondary));
    assert_identical(&case.json(&p, &s, options), what);
    assert_identical(&case.json(&s, &p, options), &format!("{what}, sides changed"));
}

#[test]
fn frames_cut_short_are_compared_as_far_as_they_go() {
    let case = case();
    for name in captures::ALL {
        let original = load_guest(name).expect("readable");
        for (seed, snap) in [(1, 96), (2, 68), (3, 128), (4, 60), (5, 54), (6, 40), (7, 262)] {
            let random = &mut Random::new(seed);
            let wild = disguised(&resegmented(&original, random), random);
            let cut = snapped(&original, snap);
            let what = format!("{name} cut at {snap}");
            both_ways(&case, &cut, &cut, &[], &format!("{what}, itself"));
            both_ways(&case, &cut, &whole(&original), &[], &format!("{what}, the other whole"));
            both_ways(&case, &cut, &snapped(&wild, snap), &[], &format!("{what}, both, changed on the way"));
            both_ways(&case, &cut, &whole(&wild), &[], &format!("{what}, the other whole and changed"));
        }
    }
}

#[test]
fn what_both_captures_have_of_a_cut_frame_is_compared() {
    let case = case();
    for name in captures::ALL {
        let original = load_guest(name).expect("readable");
        let snap = 96;
        let number = original
            .iter()
            .position(|f| f.len() > snap + 8 && payload_start(f).is_some_and(|start| start < snap - 2))
            .or_else(|| {
                original
                    .iter()
                    .position(|f| payload_start(f).is_some_and(|start| start + 1 < f.len().min(snap)))
            });
        let number = number.unwrap_or_else(|| panic!("{name} has a byte of payload in its first {snap}"));
        let start = payload_start(&original[number]).expect("has payload");
        let mut inside = original.clone();
        inside[number][start] ^= 1;
        let (p, s) = (
            case.bytes("p", &Pcap::default().file(&snapped(&original, snap))),
            case.bytes("s", &Pcap::default().file(&whole(&inside))),
        );
        for report in [case.json(&p, &s, &[]), case.json(&s, &p, &[])] {
            let found = divergence(&report, name);
            assert_eq!(
                (&found["kind"], &found["offset"]),
                (&"payload".into(), &0.into()),
                "{name}: {report:#}"
            );
        }
        if original[number].len() > snap + 8 {
            let mut beyond = original.clone();
            beyond[number][snap + 4] ^= 1;
            both_ways(
                &case,
                &snapped(&original, snap),
                &whole(&beyond),
                &[],
                &format!("{name}, a byte beyond"),
            );
        }
    }
}

#[test]
fn a_cut_capture_is_aligned_too() {
    let case = case();
    for name in ["http-v4", "http-v6", "chat-v4", "chat-v6"] {
        let original = load_guest(name).expect("readable");
        let shifted: Vec<Vec<u8>> = original
            .iter()
            .map(|frame| match captures::rebuild(frame) {
                Some((mut segment, wrap)) => {
                    segment.seq = segment.seq + u32::from(segment.dst.port()).wrapping_mul(0x1234_5679);
                    segment.frame_in(&wrap)
                }
                None => frame.clone(),
            })
            .collect();
        for snap in [96, 128] {
            let (cut, other) = (snapped(&original, snap), snapped(&shifted, snap));
            both_ways(&case, &cut, &other, &["--align"], name);
            both_ways(&case, &cut, &whole(&shifted), &["--align"], name);
        }
    }
}

#[test]
fn a_cut_capture_is_warned_of() {
    let case = case();
    let frames = load_guest("http-v4").expect("readable");
    let told = |snap| {
        let path = case.bytes("cut", &Pcap::default().file(&snapped(&frames, snap)));
        let output = case.colo(&path, &path, &[]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(told(96).contains("cut short") && !told(96).contains("within their headers"), "{}", told(96));
    assert!(told(40).contains("2 flows end within their headers"), "{}", told(40));
    assert!(told(65_535).is_empty(), "{}", told(65_535));
}

/// The frame's IP length field, 0.
fn without_length(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Ok(ether) = Ether::parse(&frame) {
        let field = match ether.ethertype {
            ethertype::IPV4 => Some(ether.payload + 2),
            ethertype::IPV6 => Some(ether.payload + 4),
            _ => None,
        };
        if let Some(at) = field {
            frame[at..at + 2].fill(0);
        }
    }
    frame
}

#[test]
fn packets_without_a_length_go_to_the_end_of_their_frames() {
    let case = case();
    for name in captures::ALL {
        let original = load_guest(name).expect("readable");
        let sender: Vec<Vec<u8>> = original.iter().map(|frame| without_length(frame)).collect();
        both_ways(&case, &whole(&sender), &whole(&sender), &[], name);
        both_ways(&case, &whole(&sender), &whole(&original), &[], name);
        both_ways(&case, &snapped(&sender, 96), &whole(&original), &[], &format!("{name}, cut"));
    }
    // As a sender that leaves segmentation to its card shows them.
    for name in ["http-v4", "http-v6"] {
        let original = load_guest(name).expect("readable");
        let random = &mut Random::new(3);
        let mut superframes: Vec<Vec<u8>> = Vec::new();
        for frame in resegmented(&original, random) {
            let large = tcp(&frame).is_some_and(|(_, segment)| segment.payload.len() > 1000);
            superframes.push(if large { without_length(&frame) } else { frame });
        }
        both_ways(&case, &whole(&superframes), &whole(&original), &[], name);
        let mut flipped = superframes.clone();
        let number = flipped.iter().rposition(|f| f.len() > 1000).expect("a large one");
        *flipped[number].last_mut().expect("has payload") ^= 1;
        let report = case.diff(&original, &flipped, &[]);
        assert_eq!(divergence(&report, name)["kind"], "payload", "the last byte is content");
    }
}

/// The frames with four more bytes each, which differ by seed.
fn with_check_sequences(frames: &[Vec<u8>], seed: u64) -> Vec<Vec<u8>> {
    let random = &mut Random::new(seed);
    let checked = |frame: &Vec<u8>| [&frame[..], &[0; 4].map(|_: u8| random.below(256) as u8)].concat();
    frames.iter().map(checked).collect()
}

#[test]
fn declared_check_sequences_are_no_content() {
    let case = case();
    let mut frames = load_guest("dns-v4").expect("readable");
    // A protocol that ends with its frame.
    frames.push([&frames[0][..12], &[0x88, 0xb5], &[7; 80]].concat());
    let (one, other) = (with_check_sequences(&frames, 1), with_check_sequences(&frames, 2));
    let declared = |frames: &[Vec<u8>], link| Pcap { link, ..Pcap::default() }.file(&whole(frames));
    for link in [0x2400_0001, 0x5000_0001] {
        let (p, s) = (case.bytes("p", &declared(&one, link)), case.bytes("s", &declared(&other, link)));
        assert_identical(&case.json(&p, &s, &[]), "declared by the file");
        assert_identical(&case.json(&p, &case.file("without", &frames), &[]), "by one file");
        let cut = Pcap { link, ..Pcap::default() }.file(&snapped(&one, 60));
        assert_identical(&case.json(&case.bytes("cut", &cut), &s, &[]), "of cut frames");
    }
    for order in ORDERS {
        for option in [4, 32] {
            let interface = |frames: &[Vec<u8>]| {
                Blocks::new(order)
                    .interface(1, 0, &[(13, &[option])])
                    .frames(Block::Enhanced, &whole(frames))
                    .file()
            };
            let (p, s) = (case.bytes("p", &interface(&one)), case.bytes("s", &interface(&other)));
            assert_identical(&case.json(&p, &s, &[]), "declared by the interface");
        }
        for block in [Block::Enhanced, Block::Obsolete] {
            let packets = |frames: &[Vec<u8>]| {
                let file = Blocks::new(order).interface(1, 0, &[]);
                let flags = file.flags(4);
                let options: &[(u16, &[u8])] = &[(2, &flags)];
                whole(frames).iter().fold(file, |file, frame| file.frame(block, frame, options)).file()
            };
            let (p, s) = (case.bytes("p", &packets(&one)), case.bytes("s", &packets(&other)));
            assert_identical(&case.json(&p, &s, &[]), "declared by each packet");
        }
    }
    let report = case.diff(&one, &other, &[]);
    assert_eq!(report["verdict"], "diverged", "nobody has declared them");
    assert_eq!(report["held"], 1, "IP has lengths: {report:#}");
}

#[test]
fn a_guest_that_says_nothing_is_an_error_with_those_who_do() {
    let case = case();
    let frames = load("http-v4").expect("readable");
    let good = case.file("good.pcap", &frames);
    let others: Vec<Vec<u8>> = frames.iter().filter(|f| f[6..12] != captures::GUEST).cloned().collect();
    let other = case.file("other.pcap", &others);
    let empty = case.file("empty.pcap", &[]);
    let absent = ["--guest-mac", "52:54:00:12:34:56"];
    for options in [&absent[..], &["--guest-mac", "52:54:00:12:34:56", "--json"]] {
        for reason in ["52:54:00:12:34:56", "good.pcap", "02:00:00:00:00:01 ("] {
            assert_unusable(&case.colo(&good, &good, options), reason);
        }
    }
    let guest = ["--guest-mac", "02:00:00:00:00:01"];
    for (primary, secondary) in [(&good, &other), (&other, &good), (&other, &other)] {
        assert_unusable(
            &case.colo(primary, secondary, &guest),
            "other.pcap: no frame is sent by 02:00:00:00:00:01",
        );
    }
    assert_unusable(&case.colo(&good, &empty, &guest), "empty.pcap: no frame is sent by 02:00:00:00:00:01");
    assert_unusable(&case.colo(&empty, &good, &guest), "there is no frame in it");
    // Without it every frame counts, be it none.
    assert_identical(&case.json(&empty, &empty, &[]), "nothing");
    assert_eq!(case.json(&good, &empty, &[])["verdict"], "diverged");
    let many: Vec<Vec<u8>> =
        (0..30_u8).map(|n| [&[2; 6][..], &[2, 0, 0, 0, 7, n], &[8, 0], &[0; 46]].concat()).collect();
    assert_unusable(&case.colo(&case.file("many", &many), &good, &absent), "and 22 more");
}

#[test]
fn other_link_types_are_refused_by_name() {
    let case = case();
    let frames = whole(&load_guest("dns-v4").expect("readable"));
    let good = case.bytes("good", &Pcap::default().file(&frames));
    for (link, name) in [
        (113, "link type 113 (LINUX_SLL)"),
        (276, "link type 276"),
        (101, "link type 101 (RAW)"),
        (0, "link type 0"),
    ] {
        let pcap = case.bytes("pcap", &Pcap { link, ..Pcap::default() }.file(&frames));
        let blocks =
            Blocks::new(Order::Big).interface(link as u16, 0, &[]).frames(Block::Enhanced, &frames).file();
        let blocks = case.bytes("pcapng", &blocks);
        for file in [&pcap, &blocks] {
            assert_unusable(&case.colo(&good, file, &[]), name);
            assert_unusable(&case.colo(file, &good, &["--json"]), name);
        }
    }
}

#[test]
fn every_format_that_ends_within_a_record_is_refused() {
    let case = case();
    let frames = load_guest("dns-v4").expect("readable");
    let good = case.file("good", &frames);
    for (name, bytes) in every_format(&whole(&frames)) {
        for less in [1, 5, 30] {
            let file = case.bytes("less", &bytes[..bytes.len() - less]);
            assert_unusable(&case.colo(&good, &file, &[]), "truncated");
            assert_unusable(&case.colo(&file, &file, &[]), "truncated");
        }
        assert!(!name.is_empty());
    }
}

//! `colo diff` on captures of real exchanges: what a network may do to a guest's output changes nothing, a changed byte is
//! found where it is, and what cannot be read is refused.

use std::fs;

use colo_tests::{
    captures::{
        self, Random, disguised, load, load_guest, payload_start, reordered, resegmented, retransmitted, tcp,
    },
    diff::{Case, assert_identical, assert_unusable, divergence},
};
use colo_user::wire::TcpFlags;
use serde_json::Value;

/// Seeds of the random changes; each failure names its own.
const SEEDS: std::ops::Range<u64> = 1..21;

fn case() -> Case {
    Case::new(env!("CARGO_BIN_EXE_colo-lab"))
}

/// Where a TCP divergence lies in the stream.
fn place(divergence: &Value) -> u32 {
    let number = |key: &str| divergence[key].as_u64().unwrap_or_else(|| panic!("no {key} in {divergence}"));
    (number("seq") as u32).wrapping_add(number("offset") as u32)
}

#[test]
fn every_capture_is_identical_to_itself() {
    let case = case();
    for name in captures::ALL {
        assert_identical(&case.json(&captures::path(name), &captures::path(name), &[]), name);
        assert_identical(&case.json(&captures::path(name), &captures::path(name), &["--align"]), name);
    }
}

#[test]
fn what_a_network_does_changes_nothing() {
    let case = case();
    type Change = fn(&[Vec<u8>], &mut Random) -> Vec<Vec<u8>>;
    let changes: [(&str, Change); 4] = [
        ("resegmented", resegmented),
        ("retransmitted", retransmitted),
        ("reordered", reordered),
        ("disguised", disguised),
    ];
    for name in captures::ALL {
        let original = load_guest(name).expect("readable");
        for seed in SEEDS {
            let random = &mut Random::new(seed);
            let mut all = original.clone();
            for (change, apply) in changes {
                let changed = apply(&original, random);
                let what = format!("{name} {change} seed {seed}");
                assert_identical(&case.diff(&original, &changed, &[]), &what);
                assert_identical(&case.diff(&changed, &original, &[]), &format!("{what}, sides changed"));
                all = apply(&all, random);
            }
            assert_identical(&case.diff(&original, &all, &[]), &format!("{name} all of it, seed {seed}"));
        }
    }
}

#[test]
fn one_flipped_byte_is_found_where_it_is() {
    let case = case();
    for name in captures::ALL {
        let original = load_guest(name).expect("readable");
        let places: Vec<(usize, usize)> = original
            .iter()
            .enumerate()
            .filter_map(|(number, frame)| payload_start(frame).map(|start| (number, start)))
            .collect();
        assert!(!places.is_empty(), "{name} has payload");
        for seed in SEEDS {
            let random = &mut Random::new(seed);
            let (number, start) = places[random.below(places.len())];
            let mut changed = original.clone();
            let length = changed[number].len() - start;
            let offset = random.below(length);
            changed[number][start + offset] ^= 1 << random.below(8);
            let what = format!("{name} frame {number} offset {offset} seed {seed}");
            let report = case.diff(&original, &changed, &[]);
            let found = divergence(&report, &what);
            assert_eq!(found["kind"], "payload", "{what}: {report:#}");
            assert_eq!(found["offset"], offset, "{what}: {report:#}");
            let byte = |frames: &[Vec<u8>]| format!("{:02x}", frames[number][start + offset]);
            for (side, frames) in [("primary", &original), ("secondary", &changed)] {
                let quoted = found[side].as_str().expect("digits");
                assert!(quoted.starts_with(&byte(frames)), "{what}: {report:#}");
            }
            assert!(report["held"].as_u64() > Some(0), "{what}: {report:#}");
            if let Some((key, segment)) = tcp(&original[number]) {
                assert_eq!(found["flow"], key.to_string());
                assert_eq!(found["seq"], segment.seq.0, "{what}: {report:#}");
                // However the rest of it travelled.
                let wild = disguised(&reordered(&resegmented(&changed, random), random), random);
                let report = case.diff(&original, &wild, &[]);
                let at = segment.seq + u32::try_from(offset).expect("short");
                assert_eq!(place(divergence(&report, &what)), at.0, "{what}: {report:#}");
            } else {
                assert!(found["seq"].is_null(), "{what}: {report:#}");
            }
        }
    }
}

#[test]
fn one_segment_cut_is_missing_or_extra() {
    let case = case();
    for name in ["http-v4", "http-v6", "chat-v4", "chat-v6"] {
        let original = load_guest(name).expect("readable");
        for (number, frame) in original.iter().enumerate() {
            let Some((key, segment)) = tcp(frame) else { continue };
            if segment.payload.is_empty() || segment.flags.has(TcpFlags::FIN) || number % 3 != 0 {
                continue;
            }
            let mut shorter = original.clone();
            shorter.remove(number);
            let what = format!("{name} without frame {number}");
            let report = case.diff(&original, &shorter, &[]);
            let found = divergence(&report, &what);
            assert_eq!(
                (&found["kind"], &found["flow"]),
                (&"missing".into(), &key.to_string().into()),
                "{what}: {report:#}"
            );
            assert_eq!(place(found), segment.seq.0, "{what}: {report:#}");
            let report = case.diff(&shorter, &original, &[]);
            let found = divergence(&report, &what);
            assert_eq!(
                (&found["kind"], &found["seq"]),
                (&"extra".into(), &segment.seq.0.into()),
                "{what}: {report:#}"
            );
        }
    }
}

#[test]
fn one_datagram_cut_is_missing_or_extra() {
    let case = case();
    for name in ["dns-v4", "dns-v6", "ping-v4", "ping-v6"] {
        let original = load_guest(name).expect("readable");
        let number = original.iter().position(|f| payload_start(f).is_some()).expect("has payload");
        let mut shorter = original.clone();
        shorter.remove(number);
        assert_eq!(divergence(&case.diff(&original, &shorter, &[]), name)["kind"], "missing");
        assert_eq!(divergence(&case.diff(&shorter, &original, &[]), name)["kind"], "extra");
    }
}

#[test]
fn tags_and_file_formats_change_nothing_about_the_outcome() {
    let case = case();
    for name in captures::ALL {
        let mut frames = load_guest(name).expect("readable");
        let report = case.json(&case.file("a", &frames), &case.bytes("b", &captures::pcapng(&frames)), &[]);
        assert_identical(&report, name);
        for tag in [&[0x81, 0, 0x20, 100][..], &[0x88, 0xa8, 0, 7]] {
            frames.iter_mut().for_each(|frame| {
                frame.splice(12..12, tag.iter().copied());
            });
            assert_identical(&case.diff(&frames, &frames, &[]), name);
        }
        let mut flipped = frames.clone();
        let number = flipped.iter().position(|f| payload_start(f).is_some()).expect("has payload");
        let at = payload_start(&flipped[number]).expect("has payload");
        flipped[number][at] ^= 1;
        assert_eq!(divergence(&case.diff(&frames, &flipped, &[]), name)["offset"], 0);
    }
}

#[test]
fn sequence_numbers_of_another_stack_are_aligned_on_request() {
    let case = case();
    for name in ["http-v4", "http-v6", "chat-v4", "chat-v6"] {
        let original = load_guest(name).expect("readable");
        let shift = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let shifted = |frame: &Vec<u8>| match captures::rebuild(frame) {
                Some((mut segment, wrap)) => {
                    segment.seq = segment.seq + u32::from(segment.dst.port()).wrapping_mul(0x1234_5679);
                    segment.frame_in(&wrap)
                }
                None => frame.clone(),
            };
            frames.iter().map(shifted).collect()
        };
        assert_eq!(case.diff(&original, &shift(&original), &[])["verdict"], "diverged", "{name}");
        assert_identical(&case.diff(&original, &shift(&original), &["--align"]), name);
        // A capture that began after the handshake.
        let tail = &original[original.len() / 3..];
        assert_identical(&case.diff(tail, &shift(tail), &["--align"]), name);
        let mut flipped = original.clone();
        let number = flipped.iter().rposition(|f| payload_start(f).is_some()).expect("has payload");
        *flipped[number].last_mut().expect("has payload") ^= 1;
        let report = case.diff(&original, &shift(&flipped), &["--align"]);
        assert_eq!(divergence(&report, name)["kind"], "payload");
    }
}

#[test]
fn only_the_guests_frames_count_on_request() {
    let case = case();
    let both = load("http-v4").expect("readable");
    let mut changed = both.clone();
    for frame in changed.iter_mut().filter(|frame| frame[6..12] != captures::GUEST) {
        frame.truncate(40);
    }
    let (p, s) = (case.file("p", &both), case.file("s", &changed));
    assert_eq!(case.json(&p, &s, &[])["verdict"], "diverged");
    let report = case.json(&p, &s, &["--guest-mac", "02:00:00:00:00:01"]);
    assert_identical(&report, "the guest's");
    assert_eq!(report["frames"]["primary"], load_guest("http-v4").expect("readable").len());
}

#[test]
fn whatever_it_holds_a_file_is_identical_to_itself() {
    let case = case();
    let mut frames: Vec<Vec<u8>> =
        captures::ALL.iter().flat_map(|name| load(name).expect("readable")).collect();
    let random = &mut Random::new(7);
    // Runts, garbage, frames cut anywhere, fragments without their rest.
    for (number, frame) in frames.iter_mut().enumerate() {
        match number % 5 {
            0 => frame.truncate(random.below(frame.len())),
            1 => {
                for _ in 0..3 {
                    let at = random.below(frame.len());
                    frame[at] = random.below(256) as u8;
                }
            }
            _ => {}
        }
    }
    frames.push(Vec::new());
    assert_identical(&case.diff(&frames, &frames, &[]), "garbage");
    assert_identical(&case.diff(&[], &[], &[]), "nothing");
}

#[test]
fn frames_that_a_capture_cut_short_are_compared_and_mentioned() {
    let case = case();
    let frames = load_guest("http-v4").expect("readable");
    let mut file = captures::pcap(&frames);
    // The first record keeps what it has, but says that there was more.
    file[36..40].copy_from_slice(&9000_u32.to_ne_bytes());
    let path = case.bytes("cut.pcap", &file);
    let output = case.colo(&path, &path, &[]);
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("1 frames are cut short") && told.contains("-s 0"), "{told}");
}

#[test]
fn people_get_an_explanation() {
    let case = case();
    let original = load_guest("chat-v4").expect("readable");
    let mut changed = original.clone();
    let number = changed.iter().position(|f| payload_start(f).is_some()).expect("has payload");
    let at = payload_start(&changed[number]).expect("has payload");
    changed[number][at] = b'X';
    let output = case.colo(&case.file("p", &original), &case.file("s", &changed), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    for part in ["diverged", "payload", "other bytes at the same place", "|SSH-2.0-colo", "|XSH-2.0-colo"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let case = case();
    let good = captures::path("dns-v4");
    let bytes = fs::read(&good).expect("readable");
    let missing = case.path().join("missing.pcap");
    let truncated = case.bytes("truncated", &bytes[..bytes.len() - 5]);
    let garbage = case.bytes("garbage", b"this is no capture, but long enough to be one");
    let empty = case.bytes("empty", b"");
    let mut wireless = bytes.clone();
    wireless[20..24].copy_from_slice(&105_u32.to_ne_bytes());
    let wireless = case.bytes("wireless", &wireless);
    let mut huge = bytes.clone();
    huge[32..36].copy_from_slice(&u32::MAX.to_ne_bytes());
    let huge = case.bytes("huge", &huge);
    for (file, reason) in [
        (&missing, "missing.pcap"),
        (&truncated, "truncated"),
        (&garbage, "neither pcap nor pcapng"),
        (&empty, "empty"),
        (&wireless, "link type 105"),
        (&huge, "huge"),
        (&case.path().to_owned(), "directory"),
    ] {
        for options in [&["--json"][..], &[]] {
            assert_unusable(&case.colo(file, &good, options), reason);
            assert_unusable(&case.colo(&good, file, options), reason);
        }
    }
    assert_unusable(&case.colo(&good, &good, &["--guest-mac", "nonsense"]), "52:54:00");
    assert_unusable(&case.colo(&good, &good, &["--unknown"]), "--unknown");
}

#[test]
fn a_capture_cut_or_damaged_anywhere_never_panics() {
    let case = case();
    for name in ["dns-v4", "chat-v6", "ping-v4"] {
        for bytes in
            [captures::pcap(&load(name).expect("readable")), captures::pcapng(&load(name).expect("readable"))]
        {
            let random = &mut Random::new(11);
            for round in 0..25 {
                let mut damaged = bytes.clone();
                if round % 2 == 0 {
                    damaged.truncate(random.below(bytes.len()));
                }
                for _ in 0..round % 4 {
                    let at = random.below(damaged.len().max(1));
                    if let Some(byte) = damaged.get_mut(at) {
                        *byte = random.below(256) as u8;
                    }
                }
                let path = case.bytes("damaged", &damaged);
                let output = case.colo(&path, &captures::path(name), &[]);
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(
                    matches!(output.status.code(), Some(0..=2)) && !told.contains("panicked"),
                    "{name} {round}: {told}"
                );
            }
        }
    }
}

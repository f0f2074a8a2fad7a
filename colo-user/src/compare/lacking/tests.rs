use super::super::rig::{Rig, addr, tcp};
use super::*;
use crate::wire::build::{self, Wrap};
use crate::wire::{Vlans, proto};

/// Captures of both guests with frames kept up to a length.
struct Cut {
    primary: Vec<(Vec<u8>, usize)>,
    secondary: Vec<(Vec<u8>, usize)>,
}

/// Keeps the first `snap` bytes of each frame.
fn kept(frames: &[Vec<u8>], snap: usize) -> Vec<(Vec<u8>, usize)> {
    let cut = |frame: &Vec<u8>| {
        let there = frame.len().min(snap);
        (frame[..there].to_vec(), frame.len() - there)
    };
    frames.iter().map(cut).collect()
}

impl Cut {
    fn new(primary: &[Vec<u8>], p_snap: usize, secondary: &[Vec<u8>], s_snap: usize) -> Self {
        Self { primary: kept(primary, p_snap), secondary: kept(secondary, s_snap) }
    }

    /// The comparator after both, and how many flows it knew too little of.
    fn compared(&self) -> (Rig, usize) {
        let mut survey = Survey::new();
        for side in [&self.primary, &self.secondary] {
            side.iter().for_each(|(frame, missing)| survey.note(frame, *missing));
            survey.end();
        }
        let lacking = survey.finish();
        let headless = lacking.headless();
        let mut rig = Rig::new();
        rig.c.set_lacking(lacking);
        let longest = self.primary.len().max(self.secondary.len());
        for at in 0..longest {
            if let Some((frame, missing)) = self.primary.get(at) {
                rig.p_cut(frame, *missing);
            }
            if let Some((frame, missing)) = self.secondary.get(at) {
                rig.s_cut(frame, *missing);
            }
        }
        rig.finish();
        (rig, headless)
    }
}

#[track_caller]
fn assert_agree(primary: &[Vec<u8>], secondary: &[Vec<u8>], snaps: &[(usize, usize)]) {
    for &(p, s) in snaps {
        for (one, other) in [(primary, secondary), (secondary, primary)] {
            let (rig, _) = Cut::new(one, p, other, s).compared();
            assert_eq!(rig.asked, [], "{p} {s}");
            assert_eq!(rig.c.held(), 0, "{p} {s}");
        }
    }
}

fn stream(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 % 251) as u8).collect()
}

/// The stream in segments of at most `size` bytes, with another window and IP identification for each `id`.
fn segments(stream: &[u8], size: usize, start: u32, id: u32) -> Vec<Vec<u8>> {
    let wrap = Wrap { id, ttl: 60 + id as u8 % 4, ..Wrap::default() };
    let segment = |(at, data): (usize, &[u8])| {
        let mut segment = tcp().seq(start.wrapping_add((at * size) as u32)).ack(9).data(data);
        segment.window = 1000 + id as u16;
        segment.frame_in(&wrap)
    };
    stream.chunks(size).enumerate().map(segment).collect()
}

#[test]
fn bytes_that_one_capture_lacks_are_neither_missing_nor_different() {
    let all = stream(9000);
    // Also across the end of the circle of sequence numbers.
    for start in [1000, u32::MAX - 4000] {
        let primary = segments(&all, 1448, start, 1);
        let secondary = segments(&all, 1000, start, 2);
        assert_agree(&primary, &secondary, &[(96, 96), (96, 60_000), (68, 96), (54, 1000)]);
    }
}

#[test]
fn bytes_that_both_have_are_compared() {
    let all = stream(6000);
    for (at, found) in
        [(0, true), (41, true), (42, false), (1447, false), (1448, true), (1489, true), (1490, false)]
    {
        let mut other = all.clone();
        other[at] ^= 1;
        // 54 bytes of headers, so 42 of payload.
        let cut = Cut::new(&segments(&all, 1448, 5000, 1), 96, &segments(&other, 1448, 5000, 2), 60_000);
        let (rig, _) = cut.compared();
        assert_eq!(rig.asked.is_empty(), !found, "byte {at}");
        if found {
            let divergence = rig.divergences()[0];
            assert_eq!(
                divergence.seq.map(|seq| seq.0 + divergence.offset.unwrap() as u32),
                Some(5000 + at as u32)
            );
        }
    }
}

#[test]
fn what_only_one_capture_shows_is_missing_as_ever() {
    let all = stream(6000);
    let mut shorter = segments(&all, 1448, 5000, 2);
    shorter.remove(1);
    let (rig, _) = Cut::new(&segments(&all, 1448, 5000, 1), 96, &shorter, 96).compared();
    assert!(!rig.asked.is_empty(), "a segment of the other guest is not there at all");
}

#[test]
fn options_of_a_handshake_are_compared_as_far_as_both_go() {
    use crate::wire::TcpFlags;
    let syn = |options: &[u8]| vec![tcp().seq(1).ack(2).flag(TcpFlags::SYN).options(options).frame()];
    let one = syn(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 7]);
    let same = syn(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 7]);
    assert_agree(&one, &same, &[(58, 58), (58, 100), (57, 59), (54, 100)]);
    let late = syn(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 9]);
    assert_agree(&one, &late, &[(58, 100)]);
    let (rig, _) = Cut::new(&one, 64, &late, 100).compared();
    assert!(!rig.asked.is_empty(), "the last option is there");
    let early = syn(&[2, 4, 5, 181, 4, 2, 1, 3, 3, 7]);
    let (rig, _) = Cut::new(&one, 58, &early, 100).compared();
    assert!(!rig.asked.is_empty());
}

#[test]
fn what_comes_in_units_is_compared_as_far_as_both_go() {
    let (src, dst) = (addr("10.0.0.2:53"), addr("10.0.0.1:9"));
    let (src6, dst6) = (addr("[fd00::2]:53"), addr("[fd00::1]:9"));
    let body = stream(700);
    let mut changed = body.clone();
    changed[100] ^= 1;
    let frames = |body: &[u8], id| {
        let wrap = Wrap { id, ttl: 50 + id as u8, ..Wrap::default() };
        [
            build::udp_frame(src, dst, body, &wrap),
            build::udp_frame(src6, dst6, body, &wrap),
            build::icmp_frame(src.ip(), dst.ip(), 0, 0, [0, 1, 0, 1], body, &wrap),
            build::icmp_frame(src6.ip(), dst6.ip(), 129, 0, [0, 1, 0, 1], body, &wrap),
            build::ip(src.ip(), dst.ip(), 47, body, &wrap),
            build::ether(0x88b5, body, &wrap),
            build::ether(0x88b5, body, &Wrap { vlans: Vlans::stacked(&[5]).in_snap(), ..wrap.clone() }),
        ]
    };
    for (one, other) in frames(&body, 1).into_iter().zip(frames(&body, 2)) {
        let (one, other) = (vec![one], vec![other]);
        assert_agree(&one, &other, &[(96, 96), (96, 60_000), (100, 70)]);
        let shorter = vec![other[0][..other[0].len() - 1].to_vec()];
        if one[0][12..14] == [0x88, 0xb5] {
            let (rig, _) = Cut::new(&one, 96, &shorter, 96).compared();
            assert!(!rig.asked.is_empty(), "another length of the frame");
        }
    }
    for (one, other) in frames(&body, 1).into_iter().zip(frames(&changed, 2)) {
        let (one, other) = ([one], [other]);
        assert_agree(&one, &other, &[(96, 60_000)]);
        let (rig, _) = Cut::new(&one, 60_000, &other, 220).compared();
        assert_eq!(rig.kinds().len(), 1, "both captures have the byte");
    }
    let longer = frames(&stream(701), 2);
    for (one, other) in frames(&body, 1).into_iter().zip(longer).take(5) {
        let (rig, _) = Cut::new(&[one], 96, &[other], 96).compared();
        assert!(!rig.asked.is_empty(), "its own header says that it is longer");
    }
}

#[test]
fn fragments_are_put_together_around_what_is_lacking() {
    for (src, dst) in [("10.0.0.2:53", "10.0.0.1:9"), ("[fd00::2]:53", "[fd00::1]:9")] {
        let (src, dst) = (addr(src), addr(dst));
        let fragments = |protocol, payload: &[u8], size, id| {
            build::fragments(src.ip(), dst.ip(), protocol, payload, size, &Wrap { id, ..Wrap::default() })
        };
        let body = stream(5000);
        let datagram = |body: &[u8], size, id| fragments(proto::UDP, &build::udp(src, dst, body), size, id);
        let snaps = [(120, 120), (120, 60_000), (90, 800)];
        assert_agree(&datagram(&body, 1480, 1), &datagram(&body, 800, 2), &snaps);
        let whole = vec![build::udp_frame(src, dst, &body, &Wrap::default())];
        assert_agree(&datagram(&body, 1480, 1), &whole, &snaps);
        let mut changed = body.clone();
        changed[1480] ^= 1;
        let (rig, _) = Cut::new(&datagram(&body, 1480, 1), 120, &datagram(&changed, 1480, 2), 120).compared();
        assert_eq!(rig.kinds().len(), 1, "a byte that both captures have");

        let segment = |body: &[u8]| {
            let mut tcp = tcp().seq(1).ack(2).data(body);
            (tcp.src, tcp.dst) = (src, dst);
            tcp.segment()
        };
        let fragmented = |body: &[u8], size, id| fragments(proto::TCP, &segment(body), size, id);
        assert_agree(&fragmented(&body, 1480, 1), &fragmented(&body, 800, 2), &snaps);
        let whole = vec![build::ip(src.ip(), dst.ip(), proto::TCP, &segment(&body), &Wrap::default())];
        assert_agree(&fragmented(&body, 1480, 1), &whole, &snaps);
    }
}

#[test]
fn of_a_flow_whose_headers_are_lacking_nothing_is_compared() {
    let all = stream(3000);
    let (primary, secondary) = (segments(&all, 1448, 5000, 1), segments(&all, 700, 5000, 2));
    for snap in [14, 20, 33, 34, 40, 47] {
        let (rig, headless) = Cut::new(&primary, snap, &secondary, 60_000).compared();
        assert_eq!((rig.asked.len(), rig.c.held(), headless), (0, 0, 1), "{snap}");
        let (rig, _) = Cut::new(&secondary, 60_000, &primary, snap).compared();
        assert_eq!((rig.asked.len(), rig.c.held()), (0, 0), "{snap}");
    }
    // One frame without addresses among others hides nothing but itself.
    let mut one_cut = Cut::new(&primary, 60_000, &segments(&all[..2000], 1448, 5000, 2), 60_000);
    one_cut.primary.push((primary[0][..20].to_vec(), 100));
    let (rig, headless) = one_cut.compared();
    assert_eq!((rig.asked.len(), headless), (1, 0));
    // Another flow is as ever.
    let other =
        |text: &[u8]| build::udp_frame(addr("10.0.0.2:53"), addr("10.0.0.1:9"), text, &Wrap::default());
    let with = |frames: &[Vec<u8>], text| [frames, &[other(text)]].concat();
    let (rig, _) = Cut::new(&with(&primary, b"one"), 47, &with(&secondary, b"two"), 60_000).compared();
    assert_eq!(rig.kinds().len(), 1);
}

#[test]
fn a_segment_without_its_window_is_a_segment() {
    let all = stream(3000);
    let (primary, secondary) = (segments(&all, 1448, 5000, 1), segments(&all, 700, 5000, 2));
    // 48 bytes go up to the flags.
    for snap in [48, 49, 50, 54] {
        let (rig, headless) = Cut::new(&primary, snap, &secondary, snap).compared();
        assert_eq!((rig.asked.len(), rig.c.held(), headless), (0, 0, 0), "{snap}");
        let (rig, _) = Cut::new(&primary, snap, &secondary[..2], snap).compared();
        assert!(!rig.asked.is_empty(), "{snap}: segments are missing");
    }
}

#[test]
fn of_an_icmp_error_what_it_quotes_may_be_lacking() {
    let (guest, client) = (addr("[fd00::2]:53"), addr("[fd00::1]:9"));
    let error = |mtu: u8, label: u8| {
        let mut quote = build::udp_frame(client, guest, &[7; 100], &Wrap::default())[14..].to_vec();
        quote.resize(128, 0);
        quote.extend([0x20, 0, 9, 9, 0, 8, 1, 1, 0, label, 0x11, 64]);
        let rest = if mtu == 0 { [16, 0, 0, 0] } else { [0, 0, 5, mtu] };
        let kind = if mtu == 0 { 1 } else { 2 };
        vec![build::icmp_frame(guest.ip(), client.ip(), kind, 0, rest, &quote, &Wrap::default())]
    };
    // 62 bytes up to the quote, 102 up to its ports, 194 up to the extensions' objects.
    let snaps = [(70, 70), (96, 60_000), (104, 60_000), (120, 96), (195, 60_000), (150, 197)];
    assert_agree(&error(0, 1), &error(0, 1), &snaps);
    assert_agree(&error(1, 1), &error(1, 1), &snaps);
    let differs =
        |one: &[Vec<u8>], other: &[Vec<u8>], p, s| !Cut::new(one, p, other, s).compared().0.asked.is_empty();
    assert!(
        differs(&error(1, 1), &error(2, 1), 96, 96) && differs(&error(1, 1), &error(2, 1), 70, 60_000),
        "an MTU"
    );
    assert!(differs(&error(0, 1), &error(0, 2), 204, 60_000), "a label that both have");
    assert!(!differs(&error(0, 1), &error(0, 2), 199, 60_000), "and that one lacks");
}

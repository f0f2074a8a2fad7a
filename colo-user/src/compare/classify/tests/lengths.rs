//! Tags, and where content ends.

use super::*;
use crate::compare::DivergenceKind;
use colo_ebpf::tags::TAG_TYPES;

/// The same frame with other bytes behind it.
fn padded(frame: &[u8], to: usize, with: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().max(to), with);
    frame
}

#[track_caller]
fn assert_padding_is_none(frame: &[u8], what: &str) {
    let mut rig = Rig::new();
    for (one, other) in [
        (padded(frame, 60, 0), padded(frame, 60, 0xee)),
        (frame.to_vec(), padded(frame, 64, 7)),
        (padded(frame, 61, 1), frame.to_vec()),
    ] {
        rig.p(&one);
        rig.s(&other);
    }
    rig.assert_agreed();
    let _ = what;
    let mut other = frame.to_vec();
    *other.last_mut().unwrap() ^= 1;
    rig.p(&padded(frame, 60, 0));
    rig.s(&padded(&other, 60, 0));
    rig.pass(600);
    assert_eq!(rig.kinds(), [DivergenceKind::Payload], "{what}: the last byte is content");
}

#[test]
fn stacks_of_every_type_are_seen_through() {
    let (a, b) = (addr("10.0.0.2:53"), addr("10.0.0.1:9"));
    for (outer, inner) in TAG_TYPES.iter().flat_map(|outer| TAG_TYPES.map(|inner| (*outer, inner))) {
        let stacks = [
            vec![(outer, 7)],
            vec![(outer, 7), (inner, 8)],
            vec![(outer, 1), (inner, 2), (outer, 3), (inner, 4)],
        ];
        for vlans in stacks.iter().map(|tags| Vlans::of(tags)) {
            let wrap = |id| Wrap { vlans, id, ..Wrap::default() };
            let mut rig = Rig::new();
            // As streams and without what a router changes, so it is read and not compared by bytes.
            rig.p(&tcp().seq(1).ack(2).data(b"hello").frame_in(&wrap(1)));
            rig.s(&tcp().seq(1).ack(2).data(b"he").frame_in(&wrap(2)));
            rig.s(&tcp().seq(3).ack(2).data(b"llo").frame_in(&wrap(3)));
            rig.p(&build::udp_frame(a, b, b"x", &wrap(1)));
            rig.s(&build::udp_frame(a, b, b"x", &wrap(2)));
            rig.p(&build::ether(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1], &wrap(1)));
            rig.assert_agreed();
            let last = stacks[0][0].1;
            let bypass = vec![Bypass { vlan: Some(vlans.ids().last().unwrap_or(last)), ..Bypass::default() }];
            let mut rig = Rig::with(Policy { bypass, ..Policy::default() }, Limits::default());
            rig.p(&tcp().frame_in(&wrap(1)));
            rig.p(&build::ether(0x88b5, b"x", &wrap(1)));
            rig.assert_agreed();
        }
    }
}

#[test]
fn another_type_of_tag_is_another_frame() {
    let mut rig = Rig::new();
    let tagged = |kind| Wrap { vlans: Vlans::of(&[(kind, 7)]), ..Wrap::default() };
    rig.p(&tcp().ack(1).data(b"x").frame_in(&tagged(0x9100)));
    rig.s(&tcp().ack(1).data(b"x").frame_in(&tagged(0x8100)));
    assert_eq!(rig.left, [0; 0]);
}

#[test]
fn deeper_stacks_are_compared_by_bytes() {
    let wrap = Wrap { vlans: Vlans::of(&[(0x9100, 7); 4]), ..Wrap::default() };
    let deep = |text: &[u8]| {
        let inner = tcp().seq(1).ack(2).data(text).frame();
        build::ether(0x8100, &[&[0, 5], &inner[12..]].concat(), &wrap)
    };
    let mut rig = Rig::new();
    rig.both(&deep(b"hello"));
    rig.p(&padded(&deep(b"again"), 100, 0xee));
    rig.s(&deep(b"again"));
    rig.assert_agreed();
    rig.p(&deep(b"hello"));
    rig.s(&deep(b"jello"));
    rig.pass(600);
    assert_eq!(rig.kinds(), [DivergenceKind::Payload]);
    assert_eq!(rig.c.counters().primary[Class::OtherEther as usize], 3);
}

#[test]
fn frames_of_802_3_end_by_their_length() {
    let bpdu = [&[0x42, 0x42, 3][..], &[0, 0, 2, 2, 0x3c, 5]].concat();
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0][..], b"discovery"].concat();
    for content in [&bpdu, &snap] {
        for vlans in [Vlans::NONE, Vlans::stacked(&[7]), Vlans::of(&[(0x9100, 7), (0x9200, 8)])] {
            let wrap = Wrap { vlans, ..Wrap::default() };
            let frame = build::ether(content.len() as u16, content, &wrap);
            assert_padding_is_none(&frame, "802.3");
            assert_eq!(class_of(&frame), Class::OtherEther);
        }
    }
}

#[test]
fn packets_in_snap_are_what_they_are() {
    let (a, b) = (addr("10.0.0.2:53"), addr("10.0.0.1:9"));
    for vlans in [Vlans::NONE, Vlans::stacked(&[7])].map(Vlans::in_snap) {
        let wrap = |id| Wrap { vlans, id, ..Wrap::default() };
        assert_padding_is_none(&build::udp_frame(a, b, b"x", &wrap(1)), "UDP in SNAP");
        assert_padding_is_none(
            &build::ether(0x8863, &[0x11, 9, 0, 0, 0, 2, 7, 7], &wrap(1)),
            "PPPoE in SNAP",
        );
        let mut rig = Rig::new();
        rig.p(&build::udp_frame(a, b, b"x", &wrap(1)));
        rig.s(&build::udp_frame(a, b, b"x", &wrap(2)));
        rig.p(&build::ether(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1], &wrap(1)));
        rig.assert_agreed();
        rig.p(&build::udp_frame(a, b, b"x", &wrap(1)));
        rig.s(&build::udp_frame(a, b, b"x", &Wrap::default()));
        assert_eq!(rig.left.len(), 2, "and not what they are without");
    }
}

#[test]
fn what_has_a_length_of_its_own_ends_there() {
    for vlans in [Vlans::NONE, Vlans::of(&[(0x9300, 7)])] {
        let wrap = Wrap { vlans, ..Wrap::default() };
        for (ethertype, content) in [
            (0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 1][..]),
            (0x888e, &[1, 3, 0, 2, 7, 7]),
            (0x8847, &[0, 1, 1, 64, 0x45, 0, 0, 21, 0, 0, 0, 0, 64, 47, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 9]),
            (0x88a4, &[2, 16, 7, 7]),
        ] {
            assert_padding_is_none(&build::ether(ethertype, content, &wrap), "a length");
        }
    }
}

#[test]
fn a_short_frame_without_a_length_is_the_same_filled_up_with_zeros() {
    let say = |text: &[u8]| build::ether(0x88b5, text, &Wrap::default());
    let mut rig = Rig::new();
    for (one, other) in [(say(b"x"), padded(&say(b"x"), 60, 0)), (padded(&say(b""), 40, 0), say(b""))] {
        rig.p(&one);
        rig.s(&other);
    }
    rig.assert_agreed();
    for (one, other) in [(say(b"x"), padded(&say(b"x"), 60, 1)), (say(b"x"), padded(&say(b"x"), 61, 0))] {
        let mut rig = Rig::new();
        rig.p(&one);
        rig.s(&other);
        assert_eq!(rig.left, [0; 0], "{} and {} bytes", one.len(), other.len());
    }
}

#[test]
fn a_packet_without_a_length_is_the_rest_of_the_frame() {
    for (src, dst, at) in [("10.0.0.2:80", "10.0.0.1:4000", 16), ("[fd00::2]:80", "[fd00::1]:4000", 18)] {
        let data: Vec<u8> = (0..9000_u32).map(|i| (i % 251) as u8).collect();
        let segment = |from: usize, to: usize| {
            let mut segment = tcp().seq(1 + from as u32).ack(2).data(&data[from..to]);
            (segment.src, segment.dst) = (addr(src), addr(dst));
            segment.frame()
        };
        let mut large = segment(0, 9000);
        large[at..at + 2].fill(0);
        let mut rig = Rig::new();
        rig.p(&large);
        for from in (0..9000).step_by(1000) {
            rig.s(&segment(from, from + 1000));
        }
        rig.assert_agreed();
    }
}

use super::super::DivergenceKind as Kind;
use super::super::rig::{Rig, addr, tcp};
use super::super::{Limits, Policy};
use super::MAX_PIECES;
use crate::wire::build::{self, Wrap};
use crate::wire::proto;
use std::net::SocketAddr;

fn pair(v6: bool) -> (SocketAddr, SocketAddr) {
    if v6 {
        (addr("[fd00::2]:53"), addr("[fd00::1]:4000"))
    } else {
        (addr("10.0.0.2:53"), addr("10.0.0.1:4000"))
    }
}

fn udp(v6: bool, payload: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    let (src, dst) = pair(v6);
    let wrap = Wrap { id, ..Wrap::default() };
    build::fragments(src.ip(), dst.ip(), proto::UDP, &build::udp(src, dst, payload), size, &wrap)
}

fn payload(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

#[test]
fn fragments_cut_differently_are_equal_and_leave_as_they_came() {
    for v6 in [false, true] {
        let mut rig = Rig::new();
        for frame in udp(v6, &payload(5000), 1480, 7) {
            rig.p(&frame);
        }
        let mut other = udp(v6, &payload(5000), 800, 99);
        other.reverse();
        for frame in &other[..other.len() - 1] {
            rig.s(frame);
        }
        assert_eq!(rig.left, [0; 0]);
        rig.s(&other[other.len() - 1]);
        rig.assert_agreed();
    }
}

#[test]
fn a_changed_byte_in_a_fragment_is_seen() {
    let mut rig = Rig::new();
    for frame in udp(false, &payload(3000), 1480, 7) {
        rig.p(&frame);
    }
    let mut changed = payload(3000);
    changed[2500] ^= 1;
    for frame in udp(false, &changed, 1480, 8) {
        rig.s(&frame);
    }
    rig.pass(600);
    assert_eq!((rig.left.len(), rig.kinds()), (0, vec![Kind::Payload]));
    assert_eq!(rig.divergences()[0].offset, Some(2500));
    rig.checkpoint();
    assert_eq!(rig.left, [0, 1, 2]);
}

#[test]
fn a_fragmented_datagram_equals_a_whole_one() {
    let (src, dst) = pair(false);
    let mut rig = Rig::new();
    rig.s(&build::udp_frame(src, dst, &payload(100), &Wrap::default()));
    for frame in udp(false, &payload(100), 56, 7) {
        rig.p(&frame);
    }
    rig.assert_agreed();
}

#[test]
fn fragmented_tcp_is_compared_as_tcp() {
    let mut rig = Rig::new();
    let segment = tcp().seq(1).ack(2).data(&payload(2000));
    for frame in build::fragments(
        segment.src.ip(),
        segment.dst.ip(),
        proto::TCP,
        &segment.segment(),
        800,
        &Wrap::default(),
    ) {
        rig.p(&frame);
    }
    assert_eq!(rig.left, [0; 0]);
    rig.s(&segment.frame());
    rig.assert_agreed();
}

#[test]
fn pieces_that_never_become_whole_are_compared_one_by_one() {
    let mut rig = Rig::new();
    let frames = udp(false, &payload(3000), 1480, 7);
    rig.p(&frames[0]);
    rig.p(&frames[2]);
    rig.s(&udp(false, &payload(3000), 1480, 8)[0]);
    rig.pass(5_100);
    assert_eq!(rig.left, [0]);
    rig.pass(1_000);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
    rig.checkpoint();
    assert_eq!(rig.left, [0, 1]);
}

#[test]
fn contradicting_pieces_are_compared_by_bytes() {
    let mut rig = Rig::new();
    let good = udp(false, &payload(3000), 1480, 7);
    let mut evil = good[0].clone();
    *evil.last_mut().unwrap() ^= 1;
    for frame in [&good[0], &evil] {
        rig.p(frame);
    }
    for frame in [&good[0], &evil] {
        rig.s(frame);
    }
    rig.assert_agreed();
}

#[test]
fn the_table_is_bounded_and_loses_nothing() {
    let limits = Limits { reassemblies: 4, ..Limits::default() };
    let mut rig = Rig::with(Policy::default(), limits);
    for id in 0..20 {
        rig.p(&udp(false, &payload(3000), 1480, id)[0]);
    }
    assert!(rig.asked.iter().all(|c| c.name() == "overload"), "{:?}", rig.asked);
    assert!(!rig.asked.is_empty());
    rig.checkpoint();
    assert_eq!(rig.left, (0..20).collect::<Vec<_>>());
}

#[test]
fn pieces_of_one_datagram_are_bounded() {
    let mut rig = Rig::new();
    let frames = udp(false, &payload(3000), 8, 7);
    assert!(frames.len() > MAX_PIECES);
    frames.iter().for_each(|f| {
        rig.p(f);
    });
    frames.iter().for_each(|f| rig.s(f));
    rig.finish();
    rig.assert_agreed();
}

//! Streams that contradict themselves. What both guests say alike leaves, however odd it is; what only one says stays.

use super::*;

const FAST_OPEN: [u8; 10] = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];
const TWENTY: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

fn at(seq: u32, data: &[u8]) -> Tcp {
    tcp().seq(seq).ack(5).data(data)
}

/// Both guests say `said`, in this order, and all leaves whoever is ahead, and nothing is asked. With the index of a
/// frame that stays where only the primary says it.
fn alike(said: &[Tcp]) {
    let primary: Vec<Vec<u8>> = said.iter().map(Tcp::frame).collect();
    let other = Wrap { id: 4711, ttl: 3, ..Wrap::default() };
    let secondary: Vec<Vec<u8>> =
        said.iter().map(|segment| Tcp { window: 77, ..segment.clone() }.frame_in(&other)).collect();
    // How far the secondary is ahead, in frames.
    for lead in -(said.len() as isize)..=said.len() as isize {
        let mut rig = Rig::new();
        for step in 0..=2 * said.len() as isize {
            if let Some(frame) = usize::try_from(step - lead.max(0)).ok().and_then(|at| primary.get(at)) {
                rig.p(frame);
            }
            if let Some(frame) = usize::try_from(step + lead.min(0)).ok().and_then(|at| secondary.get(at)) {
                rig.s(frame);
            }
        }
        assert_eq!(rig.asked, [], "secondary ahead by {lead}");
        rig.assert_agreed();
        rig.pass(10_000);
        rig.finish();
        rig.assert_agreed();
    }
}

/// What only the primary says in this place stays, although the secondary says all else of it.
fn stays(said: &[Tcp], only_primary: usize) {
    for primary_first in [true, false] {
        let mut rig = Rig::new();
        let frames = said.iter().map(Tcp::frame);
        let without =
            frames.clone().enumerate().filter(|(at, _)| *at != only_primary).map(|(_, frame)| frame);
        if primary_first {
            for frame in frames {
                rig.p(&frame);
            }
            without.for_each(|frame| rig.s(&frame));
        } else {
            without.for_each(|frame| rig.s(&frame));
            for frame in frames {
                rig.p(&frame);
            }
        }
        rig.pass(10_000);
        rig.finish();
        assert!(!rig.left.contains(&(only_primary as u64)), "{:?}", rig.left);
        assert_eq!(rig.kinds().len(), 1, "{:?}", rig.asked);
    }
}

#[test]
fn a_keep_alive_with_a_garbage_octet_says_nothing() {
    let said = [at(1000, b"hello"), at(1004, b"\0"), at(1005, b"world")];
    alike(&said);
    // A guest that has said only its SYN-ACK, and one that has said its FIN.
    alike(&[syn_ack(1000), at(1000, b"\0"), at(1001, b"hello")]);
    alike(&[at(1000, b"hello").flag(FIN), at(1005, b"\0"), at(1005, b"\0")]);
    // Only one guest's timer has fired.
    for (primary, secondary) in
        [(&[0, 1, 2][..], &[0, 2][..]), (&[0, 2], &[0, 1, 2]), (&[0, 1, 1, 2], &[0, 1, 2])]
    {
        let mut rig = Rig::new();
        for &n in primary {
            rig.p(&said[n].frame());
        }
        secondary.iter().for_each(|&n| rig.s(&said[n].frame()));
        rig.pass(10_000);
        rig.finish();
        rig.assert_agreed();
        assert!(rig.c.counters().keep_alives > 0);
    }
}

#[test]
fn a_keep_alive_waits_for_what_stands_before_it() {
    let mut rig = Rig::new();
    rig.p(&at(1000, b"hello").frame());
    rig.p(&at(1004, b"\0").frame());
    assert_eq!(rig.left, [0; 0]);
    rig.s(&at(1000, b"hello").frame());
    rig.assert_agreed();
}

#[test]
fn ends_that_contradict_the_stream_are_matched_one_by_one() {
    let data = [b'x'; 59];
    alike(&[at(1000, &data), at(1000, b"").flag(FIN)]);
    alike(&[at(1000, b"").flag(FIN), at(1001, b"").flag(FIN)]);
    alike(&[at(1001, b"").flag(FIN), at(1000, b"").flag(FIN)]);
    alike(&[at(1000, b"").flag(FIN), at(1000, &data), at(1059, b"").flag(FIN), at(1000, b"").flag(FIN)]);
    stays(&[at(1000, &data), at(1000, b"").flag(FIN)], 1);
    stays(&[at(1000, b"").flag(FIN), at(1001, b"").flag(FIN)], 1);
    stays(&[at(1000, b"").flag(FIN), at(1001, b"").flag(FIN)], 0);
}

#[test]
fn bytes_said_again_otherwise_are_matched_version_by_version() {
    let said = [at(1000, b"aaaa"), at(1000, b"bbbb"), at(1004, b"cc")];
    alike(&said);
    stays(&said, 0);
    stays(&said, 1);
    stays(&said, 2);
    // Versions that overlap, are cut otherwise, and are said again.
    alike(&[at(10, b"aaaa"), at(12, b"bbbb"), at(8, b"ccccccc"), at(10, b"aaaa"), at(9, b"d"), at(16, b"e")]);
    alike(&[at(10, b"aaaa"), at(10, b"abca").flag(FIN), at(10, b"aaaa"), at(14, b"z")]);
    let mut rig = Rig::new();
    rig.p(&at(10, b"aaaa").frame());
    rig.p(&at(10, b"bbbb").frame());
    rig.p(&at(14, b"cc").frame());
    rig.s(&at(10, b"aaaa").frame());
    rig.s(&at(10, b"bb").frame());
    assert_eq!(rig.left, [0]);
    rig.s(&at(12, b"bbcc").frame());
    rig.assert_agreed();
}

#[test]
fn a_revision_by_one_guest_alone_is_quoted_when_it_is_late() {
    let mut rig = Rig::new();
    rig.both(&at(1000, b"aaaa").frame());
    rig.p(&at(1000, b"abba").frame());
    rig.pass(100);
    assert_eq!(rig.left, [0]);
    let [late] = rig.divergences()[..] else { panic!("{:?}", rig.asked) };
    assert_eq!((late.kind, late.seq, late.offset), (Kind::Payload, Some(Seq(1000)), Some(1)));
    assert_eq!((&late.primary[..], &late.secondary[..]), (&b"bba"[..], &b"aaa"[..]));
    rig.checkpoint();
    rig.both(&at(1000, b"abba").frame());
    rig.both(&at(1000, b"aaaa").frame());
    rig.both(&at(1004, b"c").frame());
    assert_eq!(rig.left, (0..=4).collect::<Vec<_>>());
}

#[test]
fn more_versions_than_are_tracked_leave_while_both_agree_and_hold_the_flow_else() {
    let versions: Vec<Tcp> = (0..200u8).map(|n| at(1000, &[n, n, n])).collect();
    let mut rig = Rig::new();
    versions.iter().for_each(|version| rig.both(&version.frame()));
    rig.assert_agreed();
    let mut rig = Rig::new();
    for version in &versions {
        rig.p(&version.frame());
    }
    versions.iter().for_each(|version| rig.s(&version.frame()));
    assert!(matches!(rig.asked[..], [Cause::Overload(_), ..]), "{:?}", rig.asked);
    assert!(rig.left.len() < 200);
    rig.checkpoint();
    assert_eq!(rig.left.len(), 200);
}

#[test]
fn handshakes_said_again_otherwise_are_matched_one_by_one() {
    let full = tcp().seq(100).ack(500).flag(SYN).options(&TWENTY);
    let short = tcp().seq(100).ack(500).flag(SYN).options(&MSS);
    alike(&[full.clone(), short.clone(), full.clone()]);
    let fast = tcp().seq(100).flag(SYN).options(&FAST_OPEN).data(b"GET /");
    let plain = tcp().seq(100).flag(SYN).options(&MSS);
    alike(&[fast, plain.clone(), tcp().seq(101).ack(7).data(b"GET /")]);
    alike(&[plain, short.clone()]);
    // The second handshake 10 ms after the first, on both sides.
    let mut rig = Rig::new();
    rig.p(&full.frame());
    rig.p(&short.frame());
    rig.pass(10);
    rig.s(&full.frame());
    rig.pass(5);
    rig.s(&short.frame());
    rig.assert_agreed();
    stays(&[full.clone(), short.clone()], 0);
    stays(&[full, short], 1);
}

#[test]
fn control_bits_are_content() {
    for (primary, secondary) in [
        (tcp().seq(100).flag(SYN).flag(FIN), tcp().seq(100).flag(SYN)),
        (tcp().seq(100).flag(SYN).ack(9), tcp().seq(100).flag(SYN)),
        (tcp().seq(100).flag(RST).flag(FIN), tcp().seq(100).flag(RST)),
        (tcp().seq(100).flag(RST), tcp().seq(100).flag(RST).flag(SYN)),
        (tcp().seq(100).ack(9).flag(FIN), tcp().seq(100).ack(9)),
    ] {
        for (primary, secondary) in [(&primary, &secondary), (&secondary, &primary)] {
            let mut rig = Rig::new();
            rig.p(&primary.frame());
            rig.s(&secondary.frame());
            rig.pass(10_000);
            rig.finish();
            let bare = primary.flags == TcpFlags::default();
            assert_eq!(rig.left.is_empty(), !bare, "{primary:?} {secondary:?}");
            assert!(!rig.divergences().is_empty(), "{primary:?} {secondary:?}");
        }
    }
    alike(&[tcp().seq(100).flag(SYN).flag(FIN)]);
    alike(&[tcp().seq(100).flag(RST).flag(FIN).flag(TcpFlags(0x20))]);
    alike(&[tcp().seq(100).flag(RST).flag(FIN).flag(SYN), tcp().seq(7).flag(SYN)]);
}

#[test]
fn data_of_an_rst_is_content() {
    let hello = at(1000, b"hello");
    let reset = |data: &[u8]| at(1005, data).flag(RST);
    alike(&[hello.clone(), reset(b"secret")]);
    alike(&[hello.clone(), reset(b"secret"), reset(b""), reset(b"other")]);
    for other in [&b"public"[..], b""] {
        let mut rig = Rig::new();
        rig.both(&hello.frame());
        rig.p(&reset(b"secret").frame());
        rig.s(&reset(other).frame());
        assert_eq!(rig.left, [0]);
        assert_eq!(rig.kinds(), [Kind::Flags]);
    }
    stays(&[hello, reset(b""), reset(b"secret")], 2);
}

#[test]
fn an_rst_with_data_after_the_end_of_both_directions_waits_for_the_other_guest() {
    let mut rig = Rig::new();
    rig.both(&at(1000, b"").flag(FIN).frame());
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(5).ack(1001).flag(FIN).frame());
    rig.both(&tcp().seq(1001).ack(6).frame());
    rig.p(&at(1001, b"secret").flag(RST).frame());
    assert_eq!(rig.left, [0, 1]);
}

#[test]
fn numbers_may_jump_as_far_as_they_like() {
    let jump = 0x7000_0000u32;
    let said: Vec<Tcp> = (0..9).map(|n| at(1000u32.wrapping_add(jump.wrapping_mul(n)), b"jump")).collect();
    alike(&said);
    let acks: Vec<Tcp> = (0..9).map(|n| tcp().seq(1000).ack(jump.wrapping_mul(n))).collect();
    alike(&acks);
    let back: Vec<Tcp> =
        [0, 0x7fff_ffff, 1, 0xffff_fff0, 5].iter().map(|&ack| tcp().seq(9).ack(ack)).collect();
    alike(&back);
}

use std::net::SocketAddr;

use super::*;
use crate::wire::build::Tcp;

fn guest() -> Tcp {
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    Tcp::new(address("192.0.2.1:80"), address("192.0.2.9:40000")).ack(7)
}

fn whole(frame: &[u8]) -> Captured<'_> {
    Captured { frame, missing: 0 }
}

fn starts(frames: &[Vec<u8>]) -> Starts {
    let mut starts = Starts::default();
    frames.iter().for_each(|frame| starts.note(whole(frame)));
    starts
}

/// The secondary's frames, aligned to the primary's, as sequence numbers.
fn aligned(primary: &[Tcp], secondary: &[Tcp]) -> Vec<u32> {
    let frames = |side: &[Tcp]| side.iter().map(Tcp::frame).collect::<Vec<_>>();
    let (primary, secondary) = (frames(primary), frames(secondary));
    let mut alignment = Some(Alignment::new(starts(&primary), starts(&secondary)));
    let mut seq = |frame: &Vec<u8>| {
        let frame = super::aligned(&mut alignment, whole(frame));
        tcp(whole(&frame)).expect("still TCP").1.seq.0
    };
    secondary.iter().map(&mut seq).collect()
}

#[test]
fn a_handshake_tells_the_shift() {
    let syn = |seq| guest().seq(seq).flag(TcpFlags::SYN);
    let primary = [syn(1000), guest().seq(1001).data(b"hello")];
    let secondary = [syn(u32::MAX), guest().seq(0).data(b"hel"), guest().seq(3).data(b"lo")];
    assert_eq!(aligned(&primary, &secondary), [1000, 1001, 1004]);
}

#[test]
fn a_capture_that_began_later_is_aligned_by_its_lowest_byte() {
    let primary = [guest().seq(500).data(b"abc"), guest().seq(503).data(b"def")];
    let secondary = [guest().seq(899), guest().seq(903).data(b"def"), guest().seq(900).data(b"abc")];
    assert_eq!(aligned(&primary, &secondary), [499, 503, 500]);
}

#[test]
fn each_incarnation_has_its_own_shift() {
    let syn = |seq| guest().seq(seq).flag(TcpFlags::SYN);
    let primary = [syn(10), guest().seq(11).data(b"x"), syn(7_000_000), guest().seq(7_000_001).data(b"y")];
    let secondary = [syn(50), guest().seq(51).data(b"x"), syn(9_000_000), guest().seq(9_000_001).data(b"y")];
    assert_eq!(aligned(&primary, &secondary), [10, 11, 7_000_000, 7_000_001]);
}

#[test]
fn a_syn_that_comes_after_the_bytes_is_no_new_incarnation() {
    let primary = [guest().seq(100).flag(TcpFlags::SYN), guest().seq(101).data(b"ab")];
    let secondary = [guest().seq(201).data(b"ab"), guest().seq(200).flag(TcpFlags::SYN)];
    assert_eq!(aligned(&primary, &secondary), [101, 100]);
}

#[test]
fn what_only_one_side_has_stays_as_it_is() {
    assert_eq!(aligned(&[], &[guest().seq(5).data(b"x")]), [5]);
}

use std::net::SocketAddr;

use colo_user::wire::{
    TcpFlags,
    build::{Tcp, Wrap},
};

use super::*;
use crate::{lab::topology::UPLINK, raw::RawSocket};

const PATIENCE: Duration = Duration::from_secs(20);

fn tcp(port: u16) -> Tcp {
    let guest: SocketAddr = ([192, 0, 2, 2], 80).into();
    Tcp::new(guest, ([192, 0, 2, 1], port).into()).ack(7)
}

/// A frame of the guest's address, or of another.
fn frame(segment: &Tcp, of_guest: bool) -> Vec<u8> {
    let src_mac = if of_guest { GUEST_MAC } else { [2, 0, 0, 0, 0, 9] };
    segment.frame_in(&Wrap { src_mac, ..Wrap::default() })
}

/// A client and two hosts, and what they send by.
fn switch() -> (Netns, [Netns; 2], [RawSocket; 2]) {
    let client = Netns::new("colo-watch").unwrap();
    let hosts = [CAPTURE, CAPTURE_SECONDARY].map(|port| {
        let host = Netns::new("colo-watch").unwrap();
        host.veth(UPLINK, &client, port).unwrap();
        host
    });
    let sockets = [&hosts[0], &hosts[1]].map(|host| RawSocket::new(host, UPLINK).unwrap());
    (client, hosts, sockets)
}

#[test]
fn sides_are_told_apart_and_other_addresses_are_not_heard() {
    let (client, _hosts, [first, second]) = switch();
    let watch = Watch::start(&client).unwrap();
    let quiet = || thread::sleep(Duration::from_millis(50));
    for n in 0..3 {
        first.write(&frame(&tcp(1000).seq(n * 10).data(b"0123456789"), true)).unwrap();
    }
    second.write(&frame(&tcp(1000).data(b"a stranger"), false)).unwrap();
    quiet();
    second.write(&frame(&tcp(1000).seq(30).data(b"0123456789"), true)).unwrap();
    quiet();
    let heard = watch.finish().unwrap();
    assert_eq!(heard.sides(), [Side::First, Side::Second]);
    assert_eq!((heard.frames, heard.taken_back), (4, 0), "{heard:?}");
    let change = heard.changes[1];
    assert!(change.last.unwrap() < change.first && change.first.elapsed() < PATIENCE);
}

#[test]
fn a_side_that_speaks_again_is_seen() {
    let (client, _hosts, [first, second]) = switch();
    let watch = Watch::start(&client).unwrap();
    for (n, socket) in [&first, &second, &first].into_iter().enumerate() {
        socket.write(&frame(&tcp(1000).seq(n as u32), true)).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let heard = watch.finish().unwrap();
    assert_eq!(heard.sides(), [Side::First, Side::Second, Side::First]);
}

/// What a witness of these segments says of each.
fn remembered(segments: &[Tcp]) -> Vec<bool> {
    let mut said = HashMap::new();
    segments.iter().map(|segment| remember(&mut said, &frame(segment, true)).is_none()).collect()
}

#[test]
fn a_byte_said_twice_must_be_the_same() {
    let syn = tcp(1000).seq(u32::MAX - 4).flag(TcpFlags::SYN);
    let first = tcp(1000).seq(u32::MAX - 3).data(b"across the wrap");
    let (same, other) = (first.clone().data(b"across"), first.clone().data(b"acrosS"));
    let inside = tcp(1000).seq(3).data(b"the wrap");
    let wrong_inside = tcp(1000).seq(3).data(b"The wrap");
    assert_eq!(
        remembered(&[syn.clone(), first.clone(), same, other, inside, wrong_inside]),
        [true, true, true, false, true, false]
    );
    // Another connection, and another incarnation of the same, may say what they like.
    let elsewhere = tcp(1001).seq(u32::MAX - 3).data(b"ACROSS");
    let again = tcp(1000).seq(u32::MAX - 5).flag(TcpFlags::SYN);
    let others = tcp(1000).seq(u32::MAX - 4).data(b"ACROSS");
    assert_eq!(remembered(&[syn, first, elsewhere, again, others]), [true; 5]);
}

#[test]
fn what_leaves_before_what_precedes_it_is_seen() {
    let syn = tcp(1000).seq(u32::MAX - 9).flag(TcpFlags::SYN);
    let [first, second, third] = [0_u32, 1, 2]
        .map(|n| tcp(1000).seq(u32::MAX.wrapping_sub(8).wrapping_add(10 * n)).data(b"0123456789"));
    let end = tcp(1000).seq(u32::MAX.wrapping_add(22)).flag(TcpFlags::FIN);
    let all = [syn.clone(), first.clone(), second.clone(), first.clone(), third.clone(), end];
    assert_eq!(remembered(&all), [true; 6]);
    // Overtaken once, and then whole again; the acknowledgement between says nothing.
    let bare = tcp(1000).seq(u32::MAX.wrapping_add(22));
    assert_eq!(
        remembered(&[syn, first, bare, third.clone(), second, third]),
        [true, true, true, false, true, true]
    );
}

#[test]
fn both_ip_versions_are_read_and_all_else_is_left() {
    let segment = tcp(1000).seq(5).data(b"v4");
    let v6: Vec<SocketAddr> =
        ["[2001:db8::2]:80", "[2001:db8::1]:1000"].iter().map(|text| text.parse().unwrap()).collect();
    let six = Tcp { src: v6[0], dst: v6[1], ..segment.clone() };
    for segment in [segment.clone(), six] {
        let bytes = frame(&segment, true);
        let read = said::Segment::read(&bytes).unwrap();
        assert_eq!(read.flow, (segment.src.ip(), 80, segment.dst.ip(), 1000));
    }
    for length in 0..frame(&segment, true).len() {
        // However short it is cut: what is left is read, and nothing panics.
        let _ = said::Segment::read(&frame(&segment, true)[..length]);
    }
}

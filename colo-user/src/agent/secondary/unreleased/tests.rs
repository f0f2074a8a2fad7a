use super::*;
use crate::wire::build::{Tcp, Wrap, udp_frame};

const GUEST: &str = "192.0.2.7:80";
const CLIENT: &str = "192.0.2.1:1000";

fn between(from: &str, to: &str) -> Tcp {
    Tcp::new(from.parse().unwrap(), to.parse().unwrap())
}

/// Bytes of the guest's stream from `seq` on.
fn data(seq: u32, byte: u8) -> Vec<u8> {
    between(GUEST, CLIENT).seq(seq).ack(2).data(&[byte; 100]).frame()
}

fn datagram(byte: u8) -> Vec<u8> {
    udp_frame(GUEST.parse().unwrap(), CLIENT.parse().unwrap(), &[byte; 100], &Wrap::default())
}

fn acknowledgement(ack: u32) -> Vec<u8> {
    between(CLIENT, GUEST).seq(2).ack(ack).frame()
}

/// The guest says datagrams, all of which are sent.
fn said(unreleased: &mut Unreleased, bytes: impl IntoIterator<Item = u8>) {
    for byte in bytes {
        unreleased.said(&datagram(byte));
        unreleased.sent();
    }
}

/// The last byte of each frame that is said again.
fn again(mut unreleased: Unreleased) -> Vec<u8> {
    assert_eq!(unreleased.next(), None, "nothing is said before the takeover");
    unreleased.take_over();
    let frames = unreleased.frames.len();
    std::iter::from_fn(|| unreleased.next()).take(frames).map(|frame| frame[frame.len() - 1]).collect()
}

#[test]
fn what_the_primary_had_taken_two_heartbeats_ago_is_forgotten() {
    let mut unreleased = Unreleased::default();
    said(&mut unreleased, 0..6);
    unreleased.taken(4);
    assert_eq!(again(unreleased.clone()), [0, 1, 2, 3, 4, 5], "it may be held there still");
    unreleased.taken(6);
    assert_eq!(again(unreleased.clone()), [4, 5]);
    // Another session counts anew; what is left of the old one goes with its second heartbeat.
    unreleased.session();
    said(&mut unreleased, 6..8);
    unreleased.taken(1);
    assert_eq!(again(unreleased.clone()), [4, 5, 6, 7]);
    unreleased.taken(2);
    assert_eq!(again(unreleased.clone()), [7]);
    unreleased.clear();
    assert!(again(unreleased).is_empty());
}

#[test]
fn data_is_kept_until_the_client_has_it_whoever_else_took_it() {
    let mut unreleased = Unreleased::default();
    for (at, byte) in [(0, 1), (100, 2), (200, 3)] {
        unreleased.said(&data(at, byte));
        unreleased.sent();
    }
    // Of another connection, and of nobody's.
    unreleased.heard(&between("192.0.2.1:1001", GUEST).seq(2).ack(300).frame());
    unreleased.heard(b"a runt");
    unreleased.taken(3);
    unreleased.taken(3);
    assert_eq!(again(unreleased.clone()), [1, 2, 3]);
    unreleased.heard(&acknowledgement(200));
    // An older one that comes late takes nothing back.
    unreleased.heard(&acknowledgement(100));
    assert_eq!(again(unreleased.clone()), [3]);
    unreleased.heard(&acknowledgement(300));
    unreleased.taken(3);
    assert!(unreleased.acknowledged.is_empty());
    assert!(again(unreleased).is_empty());
}

#[test]
fn it_is_bounded_and_the_oldest_goes() {
    let mut unreleased = Unreleased::default();
    said(&mut unreleased, (0..=MAX_FRAMES).map(|i| (i % 251) as u8));
    let gone = MAX_FRAMES + 1 - MAX_FRAMES * 3 / 4;
    assert_eq!((unreleased.frames.len(), unreleased.forgotten()), (MAX_FRAMES * 3 / 4, gone as u64));
    assert_eq!(again(unreleased.clone())[0], (gone % 251) as u8);
    let large = vec![0; MAX_BYTES / 2 + 1];
    unreleased.said(&large);
    unreleased.said(&large);
    assert_eq!((unreleased.frames.len(), unreleased.bytes), (1, large.len()));
}

#[test]
fn what_the_client_has_makes_room_first() {
    let mut unreleased = Unreleased::default();
    unreleased.said(&datagram(7));
    for at in 0..MAX_FRAMES as u32 - 1 {
        unreleased.said(&data(100 * at, 1));
    }
    unreleased.heard(&acknowledgement(100 * (MAX_FRAMES as u32 - 1)));
    unreleased.said(&datagram(8));
    assert_eq!((again(unreleased.clone()), unreleased.forgotten()), (vec![7, 8], 0));
}

#[test]
fn a_syn_is_left_to_the_guest() {
    let mut unreleased = Unreleased::default();
    let syn = between(GUEST, CLIENT).flag(TcpFlags::SYN).frame();
    unreleased.said(&syn);
    unreleased.said(b"a runt");
    assert_eq!(again(unreleased.clone()), *b"t");
    unreleased.take_over();
    unreleased.said(&syn);
    assert_eq!(unreleased.frames.len(), 2, "on the direct path it is translated");
}

#[test]
fn clients_are_told_last_and_in_rounds() {
    let mut unreleased = Unreleased::default();
    unreleased.said(&data(0, 1));
    for client in ["192.0.2.1:1000", "192.0.2.2:1000"] {
        unreleased.heard(&between(client, GUEST).seq(2).ack(0).frame());
    }
    assert!(!unreleased.speaks());
    unreleased.take_over();
    assert_eq!(unreleased.next(), Some(data(0, 1)));
    let all: Vec<_> = std::iter::from_fn(|| unreleased.next()).collect();
    assert!(!unreleased.speaks());
    assert_eq!(all.len(), 2 * NOTICES);
    assert!(all.chunks(2).all(|round| round == &all[..2] && round[0] != round[1]));
}

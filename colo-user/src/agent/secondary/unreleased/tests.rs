use super::*;
use crate::wire::build::Tcp;

fn segment(byte: u8, flags: TcpFlags) -> Vec<u8> {
    let (a, b) = ("192.0.2.7:80".parse().unwrap(), "192.0.2.1:1000".parse().unwrap());
    Tcp::new(a, b).seq(1).ack(2).flag(flags).data(&[byte; 100]).frame()
}

fn said(unreleased: &mut Unreleased, bytes: impl IntoIterator<Item = u8>) {
    for byte in bytes {
        unreleased.said(&segment(byte, TcpFlags(0)));
        unreleased.sent();
    }
}

/// The last byte of each frame that is said again.
fn again(mut unreleased: Unreleased) -> Vec<u8> {
    assert_eq!(unreleased.next(), None, "nothing is said before the takeover");
    unreleased.take_over();
    std::iter::from_fn(|| unreleased.next()).map(|frame| frame[frame.len() - 1]).collect()
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
fn it_is_bounded_and_the_oldest_goes() {
    let mut unreleased = Unreleased::default();
    said(&mut unreleased, (0..MAX_FRAMES + 3).map(|i| (i % 251) as u8));
    assert_eq!(unreleased.forgotten(), 3);
    assert_eq!(again(unreleased.clone())[0], 3);
    let large = vec![0; MAX_BYTES / 2 + 1];
    unreleased.said(&large);
    unreleased.said(&large);
    assert_eq!(unreleased.frames.len(), 1);
}

#[test]
fn a_syn_is_left_to_the_guest() {
    let mut unreleased = Unreleased::default();
    unreleased.said(&segment(1, TcpFlags::SYN));
    unreleased.said(b"a runt");
    assert_eq!(again(unreleased.clone()), *b"t");
    unreleased.take_over();
    unreleased.said(&segment(1, TcpFlags::SYN));
    assert_eq!(unreleased.frames.len(), 2, "on the direct path it is translated");
}

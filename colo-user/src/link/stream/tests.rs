use super::*;
use crate::epoch::Epoch;
use crate::link::frame::Role;
use std::os::unix::net::UnixStream;

fn pair() -> (Link, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Link::new(Stream::Unix(a), Hello::plain(Role::Secondary, [1; 16])), b)
}

#[test]
fn a_peer_that_does_not_read_never_blocks_and_gets_all_of_it_later() {
    let (mut link, mut other) = pair();
    let frame = [5; 1400];
    for index in 0..2000 {
        link.outbox().push(&Message::Input { epoch: Epoch(1), index, frame: &frame });
    }
    link.flush().unwrap();
    assert!(link.wants_write(), "the socket takes less than 2.8 MB");
    let mut inbox = Inbox::default();
    let mut expected = 0;
    while expected < 2000 {
        let n = other.read(inbox.space()).unwrap();
        inbox.filled(n);
        while let Some(message) = inbox.next_message().unwrap() {
            assert_eq!(message, Message::Input { epoch: Epoch(1), index: expected, frame: &frame });
            expected += 1;
        }
        link.flush().unwrap();
    }
    assert!(!link.wants_write());
}

#[test]
fn an_end_in_mid_message_is_told_from_a_clean_one() {
    for cut in [false, true] {
        let (mut link, mut other) = pair();
        let mut bytes = Vec::new();
        Message::Cut(Epoch(4)).encode(&mut bytes);
        let end = bytes.len() - usize::from(cut);
        other.write_all(&bytes[..end]).unwrap();
        assert_eq!(link.fill().unwrap(), Fill::Some { more: false });
        assert_eq!(link.next_message().unwrap().is_some(), !cut);
        assert_eq!(link.fill().unwrap(), Fill::Empty);
        drop(other);
        assert_eq!(link.fill().unwrap(), Fill::Closed { partial: cut });
    }
}

use super::*;
use crate::epoch::Epoch;
use crate::link::frame::{ByeReason, Role};
use rustix::event::{PollFd, PollFlags, poll};
use std::net::{TcpListener, TcpStream};
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
    link.flush();
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
        link.flush();
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

const BYE: Message<'_> = Message::Bye { reason: ByeReason::TookOver, text: "alone" };

/// What the peer says last.
fn goodbye() -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Cut(Epoch(4)).encode(&mut bytes);
    BYE.encode(&mut bytes);
    bytes
}

/// Writes to the peer, and reads what the link says of it, waiting for nothing but the descriptor.
fn last_words(link: &mut Link) -> (Vec<String>, io::Error) {
    link.outbox().push(&Message::Cut(Epoch(5)));
    link.flush();
    let mut words = Vec::new();
    loop {
        assert!(!link.wants_write());
        let mut fds = [PollFd::new(&link.stream, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&rustix::time::Timespec::default())).unwrap(), 1, "it is not silent");
        match link.fill() {
            Ok(Fill::Some { .. }) => {}
            Err(error) => return (words, error),
            Ok(other) => panic!("{other:?} after {words:?}"),
        }
        while let Some((message, outbox)) = link.next_message().unwrap() {
            words.push(format!("{message:?}"));
            // Who does not know yet answers.
            outbox.push(&Message::Cut(Epoch(6)));
        }
        link.flush();
        assert!(link.outbox.is_empty());
    }
}

fn expected() -> [String; 2] {
    [format!("{:?}", Message::Cut(Epoch(4))), format!("{BYE:?}")]
}

#[test]
fn a_goodbye_is_read_although_writing_failed_first() {
    let (mut link, mut other) = pair();
    other.write_all(&goodbye()).unwrap();
    drop(other);
    let (words, error) = last_words(&mut link);
    assert_eq!(words, expected());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let mut link = Link::new(Stream::Tcp(ours), Hello::plain(Role::Secondary, [1; 16]));
    // What it has not read when it closes makes it reset the connection.
    link.outbox().push(&Message::Cut(Epoch(3)));
    link.flush();
    other.peek(&mut [0]).unwrap();
    other.write_all(&goodbye()).unwrap();
    drop(other);
    let (words, _) = last_words(&mut link);
    assert_eq!(words, expected());
}

#[test]
fn a_link_that_cannot_be_written_is_lost_although_the_peer_is_there_and_silent() {
    let (mut link, mut other) = pair();
    shutdown(&link.stream, Shutdown::Write).unwrap();
    let (words, error) = last_words(&mut link);
    assert_eq!((words.len(), error.kind()), (0, io::ErrorKind::BrokenPipe));
    other.write_all(&goodbye()).expect_err("it is told");
}

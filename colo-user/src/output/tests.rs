use super::*;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

/// How long something may take that happens by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A lane into a pipe that holds one page, and the pipe's other end.
fn lane(notes: bool) -> (Lane, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    (Lane::new("test", writer, notes), reader)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads from `reader` until a line ends so.
fn read_until(reader: &mut File, last: &str) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while !text.ends_with(last.as_bytes()) {
        let n = reader.read(&mut buffer).unwrap();
        assert!(n > 0, "it ended before {last:?}");
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn whoever_speaks_waits_for_no_reader_and_what_is_dropped_is_counted_and_said() {
    let (lane, reader) = lane(true);
    let line = [b'x'; 99];
    let all = LINES + 1000;
    for _ in 0..all {
        lane.give(&[&line[..], b"\n"].concat());
    }
    // All but what is in the pipe, in the thread's hand and in the queue.
    let most = LINES + 4096 / 100 + 1;
    let dropped = lane.missing();
    assert!(dropped >= (all - most) as u64, "{dropped} of {all}");
    assert!(!lane.drain(Instant::now() + Duration::from_millis(50)), "nobody reads");

    let mut reader = File::from(reader);
    let said = thread::spawn(move || read_until(&mut reader, "last\n"));
    until("room", || lane.drain(Instant::now() + SOON));
    lane.give(b"last\n");
    assert!(lane.drain(Instant::now() + SOON));
    let said = said.join().unwrap();
    let note = format!("colo: {dropped} lines of this log are missing: nobody read it\n");
    assert_eq!(said.matches(&note).count(), 1, "{dropped} are missing");
    assert_eq!(said.lines().count() as u64, all as u64 - dropped + 2);
}

#[test]
fn the_end_waits_for_a_slow_reader_and_not_for_none() {
    let (slow, reader) = lane(false);
    for number in 0..200 {
        slow.give(format!("{number:099}\n").as_bytes());
    }
    let reading = thread::spawn(move || {
        let (mut reader, mut buffer, mut text) = (File::from(reader), [0; 1024], Vec::new());
        while text.len() < 200 * 100 {
            thread::sleep(Duration::from_millis(5));
            let n = reader.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..n]);
        }
        text
    });
    assert!(slow.drain(Instant::now() + SOON));
    assert_eq!(*slow.written.handled.lock().unwrap(), 200);
    let text = String::from_utf8(reading.join().unwrap()).unwrap();
    let expected: String = (0..200).map(|number| format!("{number:099}\n")).collect();
    assert_eq!(text, expected);

    let (wedged, _reader) = lane(true);
    for _ in 0..200 {
        wedged.give(&[b'x'; 100]);
    }
    let (began, far) = (Instant::now(), Duration::from_secs(600));
    assert!(!wedged.drain(began + far));
    assert!(began.elapsed() < far / 2, "it has given up when nobody read for {PATIENCE:?}");
}

#[test]
fn a_stream_that_is_closed_costs_its_lines_and_nothing_else() {
    let (lane, reader) = lane(true);
    drop(reader);
    for _ in 0..10 {
        lane.give(b"to nobody\n");
    }
    assert!(lane.drain(Instant::now() + SOON));
    until("the count", || lane.missing() >= 10);
}

#[test]
fn one_that_does_not_block_is_waited_for_by_the_thread_alone() {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    let lane = Lane::new("test", writer, false);
    for number in 0..100 {
        lane.give(format!("{number:099}\n").as_bytes());
    }
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    let text = read_until(&mut File::from(reader), &format!("{:099}\n", 99));
    assert_eq!(text.lines().count(), 100);
    assert_eq!(lane.missing(), 0);
}

#[test]
fn a_long_line_is_several_pieces_and_loses_nothing() {
    let (lane, reader) = lane(false);
    let long = [vec![b'x'; 3 * LONGEST], b"\n".to_vec()].concat();
    lane.give(&long);
    assert_eq!(read_until(&mut File::from(reader), "\n").len(), long.len());
    assert!(lane.drain(Instant::now() + SOON));
    assert_eq!(*lane.written.handled.lock().unwrap(), 4);
}

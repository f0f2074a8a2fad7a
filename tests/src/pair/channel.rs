//! The wire between two QEMUs, on which everything can be made to stand still while both ends live.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// How often a side that is idle looks whether it shall stand still, or end.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks of one that stands still.
const STALLED: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Words {
    stalled: AtomicBool,
    end: AtomicBool,
}

/// Carries one connection from `near` to `far`; ended on drop.
#[derive(Debug)]
pub struct Channel {
    words: Arc<Words>,
    near: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Channel {
    /// Listens at `near`; `far` is connected to when somebody comes.
    pub fn new(near: &Path, far: &Path) -> Result<Self> {
        let listener = UnixListener::bind(near).with_context(|| near.display().to_string())?;
        let words = Arc::<Words>::default();
        let (of_thread, far) = (Arc::clone(&words), far.to_owned());
        let thread = thread::spawn(move || carry(&listener, &far, &of_thread));
        Ok(Self { words, near: near.to_owned(), thread: Some(thread) })
    }

    /// From now on nothing comes through, and nobody is told.
    pub fn stall(&self) {
        self.words.stalled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.words.end.store(true, Ordering::Relaxed);
        // Nobody may have come: an accept ends with a connection.
        let _ = UnixStream::connect(&self.near);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(listener: &UnixListener, far: &Path, words: &Words) -> io::Result<()> {
    let (near, _) = listener.accept()?;
    if words.end.load(Ordering::Relaxed) {
        return Ok(());
    }
    let far = UnixStream::connect(far)?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(LOOK))?;
        end.set_write_timeout(Some(LOOK))?;
    }
    thread::scope(|scope| {
        let there = scope.spawn(|| one_way(&near, &far, words));
        let back = one_way(&far, &near, words);
        there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(back)
    })
}

/// Until one end is gone: the other is told, unless nothing comes through.
fn one_way(mut from: &UnixStream, mut to: &UnixStream, words: &Words) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    let ended = || words.end.load(Ordering::Relaxed);
    while !ended() {
        let mut bytes = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            Err(error) if is_wait(&error) => continue,
            Err(_) => break,
        };
        while !bytes.is_empty() && !ended() {
            if words.stalled.load(Ordering::Relaxed) {
                thread::sleep(STALLED);
                continue;
            }
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    while words.stalled.load(Ordering::Relaxed) && !ended() {
        thread::sleep(LOOK);
    }
    to.shutdown(Shutdown::Both)
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_through_until_they_shall_not() {
        let directory = tempfile::tempdir().unwrap();
        let (near, far) = (directory.path().join("near"), directory.path().join("far"));
        let listener = UnixListener::bind(&far).unwrap();
        let channel = Channel::new(&near, &far).unwrap();
        let mut one = UnixStream::connect(&near).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut byte = [0];
        one.write_all(b"a").unwrap();
        other.read_exact(&mut byte).unwrap();
        other.write_all(b"b").unwrap();
        one.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b");
        channel.stall();
        one.write_all(b"c").unwrap();
        other.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(is_wait(&other.read_exact(&mut byte).unwrap_err()));
        drop(one);
        assert!(is_wait(&other.read_exact(&mut byte).unwrap_err()), "its end is not told either");
        drop(channel);
    }
}

//! A stream that nobody reads: a pipe that is full from the start, as the standard error of a service whose journal stands still.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};

/// What the pipe holds.
const SIZE: usize = 4096;

/// Both ends of the pipe.
#[derive(Debug)]
pub struct Unread {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Unread {
    /// One that is full.
    pub fn new() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        ensure!(fcntl_setpipe_size(&writer, SIZE)? == SIZE, "the pipe is larger than a page");
        File::from(writer.try_clone()?).write_all(&[b'\n'; SIZE])?;
        Ok(Self { reader, writer })
    }

    /// Its end for a process.
    pub fn stdio(&self) -> Result<Stdio> {
        Ok(self.writer.try_clone()?.into())
    }

    /// Whether who writes now waits.
    pub fn is_full(&self) -> Result<bool> {
        let mut ends = [PollFd::from_borrowed_fd(self.writer.as_fd(), PollFlags::OUT)];
        Ok(poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0)
    }

    /// From now on somebody reads, until all who write are gone.
    pub fn read(self) -> Reading {
        self.read_slowly(Duration::ZERO)
    }

    /// The same, with a pause after each line or so.
    pub fn read_slowly(self, pause: Duration) -> Reading {
        let Self { reader, writer } = self;
        drop(writer);
        let text = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&text);
        let thread = thread::spawn(move || {
            let (mut reader, mut some) = (File::from(reader), [0; SIZE]);
            let at_once = if pause.is_zero() { SIZE } else { 128 };
            loop {
                let n = reader.read(&mut some[..at_once]).expect("a pipe");
                if n == 0 {
                    return;
                }
                all.lock().expect("whoever reads has not panicked").extend_from_slice(&some[..n]);
                thread::sleep(pause);
            }
        });
        Reading { text, thread }
    }

    /// From now on there is nobody who could read.
    pub fn close(self) {}
}

/// What somebody reads.
#[derive(Debug)]
pub struct Reading {
    text: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reading {
    /// What was read so far, but what the pipe was full of.
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.text.lock().expect("the reader has not panicked");
        String::from_utf8_lossy(&text).trim_start().to_owned()
    }

    /// All of it, once all who write are gone.
    #[must_use]
    pub fn end(self) -> String {
        let Self { text, thread } = self;
        thread.join().expect("the reader has not panicked");
        let text = text.lock().expect("the reader has not panicked");
        String::from_utf8_lossy(&text).trim_start().to_owned()
    }
}

//! What this process says: its log on standard error, and lines on standard output. Who says something never waits for who reads it.
//!
//! Each of the two has a thread of its own that writes, behind a queue of at most [`LINES`] pieces of at most [`LONGEST`] bytes.
//! What finds no room there is dropped. What the stream does not take, closed or on a full disk, is lost. Both are counted, and
//! ahead of the next line of the log that is written stands how many are missing. At the end [`finish`] waits for what is in the
//! queues for as long as somebody reads. [`print()`] alone waits for its reader: for the result of a command that ends with it.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder};
use tracing_subscriber::fmt::MakeWriter;

/// Pieces that wait for the reader of one stream.
pub const LINES: usize = 4096;
/// Longest piece; a longer line is several.
pub const LONGEST: usize = 8192;
/// Name of the counter of [`log_missing`].
pub const MISSING: &str = "log_lines_dropped";
/// At the end: as long as this nothing is read, and nobody reads.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// At the end: no longer than this, however slowly somebody reads.
pub const LAST: Duration = Duration::from_secs(5);

static LOG: OnceLock<Lane> = OnceLock::new();
static OUT: OnceLock<Lane> = OnceLock::new();

fn log() -> &'static Lane {
    LOG.get_or_init(|| Lane::new("log", io::stderr(), true))
}

fn out() -> &'static Lane {
    OUT.get_or_init(|| Lane::new("stdout", io::stdout(), false))
}

/// The writer of the log, for `tracing`.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        log().give(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// To be called first: starts the thread of the log, as one that is like all others, and has panics logged.
pub fn start() {
    log();
    panic::set_hook(Box::new(|why| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("?");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            say(format_args!("colo: thread {name} {why}\n{trace}"));
        } else {
            say(format_args!("colo: thread {name} {why}"));
        }
    }));
}

/// Says a line on standard error.
pub fn say(line: fmt::Arguments<'_>) {
    log().give(format!("{line}\n").as_bytes());
}

/// Passes on what somebody else said for standard error, as it is.
pub fn pass_on(text: &[u8]) {
    log().give(text);
}

/// Says a line on standard output.
pub fn line(line: fmt::Arguments<'_>) {
    out().give(format!("{line}\n").as_bytes());
}

/// Lines that are missing in the log.
#[must_use]
pub fn log_missing() -> u64 {
    log().missing()
}

/// Lines of [`line()`] that are missing on standard output.
#[must_use]
pub fn lines_missing() -> u64 {
    out().missing()
}

/// Prints a result on standard output, and waits for its reader. One that has left does not want it.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        say(format_args!("colo: standard output takes nothing: {error}"));
    }
}

/// To be called when all else has ended, and before [`finish`]: waits likewise, so that the reason of the end finds room.
pub fn make_room() {
    log().drain(end());
}

/// To be called last: waits until all is written, or nobody reads for [`PATIENCE`], at most [`LAST`] from the first of these calls on.
pub fn finish() {
    let end = end();
    if let Some(out) = OUT.get() {
        out.drain(end);
        let missing = out.missing();
        if missing > 0 {
            say(format_args!("colo: {missing} lines of standard output found no reader"));
        }
    }
    log().drain(end);
}

fn end() -> Instant {
    static END: OnceLock<Instant> = OnceLock::new();
    *END.get_or_init(|| Instant::now() + LAST)
}

/// A stream with its queue and the thread that writes.
#[derive(Debug)]
struct Lane {
    queue: NonBlocking,
    dropped: ErrorCounter,
    /// Pieces that were said.
    given: AtomicU64,
    /// How far the thread was when it was waited for in vain.
    stuck: AtomicU64,
    written: Arc<Written>,
}

/// What the thread has done.
#[derive(Debug, Default)]
struct Written {
    /// Pieces taken off the queue and written, or lost.
    handled: Mutex<u64>,
    changed: Condvar,
    /// Pieces that the stream did not take.
    failed: AtomicU64,
    dropped: OnceLock<ErrorCounter>,
}

impl Written {
    fn missing(&self) -> u64 {
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        dropped as u64 + self.failed.load(Ordering::Relaxed)
    }
}

impl Lane {
    /// With `notes`, what is missing is said in the stream itself.
    fn new(name: &str, stream: impl AsFd + Send + 'static, notes: bool) -> Self {
        let written = Arc::new(Written::default());
        let sink = Sink { stream, notes, told: 0, written: Arc::clone(&written) };
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES);
        let (queue, guard) = builder.thread_name(name).finish(sink);
        // Dropped, it would wait for a time that is not ours, and complain on standard output. The thread ends with the process.
        std::mem::forget(guard);
        let dropped = queue.error_counter();
        let _ = written.dropped.set(dropped.clone());
        Self { queue, dropped, given: AtomicU64::new(0), stuck: AtomicU64::new(u64::MAX), written }
    }

    /// Never waits.
    fn give(&self, text: &[u8]) {
        for piece in text.chunks(LONGEST) {
            self.given.fetch_add(1, Ordering::AcqRel);
            // It takes everything: what it drops it counts.
            let _ = self.queue.clone().write_all(piece);
        }
    }

    fn missing(&self) -> u64 {
        self.written.missing()
    }

    /// Waits until all that was given by now is off the queue; false if nobody reads.
    fn drain(&self, end: Instant) -> bool {
        let given = self.given.load(Ordering::Acquire);
        let mut handled = self.written.handled.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut last, mut since) = (*handled, Instant::now());
        let mut patience = if self.stuck.load(Ordering::Relaxed) == last { Duration::ZERO } else { PATIENCE };
        while *handled + (self.dropped.dropped_lines() as u64) < given {
            let now = Instant::now();
            if *handled != last {
                (last, since, patience) = (*handled, now, PATIENCE);
            }
            let until = end.min(since + patience);
            if now >= until {
                self.stuck.store(last, Ordering::Relaxed);
                return false;
            }
            let waited = self.written.changed.wait_timeout(handled, until - now);
            handled = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// The thread's end: what it is given it writes, or counts as lost.
struct Sink<S> {
    stream: S,
    notes: bool,
    /// Of what is missing, what was said to be.
    told: u64,
    written: Arc<Written>,
}

impl<S: AsFd> Sink<S> {
    fn put(&self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match rustix::io::write(&self.stream, text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => text = &text[n..],
                Err(Errno::INTR) => {}
                // Whoever shares the stream has made it so.
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::new(&self.stream, PollFlags::OUT)];
                    match poll(&mut ready, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn note(&mut self) {
        let missing = self.written.missing();
        if self.notes && missing > self.told {
            let note =
                format!("colo: {} lines of this log are missing: nobody read it\n", missing - self.told);
            if self.put(note.as_bytes()).is_ok() {
                self.told = missing;
            }
        }
    }
}

impl<S: AsFd> Write for Sink<S> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.write_all(piece).map(|()| piece.len())
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        self.note();
        if self.put(piece).is_err() {
            self.written.failed.fetch_add(1, Ordering::Relaxed);
        }
        *self.written.handled.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.written.changed.notify_all();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

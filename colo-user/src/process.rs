//! A shell command in a process group of its own. Dropping it kills the whole group while the command has not been
//! reaped, and so does [`end_all`] for those that nobody drops any more: neither a time limit nor the agent's end leaves one behind.
//!
//! What it says, on either stream, is read for as long as anybody can say something, so that nobody waits in a write: neither for
//! a reader of the agent's own log, nor for the agent. The first [`OUTPUT`] bytes of each command go on to the agent's log
//! ([`output`]), whole lines at a time; the rest is counted.

use crate::output;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// Bytes of what one command says that are logged.
pub const OUTPUT: usize = 64 << 10;
/// Name of the counter of [`unlogged`].
pub const UNLOGGED: &str = "hook_lines_dropped";
/// Bytes read at a time: what lies in a pipe of the default size is a few reads.
const READ: usize = 16 << 10;
/// Reads that a command which has ended gets for its last words, where others go on talking.
const LAST_READS: usize = 64;

static NOT_LOGGED: AtomicU64 = AtomicU64::new(0);
/// The groups of commands that were not reaped.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To be called when the process ends: kills every command that runs, with its group.
pub fn end_all() {
    for group in std::mem::take(&mut *running()) {
        kill(group);
    }
}

fn kill(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        // It may end at this very moment.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Lines of commands beyond what is logged.
#[must_use]
pub fn unlogged() -> u64 {
    NOT_LOGGED.load(Ordering::Relaxed)
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    child: Child,
    /// Until the child is reaped.
    group: Option<i32>,
    said: Said,
}

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Status(ExitStatus),
    /// It ran longer than it may and was killed.
    TimedOut,
    /// Its end could not be learned.
    Lost(io::Error),
}

impl Group {
    /// Starts `sh -c command` with these variables besides the agent's own. Its standard input is empty, its output goes to the
    /// agent's log.
    ///
    /// # Errors
    /// There is no shell, or no process or descriptor is left.
    pub fn spawn(
        command: &str,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut said = Said::default();
        said.pipe = Some(Receiver::from_owned_fd(reader.into())?);
        let child = Command::new("sh")
            .args(["-c", command])
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        running().extend(group);
        Ok(Self { child, group, said })
    }

    /// Waits for the end, at most `limit`.
    pub async fn wait(mut self, limit: Duration) -> Ended {
        let Self { child, said, .. } = &mut self;
        let end = async {
            tokio::select! {
                ended = child.wait() => ended,
                never = async { said.read_on().await; pending::<Infallible>().await } => match never {},
            }
        };
        let ended = match tokio::time::timeout(limit, end).await {
            Ok(Ok(status)) => Ended::Status(status),
            Ok(Err(error)) => Ended::Lost(error),
            Err(_) => return Ended::TimedOut,
        };
        self.reaped();
        self.said.last_words();
        if self.said.pipe.is_some() {
            // What it has left behind talks on.
            let mut said = std::mem::take(&mut self.said);
            tokio::spawn(async move { said.read_on().await });
        }
        ended
    }
}

impl Group {
    /// From now on its number may be another's.
    fn reaped(&mut self) -> Option<i32> {
        let group = self.group.take()?;
        running().remove(&group);
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The runtime reaps it.
        if let Some(group) = self.reaped() {
            kill(group);
        }
    }
}

/// What a command says.
#[derive(Debug, Default)]
struct Said {
    /// None once nobody can say any more.
    pipe: Option<Receiver>,
    /// The last line as far as it was said.
    line: Vec<u8>,
    /// Bytes that went on to the log, or are in `line`.
    logged: usize,
    /// Lines that did not.
    unlogged: u64,
}

impl Said {
    /// Reads until nobody can say any more.
    async fn read_on(&mut self) {
        let mut buffer = vec![0; READ];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer).await {
                Ok(0) | Err(_) => self.pipe = None,
                Ok(n) => self.heard(&buffer[..n]),
            }
        }
    }

    /// Reads what lies in the pipe.
    fn last_words(&mut self) {
        let mut buffer = vec![0; READ];
        for _ in 0..LAST_READS {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(n) if n > 0 => self.heard(&buffer[..n]),
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    fn heard(&mut self, said: &[u8]) {
        let (now, too_much) = said.split_at(said.len().min(OUTPUT - self.logged));
        self.logged += now.len();
        self.line.extend_from_slice(now);
        if let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') {
            output::pass_on(&self.line[..=end]);
            self.line.drain(..=end);
        }
        let lines = too_much.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.unlogged += lines;
        NOT_LOGGED.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            output::pass_on(&self.line);
        }
        if self.unlogged > 0 {
            let lines = self.unlogged;
            output::say(format_args!(
                "colo: {lines} lines more of a command are not logged: it said more than {OUTPUT} bytes"
            ));
        }
    }
}

#[cfg(test)]
mod tests;

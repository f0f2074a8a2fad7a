//! The shell around [`Session`] for the control plane.
//!
//! A task of its own owns the socket: it connects, and connects again with [`BACKOFF`] growing to [`BACKOFF_MAX`], for as
//! long as a [`Client`] exists. Dropping the last one closes the connection. A call that is dropped is not taken
//! back: QEMU may do it all the same. Notices go to every [`Notices`] subscribed; one that is more than
//! [`MAX_NOTICES`] behind is told how many it missed ([`Notice::Lagged`]).

use std::{borrow::Cow, collections::HashMap, io, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{broadcast, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    command::{Call, Command},
    session::{Failure, Notice, Output, Session, Ticket},
};
use crate::{
    link::{async_stream::AsyncStream, endpoint::Endpoint},
    mono::Mono,
};

/// First pause between two attempts to connect.
pub const BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Limit of one attempt.
pub const CONNECT: Duration = Duration::from_secs(2);
/// Notices kept for a follower that does not read.
pub const MAX_NOTICES: usize = 1024;
/// Calls handed over and not yet looked at; callers wait beyond.
const MAX_CALLS: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// A command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// In QEMU, or on the way to it.
    #[error("QMP {endpoint}: `{command}`: {failure}")]
    Failed {
        /// The monitor.
        endpoint: Endpoint,
        /// The command.
        command: Cow<'static, str>,
        /// Why.
        failure: Failure,
    },
    /// QEMU answered something else.
    #[error("QMP {endpoint}: `{command}`: cannot read the answer `{answer}`: {reason}")]
    Answer {
        /// The monitor.
        endpoint: Endpoint,
        /// The command.
        command: Cow<'static, str>,
        /// What came.
        answer: String,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
}

impl QmpError {
    /// Why a command failed; nothing if QEMU did it and the answer cannot be read.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } => Some(failure),
            Self::Answer { .. } => None,
        }
    }
}

/// A call on its way to the task.
#[derive(Debug)]
struct Asked {
    call: Call,
    answer: oneshot::Sender<Result<Value, Failure>>,
}

/// A handle to one monitor. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    calls: mpsc::Sender<Asked>,
    notices: broadcast::Sender<Notice>,
}

/// What happens to the VM, from the moment of subscription.
#[derive(Debug)]
pub struct Notices(broadcast::Receiver<Notice>);

impl Notices {
    /// The next notice; none when the client is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Notice::Lagged(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next notice, if it is there already.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.0.try_recv() {
            Ok(notice) => Some(notice),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Notice::Lagged(missed)),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

impl Client {
    /// Follows the monitor at `endpoint`, which need not be there yet; QEMU is the one that listens. Call it inside a
    /// tokio runtime. The notices begin with the first `Up`.
    #[must_use]
    pub fn open(endpoint: Endpoint) -> (Self, Notices) {
        let (calls, asked) = mpsc::channel(MAX_CALLS);
        let (notices, first) = broadcast::channel(MAX_NOTICES);
        let client = Self { endpoint: Arc::new(endpoint), calls, notices };
        let shell = Shell {
            endpoint: Arc::clone(&client.endpoint),
            session: Session::new(),
            asked,
            answers: HashMap::new(),
            notices: client.notices.clone(),
        };
        tokio::spawn(shell.run());
        (client, Notices(first))
    }

    /// A further follower.
    #[must_use]
    pub fn subscribe(&self) -> Notices {
        Notices(self.notices.subscribe())
    }

    /// Has QEMU do something.
    ///
    /// # Errors
    /// It was refused, or not answered in time, or there is no connection: see [`Failure`].
    pub async fn call<R: DeserializeOwned>(&self, command: Command<R>) -> Result<R, QmpError> {
        let name = command.call.name.clone();
        let (answer, outcome) = oneshot::channel();
        let ended = || Failure::Down { reason: "the client has ended".to_owned(), sent: false };
        let outcome = match self.calls.send(Asked { call: command.call, answer }).await {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err(ended())),
            Err(_) => Err(ended()),
        };
        let endpoint = || Endpoint::clone(&self.endpoint);
        let value = outcome.map_err(|failure| QmpError::Failed {
            endpoint: endpoint(),
            command: name.clone(),
            failure,
        })?;
        let shown = value.to_string();
        Command::<R>::parse(value).map_err(|reason| QmpError::Answer {
            endpoint: endpoint(),
            command: name,
            answer: shown,
            reason,
        })
    }
}

/// What the task owns.
struct Shell {
    endpoint: Arc<Endpoint>,
    session: Session,
    asked: mpsc::Receiver<Asked>,
    answers: HashMap<Ticket, oneshot::Sender<Result<Value, Failure>>>,
    notices: broadcast::Sender<Notice>,
}

/// All clients are gone.
struct Over;

impl Shell {
    async fn run(mut self) {
        let mut pause = BACKOFF;
        loop {
            let endpoint = Arc::clone(&self.endpoint);
            let Ok(attempt) = self.answering(AsyncStream::connect(&endpoint, CONNECT)).await else { return };
            let reason = match attempt {
                Ok(stream) => self.talk(stream).await,
                Err(error) => Ok(format!("{error:#}")),
            };
            let Ok(reason) = reason else { return };
            if self.session.is_up() {
                pause = BACKOFF;
                warn!("QMP {endpoint}: {reason}; connecting again");
            } else {
                debug!("QMP {endpoint}: {reason}; next attempt in {pause:?}");
            }
            let mut out = Vec::new();
            self.session.disconnected(Mono::now(), &reason, &mut out);
            self.act(out, &mut Vec::new());
            if self.answering(sleep(pause)).await.is_err() {
                return;
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits without a connection: every call is told so.
    async fn answering<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Over> {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return Ok(done),
                asked = self.asked.recv() => self.give(asked.ok_or(Over)?, &mut Vec::new()),
            }
        }
    }

    /// Talks until the connection is lost and says why.
    async fn talk(&mut self, stream: AsyncStream) -> Result<String, Over> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = Vec::with_capacity(CHUNK);
        let mut unwritten = Vec::new();
        let was_known = self.session.known().is_some();
        self.session.connected(Mono::now());
        loop {
            let deadline = self.session.next_deadline();
            let wait = deadline.map(|at| Instant::now() + at.saturating_since(Mono::now()));
            let mut out = Vec::new();
            tokio::select! {
                read = reader.read_buf(&mut input) => match lost(read, "QEMU closed the monitor") {
                    Ok(_) => {
                        let up = self.session.is_up();
                        self.session.input(Mono::now(), &input, &mut out);
                        input.clear();
                        if !up && self.session.is_up() {
                            let again = if was_known { " again" } else { "" };
                            info!("QMP {}: connected{again}", self.endpoint);
                        }
                    }
                    Err(reason) => return Ok(reason),
                },
                written = writer.write(&unwritten), if !unwritten.is_empty() => {
                    match lost(written, "QEMU takes no more") {
                        Ok(count) => drop(unwritten.drain(..count)),
                        Err(reason) => return Ok(reason),
                    }
                }
                asked = self.asked.recv() => self.give(asked.ok_or(Over)?, &mut unwritten),
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {
                    self.session.tick(Mono::now(), &mut out);
                }
            }
            if let Some(reason) = self.act(out, &mut unwritten) {
                return Ok(reason);
            }
        }
    }

    fn give(&mut self, asked: Asked, unwritten: &mut Vec<u8>) {
        let mut out = Vec::new();
        let ticket = self.session.command(Mono::now(), asked.call, &mut out);
        self.answers.insert(ticket, asked.answer);
        self.act(out, unwritten);
    }

    /// Does what the session wants; a reason if that is to close the connection.
    fn act(&mut self, out: Vec<Output>, unwritten: &mut Vec<u8>) -> Option<String> {
        let mut close = None;
        for output in out {
            match output {
                Output::Write(line) => unwritten.extend_from_slice(&line),
                Output::Reply { ticket, outcome } => {
                    if let Some(answer) = self.answers.remove(&ticket) {
                        // Whoever asked may have given up.
                        let _ = answer.send(outcome);
                    }
                }
                // Nobody needs to follow.
                Output::Notice(notice) => drop(self.notices.send(notice)),
                Output::Close(reason) => close = Some(reason),
            }
        }
        close
    }
}

/// A read or write that moved nothing is the end.
fn lost(outcome: io::Result<usize>, at_end: &str) -> Result<usize, String> {
    match outcome {
        Ok(0) => Err(at_end.to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

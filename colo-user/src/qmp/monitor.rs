//! The shell around [`Session`] for a thread that polls by itself.
//!
//! QEMU writes STOP and RESUME before a vCPU runs again. So a thread that calls [`Monitor::service`] after it took a
//! frame from its guest, and before it decides it, has heard of every checkpoint that the frame comes after. States:
//! *apart* (until the next attempt, [`PAUSE`] later), *connecting*, *joined*. Nothing here waits; dropping it closes the
//! connection.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use serde_json::Value;

use super::{
    command::Call,
    session::{Failure, Notice, Output, Session, Ticket},
};
use crate::{
    link::endpoint::{Endpoint, EndpointError, Stream, Targets},
    mono::Mono,
};

/// Between two attempts to connect.
pub const PAUSE: Duration = Duration::from_millis(200);
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

/// What came of servicing a monitor, in the order in which QEMU said it.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// About the VM.
    Notice(Notice),
    /// A command is over.
    Reply {
        /// Which.
        ticket: Ticket,
        /// How it ended.
        outcome: Result<Value, Failure>,
    },
}

#[derive(Debug)]
enum State {
    Apart { until: Mono },
    Connecting(Stream),
    Joined(Stream),
}

/// See the module.
#[derive(Debug)]
pub struct Monitor {
    endpoint: Endpoint,
    targets: Targets,
    state: State,
    session: Session,
    unwritten: Vec<u8>,
    chunk: Vec<u8>,
}

impl Monitor {
    /// A monitor that QEMU serves, or will. A host name is looked up here, which may block.
    ///
    /// # Errors
    /// The name has no address.
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let targets = endpoint.resolve()?;
        Ok(Self {
            endpoint,
            targets,
            state: State::Apart { until: Mono::ZERO },
            session: Session::new(),
            unwritten: Vec::new(),
            chunk: vec![0; CHUNK],
        })
    }

    /// Closes it: the same monitor, to be connected to as if for the first time.
    #[must_use]
    pub fn anew(self) -> Self {
        let (state, session) = (State::Apart { until: Mono::ZERO }, Session::new());
        Self { state, session, unwritten: Vec::new(), ..self }
    }

    /// Where it is.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The session, to be asked.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// What to poll for input, and whether for room to write as well.
    #[must_use]
    pub fn poll(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.state {
            State::Apart { .. } => None,
            State::Connecting(stream) => Some((stream.as_fd(), true)),
            State::Joined(stream) => Some((stream.as_fd(), !self.unwritten.is_empty())),
        }
    }

    /// When to service it although nothing polls ready.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match self.state {
            State::Apart { until } => Some(until),
            State::Connecting(_) | State::Joined(_) => self.session.next_deadline(),
        }
    }

    /// Gives a command; it is written by the next [`Monitor::service`], which also tells how it ended.
    pub fn give(&mut self, now: Mono, call: Call, heard: &mut Vec<Heard>) -> Ticket {
        let mut out = Vec::new();
        let ticket = self.session.command(now, call, &mut out);
        self.act(out, heard);
        ticket
    }

    /// Does all that can be done without waiting: reads until nothing is left, then keeps the time limits, then writes.
    pub fn service(&mut self, now: Mono, heard: &mut Vec<Heard>) {
        if let Err(reason) = self.try_service(now, heard) {
            self.state = State::Apart { until: now + PAUSE };
            let mut out = Vec::new();
            self.session.disconnected(now, &reason, &mut out);
            self.act(out, heard);
            self.unwritten.clear();
        }
    }

    fn try_service(&mut self, now: Mono, heard: &mut Vec<Heard>) -> Result<(), String> {
        self.join(now)?;
        while let State::Joined(stream) = &mut self.state {
            let count = match stream.read(&mut self.chunk) {
                Ok(0) => return Err("QEMU closed the monitor".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut out = Vec::new();
            self.session.input(now, &self.chunk[..count], &mut out);
            self.act(out, heard).map_or(Ok(()), Err)?;
        }
        let mut out = Vec::new();
        self.session.tick(now, &mut out);
        self.act(out, heard).map_or(Ok(()), Err)?;
        while let State::Joined(stream) = &mut self.state
            && !self.unwritten.is_empty()
        {
            match stream.write(&self.unwritten) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Goes on with the connection as far as it goes.
    fn join(&mut self, now: Mono) -> Result<(), String> {
        if let State::Apart { until } = self.state
            && until <= now
        {
            self.state = State::Connecting(self.targets.begin_connect().map_err(|error| error.to_string())?);
            self.session.connected(now);
        }
        if let State::Connecting(stream) = &self.state
            && finished(stream).map_err(|error| error.to_string())?
            && let State::Connecting(stream) =
                std::mem::replace(&mut self.state, State::Apart { until: now + PAUSE })
        {
            self.state = State::Joined(stream);
        }
        Ok(())
    }

    /// Does what the session wants; a reason if that is to close the connection.
    fn act(&mut self, out: Vec<Output>, heard: &mut Vec<Heard>) -> Option<String> {
        let mut close = None;
        for output in out {
            match output {
                Output::Write(line) => self.unwritten.extend_from_slice(&line),
                Output::Reply { ticket, outcome } => heard.push(Heard::Reply { ticket, outcome }),
                Output::Notice(notice) => heard.push(Heard::Notice(notice)),
                Output::Close(reason) => close = Some(reason),
            }
        }
        close
    }
}

/// Whether a connection that was begun is there.
fn finished(stream: &Stream) -> io::Result<bool> {
    stream.finish_connect()?;
    let mut fd = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::OUT)];
    Ok(rustix::event::poll(&mut fd, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

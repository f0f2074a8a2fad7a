//! One monitor, over all its connections, without any I/O.
//!
//! ```text
//!  Down ──connected()──▶ Greeting ──▶ Negotiating ──▶ Looking ──▶ Up
//!   ▲                                                              │
//!   └────────────── disconnected(), Close, HANDSHAKE over ─────────┘
//! ```
//!
//! Looking asks where the VM is (`query-status`, `query-migrate`, `query-colo-status`) and ends with
//! [`Notice::Up`]. Events come out in the order of the stream: those before the answer of `query-status` before
//! [`Notice::Up`], whose snapshot contains them, all later ones after it. From the second connection on it carries
//! the [`Gap`] in which events may have been missed.
//!
//! A command is in a queue of at most [`MAX_WAITING`], then on its way, at most [`IN_BAND_WINDOW`] at a time: QEMU stops
//! reading, out-of-band commands too, when its own queue of eight is full. Out-of-band commands go at once, up to
//! [`MAX_OOB`]. Each has a time limit from the moment it is given; one that passes its limit unsent is never sent, one
//! that was sent keeps its place in the window until QEMU answers after all. A reply to an id that is not ours is counted
//! and passed over.

use std::{collections::VecDeque, time::Duration};

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{
    codec::{Decoder, ErrorReply, Message},
    command::{self, Call, Command},
    event::{Event, EventKind},
    state::{ColoStatus, Migration, MigrationStatus, Snapshot, Status},
};
use crate::mono::Mono;

/// From the connection to [`Notice::Up`].
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// In-band commands that QEMU has not answered yet.
pub const IN_BAND_WINDOW: usize = 4;
/// Out-of-band commands that QEMU has not answered yet; further ones are refused.
pub const MAX_OOB: usize = 8;
/// Commands not yet sent; further ones are refused.
pub const MAX_WAITING: usize = 64;
/// Events kept between the answer of `query-status` and the end of the look; one more ends the connection, and
/// with it becomes part of a gap that is reported.
pub const MAX_KEPT: usize = 256;

/// Names a command that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write these bytes.
    Write(Vec<u8>),
    /// A command is over.
    Reply {
        /// Which.
        ticket: Ticket,
        /// How it ended.
        outcome: Result<Value, Failure>,
    },
    /// Tell whoever follows the VM.
    Notice(Notice),
    /// Close the connection; the session is down already.
    Close(String),
}

/// What whoever follows the VM must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The monitor answers, and this is where the VM is.
    Up {
        /// Where it is.
        snapshot: Snapshot,
        /// What may have been missed since the connection before.
        gap: Option<Gap>,
    },
    /// Something happened.
    Event(Event),
    /// The connection is lost: nothing is known from here to the next `Up`.
    Down {
        /// Why.
        reason: String,
    },
    /// This follower was too slow and so many notices were thrown away: as good as a gap.
    Lagged(u64),
}

/// The time in which nothing was heard of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it was.
    pub before: Snapshot,
    /// The connection was lost.
    pub since: Mono,
    /// The next one got through.
    pub until: Mono,
    /// A STOP and RESUME of a checkpoint may have been missed: the VM was in COLO at one end of the gap, or its
    /// migration has moved on. The epoch is known only after a checkpoint that is seen from its beginning.
    pub epochs_in_doubt: bool,
}

/// Why a command came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// QEMU refused it.
    #[error("{}: {}", .0.class, .0.desc)]
    Refused(ErrorReply),
    /// QEMU did not answer in time.
    #[error("no answer within {limit:?}; {}", if *.sent { "QEMU may still do it" } else { "it was not sent, others wait for an answer" })]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// Whether QEMU got it.
        sent: bool,
    },
    /// There is no connection, or it was lost before the answer.
    #[error("{reason}; {}", if *.sent { "QEMU may have done it" } else { "it was not sent" })]
    Down {
        /// Why.
        reason: String,
        /// Whether QEMU got it.
        sent: bool,
    },
    /// Too many commands wait.
    #[error("{MAX_WAITING} commands wait already (out of band: {MAX_OOB})")]
    Full,
    /// An out-of-band command, and the monitor offers none.
    #[error("this monitor offers no out-of-band commands: use a -qmp socket of QEMU 3.0 or later")]
    NoOob,
}

/// What was passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Replies with an id that was never given here.
    pub foreign_replies: u64,
    /// Replies to commands that were over by then.
    pub late_replies: u64,
    /// Messages of no known kind.
    pub unknown_messages: u64,
    /// Commands that passed their limit.
    pub timed_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Greeting,
    Negotiating,
    Looking,
    Up,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Caller(Ticket),
    Negotiation,
    Status,
    Migration,
    Colo,
    /// Nobody any more.
    Over,
}

/// A command on its way.
#[derive(Clone, Debug)]
struct Flying {
    id: u64,
    oob: bool,
    limit: Duration,
    deadline: Mono,
    owner: Owner,
}

/// A command not sent yet.
#[derive(Clone, Debug)]
struct Waiting {
    ticket: Ticket,
    call: Call,
    deadline: Mono,
}

/// The answers of a look, as they come.
#[derive(Clone, Debug, Default)]
struct Look {
    status: Option<Status>,
    migration: Option<Migration>,
    colo: Option<ColoStatus>,
    kept: Vec<Event>,
}

impl Look {
    /// One answer of the handshake.
    fn take(&mut self, owner: Owner, outcome: Result<Value, ErrorReply>) -> Result<(), String> {
        let value = match (owner, outcome) {
            // A QEMU built without COLO does not know the question.
            (Owner::Colo, Err(_)) => json!({ "mode": "none", "last-mode": "none" }),
            (_, Err(error)) => return Err(error.desc),
            (_, Ok(value)) => value,
        };
        let unreadable = |error: serde_json::Error| error.to_string();
        match owner {
            Owner::Status => self.status = Some(Status::deserialize(value).map_err(unreadable)?),
            Owner::Migration => self.migration = Some(Migration::deserialize(value).map_err(unreadable)?),
            Owner::Colo => self.colo = Some(ColoStatus::deserialize(value).map_err(unreadable)?),
            Owner::Caller(_) | Owner::Negotiation | Owner::Over => {}
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    decoder: Decoder,
    last_id: u64,
    oob: bool,
    waiting: VecDeque<Waiting>,
    flying: Vec<Flying>,
    handshake: Mono,
    look: Look,
    known: Option<Snapshot>,
    /// Where it was when the connection was lost, and when that was.
    lost: Option<(Snapshot, Mono)>,
    reason: String,
    counters: Counters,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session that was never connected.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Down,
            decoder: Decoder::default(),
            last_id: 0,
            oob: false,
            waiting: VecDeque::new(),
            flying: Vec::new(),
            handshake: Mono::ZERO,
            look: Look::default(),
            known: None,
            lost: None,
            reason: "not connected yet".to_owned(),
            counters: Counters::default(),
        }
    }

    /// Where the VM is by all that was heard; none before the first look.
    #[must_use]
    pub fn known(&self) -> Option<&Snapshot> {
        self.known.as_ref()
    }

    /// Whether commands are taken.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// What was passed over so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A connection has come to be; QEMU speaks first.
    pub fn connected(&mut self, now: Mono) {
        self.phase = Phase::Greeting;
        self.decoder = Decoder::default();
        self.look = Look::default();
        self.handshake = now + HANDSHAKE;
    }

    /// No connection came to be, or it was lost: what commands are told from now on.
    pub fn disconnected(&mut self, now: Mono, reason: &str, out: &mut Vec<Output>) {
        reason.clone_into(&mut self.reason);
        for flight in self.flying.drain(..) {
            if let Owner::Caller(ticket) = flight.owner {
                let failure = Failure::Down { reason: reason.to_owned(), sent: true };
                out.push(Output::Reply { ticket, outcome: Err(failure) });
            }
        }
        for waiting in self.waiting.drain(..) {
            let failure = Failure::Down { reason: reason.to_owned(), sent: false };
            out.push(Output::Reply { ticket: waiting.ticket, outcome: Err(failure) });
        }
        if self.phase == Phase::Up {
            self.lost = self.known.map(|known| (known, now));
            out.push(Output::Notice(Notice::Down { reason: reason.to_owned() }));
        }
        self.phase = Phase::Down;
    }

    /// Gives a command. Its reply may be among the outputs already.
    pub fn command(&mut self, now: Mono, call: Call, out: &mut Vec<Output>) -> Ticket {
        self.last_id += 1;
        let ticket = Ticket(self.last_id);
        let oob_flying = self.flying.iter().filter(|flight| flight.oob).count();
        let refusal = match () {
            () if self.phase != Phase::Up => Some(Failure::Down { reason: self.reason.clone(), sent: false }),
            () if call.oob && !self.oob => Some(Failure::NoOob),
            () if call.oob && oob_flying >= MAX_OOB => Some(Failure::Full),
            () if !call.oob && self.waiting.len() >= MAX_WAITING => Some(Failure::Full),
            () => None,
        };
        if let Some(failure) = refusal {
            out.push(Output::Reply { ticket, outcome: Err(failure) });
            return ticket;
        }
        let deadline = now + call.limit;
        if call.oob {
            self.send(ticket.0, &call, deadline, Owner::Caller(ticket), out);
        } else {
            self.waiting.push_back(Waiting { ticket, call, deadline });
            self.pump(out);
        }
        ticket
    }

    /// Bytes have come.
    pub fn input(&mut self, now: Mono, bytes: &[u8], out: &mut Vec<Output>) {
        if self.phase == Phase::Down {
            return;
        }
        self.decoder.push(bytes);
        loop {
            match self.decoder.message() {
                Ok(Some(message)) => self.message(now, message, out),
                Ok(None) => return,
                Err(error) => self.close(now, error.to_string(), out),
            }
            if self.phase == Phase::Down {
                return;
            }
        }
    }

    /// When [`Session::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let handshake = matches!(self.phase, Phase::Greeting | Phase::Negotiating | Phase::Looking);
        let flying = self.flying.iter().filter(|f| matches!(f.owner, Owner::Caller(_))).map(|f| f.deadline);
        let waiting = self.waiting.iter().map(|w| w.deadline);
        flying.chain(waiting).chain(handshake.then_some(self.handshake)).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Output>) {
        if matches!(self.phase, Phase::Greeting | Phase::Negotiating | Phase::Looking)
            && now >= self.handshake
        {
            let way_out = "QEMU is stopped, or another client holds this monitor: give the VM a -qmp of its own for colo";
            return self.close(now, format!("no QMP handshake within {HANDSHAKE:?}: {way_out}"), out);
        }
        let timed_out =
            |ticket, limit, sent| Output::Reply { ticket, outcome: Err(Failure::TimedOut { limit, sent }) };
        for flight in self.flying.iter_mut().filter(|flight| now >= flight.deadline) {
            if let Owner::Caller(ticket) = flight.owner {
                flight.owner = Owner::Over;
                self.counters.timed_out += 1;
                out.push(timed_out(ticket, flight.limit, true));
            }
        }
        self.waiting.retain(|waiting| {
            let over = now >= waiting.deadline;
            if over {
                self.counters.timed_out += 1;
                out.push(timed_out(waiting.ticket, waiting.call.limit, false));
            }
            !over
        });
    }

    fn close(&mut self, now: Mono, reason: String, out: &mut Vec<Output>) {
        self.disconnected(now, &reason, out);
        out.push(Output::Close(reason));
    }

    fn message(&mut self, now: Mono, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Greeting { oob, .. } if self.phase == Phase::Greeting => {
                self.oob = oob;
                self.phase = Phase::Negotiating;
                self.ask(&command::negotiate(oob), Owner::Negotiation, out);
            }
            Message::Return { id, value } => self.reply(now, &id, Ok(value), out),
            Message::Error { id, error } => self.reply(now, &id, Err(error), out),
            Message::Event(event) => self.event(now, event, out),
            Message::Greeting { .. } | Message::Unknown => self.counters.unknown_messages += 1,
        }
    }

    fn event(&mut self, now: Mono, event: Event, out: &mut Vec<Output>) {
        if self.phase == Phase::Looking && self.look.status.is_some() {
            if self.look.kept.len() == MAX_KEPT {
                return self.close(now, format!("more than {MAX_KEPT} events before the first answers"), out);
            }
            self.look.kept.push(event);
            return;
        }
        if let (Phase::Up, Some(known)) = (self.phase, &mut self.known) {
            match &event.kind {
                EventKind::Stop => known.status.running = false,
                EventKind::Resume => known.status.running = true,
                EventKind::Migration(status) => known.migration = Some(*status),
                _ => {}
            }
        }
        out.push(Output::Notice(Notice::Event(event)));
    }

    fn reply(&mut self, now: Mono, id: &Value, outcome: Result<Value, ErrorReply>, out: &mut Vec<Output>) {
        let ours = id.as_str().and_then(|id| id.strip_prefix(ID)?.parse::<u64>().ok());
        let Some(place) = self.flying.iter().position(|flight| Some(flight.id) == ours) else {
            self.counters.foreign_replies += 1;
            return;
        };
        match (self.flying.remove(place).owner, outcome) {
            (Owner::Caller(ticket), outcome) => {
                out.push(Output::Reply { ticket, outcome: outcome.map_err(Failure::Refused) });
            }
            (Owner::Over, _) => self.counters.late_replies += 1,
            (Owner::Negotiation, Ok(_)) => {
                self.phase = Phase::Looking;
                self.ask(&command::query_status(), Owner::Status, out);
                self.ask(&command::query_migrate(), Owner::Migration, out);
                self.ask(&command::query_colo_status(), Owner::Colo, out);
            }
            (owner, outcome) => {
                if let Err(reason) = self.look.take(owner, outcome) {
                    return self.close(now, format!("the QMP handshake failed: {reason}"), out);
                }
            }
        }
        self.looked(now, out);
        self.pump(out);
    }

    /// Ends the look when all its answers are there.
    fn looked(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Look { status: Some(status), migration: Some(ref migration), colo: Some(colo), .. } = self.look
        else {
            return;
        };
        let snapshot = Snapshot { status, migration: migration.status, colo };
        let gap = self.lost.take().map(|(before, since)| {
            let moved = settled(before.migration) != settled(snapshot.migration);
            let epochs_in_doubt = before.in_colo() || snapshot.in_colo() || moved;
            Gap { before, since, until: now, epochs_in_doubt }
        });
        self.phase = Phase::Up;
        self.known = Some(snapshot);
        out.push(Output::Notice(Notice::Up { snapshot, gap }));
        for event in std::mem::take(&mut self.look).kept {
            self.event(now, event, out);
        }
    }

    /// One of the session's own questions; the handshake's deadline is theirs.
    fn ask<R: serde::de::DeserializeOwned>(
        &mut self,
        command: &Command<R>,
        owner: Owner,
        out: &mut Vec<Output>,
    ) {
        self.last_id += 1;
        self.send(self.last_id, &command.call, self.handshake, owner, out);
    }

    /// Sends what the window has room for.
    fn pump(&mut self, out: &mut Vec<Output>) {
        while self.flying.iter().filter(|flight| !flight.oob).count() < IN_BAND_WINDOW {
            let Some(Waiting { ticket, call, deadline }) = self.waiting.pop_front() else { return };
            self.send(ticket.0, &call, deadline, Owner::Caller(ticket), out);
        }
    }

    fn send(&mut self, id: u64, call: &Call, deadline: Mono, owner: Owner, out: &mut Vec<Output>) {
        self.flying.push(Flying { id, oob: call.oob, limit: call.limit, deadline, owner });
        out.push(Output::Write(call.line(&format!("{ID}{id}"))));
    }
}

/// What our ids begin with, so that another client's on a shared connection are not taken for ours.
const ID: &str = "colo-";

/// No migration, said in two ways.
fn settled(status: Option<MigrationStatus>) -> MigrationStatus {
    status.unwrap_or(MigrationStatus::None)
}

#[cfg(test)]
mod tests;

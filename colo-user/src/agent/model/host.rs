//! One host of the model: its QEMU, its interface, and how far its agent is.

use crate::link::buffer::Outbox;
use crate::link::frame::Role;
use crate::mono::Mono;
use crate::qmp::{Event, EventKind, Notice};
use crate::vm::{Follower, Moment, Question, Told};
use std::collections::VecDeque;
use std::time::Duration;

/// What one side's QEMU and agent are at.
#[derive(Clone)]
pub(super) struct Host {
    pub vm: Follower,
    /// What the agent's next look finds.
    pub unread: VecDeque<Notice>,
    pub asked: Vec<Question>,
    pub last: Mono,
    /// Which state the guest is in; how far its agent is in its turn.
    pub state: u64,
    pub runs: bool,
    /// Stopped by an operator.
    pub paused: bool,
    pub turn: u8,
    pub ring: VecDeque<(Mono, u64)>,
    pub taken: VecDeque<(Mono, u64)>,
    pub tap: VecDeque<u64>,
    pub outbox: Outbox,
}

impl Host {
    pub fn new(side: Role) -> Self {
        Self {
            vm: Follower::new(side),
            unread: VecDeque::new(),
            asked: Vec::new(),
            last: Mono::ZERO,
            state: 1,
            runs: side == Role::Primary,
            paused: false,
            turn: 0,
            ring: VecDeque::new(),
            taken: VecDeque::new(),
            tap: VecDeque::new(),
            outbox: Outbox::default(),
        }
    }

    pub fn event(&mut self, kind: EventKind, stamped: Option<Mono>) {
        let at = stamped.map(|at| Duration::from_nanos(at.as_nanos()));
        self.unread.push_back(Notice::Event(Event { kind, at }));
    }

    /// What the agent hears now. QEMU answers what was asked in the look before.
    pub fn look(&mut self, now: Mono) -> VecDeque<Told> {
        let mut told = VecDeque::new();
        for question in std::mem::take(&mut self.asked) {
            let status = match (self.runs, self.paused) {
                (true, _) => "running",
                (_, true) => "paused",
                (false, false) => "colo",
            };
            if question == Question::Status {
                let answer = serde_json::json!({ "running": self.runs, "status": status });
                self.vm.answer(question, Ok(answer));
            }
        }
        for notice in self.unread.drain(..) {
            let at = match &notice {
                Notice::Event(event) => event.at.map(|at| Mono::ZERO + at),
                _ => None,
            };
            self.vm.notice(&notice, Moment { after: self.last, before: now, at }, &mut told);
        }
        while let Some(question) = self.vm.next_question(now) {
            self.asked.push(question);
        }
        self.last = now;
        told
    }
}

/// An operator stops a guest, or continues it.
pub(super) fn operator(host: &mut Host, left: &mut u8, at: Option<Mono>) {
    host.paused = !host.paused;
    if !host.paused {
        host.runs = true;
        host.event(EventKind::Resume, at);
    } else {
        *left -= 1;
        host.runs = false;
        host.event(EventKind::Stop, at);
    }
}

//! The packet thread's eye on its own QEMU: reads the monitor until it is empty and hands what it meant to the core.

use crate::link::frame::Role;
use crate::mono::Mono;
use crate::qmp::command::{self, Call};
use crate::qmp::monitor::Heard;
use crate::qmp::session::Ticket;
use crate::qmp::{Monitor, Notice};
use crate::vm::{Clocks, Follower, Moment, Question, Told};
use rustix::fd::BorrowedFd;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::time::Duration;
use tracing::{info, warn};

/// See the module.
#[derive(Debug)]
pub(super) struct Eye {
    monitor: Monitor,
    vm: Follower,
    heard: Vec<Heard>,
    /// Questions on their way.
    asked: Vec<(Ticket, Question)>,
    /// When the monitor was last known to be empty.
    last: Mono,
}

impl Eye {
    pub fn new(monitor: Monitor, side: Role) -> Self {
        Self { monitor, vm: Follower::new(side), heard: Vec::new(), asked: Vec::new(), last: Mono::now() }
    }

    /// Reads until nothing is left and says what it meant. What the guest has said before this call is of the epoch that is
    /// known after it.
    pub fn look(&mut self, told: &mut VecDeque<Told>) {
        let now = Mono::now();
        self.monitor.service(now, &mut self.heard);
        if !self.heard.is_empty() {
            self.take(now, told);
        }
        let mut written = false;
        while let Some(question) = self.vm.next_question(now) {
            let ticket = self.monitor.give(now, call(question), &mut self.heard);
            self.asked.push((ticket, question));
            written = true;
        }
        if written {
            self.monitor.service(now, &mut self.heard);
            self.take(now, told);
        }
        self.last = now;
    }

    fn take(&mut self, now: Mono, told: &mut VecDeque<Told>) {
        let clocks = clocks();
        for heard in self.heard.drain(..) {
            match heard {
                Heard::Reply { ticket, outcome } => {
                    if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == ticket) {
                        let (_, question) = self.asked.swap_remove(at);
                        self.vm.answer(question, outcome);
                    }
                }
                Heard::Notice(notice) => {
                    let at = match &notice {
                        Notice::Event(event) => event.at.map(|at| clocks.mono(at)),
                        Notice::Down { reason } => {
                            warn!("monitor of QEMU: {reason}");
                            None
                        }
                        Notice::Up { .. } => {
                            info!("following QEMU at {}", self.monitor.endpoint());
                            None
                        }
                        Notice::Lagged(_) => None,
                    };
                    // A reading that took long is no worse than one that was made late.
                    let before = Mono::now().max(now);
                    self.vm.notice(&notice, Moment { after: self.last, before, at }, told);
                }
            }
        }
    }

    /// The VM, to be asked and to be told what is wanted.
    pub fn vm(&mut self) -> &mut Follower {
        &mut self.vm
    }

    pub fn poll(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.monitor.poll()
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.monitor.next_deadline().into_iter().chain(self.vm.next_deadline()).min()
    }

    /// Counters, by name.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        self.vm.counters().map(|(name, n)| (name.to_owned(), n))
    }
}

fn call(question: Question) -> Call {
    match question {
        Question::Status => command::query_status().call,
        Question::Capabilities => command::query_capabilities().call,
        Question::Delay => command::query_parameters().call,
        Question::Checkpoint(delay) => command::set_checkpoint_delay(delay).call,
    }
}

/// The wall clock between two readings of the monotonic one.
fn clocks() -> Clocks {
    let before = Mono::now();
    let wall = clock_gettime(ClockId::Realtime);
    let taken = Mono::now().saturating_since(before);
    let nanos = u32::try_from(wall.tv_nsec).unwrap_or_default();
    Clocks { mono: before + taken / 2, wall: Duration::new(wall.tv_sec.unsigned_abs(), nanos) }
}

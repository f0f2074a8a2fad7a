//! The packet thread's eye on its own QEMU: reads the monitor until it is empty and hands what it meant to the core.

use crate::failover::takeover::Step;
use crate::failover::watch::Do;
use crate::failover::{Past, Trouble, Watch};
use crate::link::frame::Role;
use crate::mono::Mono;
use crate::qmp::Failure;
use crate::qmp::command::{self, Call};
use crate::qmp::monitor::Heard;
use crate::qmp::session::Ticket;
use crate::qmp::{EventKind, Monitor, Notice};
use crate::vm::{Clocks, Finding, Follower, Moment, Question, Told};
use rustix::fd::BorrowedFd;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
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
    limit: Duration,
    watch: Watch,
    probe: Option<Ticket>,
    /// Commands of a takeover on their way, and those that are over.
    given: Vec<(Ticket, Step)>,
    done: Vec<(Step, Result<Value, Failure>)>,
    /// Where the VM was found, until somebody asks.
    past: Option<Past>,
    /// The guest has begun to run, until somebody asks.
    ran: bool,
    gone: bool,
}

impl Eye {
    /// `limit` is how long QEMU may take to answer, and a guest to run again.
    pub fn new(monitor: Monitor, side: Role, limit: Duration) -> Self {
        Self {
            monitor,
            vm: Follower::new(side),
            heard: Vec::new(),
            asked: Vec::new(),
            last: Mono::now(),
            limit,
            watch: Watch::new(limit),
            probe: None,
            given: Vec::new(),
            done: Vec::new(),
            past: None,
            ran: false,
            gone: false,
        }
    }

    /// How long QEMU may take to answer.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// The monitor, not connected, for another that begins from the start.
    pub fn close(self) -> Monitor {
        self.monitor.anew()
    }

    /// Gives a command of a takeover. How it ended comes by [`Self::take_done`].
    pub fn give(&mut self, now: Mono, step: Step, call: Call) {
        let ticket = self.monitor.give(now, call, &mut self.heard);
        self.given.push((ticket, step));
    }

    /// The guest has said something.
    pub fn spoke(&mut self, now: Mono) {
        self.watch.spoke(now);
    }

    /// Whether the guest stands still for a checkpoint.
    pub fn paused(&self) -> bool {
        self.vm.in_checkpoint()
    }

    /// Commands of a takeover that are over.
    pub fn take_done(&mut self) -> Vec<(Step, Result<Value, Failure>)> {
        std::mem::take(&mut self.done)
    }

    /// Where the VM was found, once for each time that the monitor came.
    pub const fn take_past(&mut self) -> Option<Past> {
        self.past.take()
    }

    /// Whether the guest has begun to run since this was asked last.
    pub const fn take_ran(&mut self) -> bool {
        std::mem::replace(&mut self.ran, false)
    }

    /// What is wrong with the VM, worst first.
    pub fn trouble(&self, now: Mono) -> Option<Trouble> {
        let found = self.vm.finding(now, self.limit);
        match found {
            _ if self.gone => Some(Trouble::Gone),
            Some(Finding::Gone) => Some(Trouble::Gone),
            _ if self.watch.frozen(now) => Some(Trouble::Frozen),
            Some(Finding::Stranded(_)) if !self.watch.waits() => Some(Trouble::Stranded),
            Some(Finding::LeftColo | Finding::Stranded(_)) => Some(Trouble::LeftColo),
            // A QEMU that is frozen in a checkpoint stands still as well: the peer is accused only by one that answers.
            Some(Finding::StuckStopped(_)) if !self.watch.waits() => Some(Trouble::Stuck),
            Some(Finding::StuckStopped(_) | Finding::Unheard(_)) | None => None,
        }
    }

    /// Reads until nothing is left and says what it meant. What the guest has said before this call is of the epoch that is
    /// known after it.
    pub fn look(&mut self, told: &mut VecDeque<Told>) {
        let now = Mono::now();
        self.monitor.service(now, &mut self.heard);
        if !self.heard.is_empty() {
            self.take(now, told);
        }
        let mut written = !self.given.is_empty();
        match self.watch.tick(now, self.vm.stopped()) {
            Some(Do::Ask) => {
                let call = command::query_status().call;
                self.probe = Some(self.monitor.give(now, call, &mut self.heard));
                written = true;
            }
            Some(Do::Yank) => {
                warn!("QEMU does not answer while its guest stands in a checkpoint: yanking the migration");
                self.monitor.give(now, command::yank_migration().call, &mut self.heard);
                written = true;
            }
            None => {}
        }
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
                Heard::Reply { ticket, outcome } if self.probe == Some(ticket) => {
                    if !matches!(outcome, Err(Failure::TimedOut { .. })) {
                        self.watch.answered(now);
                    }
                }
                Heard::Reply { ticket, outcome } => {
                    if let Some(at) = self.given.iter().position(|(given, _)| *given == ticket) {
                        self.done.push((self.given.remove(at).1, outcome));
                        continue;
                    }
                    if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == ticket) {
                        let (_, question) = self.asked.swap_remove(at);
                        self.vm.answer(question, outcome);
                    }
                }
                Heard::Notice(notice) => {
                    let at = match &notice {
                        Notice::Event(event) => {
                            self.ran |= event.kind == EventKind::Resume;
                            event.at.map(|at| clocks.mono(at))
                        }
                        Notice::Down { reason } => {
                            warn!("monitor of QEMU: {reason}");
                            self.watch.monitor(now, false);
                            self.gone = true;
                            None
                        }
                        Notice::Up { snapshot, .. } => {
                            info!("following QEMU at {}", self.monitor.endpoint());
                            self.watch.monitor(now, true);
                            self.past = Some(Past::of(snapshot));
                            self.gone = false;
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

    /// Whether it is time to [`look`](Self::look) although the monitor has nothing.
    pub fn is_due(&self, now: Mono) -> bool {
        self.next_deadline().is_some_and(|at| at <= now)
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let own = [self.vm.next_deadline(), self.watch.next_deadline()];
        self.monitor.next_deadline().into_iter().chain(own.into_iter().flatten()).min()
    }

    /// Counters, by name.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        let worst = u64::try_from(self.watch.worst().as_millis()).unwrap_or(u64::MAX);
        let own = [("vm_answer_ms_max", worst)];
        self.vm.counters().chain(own).map(|(name, n)| (name.to_owned(), n))
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

/// Readings of the clocks of which the closest counts: a thread may be off its processor between two of them.
const READINGS: usize = 8;

/// The wall clock between two readings of the monotonic one.
fn clocks() -> Clocks {
    let read = || {
        let before = Mono::now();
        let wall = clock_gettime(ClockId::Realtime);
        let taken = Mono::now().saturating_since(before);
        let nanos = u32::try_from(wall.tv_nsec).unwrap_or_default();
        (taken, Clocks { mono: before + taken / 2, wall: Duration::new(wall.tv_sec.unsigned_abs(), nanos) })
    };
    let first = read();
    (1..READINGS).map(|_| read()).fold(first, |least, next| if next.0 < least.0 { next } else { least }).1
}

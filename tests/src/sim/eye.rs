//! An agent's eye on its own QEMU: the follower and the watch of the real agents, fed from a simulated monitor.

use super::vm::{Call, Tag, Vm};
use colo_user::failover::takeover::Step;
use colo_user::failover::watch::Do;
use colo_user::failover::{Past, Trouble, Watch};
use colo_user::link::frame::Role;
use colo_user::mono::Mono;
use colo_user::qmp::{EventKind, Notice};
use colo_user::vm::{Finding, Follower, Moment, Question, Told};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Eye {
    pub vm: Follower,
    last: Mono,
    limit: Duration,
    watch: Watch,
    done: Vec<(Step, Value)>,
    past: Option<Past>,
    ran: bool,
    gone: bool,
}

impl Eye {
    pub fn new(now: Mono, side: Role, limit: Duration) -> Self {
        Self {
            vm: Follower::new(side),
            last: now,
            limit,
            watch: Watch::new(limit),
            done: Vec::new(),
            past: None,
            ran: false,
            gone: false,
        }
    }

    pub fn spoke(&mut self, now: Mono) {
        self.watch.spoke(now);
    }

    pub fn take_done(&mut self) -> Vec<(Step, Value)> {
        std::mem::take(&mut self.done)
    }

    pub const fn take_past(&mut self) -> Option<Past> {
        self.past.take()
    }

    pub const fn take_ran(&mut self) -> bool {
        std::mem::replace(&mut self.ran, false)
    }

    /// What is wrong with the VM, worst first.
    pub fn trouble(&self, now: Mono) -> Option<Trouble> {
        match self.vm.finding(now, self.limit) {
            _ if self.gone => Some(Trouble::Gone),
            Some(Finding::Gone) => Some(Trouble::Gone),
            _ if self.watch.frozen(now) => Some(Trouble::Frozen),
            Some(Finding::Stranded(_)) if !self.watch.waits() => Some(Trouble::Stranded),
            Some(Finding::LeftColo | Finding::Stranded(_)) => Some(Trouble::LeftColo),
            Some(Finding::StuckStopped(_)) if !self.watch.waits() => Some(Trouble::Stuck),
            Some(Finding::StuckStopped(_) | Finding::Unheard(_)) | None => None,
        }
    }

    /// Reads the monitor until it is empty, and asks what there is to ask.
    pub fn look(&mut self, now: Mono, vm: &mut Vm, told: &mut VecDeque<Told>) {
        while let Some((tag, value)) = vm.replies.pop_front() {
            match tag {
                Tag::Probe => self.watch.answered(now),
                Tag::Question(question) => self.vm.answer(question, Ok(value)),
                Tag::Step(step) => self.done.push((step, value)),
                Tag::Yank => {}
            }
        }
        while let Some(notice) = vm.notices.pop_front() {
            let at = match &notice {
                Notice::Event(event) => {
                    self.ran |= event.kind == EventKind::Resume;
                    event.at.map(|at| Mono::ZERO + at)
                }
                Notice::Down { .. } => {
                    self.watch.monitor(now, false);
                    self.gone = true;
                    None
                }
                Notice::Up { snapshot, .. } => {
                    self.watch.monitor(now, true);
                    self.past = Some(Past::of(snapshot));
                    self.gone = false;
                    None
                }
                Notice::Lagged(_) => None,
            };
            self.vm.notice(&notice, Moment { after: self.last, before: now, at }, told);
        }
        match self.watch.tick(now, self.vm.stopped()) {
            Some(Do::Ask) => vm.calls.push_back((Tag::Probe, Call::Status)),
            Some(Do::Yank) => vm.calls.push_back((Tag::Yank, Call::Yank)),
            None => {}
        }
        while let Some(question) = self.vm.next_question(now) {
            let call = match question {
                Question::Status => Call::Status,
                Question::Capabilities => Call::Capabilities,
                Question::Delay => Call::Parameters,
                Question::Checkpoint(_) => Call::Checkpoint,
            };
            vm.calls.push_back((Tag::Question(question), call));
        }
        self.last = now;
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        [self.vm.next_deadline(), self.watch.next_deadline()].into_iter().flatten().min()
    }
}

/// Whether the guest runs again by what was told.
pub(super) fn runs(told: &VecDeque<Told>) -> bool {
    told.iter().any(|told| {
        matches!(
            told,
            Told::Ran(_) | Told::Doubtful { .. } | Told::Continued | Told::TookOver | Told::Placed { .. }
        )
    })
}

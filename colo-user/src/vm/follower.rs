//! One VM, followed by the notices of its monitor: see the module above.

use super::{Finding, Moment, Question, Silence, Told, Wants};
use crate::link::frame::Role;
use crate::mono::Mono;
use crate::qmp::{
    Command, Event, EventKind, Failure, MigrationStatus, Notice, RunState, Status,
    command::CHILD_NODE,
    state::{Capability, ColoMode, Parameters},
};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// The guest does not run.
#[derive(Clone, Copy, Debug)]
struct Stop {
    moment: Moment,
    /// Primary: its memory is being copied. Secondary: `query-status` says that this is a checkpoint.
    copied: bool,
    /// It was stopped before anybody looked: what ends it is not known.
    unseen: bool,
    /// An operator stopped it.
    paused: bool,
    /// It was in COLO then: a state may be loaded into it although it has left since.
    colo: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Follower {
    side: Role,
    heard: bool,
    colo: bool,
    left: bool,
    /// Primary: the secondary's disk has missed a write, and will until the next migration begins.
    stale: bool,
    off: bool,
    entering: bool,
    completed: bool,
    unheard_since: Option<Mono>,
    stop: Option<Stop>,
    wants: Wants,
    questions: Vec<Question>,
    checkpoints: u64,
    operator_stops: u64,
    gaps: u64,
}

impl Follower {
    /// Follows the VM on this side, of which nothing is known yet.
    #[must_use]
    pub fn new(side: Role) -> Self {
        Self {
            side,
            heard: false,
            colo: false,
            left: false,
            stale: false,
            off: false,
            entering: false,
            completed: false,
            unheard_since: None,
            stop: None,
            wants: Wants::default(),
            questions: Vec::new(),
            checkpoints: 0,
            operator_stops: 0,
            gaps: 0,
        }
    }

    /// Whether the guest stands still, for all that is known.
    #[must_use]
    pub const fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether the guest stands still and, for all that is known, no operator has stopped it.
    #[must_use]
    pub fn in_checkpoint(&self) -> bool {
        self.stop.is_some_and(|stop| !stop.paused)
    }

    /// A checkpoint is wanted. The one that runs satisfies it: all that was said so far was said before its STOP.
    pub fn want(&mut self) {
        if self.stop.is_none_or(|stop| !stop.copied) {
            self.wants.want();
        }
    }

    /// What to ask QEMU now, until there is no more.
    pub fn next_question(&mut self, now: Mono) -> Option<Question> {
        self.questions.pop().or_else(|| self.wants.next(now, self.open()))
    }

    /// When [`Self::next_question`] or [`Self::finding`] changes by time alone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.questions.is_empty() { self.wants.next_deadline(self.open()) } else { Some(Mono::ZERO) }
    }

    /// Whether a request for a checkpoint would be heard.
    fn open(&self) -> bool {
        self.side == Role::Primary && self.heard && self.colo && self.stop.is_none()
    }

    /// What is wrong with the VM, if anything; a stop or a silence only after `limit`.
    #[must_use]
    pub fn finding(&self, now: Mono, limit: Duration) -> Option<Finding> {
        let over = |since: &Mono| now.saturating_since(*since) >= limit;
        if self.off {
            Some(Finding::Gone)
        } else if self.left {
            let stop = self.stop.filter(|stop| stop.colo && !stop.paused).map(|stop| stop.moment.before);
            Some(stop.filter(over).map_or(Finding::LeftColo, Finding::Stranded))
        } else if let Some(since) = self.unheard_since.filter(over) {
            Some(Finding::Unheard(since))
        } else {
            let stop = self.stop.filter(|stop| self.colo && !stop.paused)?.moment.before;
            Some(stop).filter(over).map(Finding::StuckStopped)
        }
    }

    /// QEMU answered a question, or did not.
    pub fn answer(&mut self, question: Question, outcome: Result<Value, Failure>) {
        let refused = match (question, outcome) {
            (Question::Delay, Ok(value)) => match Command::<Parameters>::parse(value) {
                Ok(parameters) if self.open() => return self.wants.delay(parameters.checkpoint_delay()),
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            (Question::Status, Ok(value)) => {
                if let (Ok(status), Some(stop)) = (Command::<Status>::parse(value), &mut self.stop) {
                    stop.paused |= status.status == RunState::Paused && !stop.copied;
                    stop.copied |= status.status == RunState::Colo && self.side == Role::Secondary;
                }
                return;
            }
            (Question::Capabilities, Ok(value)) => {
                let on = |list: Vec<Capability>| list.iter().any(|c| c.name == "events" && c.on);
                if !Command::<Vec<Capability>>::parse(value).is_ok_and(on) {
                    tracing::warn!(
                        "QEMU's migration capability `events` is off: its checkpoints cannot be told from an operator's \
                         stop; switch it on before `migrate`"
                    );
                }
                return;
            }
            (Question::Checkpoint(_), Ok(_)) => return,
            (_, Err(failure)) => failure.to_string(),
        };
        if matches!(question, Question::Delay | Question::Checkpoint(_)) {
            self.wants.failed();
            tracing::warn!("no checkpoint could be asked for: {refused}");
        }
    }

    /// Something was heard, at a moment; appends what it meant.
    pub fn notice(&mut self, notice: &Notice, moment: Moment, told: &mut VecDeque<Told>) {
        match notice {
            Notice::Up { snapshot, gap } => {
                let mode = match self.side {
                    Role::Primary => ColoMode::Primary,
                    Role::Secondary => ColoMode::Secondary,
                };
                let in_colo = snapshot.migration == Some(MigrationStatus::Colo) && snapshot.colo.mode == mode;
                // What the disk has missed it lacks, whatever the monitor did meanwhile.
                self.stale &= in_colo;
                let colo = in_colo && !self.stale;
                let was = std::mem::replace(&mut self.colo, colo);
                let missed = gap.is_some_and(|gap| gap.epochs_in_doubt);
                self.gaps += u64::from(missed);
                (self.heard, self.unheard_since) = (true, None);
                (self.entering, self.completed) = (false, false);
                self.stop = (!snapshot.status.running).then_some(Stop {
                    moment,
                    copied: false,
                    unseen: true,
                    paused: snapshot.status.status == RunState::Paused,
                    colo,
                });
                self.questions.push(Question::Capabilities);
                told.push_back(Told::Placed { colo, stopped: colo && !snapshot.status.running, missed });
                if was && !colo {
                    self.left = true;
                    told.push_back(Told::Left);
                }
            }
            Notice::Down { .. } | Notice::Lagged(_) => {
                self.heard = false;
                self.unheard_since.get_or_insert(moment.before);
                self.stop = None;
                told.push_back(Told::Unheard);
            }
            Notice::Event(event) if self.heard => self.event(event, moment, told),
            // Part of what the look at the VM will say.
            Notice::Event(_) => {}
        }
    }

    fn event(&mut self, event: &Event, moment: Moment, told: &mut VecDeque<Told>) {
        match event.kind {
            EventKind::Stop => {
                let colo = self.colo;
                self.stop = Some(Stop { moment, copied: false, unseen: false, paused: false, colo });
                if self.colo {
                    self.questions.push(Question::Status);
                }
                told.push_back(Told::Stopped);
            }
            EventKind::MigrationPass(_) if self.side == Role::Primary && self.colo => {
                if let Some(stop) = self.stop.as_mut().filter(|stop| !stop.copied && !stop.unseen) {
                    (stop.copied, stop.paused) = (true, false);
                    self.wants.satisfied();
                    told.push_back(Told::Copied { entry: false });
                }
            }
            EventKind::MigrationPass(_) => {}
            EventKind::Migration(MigrationStatus::Colo) => self.enter(moment, told),
            EventKind::Migration(MigrationStatus::Setup) => (self.left, self.stale) = (false, false),
            EventKind::Migration(MigrationStatus::Active) => self.left = false,
            EventKind::Migration(status) => {
                self.completed |= status == MigrationStatus::Completed;
                self.leave(told);
            }
            EventKind::ColoExit { .. } => self.leave(told),
            EventKind::Resume => self.resume(moment, told),
            EventKind::QuorumBad { ref node, ref error }
                if self.side == Role::Primary && node.starts_with(CHILD_NODE) =>
            {
                if self.colo {
                    tracing::error!("the secondary's disk behind {node} has missed a write: {error}");
                }
                // QEMU goes on with checkpoints, to a secondary that is none any more: from here on none is cut.
                self.stale = true;
                self.leave(told);
            }
            EventKind::Shutdown { .. } => self.off = true,
            EventKind::QuorumBad { .. } | EventKind::Other(_) => {}
        }
    }

    fn enter(&mut self, moment: Moment, told: &mut VecDeque<Told>) {
        if self.stale {
            self.left = true;
            return;
        }
        (self.colo, self.left, self.entering) = (true, false, true);
        if self.side == Role::Primary {
            let fresh = Stop { moment, copied: false, unseen: false, paused: false, colo: true };
            let stop = self.stop.get_or_insert(fresh);
            (stop.copied, stop.paused, stop.colo) = (true, false, true);
            told.push_back(Told::Copied { entry: true });
        }
    }

    fn leave(&mut self, told: &mut VecDeque<Told>) {
        self.entering = false;
        if let Some(stop) = &mut self.stop {
            stop.copied = false;
        }
        if std::mem::take(&mut self.colo) {
            self.left = true;
            told.push_back(Told::Left);
        }
    }

    fn resume(&mut self, moment: Moment, told: &mut VecDeque<Told>) {
        let stop = self.stop.take();
        let entering = std::mem::take(&mut self.entering);
        let silence = Silence::between(stop.map_or(moment, |stop| stop.moment), moment);
        let completed = std::mem::take(&mut self.completed);
        told.push_back(match stop {
            _ if self.side == Role::Secondary && completed => Told::TookOver,
            // A secondary whose first state came did not run before it.
            _ if self.side == Role::Secondary && entering => Told::Ran(Silence::first(moment)),
            Some(stop) if stop.copied => Told::Ran(silence),
            // Also of one that an operator stopped: it is loaded without another STOP. And of one that has left COLO meanwhile:
            // a load that has begun comes to its end.
            Some(Stop { paused, colo, .. }) if self.side == Role::Secondary && (self.colo || colo) => {
                Told::Doubtful { silence, paused }
            }
            _ => Told::Continued,
        });
        self.operator_stops += u64::from(stop.is_some_and(|stop| stop.paused));
        self.checkpoints += u64::from(matches!(told.back(), Some(Told::Ran(_))));
    }

    /// What its next steps depend on, times apart.
    #[cfg(test)]
    pub(crate) fn summary(&self) -> String {
        let stop = self.stop.map(|stop| (stop.copied, stop.unseen, stop.paused));
        format!(
            "{:?}{:?}{stop:?}{:?}",
            (self.colo, self.left),
            (self.entering, self.completed),
            self.questions
        )
    }

    /// Counters, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("vm_checkpoints", self.checkpoints),
            ("vm_operator_stops", self.operator_stops),
            ("vm_operator_stopped", u64::from(self.stopped() && !self.in_checkpoint())),
            ("vm_monitor_gaps", self.gaps),
        ]
        .into_iter()
        .chain((self.side == Role::Primary).then(|| self.wants.counters()).into_iter().flatten())
    }
}

#[cfg(test)]
mod tests;

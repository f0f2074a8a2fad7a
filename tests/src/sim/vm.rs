//! One VM under a QEMU in COLO, as its agent and its peer see it: what it answers, which events it writes, in which order.
//!
//! The orders are those that a stock QEMU 7.2 shows. A checkpoint: the secondary stops, the primary stops and begins a pass,
//! the secondary has loaded and runs, the primary runs. `x-colo-lost-heartbeat` on a guest that runs: STOP, migration
//! completed, RESUME; on one that stands: the same without the STOP; on a secondary that loads: after it has loaded.

use super::guest::Guest;
use colo_user::failover::takeover::Step;
use colo_user::mono::Mono;
use colo_user::qmp::{
    ColoMode, ColoStatus, Event, EventKind, MigrationStatus, Notice, RunState, Snapshot, Status,
};
use colo_user::vm::Question;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Probe,
    Question(Question),
    Step(Step),
    Yank,
}

/// What an agent says to its QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Status,
    ColoStatus,
    Capabilities,
    Parameters,
    Checkpoint,
    LostHeartbeat,
    Yank,
    Stop,
    Continue,
}

impl Call {
    /// By its name in QMP.
    pub fn named(name: &str) -> Self {
        match name {
            "query-status" => Self::Status,
            "query-colo-status" => Self::ColoStatus,
            "x-colo-lost-heartbeat" => Self::LostHeartbeat,
            "yank" => Self::Yank,
            "stop" => Self::Stop,
            "cont" => Self::Continue,
            other => panic!("the simulated QEMU does not know {other}"),
        }
    }
}

/// How far a VM is with a checkpoint, or with becoming a side of COLO.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// No checkpoint runs.
    Idle,
    /// Primary: it has asked the secondary to stop, and runs.
    Asked,
    /// Primary: it stands and copies. Secondary: it stands and waits for the copy.
    Stopped,
    /// Secondary: it loads the copy.
    Loading(Box<Guest>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Vm {
    pub guest: Guest,
    /// The process is there.
    pub there: bool,
    /// It is stopped by a signal until then.
    pub frozen_until: Mono,
    pub runs: bool,
    pub colo: ColoMode,
    pub last: ColoMode,
    pub migration: Option<MigrationStatus>,
    pub stage: Stage,
    /// Its end of the connection to the other QEMU is open.
    pub open: bool,
    /// The other end was closed while this one loaded.
    pub closed: bool,
    /// A failover that waits for the end of a load.
    pub deferred: bool,
    /// A checkpoint was asked for.
    pub wanted: bool,
    /// Frames in its interface that it has not read.
    pub tap: VecDeque<Vec<u8>>,
    /// What the agent has not read from the monitor, and whether there is a monitor to read.
    pub notices: VecDeque<Notice>,
    pub replies: VecDeque<(Tag, Value)>,
    /// A monitor was opened, and QEMU has not greeted yet.
    pub opening: bool,
    /// What QEMU has not read from the monitor.
    pub calls: VecDeque<(Tag, Call)>,
}

impl Vm {
    /// A VM that runs, or waits for its first state.
    pub fn new(now: Mono, runs: bool) -> Self {
        Self {
            guest: Guest::new(now),
            there: true,
            frozen_until: Mono::ZERO,
            runs,
            colo: ColoMode::None,
            last: ColoMode::None,
            migration: None,
            stage: Stage::Idle,
            open: false,
            closed: false,
            deferred: false,
            wanted: false,
            tap: VecDeque::new(),
            notices: VecDeque::new(),
            replies: VecDeque::new(),
            opening: false,
            calls: VecDeque::new(),
        }
    }

    fn status(&self) -> RunState {
        match (self.runs, self.migration) {
            (true, _) => RunState::Running,
            (_, None) if self.colo == ColoMode::None => RunState::Inmigrate,
            _ => RunState::Colo,
        }
    }

    /// An agent opens a monitor: whatever was on its way in the last one is gone.
    pub fn open_monitor(&mut self) {
        self.notices.clear();
        self.replies.clear();
        self.calls.clear();
        self.opening = true;
    }

    /// What a monitor says first.
    pub fn monitored(&mut self) {
        let snapshot = Snapshot {
            status: Status { running: self.runs, status: self.status() },
            migration: self.migration,
            colo: ColoStatus { mode: self.colo, last_mode: self.last },
        };
        // What happened before the greeting is part of it.
        self.notices.clear();
        self.notices.push_back(Notice::Up { snapshot, gap: None });
    }

    /// Writes an event; `at` is the host's clock.
    pub fn event(&mut self, at: Mono, kind: EventKind) {
        self.notices.push_back(Notice::Event(Event { kind, at: Some(Duration::from_nanos(at.as_nanos())) }));
    }

    pub fn stop(&mut self, at: Mono) {
        if std::mem::take(&mut self.runs) {
            self.event(at, EventKind::Stop);
        }
    }

    pub fn resume(&mut self, at: Mono) {
        if !std::mem::replace(&mut self.runs, true) {
            self.event(at, EventKind::Resume);
        }
    }

    /// The connection to the other QEMU is gone: an alarm, and nothing more. What stands stays so.
    pub fn exit_colo(&mut self, at: Mono) {
        self.open = false;
        if self.colo != ColoMode::None {
            self.event(at, EventKind::ColoExit { mode: self.colo, reason: "error".into() });
        }
    }

    /// `x-colo-lost-heartbeat`: out of COLO. True if the other QEMU's connection is closed by that.
    pub fn lost_heartbeat(&mut self, at: Mono) -> bool {
        if self.colo == ColoMode::None {
            return false;
        }
        if matches!(self.stage, Stage::Loading(_)) {
            self.deferred = true;
            return false;
        }
        let primary = self.colo == ColoMode::Primary;
        let was_open = self.open;
        if was_open {
            self.exit_colo(at);
        }
        if !primary || self.runs {
            self.stop(at);
            self.migration = Some(MigrationStatus::Completed);
            self.event(at, EventKind::Migration(MigrationStatus::Completed));
        }
        self.stage = Stage::Idle;
        self.last = std::mem::replace(&mut self.colo, ColoMode::None);
        self.migration = Some(MigrationStatus::Completed);
        self.resume(at);
        was_open
    }

    /// Answers a call. True if the other QEMU's connection is closed by it.
    pub fn answer(&mut self, at: Mono, tag: Tag, call: Call) -> bool {
        let mut closes = false;
        let value = match call {
            Call::Status => {
                let status = match self.status() {
                    RunState::Running => "running",
                    RunState::Inmigrate => "inmigrate",
                    _ => "colo",
                };
                json!({ "running": self.runs, "status": status })
            }
            Call::ColoStatus => {
                let mode = |mode| match mode {
                    ColoMode::Primary => "primary",
                    ColoMode::Secondary => "secondary",
                    _ => "none",
                };
                json!({ "mode": mode(self.colo), "last-mode": mode(self.last) })
            }
            Call::Capabilities => json!([{ "capability": "events", "state": true }]),
            Call::Parameters => json!({ "x-checkpoint-delay": 60_000, "max-bandwidth": 0 }),
            Call::Checkpoint => {
                // One that falls into a checkpoint is swallowed.
                self.wanted |= matches!(self.stage, Stage::Idle);
                json!({})
            }
            Call::LostHeartbeat => {
                closes = self.lost_heartbeat(at);
                json!({})
            }
            Call::Yank => {
                closes = self.open && self.colo != ColoMode::None;
                if closes {
                    self.exit_colo(at);
                }
                json!({})
            }
            Call::Stop => {
                self.stop(at);
                json!({})
            }
            Call::Continue => {
                if self.colo == ColoMode::None {
                    self.resume(at);
                }
                json!({})
            }
        };
        self.replies.push_back((tag, value));
        closes
    }
}

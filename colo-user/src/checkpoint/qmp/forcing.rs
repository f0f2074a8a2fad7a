//! What a primary's QEMU does about checkpoints, by its events. No I/O, no clock.
//!
//! ```text
//!            STOP            MIGRATION_PASS            RESUME
//!  running ───────▶ stopped ───────────────▶ stopped ─────────▶ running: a checkpoint has come
//!                      │ RESUME                 │ COLO_EXIT, RESUME
//!                      └──▶ running: an operator's stop └──▶ running, alone: nothing was loaded
//! ```
//!
//! A request that QEMU gets while a checkpoint runs is absorbed by it, so it is made again every [`AGAIN`] until a STOP
//! comes after it. A want that comes while the guest is stopped needs none of its own: all that the guest has said was
//! said before that STOP. Where events may have been missed, a checkpoint is asked for: only one that is seen from its
//! beginning counts.

use std::time::Duration;

use crate::{
    mono::Mono,
    qmp::{ColoMode, EventKind, MigrationStatus, Notice, RunState},
};

/// A request is made again if no STOP came in this time.
pub const AGAIN: Duration = Duration::from_millis(100);

/// What a notice meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first RESUME of a COLO primary: the secondary owns its first state.
    Entered,
    /// The secondary owns the state, and all wants are satisfied.
    Checkpoint,
    /// QEMU is no primary any more.
    Left,
}

/// The guest does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stopped {
    /// The memory is being copied.
    pass: bool,
    /// It was stopped before anybody looked: what ends it is not known.
    unseen: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Forcing {
    colo: bool,
    entering: bool,
    stopped: Option<Stopped>,
    wanted: bool,
    asked: Option<Mono>,
}

impl Forcing {
    /// A checkpoint is wanted. False if QEMU is not in COLO: it is asked for when it is.
    pub const fn want(&mut self) -> bool {
        self.wanted = true;
        self.colo
    }

    /// Whether to ask QEMU now; taken as done.
    pub fn take_ask(&mut self, now: Mono) -> bool {
        let due = self.next_deadline().is_some_and(|at| at <= now);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// When [`Forcing::take_ask`] is true, unless something is heard before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let covered = self.stopped.is_some_and(|stopped| !stopped.unseen);
        (self.wanted && self.colo && !covered).then(|| self.asked.map_or(Mono::ZERO, |asked| asked + AGAIN))
    }

    /// Something was heard.
    pub fn notice(&mut self, notice: &Notice) -> Option<Heard> {
        match notice {
            Notice::Up { snapshot, gap } => {
                let colo = snapshot.migration == Some(MigrationStatus::Colo)
                    && snapshot.colo.mode == ColoMode::Primary;
                let left = self.colo && !colo;
                self.colo = colo;
                self.entering = false;
                self.stopped = (!snapshot.status.running)
                    .then(|| Stopped { pass: false, unseen: snapshot.status.status == RunState::Colo });
                self.asked = None;
                self.wanted |= gap.is_some_and(|gap| gap.epochs_in_doubt);
                left.then_some(Heard::Left)
            }
            Notice::Lagged(_) => {
                self.stopped = None;
                self.wanted = true;
                None
            }
            Notice::Down { .. } => None,
            Notice::Event(event) => self.event(&event.kind),
        }
    }

    fn event(&mut self, kind: &EventKind) -> Option<Heard> {
        match kind {
            EventKind::Stop => self.stopped = Some(Stopped::default()),
            EventKind::MigrationPass(_) => {
                if let Some(stopped) = &mut self.stopped {
                    stopped.pass = true;
                }
            }
            EventKind::Migration(MigrationStatus::Colo) => self.entering = true,
            EventKind::Migration(_) | EventKind::ColoExit { .. } => {
                self.entering = false;
                return std::mem::take(&mut self.colo).then_some(Heard::Left);
            }
            EventKind::Resume => return self.resumed(),
            EventKind::Shutdown { .. } | EventKind::Other(_) => {}
        }
        None
    }

    fn resumed(&mut self) -> Option<Heard> {
        let stopped = self.stopped.take();
        if std::mem::take(&mut self.entering) {
            self.colo = true;
            return Some(self.satisfied(Heard::Entered));
        }
        let loaded = self.colo && stopped.is_some_and(|stopped| stopped.pass && !stopped.unseen);
        loaded.then(|| self.satisfied(Heard::Checkpoint))
    }

    const fn satisfied(&mut self, heard: Heard) -> Heard {
        self.wanted = false;
        self.asked = None;
        heard
    }
}

#[cfg(test)]
mod tests;

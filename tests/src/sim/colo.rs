//! The two QEMUs between them: entering COLO, checkpoints, and the ends of it. Their connection goes over the same network
//! as the agents', and is TCP: what is sent while nothing gets through comes later.

use super::vm::Stage;
use super::world::{Event, World};
use crate::random::Random;
use colo_user::mono::Mono;
use colo_user::qmp::{ColoMode, EventKind, MigrationStatus};
use std::time::Duration;

/// Time between two checkpoints that nobody asks for.
const PERIOD: Duration = Duration::from_millis(1100);

/// What one QEMU says to the other. `generation` tells the connections apart.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Primary: stop for a checkpoint.
    Checkpoint,
    /// Secondary: it stands.
    Stopped,
    /// Primary: the state.
    State(Box<super::guest::Guest>),
    /// Secondary: it runs in that state.
    Loaded,
    /// The connection is closed.
    Closed,
}

impl Word {
    const fn name(&self) -> &'static str {
        match self {
            Self::Checkpoint => "a request for a checkpoint",
            Self::Stopped => "that the secondary stands",
            Self::State(_) => "a state",
            Self::Loaded => "that the secondary runs in it",
            Self::Closed => "the end of the connection",
        }
    }
}

impl World {
    /// An operator has both QEMUs enter COLO, once the agents have met.
    pub(super) fn enter(&mut self) {
        let (primary, secondary) = (self.primary, 1 - self.primary);
        let ready = [primary, secondary].into_iter().all(|side| {
            let host = &self.hosts[side];
            host.vm_lives(self.now) && host.io.vm.colo == ColoMode::None && !host.io.vm.open && host.up
        });
        let unused = self.hosts[secondary].io.vm.migration.is_none() && !self.hosts[secondary].io.vm.runs;
        if !ready || !unused || !self.met() || self.cut_off(primary) || self.cut_off(secondary) {
            if unused && self.now < self.calm {
                self.after(Duration::from_millis(100), Event::Enter);
            }
            return;
        }
        self.note(|| format!("{primary} enters COLO"));
        self.generation += 1;
        for side in [primary, secondary] {
            let at = self.local(side);
            let vm = &mut self.hosts[side].io.vm;
            (vm.open, vm.stage) = (true, Stage::Idle);
            vm.event(at, EventKind::Migration(MigrationStatus::Active));
            vm.migration = Some(MigrationStatus::Active);
        }
        self.wake(primary);
        self.wake(secondary);
        // The primary stands, both say that they are in COLO, and the first state goes over.
        self.after(Duration::from_millis(20), Event::Entered(self.generation));
    }

    pub(super) fn entered(&mut self, generation: u64) {
        let (primary, secondary) = (self.primary, 1 - self.primary);
        if generation != self.generation {
            return;
        }
        if let Some(later) = self.vm_later(primary) {
            return self.at(later, Event::Entered(generation));
        }
        if !self.hosts[primary].io.vm.open {
            return;
        }
        let at = self.local(primary);
        let vm = &mut self.hosts[primary].io.vm;
        vm.stop(at);
        (vm.colo, vm.migration, vm.stage) = (ColoMode::Primary, Some(MigrationStatus::Colo), Stage::Stopped);
        vm.event(at, EventKind::Migration(MigrationStatus::Colo));
        let state = Box::new(vm.guest.clone());
        self.note(|| format!("QEMU {primary} is in COLO"));
        self.wake(primary);
        self.say(secondary, Word::State(state));
    }

    /// A primary begins a checkpoint, if none runs.
    pub(super) fn checkpoint(&mut self) {
        let primary = self.primary;
        let period = PERIOD + self.random.millis(0, 400);
        self.after(period, Event::Checkpoint);
        self.begin_checkpoint(primary);
    }

    pub(super) fn begin_checkpoint(&mut self, primary: usize) {
        let host = &mut self.hosts[primary];
        let vm = &mut host.io.vm;
        vm.wanted = false;
        let lives = host.up && vm.there && vm.open && vm.colo == ColoMode::Primary && vm.runs;
        if !lives || !matches!(vm.stage, Stage::Idle) || self.vm_later(primary).is_some() {
            return;
        }
        self.hosts[primary].io.vm.stage = Stage::Asked;
        self.say(1 - primary, Word::Checkpoint);
    }

    /// Sends to the other QEMU.
    fn say(&mut self, to: usize, word: Word) {
        let delay = match &word {
            Word::State(_) => self.random.micros(2_000, 40_000),
            _ => self.random.micros(100, 800),
        };
        self.after(delay, Event::Word { to, generation: self.generation, word });
    }

    /// An end of the connection is closed: the other sees it when it is told.
    pub(super) fn close_qemu(&mut self, side: usize) {
        self.say(1 - side, Word::Closed);
    }

    /// A word comes to a QEMU.
    pub(super) fn word(&mut self, to: usize, generation: u64, word: Word) {
        if generation != self.generation || !self.hosts[to].io.vm.there || !self.hosts[to].up {
            return;
        }
        // TCP repeats what was lost, at growing intervals.
        if let Some(heals) = self.blocked(1 - to) {
            let again = heals + self.random.millis(1, 200);
            return self.at(again, Event::Word { to, generation, word });
        }
        if let Some(later) = self.vm_later(to) {
            return self.at(later, Event::Word { to, generation, word });
        }
        let at = self.local(to);
        let now = self.now;
        self.note(|| format!("QEMU {to} hears {}", word.name()));
        let vm = &mut self.hosts[to].io.vm;
        if !vm.open {
            // The answer to what comes to a closed connection.
            if !matches!(word, Word::Closed) {
                self.close_qemu(to);
            }
            return;
        }
        match (word, &vm.stage) {
            (Word::Checkpoint, _) if vm.colo == ColoMode::Secondary => {
                vm.stop(at);
                vm.stage = Stage::Stopped;
                self.say(1 - to, Word::Stopped);
            }
            (Word::Stopped, Stage::Asked) => {
                vm.stop(at);
                vm.stage = Stage::Stopped;
                vm.event(at, EventKind::MigrationPass(2));
                let state = Box::new(vm.guest.clone());
                self.say(1 - to, Word::State(state));
            }
            (Word::State(state), _) => {
                if vm.colo == ColoMode::None {
                    (vm.colo, vm.migration) = (ColoMode::Secondary, Some(MigrationStatus::Colo));
                    vm.event(at, EventKind::Migration(MigrationStatus::Colo));
                }
                vm.stage = Stage::Loading(state);
                let takes = self.random.micros(500, 20_000);
                self.after(takes, Event::Loaded { side: to, generation });
            }
            (Word::Loaded, Stage::Stopped) => {
                vm.stage = Stage::Idle;
                vm.resume(at);
                self.checkpoints += 1;
            }
            // It has the whole state, and looks at the connection again when it has loaded.
            (Word::Closed, Stage::Loading(_)) => vm.closed = true,
            // A primary that waits for nothing notices nothing before its next checkpoint.
            (Word::Closed, Stage::Idle) if vm.colo == ColoMode::Primary => {
                vm.stage = Stage::Asked;
                let notices = self.random.millis(1, 1200);
                self.at(now + notices, Event::Word { to, generation, word: Word::Closed });
            }
            (Word::Closed, _) => vm.exit_colo(at),
            (Word::Checkpoint | Word::Stopped | Word::Loaded, _) => {}
        }
        self.wake(to);
        self.vm_turns(to);
    }

    /// The secondary has loaded: it runs in the primary's state.
    pub(super) fn loaded(&mut self, side: usize, generation: u64) {
        if generation != self.generation || !self.hosts[side].io.vm.there || !self.hosts[side].up {
            return;
        }
        if let Some(later) = self.vm_later(side) {
            return self.at(later, Event::Loaded { side, generation });
        }
        let at = self.local(side);
        let vm = &mut self.hosts[side].io.vm;
        let Stage::Loading(state) = std::mem::replace(&mut vm.stage, Stage::Idle) else { return };
        vm.guest = *state;
        vm.resume(at);
        self.note(|| format!("QEMU {side} has loaded"));
        let vm = &mut self.hosts[side].io.vm;
        let closes = std::mem::take(&mut vm.deferred) && {
            vm.lost_heartbeat(at);
            true
        };
        self.say(1 - side, Word::Loaded);
        let vm = &mut self.hosts[side].io.vm;
        if std::mem::take(&mut vm.closed) && vm.open {
            vm.exit_colo(at);
        }
        if closes {
            self.close_qemu(side);
        }
        self.wake(side);
        self.vm_turns(side);
    }
}

/// When the first checkpoint comes that nobody asks for.
pub(super) fn first_period(random: &mut Random) -> Mono {
    Mono::from_millis(700) + random.millis(0, 1500)
}

//! What a QEMU says about its guest, as the epochs need it: no I/O, no clock.
//!
//! A [`Follower`] on each side is fed the notices of its own QEMU's monitor and says what they mean ([`Told`]); on the
//! primary it also says when to ask for a checkpoint ([`Wants`]). The agents' packet threads are the shell: they read the
//! monitor until it is empty after they took frames from the guest and before they decide them, map QEMU's wall-clock
//! times to the monotonic clock ([`Clocks`]) and carry the [`Question`]s.
//!
//! ```text
//!  primary    running ──STOP──▶ stopped ──MIGRATION_PASS──▶ copied ──RESUME──▶ running: Ran
//!                                  └──RESUME──▶ running: Continued (an operator's stop)
//!  secondary  running ──STOP──▶ stopped ──RESUME──▶ running: Ran if `query-status` said `colo` meanwhile, else Doubtful
//!                                  └──MIGRATION completed, RESUME──▶ running: TookOver
//!  both       MIGRATION colo, RESUME: the first state;  COLO_EXIT: Left, in any order
//! ```

mod clock;
mod follower;
mod wants;

pub use clock::{Clocks, Moment, Side, Silence};
pub use follower::Follower;
pub use wants::{AGAIN, Wants};

use crate::mono::Mono;

/// What a notice meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is known where the VM is.
    Placed {
        /// It is one side of COLO.
        colo: bool,
        /// It stands still in a checkpoint.
        stopped: bool,
        /// Checkpoints may have been missed since it was known last.
        missed: bool,
    },
    /// The monitor is lost: what the guest says from here on is of no known epoch.
    Unheard,
    /// The guest stands still.
    Stopped,
    /// Primary: the guest that stands still is being copied.
    Copied {
        /// For the first time: COLO is entered.
        entry: bool,
    },
    /// The guest runs. Primary: it was copied. Secondary: another state was loaded.
    Ran(Silence),
    /// The guest runs on in the state in which it stopped.
    Continued,
    /// Secondary: the guest runs; whether it was loaded or continued is said by whether an `input-cut` comes.
    Doubtful {
        /// While it stood.
        silence: Silence,
        /// An operator had stopped it, so it was rather continued; else it was rather loaded.
        paused: bool,
    },
    /// Secondary: the guest runs alone from here on; nothing was loaded.
    TookOver,
    /// COLO has ended on this side. An alarm, no takeover.
    Left,
}

/// What is wrong with a VM, for whoever has to decide whether the other side goes on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Its monitor has not answered since then.
    Unheard(Mono),
    /// It stopped for a checkpoint then and does not run again.
    StuckStopped(Mono),
    /// COLO has ended on this side.
    LeftColo,
    /// The same, and the guest stands as it was stopped in COLO then.
    Stranded(Mono),
    /// The guest is off.
    Gone,
}

/// What to ask QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it is stopped by an operator (`query-status`).
    Status,
    /// Whether it tells of its migration (`query-migrate-capabilities`).
    Capabilities,
    /// The time between checkpoints (`query-migrate-parameters`), to be set again.
    Delay,
    /// A checkpoint: the delay set to what it is.
    Checkpoint(std::time::Duration),
}

//! Checkpoint epochs and output commit: which frame belongs to which state of the guests. No I/O, no clock.
//!
//! A checkpoint ends epoch *n* and begins *n+1*. The two machines here say at every frame whether it may be decided
//! now, and at every marker what comes next:
//!
//! ```text
//! primary                                         secondary
//!   Running(n)                                      Running(n)
//!     cut(): all captured so far was decided
//!     ──────────── cut(n), input-cut(n,k) ───────▶
//!   Cutting(n): captures nothing more               drains its guest interface, sends it as n
//!     ◀─────────── end(n) ────────────────────────  forgets its translation
//!   Ended(n): output of n is dropped
//!     ◀─────────── begin(n+1) ────────────────────  Running(n+1): input before k is dropped
//!   Running(n+1): all held of n is released, then
//!   the frames of n+1 are decided
//! ```
//!
//! Where the agents follow their QEMUs ([`crate::vm`]) nobody says `cut`: both see the checkpoint itself, `end` and `begin`
//! come when the state is loaded and `input-cut` is there, and the primary's Running(n+1) needs its own RESUME as well
//! ([`PrimaryEpochs::commit`]).
//!
//! Both streams carry the epoch in every frame. Output of a later epoch than the primary's is withheld by the caller
//! ([`Verdict::Withhold`], bounded there), output of an older one is dropped. A marker that cannot follow is a
//! [`ProtocolError`]: the streams no longer mean the same, and the link is to be closed.

use std::fmt;

/// Number of an epoch. Starts at 1 and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of an agent that has just started.
    pub const FIRST: Self = Self(1);

    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to do with a frame of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is of this epoch: decide it (primary), inject it (secondary).
    Now,
    /// It is of an epoch that has not begun here, or input whose side of the cut is not known yet: keep it, in order.
    Withhold,
    /// It is of an epoch that is over, or input that the loaded state already contains: drop and count it.
    Stale,
}

/// A marker or a tag that cannot follow what came before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {got} does not fit epoch {epoch} ({state})")]
pub struct ProtocolError {
    /// Marker or frame.
    pub what: &'static str,
    /// Epoch that it carries.
    pub got: Epoch,
    /// Epoch here.
    pub epoch: Epoch,
    /// State here.
    pub state: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PrimaryState {
    Running,
    Cutting,
    Ended,
    Begun,
}

/// The primary's view.
#[derive(Clone, Debug)]
pub struct PrimaryEpochs {
    epoch: Epoch,
    state: PrimaryState,
    wanted: bool,
}

impl PrimaryEpochs {
    /// Starts in `epoch`, with nothing cut.
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, state: PrimaryState::Running, wanted: false }
    }

    /// The current epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a cut runs: what the guest says now belongs to the next epoch and stays where it was captured.
    #[must_use]
    pub fn cutting(&self) -> bool {
        self.state != PrimaryState::Running
    }

    /// The guest's state was copied, and all that the guest had said before is decided or held. Returns the epoch to
    /// put into `cut` and `input-cut`, or `None` while another cut runs: this one follows it
    /// ([`Self::cut_wanted`]).
    pub fn cut(&mut self) -> Option<Epoch> {
        if self.cutting() {
            self.wanted = true;
            return None;
        }
        self.state = PrimaryState::Cutting;
        self.wanted = false;
        Some(self.epoch)
    }

    /// Whether a cut that came while another one ran is still to be made.
    #[must_use]
    pub fn cut_wanted(&self) -> bool {
        self.wanted && !self.cutting()
    }

    /// A frame of the secondary's guest, tagged `epoch`.
    ///
    /// # Errors
    /// A tag that no correct peer sends: more than one epoch ahead, or ahead without a cut.
    pub fn output(&self, epoch: Epoch) -> Result<Verdict, ProtocolError> {
        if epoch < self.epoch {
            return Ok(Verdict::Stale);
        }
        match self.state {
            PrimaryState::Running | PrimaryState::Cutting if epoch == self.epoch => Ok(Verdict::Now),
            PrimaryState::Begun if epoch == self.epoch.next() => Ok(Verdict::Withhold),
            _ => Err(self.refuse("output of epoch", epoch)),
        }
    }

    /// `end(epoch)` came: the secondary has sent all of it.
    ///
    /// # Errors
    /// It was not asked for.
    pub fn end(&mut self, epoch: Epoch) -> Result<(), ProtocolError> {
        if epoch != self.epoch || self.state != PrimaryState::Cutting {
            return Err(self.refuse("end", epoch));
        }
        self.state = PrimaryState::Ended;
        Ok(())
    }

    /// `begin(epoch)` came: the secondary owns the state. What it says is withheld until [`Self::commit`].
    ///
    /// # Errors
    /// It does not follow an `end`.
    pub fn begin(&mut self, epoch: Epoch) -> Result<(), ProtocolError> {
        if epoch != self.epoch.next() || self.state != PrimaryState::Ended {
            return Err(self.refuse("begin", epoch));
        }
        self.state = PrimaryState::Begun;
        Ok(())
    }

    /// The own guest is known to run again, and all that it said before it stood still has been handed in: the next
    /// epoch begins if the secondary owns the state. From here on the caller releases all that is held and then
    /// decides what it withheld. False if the secondary does not own it yet.
    pub fn commit(&mut self) -> bool {
        let begun = self.state == PrimaryState::Begun;
        if begun {
            self.epoch = self.epoch.next();
            self.state = PrimaryState::Running;
        }
        begun
    }

    /// The link is gone: a cut that runs will not end. The next session starts in a new epoch, so that nothing of the
    /// old one can be taken for it.
    pub fn restart(&mut self) -> Epoch {
        *self = Self::new(self.epoch.next());
        self.epoch
    }

    const fn refuse(&self, what: &'static str, got: Epoch) -> ProtocolError {
        let state = match self.state {
            PrimaryState::Running => "no cut runs",
            PrimaryState::Cutting => "cut sent, end not yet seen",
            PrimaryState::Ended => "end seen, begin not yet seen",
            PrimaryState::Begun => "begun, own guest not yet running",
        };
        ProtocolError { what, got, epoch: self.epoch, state }
    }
}

/// The secondary's view.
#[derive(Clone, Debug)]
pub struct SecondaryEpochs {
    epoch: Epoch,
    /// After `cut(n)`, until `input-cut(n)`: which input the state contains is not known.
    input_cut_due: Option<Epoch>,
    /// Input before this index is part of the loaded state.
    first: u64,
}

impl Default for SecondaryEpochs {
    fn default() -> Self {
        Self::new(Epoch::FIRST)
    }
}

impl SecondaryEpochs {
    /// Starts in `epoch`, with nothing cut.
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, input_cut_due: None, first: 0 }
    }

    /// The epoch that output is tagged with.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// `cut(epoch)` came. The caller now drains its guest interface, sends what it had as `epoch`, then `end(epoch)`,
    /// forgets its translation, and calls [`Self::loaded`].
    ///
    /// # Errors
    /// It is not the current epoch, or the input of the last cut is still undecided.
    pub fn cut(&mut self, epoch: Epoch) -> Result<(), ProtocolError> {
        if epoch != self.epoch || self.input_cut_due.is_some() {
            return Err(self.refuse("cut", epoch));
        }
        self.input_cut_due = Some(epoch);
        Ok(())
    }

    /// The state of the primary is loaded: returns the epoch to put into `begin`. Input stays withheld until
    /// `input-cut`.
    pub fn loaded(&mut self) -> Epoch {
        self.epoch = self.epoch.next();
        self.epoch
    }

    /// `input-cut(epoch, first)` came.
    ///
    /// # Errors
    /// No cut of this epoch waits for it.
    pub fn input_cut(&mut self, epoch: Epoch, first: u64) -> Result<(), ProtocolError> {
        if self.input_cut_due != Some(epoch) {
            return Err(self.refuse("input-cut", epoch));
        }
        self.input_cut_due = None;
        self.first = first;
        Ok(())
    }

    /// A frame of input of this epoch came from the link. Which side of a cut it lies on is said by its index alone
    /// ([`Self::input`]): what the primary sends while the secondary loads still carries the old epoch.
    ///
    /// # Errors
    /// Its epoch has not begun here, so it cannot have begun there.
    pub fn check_input(&self, epoch: Epoch) -> Result<(), ProtocolError> {
        if epoch > self.epoch { Err(self.refuse("input of epoch", epoch)) } else { Ok(()) }
    }

    /// A frame of input with this index; its turn to be injected has come.
    #[must_use]
    pub const fn input(&self, index: u64) -> Verdict {
        if self.input_cut_due.is_some() {
            Verdict::Withhold
        } else if index < self.first {
            Verdict::Stale
        } else {
            Verdict::Now
        }
    }

    /// The state that ended this epoch is loaded, and its input before `first` is part of it: both at once, where the
    /// QEMUs are followed. Returns the epochs to put into `end` and `begin`.
    pub fn load(&mut self, first: u64) -> (Epoch, Epoch) {
        self.first = first;
        (self.epoch, self.loaded())
    }

    /// The primary begins a session in `epoch`: whatever was cut in the last one is void.
    pub const fn restart(&mut self, epoch: Epoch) {
        *self = Self::new(epoch);
    }

    const fn refuse(&self, what: &'static str, got: Epoch) -> ProtocolError {
        let state = if self.input_cut_due.is_some() { "input-cut is due" } else { "no cut runs" };
        ProtocolError { what, got, epoch: self.epoch, state }
    }
}

#[cfg(test)]
mod tests;

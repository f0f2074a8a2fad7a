//! What the guest has not read of its input yet, as its tap counts: where the input of an epoch ends.
//!
//! A tap counts a frame as sent when its reader fetches it, and XDP numbers what goes in. Frames that the host itself sends
//! into the tap are in the first count only: they are found out when the guest has read all, and discounted.

use std::io;

use super::Datapath;

/// How far the guest has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputRead {
    /// Number of the first mirrored frame that the guest's side of the interface has not read.
    pub first: u64,
    /// Frames that the interface has dropped since the start: each makes `first` too small or too large by one.
    pub dropped: u64,
}

/// What is known of the input so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    /// One more than the highest number that was handed out.
    pub next: u64,
    /// Frames read that have no number.
    foreign: u64,
}

impl Input {
    /// The first unread number if `gone` frames have left the queue.
    fn first(&mut self, gone: u64) -> u64 {
        self.foreign = self.foreign.max(gone.saturating_sub(self.next));
        gone - self.foreign
    }
}

impl Datapath {
    /// How far the guest has read its mirrored input. Exact while it stands still and after [`Self::next_mirrored`] has handed
    /// out everything.
    ///
    /// # Errors
    /// The guest's interface is gone.
    pub fn input_read(&mut self) -> io::Result<InputRead> {
        let link = self.netlink.link_by_index(self.guest.index)?;
        let start = &self.guest.start;
        let dropped = link.tx_dropped.saturating_sub(start.tx_dropped);
        let first = if self.guest.is_tap() {
            self.input.first(link.tx_packets.saturating_sub(start.tx_packets) + dropped)
        } else {
            self.input.next
        };
        Ok(InputRead { first, dropped })
    }

    /// Injected frames that the guest's side of the interface has not read.
    ///
    /// # Errors
    /// The guest's interface is gone.
    pub fn injected_unread(&mut self) -> io::Result<u64> {
        self.injector.unread(&mut self.netlink)
    }
}

#[cfg(test)]
mod tests;

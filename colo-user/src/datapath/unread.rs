//! What the guest has not read of its input yet, as its tap counts: where the input of an epoch ends.
//!
//! A tap counts a frame as sent when its reader fetches it, and XDP numbers what goes in. Frames that the host itself sends
//! into the tap are in the first count only: they are found out when the guest has read all, and discounted.

use colo_ebpf::INDEX_MIRRORED;

use super::Datapath;
use super::error::DatapathError;
use crate::path::Side;

/// How far the guest has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputRead {
    /// Number of the first mirrored frame that the guest's side of the interface has not read.
    pub first: u64,
    /// Frames that the interface has dropped since the start: each makes `first` too small or too large by one.
    pub dropped: u64,
    /// Times that the path to the guest was lost or had again: what lay in it then was read or not, nobody knows.
    pub changes: u64,
}

/// What is known of the input so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    /// One more than the highest number that was handed out.
    pub next: u64,
    /// The first number that went into the interface as it is now. What went before is not waited for.
    begin: u64,
    /// Frames read that have no number.
    foreign: u64,
}

impl Input {
    /// From here on the numbers from `next` on go into the interface, and what leaves its queue is counted anew.
    fn begin(&mut self, next: u64) {
        (self.begin, self.foreign) = (next, 0);
    }

    /// The first unread number if `gone` frames have left the queue.
    fn first(&mut self, gone: u64) -> u64 {
        self.foreign = self.foreign.max(gone.saturating_sub(self.next.saturating_sub(self.begin)));
        self.begin + (gone - self.foreign)
    }
}

impl Datapath {
    /// How far the guest has read its mirrored input. Exact while it stands still and after [`Self::next_mirrored`] has handed
    /// out everything. A guest whose interface is gone reads nothing any more.
    pub fn input_read(&mut self) -> InputRead {
        let path = self.paths.of(Side::Guest);
        let changes = path.lost + path.restored;
        let link = self.netlink.link_by_index(self.guest.index).ok();
        let dropped = self.guest.dropped(link.as_ref());
        let start = &self.guest.start;
        let first = match &link {
            Some(link) if self.guest.is_tap() => {
                let left = link.tx_packets + link.tx_dropped;
                self.input.first(left.saturating_sub(start.tx_packets + start.tx_dropped))
            }
            _ => self.input.next,
        };
        InputRead { first, dropped, changes }
    }

    /// Input that comes from here on goes into the guest's interface as it is now.
    pub(super) fn begin_input(&mut self) -> Result<(), DatapathError> {
        let name = self.guest.name.clone();
        let named = |source| DatapathError::Interface { interface: name, source };
        let link = self.netlink.link_by_index(self.guest.index).map_err(named)?;
        let next = self.programs.next_index(INDEX_MIRRORED)?.saturating_sub(self.first_mirrored);
        self.input.begin(next);
        self.injector.begin(&link);
        self.guest.begin(link);
        Ok(())
    }

    /// Injected frames that the guest's side of the interface has not read.
    pub fn injected_unread(&mut self) -> u64 {
        self.injector.unread(&mut self.netlink)
    }
}

#[cfg(test)]
mod tests;

//! Frames that were numbered by a program and never arrived.

/// Counts the numbers that are missing in a series. Two processors may deliver neighbours the wrong way round: a late
/// number takes back the loss it was counted as.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    next: u32,
    /// The series begins with whatever arrives first.
    anywhere: bool,
    lost: u64,
}

impl Gaps {
    /// Of a series that someone else read before.
    pub fn anywhere() -> Self {
        Self { anywhere: true, ..Self::default() }
    }

    /// A number arrived.
    pub fn arrived(&mut self, number: u32) {
        if std::mem::take(&mut self.anywhere) {
            self.next = number;
        }
        let ahead = number.wrapping_sub(self.next);
        if ahead.cast_signed() >= 0 {
            self.lost += u64::from(ahead);
            self.next = number.wrapping_add(1);
        } else {
            self.lost = self.lost.saturating_sub(1);
        }
    }

    /// Numbers missing so far.
    pub fn lost(self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests;

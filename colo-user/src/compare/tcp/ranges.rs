//! Sets of stream offsets, kept as disjoint ranges.

use smallvec::SmallVec;

/// Most ranges in one set. TCP stacks keep fewer holes than this in their own queues; a stream with more is not
/// compared further before a checkpoint.
pub const MAX_RANGES: usize = 1024;

/// A set of offsets. One range, no allocation, while a stream is said in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(SmallVec<[(i64, i64); 1]>);

impl RangeSet {
    /// Adds `[from, to)`. `false`, and nothing added, if the set would have more than [`MAX_RANGES`].
    pub fn insert(&mut self, from: i64, to: i64) -> bool {
        if from >= to {
            return true;
        }
        // Ranges that touch the new one are merged with it.
        let first = self.0.partition_point(|r| r.1 < from);
        let last = self.0.partition_point(|r| r.0 <= to);
        if first == last {
            if self.0.len() >= MAX_RANGES {
                return false;
            }
            self.0.insert(first, (from, to));
            return true;
        }
        self.0[first] = (from.min(self.0[first].0), to.max(self.0[last - 1].1));
        self.0.drain(first + 1..last);
        true
    }

    /// Whether all of `[from, to)` is in the set.
    #[must_use]
    pub fn covers(&self, from: i64, to: i64) -> bool {
        self.first_gap(from) >= to
    }

    /// The first offset from `from` on that is not in the set.
    #[must_use]
    pub fn first_gap(&self, from: i64) -> i64 {
        let at = self.0.partition_point(|r| r.1 <= from);
        match self.0.get(at) {
            Some(&(start, end)) if start <= from => end,
            _ => from,
        }
    }

    /// Removes all below `limit`.
    pub fn remove_below(&mut self, limit: i64) {
        let gone = self.0.partition_point(|r| r.1 <= limit);
        self.0.drain(..gone);
        if let Some(first) = self.0.first_mut() {
            first.0 = first.0.max(limit);
        }
    }

    /// The parts of the set that lie in `[from, to)`.
    pub fn within(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let first = self.0.partition_point(|r| r.1 <= from);
        self.0[first..].iter().map(move |r| (r.0.max(from), r.1.min(to))).take_while(|r| r.0 < r.1)
    }

    /// How many offsets are in this set and not in `other`.
    #[must_use]
    pub fn count_outside(&self, other: &Self) -> i64 {
        let whole: i64 = self.0.iter().map(|r| r.1 - r.0).sum();
        let shared = self.0.iter().flat_map(|&(from, to)| other.within(from, to));
        whole - shared.map(|(from, to)| to - from).sum::<i64>()
    }

    /// The first offset that is in this set and not in `other`.
    #[must_use]
    pub fn first_outside(&self, other: &Self) -> Option<i64> {
        self.0.iter().find_map(|&(from, to)| {
            let gap = other.first_gap(from);
            (gap < to).then_some(gap)
        })
    }
}

#[cfg(test)]
mod tests;

//! What a capture lacks of something that it shows: it has kept the first bytes of each frame only.

use std::iter;
use std::ops::Range;

/// The end of something whose length is not known.
const OPEN: usize = usize::MAX;

/// Ranges of bytes that are not known, in order and apart from each other. On a live path there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Range<usize>>);

impl Gaps {
    /// All is known.
    pub const NONE: Self = Self(Vec::new());

    /// Those `missing` bytes behind the first `there`.
    #[must_use]
    pub fn behind(there: usize, missing: usize) -> Self {
        match missing {
            0 => Self::NONE,
            _ => Self(iter::once(there..there + missing).collect()),
        }
    }

    /// All behind the first `there` bytes, how much that be.
    #[must_use]
    pub fn open(there: usize) -> Self {
        Self(iter::once(there..OPEN).collect())
    }

    /// All of `0..total` that is in none of `known`.
    #[must_use]
    pub fn between(mut known: Vec<Range<usize>>, total: usize) -> Self {
        known.sort_unstable_by_key(|range| range.start);
        let mut gaps = Vec::new();
        let mut at = 0;
        for range in known {
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < total {
            gaps.push(at..total);
        }
        Self(gaps)
    }

    /// Whether all is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.0.iter().cloned()
    }

    /// How many of the first bytes of `bytes` are known.
    #[must_use]
    pub fn sure(&self, bytes: &[u8]) -> usize {
        self.0.first().map_or(bytes.len(), |first| first.start.min(bytes.len()))
    }

    /// Length of what `bytes` are the known part of, if that is known.
    #[must_use]
    pub fn total(&self, bytes: &[u8]) -> Option<usize> {
        match self.0.last().map_or(0, |last| last.end) {
            OPEN => None,
            end => Some(end.max(bytes.len())),
        }
    }

    /// The gaps in what follows the first `skip` bytes.
    #[must_use]
    pub fn after(&self, skip: usize) -> Self {
        let rest = self.iter().filter(|range| range.end > skip);
        let end = |end: usize| if end == OPEN { OPEN } else { end - skip };
        Self(rest.map(|range| range.start.saturating_sub(skip)..end(range.end)).collect())
    }

    fn cover(&self, at: usize) -> bool {
        self.0.iter().any(|range| range.contains(&at))
    }
}

/// Whether two things may be of one length.
#[must_use]
pub fn same_length(one: (&[u8], &Gaps), other: (&[u8], &Gaps)) -> bool {
    match (one.1.total(one.0), other.1.total(other.0)) {
        (Some(one), Some(other)) => one == other,
        (Some(one), None) => one >= other.0.len(),
        (None, Some(other)) => other >= one.0.len(),
        (None, None) => true,
    }
}

/// Where two things differ first that are known of both, and no longer than the shorter of them; each is bytes, with those that are not
/// known being anything or, at the end, not there.
#[must_use]
pub fn first_difference(one: (&[u8], &Gaps), other: (&[u8], &Gaps)) -> Option<usize> {
    let (pairs, known) = (one.0.iter().zip(other.0), one.1.is_empty() && other.1.is_empty());
    pairs.enumerate().position(|(at, (a, b))| a != b && (known || !(one.1.cover(at) || other.1.cover(at))))
}

#[cfg(test)]
mod tests;

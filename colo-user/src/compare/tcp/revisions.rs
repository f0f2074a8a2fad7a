//! What a guest says at a place of the stream where it has said something else before.
//!
//! A stack never does that on purpose, yet guests do: a page sent from the cache is written to before it is sent again. What
//! both guests say alike must leave, so the payload of each segment that contradicts its guest's earlier ones is kept as it
//! was said. A byte of it counts as said by the other guest if that has said it in any version, cut as it likes.

use super::bytes::{Bytes, Match};
use super::ranges::RangeSet;
use super::voice::Side;

/// Most such segments. Beyond it those leave that both guests have said alike and that no held frame says; with none of
/// these a checkpoint is asked for.
pub const MAX_REVISIONS: usize = 64;

/// A revision, as long as a held frame says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionId(u32);

#[derive(Clone)]
struct Revision {
    id: RevisionId,
    from: i64,
    data: Box<[u8]>,
    by: [bool; 2],
}

impl Revision {
    const fn to(&self) -> i64 {
        self.from + self.data.len() as i64
    }
}

/// The revisions, in the order in which they were first said.
#[derive(Clone, Default)]
pub struct Revisions {
    list: Vec<Revision>,
    bytes: usize,
    next: u32,
}

/// A stream with more than [`MAX_REVISIONS`].
#[derive(Debug)]
pub struct TooManyRevisions;

impl Revisions {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Takes note that `side` says `data` at `from`, where it has said other bytes before. `held` tells which are said by held
    /// frames.
    ///
    /// # Errors
    /// [`TooManyRevisions`] if there is no room: it is not noted.
    pub fn say(
        &mut self,
        side: Side,
        from: i64,
        data: &[u8],
        held: impl Fn(RevisionId) -> bool,
    ) -> Result<RevisionId, TooManyRevisions> {
        if let Some(again) = self.list.iter_mut().find(|r| r.from == from && *r.data == *data) {
            again.by[side as usize] = true;
            return Ok(again.id);
        }
        if self.list.len() >= MAX_REVISIONS {
            self.forget_agreed(held);
        }
        if self.list.len() >= MAX_REVISIONS {
            return Err(TooManyRevisions);
        }
        self.next = self.next.wrapping_add(1);
        let id = RevisionId(self.next);
        let mut by = [false; 2];
        by[side as usize] = true;
        self.bytes += data.len();
        self.list.push(Revision { id, from, data: data.into(), by });
        Ok(id)
    }

    /// The first offset of a revision that `side` has not said in any version; `first` and `said` are what it said there first.
    /// What is no longer kept has been said by both.
    #[must_use]
    pub fn first_unsaid(&self, side: Side, id: RevisionId, first: &Bytes, said: &RangeSet) -> Option<i64> {
        let revision = self.list.iter().find(|r| r.id == id)?;
        self.unsaid_of(revision, side, first, said)
    }

    fn unsaid_of(&self, of: &Revision, side: Side, first: &Bytes, said: &RangeSet) -> Option<i64> {
        if of.by[side as usize] {
            return None;
        }
        let at = |offset: i64| (offset - of.from) as usize;
        let mut found = vec![false; of.data.len()];
        for (from, to, how) in first.matches(of.from, &of.data) {
            if how == Match::Equal {
                said.within(from, to).for_each(|(from, to)| found[at(from)..at(to)].fill(true));
            }
        }
        for other in self.list.iter().filter(|other| other.by[side as usize]) {
            let (from, to) = (other.from.max(of.from), other.to().min(of.to()));
            for offset in from..to {
                found[at(offset)] |= other.data[(offset - other.from) as usize] == of.data[at(offset)];
            }
        }
        found.iter().position(|found| !found).map(|place| of.from + place as i64)
    }

    /// At most `n` bytes of a revision from `from` on.
    #[must_use]
    pub fn excerpt(&self, id: RevisionId, from: i64, n: usize) -> Vec<u8> {
        let rest = self.list.iter().find(|r| r.id == id).and_then(|r| {
            let skip = usize::try_from(from - r.from).ok()?;
            r.data.get(skip..)
        });
        rest.map(|rest| rest[..rest.len().min(n)].to_vec()).unwrap_or_default()
    }

    /// An offset of which the secondary has said a version that the primary has not: `first` and `said` are what the
    /// primary said there first.
    #[must_use]
    pub fn ahead(&self, first: &Bytes, said: &RangeSet) -> Option<i64> {
        let mut lone = self.list.iter().filter(|r| r.by == [false, true]);
        lone.find_map(|r| self.unsaid_of(r, Side::Primary, first, said))
    }

    /// Everything below `offset` is history.
    pub fn forget_below(&mut self, offset: i64) {
        self.keep(|r| r.to() > offset);
    }

    /// Forgets what both guests have said alike and no held frame says.
    pub fn forget_agreed(&mut self, held: impl Fn(RevisionId) -> bool) {
        self.keep(|r| r.by != [true; 2] || held(r.id));
    }

    /// The epoch cut: the secondary's guest has said what the primary's has.
    pub fn cut(&mut self) {
        self.keep(|r| r.by[Side::Primary as usize]);
        self.list.iter_mut().for_each(|r| r.by = [true; 2]);
    }

    fn keep(&mut self, wanted: impl Fn(&Revision) -> bool) {
        self.list.retain(wanted);
        self.bytes = self.list.iter().map(|r| r.data.len()).sum();
    }
}

#[cfg(test)]
mod tests;

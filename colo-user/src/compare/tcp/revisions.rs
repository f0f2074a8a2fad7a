//! What a guest says at a place of the stream where it has said something else before.
//!
//! A stack never does that on purpose, yet guests do: a page sent from the cache is written to before it is sent again, a
//! keep-alive brings a garbage octet. What both guests say alike must leave, so each further version of a byte is kept in a
//! layer above the first one ([`super::bytes`]), with the same account of who has said it.

use super::bytes::{Bytes, Match};
use super::ranges::RangeSet;
use super::voice::Side;

/// Most layers. Beyond it those leave that both guests have said alike and that no held frame says; with none of these a
/// checkpoint is asked for.
pub const MAX_REVISIONS: usize = 64;

/// A layer, as long as a held frame says something of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerId(u32);

/// A run of a held frame's bytes that stands in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it begins.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// Its layer.
    pub layer: LayerId,
}

#[derive(Clone)]
struct Layer {
    id: LayerId,
    bytes: Bytes,
    said: [RangeSet; 2],
}

impl Layer {
    fn agreed(&self) -> bool {
        self.said[0] == self.said[1]
    }
}

/// The layers, lowest first.
#[derive(Clone, Default)]
pub struct Revisions {
    layers: Vec<Layer>,
    next: u32,
}

/// A stream that says more versions of a byte than [`MAX_REVISIONS`], or in more places than are tracked.
#[derive(Debug)]
pub struct TooManyRevisions;

impl Revisions {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Bytes kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes.len()).sum()
    }

    /// Takes note that `side` says `data` at `from`, where it has said other bytes first. The runs are added to `runs`;
    /// `held` tells which layers held frames say something of.
    ///
    /// # Errors
    /// [`TooManyRevisions`] if there is no room: the rest is not noted.
    pub fn say(
        &mut self,
        side: Side,
        from: i64,
        data: &[u8],
        held: impl Fn(LayerId) -> bool,
        runs: &mut Vec<Run>,
    ) -> Result<(), TooManyRevisions> {
        let mut rest = vec![(from, data)];
        for layer in &mut self.layers {
            let mut above = Vec::new();
            for (from, data) in rest {
                for (start, end, found) in layer.bytes.matches(from, data) {
                    let data = &data[(start - from) as usize..(end - from) as usize];
                    match found {
                        Match::Differs => above.push((start, data)),
                        Match::Equal | Match::Absent => layer.say(side, start, data, found, runs)?,
                    }
                }
            }
            rest = above;
        }
        if rest.is_empty() {
            return Ok(());
        }
        if self.layers.len() >= MAX_REVISIONS {
            self.layers.retain(|layer| !layer.agreed() || held(layer.id));
        }
        if self.layers.len() >= MAX_REVISIONS {
            return Err(TooManyRevisions);
        }
        self.next = self.next.wrapping_add(1);
        let mut layer = Layer { id: LayerId(self.next), bytes: Bytes::default(), said: Default::default() };
        for (from, data) in rest {
            layer.say(side, from, data, Match::Absent, runs)?;
        }
        self.layers.push(layer);
        Ok(())
    }

    /// The first offset of `run` that `side` has not said. What is no longer kept has been said by both.
    #[must_use]
    pub fn first_unsaid(&self, side: Side, run: &Run) -> Option<i64> {
        let layer = self.layers.iter().find(|layer| layer.id == run.layer)?;
        let gap = layer.said[side as usize].first_gap(run.from);
        (gap < run.to).then_some(gap)
    }

    /// At most `n` bytes of a layer from `at` on.
    #[must_use]
    pub fn excerpt(&self, layer: LayerId, at: i64, n: usize) -> Vec<u8> {
        let layer = self.layers.iter().find(|other| other.id == layer);
        layer.map(|layer| layer.bytes.excerpt(at, n)).unwrap_or_default()
    }

    /// The first offset of which the secondary has said a version that the primary has not.
    #[must_use]
    pub fn first_ahead(&self) -> Option<i64> {
        let [primary, secondary] = [Side::Primary as usize, Side::Secondary as usize];
        self.layers.iter().filter_map(|l| l.said[secondary].first_outside(&l.said[primary])).min()
    }

    /// Everything below `offset` is history.
    pub fn forget_below(&mut self, offset: i64) {
        for layer in &mut self.layers {
            layer.said.iter_mut().for_each(|said| said.remove_below(offset));
            layer.bytes.forget_below(offset);
        }
        self.layers.retain(|layer| layer.bytes.len() > 0);
    }

    /// Forgets what both guests have said alike and no held frame says.
    pub fn forget_agreed(&mut self, held: impl Fn(LayerId) -> bool) {
        self.layers.retain(|layer| !layer.agreed() || held(layer.id));
    }

    /// The epoch cut: the secondary's guest has said what the primary's has.
    pub fn cut(&mut self) {
        for layer in &mut self.layers {
            layer.said[Side::Secondary as usize] = layer.said[Side::Primary as usize].clone();
            layer.bytes.forget_outside(&layer.said[Side::Primary as usize]);
        }
        self.layers.retain(|layer| layer.bytes.len() > 0);
    }
}

impl Layer {
    fn say(
        &mut self,
        side: Side,
        from: i64,
        data: &[u8],
        found: Match,
        runs: &mut Vec<Run>,
    ) -> Result<(), TooManyRevisions> {
        let to = from + data.len() as i64;
        if !self.said[side as usize].insert(from, to) {
            return Err(TooManyRevisions);
        }
        if found == Match::Absent {
            self.bytes.keep(from, data);
        }
        runs.push(Run { from, to, layer: self.id });
        Ok(())
    }
}

#[cfg(test)]
mod tests;

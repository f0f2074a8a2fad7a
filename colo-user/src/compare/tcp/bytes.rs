//! The bytes of a stream that may still be needed: said by one side and not by the other, or said by both and not yet
//! acknowledged by the client. One copy serves both sides: what is here is what was said first, and the other side is
//! compared with it.

use std::collections::VecDeque;

/// A run of bytes at an offset of the stream.
#[derive(Clone)]
struct Piece {
    from: i64,
    data: Box<[u8]>,
}

impl Piece {
    const fn to(&self) -> i64 {
        self.from + self.data.len() as i64
    }
}

/// How bytes compare with those kept at their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The same bytes are kept.
    Equal,
    /// Other bytes are kept, each of them.
    Differs,
    /// None are kept.
    Absent,
}

/// Sparse bytes of a stream, as disjoint pieces in order.
#[derive(Clone, Default)]
pub struct Bytes {
    pieces: VecDeque<Piece>,
    total: usize,
}

impl Bytes {
    /// Bytes kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.total
    }

    fn overlapping(&self, from: i64, to: i64) -> (usize, usize) {
        // In order, nothing overlaps and the search ends at the last piece.
        if self.pieces.back().is_none_or(|last| last.to() <= from) {
            return (self.pieces.len(), self.pieces.len());
        }
        (self.pieces.partition_point(|p| p.to() <= from), self.pieces.partition_point(|p| p.from < to))
    }

    /// The offset of the first byte of `data`, said at `from`, that differs from what is kept. Bytes not kept do not
    /// differ.
    #[must_use]
    pub fn first_difference(&self, from: i64, data: &[u8]) -> Option<i64> {
        let to = from + data.len() as i64;
        let (first, last) = self.overlapping(from, to);
        self.pieces.range(first..last).find_map(|piece| {
            let start = piece.from.max(from);
            let end = piece.to().min(to);
            let kept = &piece.data[(start - piece.from) as usize..(end - piece.from) as usize];
            let said = &data[(start - from) as usize..(end - from) as usize];
            // The slice comparison is a memcmp; the search for the place is for the rare case.
            (kept != said).then(|| {
                let at = kept.iter().zip(said).position(|(k, s)| k != s).expect("the slices differ");
                start + at as i64
            })
        })
    }

    /// How `data`, said at `from`, compares with what is kept: runs `(from, to, how)` in order, that together cover it. For
    /// the rare case that something differs.
    #[must_use]
    pub fn matches(&self, from: i64, data: &[u8]) -> Vec<(i64, i64, Match)> {
        let mut runs: Vec<(i64, i64, Match)> = Vec::new();
        let mut add = |from: i64, to: i64, found: Match| match runs.last_mut() {
            Some(last) if last.2 == found => last.1 = to,
            _ => runs.push((from, to, found)),
        };
        let to = from + data.len() as i64;
        let (first, last) = self.overlapping(from, to);
        let mut next = from;
        for piece in self.pieces.range(first..last) {
            if next < piece.from {
                add(next, piece.from, Match::Absent);
                next = piece.from;
            }
            let end = piece.to().min(to);
            for at in next..end {
                let equal = piece.data[(at - piece.from) as usize] == data[(at - from) as usize];
                add(at, at + 1, if equal { Match::Equal } else { Match::Differs });
            }
            next = end;
        }
        if next < to {
            add(next, to, Match::Absent);
        }
        runs
    }

    /// Keeps `data`, said at `from`: where bytes are kept already they are replaced.
    pub fn keep(&mut self, from: i64, data: &[u8]) {
        let to = from + data.len() as i64;
        let (mut at, last) = self.overlapping(from, to);
        let mut next = from;
        let mut remaining = last - at;
        while next < to {
            let gap_end = if remaining > 0 { self.pieces[at].from.min(to) } else { to };
            if next < gap_end {
                let data = data[(next - from) as usize..(gap_end - from) as usize].into();
                self.total += (gap_end - next) as usize;
                self.pieces.insert(at, Piece { from: next, data });
                at += 1;
                next = gap_end;
            }
            if remaining > 0 {
                let piece = &mut self.pieces[at];
                let end = piece.to().min(to);
                let start = piece.from;
                piece.data[(next - start) as usize..(end - start) as usize]
                    .copy_from_slice(&data[(next - from) as usize..(end - from) as usize]);
                next = end;
                at += 1;
                remaining -= 1;
            }
        }
    }

    /// At most `n` bytes kept from `from` on.
    #[must_use]
    pub fn excerpt(&self, from: i64, n: usize) -> Vec<u8> {
        let (first, last) = self.overlapping(from, from + n as i64);
        let mut out = Vec::new();
        for piece in self.pieces.range(first..last) {
            let next = from + out.len() as i64;
            if piece.from > next {
                break;
            }
            let rest = &piece.data[(next - piece.from) as usize..];
            out.extend_from_slice(&rest[..rest.len().min(n - out.len())]);
        }
        out
    }

    /// The range of the lowest piece.
    #[must_use]
    pub fn first(&self) -> Option<(i64, i64)> {
        self.pieces.front().map(|piece| (piece.from, piece.to()))
    }

    /// Forgets the lowest piece.
    pub fn forget_first(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.total -= piece.data.len();
        }
        if self.pieces.is_empty() {
            self.pieces.shrink_to_fit();
        }
    }

    /// Forgets pieces that end at or below `limit`.
    pub fn forget_below(&mut self, limit: i64) {
        while self.first().is_some_and(|(_, to)| to <= limit) {
            self.forget_first();
        }
    }

    /// Forgets what is not in `said`.
    pub fn forget_outside(&mut self, said: &super::ranges::RangeSet) {
        let mut kept = Self::default();
        for piece in std::mem::take(&mut self.pieces) {
            for (from, to) in said.within(piece.from, piece.to()) {
                kept.keep(from, &piece.data[(from - piece.from) as usize..(to - piece.from) as usize]);
            }
        }
        *self = kept;
    }
}

#[cfg(test)]
mod tests;

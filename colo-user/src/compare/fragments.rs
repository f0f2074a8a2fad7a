//! Puts fragmented datagrams together, one table per side.
//!
//! A datagram is *partial* until its pieces cover it without a gap, then *whole* and handed to the comparison of its
//! class with the tokens of its frames. Pieces that can never become whole (overlapping with other bytes, more than [`MAX_PIECES`], or
//! still partial when the wait or the table's bound ends) are *given up*: compared one by one, by offset and bytes.

use super::classify::{Class, Classified, FragmentOf, fragment_key, reassembled};
use super::gaps::Gaps;
use super::policy::Limits;
use crate::mono::Mono;
use crate::wire::extras::Extras;
use crate::wire::{Ip, IpFamily, Malformed, Vlans};
use std::collections::{BTreeMap, HashMap};

/// Most pieces of one datagram, duplicates included: 65,535 bytes at the smallest IPv6 MTU are 54.
pub const MAX_PIECES: usize = 256;

/// Identifies a datagram in reassembly (RFC 791 section 2.3, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DatagramKey {
    family: IpFamily,
    /// IPv4 tells datagrams apart by protocol too, IPv6 does not.
    protocol: u8,
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
}

/// One piece, with what the caller needs to release its frame (`T`).
#[derive(Clone)]
pub struct Piece<T> {
    /// Offset of the data in the datagram.
    pub offset: u32,
    /// Whether more follow.
    pub more: bool,
    /// The data, as far as it is known.
    pub data: Box<[u8]>,
    /// Bytes of it that a capture lacks behind that.
    missing: usize,
    /// What its packet says beside the data.
    extras: Extras,
    /// The caller's.
    pub tag: T,
}

/// The pieces of one datagram, in order of arrival.
#[derive(Clone)]
pub struct Partial<T> {
    /// Header of the piece that came first, or of the first one.
    ip: Ip,
    /// Tags.
    vlans: Vlans,
    /// What the packet of the first piece says beside the data.
    extras: Extras,
    /// The pieces.
    pub pieces: Vec<Piece<T>>,
    /// Place in the order of ages.
    age: (Mono, u64),
    bytes: usize,
}

/// What became of a fragment.
pub enum Outcome<T> {
    /// It waits for the rest.
    Waiting,
    /// The datagram is whole: its pieces in order of arrival, and its bytes.
    Whole(Partial<T>, Datagram),
    /// It contradicts an earlier piece: all of them are to be compared one by one.
    GivenUp(Partial<T>),
}

/// A datagram that was put together.
pub struct Datagram {
    data: Vec<u8>,
    gaps: Gaps,
}

/// Datagrams of one side in reassembly.
#[derive(Clone)]
pub struct Reassembly<T> {
    partial: HashMap<(DatagramKey, Vlans), Partial<T>, foldhash::fast::RandomState>,
    /// Oldest first; a counter tells apart what began at the same time.
    ages: BTreeMap<(Mono, u64), (DatagramKey, Vlans)>,
    begun: u64,
    bytes: usize,
}

impl<T> Default for Reassembly<T> {
    fn default() -> Self {
        Self { partial: HashMap::default(), ages: BTreeMap::new(), begun: 0, bytes: 0 }
    }
}

impl<T> Reassembly<T> {
    /// Adds a piece.
    pub fn add(&mut self, now: Mono, of: &FragmentOf<'_>, tag: T) -> Outcome<T> {
        let key = DatagramKey {
            family: of.ip.family,
            protocol: if of.ip.family == IpFamily::V4 { of.ip.protocol } else { 0 },
            src: of.ip.src,
            dst: of.ip.dst,
            id: of.fragment.id,
        };
        let key = (key, of.vlans);
        let partial = self.partial.entry(key).or_insert_with(|| {
            self.begun += 1;
            let age = (now, self.begun);
            self.ages.insert(age, key);
            Partial { ip: of.ip, vlans: of.vlans, extras: Extras::new(), pieces: Vec::new(), age, bytes: 0 }
        });
        if of.fragment.offset == 0 {
            // The next header of a datagram is the first fragment's (RFC 8200 section 4.5), and so are the options.
            (partial.ip, partial.extras) = (of.ip, of.extras.clone());
        }
        let piece = Piece {
            offset: of.fragment.offset,
            more: of.fragment.more,
            data: of.data.into(),
            missing: of.ip.missing,
            extras: of.extras.clone(),
            tag,
        };
        partial.bytes += piece.data.len() + piece.missing;
        self.bytes += piece.data.len() + piece.missing;
        let contradicts = partial.pieces.len() >= MAX_PIECES || partial.contradicts(&piece);
        partial.pieces.push(piece);
        if contradicts {
            return Outcome::GivenUp(self.take(key));
        }
        match partial.assembled() {
            Some(data) => Outcome::Whole(self.take(key), data),
            None => Outcome::Waiting,
        }
    }

    fn take(&mut self, key: (DatagramKey, Vlans)) -> Partial<T> {
        let partial = self.partial.remove(&key).expect("the caller has just seen it");
        self.ages.remove(&partial.age);
        self.bytes -= partial.bytes;
        partial
    }

    /// The oldest datagram, if it is to be given up: begun before `deadline`, or the table is over its bounds.
    pub fn give_up(&mut self, deadline: Mono, limits: &Limits) -> Option<Partial<T>> {
        let (&(since, _), &key) = self.ages.first_key_value()?;
        (since <= deadline || self.over(limits)).then(|| self.take(key))
    }

    /// Whether the table is over its bounds.
    #[must_use]
    pub fn over(&self, limits: &Limits) -> bool {
        self.partial.len() > limits.reassemblies || self.bytes > limits.reassembly_bytes
    }

    /// When the oldest datagram began.
    #[must_use]
    pub fn oldest(&self) -> Option<Mono> {
        self.ages.first_key_value().map(|(&(since, _), _)| since)
    }

    /// Bytes waiting.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Empties the table, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Partial<T>> + '_ {
        std::iter::from_fn(|| {
            let (_, &key) = self.ages.first_key_value()?;
            Some(self.take(key))
        })
    }
}

impl<T> Piece<T> {
    /// Where it begins in the datagram, where it ends, and up to where its bytes are known.
    fn span(&self) -> (usize, usize, usize) {
        let known = self.offset as usize + self.data.len();
        (self.offset as usize, known + self.missing, known)
    }
}

impl<T> Partial<T> {
    /// Whether `new` overlaps an earlier piece with other bytes, or disagrees about the end.
    fn contradicts(&self, new: &Piece<T>) -> bool {
        let (begins, ends, known) = new.span();
        self.pieces.iter().any(|old| {
            let (old_begins, old_ends, old_known) = old.span();
            let (from, to) = (old_begins.max(begins), old_known.min(known));
            let differ = from < to
                && old.data[from - old_begins..to - old_begins] != new.data[from - begins..to - begins];
            let past_end = (!old.more && ends > old_ends)
                || (!new.more && old_ends > ends)
                || (!old.more && new.more && ends == old_ends)
                || (!new.more && old.more && ends == old_ends);
            differ || past_end
        })
    }

    /// The whole datagram's bytes, once there is no gap between the pieces.
    fn assembled(&self) -> Option<Datagram> {
        let (_, total, _) = self.pieces.iter().find(|p| !p.more)?.span();
        if self.bytes < total {
            return None;
        }
        let mut order: Vec<&Piece<T>> = self.pieces.iter().collect();
        order.sort_by_key(|p| p.offset);
        let covered = order.iter().try_fold(0, |covered, piece| {
            let (begins, ends, _) = piece.span();
            (begins <= covered).then(|| ends.max(covered))
        });
        if covered != Some(total) {
            return None;
        }
        let mut data = vec![0; total];
        let mut known = Vec::with_capacity(order.len());
        for piece in order {
            let (begins, _, end) = piece.span();
            data[begins..end].copy_from_slice(&piece.data);
            known.push(begins..end);
        }
        Some(Datagram { data, gaps: Gaps::between(known, total) })
    }

    /// Reads the datagram that was put together from this.
    ///
    /// # Errors
    /// What contradicts itself.
    pub fn read<'a>(&self, datagram: &'a Datagram) -> Result<Classified<'a>, Malformed> {
        reassembled(&self.ip, self.vlans, &self.extras, &datagram.data, &datagram.gaps)
    }

    /// One of its pieces, to be compared by itself: by offset and bytes.
    #[must_use]
    pub fn piece<'a>(&self, piece: &'a Piece<T>) -> Classified<'a> {
        let place: [&[u8]; 3] = [&piece.offset.to_be_bytes(), &[u8::from(piece.more)], &piece.extras];
        let gaps = Gaps::behind(piece.data.len(), piece.missing);
        Classified::unit(Class::Fragment, fragment_key(&self.ip, self.vlans), &place, &piece.data, gaps)
    }
}

#[cfg(test)]
mod tests;

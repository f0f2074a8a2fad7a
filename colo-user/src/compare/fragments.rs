//! Puts fragmented datagrams together, one table per side.
//!
//! A datagram is *partial* until its pieces cover it without a gap, then *whole* and handed to the comparison of its
//! class with the tokens of its frames. Pieces that can never become whole (overlapping with other bytes, more than [`MAX_PIECES`], or
//! still partial when the wait or the table's bound ends) are *given up*: compared one by one, by offset and bytes.

use super::classify::FragmentOf;
use super::policy::Limits;
use crate::mono::Mono;
use crate::wire::{Ip, IpFamily, Vlans};
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
    /// The data.
    pub data: Box<[u8]>,
    /// The caller's.
    pub tag: T,
}

/// The pieces of one datagram, in order of arrival.
#[derive(Clone)]
pub struct Partial<T> {
    /// Header of the piece that came first.
    pub ip: Ip,
    /// VLAN ids.
    pub vlans: Vlans,
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
    /// The datagram is whole: its bytes, and its pieces in order of arrival.
    Whole(Partial<T>, Vec<u8>),
    /// It contradicts an earlier piece: all of them are to be compared one by one.
    GivenUp(Partial<T>),
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
            Partial { ip: of.ip, vlans: of.vlans, pieces: Vec::new(), age, bytes: 0 }
        });
        if of.fragment.offset == 0 {
            // The next header of a datagram is the first fragment's (RFC 8200 section 4.5).
            partial.ip = of.ip;
        }
        let piece = Piece { offset: of.fragment.offset, more: of.fragment.more, data: of.data.into(), tag };
        partial.bytes += piece.data.len();
        self.bytes += piece.data.len();
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

impl<T> Partial<T> {
    /// Whether `new` overlaps an earlier piece with other bytes, or disagrees about the end.
    fn contradicts(&self, new: &Piece<T>) -> bool {
        let end = |p: &Piece<T>| p.offset as usize + p.data.len();
        self.pieces.iter().any(|old| {
            let (from, to) = (old.offset.max(new.offset) as usize, end(old).min(end(new)));
            let differ = from < to
                && old.data[from - old.offset as usize..to - old.offset as usize]
                    != new.data[from - new.offset as usize..to - new.offset as usize];
            let past_end = (!old.more && end(new) > end(old))
                || (!new.more && end(old) > end(new))
                || (!old.more && new.more && end(new) == end(old))
                || (!new.more && old.more && end(new) == end(old));
            differ || past_end
        })
    }

    /// The whole datagram's bytes, once there is no gap.
    fn assembled(&self) -> Option<Vec<u8>> {
        let last = self.pieces.iter().find(|p| !p.more)?;
        let total = last.offset as usize + last.data.len();
        if self.bytes < total {
            return None;
        }
        let mut order: Vec<&Piece<T>> = self.pieces.iter().collect();
        order.sort_by_key(|p| p.offset);
        let mut data = Vec::with_capacity(total);
        for piece in order {
            let skip = data.len().checked_sub(piece.offset as usize)?;
            data.extend_from_slice(piece.data.get(skip..).unwrap_or_default());
        }
        (data.len() == total).then_some(data)
    }
}

#[cfg(test)]
mod tests;

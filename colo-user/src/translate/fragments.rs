//! TCP segments that come in IP fragments.
//!
//! The header with the numbers is in the first fragment, or spread over several if they are hostile; its checksum
//! covers all of them. So the fragments of a datagram are kept until all are there, the segment is translated as one,
//! and the fragments go on as they were cut, with the changed bytes put back. Overlaps discard the datagram (RFC 5722).

use super::flow::{Direction, Flow};
use super::limits::Limits;
use super::segment::{Located, Piece, segment};
use crate::mono::Mono;
use crate::wire::ip::Extensions;
use crate::wire::{Ip, proto};
use std::time::Duration;

/// How long the rest of a datagram may take (Linux: `ipfrag_time`, 30 s).
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a fragment costs besides its frame.
const OVERHEAD: usize = 64;

/// Which datagram a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    direction: Direction,
    /// Addresses and tags; ports 0.
    ends: Flow,
    id: u32,
}

/// A kept fragment: where its data lies in its frame and in the datagram.
#[derive(Clone, Debug)]
struct Kept {
    frame: Vec<u8>,
    data: usize,
    length: usize,
    offset: usize,
}

#[derive(Clone, Debug)]
struct Assembly {
    key: Key,
    deadline: Mono,
    /// In order of arrival.
    pieces: Vec<Kept>,
    /// Length of the datagram, once the last fragment is there.
    total: Option<usize>,
}

/// The datagrams being put together.
#[derive(Clone, Debug)]
pub(super) struct Fragments {
    assemblies: Vec<Assembly>,
    bytes: usize,
    limit: usize,
    limit_bytes: usize,
}

/// What became of a fragment.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// It is kept; else it is dropped.
    pub(super) kept: bool,
    /// How many were dropped, this one included.
    pub(super) dropped: usize,
    /// The datagram, if this was the last missing fragment.
    pub(super) complete: Option<Whole>,
}

/// A datagram whose fragments are all there.
#[derive(Debug)]
pub(super) struct Whole {
    pieces: Vec<Kept>,
    /// Headers of the first fragment, then all data.
    frame: Vec<u8>,
    first: Piece,
}

impl Fragments {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            assemblies: Vec::new(),
            bytes: 0,
            limit: limits.reassemblies,
            limit_bytes: limits.reassembly_bytes,
        }
    }

    /// Takes the fragment in `frame`.
    pub(super) fn take(&mut self, now: Mono, direction: Direction, frame: &[u8], piece: &Piece) -> Taken {
        let dropped = Taken { dropped: 1, ..Taken::default() };
        let key = Key {
            direction,
            ends: Flow::new(&piece.ether, &piece.ip, [0, 0], direction),
            id: piece.fragment.id,
        };
        let found = self.assemblies.iter().position(|a| a.key == key);
        let cost = frame.len() + OVERHEAD;
        if self.bytes + cost > self.limit_bytes || found.is_none() && self.assemblies.len() >= self.limit {
            return dropped;
        }
        let i = found.unwrap_or_else(|| {
            let deadline = now + TIMEOUT;
            self.assemblies.push(Assembly { key, deadline, pieces: Vec::new(), total: None });
            self.assemblies.len() - 1
        });
        let (data, length) = (piece.ip.payload, piece.ip.end - piece.ip.payload);
        let kept = Kept { frame: frame.to_vec(), data, length, offset: piece.fragment.offset as usize };
        if self.assemblies[i].pieces.iter().any(|p| p.same(&kept)) {
            return dropped;
        }
        self.bytes += cost;
        let last = !piece.fragment.more;
        if !self.assemblies[i].add(kept, last) {
            return Taken { dropped: self.remove(i).pieces.len(), ..Taken::default() };
        }
        let complete = self.assemblies[i].complete().then(|| self.remove(i).join(direction)).flatten();
        Taken { kept: true, dropped: 0, complete }
    }

    fn remove(&mut self, i: usize) -> Assembly {
        let assembly = self.assemblies.swap_remove(i);
        self.bytes -= assembly.pieces.iter().map(|p| p.frame.len() + OVERHEAD).sum::<usize>();
        assembly
    }

    /// Forgets all; says how many fragments that were.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        self.assemblies.drain(..).map(|a| a.pieces.len()).sum()
    }

    /// Forgets the datagrams that have had their time; says how many fragments that were.
    pub(super) fn expire(&mut self, now: Mono) -> usize {
        let mut dropped = 0;
        while let Some(i) = self.assemblies.iter().position(|a| a.deadline <= now) {
            dropped += self.remove(i).pieces.len();
        }
        dropped
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.assemblies.iter().map(|a| a.deadline).min()
    }
}

impl Kept {
    fn end(&self) -> usize {
        self.offset + self.length
    }

    fn bytes(&self) -> &[u8] {
        &self.frame[self.data..self.data + self.length]
    }

    /// The network said it twice.
    fn same(&self, other: &Self) -> bool {
        self.offset == other.offset && self.bytes() == other.bytes()
    }
}

impl Assembly {
    /// Adds a fragment, contradictory ones too; says whether the datagram still makes sense.
    fn add(&mut self, piece: Kept, last: bool) -> bool {
        let overlaps = self.pieces.iter().any(|p| piece.offset < p.end() && p.offset < piece.end());
        let mut sound = !overlaps;
        if last {
            sound &= self.total.is_none();
            self.total = Some(piece.end());
        }
        self.pieces.push(piece);
        sound && self.total.is_none_or(|total| self.pieces.iter().all(|p| p.end() <= total))
    }

    /// Without overlaps, as many bytes as there must be are all the bytes.
    fn complete(&self) -> bool {
        self.total == Some(self.pieces.iter().map(|p| p.length).sum())
    }

    fn join(self, direction: Direction) -> Option<Whole> {
        let first = self.pieces.iter().find(|p| p.offset == 0)?;
        let Located::Fragment(piece) = super::segment::locate(&first.frame, direction) else {
            return None;
        };
        let mut frame = first.frame[..first.data].to_vec();
        let headers = frame.len();
        frame.resize(headers + self.total?, 0);
        for p in &self.pieces {
            frame[headers + p.offset..headers + p.end()].copy_from_slice(p.bytes());
        }
        Some(Whole { pieces: self.pieces, frame, first: piece })
    }
}

impl Whole {
    /// The segment in [`Whole::frame`]. Extension headers behind the fragment header (RFC 8200 section 4.5) are
    /// there to be followed only now.
    pub(super) fn locate(&self, direction: Direction) -> Located {
        let start = self.first.ip.payload;
        let chain = match self.first.ip.protocol {
            proto::TCP => Ok(Extensions { protocol: proto::TCP, length: 0, fragment: None }),
            next => Extensions::walk(next, &self.frame[start..]),
        };
        let Some(chain) = chain.ok().filter(|c| c.protocol == proto::TCP && c.fragment.is_none()) else {
            return Located::Other;
        };
        let ip = Ip { payload: start + chain.length, end: self.frame.len(), fragment: None, ..self.first.ip };
        segment(&self.frame, &self.first.ether, &ip, direction).map_or(Located::Other, Located::Tcp)
    }

    /// Headers of the first fragment, then all data.
    pub(super) fn frame(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    /// How many fragments it came in.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The fragments as they came, with the data of [`Whole::frame`].
    pub(super) fn cut(self) -> impl Iterator<Item = Vec<u8>> {
        let data = self.first.ip.payload;
        self.pieces.into_iter().map(move |mut p| {
            let from = data + p.offset;
            p.frame[p.data..p.data + p.length].copy_from_slice(&self.frame[from..from + p.length]);
            p.frame
        })
    }
}

//! The control segments of one incarnation, SYN, FIN and RST, and which guest has said each.
//!
//! A guest may say several of a kind: a SYN-ACK again with fewer options, a FIN at two places, an RST with other data.
//! Each counts by what it says, and leaves once the other guest has said one alike. Two guests that say the same ones in
//! the same order agree at every step, so the first of a kind that both say must be the same.

use super::voice::Side;
use crate::wire::tcp::option;
use crate::wire::{TcpFlags, TcpSegment};
use smallvec::SmallVec;

/// Most of them that are kept in one incarnation. Beyond it those leave that both guests have said and that no held frame
/// says; with none of these a checkpoint is asked for.
pub const MAX_CONTROLS: usize = 64;

/// The bits that begin or end a connection.
const BITS: u8 = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0;

/// What a control segment says. Numbers that a guest picks or that do not matter are no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A SYN or SYN-ACK: its bits, options and data. The initial number is the guest's own.
    Syn(Box<[u8]>),
    /// A FIN at this stream offset.
    Fin(i64),
    /// An RST, at whatever number: its bits and data (RFC 9293 section 3.5.3 lets it have some).
    Reset(Box<[u8]>),
}

/// The kinds of [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Control::Syn`].
    Syn,
    /// [`Control::Fin`].
    Fin,
    /// [`Control::Reset`].
    Reset,
}

impl Control {
    /// Reads a segment with SYN and without RST.
    ///
    /// Options count in any order. Both guests' clocks differ, so of a timestamp option only its presence counts. Data in
    /// a SYN (RFC 7413) stands at a number of the guest's own, so it is compared here.
    #[must_use]
    pub fn syn(segment: &TcpSegment<'_>) -> Self {
        let mut options: Vec<(u8, &[u8])> = segment
            .options()
            .map(|o| (o.kind, if o.kind == option::TIMESTAMPS { &[][..] } else { o.data }))
            .collect();
        options.sort_unstable();
        let mut said = vec![segment.flags.0 & (BITS | TcpFlags::ACK.0)];
        for (kind, data) in options {
            // Options are at most 40 bytes together.
            said.extend([kind, data.len() as u8]);
            said.extend_from_slice(data);
        }
        said.extend_from_slice(segment.payload);
        Self::Syn(said.into())
    }

    /// Reads a segment with RST.
    #[must_use]
    pub fn reset(segment: &TcpSegment<'_>) -> Self {
        let mut said = vec![segment.flags.0 & BITS];
        said.extend_from_slice(segment.payload);
        Self::Reset(said.into())
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Syn(_) => Kind::Syn,
            Self::Fin(_) => Kind::Fin,
            Self::Reset(_) => Kind::Reset,
        }
    }

    /// What it says, as bytes to quote.
    #[must_use]
    pub fn excerpt(&self) -> Vec<u8> {
        match self {
            Self::Syn(said) | Self::Reset(said) => said.to_vec(),
            Self::Fin(_) => Vec::new(),
        }
    }
}

/// A control segment on the register. It stays what it is while a held frame says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlId(u32);

#[derive(Clone)]
struct Entry {
    id: ControlId,
    control: Control,
    by: [bool; 2],
}

/// The register.
#[derive(Clone, Default)]
pub struct Controls {
    /// In the order in which they were first said.
    entries: SmallVec<[Entry; 1]>,
    next: u32,
}

/// More control segments than [`MAX_CONTROLS`] wait for the other guest.
#[derive(Debug)]
pub struct TooManyControls;

impl Controls {
    /// Takes note that `side` says `control`. `held` tells which are said by held frames. Returns its place, and what the
    /// other guest said first where that is something else and this is this guest's first of the kind.
    ///
    /// # Errors
    /// [`TooManyControls`] if there is no room: it is not noted.
    pub fn say(
        &mut self,
        side: Side,
        control: Control,
        held: impl Fn(ControlId) -> bool,
    ) -> Result<(ControlId, Option<&Control>), TooManyControls> {
        let kind = control.kind();
        let opens = !self.any(side, kind);
        let at = match self.entries.iter().position(|e| e.control == control) {
            Some(at) => at,
            None => {
                if self.entries.len() >= MAX_CONTROLS {
                    self.entries.retain(|e| e.by != [true; 2] || held(e.id));
                }
                if self.entries.len() >= MAX_CONTROLS {
                    return Err(TooManyControls);
                }
                self.next = self.next.wrapping_add(1);
                self.entries.push(Entry { id: ControlId(self.next), control, by: [false; 2] });
                self.entries.len() - 1
            }
        };
        self.entries[at].by[side as usize] = true;
        let other = side.other() as usize;
        let first = self.entries.iter().position(|e| e.by[other] && e.control.kind() == kind);
        let differs = first.filter(|&first| opens && first != at);
        Ok((self.entries[at].id, differs.map(|first| &self.entries[first].control)))
    }

    /// Whether `side` has said it. What is no longer on the register has been said by both.
    #[must_use]
    pub fn said_by(&self, side: Side, id: ControlId) -> bool {
        self.entries.iter().find(|e| e.id == id).is_none_or(|e| e.by[side as usize])
    }

    /// Whether `side` has said any of `kind`.
    #[must_use]
    pub fn any(&self, side: Side, kind: Kind) -> bool {
        self.entries.iter().any(|e| e.by[side as usize] && e.control.kind() == kind)
    }

    /// Whether the secondary has said one of `kind` that the primary has not.
    #[must_use]
    pub fn lone(&self, kind: Kind) -> bool {
        self.entries.iter().any(|e| e.by == [false, true] && e.control.kind() == kind)
    }

    /// Where `side` has said FINs, and whether the other guest has too.
    pub fn fins(&self, side: Side) -> impl Iterator<Item = (i64, bool)> + '_ {
        self.entries.iter().filter(move |e| e.by[side as usize]).filter_map(move |e| match e.control {
            Control::Fin(at) => Some((at, e.by[side.other() as usize])),
            _ => None,
        })
    }

    /// The epoch cut: the secondary's guest has said what the primary's has.
    pub fn cut(&mut self) {
        self.entries.retain(|e| e.by[Side::Primary as usize]);
        self.entries.iter_mut().for_each(|e| e.by = [true; 2]);
    }
}

#[cfg(test)]
mod tests;

//! Changing numbers in place, with every checksum that covers them kept as right (or as wrong) as it was.
//!
//! Checksums change incrementally (RFC 1624), so a frame that was corrupted on its way stays visibly corrupted: its
//! receiver must see that, not be helped over it.

use super::entry::Delta;
use super::segment::{Numbers, Quote, Segment};
use crate::wire::checksum::{update16, update32};
use crate::wire::tcp::field;
use crate::wire::{TcpFlags, be16, be32};
use smallvec::SmallVec;

/// A stored checksum: where what it covers starts (for the parity of an odd offset), and where it is stored.
#[derive(Clone, Copy, Debug)]
struct Cover {
    start: usize,
    stored: usize,
}

/// A frame being edited, with the checksums that cover the edited part, innermost first.
struct Patch<'f> {
    frame: &'f mut [u8],
    covers: SmallVec<[Cover; 2]>,
}

impl Patch<'_> {
    /// Replaces the number at `at`.
    fn put(&mut self, at: usize, new: u32) {
        let old = be32(self.frame, at);
        if old == new {
            return;
        }
        self.frame[at..at + 4].copy_from_slice(&new.to_be_bytes());
        for i in 0..self.covers.len() {
            let Cover { start, stored } = self.covers[i];
            let before = be16(self.frame, stored);
            let after = update32(before, old, new, (at - start) % 2 == 1);
            self.put_checksum(stored, after);
            // The checksum itself lies under the outer ones, on an even offset.
            for outer in i + 1..self.covers.len() {
                let stored = self.covers[outer].stored;
                let carried = update16(be16(self.frame, stored), before, after);
                self.put_checksum(stored, carried);
            }
        }
    }

    fn put_checksum(&mut self, at: usize, value: u16) {
        self.frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    fn add(&mut self, at: usize, delta: u32) {
        let new = be32(self.frame, at).wrapping_add(delta);
        self.put(at, new);
    }

    /// Changes every left and right edge of a SACK option (RFC 2018).
    fn add_sack(&mut self, at: usize, blocks: usize, delta: u32) {
        for edge in 0..2 * blocks {
            self.add(at + 4 * edge, delta);
        }
    }
}

/// Ticks within which a retransmission of the guest bounds what it may hear echoed: far longer than any retransmission
/// timeout, far shorter than the half circle of a timestamp clock.
const RECENT: u32 = 1 << 24;

/// What bounds a timestamp echo toward the guest: a guest in its handshake resets on an echo of something that it
/// has not said yet or that is older than its first segment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EchoBounds {
    /// No echo below this.
    pub(super) first: Option<u32>,
    /// Nor below this, which the guest said lately. It lies so little before [`Self::last`] that no clock has wrapped.
    pub(super) again: Option<u32>,
    /// No echo above this.
    pub(super) last: Option<u32>,
}

impl EchoBounds {
    fn clamp(self, echo: u32) -> u32 {
        let after = |a: u32, b: u32| a.wrapping_sub(b).cast_signed() > 0;
        let recent = |again: &u32| self.last.is_some_and(|last| last.wrapping_sub(*again) < RECENT);
        match self {
            Self { last: Some(last), .. } if after(echo, last) => last,
            Self { first: Some(first), .. } if after(first, echo) => first,
            _ => self.again.filter(recent).filter(|again| after(*again, echo)).unwrap_or(echo),
        }
    }

    /// Whether an echo may have to change although the guests' numbers are the same.
    pub(super) const fn bind(self) -> bool {
        self.again.is_some()
    }
}

/// Guest space to wire space: `seq` and TSval. Returns the TSval that the wire sees, if there is one, and whether
/// `floor` raised it.
pub(super) fn output(frame: &mut [u8], s: &Segment, delta: Delta, floor: Option<u32>) -> (Option<u32>, bool) {
    let mut patch = tcp(frame, s);
    patch.add(s.at + field::SEQ, delta.seq.wrapping_neg());
    let mut said = (None, false);
    for number in &s.numbers {
        if let Numbers::Timestamps { at } = *number {
            let plain = be32(patch.frame, at).wrapping_sub(delta.ts);
            let raised = floor.filter(|f| plain.wrapping_sub(*f).cast_signed() < 0);
            patch.put(at, raised.unwrap_or(plain));
            said = (Some(raised.unwrap_or(plain)), raised.is_some());
        }
    }
    said
}

/// Wire space to guest space: `ack`, every SACK edge, TSecr; only what an ACK bit makes meaningful. An echo of 0 is
/// none (RFC 7323 section 3.2) and stays.
pub(super) fn input(frame: &mut [u8], s: &Segment, delta: Delta, bounds: EchoBounds) {
    if !s.flags.has(TcpFlags::ACK) {
        return;
    }
    let mut patch = tcp(frame, s);
    patch.add(s.at + field::ACK, delta.seq);
    for number in &s.numbers {
        match *number {
            Numbers::Sack { at, blocks } => patch.add_sack(at, blocks, delta.seq),
            Numbers::Timestamps { at } => {
                let echo = be32(patch.frame, at + 4);
                if echo != 0 {
                    patch.put(at + 4, bounds.clamp(echo.wrapping_add(delta.ts)));
                }
            }
        }
    }
}

fn tcp<'f>(frame: &'f mut [u8], s: &Segment) -> Patch<'f> {
    let covers = SmallVec::from_slice(&[Cover { start: s.at, stored: s.at + field::CHECKSUM }]);
    Patch { frame, covers }
}

/// An ICMP error toward the guest quotes what the guest said: `seq` and TSval to guest space.
pub(super) fn quoted_output(frame: &mut [u8], q: &Quote, delta: Delta) {
    let mut patch = quoted(frame, q);
    patch.add(q.at + field::SEQ, delta.seq);
    for number in &q.numbers {
        if let Numbers::Timestamps { at } = *number {
            patch.add(at, delta.ts);
        }
    }
}

/// An ICMP error of the guest quotes what the guest received: `ack`, SACK edges and TSecr to wire space. Returns
/// whether the quote reaches far enough to have them.
pub(super) fn quoted_input(frame: &mut [u8], q: &Quote, delta: Delta) -> bool {
    let acknowledges = q.at + 13 < q.end && TcpFlags(frame[q.at + 13]).has(TcpFlags::ACK);
    if !acknowledges {
        return false;
    }
    let mut patch = quoted(frame, q);
    patch.add(q.at + field::ACK, delta.seq.wrapping_neg());
    for number in &q.numbers {
        match *number {
            Numbers::Sack { at, blocks } => patch.add_sack(at, blocks, delta.seq.wrapping_neg()),
            Numbers::Timestamps { at } if be32(patch.frame, at + 4) != 0 => {
                patch.add(at + 4, delta.ts.wrapping_neg());
            }
            Numbers::Timestamps { .. } => {}
        }
    }
    true
}

fn quoted<'f>(frame: &'f mut [u8], q: &Quote) -> Patch<'f> {
    let mut covers = SmallVec::new();
    let stored = q.at + field::CHECKSUM;
    if stored + 2 <= q.end {
        covers.push(Cover { start: q.at, stored });
    }
    covers.push(Cover { start: q.icmp, stored: q.icmp + 2 });
    Patch { frame, covers }
}

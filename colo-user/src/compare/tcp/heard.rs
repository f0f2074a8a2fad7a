//! What the secondary says that the client has to hear, although only the primary speaks to it: without it one of the three
//! would wait for another for ever.

use super::voice::Side;
use super::{Lack, TcpFlow};
use crate::wire::{Seq, TcpFlags, TcpSegment};

/// A segment with one of these ends or begins something, and is the primary's to say.
const ENDS: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0);

impl TcpFlow {
    /// Whether the secondary has said all of `segment` before.
    pub(super) fn repeats(&mut self, segment: &TcpSegment<'_>) -> bool {
        if !is_data(segment) {
            return false;
        }
        let number = self.secondary_in;
        let incarnation = self.at(number);
        let from = incarnation.offset(Side::Secondary, segment.seq);
        incarnation.has_said(&incarnation.secondary, from, from + segment.payload.len() as i64)
    }

    /// Whether the client lacks what `segment` of the secondary repeats because the primary said it in one segment with
    /// what the secondary has yet to say. After a timeout a guest says nothing more before that is acknowledged (its
    /// congestion window is one segment), so the client has to get the part.
    pub(super) fn is_part(&mut self, segment: &TcpSegment<'_>) -> bool {
        if !is_data(segment) {
            return false;
        }
        let number = self.secondary_in;
        let Some(held) = self.held.front().filter(|held| held.incarnation == number) else { return false };
        let begins = held.from;
        let lacking = match self.lack(held) {
            Some(Lack::Payload(lacking)) => lacking,
            Some(Lack::Fin) => held.to,
            _ => return false,
        };
        let incarnation = self.at(number);
        let from = incarnation.offset(Side::Secondary, segment.seq);
        let to = from + segment.payload.len() as i64;
        let owned = incarnation.primary.owns(segment.ack);
        let follows = from <= incarnation.released.map_or(begins, |released| released.max(begins));
        let lacks = to <= lacking && incarnation.settled.is_none_or(|settled| to > settled);
        if !(owned && follows && lacks && incarnation.has_said(&incarnation.primary, from, to)) {
            return false;
        }
        incarnation.released = incarnation.released.max(Some(to));
        true
    }

    /// Whether `segment` of the secondary says what the primary's held segments keep from the client, which had heard the
    /// acknowledgement `heard` before: progress, or the same again (by which it learns of a loss).
    pub(super) fn lags(&self, segment: &TcpSegment<'_>, heard: Option<Seq>) -> bool {
        let behind = self.held.front().is_some_and(|held| {
            held.incarnation == self.secondary_in
                && self.lack(held) == Some(Lack::Ack)
                && held.ack.after(segment.ack)
        });
        let again = self.acknowledged == Some(segment.ack) && heard == self.acknowledged;
        is_bare(segment)
            && behind
            && (again || self.acknowledged.is_none_or(|heard| segment.ack.after(heard)))
    }

    /// Whether the client has acknowledged all of `segment`, and the secondary has not heard it: it repeats its data, or probes a
    /// window that it takes for closed, one before what is acknowledged (RFC 9293 section 3.8.6.1). The client speaks
    /// no more by itself, and the secondary waits for it; so the client has to hear this, and acknowledges again.
    pub(super) fn missed(&mut self, segment: &TcpSegment<'_>) -> bool {
        if segment.flags.0 & ENDS.0 != 0 {
            return false;
        }
        let number = self.secondary_in;
        let incarnation = self.at(number);
        let owned = incarnation.primary.owns(segment.ack);
        let from = incarnation.offset(Side::Secondary, segment.seq);
        let to = from + segment.payload.len() as i64;
        owned && incarnation.settled.is_some_and(|settled| from < settled && to <= settled)
    }

    /// Whether `segment` of the secondary widens the window that was narrowed for it.
    pub(super) fn opens(&mut self, segment: &TcpSegment<'_>) -> bool {
        let heard = self.acknowledged.is_none_or(|heard| heard == segment.ack);
        let number = self.secondary_in;
        let incarnation = self.at(number);
        let owned = incarnation.primary.owns(segment.ack);
        is_bare(segment) && heard && owned && incarnation.window.opens(segment)
    }
}

/// Data and nothing that is the primary's to say.
const fn is_data(segment: &TcpSegment<'_>) -> bool {
    !segment.payload.is_empty() && segment.flags.0 & ENDS.0 == 0
}

/// An acknowledgement and nothing else.
const fn is_bare(segment: &TcpSegment<'_>) -> bool {
    segment.payload.is_empty() && segment.flags.has(TcpFlags::ACK) && segment.flags.0 & ENDS.0 == 0
}

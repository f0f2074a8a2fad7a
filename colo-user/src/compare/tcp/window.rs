//! The receive window that the client is told: what both guests take (RFC 9293 section 3.8.6, RFC 7323 section 2).
//!
//! A guest widens its window as its program reads, and the two do so each in its own time. What a client sends beyond the
//! window of the secondary that guest drops; it would have to get it again by a retransmission, and would be late. So a
//! segment leaves with a window that ends where the narrower of both ends, but never before what was told already.
//! Of a connection whose beginning was not seen the scale is unknown, and its windows leave as they are.

use super::voice::Side;
use crate::wire::tcp::option;
use crate::wire::{Seq, TcpFlags, TcpSegment};

/// The largest shift that means something (RFC 7323 section 2.3).
const MAX_SHIFT: u8 = 14;

/// The receive windows of one incarnation.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// How far the guests' windows are shifted.
    shift: Option<u8>,
    /// The shift that the primary's guest has offered in a SYN; it counts if the client offers one too.
    offered: Option<u8>,
    /// Where the primary's window ends.
    primary: Option<Seq>,
    /// Where the secondary's window ends.
    secondary: Option<Seq>,
    /// Where the window ends that the client was told.
    told: Option<Seq>,
}

fn scale(segment: &TcpSegment<'_>) -> Option<u8> {
    let mut options = segment.options().filter(|o| o.kind == option::WINDOW_SCALE);
    options.next().and_then(|o| o.data.first().copied()).map(|shift| shift.min(MAX_SHIFT))
}

impl Window {
    /// The primary's guest says a SYN or a SYN-ACK.
    pub fn guest_begins(&mut self, segment: &TcpSegment<'_>) {
        self.offered = scale(segment);
        // A guest that answers offers a scale only if the client did.
        self.shift = segment.flags.has(TcpFlags::ACK).then(|| self.offered.unwrap_or(0));
    }

    /// The client answers a guest's SYN.
    pub fn client_answers(&mut self, segment: &TcpSegment<'_>) {
        if self.shift.is_none() && segment.flags.has(TcpFlags::ACK) {
            self.shift = Some(scale(segment).and(self.offered).unwrap_or(0));
        }
    }

    /// A guest says where its window ends: in an acknowledgement that is no SYN and no RST.
    pub fn said(&mut self, side: Side, segment: &TcpSegment<'_>) {
        let Some(end) = self.end(segment.ack, segment.window) else { return };
        let known = match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        };
        if known.is_none_or(|old| end.after(old)) {
            *known = Some(end);
        }
    }

    /// The window that a segment of either guest leaves with, which acknowledges `ack` and has `window`.
    pub fn tell(&mut self, ack: Seq, window: u16) -> u16 {
        let (Some(shift), Some(end)) = (self.shift, self.end(ack, window)) else { return window };
        let narrower = |a: Seq, b: Option<Seq>| b.filter(|b| a.after(*b)).unwrap_or(a);
        let mut allowed = narrower(narrower(end, self.primary), self.secondary);
        if let Some(told) = self.told
            && told.after(allowed)
        {
            allowed = if told.after(end) { end } else { told };
        }
        let room = u32::try_from(allowed.distance_from(ack)).unwrap_or(0);
        // No wider than `window`, which fits.
        let window = (room >> shift).min(u32::from(window)) as u16;
        let tells = ack + (u32::from(window) << shift);
        if self.told.is_none_or(|told| tells.after(told)) {
            self.told = Some(tells);
        }
        window
    }

    /// Whether both guests take more than the client was told, and `segment` of the secondary is the one to say so: the
    /// primary has said its part already, with a window that was narrowed.
    pub fn opens(&self, segment: &TcpSegment<'_>) -> bool {
        let Some((end, told)) = self.end(segment.ack, segment.window).zip(self.told) else { return false };
        end.after(told) && self.primary.is_some_and(|primary| primary.after(told))
    }

    /// The epoch cut: the secondary's guest takes what the primary's takes.
    pub const fn cut(&mut self) {
        self.secondary = self.primary;
    }

    fn end(&self, ack: Seq, window: u16) -> Option<Seq> {
        self.shift.map(|shift| ack + (u32::from(window) << shift))
    }
}

#[cfg(test)]
mod tests;

//! One incarnation of a connection: what each guest has said in it, in one space of stream offsets.
//!
//! Offsets count from the first byte seen, so that the stream may begin anywhere, arrive in any order and be longer
//! than 2^32. Sequence numbers are the client's (wire) space on both sides, except for the initial numbers in SYN and
//! SYN-ACK, which each guest picks for itself.

use super::bytes::Bytes;
use super::handshake::Syn;
use super::ranges::RangeSet;
use super::window::Window;
use crate::compare::divergence::EXCERPT;
use crate::mono::Mono;
use crate::wire::{Seq, TcpFlags, TcpSegment};

/// Which guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The primary's.
    Primary,
    /// The secondary's.
    Secondary,
}

/// What one guest has said.
#[derive(Clone, Default)]
pub struct Voice {
    /// Its SYN or SYN-ACK.
    pub syn: Option<Syn>,
    /// Payload bytes.
    pub said: RangeSet,
    /// Where its FIN stands.
    pub fin: Option<i64>,
    /// Whether it has sent an RST.
    pub rst: bool,
    /// The highest acknowledgement number it has sent.
    pub ack: Option<Seq>,
    /// The lowest offset at which it has sent anything but a SYN or RST.
    pub low: Option<i64>,
    /// The end of the highest byte it has said.
    pub high: Option<i64>,
}

impl Voice {
    /// Whether this guest has said anything in this incarnation.
    #[must_use]
    pub const fn spoke(&self) -> bool {
        self.syn.is_some() || self.low.is_some() || self.rst
    }

    /// Whether this guest has acknowledged as much.
    #[must_use]
    pub fn owns(&self, ack: Seq) -> bool {
        self.ack.is_some_and(|owned| !ack.after(owned))
    }

    /// Takes note of an acknowledgement.
    pub fn acknowledges(&mut self, ack: Seq) {
        if self.ack.is_none_or(|old| ack.after(old)) {
            self.ack = Some(ack);
        }
    }
}

/// The first byte at which the guests differ.
pub struct Difference {
    /// Its offset.
    pub at: i64,
    /// What the primary says there.
    pub primary: Vec<u8>,
    /// What the secondary says there.
    pub secondary: Vec<u8>,
}

/// One incarnation of a connection.
#[derive(Clone, Default)]
pub struct Incarnation {
    /// Sequence number of offset 0.
    origin: Option<Seq>,
    /// The highest offset seen: the anchor from which sequence numbers are unwrapped.
    recent: i64,
    /// The primary's guest.
    pub primary: Voice,
    /// The secondary's guest.
    pub secondary: Voice,
    /// Bytes that may still be needed.
    pub bytes: Bytes,
    /// Everything below is history, whatever is in it: the client has acknowledged it, or a checkpoint has made both
    /// guests own it before it was compared.
    pub settled: Option<i64>,
    /// Nothing from here on leaves before a checkpoint.
    pub diverged: Option<i64>,
    /// Highest offset released.
    pub released: Option<i64>,
    /// Since when the secondary has been ahead without the primary saying anything.
    pub ahead_since: Option<Mono>,
    /// What the guests take.
    pub window: Window,
    /// What acknowledges the client's FIN.
    pub client_end: Option<Seq>,
    /// Since when a FIN or RST stands that only the secondary has said.
    pub lone_end: Option<Mono>,
    /// Older than the protection: not compared.
    pub unprotected: bool,
    /// Its client has begun another one since: the guest's next SYN-ACK is of that.
    pub succeeded: bool,
}

impl Incarnation {
    /// Nothing said yet.
    #[must_use]
    pub fn new(unprotected: bool) -> Self {
        Self { unprotected, ..Self::default() }
    }

    /// The stream offset of sequence number `seq`, which a guest has said.
    pub fn offset(&mut self, seq: Seq) -> i64 {
        self.origin.get_or_insert(seq);
        let offset = self.peek(seq);
        self.recent = self.recent.max(offset);
        offset
    }

    /// The stream offset of a sequence number that need not be a guest's.
    fn peek(&self, seq: Seq) -> i64 {
        // The low 32 bits of an offset are its sequence number less the origin.
        let anchor = self.origin.unwrap_or(seq) + self.recent as u32;
        self.recent + i64::from(seq.distance_from(anchor))
    }

    /// The sequence number of stream offset `offset`.
    #[must_use]
    pub fn seq(&self, offset: i64) -> Seq {
        self.origin.unwrap_or_default() + offset as u32
    }

    /// The voice of `side`.
    pub const fn voice(&mut self, side: Side) -> &mut Voice {
        match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        }
    }

    /// Takes note that `side` said `data` at `from`. Bytes that differ from what was said before are reported, and from
    /// there on the incarnation is diverged; the primary's are what is kept, since a checkpoint makes them the truth.
    ///
    /// # Errors
    /// [`TooManyHoles`] if the stream has more holes than are tracked; it then counts as diverged.
    pub fn say(&mut self, side: Side, from: i64, data: &[u8]) -> Result<Option<Difference>, TooManyHoles> {
        let to = from + data.len() as i64;
        let voice = self.voice(side);
        voice.high = voice.high.max(Some(to));
        let start = self.settled.map_or(from, |settled| from.max(settled)).min(to);
        let data = &data[(start - from) as usize..];
        // The second to speak only compares: the bytes are kept already.
        let kept = self.primary.said.covers(start, to) || self.secondary.said.covers(start, to);
        let difference = self.bytes.first_difference(start, data).map(|at| {
            let kept = self.bytes.excerpt(at, EXCERPT);
            let rest = &data[(at - start) as usize..];
            let said = rest[..rest.len().min(EXCERPT)].to_vec();
            let (primary, secondary) = match side {
                Side::Primary => (said, kept),
                Side::Secondary => (kept, said),
            };
            Difference { at, primary, secondary }
        });
        let end = match (&difference, side) {
            (Some(d), Side::Secondary) => d.at,
            _ => to,
        };
        if !self.voice(side).said.insert(start, end) {
            self.diverge(start);
            return Err(TooManyHoles);
        }
        if let Some(d) = &difference {
            self.diverge(d.at);
        }
        if (difference.is_none() && !kept) || (difference.is_some() && side == Side::Primary) {
            self.bytes.keep(start, data);
        }
        Ok(difference)
    }

    /// Whether a SYN or SYN-ACK of `side` with the guest's own initial number begins another incarnation.
    pub fn begins_anew(&mut self, side: Side, initial: Seq, answers: bool) -> bool {
        if self.unprotected {
            return self.succeeded || !answers;
        }
        if let Some(syn) = &self.voice(side).syn {
            return syn.initial != initial;
        }
        let Some(low) = self.voice(side).low else { return false };
        // The guest has spoken, and its SYN comes after: overtaken by its own data, or a port used again. The
        // secondary's number is its own, but its data is in the client's space, as the primary's number is.
        let initial = match (side, &self.primary.syn) {
            (Side::Secondary, Some(syn)) => syn.initial,
            _ => initial,
        };
        let distance = low - self.peek(initial + 1);
        !(0..=super::SYN_REORDERING).contains(&distance)
    }

    /// Takes note of a SYN or SYN-ACK. What both guests said is returned where it differs.
    pub fn says_syn(&mut self, side: Side, syn: Syn) -> Option<(Vec<u8>, Vec<u8>)> {
        if side == Side::Primary {
            self.offset(syn.initial + 1);
        }
        self.voice(side).syn = Some(syn);
        let (primary, secondary) = (self.primary.syn.as_ref()?, self.secondary.syn.as_ref()?);
        (!primary.same(secondary)).then(|| (primary.said.to_vec(), secondary.said.to_vec()))
    }

    /// Where one guest's FIN stands and the other's stream goes on or ends elsewhere.
    #[must_use]
    pub fn ends_differ(&self) -> Option<i64> {
        let (primary, secondary) = (&self.primary, &self.secondary);
        let cut =
            |fin: Option<i64>, other: &Voice| fin.filter(|&end| other.high.is_some_and(|high| high > end));
        let both = match (primary.fin, secondary.fin) {
            (Some(p), Some(s)) if p != s => Some(p.min(s)),
            _ => None,
        };
        cut(primary.fin, secondary).or_else(|| cut(secondary.fin, primary)).or(both)
    }

    /// What `side` said at `at`, as far as it is kept.
    #[must_use]
    pub fn excerpt_of(&self, side: Side, at: i64) -> Vec<u8> {
        let voice = match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        };
        let n = usize::try_from(voice.said.first_gap(at) - at).unwrap_or(0).min(EXCERPT);
        self.bytes.excerpt(at, n)
    }

    /// The first byte that the secondary has said and the primary has not.
    #[must_use]
    pub fn first_ahead(&self) -> Option<i64> {
        self.secondary.said.first_outside(&self.primary.said)
    }

    /// Whether the secondary has said something that the primary has not.
    #[must_use]
    pub fn ahead(&self) -> bool {
        (self.secondary.syn.is_some() && !self.primary.spoke())
            || (self.secondary.fin.is_some() && self.primary.fin.is_none())
            || (self.secondary.rst && !self.primary.rst)
            || self.first_ahead().is_some()
    }

    /// Takes note of a segment that is not compared, so that a checkpoint finds where the stream stands.
    pub fn note_unprotected(&mut self, segment: &TcpSegment<'_>) {
        if segment.flags.has(TcpFlags::RST) {
            self.primary.rst = true;
            return;
        }
        let to = self.offset(segment.seq) + segment.payload.len() as i64;
        self.primary.low = Some(self.primary.low.map_or(to, |low| low.min(to)));
        self.primary.high = self.primary.high.max(Some(to));
        if segment.flags.has(TcpFlags::FIN) {
            self.primary.fin = Some(to);
        }
        if segment.flags.has(TcpFlags::ACK) {
            self.primary.acknowledges(segment.ack);
        }
    }

    /// Nothing from `at` on leaves before a checkpoint.
    pub fn diverge(&mut self, at: i64) {
        self.diverged = Some(self.diverged.map_or(at, |d| d.min(at)));
    }

    /// Whether `voice` has said all of `[from, to)`, or need not have.
    #[must_use]
    pub fn has_said(&self, voice: &Voice, from: i64, to: i64) -> bool {
        voice.said.covers(self.settled.map_or(from, |settled| from.max(settled)), to)
    }

    /// Forgets bytes that both sides have said, oldest first, until at most `bound` are kept. They count as never said,
    /// so that a retransmission of them is compared anew.
    pub fn forget_said(&mut self, bound: usize) {
        while self.bytes.len() > bound {
            let Some((from, to)) = self.bytes.first() else { break };
            let both = self.has_said(&self.primary, from, to) && self.has_said(&self.secondary, from, to);
            if !both || self.released.is_none_or(|released| released < to) {
                break;
            }
            self.bytes.forget_first();
            self.primary.said.remove_below(to);
            self.secondary.said.remove_below(to);
        }
    }

    /// The client acknowledges up to `seq`.
    pub fn client_acknowledges(&mut self, seq: Seq) {
        let (Some(_), Some(high)) = (self.origin, self.released) else { return };
        let offset = self.peek(seq);
        // What has not been let out cannot be acknowledged: a stray or forged number. A FIN takes a number too.
        if offset <= high + 1 {
            self.settle(offset.min(high));
        }
    }

    /// Whether both directions have ended for both guests: what is said after that answers a stray.
    #[must_use]
    pub fn over(&self) -> bool {
        let (primary, secondary) = (&self.primary, &self.secondary);
        let heard = |voice: &Voice| self.client_end.is_some_and(|end| voice.owns(end));
        primary.fin.is_some() && primary.fin == secondary.fin && heard(primary) && heard(secondary)
    }

    /// Everything below `offset` is history.
    pub fn settle(&mut self, offset: i64) {
        if self.settled.is_none_or(|old| old < offset) {
            self.settled = Some(offset);
            self.primary.said.remove_below(offset);
            self.secondary.said.remove_below(offset);
            self.bytes.forget_below(offset);
        }
    }

    /// The epoch cut: the secondary's guest is now the primary's.
    pub fn cut(&mut self) {
        self.secondary = Voice {
            syn: self.primary.syn.clone(),
            said: self.primary.said.clone(),
            fin: self.primary.fin,
            rst: self.primary.rst,
            ack: self.primary.ack,
            low: self.primary.low,
            high: self.primary.high,
        };
        self.bytes.forget_outside(&self.primary.said);
        self.window.cut();
        self.diverged = None;
        self.ahead_since = None;
        self.lone_end = None;
        self.released = self.released.max(self.primary.high);
        if std::mem::take(&mut self.unprotected)
            && let Some(high) = self.primary.high
        {
            self.settle(high);
        }
    }

    /// Both guests have closed, or reset.
    #[must_use]
    pub const fn closed(&self) -> bool {
        (self.primary.fin.is_some() && self.secondary.fin.is_some())
            || (self.primary.rst && self.secondary.rst)
            || (self.unprotected && self.primary.rst)
    }
}

/// A stream with more holes than [`super::ranges::MAX_RANGES`].
#[derive(Debug)]
pub struct TooManyHoles;

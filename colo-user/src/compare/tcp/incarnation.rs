//! One incarnation of a connection: what each guest has said in it, in one space of stream offsets.
//!
//! Offsets count from the first byte seen, so that the stream may begin anywhere, arrive in any order and be longer
//! than 2^32. Sequence numbers are the client's (wire) space on both sides, except for the initial numbers in SYN and
//! SYN-ACK, which each guest picks for itself. Each guest's numbers are unwrapped from its own last ones, so that two
//! guests that say the same arrive at the same offsets, however far their numbers jump.
//!
//! What a guest says first at a place is kept in [`Incarnation::bytes`], one copy for both guests; what it says there
//! later and otherwise in [`Incarnation::revisions`]; its SYNs, FINs and RSTs in [`Incarnation::controls`].

use super::bytes::{Bytes, Match};
use super::controls::{Control, ControlId, Controls, Kind, TooManyControls};
use super::revisions::{RevisionId, Revisions};
use super::voice::{Side, Voice};
use super::window::Window;
use crate::compare::divergence::EXCERPT;
use crate::mono::Mono;
use crate::wire::{Seq, TcpFlags, TcpSegment};

/// Which held frames are to be minded: those that say a control segment or a revision.
pub trait Minds {
    /// Whether one says this control segment.
    fn says(&self, control: ControlId) -> bool;
    /// Whether one says this revision.
    fn revises(&self, revision: RevisionId) -> bool;
}

/// What a guest's bytes turned out to be.
#[derive(Default)]
pub struct Heard {
    /// Where they differ from what the other guest says there.
    pub difference: Option<Difference>,
    /// They contradict what the same guest has said there before.
    pub revised: Option<RevisionId>,
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
    /// The first acknowledgement number of either guest.
    acks_from: Option<Seq>,
    /// The primary's guest.
    pub primary: Voice,
    /// The secondary's guest.
    pub secondary: Voice,
    /// Bytes that may still be needed, as they were said first.
    pub bytes: Bytes,
    /// Bytes that a guest has said where it had said others.
    pub revisions: Revisions,
    /// SYNs, FINs and RSTs.
    pub controls: Controls,
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

    /// The stream offset of sequence number `seq`, which `side` has said.
    pub fn offset(&mut self, side: Side, seq: Seq) -> i64 {
        self.origin.get_or_insert(seq);
        let offset = self.peek(side, seq);
        let voice = self.voice(side);
        voice.recent = voice.recent.max(offset);
        offset
    }

    /// The stream offset that a sequence number has for `side`.
    fn peek(&self, side: Side, seq: Seq) -> i64 {
        let recent = self.heard(side).recent;
        // The low 32 bits of an offset are its sequence number less the origin.
        let anchor = self.origin.unwrap_or(seq) + recent as u32;
        recent + i64::from(seq.distance_from(anchor))
    }

    /// Takes note that `side` acknowledges `ack`. Returns how far that is from the first acknowledgement.
    pub fn acknowledges(&mut self, side: Side, ack: Seq) -> i64 {
        let from = *self.acks_from.get_or_insert(ack);
        let voice = self.voice(side);
        let recent = voice.acked.unwrap_or(0);
        let acked = recent + i64::from(ack.distance_from(from + recent as u32));
        if voice.acked.is_none_or(|old| acked > old) {
            voice.acked = Some(acked);
            voice.ack = Some(ack);
        }
        acked
    }

    /// The sequence number of stream offset `offset`.
    #[must_use]
    pub fn seq(&self, offset: i64) -> Seq {
        self.origin.unwrap_or_default() + offset as u32
    }

    /// The voice of `side`, to listen to.
    #[must_use]
    pub const fn heard(&self, side: Side) -> &Voice {
        match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        }
    }

    /// The voice of `side`.
    pub const fn voice(&mut self, side: Side) -> &mut Voice {
        match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        }
    }

    /// Takes note that `side` says `data` at `from`.
    ///
    /// Bytes that differ from those which the same guest has said there first are a revision: both guests may contradict
    /// themselves alike. Bytes that differ from those which only the other guest has said are a difference, and from there
    /// on the incarnation is diverged; the primary's are what is kept, since a checkpoint makes them the truth.
    ///
    /// # Errors
    /// [`TooMuch`] if the stream has more holes or contradictions than are tracked; it then counts as diverged.
    pub fn say(&mut self, side: Side, from: i64, data: &[u8], held: &impl Minds) -> Result<Heard, TooMuch> {
        let to = from + data.len() as i64;
        let voice = self.voice(side);
        voice.high = voice.high.max(Some(to));
        let start = self.settled.map_or(from, |settled| from.max(settled)).min(to);
        let data = &data[(start - from) as usize..];
        match self.bytes.first_difference(start, data) {
            None => {
                // The second to speak only compares: the bytes are kept already.
                let kept = self.primary.said.covers(start, to) || self.secondary.said.covers(start, to);
                if !self.voice(side).said.insert(start, to) {
                    self.diverge(start);
                    return Err(TooMuch::HOLES);
                }
                if !kept {
                    self.bytes.keep(start, data);
                }
                Ok(Heard::default())
            }
            Some(_) => self.say_otherwise(side, start, data, held),
        }
    }

    /// The rare case of [`Self::say`]: other bytes are kept.
    fn say_otherwise(
        &mut self,
        side: Side,
        start: i64,
        data: &[u8],
        held: &impl Minds,
    ) -> Result<Heard, TooMuch> {
        let to = start + data.len() as i64;
        let bytes_of = |from: i64, to: i64| &data[(from - start) as usize..(to - start) as usize];
        let runs = self.bytes.matches(start, data);
        // What this guest has not said there is the other's.
        let others = runs.iter().filter(|run| run.2 == Match::Differs).find_map(|&(from, to, _)| {
            let gap = self.heard(side).said.first_gap(from);
            (gap < to).then_some(gap)
        });
        if let Some(at) = others {
            let kept = self.bytes.excerpt(at, EXCERPT);
            let said = bytes_of(at, to.min(at + EXCERPT as i64)).to_vec();
            let (primary, secondary, end) = match side {
                Side::Primary => (said, kept, to),
                Side::Secondary => (kept, said, at),
            };
            let fits = self.voice(side).said.insert(start, end);
            self.diverge(if fits { at } else { start });
            if !fits {
                return Err(TooMuch::HOLES);
            }
            if side == Side::Primary {
                self.bytes.keep(start, data);
            }
            return Ok(Heard { difference: Some(Difference { at, primary, secondary }), revised: None });
        }
        for (from, to, _) in runs.into_iter().filter(|run| run.2 == Match::Absent) {
            self.bytes.keep(from, bytes_of(from, to));
        }
        let fits = self.voice(side).said.insert(start, to);
        let revised = self.revisions.say(side, start, data, |revision| held.revises(revision));
        match (fits, revised) {
            (true, Ok(revision)) => Ok(Heard { difference: None, revised: Some(revision) }),
            (fits, _) => {
                self.diverge(start);
                Err(if fits { TooMuch::REVISIONS } else { TooMuch::HOLES })
            }
        }
    }

    /// Whether a segment of `side` that says one octet at `from` is a keep-alive (RFC 9293 section 3.8.4): the octet stands on
    /// the last number that the guest has used, of a byte, its SYN or its FIN, and is not what it has said there. Some
    /// stacks put a garbage octet there, which the client drops.
    #[must_use]
    pub fn keeps_alive(&self, side: Side, from: i64, octet: u8) -> bool {
        let voice = self.heard(side);
        // The primary's initial number is the wire's. A secondary that is ahead of it knows no other than its own.
        let begin = voice.initial.map(|own| self.peek(side, self.primary.initial.unwrap_or(own) + 1));
        let fins = self.controls.fins(side).map(|(at, _)| at + 1).max();
        if voice.high.max(begin).max(fins) != Some(from + 1) {
            return false;
        }
        let repeats = voice.said.covers(from, from + 1) && self.bytes.excerpt(from, 1) == [octet];
        !repeats
    }

    /// Whether a SYN or SYN-ACK of `side` with the guest's own initial number begins another incarnation.
    pub fn begins_anew(&mut self, side: Side, initial: Seq, answers: bool) -> bool {
        if self.unprotected {
            return self.succeeded || !answers;
        }
        if let Some(earlier) = self.heard(side).initial {
            return earlier != initial;
        }
        let Some(low) = self.heard(side).low else { return false };
        // The guest has spoken, and its SYN comes after: overtaken by its own data, or a port used again. The
        // secondary's number is its own, but its data is in the client's space, as the primary's number is.
        let initial = match (side, self.primary.initial) {
            (Side::Secondary, Some(primary)) => primary,
            _ => initial,
        };
        let distance = low - self.peek(side, initial + 1);
        !(0..=super::SYN_REORDERING).contains(&distance)
    }

    /// Takes note of a SYN or SYN-ACK with the guest's own initial number.
    pub fn begins(&mut self, side: Side, initial: Seq) {
        // The primary's number is the wire's. It anchors a stream of which nothing is known, and no other.
        if side == Side::Primary {
            self.origin.get_or_insert(initial + 1);
        }
        self.voice(side).initial = Some(initial);
    }

    /// Takes note of a control segment, see [`Controls::say`].
    ///
    /// # Errors
    /// [`TooMuch`] if there are too many; the incarnation then counts as diverged.
    pub fn say_control(
        &mut self,
        side: Side,
        control: Control,
        held: &impl Minds,
    ) -> Result<(ControlId, Option<&Control>), TooMuch> {
        let end = self.primary.high.unwrap_or(0);
        let noted = self.controls.say(side, control, |id| held.says(id));
        if noted.is_err() {
            self.diverged = Some(self.diverged.map_or(end, |at| at.min(end)));
        }
        noted.map_err(|TooManyControls| TooMuch::CONTROLS)
    }

    /// Where one guest's stream ends and the other's goes on, though it has said no FIN there. A guest that itself goes on
    /// beyond its FIN has not ended there.
    #[must_use]
    pub fn ends_differ(&self) -> Option<i64> {
        let reach = |side: Side| {
            let fins = self.controls.fins(side).map(|(at, _)| at).max();
            self.heard(side).high.max(fins)
        };
        let cut_short = |side: Side| {
            let alone = self.controls.fins(side).filter(|&(at, both)| !both && reach(side) == Some(at));
            alone.map(|(at, _)| at).find(|&at| reach(side.other()) > Some(at))
        };
        cut_short(Side::Primary).or_else(|| cut_short(Side::Secondary))
    }

    /// What `side` said at `at`, as far as it is kept.
    #[must_use]
    pub fn excerpt_of(&self, side: Side, at: i64) -> Vec<u8> {
        let n = usize::try_from(self.heard(side).said.first_gap(at) - at).unwrap_or(0).min(EXCERPT);
        self.bytes.excerpt(at, n)
    }

    /// The first byte that the secondary has said and the primary has not.
    #[must_use]
    pub fn first_ahead(&self) -> Option<i64> {
        let first = self.secondary.said.first_outside(&self.primary.said);
        let revised = self.revisions.ahead(&self.bytes, &self.primary.said);
        first.into_iter().chain(revised).min()
    }

    /// Where a FIN stands that only the secondary has said.
    #[must_use]
    pub fn lone_fin(&self) -> Option<i64> {
        self.controls.fins(Side::Secondary).find(|&(_, both)| !both).map(|(at, _)| at)
    }

    /// Whether the secondary has said something that the primary has not.
    #[must_use]
    pub fn ahead(&self) -> bool {
        [Kind::Syn, Kind::Fin, Kind::Reset].into_iter().any(|kind| self.controls.lone(kind))
            || self.first_ahead().is_some()
    }

    /// Takes note of a segment that is not compared, so that a checkpoint finds where the stream stands.
    pub fn note_unprotected(&mut self, segment: &TcpSegment<'_>) {
        let side = Side::Primary;
        if segment.flags.has(TcpFlags::RST) {
            self.primary.rst = true;
            return;
        }
        let to = self.offset(side, segment.seq) + segment.payload.len() as i64;
        self.primary.low = Some(self.primary.low.map_or(to, |low| low.min(to)));
        self.primary.high = self.primary.high.max(Some(to));
        if segment.flags.has(TcpFlags::FIN) {
            // An unprotected flow that has no room for its FINs only stays in the table for longer.
            let _ = self.controls.say(side, Control::Fin(to), |_| false);
        }
        if segment.flags.has(TcpFlags::ACK) {
            self.acknowledges(side, segment.ack);
        }
    }

    /// Nothing from `at` on leaves before a checkpoint.
    pub fn diverge(&mut self, at: i64) {
        self.diverged = Some(self.diverged.map_or(at, |d| d.min(at)));
    }

    /// Whether `voice` has said all of `[from, to)`, or need not have, in the version that was said first.
    #[must_use]
    pub fn has_said(&self, voice: &Voice, from: i64, to: i64) -> bool {
        voice.said.covers(self.settled.map_or(from, |settled| from.max(settled)), to)
    }

    /// The first byte of a frame of the primary's that the secondary has not said: the frame says `[from, to)`, as a revision
    /// or as it was said first.
    #[must_use]
    pub fn first_unsaid(&self, from: i64, to: i64, revised: Option<RevisionId>) -> Option<i64> {
        let said = &self.secondary.said;
        let from = self.settled.map_or(from, |settled| from.max(settled));
        match revised {
            Some(revision) => self
                .revisions
                .first_unsaid(Side::Secondary, revision, &self.bytes, said)
                .filter(|&at| at >= from),
            None => Some(said.first_gap(from)).filter(|&gap| gap < to),
        }
    }

    /// What the primary says at `at` in a frame, as a revision or as it was said first.
    #[must_use]
    pub fn excerpt(&self, revised: Option<RevisionId>, at: i64) -> Vec<u8> {
        match revised {
            Some(revision) => self.revisions.excerpt(revision, at, EXCERPT),
            None => self.bytes.excerpt(at, EXCERPT),
        }
    }

    /// Forgets bytes that both sides have said, oldest first, until at most `bound` are kept. They count as never said,
    /// so that a retransmission of them is compared anew.
    pub fn forget_said(&mut self, bound: usize, held: &impl Minds) {
        if !self.revisions.is_empty() && self.kept() > bound {
            self.revisions.forget_agreed(|revision| held.revises(revision));
        }
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
        let offset = self.peek(Side::Primary, seq);
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
        self.controls.fins(Side::Primary).any(|(_, both)| both) && heard(primary) && heard(secondary)
    }

    /// Everything below `offset` is history.
    pub fn settle(&mut self, offset: i64) {
        if self.settled.is_none_or(|old| old < offset) {
            self.settled = Some(offset);
            self.primary.said.remove_below(offset);
            self.secondary.said.remove_below(offset);
            self.bytes.forget_below(offset);
            self.revisions.forget_below(offset);
        }
    }

    /// The epoch cut: the secondary's guest is now the primary's.
    pub fn cut(&mut self) {
        self.secondary = self.primary.clone();
        self.bytes.forget_outside(&self.primary.said);
        self.revisions.cut();
        self.controls.cut();
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
    pub fn closed(&self) -> bool {
        (self.controls.any(Side::Primary, Kind::Fin) && self.controls.any(Side::Secondary, Kind::Fin))
            || (self.primary.rst && self.secondary.rst)
            || (self.unprotected && self.primary.rst)
    }

    /// Bytes kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.bytes.len() + self.revisions.len()
    }
}

/// A bound of what is tracked of one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// Its name.
    pub bound: &'static str,
    /// Its value.
    pub limit: usize,
}

impl TooMuch {
    /// More holes in a stream.
    pub const HOLES: Self = Self { bound: "ranges", limit: super::ranges::MAX_RANGES };
    /// More segments that contradict earlier ones.
    pub const REVISIONS: Self = Self { bound: "revisions", limit: super::revisions::MAX_REVISIONS };
    /// More SYNs, FINs and RSTs.
    pub const CONTROLS: Self = Self { bound: "controls", limit: super::controls::MAX_CONTROLS };
}

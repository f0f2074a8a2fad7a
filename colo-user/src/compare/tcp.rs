//! Comparison of TCP: two byte streams in the client's sequence space, whatever the segmentation, retransmission or
//! order (RFC 9293).
//!
//! A segment of the primary is *held* until (a) the secondary has said every payload byte of it at the same sequence
//! number, (b) has said its SYN, FIN or RST too, and (c) has acknowledged as much of the client's input. Segments are
//! released in the order of capture; only one that repeats what has left already may overtake.
//!
//! What both guests say alike leaves, also where it contradicts what they have said before: every version of a byte and
//! every control segment is matched with the other guest's. What only one says stays.
//!
//! A flow is a short queue of incarnations ([`incarnation`]), nearly always one. A guest's SYN or SYN-ACK with another
//! initial number begins a new one for that guest; a client's SYN changes nothing. [`bytes`] keeps what may still be
//! needed, [`revisions`] what a guest has said otherwise before, [`ranges`] who has said what, [`controls`] the SYNs, FINs
//! and RSTs, [`window`] what the guests take. [`note`] takes a segment to them, [`late`] finds what one side has said and the other not in time, [`heard`]
//! what of the secondary the client has to hear.

mod bytes;
mod controls;
mod heard;
mod incarnation;
mod late;
mod note;
mod ranges;
mod revisions;
mod voice;
mod window;

use super::Action;
use super::classify::FlowKey;
use super::comparator::begins;
use super::context::{Context, Frames, Reason};
use crate::mono::Mono;
use crate::wire::{Seq, TcpFlags, TcpSegment};
use controls::{ControlId, Kind};
use incarnation::Incarnation;
use revisions::RevisionId;
use std::collections::VecDeque;
use voice::Side;

/// Most incarnations of one flow that wait at the same time. A guest that reuses a port faster than its peer follows is
/// not followed: its frames stay held, and a checkpoint is asked for.
const MAX_INCARNATIONS: usize = 64;

/// How far before the bytes seen a SYN may stand and still belong to them: segments of one window, reordered.
const SYN_REORDERING: i64 = 1 << 20;

#[derive(Clone)]
struct Held {
    frames: Frames,
    order: u64,
    since: Mono,
    /// Number of its incarnation.
    incarnation: u32,
    flags: TcpFlags,
    /// Stream offsets of its payload.
    from: i64,
    to: i64,
    /// Only with [`TcpFlags::ACK`].
    ack: Seq,
    /// The same, as [`Incarnation::acknowledges`] has it.
    acked: i64,
    window: u16,
    /// All of its payload has left before.
    repeats: bool,
    /// Its SYN, FIN or RST.
    control: Option<ControlId>,
    /// It has no payload, no SYN and no FIN.
    bare: bool,
    /// Its payload contradicts what the guest has said before.
    revised: Option<RevisionId>,
}

/// What the secondary still has to say before a segment may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Anything in this incarnation.
    Incarnation,
    /// The SYN.
    Syn,
    /// The byte at this offset.
    Payload(i64),
    /// The FIN.
    Fin,
    /// An RST.
    Rst,
    /// The acknowledgement.
    Ack,
    /// Nothing that it could say: the guests differ before the end of the segment.
    Checkpoint,
}

/// One TCP flow.
#[derive(Clone)]
pub(super) struct TcpFlow {
    /// The oldest that anything is known or held of comes first.
    incarnations: VecDeque<Incarnation>,
    /// Number of the first incarnation in the queue.
    first: u32,
    /// Number of the incarnation that each guest is in.
    primary_in: u32,
    secondary_in: u32,
    held: VecDeque<Held>,
    /// Those among them that repeat.
    held_repeats: usize,
    /// The client had to get a part of a held segment: until nothing is held it gets parts at once, or each would take a
    /// timeout of the secondary's.
    parts: bool,
    /// What the client has heard acknowledged last.
    acknowledged: Option<Seq>,
    /// A divergence was reported that only a checkpoint can mend.
    diverged: bool,
    /// Lateness was reported, and nothing has been released since.
    asked: bool,
    overloaded: bool,
}

impl TcpFlow {
    /// A new flow. `unprotected`: it began before the protection and is not compared until a guest says a SYN.
    pub(super) fn new(unprotected: bool) -> Self {
        Self {
            incarnations: VecDeque::from([Incarnation::new(unprotected)]),
            first: 0,
            primary_in: 0,
            secondary_in: 0,
            held: VecDeque::new(),
            held_repeats: 0,
            parts: false,
            acknowledged: None,
            diverged: false,
            asked: false,
            overloaded: false,
        }
    }

    fn at(&mut self, number: u32) -> &mut Incarnation {
        &mut self.incarnations[(number - self.first) as usize]
    }

    fn kept(&self) -> usize {
        self.incarnations.iter().map(Incarnation::kept).sum()
    }

    /// A segment of the primary's guest.
    pub(super) fn primary(
        &mut self,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        frames: Frames,
        cx: &mut Context<'_>,
    ) {
        let kept = self.kept();
        let followed = self.enter(Side::Primary, segment);
        let number = self.primary_in;
        let incarnation = self.at(number);
        if incarnation.unprotected {
            incarnation.note_unprotected(segment);
            cx.release(&frames, Reason::Unprotected);
            return;
        }
        let noted = self.note(Side::Primary, key, segment, followed, cx);
        let repeats = noted.repeats;
        // A secondary that is ahead of a primary that moves on is not late.
        self.at(number).ahead_since = None;
        let held = Held {
            frames,
            order: cx.order,
            since: cx.now,
            incarnation: number,
            flags: segment.flags,
            from: noted.from,
            to: noted.to,
            ack: segment.ack,
            acked: noted.acked,
            window: segment.window,
            repeats,
            control: noted.control,
            bare: segment.payload.is_empty()
                && !segment.flags.has(TcpFlags::SYN)
                && !segment.flags.has(TcpFlags::FIN),
            revised: noted.revised,
        };
        cx.counters.retransmissions += u64::from(repeats);
        // Only what repeats may overtake: everything in it has left before.
        if (self.held.is_empty() || repeats) && self.lack(&held).is_none() {
            self.narrow(&held, cx);
            cx.release(&held.frames, Reason::Compared);
            self.left(&held, cx);
        } else {
            cx.hold(&held.frames);
            self.held_repeats += usize::from(repeats);
            self.held.push_back(held);
            if self.held.len() > cx.limits.queue && !std::mem::replace(&mut self.overloaded, true) {
                cx.overload("queue", cx.limits.queue, Some(*key));
            }
        }
        self.settle(kept, cx);
    }

    /// A segment of the secondary's guest. Returns the window that it has to be let out with if the client has to hear it: as
    /// an acknowledgement, bare, of less than the primary's next segment acknowledges and is held for; as the part that both
    /// have said of a primary's segment that says more; because it widens the window; or because the secondary has missed
    /// what the client answers.
    pub(super) fn secondary(
        &mut self,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        cx: &mut Context<'_>,
    ) -> Option<u16> {
        let kept = self.kept();
        let followed = self.enter(Side::Secondary, segment);
        let number = self.secondary_in;
        let incarnation = self.at(number);
        if incarnation.unprotected {
            return None;
        }
        // A bound on what only the secondary has said. The number of a SYN is this guest's own, that of an RST is not compared:
        // neither is a place in the stream.
        if !segment.payload.is_empty() && segment.flags.0 & (TcpFlags::SYN.0 | TcpFlags::RST.0) == 0 {
            let from = incarnation.offset(Side::Secondary, segment.seq);
            let said = from + segment.payload.len() as i64;
            // The distance is quickly known; where numbers jump, what is kept counts.
            let mut ahead = said - incarnation.primary.high.unwrap_or(from);
            if ahead > cx.limits.ahead_bytes as i64 {
                let kept = incarnation.secondary.said.count_outside(&incarnation.primary.said);
                ahead = ahead.min(kept + segment.payload.len() as i64);
            }
            let ahead = usize::try_from(ahead).ok().filter(|&bytes| bytes > 0);
            if let Some((bound, limit)) = ahead.and_then(|bytes| cx.no_room_ahead(bytes)) {
                cx.counters.secondary_overflow += 1;
                if !std::mem::replace(&mut self.overloaded, true) {
                    cx.overload(bound, limit, Some(*key));
                }
                return None;
            }
        }
        let heard = self.acknowledged;
        let repeats = cx.policy.emit_acknowledgements && (self.parts || self.repeats(segment));
        let noted = self.note(Side::Secondary, key, segment, followed, cx);
        let otherwise = noted.differs || noted.revised.is_some();
        self.pump(cx);
        self.settle(kept, cx);
        let lags = self.lags(segment, heard);
        if lags {
            self.acknowledged = Some(segment.ack);
        }
        let part = repeats && !otherwise && self.is_part(segment);
        self.parts = (self.parts || part) && !self.held.is_empty();
        let to_hear = lags || part || self.missed(segment) || cx.policy.narrow_windows && self.opens(segment);
        let number = self.secondary_in;
        to_hear.then(|| match cx.policy.narrow_windows {
            true => self.at(number).window.tell(segment.ack, segment.window),
            false => segment.window,
        })
    }

    /// The client acknowledges what the guest said, or begins the connection again.
    pub(super) fn client(&mut self, segment: &TcpSegment<'_>, kept_total: &mut usize) {
        if segment.flags.has(TcpFlags::ACK) {
            let kept = self.kept();
            let number = self.primary_in;
            let incarnation = self.at(number);
            incarnation.client_acknowledges(segment.ack);
            if segment.flags.has(TcpFlags::SYN) {
                incarnation.window.client_answers(segment);
            }
            if segment.flags.has(TcpFlags::FIN) {
                incarnation.client_end = Some(segment.payload_seq() + segment.payload.len() as u32 + 1);
            }
            *kept_total = *kept_total + self.kept() - kept;
        } else if begins(segment) {
            let number = self.primary_in;
            self.at(number).succeeded = true;
        }
    }

    /// Moves `side` to the incarnation that `segment` belongs to. `false` if there are too many.
    fn enter(&mut self, side: Side, segment: &TcpSegment<'_>) -> bool {
        if !segment.flags.has(TcpFlags::SYN) || segment.flags.has(TcpFlags::RST) {
            return true;
        }
        let number = self.number_of(side);
        if !self.at(number).begins_anew(side, segment.seq, segment.flags.has(TcpFlags::ACK)) {
            return true;
        }
        let next = (number - self.first) as usize + 1;
        if next == self.incarnations.len() {
            if next >= MAX_INCARNATIONS {
                return false;
            }
            self.incarnations.push_back(Incarnation::default());
        }
        match side {
            Side::Primary => {
                self.primary_in += 1;
                self.acknowledged = None;
            }
            Side::Secondary => self.secondary_in += 1,
        }
        true
    }

    /// The number of the incarnation that `side` is in.
    const fn number_of(&self, side: Side) -> u32 {
        match side {
            Side::Primary => self.primary_in,
            Side::Secondary => self.secondary_in,
        }
    }

    fn lack(&self, held: &Held) -> Option<Lack> {
        let incarnation = &self.incarnations[(held.incarnation - self.first) as usize];
        let secondary = &incarnation.secondary;
        if !secondary.spoke() {
            return Some(Lack::Incarnation);
        }
        let lacks_control =
            held.control.is_some_and(|control| !incarnation.controls.said_by(Side::Secondary, control));
        let resets = held.flags.has(TcpFlags::RST);
        if held.flags.has(TcpFlags::SYN) && !resets && lacks_control {
            return Some(Lack::Syn);
        }
        if incarnation.diverged.is_some_and(|at| held.to > at || held.from > at) {
            return Some(Lack::Checkpoint);
        }
        if resets {
            // What an RST acknowledges does not matter to a connection that ends.
            return (lacks_control && !(held.bare && incarnation.over())).then_some(Lack::Rst);
        }
        if let Some(at) = incarnation.first_unsaid(held.from, held.to, held.revised) {
            return Some(Lack::Payload(at));
        }
        if lacks_control {
            return Some(Lack::Fin);
        }
        let acknowledges = held.flags.has(TcpFlags::ACK);
        (acknowledges && secondary.acked.is_none_or(|owned| held.acked > owned)).then_some(Lack::Ack)
    }

    /// Lets out what is complete at the front, and what repeats wherever it stands: the front may lack what the secondary
    /// says only after the client has acknowledged the repetition.
    fn pump(&mut self, cx: &mut Context<'_>) {
        while self.held.front().is_some_and(|held| self.lack(held).is_none()) {
            let held = self.held.pop_front().expect("there is a front");
            self.let_out(&held, cx);
        }
        let mut at = 0;
        while self.held_repeats > 0 && at < self.held.len() {
            if self.held[at].repeats
                && self.lack(&self.held[at]).is_none()
                && let Some(held) = self.held.remove(at)
            {
                self.let_out(&held, cx);
            } else {
                at += 1;
            }
        }
        if self.held.len() <= cx.limits.queue / 2 {
            self.overloaded = false;
        }
    }

    /// A segment that was held leaves.
    fn let_out(&mut self, held: &Held, cx: &mut Context<'_>) {
        self.held_repeats -= usize::from(held.repeats);
        self.narrow(held, cx);
        cx.release_held(&held.frames, Reason::Compared);
        self.left(held, cx);
        self.asked = false;
    }

    /// A segment leaves with the window that both guests take.
    fn narrow(&mut self, held: &Held, cx: &mut Context<'_>) {
        let plain = held.flags.has(TcpFlags::ACK) && held.flags.0 & (TcpFlags::SYN.0 | TcpFlags::RST.0) == 0;
        let (true, true, Frames::One(token)) = (cx.policy.narrow_windows, plain, &held.frames) else {
            return;
        };
        let window = self.at(held.incarnation).window.tell(held.ack, held.window);
        if window != held.window {
            cx.counters.windows_narrowed += 1;
            cx.out.push(Action::Window(*token, window));
        }
    }

    /// Takes note of a segment that has left.
    fn left(&mut self, held: &Held, cx: &mut Context<'_>) {
        cx.counters.compared_bytes += (held.to - held.from).unsigned_abs();
        if held.flags.has(TcpFlags::ACK) && self.acknowledged.is_none_or(|a| held.ack.after(a)) {
            self.acknowledged = Some(held.ack);
        }
        let incarnation = self.at(held.incarnation);
        if !held.flags.has(TcpFlags::SYN) && !held.flags.has(TcpFlags::RST) {
            incarnation.released = incarnation.released.max(Some(held.to));
        }
    }

    /// Housekeeping after a segment: forgets what is not needed, keeps the total.
    fn settle(&mut self, kept_before: usize, cx: &mut Context<'_>) {
        let bound = if *cx.kept > cx.limits.kept_bytes { 0 } else { cx.limits.said_bytes };
        let number = self.primary_in;
        let (incarnation, held) = self.present(Side::Primary);
        incarnation.forget_said(bound, &held);
        let needed = self.held.front().map_or(self.primary_in, |held| held.incarnation);
        while self.first < needed.min(self.primary_in).min(self.secondary_in) {
            self.incarnations.pop_front();
            self.first += 1;
        }
        let ends = self.at(number);
        // One guest may lack the last acknowledgement and hear a stray that the other answers.
        let lone_rst = ends.controls.lone(Kind::Reset) && !ends.over();
        let now = cx.now;
        ends.lone_end = (ends.lone_fin().is_some() || lone_rst).then(|| ends.lone_end.unwrap_or(now));
        ends.ahead_since = ends.ahead().then(|| ends.ahead_since.unwrap_or(now));
        *cx.kept = *cx.kept + self.kept() - kept_before;
    }

    /// The epoch cut: everything held is handed over with its place in the order of capture; all that the primary has
    /// said and acknowledged counts as said and owned by both.
    pub(super) fn cut(&mut self, cx: &mut Context<'_>, released: &mut Vec<(u64, Frames)>) {
        let kept = self.kept();
        released.extend(self.held.drain(..).map(|held| (held.order, held.frames)));
        self.held_repeats = 0;
        self.parts = false;
        while self.first < self.primary_in {
            self.incarnations.pop_front();
            self.first += 1;
        }
        self.incarnations.truncate(1);
        self.secondary_in = self.primary_in;
        self.incarnations[0].cut();
        self.acknowledged = None;
        self.diverged = false;
        self.asked = false;
        self.overloaded = false;
        *cx.kept = *cx.kept + self.kept() - kept;
    }

    /// Whether it holds nothing of the primary's.
    pub(super) fn quiet(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether nothing of either side is waiting for the other.
    pub(super) fn empty(&self) -> bool {
        self.held.is_empty()
            && !self.diverged
            && self.primary_in == self.secondary_in
            && !self.incarnations[0].ahead()
    }

    /// Whether both guests have closed it.
    pub(super) fn closed(&self) -> bool {
        self.incarnations.back().is_some_and(Incarnation::closed)
    }

    /// Forgets all that both sides have said. For when memory is short.
    pub(super) fn forget_said(&mut self, kept_total: &mut usize) {
        let kept = self.kept();
        let (incarnation, held) = self.present(Side::Primary);
        incarnation.forget_said(0, &held);
        *kept_total = *kept_total + self.kept() - kept;
    }

    /// Whether its comparison would be lost if it were forgotten, under coverage of new flows only.
    pub(super) fn protected(&self) -> bool {
        self.incarnations.iter().any(|i| !i.unprotected)
    }

    /// Gives back what it keeps to the total, before it is forgotten.
    pub(super) fn forget(&mut self, kept_total: &mut usize) {
        *kept_total -= self.kept();
        self.incarnations.clear();
    }
}

#[cfg(test)]
mod tests;

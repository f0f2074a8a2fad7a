//! What a segment says is taken note of: in which incarnation, at which offsets, as which control segment. A difference
//! from what the other guest says is reported here, once a checkpoint.

use super::controls::{Control, ControlId};
use super::incarnation::{Difference, Heard, Incarnation, Minds, TooMuch};
use super::revisions::RevisionId;
use super::voice::Side;
use super::{Held, MAX_INCARNATIONS, TcpFlow};
use crate::compare::classify::FlowKey;
use crate::compare::context::Context;
use crate::compare::divergence::{Divergence, DivergenceKind};
use crate::wire::{Seq, TcpFlags, TcpSegment};
use std::collections::VecDeque;

/// What a segment turned out to say.
#[derive(Default)]
pub(super) struct Noted {
    /// Stream offsets of its payload.
    pub from: i64,
    pub to: i64,
    /// What it acknowledges, as [`Incarnation::acknowledges`] has it.
    pub acked: i64,
    /// All it says has left before.
    pub repeats: bool,
    /// Its SYN, FIN or RST.
    pub control: Option<ControlId>,
    /// Its payload contradicts what the guest has said before.
    pub revised: Option<RevisionId>,
    /// It differs from what the other guest has said.
    pub differs: bool,
}

/// The held frames of one incarnation.
pub(super) struct HeldOf<'a> {
    held: &'a VecDeque<Held>,
    incarnation: u32,
}

impl HeldOf<'_> {
    fn any(&self, what: impl Fn(&Held) -> bool) -> bool {
        self.held.iter().any(|held| held.incarnation == self.incarnation && what(held))
    }
}

impl Minds for HeldOf<'_> {
    fn says(&self, control: ControlId) -> bool {
        self.any(|held| held.control == Some(control))
    }

    fn revises(&self, revision: RevisionId) -> bool {
        self.any(|held| held.revised == Some(revision))
    }
}

impl TcpFlow {
    /// The incarnation that `side` is in, and the held frames of it.
    pub(super) fn present(&mut self, side: Side) -> (&mut Incarnation, HeldOf<'_>) {
        let number = self.number_of(side);
        let incarnation = &mut self.incarnations[(number - self.first) as usize];
        (incarnation, HeldOf { held: &self.held, incarnation: number })
    }

    /// Takes note of what `segment` says, and reports a difference.
    pub(super) fn note(
        &mut self,
        side: Side,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        followed: bool,
        cx: &mut Context<'_>,
    ) -> Noted {
        if !followed {
            return self.not_noted(side, TooMuch { bound: "incarnations", limit: MAX_INCARNATIONS }, key, cx);
        }
        let (incarnation, _) = self.present(side);
        let mut acked = 0;
        if segment.flags.has(TcpFlags::ACK) && !segment.flags.has(TcpFlags::RST) {
            acked = incarnation.acknowledges(side, segment.ack);
            if !segment.flags.has(TcpFlags::SYN) {
                incarnation.window.said(side, segment);
            }
        }
        let noted = if segment.flags.has(TcpFlags::RST) {
            self.note_reset(side, key, segment, cx)
        } else if segment.flags.has(TcpFlags::SYN) {
            self.note_syn(side, key, segment, cx)
        } else {
            self.note_stream(side, key, segment, cx)
        };
        match noted {
            Ok(noted) => Noted { acked, ..noted },
            Err(too_much) => self.not_noted(side, too_much, key, cx),
        }
    }

    /// A segment that does not fit into what is tracked: it stays until a checkpoint, which is asked for.
    fn not_noted(&mut self, side: Side, too_much: TooMuch, key: &FlowKey, cx: &mut Context<'_>) -> Noted {
        let (incarnation, _) = self.present(side);
        let at = incarnation.primary.high.unwrap_or(0);
        incarnation.diverge(at);
        if !std::mem::replace(&mut self.overloaded, true) {
            cx.overload(too_much.bound, too_much.limit, Some(*key));
        }
        Noted { from: at, to: at + 1, differs: true, ..Noted::default() }
    }

    /// An RST. Its number is not compared, so it is no anchor either.
    fn note_reset(
        &mut self,
        side: Side,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Noted, TooMuch> {
        let (incarnation, _) = self.present(side);
        incarnation.voice(side).rst = true;
        let at = incarnation.primary.high.or(incarnation.primary.low).unwrap_or(0);
        let control = self.note_control(side, key, Control::reset(segment), Some(segment.seq), cx)?;
        Ok(Noted { from: at, to: at, control, ..Noted::default() })
    }

    /// A SYN or SYN-ACK.
    fn note_syn(
        &mut self,
        side: Side,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Noted, TooMuch> {
        let (incarnation, _) = self.present(side);
        if side == Side::Primary {
            incarnation.window.guest_begins(segment);
        }
        incarnation.begins(side, segment.seq);
        let control = self.note_control(side, key, Control::syn(segment), Some(segment.seq), cx)?;
        Ok(Noted { control, ..Noted::default() })
    }

    /// Takes note of a control segment. The first of a kind must be the same on both sides; a later one waits.
    fn note_control(
        &mut self,
        side: Side,
        key: &FlowKey,
        control: Control,
        seq: Option<Seq>,
        cx: &mut Context<'_>,
    ) -> Result<Option<ControlId>, TooMuch> {
        let said = control.excerpt();
        let (incarnation, held) = self.present(side);
        let (id, differs) = incarnation.say_control(side, control, &held)?;
        // A FIN elsewhere is seen by where the streams end.
        let other = differs.filter(|other| !matches!(other, Control::Fin(_))).map(Control::excerpt);
        if let Some(other) = other {
            let (primary, secondary) = match side {
                Side::Primary => (said, other),
                Side::Secondary => (other, said),
            };
            let kind = DivergenceKind::Flags;
            self.report(Divergence { flow: *key, kind, seq, offset: None, primary, secondary }, cx);
        }
        Ok(Some(id))
    }

    /// A segment of the stream: payload, FIN, a bare acknowledgement.
    fn note_stream(
        &mut self,
        side: Side,
        key: &FlowKey,
        segment: &TcpSegment<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Noted, TooMuch> {
        let number = self.number_of(side);
        let fin = segment.flags.has(TcpFlags::FIN);
        let (incarnation, held) = self.present(side);
        let from = incarnation.offset(side, segment.seq);
        if let ([octet], false) = (segment.payload, fin)
            && incarnation.keeps_alive(side, from, *octet)
        {
            cx.counters.keep_alives += 1;
            return Ok(Noted { from, to: from, ..Noted::default() });
        }
        let to = from + segment.payload.len() as i64;
        let voice = incarnation.voice(side);
        voice.low = Some(voice.low.map_or(from, |low| low.min(from)));
        let left = from < to && incarnation.released.is_some_and(|released| to <= released);
        let Heard { difference, revised } = match from < to {
            true => incarnation.say(side, from, segment.payload, &held)?,
            false => Heard::default(),
        };
        // Nothing overtakes what contradicts it.
        let contradicted = !incarnation.revisions.is_empty() && held.any(|held| held.revised.is_some());
        let repeats = left && !fin && revised.is_none() && !contradicted;
        let differs = difference.is_some();
        if let Some(difference) = difference {
            self.report_payload(key, number, from, difference, cx);
        }
        let control = match fin {
            true => self.note_control(side, key, Control::Fin(to), None, cx)?,
            false => None,
        };
        let (incarnation, _) = self.present(side);
        if let Some(end) = incarnation.ends_differ() {
            incarnation.diverge(end);
            let divergence = Divergence {
                flow: *key,
                kind: DivergenceKind::Length,
                seq: Some(incarnation.seq(from)),
                offset: u64::try_from(end - from).ok(),
                primary: incarnation.excerpt_of(Side::Primary, end),
                secondary: incarnation.excerpt_of(Side::Secondary, end),
            };
            self.report(divergence, cx);
        }
        Ok(Noted { from, to, repeats, control, revised, differs, acked: 0 })
    }

    fn report_payload(
        &mut self,
        key: &FlowKey,
        number: u32,
        from: i64,
        difference: Difference,
        cx: &mut Context<'_>,
    ) {
        let Difference { at, primary, secondary } = difference;
        // The segment that an operator finds in a capture of the primary: the held one, where it is held.
        let holds = |held: &&Held| held.incarnation == number && held.from <= at && at < held.to;
        let from = self.held.iter().find(holds).map_or(from, |held| held.from);
        let divergence = Divergence {
            flow: *key,
            kind: DivergenceKind::Payload,
            seq: Some(self.at(number).seq(from)),
            offset: u64::try_from(at - from).ok(),
            primary,
            secondary,
        };
        self.report(divergence, cx);
    }

    /// Reports the first difference that only a checkpoint can mend.
    fn report(&mut self, divergence: Divergence, cx: &mut Context<'_>) {
        if !std::mem::replace(&mut self.diverged, true) {
            cx.diverge(divergence);
        }
    }
}

//! What one guest has said and the other has not: in time while they run, at all when their output has ended.

use super::super::classify::FlowKey;
use super::super::context::Context;
use super::super::divergence::{Divergence, DivergenceKind, EXCERPT};
use super::controls::Kind;
use super::voice::Side;
use super::{Lack, TcpFlow};
use crate::mono::Mono;
use crate::wire::TcpFlags;

impl TcpFlow {
    /// When [`Self::tick`] has something to do.
    pub(in crate::compare) fn deadline(&self, cx: &Context<'_>) -> Option<Mono> {
        // What is reported already is mended by the same checkpoint.
        if self.asked || self.diverged {
            return None;
        }
        let late_secondary = self.held.front().and_then(|held| match self.lack(held)? {
            Lack::Checkpoint if self.overloaded => None,
            Lack::Ack => Some(held.since + cx.wait.max(cx.policy.wait_ack)),
            _ => Some(held.since + cx.wait),
        });
        let incarnation = &self.incarnations[(self.primary_in - self.first) as usize];
        let at_its_end = incarnation.secondary.rst
            || incarnation.lone_fin().is_some_and(|fin| incarnation.primary.high.is_none_or(|h| h >= fin));
        let lone_end = incarnation.lone_end.filter(|_| at_its_end).map(|since| since + cx.wait);
        let late_primary =
            cx.policy.late_primary.and_then(|wait| incarnation.ahead_since.map(|since| since + wait));
        [late_secondary, lone_end, late_primary].into_iter().flatten().min()
    }

    /// Reports what is late.
    pub(in crate::compare) fn tick(&mut self, key: &FlowKey, cx: &mut Context<'_>) {
        if self.deadline(cx).is_none_or(|deadline| deadline > cx.now) {
            return;
        }
        self.asked = true;
        if let Some(divergence) =
            self.unmatched(key, DivergenceKind::LateSecondary, DivergenceKind::LatePrimary)
        {
            cx.diverge(divergence);
        }
    }

    /// The first thing that only one side has said.
    fn unmatched(
        &self,
        key: &FlowKey,
        only_primary: DivergenceKind,
        only_secondary: DivergenceKind,
    ) -> Option<Divergence> {
        if let Some(held) = self.held.front() {
            let incarnation = &self.incarnations[(held.incarnation - self.first) as usize];
            let syn = held.flags.has(TcpFlags::SYN).then_some(incarnation.primary.initial).flatten();
            let (offset, primary) = match self.lack(held) {
                Some(Lack::Payload(at)) => (Some(at), incarnation.excerpt(held.revised, at)),
                Some(Lack::Fin) => (Some(held.to), Vec::new()),
                _ => (None, Vec::new()),
            };
            // Where the primary contradicts itself the secondary may stand by what both said first.
            let first = offset.filter(|_| held.revised.is_some());
            let secondary = first.map(|at| incarnation.excerpt_of(Side::Secondary, at)).unwrap_or_default();
            let offset = offset.map(|at| at - held.from);
            return Some(Divergence {
                flow: *key,
                kind: if secondary.is_empty() { only_primary } else { DivergenceKind::Payload },
                seq: Some(syn.unwrap_or_else(|| incarnation.seq(held.from))),
                offset: offset.and_then(|o| u64::try_from(o).ok()),
                primary,
                secondary,
            });
        }
        let incarnation = &self.incarnations[(self.primary_in - self.first) as usize];
        let ahead = incarnation.first_ahead();
        let seq = match ahead.or_else(|| incarnation.lone_fin()) {
            Some(at) => Some(incarnation.seq(at)),
            None if incarnation.controls.lone(Kind::Syn) => incarnation.secondary.initial,
            None if incarnation.controls.lone(Kind::Reset) => {
                incarnation.primary.high.map(|at| incarnation.seq(at))
            }
            None => return None,
        };
        let excerpt = ahead.map(|at| incarnation.bytes.excerpt(at, EXCERPT));
        Some(Divergence {
            flow: *key,
            kind: only_secondary,
            seq,
            offset: None,
            primary: Vec::new(),
            secondary: excerpt.unwrap_or_default(),
        })
    }

    /// The end of both inputs: what only one side said is a divergence.
    pub(in crate::compare) fn finish(&mut self, key: &FlowKey, cx: &mut Context<'_>) {
        if self.diverged || self.asked {
            return;
        }
        if let Some(divergence) = self.unmatched(key, DivergenceKind::Missing, DivergenceKind::Extra) {
            self.asked = true;
            cx.diverge(divergence);
        }
    }
}

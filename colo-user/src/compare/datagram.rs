//! Comparison of what comes in units: datagrams, messages, whole frames.
//!
//! First in, first out. A unit of the primary is *held* until the secondary has said an equal one, *matched* then, and
//! *released* when it is the first in its flow. A unit of the secondary that has no equal yet is *ahead*. Equals are
//! looked for within a bounded window, so that two units in another order are no divergence.

use super::classify::{Class, FlowKey, QUOTED, Unit};
use super::context::{Context, Frames, Reason};
use super::divergence::{Divergence, DivergenceKind, EXCERPT};
use super::gaps::{Gaps, first_difference, same_length};
use crate::mono::Mono;
use std::collections::VecDeque;

/// What a unit says, kept until the other side has said it.
#[derive(Clone)]
struct Kept {
    head: Box<[u8]>,
    body: Box<[u8]>,
    gaps: Gaps,
}

impl Kept {
    fn of(unit: &Unit<'_>) -> Self {
        Self { head: unit.head.as_slice().into(), body: unit.body.into(), gaps: unit.gaps.clone() }
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn says(&self, unit: &Unit<'_>) -> bool {
        if self.gaps.is_empty() && unit.gaps.is_empty() {
            return *self.body == *unit.body && *self.head == *unit.head;
        }
        *self.head == *unit.head
            && same_length((&self.body, &self.gaps), (unit.body, &unit.gaps))
            && first_difference((&self.body, &self.gaps), (unit.body, &unit.gaps)).is_none()
    }
}

#[derive(Clone)]
struct Held {
    frames: Frames,
    order: u64,
    since: Mono,
    /// `None` once matched.
    unmatched: Option<Kept>,
}

/// One flow of units.
#[derive(Clone)]
pub(super) struct UnitFlow {
    class: Class,
    held: VecDeque<Held>,
    ahead: VecDeque<(Mono, Kept)>,
    ahead_bytes: usize,
    /// Asked for a checkpoint, and nothing has been released since.
    asked: bool,
    overloaded: bool,
}

impl UnitFlow {
    pub(super) fn new(class: Class) -> Self {
        Self {
            class,
            held: VecDeque::new(),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            asked: false,
            overloaded: false,
        }
    }

    /// A unit of the primary's guest.
    pub(super) fn primary(&mut self, key: &FlowKey, unit: &Unit<'_>, frames: Frames, cx: &mut Context<'_>) {
        let equal = self.ahead.iter().take(cx.limits.reorder_window).position(|(_, kept)| kept.says(unit));
        if let Some((_, kept)) = equal.and_then(|at| self.ahead.remove(at)) {
            self.ahead_bytes -= kept.len();
            *cx.kept -= kept.len();
            cx.counters.compared_bytes += unit.body.len() as u64;
            if self.held.is_empty() {
                cx.release(&frames, Reason::Compared);
                return;
            }
        }
        let unmatched = equal.is_none().then(|| Kept::of(unit));
        *cx.kept += unmatched.as_ref().map_or(0, Kept::len);
        cx.hold(&frames);
        self.held.push_back(Held { frames, order: cx.order, since: cx.now, unmatched });
        self.bound(key, self.held.len(), cx);
    }

    /// A unit of the secondary's guest.
    pub(super) fn secondary(&mut self, key: &FlowKey, unit: &Unit<'_>, cx: &mut Context<'_>) {
        let equal = self
            .held
            .iter_mut()
            .filter(|held| held.unmatched.is_some())
            .take(cx.limits.reorder_window)
            .find(|held| held.unmatched.as_ref().is_some_and(|kept| kept.says(unit)));
        if let Some(held) = equal {
            *cx.kept -= held.unmatched.take().map_or(0, |kept| kept.len());
            cx.counters.compared_bytes += unit.body.len() as u64;
            self.pump(cx);
            return;
        }
        let kept = Kept::of(unit);
        if let Some((bound, limit)) = cx.no_room_ahead(self.ahead_bytes + kept.len()) {
            cx.counters.secondary_overflow += 1;
            if !std::mem::replace(&mut self.overloaded, true) {
                cx.overload(bound, limit, Some(*key));
            }
            return;
        }
        self.ahead_bytes += kept.len();
        *cx.kept += kept.len();
        self.ahead.push_back((cx.now, kept));
        self.bound(key, self.ahead.len(), cx);
    }

    fn bound(&mut self, key: &FlowKey, length: usize, cx: &mut Context<'_>) {
        if length > cx.limits.queue && !std::mem::replace(&mut self.overloaded, true) {
            cx.overload("queue", cx.limits.queue, Some(*key));
        }
    }

    /// Lets out what is matched at the front.
    fn pump(&mut self, cx: &mut Context<'_>) {
        while self.held.front().is_some_and(|held| held.unmatched.is_none()) {
            let held = self.held.pop_front().expect("there is a front");
            cx.release_held(&held.frames, Reason::Compared);
            self.asked = false;
        }
        if self.held.len() <= cx.limits.queue / 2 {
            self.overloaded = false;
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self, cx: &Context<'_>) -> Option<Mono> {
        if self.class == Class::IcmpError {
            let oldest = self.held.front().map(|held| held.since).into_iter();
            return oldest.chain(self.ahead.front().map(|a| a.0)).min().map(|since| since + cx.wait);
        }
        if self.asked {
            return None;
        }
        match (self.held.front(), self.ahead.front()) {
            (Some(held), Some((since, _))) => {
                Some(held.since.max(*since) + cx.policy.wait_mismatch.min(cx.wait))
            }
            (Some(held), None) => Some(held.since + cx.wait),
            (None, Some((since, _))) => cx.policy.late_primary.map(|wait| *since + wait),
            (None, None) => None,
        }
    }

    /// Deals with what is late.
    pub(super) fn tick(&mut self, key: &FlowKey, cx: &mut Context<'_>) {
        if self.deadline(cx).is_none_or(|deadline| deadline > cx.now) {
            return;
        }
        if self.class == Class::IcmpError {
            self.drop_late_errors(cx);
            return;
        }
        self.asked = true;
        let divergence = self.difference(key, DivergenceKind::LateSecondary, DivergenceKind::LatePrimary);
        if let Some(divergence) = divergence {
            cx.diverge(divergence);
        }
    }

    /// Hosts limit the rate of ICMP errors at random: one that only one side sent is dropped and asks for nothing.
    fn drop_late_errors(&mut self, cx: &mut Context<'_>) {
        let late = |since: Mono| since + cx.wait <= cx.now;
        let late_ahead = self.ahead.iter().take_while(|a| late(a.0)).count();
        let late_held = self.held.iter().take_while(|h| late(h.since)).count();
        for (_, kept) in self.ahead.drain(..late_ahead) {
            self.ahead_bytes -= kept.len();
            *cx.kept -= kept.len();
        }
        for held in self.held.drain(..late_held) {
            match held.unmatched {
                Some(kept) => {
                    *cx.kept -= kept.len();
                    cx.drop_held(&held.frames);
                }
                None => cx.release_held(&held.frames, Reason::Compared),
            }
        }
        self.pump(cx);
    }

    /// What the first unmatched units of both sides differ in.
    fn difference(
        &self,
        key: &FlowKey,
        only_primary: DivergenceKind,
        only_secondary: DivergenceKind,
    ) -> Option<Divergence> {
        let primary = self.held.iter().find_map(|held| held.unmatched.as_ref());
        let secondary = self.ahead.front().map(|(_, kept)| kept);
        Some(match (primary, secondary) {
            (None, None) => return None,
            (Some(primary), None) => told(key, only_primary, None, &primary.body, &[]),
            (None, Some(secondary)) => told(key, only_secondary, None, &[], &secondary.body),
            // Equal ones are farther apart than the window.
            (Some(primary), Some(secondary)) => between(key, primary, secondary)
                .unwrap_or_else(|| told(key, only_primary, None, &primary.body, &secondary.body)),
        })
    }

    /// Of ICMP errors, two about the same flow of which each guest has said one.
    fn contradiction(&self) -> Option<(&Kept, &Kept)> {
        let of_primary = self.held.iter().filter_map(|held| held.unmatched.as_ref());
        of_primary.into_iter().find_map(|primary| {
            let quotes = |kept: &Kept| kept.head.get(..QUOTED) == primary.head.get(..QUOTED);
            let said = self.ahead.iter().map(|(_, kept)| kept).find(|kept| quotes(kept))?;
            Some((primary, said))
        })
    }

    /// The end of both inputs: what only one side said is a divergence.
    pub(super) fn finish(&mut self, key: &FlowKey, cx: &mut Context<'_>) {
        if self.class == Class::IcmpError {
            // That is not for what limits the rate.
            let contradiction = self.contradiction().and_then(|(p, s)| between(key, p, s));
            contradiction.into_iter().for_each(|divergence| cx.diverge(divergence));
            for held in self.held.drain(..) {
                *cx.kept -= held.unmatched.map_or(0, |kept| kept.len());
                cx.drop_held(&held.frames);
            }
        } else if !self.asked
            && let Some(divergence) = self.difference(key, DivergenceKind::Missing, DivergenceKind::Extra)
        {
            self.asked = true;
            cx.diverge(divergence);
        }
    }

    /// The epoch cut: everything held is handed over with its place in the order of capture, the secondary's forgotten.
    pub(super) fn cut(&mut self, cx: &mut Context<'_>, released: &mut Vec<(u64, Frames)>) {
        for held in self.held.drain(..) {
            *cx.kept -= held.unmatched.map_or(0, |kept| kept.len());
            released.push((held.order, held.frames));
        }
        *cx.kept -= self.ahead_bytes;
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.asked = false;
        self.overloaded = false;
    }

    /// Whether nothing is lost if the flow is forgotten.
    pub(super) fn quiet(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether it holds nothing of either side.
    pub(super) fn empty(&self) -> bool {
        self.held.is_empty() && self.ahead.is_empty()
    }
}

/// What two units differ in; `None` if in nothing.
fn between(key: &FlowKey, primary: &Kept, secondary: &Kept) -> Option<Divergence> {
    let (p, s) = (&*primary.body, &*secondary.body);
    let at = first_difference((p, &primary.gaps), (s, &secondary.gaps));
    if !same_length((p, &primary.gaps), (s, &secondary.gaps)) {
        let at = at.unwrap_or_else(|| p.len().min(s.len()));
        return Some(told(key, DivergenceKind::Length, Some(at), p, s));
    }
    match at {
        Some(_) => Some(told(key, DivergenceKind::Payload, at, p, s)),
        // Header fields are quoted instead of the payload.
        None if primary.head != secondary.head => {
            Some(told(key, DivergenceKind::Flags, None, &primary.head, &secondary.head))
        }
        None => None,
    }
}

/// A divergence with excerpts from `offset` on.
fn told(
    key: &FlowKey,
    kind: DivergenceKind,
    offset: Option<usize>,
    primary: &[u8],
    secondary: &[u8],
) -> Divergence {
    let excerpt = |bytes: &[u8]| {
        let rest = &bytes[offset.unwrap_or(0).min(bytes.len())..];
        rest[..rest.len().min(EXCERPT)].to_vec()
    };
    Divergence {
        flow: *key,
        kind,
        seq: None,
        offset: offset.map(|o| o as u64),
        primary: excerpt(primary),
        secondary: excerpt(secondary),
    }
}

#[cfg(test)]
mod tests;

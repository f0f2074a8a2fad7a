//! The comparator as the shells see it: takes frames, finds their flow, hands out actions.

use super::classify::{Class, Classified, FlowKey, Subject, classify, classify_cut};
use super::context::{Context, Frames, Reason};
use super::flows::{Comparison, Flows};
use super::fragments::{Datagram, Outcome, Partial, Reassembly};
use super::lacking::Lacking;
use super::policy::{Coverage, OPENING};
use super::{Action, Counters, Limits, Policy, Token};
use crate::mono::Mono;
use crate::recent::Recent;
use crate::wire::tcp::set_window;
use crate::wire::{TcpFlags, TcpSegment};
use std::collections::VecDeque;
use std::time::Duration;

/// How often idle flows are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Places of the flow table looked at in one sweep, at least.
const SWEEP_PLACES: usize = 1024;
/// Places looked at for each frame when the table is full or memory is short.
const RECLAIM_PLACES: usize = 32;
/// Recent checkpoints whose cost the wait follows: each new one counts for a quarter.
const COST_SHARE: u32 = 4;

/// A frame of the primary that found no place in the flow table.
#[derive(Clone)]
struct Outside {
    order: u64,
    frames: Frames,
}

/// A fragment's frame: the token on the primary's side, with its place in the order of capture.
type PrimaryTag = (Token, u64);

/// See the [module](super).
#[derive(Clone)]
pub struct Comparator {
    policy: Policy,
    limits: Limits,
    counters: Counters,
    flows: Flows,
    primary_fragments: Reassembly<PrimaryTag>,
    secondary_fragments: Reassembly<()>,
    /// Held although the table is full. While any are, frames of unknown flows join them: order within a flow.
    outside: VecDeque<Outside>,
    /// What captures lack; nothing on a live path.
    lacking: Lacking,
    /// Flows that clients begin: the secondary has heard of them, too.
    opening: Recent<FlowKey, ()>,
    kept: usize,
    held: usize,
    order: u64,
    wait: Duration,
    next_sweep: Mono,
    /// Solicitations that may be let out in the present second.
    emit_left: u32,
    emit_second: Mono,
}

/// Borrows the parts of a comparator as a context and the table.
macro_rules! context {
    ($self:ident, $now:expr, $out:expr) => {{
        let order = $self.order;
        (
            &mut $self.flows,
            Context {
                now: $now,
                policy: &$self.policy,
                limits: &$self.limits,
                wait: $self.wait,
                counters: &mut $self.counters,
                kept: &mut $self.kept,
                held: &mut $self.held,
                order,
                out: $out,
            },
        )
    }};
}

impl Comparator {
    /// A comparator that knows no flow.
    #[must_use]
    pub fn new(policy: Policy, limits: Limits, now: Mono) -> Self {
        Self {
            wait: policy.wait_min,
            emit_left: policy.emit_per_second,
            policy,
            limits,
            counters: Counters::default(),
            flows: Flows::new(),
            primary_fragments: Reassembly::default(),
            secondary_fragments: Reassembly::default(),
            outside: VecDeque::new(),
            lacking: Lacking::default(),
            opening: Recent::new(OPENING),
            kept: 0,
            held: 0,
            order: 0,
            next_sweep: now + SWEEP_INTERVAL,
            emit_second: now,
        }
    }

    /// A frame of the primary's guest. It is held unless `out` says otherwise, now or later.
    pub fn primary(&mut self, now: Mono, token: Token, frame: &[u8], out: &mut Vec<Action>) {
        self.primary_cut(now, token, frame, 0, out);
    }

    /// The same of a frame of which a capture lacks the last bytes, so many: see [`Self::set_lacking`].
    pub fn primary_cut(
        &mut self,
        now: Mono,
        token: Token,
        frame: &[u8],
        missing: usize,
        out: &mut Vec<Action>,
    ) {
        self.order += 1;
        let classified = classify_cut(frame, missing);
        if self.bypassed(&classified) {
            self.counters.primary[Class::Bypass as usize] += 1;
            context!(self, now, out).1.release(&Frames::One(token), Reason::Bypass);
            return;
        }
        self.counters.primary[classified.class as usize] += 1;
        if let Subject::Fragment(of) = &classified.subject {
            self.held += 1;
            match self.primary_fragments.add(now, of, (token, self.order)) {
                Outcome::Waiting => self.bound_fragments(now, out),
                Outcome::Whole(partial, datagram) => self.primary_whole(now, &partial, &datagram, out),
                Outcome::GivenUp(partial) => self.primary_pieces(now, &partial, out),
            }
        } else {
            self.primary_says(now, &classified, Frames::One(token), out);
        }
    }

    /// A frame of the secondary's guest, of the same epoch and in the client's sequence space.
    pub fn secondary(&mut self, now: Mono, frame: &[u8], out: &mut Vec<Action>) {
        self.secondary_cut(now, frame, 0, out);
    }

    /// The same of a frame of which a capture lacks the last bytes, so many.
    pub fn secondary_cut(&mut self, now: Mono, frame: &[u8], missing: usize, out: &mut Vec<Action>) {
        let classified = classify_cut(frame, missing);
        if self.bypassed(&classified) {
            self.counters.secondary[Class::Bypass as usize] += 1;
            return;
        }
        self.counters.secondary[classified.class as usize] += 1;
        match &classified.subject {
            Subject::Fragment(of) => match self.secondary_fragments.add(now, of, ()) {
                Outcome::Waiting => self.bound_fragments(now, out),
                Outcome::Whole(partial, datagram) => match partial.read(&datagram) {
                    Ok(whole) => {
                        self.secondary_says(now, &whole, out);
                    }
                    Err(_) => self.secondary_pieces(now, &partial, out),
                },
                Outcome::GivenUp(partial) => self.secondary_pieces(now, &partial, out),
            },
            Subject::Neighbour { asks: true } => self.emit(now, frame, out),
            _ => {
                if let Some(window) = self.secondary_says(now, &classified, out)
                    && self.policy.emit_acknowledgements
                {
                    self.counters.emitted_acknowledgements += 1;
                    let mut frame = frame.to_vec();
                    set_window(&mut frame, window);
                    out.push(Action::Emit(frame));
                }
            }
        }
    }

    /// A frame that the client sent to the guest: what it acknowledges need not be kept any longer, and what it begins is new.
    pub fn client(&mut self, _now: Mono, frame: &[u8]) {
        let Some((key, segment)) = tcp_of(frame) else { return };
        let known = self.flows.of_connection(&key);
        for &at in &known {
            if let Comparison::Tcp(tcp) = &mut self.flows.get(at).comparison {
                tcp.client(&segment, &mut self.kept);
            }
        }
        if known.is_empty() && self.policy.coverage == Coverage::NewFlows && begins(&segment) {
            self.opening.touch(key, || ());
        }
    }

    /// The secondary owns the primary's state: everything held leaves in the order of capture, all that the primary has
    /// said counts as said and owned by both, all that only the secondary has said is forgotten.
    pub fn checkpoint(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.counters.checkpoints += 1;
        // From here on the secondary knows every flow.
        self.set_coverage(Coverage::All);
        self.cut(now, Reason::Checkpoint, out);
    }

    /// Protection is lost or given up: everything held leaves in the order of capture, and both sides are forgotten.
    pub fn release_all(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.cut(now, Reason::Unprotected, out);
        self.flows.clear();
        self.kept = 0;
    }

    fn cut(&mut self, now: Mono, reason: Reason, out: &mut Vec<Action>) {
        let mut released = Vec::new();
        let (flows, mut cx) = context!(self, now, out);
        for flow in flows.iter_mut() {
            match &mut flow.comparison {
                Comparison::Tcp(tcp) => tcp.cut(&mut cx, &mut released),
                Comparison::Units(units) => units.cut(&mut cx, &mut released),
            }
        }
        for partial in self.primary_fragments.drain() {
            released.extend(partial.pieces.iter().map(|p| (p.tag.1, Frames::One(p.tag.0))));
        }
        self.secondary_fragments.drain().for_each(drop);
        released.extend(self.outside.drain(..).map(|o| (o.order, o.frames)));
        released.sort_unstable_by_key(|(order, _)| *order);
        for (_, frames) in released {
            cx.release_held(&frames, reason);
        }
    }

    /// The time is `now`: reports what is late, forgets what is idle.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Action>) {
        while let Some(at) = self.flows.due(now) {
            let (flows, mut cx) = context!(self, now, out);
            let flow = flows.get(at);
            match &mut flow.comparison {
                Comparison::Tcp(tcp) => tcp.tick(&flow.key, &mut cx),
                Comparison::Units(units) => units.tick(&flow.key, &mut cx),
            }
            flows.arm(at, &cx);
        }
        self.give_up_fragments(now, out);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            let places = SWEEP_PLACES.max(self.flows.len() / 64);
            let (flows, mut cx) = context!(self, now, out);
            flows.sweep(places, false, &mut cx);
        }
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let fragments = [self.primary_fragments.oldest(), self.secondary_fragments.oldest()];
        let fragments = fragments.into_iter().flatten().map(|since| since + self.policy.reassembly);
        let sweep = (self.flows.len() > 0).then_some(self.next_sweep);
        fragments.chain(self.flows.next_deadline()).chain(sweep).min()
    }

    /// A checkpoint has taken `cost`. To wait for a late secondary as long as that is never more than twice as dear as
    /// the best choice (the ski-rental problem).
    pub fn checkpoint_cost(&mut self, cost: Duration) {
        let mean = (self.wait * (COST_SHARE - 1) + cost) / COST_SHARE;
        self.wait = mean.clamp(self.policy.wait_min, self.policy.wait_max.max(self.policy.wait_min));
    }

    /// How long a late secondary is waited for at present.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// Changes which TCP flows are compared. Flows already in the table stay as they are; what is new counts from here on.
    pub fn set_coverage(&mut self, coverage: Coverage) {
        self.policy.coverage = coverage;
        self.opening.clear();
    }

    /// What the captures that are compared lack, surveyed beforehand.
    pub fn set_lacking(&mut self, lacking: Lacking) {
        self.lacking = lacking;
    }

    /// Both inputs have ended: what only one side has said is a divergence.
    pub fn finish(&mut self, now: Mono, out: &mut Vec<Action>) {
        let partial: Vec<_> = self.primary_fragments.drain().collect();
        for partial in partial {
            self.primary_pieces(now, &partial, out);
        }
        let partial: Vec<_> = self.secondary_fragments.drain().collect();
        for partial in partial {
            self.secondary_pieces(now, &partial, out);
        }
        let (flows, mut cx) = context!(self, now, out);
        for flow in flows.iter_mut() {
            match &mut flow.comparison {
                Comparison::Tcp(tcp) => tcp.finish(&flow.key, &mut cx),
                Comparison::Units(units) => units.finish(&flow.key, &mut cx),
            }
        }
    }

    /// Frames held.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Bytes kept of what either side has said.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.kept + self.primary_fragments.bytes() + self.secondary_fragments.bytes()
    }

    /// Flows in the table.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// SYNs of clients that were forgotten before the guest answered.
    #[must_use]
    pub const fn opening_forgotten(&self) -> u64 {
        self.opening.forgotten()
    }

    fn bypassed(&self, classified: &Classified<'_>) -> bool {
        self.policy.bypass.iter().any(|rule| classified.key.bypassed_by(rule))
    }

    fn primary_says(&mut self, now: Mono, said: &Classified<'_>, frames: Frames, out: &mut Vec<Action>) {
        let mut filled = Vec::new();
        let said = &self.lacking.fill(said, &mut filled);
        if matches!(said.subject, Subject::Neighbour { .. }) {
            context!(self, now, out).1.release(&frames, Reason::Immediate);
            return;
        }
        let Some(at) = self.flow(now, said, out) else {
            self.hold_outside(now, frames, out);
            return;
        };
        let (flows, mut cx) = context!(self, now, out);
        let flow = flows.get(at);
        flow.last = now;
        match (&mut flow.comparison, &said.subject) {
            (Comparison::Tcp(tcp), Subject::Tcp(segment)) => tcp.primary(&flow.key, segment, frames, &mut cx),
            (Comparison::Units(units), Subject::Unit(unit)) => {
                units.primary(&flow.key, unit, frames, &mut cx);
            }
            _ => unreachable!("a flow's key fixes its class"),
        }
        flows.arm(at, &cx);
        self.reclaim();
    }

    /// Returns the window that the frame is to be let out with if the client has to hear it, see `TcpFlow::secondary`.
    fn secondary_says(&mut self, now: Mono, said: &Classified<'_>, out: &mut Vec<Action>) -> Option<u16> {
        let mut filled = Vec::new();
        let said = &self.lacking.fill(said, &mut filled);
        if matches!(said.subject, Subject::Neighbour { .. }) {
            return None;
        }
        let Some(at) = self.flow(now, said, out) else {
            self.counters.secondary_overflow += 1;
            return None;
        };
        let (flows, mut cx) = context!(self, now, out);
        let flow = flows.get(at);
        flow.last = now;
        let to_hear = match (&mut flow.comparison, &said.subject) {
            (Comparison::Tcp(tcp), Subject::Tcp(segment)) => tcp.secondary(&flow.key, segment, &mut cx),
            (Comparison::Units(units), Subject::Unit(unit)) => {
                units.secondary(&flow.key, unit, &mut cx);
                None
            }
            _ => unreachable!("a flow's key fixes its class"),
        };
        flows.arm(at, &cx);
        self.reclaim();
        to_hear
    }

    /// The flow of `said`, begun if there is room.
    fn flow(&mut self, now: Mono, said: &Classified<'_>, out: &mut Vec<Action>) -> Option<usize> {
        if let Some(at) = self.flows.find(&said.key) {
            return Some(at);
        }
        if self.flows.len() >= self.limits.flows || !self.outside.is_empty() {
            let (flows, mut cx) = context!(self, now, out);
            flows.sweep(RECLAIM_PLACES, true, &mut cx);
            if self.flows.len() >= self.limits.flows || !self.outside.is_empty() {
                return None;
            }
        }
        let unprotected = match &said.subject {
            Subject::Tcp(segment) if self.policy.coverage == Coverage::NewFlows => {
                let answers = segment.flags.has(TcpFlags::ACK);
                let connection = said.key.of_connection();
                let begun = !segment.flags.has(TcpFlags::SYN)
                    || answers && self.opening.remove(&connection).is_none();
                begun && !self.flows.protects(&connection)
            }
            _ => false,
        };
        Some(self.flows.insert(said.key, Comparison::new(said.class, unprotected), now))
    }

    fn hold_outside(&mut self, now: Mono, frames: Frames, out: &mut Vec<Action>) {
        let first = self.outside.is_empty();
        let (_, mut cx) = context!(self, now, out);
        cx.counters.flow_table_full += 1;
        cx.hold(&frames);
        if first {
            cx.overload("flows", cx.limits.flows, None);
        }
        self.outside.push_back(Outside { order: self.order, frames });
    }

    fn reclaim(&mut self) {
        if self.kept > self.limits.kept_bytes / 4 * 3 {
            self.flows.forget_said(RECLAIM_PLACES, &mut self.kept);
        }
    }

    fn primary_whole(
        &mut self,
        now: Mono,
        partial: &Partial<PrimaryTag>,
        datagram: &Datagram,
        out: &mut Vec<Action>,
    ) {
        self.held -= partial.pieces.len();
        let frames = Frames::Many(partial.pieces.iter().map(|piece| piece.tag.0).collect());
        match partial.read(datagram) {
            Ok(whole) if self.bypassed(&whole) => {
                context!(self, now, out).1.release(&frames, Reason::Bypass);
            }
            Ok(whole) => self.primary_says(now, &whole, frames, out),
            Err(_) => {
                self.held += partial.pieces.len();
                self.primary_pieces(now, partial, out);
            }
        }
    }

    /// Compares the pieces one by one.
    fn primary_pieces(&mut self, now: Mono, partial: &Partial<PrimaryTag>, out: &mut Vec<Action>) {
        let order = self.order;
        for piece in &partial.pieces {
            self.held -= 1;
            self.order = piece.tag.1;
            self.primary_says(now, &partial.piece(piece), Frames::One(piece.tag.0), out);
        }
        self.order = order;
    }

    fn secondary_pieces(&mut self, now: Mono, partial: &Partial<()>, out: &mut Vec<Action>) {
        for piece in &partial.pieces {
            self.secondary_says(now, &partial.piece(piece), out);
        }
    }

    /// Gives up the oldest datagrams in reassembly while a table is over its bounds.
    fn bound_fragments(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.primary_fragments.over(&self.limits) || self.secondary_fragments.over(&self.limits) {
            context!(self, now, out).1.overload("reassemblies", self.limits.reassemblies, None);
            self.give_up_fragments(now, out);
        }
    }

    fn give_up_fragments(&mut self, now: Mono, out: &mut Vec<Action>) {
        let begun = Mono::from_nanos(
            now.as_nanos()
                .saturating_sub(u64::try_from(self.policy.reassembly.as_nanos()).unwrap_or(u64::MAX)),
        );
        while let Some(partial) = self.primary_fragments.give_up(begun, &self.limits) {
            self.primary_pieces(now, &partial, out);
        }
        while let Some(partial) = self.secondary_fragments.give_up(begun, &self.limits) {
            self.counters.secondary_fragments_expired += partial.pieces.len() as u64;
            self.secondary_pieces(now, &partial, out);
        }
    }

    /// Lets a solicitation of the secondary out through the primary, so that the answer reaches both.
    fn emit(&mut self, now: Mono, frame: &[u8], out: &mut Vec<Action>) {
        if !self.policy.emit_solicitations {
            return;
        }
        if now.saturating_since(self.emit_second) >= Duration::from_secs(1) {
            self.emit_second = now;
            self.emit_left = self.policy.emit_per_second;
        }
        if self.emit_left == 0 {
            self.counters.emit_limited += 1;
            return;
        }
        self.emit_left -= 1;
        self.counters.emitted += 1;
        out.push(Action::Emit(frame.to_vec()));
    }
}

/// Whether a client begins a connection with `segment`.
pub(super) const fn begins(segment: &TcpSegment<'_>) -> bool {
    segment.flags.0 & (TcpFlags::SYN.0 | TcpFlags::ACK.0 | TcpFlags::RST.0) == TcpFlags::SYN.0
}

/// The guest's flow and the segment, if `frame` is TCP sent to the guest.
fn tcp_of(frame: &[u8]) -> Option<(FlowKey, TcpSegment<'_>)> {
    match classify(frame) {
        Classified { key: FlowKey::Ip(flow), subject: Subject::Tcp(segment), .. } => {
            Some((FlowKey::Ip(flow.reversed()).of_connection(), segment))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

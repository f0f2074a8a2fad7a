//! One flow's translation: its deltas, what is known of its handshake, and when it may be forgotten.
//!
//! States: *pending* (the guest has said its initial number, the primary's is not known), *told* (the primary has
//! said a new one, this guest has not; its output still belongs to the former connection), *known*.

use super::flow::{Direction, Flow};
use super::initial::LearnedInitial;
use super::limits::{ECHO_SLACK, EMBRYONIC, MSL, ZERO_IDLE};
use super::patch::EchoBounds;
use super::segment::Segment;
use super::view::{EntryView, Handshake, OwnInitial, Progress};
use crate::mono::Mono;
use crate::wire::{Seq, TcpFlags};
use std::ops::Add;

/// The difference between two number spaces, modulo 2^32: what to *subtract* from the guest's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Delta {
    /// Of sequence numbers.
    pub seq: u32,
    /// Of timestamps.
    pub ts: u32,
}

impl Delta {
    /// The two spaces are one.
    pub const ZERO: Self = Self { seq: 0, ts: 0 };
}

impl Add for Delta {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { seq: self.seq.wrapping_add(other.seq), ts: self.ts.wrapping_add(other.ts) }
    }
}

/// How the translator stands to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The guest's output goes to the comparator, nothing of it to the network.
    Held,
    /// The guest speaks to the network, since the given time.
    Direct(Mono),
}

/// What is known of the difference between the two guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The guest has said its initial number, the primary's is not known.
    Pending,
    /// The primary has said a new initial number, the guest has not. Until it does, its output belongs to the
    /// former connection, which has this drift.
    Told { isn: u32, tsval: Option<u32>, former: Delta },
    /// Both are known.
    Known { drift: Delta },
}

/// The initial numbers of this guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) isn: u32,
    pub(super) tsval: Option<u32>,
    /// For a SYN-ACK: what it acknowledges, which is where the client's first acknowledgement begins.
    expects: Option<Seq>,
    /// The SYN carried data (RFC 7413): its acknowledgement does not tell the initial number.
    data: bool,
}

/// A frame that waits for its flow's delta.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) direction: Direction,
    pub(super) frame: Vec<u8>,
}

/// The translation of one flow.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Guest to wire.
    pub(super) base: Delta,
    pub(super) state: State,
    pub(super) own: Option<Own>,
    /// The last TSval that the guest said, guest space.
    last_tsval: Option<u32>,
    /// The last TSval that the client is known to have got, wire space.
    floor: Option<u32>,
    /// The end of what the guest has said, guest space.
    said: Option<Seq>,
    /// The last time that the guest said something again: where that began, and its TSval; guest space.
    again: Option<(Seq, u32)>,
    /// The handshake is over.
    established: bool,
    /// Its signature was reported.
    pub(super) refused: bool,
    closing: Closing,
    /// Last segment of the flow, either way.
    pub(super) touched: Mono,
    /// Last time that a side said a SYN or SYN-ACK.
    begun: Mono,
    /// Under which deadline it stands in the queue.
    pub(super) armed: Option<Mono>,
    pub(super) kept: Vec<Kept>,
}

/// Progress of the close. A side is closed when the other has acknowledged exactly its FIN: more data after it
/// would make that acknowledgement pass by, so a forged FIN closes nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Closing {
    /// End of the guest's FIN, guest space.
    guest_fin: Option<Seq>,
    guest_closed: bool,
    /// End of the peer's FIN.
    peer_fin: Option<Seq>,
    peer_closed: bool,
}

impl Entry {
    /// An entry in `state`.
    pub(super) fn new(now: Mono, state: State) -> Self {
        Self {
            base: Delta::ZERO,
            state,
            own: None,
            last_tsval: None,
            floor: None,
            said: None,
            again: None,
            established: false,
            refused: false,
            closing: Closing::default(),
            touched: now,
            begun: now,
            armed: None,
            kept: Vec::new(),
        }
    }

    /// The entry of a connection whose translation came with the guest's state.
    pub(super) fn with_base(now: Mono, base: Delta, guest_isn: Option<u32>) -> Self {
        let own = guest_isn.map(|isn| Own { isn, tsval: None, expects: None, data: false });
        Self { base, own, established: true, ..Self::new(now, State::Known { drift: Delta::ZERO }) }
    }

    /// The guest says a SYN or SYN-ACK. If it begins another connection than the one known so far, returns the
    /// frames kept for the former one.
    pub(super) fn begin(&mut self, now: Mono, s: &Segment) -> Option<Vec<Kept>> {
        self.begun = now;
        let expects = s.flags.has(TcpFlags::ACK).then_some(s.ack);
        if let Some(own) = self.own.as_mut().filter(|own| own.isn == s.seq.0) {
            own.expects = expects.or(own.expects);
            return None;
        }
        let tsval = s.timestamps.map(|t| t.value);
        let own = Own { isn: s.seq.0, tsval, expects, data: s.payload != 0 };
        let state = match self.state {
            State::Told { isn, tsval, .. } => State::Known { drift: drift(&own, isn, tsval) },
            State::Pending | State::Known { .. } => State::Pending,
        };
        // What the client sends from now on belongs to the new connection; what the guest had said does not.
        let (kept, forgotten) =
            std::mem::take(&mut self.kept).into_iter().partition(|k| k.direction == Direction::Input);
        *self = Self { own: Some(own), last_tsval: tsval, armed: self.armed, kept, ..Self::new(now, state) };
        Some(forgotten)
    }

    /// The primary's initial numbers arrive. Returns whether they were new.
    pub(super) fn learn(&mut self, now: Mono, initial: &LearnedInitial) -> bool {
        self.begun = now;
        let (isn, tsval) = (initial.primary_isn, initial.primary_tsval);
        match (self.state, self.own) {
            (State::Pending, Some(own)) => self.state = State::Known { drift: drift(&own, isn, tsval) },
            (State::Known { .. }, Some(own)) if own.isn.wrapping_sub(self.total().seq) == isn => {
                return false;
            }
            (State::Told { isn: told, .. }, _) if told == isn => return false,
            (State::Known { drift } | State::Told { former: drift, .. }, _) => {
                self.state = State::Told { isn, tsval, former: drift };
            }
            (State::Pending, None) => {
                self.state = State::Told { isn, tsval, former: Delta::ZERO };
            }
        }
        true
    }

    /// Tries to learn from `s`, a segment of the client that acknowledges a pending handshake. Returns whether
    /// the delta is known now.
    pub(super) fn learn_from_acknowledgement(&mut self, s: &Segment) -> bool {
        let (State::Pending, Some(own)) = (self.state, self.own) else {
            return false;
        };
        let syn = s.flags.has(TcpFlags::SYN);
        let rst = s.flags.has(TcpFlags::RST);
        let answers = match own.expects {
            // Passive open: the first segment after the client's SYN, not an old duplicate.
            Some(expects) => !syn && !rst && s.seq == expects,
            // Active open: the server's SYN-ACK, or its refusal.
            None => syn || rst,
        };
        if !answers || own.data {
            return false;
        }
        let echo = s.timestamps.map(|t| t.echo).filter(|&echo| echo != 0);
        self.state = State::Known { drift: drift(&own, (s.ack - 1).0, echo) };
        true
    }

    /// Guest minus wire, if known. While the guest's output still belongs to a former connection, that one's.
    pub(super) fn total(&self) -> Delta {
        match self.state {
            State::Known { drift } | State::Told { former: drift, .. } => self.base + drift,
            State::Pending => self.base,
        }
    }

    /// What to subtract from a segment of the guest; `None` if that is not known yet.
    pub(super) fn output_delta(&self, s: &Segment, mode: Mode) -> Option<Delta> {
        match self.state {
            // The comparator pairs initial numbers itself: it gets the guest's own.
            _ if s.begins() && mode == Mode::Held => Some(self.base),
            // A reset is compared whatever its number; off its place it reaches nobody.
            State::Pending if !s.begins() && !s.flags.has(TcpFlags::RST) => None,
            _ => Some(self.total()),
        }
    }

    /// What to add to a segment toward the guest; `None` if that is not known yet.
    pub(super) fn input_delta(&self) -> Option<Delta> {
        matches!(self.state, State::Known { .. }).then(|| self.total())
    }

    /// Bounds of an echo toward the guest in a segment that acknowledges `ack` (guest space). The first one holds only in
    /// the handshake: timestamps wrap.
    ///
    /// The client echoes when the *primary* said what it acknowledges. Where this guest has said it again since, that
    /// looks as if its retransmission had been needless (RFC 3522), and it would not repeat what else is missing.
    pub(super) fn echo_bounds(&self, ack: Seq) -> EchoBounds {
        let first = self.own.and_then(|own| own.tsval).filter(|_| !self.established);
        let again = self.again.filter(|(from, _)| ack.after(*from)).map(|(_, tsval)| tsval);
        EchoBounds { first, again, last: self.last_tsval }
    }

    /// The lowest TSval that may go out.
    pub(super) const fn floor(&self) -> Option<u32> {
        self.floor
    }

    /// A TSval that the client has got, or is about to.
    pub(super) fn raise_floor(&mut self, tsval: u32) {
        if self.floor.is_none_or(|floor| tsval.wrapping_sub(floor).cast_signed() > 0) {
            self.floor = Some(tsval);
        }
    }

    /// Takes note of a segment of the guest, before it is edited.
    pub(super) fn note_output(&mut self, now: Mono, s: &Segment) {
        self.touched = now;
        if let Some(t) = s.timestamps
            && self.last_tsval.is_none_or(|last| t.value.wrapping_sub(last).cast_signed() > 0)
        {
            self.last_tsval = Some(t.value);
        }
        if s.begins() {
            return;
        }
        if s.payload != 0 {
            match (self.said, s.timestamps) {
                (Some(said), Some(t)) if said.after(s.seq) => self.again = Some((s.seq, t.value)),
                _ => {}
            }
            if self.said.is_none_or(|said| s.end().after(said)) {
                self.said = Some(s.end());
            }
        }
        if !s.flags.has(TcpFlags::RST) && matches!(self.state, State::Known { .. }) {
            self.established = true;
        }
        if s.flags.has(TcpFlags::FIN) {
            self.closing.guest_fin = Some(s.end());
        }
        if s.flags.has(TcpFlags::ACK) {
            self.closing.peer_closed = self.closing.peer_fin == Some(s.ack);
        }
    }

    /// Takes note of a segment toward the guest whose delta is known, before it is edited.
    pub(super) fn note_input(&mut self, now: Mono, s: &Segment) {
        self.touched = now;
        if s.flags.has(TcpFlags::FIN) && !self.closing.peer_closed {
            self.closing.peer_fin = Some(s.end());
        }
        if !s.flags.has(TcpFlags::ACK) {
            return;
        }
        let total = self.total();
        let ack = s.ack + total.seq;
        self.closing.guest_closed = self.closing.guest_fin == Some(ack);
        // What the client echoes it has got; but no more than the guest may come to say, or a forged echo would
        // freeze the clock that the client sees.
        if let (Some(t), Some(last)) = (s.timestamps.filter(|t| t.echo != 0), self.last_tsval)
            && t.echo.wrapping_add(total.ts).wrapping_sub(last).cast_signed() <= ECHO_SLACK
        {
            self.raise_floor(t.echo);
        }
    }

    /// Takes note that the handshake is over if `s`, toward the guest, acknowledges it. After the edit: the bounds
    /// of the handshake hold for the acknowledgement itself.
    pub(super) fn note_established(&mut self, s: &Segment) {
        if s.flags.has(TcpFlags::ACK) && !s.flags.has(TcpFlags::RST) {
            self.established = true;
        }
    }

    /// Whether `s`, a segment of the guest, ends the connection. A bare RST during the handshake may answer an
    /// unacceptable acknowledgement (RFC 9293 section 3.10.7.3 and 3.10.7.4), after which the handshake goes on.
    pub(super) fn resets(&self, s: &Segment) -> bool {
        s.flags.has(TcpFlags::RST)
            && (self.established || s.flags.has(TcpFlags::ACK))
            && !matches!(self.state, State::Told { .. })
    }

    /// The entry as others see it.
    pub(super) fn view(&self, flow: Flow) -> EntryView {
        let (drift, handshake) = match self.state {
            State::Known { drift } => (drift, Handshake::Known),
            State::Told { isn, tsval, former } => {
                (former, Handshake::Told { isn, tsval: tsval.unwrap_or(0) })
            }
            State::Pending => {
                let (isn, tsval) = self.own.map_or((0, None), |own| (own.isn, own.tsval));
                (Delta::ZERO, Handshake::Pending { isn, tsval: tsval.unwrap_or(0) })
            }
        };
        let number = |seq: Option<Seq>| seq.map(|seq| seq.0);
        let progress = Progress {
            own: self.own.map(|own| OwnInitial {
                isn: own.isn,
                tsval: own.tsval,
                expects: number(own.expects),
                data: own.data,
            }),
            last_tsval: self.last_tsval,
            floor: self.floor,
            said: number(self.said),
            again: self.again.map(|(from, tsval)| (from.0, tsval)),
            established: self.established,
            guest_fin: number(self.closing.guest_fin),
            guest_closed: self.closing.guest_closed,
            peer_fin: number(self.closing.peer_fin),
            peer_closed: self.closing.peer_closed,
        };
        EntryView { flow, base: self.base, drift, handshake, progress }
    }

    /// Drift becomes base.
    pub(super) fn take_over(&mut self) {
        match &mut self.state {
            State::Known { drift } | State::Told { former: drift, .. } => {
                self.base = self.base + *drift;
                *drift = Delta::ZERO;
            }
            State::Pending => {}
        }
    }

    /// When the entry may be forgotten if nothing more happens to it.
    ///
    /// A connection with a delta stays until its close is acknowledged both ways, plus 2 MSL. A handshake that no
    /// side carries on is no connection: both guests have given it up, see [`EMBRYONIC`]; on the direct path, where
    /// not every segment need come by here, it stays.
    pub(super) fn deadline(&self, mode: Mode) -> Option<Mono> {
        let closed = self.closing.guest_closed && self.closing.peer_closed;
        let needless = self.total() == Delta::ZERO;
        let held = mode == Mode::Held;
        match self.state {
            State::Known { .. } if closed => Some(self.touched + 2 * MSL),
            State::Known { .. } if needless => Some(self.touched + ZERO_IDLE),
            State::Told { .. } if held && (closed || needless) => Some(self.begun + EMBRYONIC),
            _ if held && !self.established => Some(self.begun + EMBRYONIC),
            _ => None,
        }
    }
}

/// Drift of a connection of which both guests' initial numbers are known. Equal initial numbers mean that an epoch
/// cut the handshake: the guests share its state, and their clocks differ only by when each said it again.
fn drift(own: &Own, isn: u32, tsval: Option<u32>) -> Delta {
    let seq = own.isn.wrapping_sub(isn);
    let ts = match (own.tsval, tsval) {
        (Some(own), Some(primary)) if seq != 0 => own.wrapping_sub(primary),
        _ => 0,
    };
    Delta { seq, ts }
}

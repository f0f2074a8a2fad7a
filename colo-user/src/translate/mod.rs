//! The sequence translator: what lets a secondary whose guest picked other initial numbers speak for the primary.
//!
//! Two guests that accept the same connection choose different initial sequence numbers and timestamps. Each flow
//! therefore has two deltas, for sequence numbers and for timestamps alike: *drift*, secondary to primary, and
//! *base*, guest to wire, which is 0 until a takeover adds drift to it. Capture, link and comparator speak *wire*
//! space; only the guest speaks its own. The life of a number, by file: `segment` finds it in the frame,
//! `entry` knows what to add, `patch` changes it with its checksums, `fragments` does the same across the
//! fragments of one segment. `initial` is what the primary's agent tells, `flow` the key, [`limits`] the
//! bounds and counters.
//!
//! # Rules
//!
//! * Output (guest to wire): `seq` and TSval of every segment, RST included. On the *held* path the guest's own SYN
//!   and SYN-ACK keep their numbers (the comparator pairs them by flow); on the *direct* path, after
//!   [`Translator::take_over`], they are translated too.
//! * Input (wire to guest): `ack`, every SACK edge and TSecr of every segment with an ACK bit, a server's SYN-ACK
//!   included. ICMP errors that quote a flow: the quoted numbers, both ways.
//! * The delta is learned from what the primary's agent tells ([`Translator::learn`]), before or after this guest's
//!   own SYN or SYN-ACK; failing that from the first acknowledgement of the handshake. Until it is known, input with
//!   an ACK bit and output other than SYN and RST is kept here, bounded, and handed out by
//!   [`Translator::next_event`]: nothing wrong reaches the comparator, and nothing makes the guest reset.
//! * A SYN or SYN-ACK of the guest with another initial number begins a new connection; a client's SYN does not.
//! * A TSval that goes out is never below the last one that the client is known to have got: what it echoed, or what
//!   the direct path let out. An echo toward the guest is never above the guest's last TSval, nor, in the handshake,
//!   below its first: stacks reset on such an echo. Nor does it acknowledge what the guest has repeated with a time
//!   before that: the guest would take its repetition for needless.
//! * An entry leaves at an epoch cut, when its close is acknowledged both ways plus 2 MSL, or when the guest resets;
//!   without a delta also when idle. A full table evicts nobody: see [`Event::TableFull`].
//!
//! Frames carry complete checksums here: the shell completes partial ones (checksum offload) first.

mod entry;
mod flow;
mod fragments;
mod initial;
pub mod limits;
mod patch;
mod segment;
mod table;
mod view;

pub use entry::Delta;
pub use flow::{DecodeError, Direction, Flow};
pub use initial::{Base, LearnedInitial, initial_of};
pub use limits::{Counters, Limits};
pub use segment::Signature;
pub use table::Learned;
pub use view::{EntryView, Handshake, OwnInitial, Progress};

use crate::mono::Mono;
use crate::wire::TcpFlags;
use entry::{Kept, Mode, State};
use fragments::Fragments;
use segment::{Located, Quote, Segment, locate};
use std::collections::VecDeque;
use table::Table;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Forward it; nothing was changed.
    Unchanged,
    /// Forward it; it was edited in place.
    Translated,
    /// Forward nothing now: a copy is kept and comes by [`Translator::next_event`].
    Kept,
    /// Forward nothing: the frame cannot be translated now or ever. Counted by reason.
    Dropped,
}

impl Outcome {
    /// Whether the frame goes on now.
    #[must_use]
    pub const fn forward(self) -> bool {
        matches!(self, Self::Unchanged | Self::Translated)
    }
}

/// What the shell must do besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame that was kept, translated now: output to the comparator (or the network), input to the guest.
    Forward(Direction, Vec<u8>),
    /// The table is full: ask for a checkpoint, which empties it. Once per epoch. On the direct path (`alarm`) there
    /// is nobody to ask: new connections go on untranslated, which is right for all but those that were being
    /// opened at the takeover.
    TableFull {
        /// Whether it is beyond repair and for the operator.
        alarm: bool,
    },
    /// The flow is signed and has a delta, so that its segments cannot be translated: they are dropped. Such
    /// services are to be bypassed. Once per connection.
    Refused {
        /// The flow.
        flow: Flow,
        /// What signs it.
        signature: Signature,
    },
}

/// The translator of one guest. Input in, frames edited in place, `now` as an argument; see the module.
#[derive(Clone, Debug)]
pub struct Translator {
    mode: Mode,
    table: Table,
    fragments: Fragments,
    events: VecDeque<Event>,
    counters: Counters,
    limits: Limits,
    kept_frames: usize,
    kept_bytes: usize,
    full_reported: bool,
}

impl Translator {
    /// A translator that knows no flow, on the held path.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            mode: Mode::Held,
            table: Table::new(limits.flows),
            fragments: Fragments::new(&limits),
            events: VecDeque::new(),
            counters: Counters::default(),
            limits,
            kept_frames: 0,
            kept_bytes: 0,
            full_reported: false,
        }
    }

    /// A frame of the guest, from guest space to wire space.
    pub fn output(&mut self, now: Mono, frame: &mut [u8]) -> Outcome {
        self.translate(now, Direction::Output, frame)
    }

    /// A frame toward the guest, from wire space to guest space.
    pub fn input(&mut self, now: Mono, frame: &mut [u8]) -> Outcome {
        self.translate(now, Direction::Input, frame)
    }

    /// What to do besides, until there is no more: after each call of another method.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The primary's agent tells the primary's initial numbers. Before or after this guest's own, or again.
    pub fn learn(&mut self, now: Mono, initial: &LearnedInitial) -> Learned {
        self.tick(now);
        let Some(learned) = self.table.learn(now, initial, self.mode) else {
            self.report_full();
            return Learned::Full;
        };
        if learned == Learned::Paired {
            self.counters.learned_told += 1;
            self.hand_out(now, initial.flow);
        }
        learned
    }

    /// This host takes over: the guest speaks to the network from now on, drift becomes base. A RESUME after a
    /// failover needs no more than this. Frames kept for an unknown delta stay kept.
    pub fn take_over(&mut self, now: Mono) {
        self.mode = Mode::Direct(now);
        self.full_reported = false;
        self.table.take_over();
    }

    /// An epoch cut: the guest's state is the primary's now, and so is its translation. Everything learned is
    /// forgotten, with the frames kept for it; the shell injects again from the input cut on.
    ///
    /// # Errors
    /// The number of `bases` that were beyond [`Limits::flows`]: those flows cannot go on, ask for nothing less than
    /// larger limits.
    pub fn epoch_cut(&mut self, now: Mono, bases: impl IntoIterator<Item = Base>) -> Result<(), usize> {
        self.counters.epoch_cuts += 1;
        self.counters.kept_forgotten += self.kept_frames as u64;
        self.counters.fragments_dropped += self.fragments.clear() as u64;
        self.events.retain(|e| matches!(e, Event::Refused { .. }));
        (self.kept_frames, self.kept_bytes) = (0, 0);
        self.full_reported = false;
        self.mode = Mode::Held;
        let refused = self.table.replace(now, bases);
        self.counters.table_full += refused as u64;
        if refused == 0 { Ok(()) } else { Err(refused) }
    }

    /// The translation that the guest's state brings along, for a new secondary: see [`Translator::epoch_cut`]. What was
    /// learned since the takeover, of handshakes that it cut, is part of it.
    pub fn bases(&self) -> impl Iterator<Item = Base> + '_ {
        self.table.bases()
    }

    /// All entries, in the shape in which a BPF map can hold them.
    pub fn entries(&self) -> impl Iterator<Item = EntryView> + '_ {
        self.table.views()
    }

    /// Flows in the table.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.table.len()
    }

    /// Counters since start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Forgets what has had its time.
    pub fn tick(&mut self, now: Mono) {
        while let Some(entry) = self.table.pop_expired(now, self.mode) {
            self.counters.flows_expired += 1;
            self.forget_kept(entry.kept);
        }
        self.counters.fragments_dropped += self.fragments.expire(now) as u64;
    }

    /// When to call [`Translator::tick`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        [self.table.next_deadline(), self.fragments.next_deadline()].into_iter().flatten().min()
    }

    fn translate(&mut self, now: Mono, direction: Direction, frame: &mut [u8]) -> Outcome {
        match locate(frame, direction) {
            Located::Tcp(s) => self.segment(now, direction, frame, &s),
            Located::Quote(q) => self.quote(direction, frame, &q),
            Located::Fragment(_) if self.table.is_empty() => Outcome::Unchanged,
            Located::Fragment(piece) => {
                self.tick(now);
                let taken = self.fragments.take(now, direction, frame, &piece);
                self.counters.fragments_dropped += taken.dropped as u64;
                if let Some(whole) = taken.complete {
                    self.whole(now, direction, whole);
                }
                if taken.kept {
                    self.counters.fragments_kept += 1;
                    Outcome::Kept
                } else {
                    Outcome::Dropped
                }
            }
            Located::Other => Outcome::Unchanged,
        }
    }

    fn segment(&mut self, now: Mono, direction: Direction, frame: &mut [u8], s: &Segment) -> Outcome {
        match direction {
            Direction::Output => self.output_segment(now, frame, s),
            Direction::Input => self.input_segment(now, frame, s),
        }
    }

    /// A datagram whose fragments are all there: translated as one frame, handed out as it was cut.
    fn whole(&mut self, now: Mono, direction: Direction, mut whole: fragments::Whole) {
        let outcome = match whole.locate(direction) {
            Located::Tcp(s) => {
                // The frame that is kept for an unknown delta would be longer than any the shell can forward.
                let known = direction == Direction::Output && s.begins()
                    || self.table.get(&s.flow).is_none_or(|e| match direction {
                        Direction::Output => e.output_delta(&s, self.mode).is_some(),
                        Direction::Input => e.input_delta().is_some(),
                    });
                if known { self.segment(now, direction, whole.frame(), &s) } else { Outcome::Dropped }
            }
            _ => Outcome::Unchanged,
        };
        if outcome.forward() {
            self.events.extend(whole.cut().map(|frame| Event::Forward(direction, frame)));
        } else {
            self.counters.fragments_dropped += whole.pieces() as u64;
        }
    }

    fn output_segment(&mut self, now: Mono, frame: &mut [u8], s: &Segment) -> Outcome {
        if s.begins() {
            self.tick(now);
            match self.table.begin(now, s, self.mode) {
                Some(table::Begun { forgotten, known }) => {
                    self.forget_kept(forgotten);
                    if known {
                        self.counters.learned_told += 1;
                        self.hand_out(now, s.flow);
                    }
                }
                None => {
                    self.report_full();
                    // Held, it would begin a connection that cannot be translated; the guest says it again.
                    return if self.mode == Mode::Held { Outcome::Dropped } else { Outcome::Unchanged };
                }
            }
        }
        let Some(entry) = self.table.get_mut(&s.flow) else {
            return Outcome::Unchanged;
        };
        entry.note_output(now, s);
        let delta = entry.output_delta(s, self.mode);
        let floor = entry.floor();
        let resets = entry.resets(s);
        if self.refuses(s) {
            return Outcome::Dropped;
        }
        let Some(delta) = delta else {
            return self.keep(Direction::Output, frame, s);
        };
        if resets {
            self.counters.flows_expired += 1;
            let gone = self.table.remove(&s.flow);
            self.forget_kept(gone.map(|e| e.kept).unwrap_or_default());
        }
        if delta == Delta::ZERO {
            self.table.arm(&s.flow, self.mode);
            return Outcome::Unchanged;
        }
        let (tsval, raised) = patch::output(frame, s, delta, floor);
        self.counters.output_translated += 1;
        self.counters.timestamps_raised += u64::from(raised);
        if let (Mode::Direct(_), Some(tsval), Some(entry)) = (self.mode, tsval, self.table.get_mut(&s.flow)) {
            entry.raise_floor(tsval);
        }
        self.table.arm(&s.flow, self.mode);
        Outcome::Translated
    }

    fn input_segment(&mut self, now: Mono, frame: &mut [u8], s: &Segment) -> Outcome {
        let acknowledges = s.flags.has(TcpFlags::ACK);
        let Some(entry) = self.table.get_mut(&s.flow) else {
            return Outcome::Unchanged;
        };
        if !acknowledges {
            return Outcome::Unchanged;
        }
        let learned = entry.learn_from_acknowledgement(s);
        let delta = entry.input_delta();
        if learned {
            self.counters.learned_acknowledgement += 1;
            self.hand_out(now, s.flow);
        }
        if self.refuses(s) {
            return Outcome::Dropped;
        }
        let (Some(delta), Some(entry)) = (delta, self.table.get_mut(&s.flow)) else {
            return self.keep(Direction::Input, frame, s);
        };
        entry.note_input(now, s);
        let bounds = entry.echo_bounds(s.ack + delta.seq);
        entry.note_established(s);
        self.table.arm(&s.flow, self.mode);
        if delta == Delta::ZERO && !bounds.bind() {
            return Outcome::Unchanged;
        }
        patch::input(frame, s, delta, bounds);
        self.counters.input_translated += 1;
        Outcome::Translated
    }

    fn quote(&mut self, direction: Direction, frame: &mut [u8], q: &Quote) -> Outcome {
        let Some(entry) = self.table.get(&q.flow) else {
            return Outcome::Unchanged;
        };
        let Some(delta) = entry.input_delta() else {
            self.counters.quotes_dropped += 1;
            return Outcome::Dropped;
        };
        if delta == Delta::ZERO {
            return Outcome::Unchanged;
        }
        match direction {
            Direction::Output if !patch::quoted_input(frame, q, delta) => return Outcome::Unchanged,
            Direction::Output => {}
            Direction::Input => patch::quoted_output(frame, q, delta),
        }
        self.counters.quotes_translated += 1;
        Outcome::Translated
    }

    /// Whether `s` would have to be translated and cannot be.
    fn refuses(&mut self, s: &Segment) -> bool {
        let (Some(signature), Some(entry)) = (s.signature, self.table.get_mut(&s.flow)) else {
            return false;
        };
        if matches!(entry.state, State::Known { .. }) && entry.total() == Delta::ZERO {
            return false;
        }
        self.counters.refused += 1;
        if !std::mem::replace(&mut entry.refused, true) {
            self.events.push_back(Event::Refused { flow: s.flow, signature });
        }
        true
    }

    fn keep(&mut self, direction: Direction, frame: &[u8], s: &Segment) -> Outcome {
        let room = self.kept_frames < self.limits.kept_frames
            && self.kept_bytes + frame.len() <= self.limits.kept_bytes;
        let entry = self.table.get_mut(&s.flow).filter(|e| room && e.kept.len() < limits::KEPT_PER_FLOW);
        let Some(entry) = entry else {
            self.counters.kept_overflow += 1;
            return Outcome::Dropped;
        };
        entry.kept.push(Kept { direction, frame: frame.to_vec() });
        self.kept_frames += 1;
        self.kept_bytes += frame.len();
        self.counters.kept += 1;
        Outcome::Kept
    }

    /// The delta of `flow` is known: what was kept for it goes on.
    fn hand_out(&mut self, now: Mono, flow: Flow) {
        let kept = self.table.get_mut(&flow).map(|e| std::mem::take(&mut e.kept)).unwrap_or_default();
        for mut k in kept {
            self.kept_frames -= 1;
            self.kept_bytes -= k.frame.len();
            if let Located::Tcp(s) = locate(&k.frame, k.direction)
                && self.segment(now, k.direction, &mut k.frame, &s).forward()
            {
                self.events.push_back(Event::Forward(k.direction, k.frame));
            }
        }
    }

    fn forget_kept(&mut self, kept: Vec<Kept>) {
        for k in kept {
            self.kept_frames -= 1;
            self.kept_bytes -= k.frame.len();
            self.counters.kept_forgotten += 1;
        }
    }

    fn report_full(&mut self) {
        self.counters.table_full += 1;
        if !std::mem::replace(&mut self.full_reported, true) {
            self.events.push_back(Event::TableFull { alarm: self.mode != Mode::Held });
        }
    }
}

#[cfg(test)]
mod tests;

//! Every interleaving of a small pair that follows its QEMUs: two guests, two taps, two QEMUs that make checkpoints whether
//! an agent looks or not, operators, a link that delivers late, and the two agents with their real cores and followers, which
//! may be off their processors between any two steps of a turn.
//!
//! The guests say the same word always, so that a word of one epoch would be taken for one of another; the model knows in
//! which state each was said. Checked at every step:
//!
//! - a word of the primary leaves only if the secondary has said it in that state too, or owns a later one;
//! - input reaches the secondary's guest once: not what its state has, except what lay in its interface when it was loaded;
//!   an agent that counted that too late (and says so) rather gives twice than not.
//!
//! Checked wherever the pair comes to rest: nothing is held, both are in one epoch, both own all input, and who met before
//! COLO asked for no checkpoint.

mod host;
mod paths;

use super::place::Place;
use super::primary::{Effect, OnPeerLoss, Primary};
use super::protection::Protection;
use super::secondary::{Injection, Secondary};
use crate::compare::{Limits, Policy, Token};
use crate::link::buffer::Outbox;
use crate::link::frame::{Message, Role};
use crate::mono::Mono;
use crate::qmp::{ColoMode, ColoStatus, EventKind, MigrationStatus, Notice, RunState, Snapshot, Status};
use crate::vm::Told;
use crate::wire::build::{Wrap, udp_frame};
use host::{Host, operator};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

const FOREVER: Duration = Duration::from_secs(1 << 20);

fn ends() -> [SocketAddr; 2] {
    [SocketAddr::from(([192, 0, 2, 2], 53)), SocketAddr::from(([198, 51, 100, 9], 5000))]
}

/// What is left to happen.
#[derive(Clone, Copy, Debug)]
struct Budget {
    checkpoints: u8,
    primary_says: u8,
    secondary_says: u8,
    inputs: u8,
    primary_stops: u8,
    secondary_stops: u8,
    /// Whether QEMU's times can be used.
    clocks: bool,
}

#[derive(Clone)]
struct World {
    now: Mono,
    left: Budget,
    primary: Primary,
    secondary: Secondary,
    p: Host,
    s: Host,
    /// How far a checkpoint is: 0 is none.
    stage: u8,
    entry: bool,
    /// Parked words by token: the state they were said in.
    parked: BTreeMap<u64, u64>,
    tokens: u64,
    mirror: VecDeque<u64>,
    inputs: u64,
    /// Input that the primary's guest has read, all before it.
    read: u64,
    copied_read: u64,
    /// Input that the secondary's guest owns, and what lay in its interface when it was loaded.
    owned: HashSet<u64>,
    lay: HashSet<u64>,
    /// Words said and let out by comparison, by state.
    said: BTreeMap<u64, u64>,
    let_out: BTreeMap<u64, u64>,
    asked: u64,
}

impl World {
    fn new(left: Budget) -> Self {
        let policy = Policy {
            wait_min: FOREVER,
            wait_max: FOREVER,
            wait_ack: FOREVER,
            wait_mismatch: FOREVER,
            late_primary: None,
            ..Policy::default()
        };
        let now = Mono::from_millis(1000);
        let primary = Primary::new(policy, Limits::default(), OnPeerLoss::Hold, FOREVER, now).following(7);
        let secondary = Secondary::new(crate::translate::Limits::default(), FOREVER).following();
        let mut world = Self {
            now,
            left,
            primary,
            secondary,
            p: Host::new(Role::Primary),
            s: Host::new(Role::Secondary),
            stage: 0,
            entry: true,
            parked: BTreeMap::new(),
            tokens: 0,
            mirror: VecDeque::new(),
            inputs: 0,
            read: 0,
            copied_read: 0,
            owned: HashSet::new(),
            lay: HashSet::new(),
            said: BTreeMap::new(),
            let_out: BTreeMap::new(),
            asked: 0,
        };
        for (host, status) in [(&mut world.p, RunState::Running), (&mut world.s, RunState::Inmigrate)] {
            let snapshot = Snapshot {
                status: Status { running: status == RunState::Running, status },
                migration: None,
                colo: ColoStatus { mode: ColoMode::None, last_mode: ColoMode::None },
            };
            host.unread.push_back(Notice::Up { snapshot, gap: None });
        }
        world.primary.connected(now, &mut world.p.outbox);
        world.secondary.connected(now);
        world.settle();
        world
    }

    /// A pair in COLO.
    fn protected(left: Budget) -> Self {
        let mut world = Self::new(left);
        while world.can(Step::Checkpoint) {
            world.step(Step::Checkpoint);
            world.settle();
            if world.stage == 0 {
                break;
            }
        }
        assert_eq!(world.primary.protection(), Protection::Protected);
        assert_eq!(world.secondary.protection(), Protection::Protected);
        world
    }

    /// Agents and link run until nothing changes any more, time included: heartbeats answer each other.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.now = self.now + Duration::from_millis(600);
            for _ in 0..2 {
                for step in [Step::Primary, Step::Secondary] {
                    for _ in 0..4 {
                        self.step(step);
                    }
                }
            }
        }
    }

    fn say(&self, host: &Host, what: &str) -> String {
        format!("{what} at {:?}, states {} and {}, {:?}", self.now, self.p.state, self.s.state, host.runs)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// QEMU goes on with a checkpoint, or begins one.
    Checkpoint,
    PrimarySays,
    SecondarySays,
    Client,
    PrimaryReads,
    SecondaryReads,
    /// An operator stops or continues a guest.
    PrimaryOperator,
    SecondaryOperator,
    /// The agents go on in their turns.
    Primary,
    Secondary,
    /// The same, and the link delivers later.
    PrimaryDeaf,
    SecondaryDeaf,
}

const STEPS: [Step; 12] = [
    Step::Checkpoint,
    Step::PrimarySays,
    Step::SecondarySays,
    Step::Client,
    Step::PrimaryReads,
    Step::SecondaryReads,
    Step::PrimaryOperator,
    Step::SecondaryOperator,
    Step::Primary,
    Step::Secondary,
    Step::PrimaryDeaf,
    Step::SecondaryDeaf,
];

impl World {
    fn can(&self, step: Step) -> bool {
        let free = self.stage == 0;
        match step {
            Step::Checkpoint => !free || self.entry || self.left.checkpoints > 0,
            Step::PrimarySays => self.p.runs && self.left.primary_says > 0,
            Step::SecondarySays => self.s.runs && self.left.secondary_says > 0,
            Step::Client => self.left.inputs > 0,
            Step::PrimaryReads => self.p.runs && !self.p.tap.is_empty(),
            Step::SecondaryReads => self.s.runs && !self.s.tap.is_empty(),
            Step::PrimaryOperator => free && !self.entry && (self.p.paused || self.left.primary_stops > 0),
            Step::SecondaryOperator => {
                free && !self.entry && (self.s.paused || self.left.secondary_stops > 0)
            }
            Step::Primary | Step::Secondary => true,
            Step::PrimaryDeaf => self.p.turn == 2 && !self.s.outbox.is_empty(),
            Step::SecondaryDeaf => self.s.turn == 2 && !self.p.outbox.is_empty(),
        }
    }

    fn step(&mut self, step: Step) {
        self.now = self.now + Duration::from_millis(1);
        let now = self.now;
        match step {
            Step::Checkpoint => self.checkpoint(),
            Step::PrimarySays => {
                self.left.primary_says -= 1;
                self.p.ring.push_back((now, self.p.state));
            }
            Step::SecondarySays => {
                self.left.secondary_says -= 1;
                *self.said.entry(self.s.state).or_default() += 1;
                self.s.ring.push_back((now, self.s.state));
            }
            Step::Client => {
                self.left.inputs -= 1;
                self.p.tap.push_back(self.inputs);
                self.mirror.push_back(self.inputs);
                self.inputs += 1;
            }
            Step::PrimaryReads => {
                self.p.tap.pop_front();
                self.read += 1;
            }
            Step::SecondaryReads => {
                let index = self.s.tap.pop_front().unwrap();
                let lay = self.lay.remove(&index);
                assert!(
                    self.owned.insert(index) || lay || self.looked_late(),
                    "input {index} twice; {}",
                    self.say(&self.s, "read")
                );
            }
            Step::PrimaryOperator => {
                operator(&mut self.p, &mut self.left.primary_stops, self.left.clocks.then_some(now));
            }
            Step::SecondaryOperator => {
                operator(&mut self.s, &mut self.left.secondary_stops, self.left.clocks.then_some(now));
            }
            Step::Primary => self.primary_turn(),
            Step::Secondary => self.secondary_turn(),
            Step::PrimaryDeaf => self.p.turn = 0,
            Step::SecondaryDeaf => self.s.turn = 3,
        }
    }

    fn checkpoint(&mut self) {
        let at = self.left.clocks.then_some(self.now);
        match (self.stage, self.entry) {
            (0, false) => {
                self.left.checkpoints -= 1;
                if std::mem::take(&mut self.s.runs) {
                    self.s.event(EventKind::Stop, at);
                }
            }
            (0, true) => {}
            (1, _) => {
                if std::mem::take(&mut self.p.runs) {
                    self.p.event(EventKind::Stop, at);
                }
                self.copied_read = self.read;
            }
            (2, true) => {
                self.p.event(EventKind::Migration(MigrationStatus::Colo), at);
                self.s.event(EventKind::Migration(MigrationStatus::Colo), at);
            }
            (2, false) => self.p.event(EventKind::MigrationPass(2), at),
            (3, _) => {
                self.s.state = self.p.state + 1;
                self.owned = (0..self.copied_read).collect();
                self.lay = self.s.tap.iter().copied().collect();
                (self.s.runs, self.s.paused) = (true, false);
                self.s.event(EventKind::Resume, at);
            }
            _ => {
                self.p.state += 1;
                (self.p.runs, self.p.paused) = (true, false);
                self.p.event(EventKind::Resume, at);
                self.entry = false;
            }
        }
        self.stage = (self.stage + 1) % 5;
    }

    fn primary_turn(&mut self) {
        let now = self.now;
        match self.p.turn {
            0 => {
                while let Some(index) = self.mirror.pop_front() {
                    self.primary.mirrored(now, index, &input(index), Some(&mut self.p.outbox));
                }
                self.p.taken.append(&mut self.p.ring);
            }
            1 => {
                self.primary_looks();
                let word = word();
                let mut effects = Vec::new();
                loop {
                    while let Some((stamp, state)) = self.p.taken.front().copied()
                        && self.primary.place(stamp) == Place::Now
                    {
                        self.p.taken.pop_front();
                        self.tokens += 1;
                        self.parked.insert(self.tokens, state);
                        let token = Token(self.tokens);
                        self.primary.captured(now, token, &word, Some(&mut self.p.outbox), &mut effects);
                    }
                    if !self.primary.drained(now, Some(&mut self.p.outbox), &mut effects) {
                        break;
                    }
                }
                self.primary.tick(now, Some(&mut self.p.outbox), &mut effects);
                self.carry_out(effects);
            }
            _ => {
                self.primary_looks();
                let inbox = deliver(&mut self.s.outbox);
                for message in messages(&inbox) {
                    let mut effects = Vec::new();
                    self.primary.message(now, &message, &mut self.p.outbox, &mut effects).unwrap();
                    self.carry_out(effects);
                }
            }
        }
        self.p.turn = (self.p.turn + 1) % 3;
    }

    fn primary_looks(&mut self) {
        for told in self.p.look(self.now) {
            if let Told::Copied { entry } = told {
                while let Some(index) = self.mirror.pop_front() {
                    self.primary.mirrored(self.now, index, &input(index), Some(&mut self.p.outbox));
                }
                // What has run since may have read on: then the count is not that of the copy.
                let count = (self.read, !self.p.runs);
                self.primary.copied(entry, count, Vec::new(), Some(&mut self.p.outbox));
            } else {
                self.primary.told(self.now, told, Some(&mut self.p.outbox));
            }
        }
        self.primary.settle_session(self.now, Some(&mut self.p.outbox));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Release(Token(token)) => {
                    let state = self.parked.remove(&token).expect("once, and parked before");
                    if self.s.state <= state {
                        let let_out = self.let_out.entry(state).or_default();
                        *let_out += 1;
                        let said = self.said.get(&state).copied().unwrap_or_default();
                        assert!(
                            *let_out <= said,
                            "{}",
                            self.say(&self.p, "a word of no common state leaves")
                        );
                    }
                }
                Effect::Ask(_) => {
                    self.asked += 1;
                    self.p.vm.want();
                }
                Effect::Settle(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn secondary_turn(&mut self) {
        let now = self.now;
        match self.s.turn {
            0 => self.s.taken.append(&mut self.s.ring),
            1 => {
                let told = self.s.look(now);
                for told in told {
                    let unread = (self.s.tap.len() as u64, !self.s.runs);
                    self.secondary.told(now, told, Some(unread), Some(&mut self.s.outbox));
                }
                loop {
                    while let Some((stamp, _)) = self.s.taken.front().copied() {
                        match self.secondary.place(stamp) {
                            Place::Wait => break,
                            Place::Drop => self.secondary.unsure(),
                            Place::Now => self.secondary.captured(now, &mut word(), Some(&mut self.s.outbox)),
                        }
                        self.s.taken.pop_front();
                    }
                    if !self.secondary.settle(now, Some(&mut self.s.outbox)) {
                        break;
                    }
                }
                self.secondary.tick(now, Some(&mut self.s.outbox), &mut Vec::new());
            }
            2 => {
                let inbox = deliver(&mut self.p.outbox);
                for message in messages(&inbox) {
                    let mut effects = Vec::new();
                    self.secondary.message(now, &message, &mut self.s.outbox, &mut effects).unwrap();
                    assert_eq!(effects, []);
                    if self.secondary.take_offer().is_some() {
                        self.secondary.join(Some(&mut self.s.outbox));
                    }
                }
            }
            _ => {
                let tap = &mut self.s.tap;
                self.secondary.inject(now, 8, Some(&mut self.s.outbox), |frame| {
                    tap.push_back(u64::from(*frame.last().unwrap()));
                    Injection::Sent
                });
            }
        }
        self.s.turn = (self.s.turn + 1) % 4;
    }

    /// All that the next steps depend on, times apart.
    fn fingerprint(&self) -> String {
        let host = |host: &Host| {
            let ring =
                |ring: &VecDeque<(Mono, u64)>| ring.iter().map(|(_, state)| *state).collect::<Vec<_>>();
            let unread: Vec<_> = host
                .unread
                .iter()
                .map(|notice| match notice {
                    Notice::Event(event) => format!("{:?}", event.kind),
                    other => format!("{other:?}"),
                })
                .collect();
            format!(
                "{unread:?}{:?}{}{}{}{}{:?}{:?}{:?}{}{}",
                host.asked,
                host.state,
                host.runs,
                host.paused,
                host.turn,
                ring(&host.ring),
                ring(&host.taken),
                host.tap,
                host.vm.summary(),
                kinds(&waiting(&host.outbox))
            )
        };
        let mut owned: Vec<_> = self.owned.iter().collect();
        owned.sort_unstable();
        let places: Vec<_> = self.p.taken.iter().map(|(at, _)| self.primary.place(*at)).collect();
        let budget = Budget { clocks: true, ..self.left };
        format!(
            "{budget:?}{}{}{}{:?}{:?}{}{owned:?}{:?}{:?}{places:?}{}{}",
            host(&self.p),
            host(&self.s),
            self.stage,
            self.parked.values(),
            self.mirror,
            self.read,
            self.said,
            self.let_out,
            self.primary.summary(),
            self.secondary.summary(),
        )
    }

    /// Brings everything that has begun to its end. What an operator's stop, a late look or a stepped clock has cost is one
    /// more checkpoint.
    fn finish(&mut self) {
        while self.stage != 0 {
            self.step(Step::Checkpoint);
        }
        for step in [Step::PrimaryOperator, Step::SecondaryOperator] {
            if if step == Step::PrimaryOperator { self.p.paused } else { self.s.paused } {
                self.step(step);
            }
        }
        self.settle();
        if self.asked > 0 {
            self.left.checkpoints = 1;
            for _ in 0..5 {
                self.step(Step::Checkpoint);
                self.settle();
            }
        }
        // The secondary's guest says what the primary's has said: nothing has to wait for a checkpoint.
        self.left.secondary_says = 10;
        while self.can(Step::SecondarySays) {
            self.step(Step::SecondarySays);
        }
        self.settle();
        for step in [Step::PrimaryReads, Step::SecondaryReads] {
            while self.can(step) {
                self.step(step);
            }
        }
    }

    /// The secondary's agent counted what lay unread when its guest ran already: then it rather gives twice than not.
    fn looked_late(&self) -> bool {
        self.secondary.counters().any(|(name, n)| name == "input_cuts_inexact" && n > 0)
    }

    fn count(&self, name: &str) -> u64 {
        self.primary.counters().find(|(n, _)| n == name).map(|(_, n)| n).expect(name)
    }
}

fn word() -> Vec<u8> {
    let [guest, client] = ends();
    udp_frame(guest, client, b"word", &Wrap::default())
}

fn input(index: u64) -> Vec<u8> {
    let [guest, client] = ends();
    udp_frame(client, guest, &[0, 0, 0, u8::try_from(index).unwrap()], &Wrap::default())
}

/// What waits to be delivered.
fn waiting(outbox: &Outbox) -> Vec<u8> {
    outbox.slices().iter().flat_map(|slice| slice.iter().copied()).collect()
}

fn deliver(outbox: &mut Outbox) -> Vec<u8> {
    let bytes = waiting(outbox);
    outbox.consume(bytes.len());
    bytes
}

/// All messages in bytes that end with one.
fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while let Some((message, taken)) = Message::decode(bytes).unwrap() {
        messages.push(message);
        bytes = &bytes[taken..];
    }
    messages
}

/// Their kinds and epochs, times apart.
fn kinds(bytes: &[u8]) -> String {
    let kind = |message: Message<'_>| match message {
        Message::Heartbeat(_) => "Heartbeat".to_owned(),
        other => format!("{other:?}"),
    };
    messages(bytes).into_iter().map(kind).collect()
}

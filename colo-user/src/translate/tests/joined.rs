//! The translator with the comparator behind it: two guests that differ in nothing but their random numbers never
//! diverge, and one byte that differs is held.

use super::super::{Direction, Event, Limits, Translator, initial_of};
use super::frames::{ACK, C, FIN_ACK, Net, RST_ACK, SYN, SYN_ACK, Tcp, at};
use crate::compare::{self, Action, Comparator, Policy, Token};
use crate::mono::Mono;

/// Both hosts without their shells.
struct Pair {
    net: Net,
    comparator: Comparator,
    translator: Translator,
    now: Mono,
    tokens: u64,
    released: Vec<u64>,
    checkpoints: usize,
    /// What the secondary's guest got.
    delivered: Vec<Tcp>,
}

/// Initial number and clock of the two guests.
const PRIMARY: (u32, u32) = (0xffff_ff00, 10);
const SECONDARY: (u32, u32) = (0x1234_0000, 4_000_000_000);

impl Pair {
    fn new(net: Net) -> Self {
        Self {
            net,
            comparator: Comparator::new(Policy::default(), compare::Limits::default(), at(0)),
            translator: Translator::new(Limits::default()),
            now: at(0),
            tokens: 0,
            released: Vec::new(),
            checkpoints: 0,
            delivered: Vec::new(),
        }
    }

    /// A segment of the guest with `(isn, clock)`: numbers relative to it.
    fn guest(&self, (isn, clock): (u32, u32), tcp: &Tcp) -> Vec<u8> {
        let ticks = u32::try_from(self.now.as_nanos() / 1_000_000).unwrap();
        let tcp = Tcp { seq: isn.wrapping_add(tcp.seq), ..tcp.clone() };
        self.net.output(&tcp.timestamps(2, clock.wrapping_add(ticks), 5))
    }

    fn primary(&mut self, tcp: &Tcp) {
        let frame = self.guest(PRIMARY, tcp);
        if let Some(initial) = initial_of(&frame) {
            let _ = self.translator.learn(self.now, &initial);
            self.events();
        }
        let mut actions = Vec::new();
        self.comparator.primary(self.now, Token(self.tokens), &frame, &mut actions);
        self.tokens += 1;
        self.act(actions);
    }

    fn secondary(&mut self, tcp: &Tcp) {
        let mut frame = self.guest(SECONDARY, tcp);
        if self.translator.output(self.now, &mut frame).forward() {
            self.said(&frame);
        }
        self.events();
    }

    fn said(&mut self, frame: &[u8]) {
        let mut actions = Vec::new();
        self.comparator.secondary(self.now, frame, &mut actions);
        self.act(actions);
    }

    /// The client acknowledges `ack` after the primary's initial number.
    fn client(&mut self, tcp: &Tcp) {
        let ack = if tcp.flags & ACK == 0 { 0 } else { PRIMARY.0.wrapping_add(tcp.ack) };
        let mut frame = self.net.input(&Tcp { ack, ..tcp.clone() });
        self.comparator.client(self.now, &frame);
        if self.translator.input(self.now, &mut frame).forward() {
            self.delivered.push(self.net.read(&frame));
        }
        self.events();
    }

    fn events(&mut self) {
        while let Some(event) = self.translator.next_event() {
            match event {
                Event::Forward(Direction::Output, frame) => self.said(&frame),
                Event::Forward(Direction::Input, frame) => self.delivered.push(self.net.read(&frame)),
                event => panic!("{event:?}"),
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Release(Token(token)) => self.released.push(token),
                Action::Checkpoint(_) => self.checkpoints += 1,
                action => panic!("{action:?}"),
            }
        }
    }

    /// Both guests say `tcp`; the secondary a little later if `lag`, else earlier.
    fn both(&mut self, tcp: &Tcp, lag: bool) {
        if lag {
            self.primary(tcp);
        }
        self.now = at(self.now.as_nanos() / 1_000_000 + 3);
        self.secondary(tcp);
        if !lag {
            self.primary(tcp);
        }
    }

    /// A whole connection, opened by the client or by the guest.
    fn converse(&mut self, passive: bool, lag: bool, close: u8) {
        if passive {
            self.client(&Tcp::new(C, 0, SYN));
            self.both(&Tcp::new(0, C + 1, SYN_ACK), lag);
            self.client(&Tcp::new(C + 1, 1, ACK));
        } else {
            self.both(&Tcp::new(0, 0, SYN), lag);
            self.client(&Tcp::new(C, 1, SYN_ACK));
            self.both(&Tcp::new(1, C + 1, ACK), lag);
        }
        self.client(&Tcp::new(C + 1, 1, ACK).payload(b"GET / HTTP/1.1\r\n\r\n"));
        // The primary's number wraps in here.
        self.both(&Tcp::new(1, C + 19, ACK).payload(&[0x20; 200]), lag);
        self.both(&Tcp::new(201, C + 19, ACK).payload(&[0x21; 200]), lag);
        self.client(&Tcp::new(C + 19, 201, ACK));
        self.both(&Tcp::new(201, C + 19, ACK).payload(&[0x21; 200]), lag);
        self.client(&Tcp::new(C + 19, 401, ACK));
        self.both(&Tcp::new(401, C + 19, close), lag);
    }
}

#[test]
fn guests_that_differ_in_their_random_numbers_only_never_diverge() {
    for net in [Net::default(), Net { v6: true, tags: 2, extras: true, host: 1 }] {
        for (passive, lag, close) in
            [(true, true, FIN_ACK), (true, false, RST_ACK), (false, true, RST_ACK), (false, false, FIN_ACK)]
        {
            let mut pair = Pair::new(net);
            pair.converse(passive, lag, close);
            assert_eq!(pair.checkpoints, 0, "{net:?} passive {passive} lag {lag}");
            assert_eq!(pair.released, (0..pair.tokens).collect::<Vec<_>>());
            assert_eq!(pair.comparator.held(), 0);
            let acks = pair.delivered.iter().filter(|t| t.flags & ACK != 0);
            assert!(acks.clone().all(|t| (1..=402).contains(&t.ack.wrapping_sub(SECONDARY.0))));
            assert_eq!(acks.count(), 4);
        }
    }
}

#[test]
fn one_byte_that_differs_is_held() {
    let mut pair = Pair::new(Net::default());
    pair.converse(true, true, ACK);
    let before = pair.tokens;
    pair.primary(&Tcp::new(401, C + 19, ACK).payload(b"the account holds 100"));
    pair.secondary(&Tcp::new(401, C + 19, ACK).payload(b"the account holds 900"));
    pair.now = at(60_000);
    let mut actions = Vec::new();
    pair.comparator.tick(pair.now, &mut actions);
    pair.act(actions);
    assert_eq!(pair.released, (0..before).collect::<Vec<_>>());
    assert!(pair.checkpoints > 0);
}

#[test]
fn untranslated_they_do_diverge() {
    let mut pair = Pair::new(Net::default());
    pair.primary(&Tcp::new(1, C, ACK).payload(b"mid-stream"));
    pair.secondary(&Tcp::new(1, C, ACK).payload(b"mid-stream"));
    pair.now = at(60_000);
    let mut actions = Vec::new();
    pair.comparator.tick(pair.now, &mut actions);
    pair.act(actions);
    assert!(pair.released.is_empty());
    assert!(pair.checkpoints > 0);
}

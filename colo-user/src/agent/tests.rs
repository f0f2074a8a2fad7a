//! Two agents in one process without sockets or interfaces: the two cores, two guests that answer, and links that
//! deliver late, in pieces, or not at all. Every run is a printed seed.

use super::primary::{Effect as PrimaryEffect, OnPeerLoss, Primary};
use super::protection::{Protection, Reason};
use super::secondary::{Effect as SecondaryEffect, Injection, Secondary};
use crate::compare::{Limits, Policy, Token};
use crate::link::buffer::{Inbox, Outbox};
use crate::mono::Mono;
use crate::random::Random;
use crate::wire::build::Tcp;
use crate::wire::tcp::TcpSegment;
use crate::wire::{Ether, Ip, TcpFlags};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 9], port))
}

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 80))
}

fn tcp(frame: &[u8]) -> TcpView {
    let ether = Ether::parse(frame).unwrap();
    let ip = Ip::parse(frame, ether.payload, ether.ethertype).unwrap();
    let segment = TcpSegment::parse(&frame[ip.payload..ip.end]).unwrap();
    TcpView {
        ports: (segment.src_port, segment.dst_port),
        seq: segment.seq.0,
        ack: segment.ack.0,
        flags: segment.flags,
        payload: segment.payload.to_vec(),
    }
}

struct TcpView {
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    payload: Vec<u8>,
}

/// A guest that accepts connections with initial numbers of its own and answers each request with bytes that the
/// request fixes, cut at places of its own.
struct Guest {
    random: Random,
    isn: BTreeMap<u16, u32>,
    /// Bytes it has said, by client port.
    said: BTreeMap<u16, u32>,
    heard: BTreeMap<u16, u32>,
    /// Says another byte in the answer to this client port.
    lies_to: Option<u16>,
}

impl Guest {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            isn: BTreeMap::new(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            lies_to: None,
        }
    }

    fn hears(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let said = tcp(frame);
        let port = said.ports.0;
        if said.flags.has(TcpFlags::SYN) {
            let isn = *self.isn.entry(port).or_insert_with(|| self.random.next() as u32);
            self.heard.insert(port, said.seq.wrapping_add(1));
            self.said.entry(port).or_insert(0);
            return vec![
                Tcp::new(server(), client(port))
                    .seq(isn)
                    .ack(said.seq.wrapping_add(1))
                    .flag(TcpFlags::SYN)
                    .frame(),
            ];
        }
        let Some(&isn) = self.isn.get(&port) else { return Vec::new() };
        let expected = self.heard.get_mut(&port).unwrap();
        if said.payload.is_empty() || said.seq != *expected {
            return Vec::new();
        }
        *expected = expected.wrapping_add(said.payload.len() as u32);
        let acknowledged = *expected;
        let from = self.said[&port];
        // What it is asked fixes what it answers.
        let mut answer: Vec<u8> = (0..u32::from(said.payload[0]) + 1).map(|i| (i * 7 + from) as u8).collect();
        if self.lies_to == Some(port) {
            answer[0] ^= 0xff;
        }
        *self.said.get_mut(&port).unwrap() += answer.len() as u32;
        let mut frames = Vec::new();
        let mut at = 0;
        while at < answer.len() {
            let n = (1 + self.random.below(100) as usize).min(answer.len() - at);
            let seq = isn.wrapping_add(1).wrapping_add(from).wrapping_add(at as u32);
            frames.push(
                Tcp::new(server(), client(port)).seq(seq).ack(acknowledged).data(&answer[at..at + n]).frame(),
            );
            at += n;
        }
        frames
    }
}

/// The client's end of one connection.
#[derive(Default)]
struct Connection {
    /// The server's initial number, once known.
    isn: Option<u32>,
    seq: u32,
    /// Bytes of the server's stream by offset, each heard so far.
    heard: BTreeMap<u32, u8>,
    expected: Vec<u8>,
}

struct World {
    now: Mono,
    random: Random,
    primary: Primary,
    secondary: Secondary,
    primary_guest: Guest,
    secondary_guest: Guest,
    primary_out: Outbox,
    secondary_out: Outbox,
    primary_in: Inbox,
    secondary_in: Inbox,
    linked: bool,
    parked: BTreeMap<u64, Vec<u8>>,
    captured_primary: VecDeque<Vec<u8>>,
    captured_secondary: VecDeque<Vec<u8>>,
    next_token: u64,
    next_index: u64,
    /// What left for the client, in order.
    wire: Vec<Vec<u8>>,
    asked: u64,
    connections: BTreeMap<u16, Connection>,
    deliver: bool,
}

impl World {
    fn new(seed: u64, on_loss: OnPeerLoss) -> Self {
        let limit = Duration::from_secs(5);
        let now = Mono::from_millis(1000);
        Self {
            now,
            random: Random(seed),
            primary: Primary::new(Policy::default(), Limits::default(), on_loss, limit, now),
            secondary: Secondary::new(crate::translate::Limits::default(), limit),
            primary_guest: Guest::new(seed ^ 1),
            secondary_guest: Guest::new(seed ^ 2),
            primary_out: Outbox::default(),
            secondary_out: Outbox::default(),
            primary_in: Inbox::default(),
            secondary_in: Inbox::default(),
            linked: false,
            parked: BTreeMap::new(),
            captured_primary: VecDeque::new(),
            captured_secondary: VecDeque::new(),
            next_token: 0,
            next_index: 0,
            wire: Vec::new(),
            asked: 0,
            connections: BTreeMap::new(),
            deliver: true,
        }
    }

    fn link_up(&mut self) {
        (self.primary_out, self.secondary_out) = (Outbox::default(), Outbox::default());
        (self.primary_in, self.secondary_in) = (Inbox::default(), Inbox::default());
        self.linked = true;
        self.primary.connected(self.now, &mut self.primary_out);
        self.secondary.connected(self.now);
    }

    fn link_down(&mut self, reason: Reason) {
        self.linked = false;
        let mut effects = Vec::new();
        self.primary.lost(self.now, reason, &mut effects);
        self.carry_out(effects);
        self.secondary.lost(reason, &mut Vec::new());
    }

    fn carry_out(&mut self, effects: Vec<PrimaryEffect>) {
        for effect in effects {
            match effect {
                PrimaryEffect::Release(Token(token)) => {
                    let frame = self.parked.remove(&token).expect("released once, and parked before");
                    self.wire.push(frame);
                }
                PrimaryEffect::Drop(Token(token)) => {
                    self.parked.remove(&token).expect("dropped once, and parked before");
                }
                PrimaryEffect::Ask(_) => self.asked += 1,
                PrimaryEffect::CloseLink(_) => self.linked = false,
                PrimaryEffect::Emit(_) | PrimaryEffect::Settle(_) | PrimaryEffect::Window(..) => {}
            }
        }
    }

    /// A client's frame: to the primary's guest in the kernel, and a copy to the agent.
    fn client_says(&mut self, frame: &[u8]) {
        let answers = self.primary_guest.hears(frame);
        let linked = self.linked;
        self.primary.mirrored(self.now, self.next_index, frame, linked.then_some(&mut self.primary_out));
        self.next_index += 1;
        self.captured_primary.extend(answers);
    }

    fn take_captured(&mut self) {
        let Some(frame) = self.captured_primary.pop_front() else { return };
        if self.primary.place(self.now) == super::place::Place::Wait {
            self.captured_primary.push_front(frame);
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.parked.insert(token, frame.clone());
        let mut effects = Vec::new();
        let outbox = self.linked.then_some(&mut self.primary_out);
        self.primary.captured(self.now, Token(token), &frame, outbox, &mut effects);
        self.carry_out(effects);
    }

    fn secondary_captures(&mut self) {
        if let Some(mut frame) = self.captured_secondary.pop_front() {
            self.secondary.captured(self.now, &mut frame, self.linked.then_some(&mut self.secondary_out));
        }
    }

    fn inject(&mut self) {
        let budget = 1 + self.random.below(4) as usize;
        let (random, guest, said) =
            (&mut self.random, &mut self.secondary_guest, &mut self.captured_secondary);
        let outbox = self.linked.then_some(&mut self.secondary_out);
        self.secondary.inject(self.now, budget, outbox, |frame| {
            if random.below(4) == 0 {
                return Injection::Later;
            }
            said.extend(guest.hears(frame));
            Injection::Sent
        });
    }

    /// Moves some bytes and takes the messages they complete.
    fn move_bytes(&mut self) {
        if !self.linked {
            return;
        }
        let n = 1 + self.random.below(400) as usize;
        carry(&mut self.primary_out, &mut self.secondary_in, n);
        while let Some(message) = self.secondary_in.next_message().unwrap() {
            let mut effects = Vec::new();
            self.secondary.message(self.now, &message, &mut self.secondary_out, &mut effects).unwrap();
            for effect in effects {
                match effect {
                    SecondaryEffect::Drain => {
                        while let Some(mut frame) = self.captured_secondary.pop_front() {
                            self.secondary.captured(self.now, &mut frame, Some(&mut self.secondary_out));
                        }
                        self.secondary.drained(self.now, Some(&mut self.secondary_out));
                        // The copy of the primary's state, which a hypervisor makes.
                        self.secondary_guest.isn = self.primary_guest.isn.clone();
                        self.secondary_guest.said = self.primary_guest.said.clone();
                        self.secondary_guest.heard = self.primary_guest.heard.clone();
                    }
                    SecondaryEffect::CloseLink(_) => self.linked = false,
                }
            }
        }
        let n = 1 + self.random.below(400) as usize;
        carry(&mut self.secondary_out, &mut self.primary_in, n);
        while let Some(message) = self.primary_in.next_message().unwrap() {
            let mut effects = Vec::new();
            self.primary.message(self.now, &message, &mut self.primary_out, &mut effects).unwrap();
            for effect in effects {
                // Carried out at once: the next message may depend on it.
                match effect {
                    PrimaryEffect::Release(Token(token)) => {
                        self.wire.push(self.parked.remove(&token).expect("parked"));
                    }
                    PrimaryEffect::Drop(Token(token)) => {
                        self.parked.remove(&token).expect("parked");
                    }
                    PrimaryEffect::Ask(_) => self.asked += 1,
                    PrimaryEffect::CloseLink(_) => self.linked = false,
                    PrimaryEffect::Emit(_) | PrimaryEffect::Settle(_) | PrimaryEffect::Window(..) => {}
                }
            }
        }
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_micros(50);
        let mut effects = Vec::new();
        let linked = self.linked;
        self.primary.tick(self.now, linked.then_some(&mut self.primary_out), &mut effects);
        self.carry_out(effects);
        self.secondary.tick(self.now, linked.then_some(&mut self.secondary_out), &mut Vec::new());
    }

    /// What reached the client, into its connections.
    fn client_hears(&mut self) {
        for frame in std::mem::take(&mut self.wire) {
            let said = tcp(&frame);
            let Some(connection) = self.connections.get_mut(&said.ports.1) else { continue };
            if said.flags.has(TcpFlags::SYN) {
                let before = connection.isn.replace(said.seq);
                assert!(before.is_none_or(|isn| isn == said.seq), "two initial numbers reached the client");
                continue;
            }
            let isn = connection.isn.expect("no answer before the SYN-ACK");
            let from = said.seq.wrapping_sub(isn).wrapping_sub(1);
            for (i, byte) in said.payload.iter().enumerate() {
                let before = connection.heard.insert(from + i as u32, *byte);
                assert!(before.is_none_or(|b| b == *byte), "two answers at one place");
            }
            let _ = said.ack;
        }
    }

    fn steps(&mut self, n: usize) {
        for _ in 0..n {
            match self.random.below(6) {
                0 => self.take_captured(),
                1 => self.secondary_captures(),
                2 => self.inject(),
                3 | 4 => self.move_bytes(),
                _ => self.tick(),
            }
            if self.deliver {
                self.client_hears();
            }
        }
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            self.steps(20);
        }
        panic!(
            "never: {what}; {}, {} held, {:?}",
            self.primary.protection(),
            self.primary.held(),
            self.primary.divergences().collect::<Vec<_>>()
        );
    }

    fn in_sync(&mut self) {
        self.link_up();
        self.until("sync", |w| {
            w.primary.protection() == Protection::Protected
                && w.secondary.protection() == Protection::Protected
        });
    }

    fn open(&mut self, port: u16) {
        let seq = self.random.next() as u32;
        self.connections.insert(port, Connection { seq: seq.wrapping_add(1), ..Connection::default() });
        self.client_says(&Tcp::new(client(port), server()).seq(seq).flag(TcpFlags::SYN).frame());
        self.until("SYN-ACK", |w| w.connections[&port].isn.is_some());
        let c = &self.connections[&port];
        let ack = Tcp::new(client(port), server()).seq(c.seq).ack(c.isn.unwrap().wrapping_add(1)).frame();
        self.client_says(&ack);
    }

    fn ask(&mut self, port: u16) {
        let size = self.random.next() as u8;
        let c = self.connections.get_mut(&port).unwrap();
        let from = c.expected.len() as u32;
        let ack = c.isn.unwrap().wrapping_add(1).wrapping_add(from);
        let request = Tcp::new(client(port), server()).seq(c.seq).ack(ack).data(&[size; 20]).frame();
        c.seq = c.seq.wrapping_add(20);
        c.expected.extend((0..u32::from(size) + 1).map(|i| (i * 7 + from) as u8));
        self.client_says(&request);
    }

    fn answered(&self, port: u16) -> bool {
        let c = &self.connections[&port];
        c.heard.values().eq(c.expected.iter())
    }
}

/// Moves at most `n` bytes.
fn carry(out: &mut Outbox, inbox: &mut Inbox, n: usize) {
    let bytes: Vec<u8> = out.slices().iter().flat_map(|s| s.iter().copied()).take(n).collect();
    let space = inbox.space();
    let n = bytes.len().min(space.len());
    space[..n].copy_from_slice(&bytes[..n]);
    inbox.filled(n);
    out.consume(n);
}

/// Runs `f` with many seeds; a failure names its own.
fn with_seeds(f: impl Fn(u64)) {
    for seed in 1..=25 {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(seed))) {
            eprintln!("failing seed: {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn equal_guests_are_let_through_whatever_the_link_does_to_the_stream() {
    with_seeds(|seed| {
        let mut w = World::new(seed, OnPeerLoss::Pass);
        w.in_sync();
        for port in [1000, 1001, 1002] {
            w.open(port);
        }
        for _ in 0..10 {
            for port in [1000, 1001, 1002] {
                w.ask(port);
            }
            w.steps(30);
        }
        for port in [1000, 1001, 1002] {
            w.until("the answers", |w| w.answered(port));
        }
        w.until("nothing held", |w| w.primary.held() == 0 && w.parked.is_empty());
        assert_eq!(
            w.asked,
            0,
            "equal guests need no checkpoint: {:?}",
            w.primary.divergences().collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_divergent_answer_stays_held_until_a_cut_and_other_flows_go_on() {
    with_seeds(|seed| {
        let mut w = World::new(seed, OnPeerLoss::Pass);
        w.in_sync();
        w.open(1000);
        w.open(1001);
        w.secondary_guest.lies_to = Some(1000);
        w.ask(1000);
        w.until("a request for a checkpoint", |w| w.asked > 0);
        assert_eq!(w.connections[&1000].heard.len(), 0, "a byte that differs reached the client");
        w.ask(1001);
        w.until("the other flow", |w| w.answered(1001));
        assert!(w.primary.held() > 0);
        w.secondary_guest.lies_to = None;
        let epoch = w.primary.epoch();
        while !w.captured_primary.is_empty() {
            w.take_captured();
        }
        w.primary.cut(w.now, Some(&mut w.primary_out));
        w.until("the cut", |w| w.primary.epoch() == epoch.next());
        w.until("the answer", |w| w.answered(1000));
        // Both flows go on in the new epoch, in the primary's numbers on both sides.
        let asked = w.asked;
        for port in [1000, 1001] {
            w.ask(port);
            w.until("the next answer", |w| w.answered(port));
        }
        assert_eq!((w.asked, w.secondary.epoch()), (asked, epoch.next()));
    });
}

#[test]
fn a_lost_link_passes_holds_or_closes_and_new_flows_are_protected_after_it() {
    with_seeds(|seed| {
        for policy in [OnPeerLoss::Pass, OnPeerLoss::Hold, OnPeerLoss::Close] {
            let mut w = World::new(seed, policy);
            w.in_sync();
            w.open(1000);
            w.secondary_guest.lies_to = Some(1000);
            w.ask(1000);
            w.until("something held", |w| w.asked > 0 && w.primary.held() > 0);
            w.link_down(Reason::PeerLost);
            assert_eq!(w.primary.protection(), Protection::Not(Reason::PeerLost));
            w.ask(1000);
            w.steps(500);
            match policy {
                OnPeerLoss::Pass => {
                    assert!(w.answered(1000), "what was held leaves, and the rest at once");
                    assert!(w.parked.is_empty());
                }
                OnPeerLoss::Hold => {
                    assert_eq!(w.connections[&1000].heard.len(), 0);
                    assert!(w.primary.held() > 0);
                }
                OnPeerLoss::Close => {
                    assert_eq!(w.connections[&1000].heard.len(), 0);
                    assert!(w.parked.is_empty(), "dropped");
                }
            }
            w.secondary_guest.lies_to = None;
            w.in_sync();
            if policy == OnPeerLoss::Hold {
                continue;
            }
            let asked = w.asked;
            w.open(1001);
            w.ask(1001);
            w.until("a new flow's answer", |w| w.answered(1001));
            w.secondary_guest.lies_to = Some(1001);
            w.ask(1001);
            w.until("a divergence of the new flow", |w| w.asked > asked);
            assert!(!w.answered(1001));
        }
    });
}

#[test]
fn a_restarted_secondary_that_knows_no_flow_harms_none() {
    with_seeds(|seed| {
        let mut w = World::new(seed, OnPeerLoss::Pass);
        w.in_sync();
        w.open(1000);
        w.ask(1000);
        w.until("the answer", |w| w.answered(1000));
        w.link_down(Reason::PeerLost);
        w.secondary = Secondary::new(crate::translate::Limits::default(), Duration::from_secs(5));
        w.secondary_guest = Guest::new(seed ^ 3);
        w.captured_secondary.clear();
        w.in_sync();
        let asked = w.asked;
        w.ask(1000);
        w.until("the old flow goes on", |w| w.answered(1000));
        w.open(1001);
        w.ask(1001);
        w.until("a new flow", |w| w.answered(1001));
        assert_eq!(w.asked, asked, "nobody asks for a checkpoint for a flow that was never protected");
    });
}

#[test]
fn a_silent_peer_is_lost_by_name_and_what_it_held_up_leaves() {
    let mut w = World::new(7, OnPeerLoss::Pass);
    w.in_sync();
    w.open(1000);
    // Nothing moves between them any more, and no end of the connection says so.
    w.ask(1000);
    while !w.captured_primary.is_empty() {
        w.take_captured();
    }
    assert!(w.primary.held() > 0);
    w.now = w.now + Duration::from_secs(6);
    w.tick();
    w.client_hears();
    assert_eq!(w.primary.protection(), Protection::Not(Reason::PeerSilent));
    assert!(w.answered(1000) && w.primary.held() == 0);
}

//! The client: it asks, and remembers everything that it was told. What it was told once must stay so.

use super::guest::{self, BY_CHANCE, Guest, REQUEST};
use crate::random::Random;
use colo_user::mono::Mono;
use colo_user::wire::build::{Tcp, Wrap, udp_frame};
use colo_user::wire::{Ether, Ip, TcpFlags, TcpSegment, UdpDatagram, proto};
use std::collections::BTreeMap;
use std::time::Duration;

/// The port that asks by datagrams.
const DATAGRAMS: u16 = 53;
/// First timeout of a retransmission; it doubles up to the longest.
const TIMEOUT: Duration = Duration::from_millis(300);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection as the client has it.
#[derive(Debug)]
struct Connection {
    isn: u32,
    server_isn: Option<u32>,
    said: Vec<u8>,
    /// Most of that which the server has acknowledged.
    acknowledged: usize,
    heard: Vec<u8>,
    /// What it must hear; none where chance decides.
    expected: Vec<Option<u8>>,
    again: Option<Mono>,
    timeout: Duration,
    /// When it asks next.
    asks: Option<Mono>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    connections: BTreeMap<u16, Connection>,
    datagrams: BTreeMap<u32, Vec<u8>>,
    number: u32,
    datagram: Mono,
    /// It asks nothing new after this, but once more on every connection.
    quiet: Mono,
    random: Random,
    /// Share of its questions that chance has a part in.
    by_chance: u64,
    pub answers: u64,
}

impl Client {
    pub fn new(mut random: Random, connections: u16, quiet: Mono, by_chance: u64) -> Self {
        let connections = (0..connections)
            .map(|n| {
                let opens = Mono::ZERO + random.millis(50, quiet.as_nanos() / 1_000_000);
                (1000 + n, Connection::new(random.next() as u32, opens))
            })
            .collect();
        Self {
            connections,
            datagrams: BTreeMap::new(),
            number: 0,
            datagram: Mono::from_millis(100),
            quiet,
            random,
            by_chance,
            answers: 0,
        }
    }

    /// Its connections are given up, and as many others begun.
    pub fn begins_anew(&mut self, now: Mono) {
        let first = 1 + self.connections.keys().max().expect("it has connections");
        let fresh = (first..).take(self.connections.len());
        self.connections =
            fresh.map(|port| (port, Connection::new(self.random.next() as u32, now))).collect();
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let connections = self.connections.values().flat_map(|c| [c.again, c.asks]).flatten().min();
        let datagram = (self.datagram <= self.quiet).then_some(self.datagram);
        connections.into_iter().chain(datagram).min()
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Vec<u8>>) {
        let quiet = self.quiet;
        if now >= self.datagram && now <= quiet {
            self.datagram = now + self.random.millis(80, 500);
            self.number += 1;
            let mut question = self.number.to_be_bytes().to_vec();
            question.push(u8::from(self.random.per_mille(self.by_chance)));
            out.push(udp_frame(guest::client(DATAGRAMS), guest::server(), &question, &Wrap::default()));
        }
        for (&port, c) in &mut self.connections {
            if c.asks.is_some_and(|at| now >= at) {
                let chance = self.random.per_mille(self.by_chance);
                let r = self.random.next();
                let first = if chance { BY_CHANCE } else { (r as u8) & 0x7f };
                let request = [first, (r >> 8) as u8, (r >> 16) as u8, (r >> 24) as u8];
                let answer = guest::answer(&request, c.expected.len());
                c.expected
                    .extend(answer.into_iter().enumerate().map(|(i, b)| (i > 0 || !chance).then_some(b)));
                c.said.extend(request);
                c.asks = None;
                c.again = Some(now);
                c.timeout = TIMEOUT / 2;
            }
            if c.again.is_some_and(|at| now >= at) {
                c.timeout = (c.timeout * 2).min(LONGEST_TIMEOUT);
                c.again = Some(now + c.timeout);
                out.push(c.say(port));
            }
        }
    }

    /// A frame has come. An error names what was taken back.
    pub fn hears(&mut self, now: Mono, frame: &[u8], out: &mut Vec<Vec<u8>>) -> Result<(), String> {
        let Ok(ether) = Ether::parse(frame) else { return Ok(()) };
        let Ok(ip) = Ip::parse(frame, ether.payload, ether.ethertype) else { return Ok(()) };
        let payload = &frame[ip.payload..ip.end];
        if ip.protocol == proto::UDP {
            let said = UdpDatagram::parse(payload).map_err(|e| e.to_string())?.payload.to_vec();
            let number = u32::from_be_bytes([said[0], said[1], said[2], said[3]]);
            self.answers += 1;
            let before = self.datagrams.entry(number).or_insert_with(|| said.clone());
            return if *before == said { Ok(()) } else { Err(format!("datagram {number} has two answers")) };
        }
        // A hint that something was lost is nothing that was told.
        if ip.protocol != proto::TCP {
            return Ok(());
        }
        let s = TcpSegment::parse(payload).map_err(|e| e.to_string())?;
        let port = s.dst_port;
        let Some(c) = self.connections.get_mut(&port) else { return Ok(()) };
        if s.flags.has(TcpFlags::RST) {
            return Err(format!("connection {port} is reset"));
        }
        if s.flags.has(TcpFlags::SYN) {
            if c.server_isn.is_some_and(|isn| isn != s.seq.0) {
                return Err(format!("connection {port} has two initial numbers"));
            }
            if c.server_isn.replace(s.seq.0).is_none() {
                c.again = None;
                c.asks = Some(now + self.random.millis(1, 100));
            }
            out.push(c.bare(port));
            return Ok(());
        }
        let Some(isn) = c.server_isn else { return Ok(()) };
        let acknowledged = s.ack.0.wrapping_sub(c.isn).wrapping_sub(1) as usize;
        if acknowledged > c.said.len() {
            return Err(format!("connection {port}: {acknowledged} bytes acknowledged of {}", c.said.len()));
        }
        c.acknowledged = c.acknowledged.max(acknowledged);
        if c.acknowledged == c.said.len() {
            c.again = None;
        }
        let from = s.seq.0.wrapping_sub(isn).wrapping_sub(1);
        if from as usize > c.expected.len() {
            return Err(format!("connection {port}: a segment at {from}, outside of the stream"));
        }
        let from = from as usize;
        for (i, byte) in s.payload.iter().enumerate() {
            match c.heard.get(from + i) {
                Some(before) if before != byte => {
                    return Err(format!("connection {port}: byte {} was {before}, and is {byte}", from + i));
                }
                Some(_) => {}
                None if from + i > c.heard.len() => break,
                None => match c.expected.get(from + i) {
                    Some(Some(expected)) if expected != byte => {
                        return Err(format!(
                            "connection {port}: byte {} is {byte}, not {expected}",
                            from + i
                        ));
                    }
                    Some(_) => c.heard.push(*byte),
                    None => return Err(format!("connection {port}: an answer to nothing at {}", from + i)),
                },
            }
        }
        if !s.payload.is_empty() {
            out.push(c.bare(port));
            if c.answered() && c.asks.is_none() {
                self.answers += 1;
                // After the quiet there is one more question.
                c.asks =
                    Some((now + self.random.millis(20, 400)).min(self.quiet)).filter(|_| now < self.quiet);
            }
        }
        Ok(())
    }

    /// Whether a guest that is to be the service has said all that was heard, and owns all that it was told to have.
    pub fn owned_by(&self, guest: &Guest) -> Result<(), String> {
        for (port, c) in self.connections.iter().filter(|(_, c)| c.server_isn.is_some()) {
            let Some(g) = guest.connections.get(port) else {
                return Err(format!("connection {port} is unknown to the survivor"));
            };
            if !g.said.starts_with(&c.heard) {
                let (heard, said) = (c.heard.len(), g.said.len());
                return Err(format!(
                    "connection {port}: {heard} bytes heard, the survivor has said {said} others"
                ));
            }
            if g.owned.len() < c.acknowledged {
                let (told, owned) = (c.acknowledged, g.owned.len());
                return Err(format!(
                    "connection {port}: {told} bytes acknowledged, the survivor owns {owned}"
                ));
            }
        }
        for (number, said) in &self.datagrams {
            if guest.datagrams.get(number) != Some(said) {
                return Err(format!("datagram {number} was not answered so by the survivor"));
            }
        }
        Ok(())
    }

    /// The connections that wait for an answer.
    pub fn waiting(&self) -> Vec<u16> {
        let waits = |c: &Connection| c.server_isn.is_none() || !c.answered() || c.asks.is_some();
        self.connections.iter().filter(|(_, c)| waits(c)).map(|(port, _)| *port).collect()
    }
}

impl Connection {
    fn new(isn: u32, opens: Mono) -> Self {
        Self {
            isn,
            server_isn: None,
            said: Vec::new(),
            acknowledged: 0,
            heard: Vec::new(),
            expected: Vec::new(),
            again: Some(opens),
            timeout: TIMEOUT,
            asks: None,
        }
    }

    fn answered(&self) -> bool {
        self.heard.len() == self.expected.len()
    }

    /// What it has to say now: its SYN, or what is not acknowledged.
    fn say(&self, port: u16) -> Vec<u8> {
        let Some(isn) = self.server_isn else {
            return Tcp::new(guest::client(port), guest::server()).seq(self.isn).flag(TcpFlags::SYN).frame();
        };
        let from = self.acknowledged / REQUEST * REQUEST;
        let seq = self.isn.wrapping_add(1).wrapping_add(from as u32);
        let ack = isn.wrapping_add(1).wrapping_add(self.heard.len() as u32);
        Tcp::new(guest::client(port), guest::server()).seq(seq).ack(ack).data(&self.said[from..]).frame()
    }

    fn bare(&self, port: u16) -> Vec<u8> {
        let ack = self.server_isn.unwrap_or_default().wrapping_add(1).wrapping_add(self.heard.len() as u32);
        let seq = self.isn.wrapping_add(1).wrapping_add(self.said.len() as u32);
        Tcp::new(guest::client(port), guest::server()).seq(seq).ack(ack).frame()
    }
}

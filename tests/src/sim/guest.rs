//! The guest: a server that says what its requests fix, and a few things that chance fixes, so that two replicas of it
//! differ in their initial numbers always and in an answer now and then. A checkpoint is a clone of it.
//!
//! It remembers all that it ever said and owned, so that a survivor can be asked whether it has said what a client saw.

use crate::random::Random;
use colo_user::mono::Mono;
use colo_user::wire::build::{Tcp, Wrap, ether, udp_frame};
use colo_user::wire::ether::ethertype;
use colo_user::wire::{TcpFlags, TcpSegment};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a client asks, over TCP: so many bytes, and whether chance has a part in them.
pub(super) const REQUEST: usize = 4;
/// First byte of a request whose answer begins with a byte of chance.
pub(super) const BY_CHANCE: u8 = 0xff;
/// Most bytes in a segment of the guest.
const SEGMENT: usize = 120;
/// First timeout of a retransmission; it doubles up to the longest.
const TIMEOUT: Duration = Duration::from_millis(250);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two words that nobody asked for.
const CHATTER: Duration = Duration::from_millis(170);

pub(super) fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 80))
}

pub(super) fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 9], port))
}

/// The answer to a request, apart from chance: fixed by the request and where in the stream it begins.
pub(super) fn answer(request: &[u8], from: usize) -> Vec<u8> {
    let length = 1 + usize::from(request[1]);
    (0..length).map(|i| (i * 7 + from * 3) as u8 ^ request[2]).collect()
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    isn: u32,
    client_isn: u32,
    /// Client's bytes that it owns.
    pub owned: Vec<u8>,
    /// All that it has said.
    pub said: Vec<u8>,
    acknowledged: usize,
    established: bool,
    again: Option<Mono>,
    timeout: Duration,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub connections: BTreeMap<u16, Connection>,
    /// What it answered to each datagram.
    pub datagrams: BTreeMap<u32, Vec<u8>>,
    chatter: Mono,
}

impl Guest {
    pub fn new(now: Mono) -> Self {
        Self { connections: BTreeMap::new(), datagrams: BTreeMap::new(), chatter: now + CHATTER }
    }

    /// A frame's segment, and the client's port.
    pub fn hears(&mut self, now: Mono, s: &TcpSegment<'_>, random: &mut Random, out: &mut Vec<Vec<u8>>) {
        let port = s.src_port;
        if s.flags.has(TcpFlags::SYN) {
            let c = self.connections.entry(port).or_insert_with(|| Connection {
                isn: random.next() as u32,
                client_isn: s.seq.0,
                owned: Vec::new(),
                said: Vec::new(),
                acknowledged: 0,
                established: false,
                again: Some(now + TIMEOUT),
                timeout: TIMEOUT,
            });
            if !c.established {
                out.push(c.syn_ack(port));
            }
            return;
        }
        // A client of a state that is gone gets the answer that TCP gives.
        let Some(c) = self.connections.get_mut(&port) else {
            let reset = Tcp::new(server(), client(port)).seq(s.ack.0).flag(TcpFlags::RST);
            return out.push(reset.frame());
        };
        c.hears(now, port, s, random, out);
    }

    /// A datagram with this number.
    pub fn asked(
        &mut self,
        port: u16,
        number: u32,
        chance: bool,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) {
        let count = self.datagrams.len() as u32;
        let said = self.datagrams.entry(number).or_insert_with(|| {
            let mut said = number.to_be_bytes().to_vec();
            said.extend(count.to_be_bytes());
            said.push(if chance { random.next() as u8 } else { 0 });
            said
        });
        out.push(udp_frame(server(), client(port), said, &Wrap::default()));
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Vec<u8>>) {
        if now >= self.chatter {
            self.chatter = now + CHATTER;
            // An announcement of its address: nobody compares it.
            let wrap = Wrap { dst_mac: [0xff; 6], ..Wrap::default() };
            let arp =
                [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2, 0, 0, 0, 0, 2, 192, 0, 2, 2], &[0; 6], &[192, 0, 2, 2]];
            out.push(ether(ethertype::ARP, &arp.concat(), &wrap));
        }
        for (port, c) in &mut self.connections {
            if c.again.is_some_and(|at| now >= at) {
                c.timeout = (c.timeout * 2).min(LONGEST_TIMEOUT);
                c.again = Some(now + c.timeout);
                if c.established {
                    let end = c.said.len().min(c.acknowledged + SEGMENT);
                    out.push(c.segment(*port, c.acknowledged, end));
                } else {
                    out.push(c.syn_ack(*port));
                }
            }
        }
    }

    pub fn next_deadline(&self) -> Mono {
        self.connections.values().filter_map(|c| c.again).fold(self.chatter, Mono::min)
    }
}

impl Connection {
    fn syn_ack(&self, port: u16) -> Vec<u8> {
        let ack = self.client_isn.wrapping_add(1);
        Tcp::new(server(), client(port)).seq(self.isn).ack(ack).flag(TcpFlags::SYN).frame()
    }

    fn segment(&self, port: u16, from: usize, end: usize) -> Vec<u8> {
        let seq = self.isn.wrapping_add(1).wrapping_add(from as u32);
        let ack = self.client_isn.wrapping_add(1).wrapping_add(self.owned.len() as u32);
        Tcp::new(server(), client(port)).seq(seq).ack(ack).data(&self.said[from..end]).frame()
    }

    fn hears(
        &mut self,
        now: Mono,
        port: u16,
        s: &TcpSegment<'_>,
        random: &mut Random,
        out: &mut Vec<Vec<u8>>,
    ) {
        let acknowledged = s.ack.0.wrapping_sub(self.isn).wrapping_sub(1) as usize;
        if acknowledged > self.said.len() {
            // As RFC 9293 3.10.7.4 has it, for what was never said: it says where it is, and takes nothing.
            return out.push(self.segment(port, self.said.len(), self.said.len()));
        }
        self.established = true;
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.timeout = TIMEOUT;
        }
        self.again = (self.acknowledged < self.said.len()).then_some(now + self.timeout);
        if s.payload.is_empty() {
            return;
        }
        let offset = s.seq.0.wrapping_sub(self.client_isn).wrapping_sub(1) as usize;
        let new =
            self.owned.len().checked_sub(offset).and_then(|old| s.payload.get(old..)).unwrap_or_default();
        if new.is_empty() {
            return out.push(self.segment(port, self.said.len(), self.said.len()));
        }
        self.owned.extend_from_slice(new);
        let from = self.said.len();
        // Requests are said whole: one segment, one request.
        for request in new.chunks_exact(REQUEST) {
            let mut said = answer(request, self.said.len());
            if request[0] == BY_CHANCE {
                said[0] = random.next() as u8;
            }
            self.said.extend(said);
        }
        self.again = Some(now + self.timeout);
        let mut at = from;
        while at < self.said.len() {
            let end = self.said.len().min(at + 1 + random.below(SEGMENT as u64) as usize);
            out.push(self.segment(port, at, end));
            at = end;
        }
    }
}

//! What the guest said and the primary is not known to have let out: a survivor says it again, first of all. Most of it
//! the clients have; duplicates are harmless to TCP.
//!
//! Bounded by [`MAX_FRAMES`] and [`MAX_BYTES`], beyond which the oldest goes: TCP repeats it by itself, after a timeout that
//! has doubled while nobody answered. TCP data is forgotten when the client has acknowledged it: the primary may have taken it
//! and never have said it itself. Anything else is forgotten when the primary had taken it two heartbeats ago. A SYN is never
//! said again from here: it carries the guest's own number until it is translated on the direct path, and the guest
//! repeats it. Behind it all come the notices to the clients ([`clients`]).

mod clients;

use crate::agent::beat::INTERVAL;
use crate::mono::Mono;
use crate::wire::{Ether, Ip, Seq, TcpFlags, TcpSegment, proto};
use clients::{Clients, NOTICES};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Most frames.
pub const MAX_FRAMES: usize = 4096;
/// Most bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// Address and port of the guest, and of its peer.
type Ends = [([u8; 16], u16); 2];

#[derive(Clone, Debug)]
struct Said {
    /// Messages sent before it.
    number: u64,
    frame: Vec<u8>,
    /// What acknowledges its data.
    data: Option<(Ends, Seq)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreleased {
    frames: VecDeque<Said>,
    bytes: usize,
    /// What clients have acknowledged, of the connections with data here.
    acknowledged: HashMap<Ends, Option<Seq>>,
    clients: Clients,
    /// What the clients are told, and how many times still.
    notices: VecDeque<(Vec<u8>, usize)>,
    sent: u64,
    /// What the primary had taken at its last heartbeat.
    taken: u64,
    /// Heartbeats within this time after one that counted do not: what was taken has as long to leave as ever.
    pause: Duration,
    counted: Mono,
    /// The guest is the service: what it says now goes out by itself.
    alone: bool,
    forgotten: u64,
}

impl Unreleased {
    /// The numbers begin anew.
    pub fn session(&mut self) {
        (self.sent, self.taken) = (0, 0);
        self.frames.iter_mut().for_each(|said| said.number = 0);
    }

    /// The guest said this frame, in wire space.
    pub fn said(&mut self, frame: &[u8]) {
        let segment = segment(frame).map(|(_, ip, segment)| (ends(&ip, &segment), segment));
        if !self.alone && segment.as_ref().is_some_and(|(_, s)| s.flags.has(TcpFlags::SYN)) {
            return;
        }
        let data = segment.filter(|(_, s)| !s.payload.is_empty());
        let data = data.map(|([guest, peer], s)| ([guest, peer], s.seq + s.payload.len() as u32));
        if let Some((ends, _)) = data {
            self.acknowledged.entry(ends).or_default();
        }
        self.bytes += frame.len();
        self.frames.push_back(Said { number: self.sent, frame: frame.to_vec(), data });
        if self.frames.len() > MAX_FRAMES || self.bytes > MAX_BYTES {
            self.tidy(0);
            // A quarter at a time, so that not every frame that follows looks through all.
            while self.frames.len() > MAX_FRAMES * 3 / 4 || self.bytes > MAX_BYTES * 3 / 4 {
                self.forgotten += 1;
                let gone = self.frames.pop_front().map_or(0, |said| said.frame.len());
                self.bytes -= gone;
            }
        }
    }

    /// It is on its way to the primary.
    pub const fn sent(&mut self) {
        self.sent += 1;
    }

    /// A client said this frame to the guest.
    pub fn heard(&mut self, frame: &[u8]) {
        let Some((link, ip, s)) = segment(frame) else { return };
        self.clients.heard(&link, &ip, &s);
        if self.acknowledged.is_empty() || !s.flags.has(TcpFlags::ACK) {
            return;
        }
        let [peer, guest] = ends(&ip, &s);
        if let Some(known) = self.acknowledged.get_mut(&[guest, peer])
            && known.is_none_or(|known| s.ack.after(known))
        {
            *known = Some(s.ack);
        }
    }

    /// Heartbeats come more often than [`INTERVAL`], or do not.
    pub const fn paced(&mut self, often: bool) {
        self.pause = if often { INTERVAL } else { Duration::ZERO };
    }

    /// A heartbeat of the primary says that it has taken so many messages of this session.
    pub fn told(&mut self, now: Mono, taken: u64) {
        if now.saturating_since(self.counted) >= self.pause {
            self.counted = now;
            self.taken(taken);
        }
    }

    /// The primary has taken so many messages of this session.
    fn taken(&mut self, taken: u64) {
        let before = std::mem::replace(&mut self.taken, taken);
        self.tidy(before);
    }

    /// Forgets what is acknowledged, and what needs no acknowledgement and was sent before the message `before`.
    fn tidy(&mut self, before: u64) {
        let acknowledged = &self.acknowledged;
        self.frames.retain(|said| match &said.data {
            Some((ends, end)) => {
                let known = acknowledged.get(ends).copied().flatten();
                known.is_none_or(|known| end.after(known))
            }
            None => said.number >= before,
        });
        self.bytes = self.frames.iter().map(|said| said.frame.len()).sum();
        let mut acknowledged = HashMap::new();
        for (ends, _) in self.frames.iter().filter_map(|said| said.data) {
            acknowledged.insert(ends, self.acknowledged.get(&ends).copied().flatten());
        }
        self.acknowledged = acknowledged;
    }

    /// Another state was loaded: its guest has said none of this.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.acknowledged.clear();
        self.bytes = 0;
    }

    /// From here on it is said to the network.
    pub fn take_over(&mut self) {
        self.tidy(0);
        self.alone = true;
        self.notices = std::mem::take(&mut self.clients).notices().map(|notice| (notice, NOTICES)).collect();
    }

    /// The next frame to say, once this side is the service.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if !self.alone {
            return None;
        }
        if let Some(said) = self.frames.pop_front() {
            self.bytes -= said.frame.len();
            return Some(said.frame);
        }
        // One round after the other: nobody waits for another's last.
        let (notice, times) = self.notices.pop_front()?;
        if times > 1 {
            self.notices.push_back((notice.clone(), times - 1));
        }
        Some(notice)
    }

    /// Whether there is something to say.
    pub fn speaks(&self) -> bool {
        self.alone && !(self.frames.is_empty() && self.notices.is_empty())
    }

    /// Frames that found no room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Clients that found no room.
    pub const fn clients_forgotten(&self) -> u64 {
        self.clients.forgotten()
    }
}

/// The sender's end and the receiver's.
const fn ends(ip: &Ip, segment: &TcpSegment<'_>) -> Ends {
    [(ip.src, segment.src_port), (ip.dst, segment.dst_port)]
}

/// The whole TCP segment in a frame.
fn segment(frame: &[u8]) -> Option<(Ether, Ip, TcpSegment<'_>)> {
    let link = Ether::parse(frame).ok()?;
    let ip = Ip::parse(frame, link.payload, link.ethertype).ok()?;
    if ip.protocol != proto::TCP || ip.fragment.is_some() {
        return None;
    }
    let segment = TcpSegment::parse(&frame[ip.payload..ip.end]).ok()?;
    Some((link, ip, segment))
}

#[cfg(test)]
mod tests;

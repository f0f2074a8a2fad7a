//! What the guest said and the primary is not known to have let out: a survivor says it again, first of all. Most of it
//! the clients have; duplicates are harmless to TCP.
//!
//! Bounded by [`MAX_FRAMES`] and [`MAX_BYTES`], beyond which the oldest goes: TCP repeats it by itself. What the primary had
//! taken from the link two heartbeats ago is forgotten. A SYN is never said again from here: it carries the guest's own
//! number until it is translated on the direct path, and the guest repeats it.

use crate::wire::{Ether, Ip, TcpFlags, TcpSegment, proto};
use std::collections::VecDeque;

/// Most frames.
pub const MAX_FRAMES: usize = 1024;
/// Most bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreleased {
    /// With the number of messages sent before it.
    frames: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    sent: u64,
    /// What the primary had taken at its last heartbeat.
    taken: u64,
    /// The guest is the service: what it says now goes out by itself.
    alone: bool,
    forgotten: u64,
}

impl Unreleased {
    /// The numbers begin anew.
    pub fn session(&mut self) {
        (self.sent, self.taken) = (0, 0);
        self.frames.iter_mut().for_each(|(number, _)| *number = 0);
    }

    /// The guest said this frame, in wire space.
    pub fn said(&mut self, frame: &[u8]) {
        if !self.alone && is_syn(frame) {
            return;
        }
        self.bytes += frame.len();
        self.frames.push_back((self.sent, frame.to_vec()));
        while self.frames.len() > MAX_FRAMES || self.bytes > MAX_BYTES {
            self.forget();
            self.forgotten += 1;
        }
    }

    /// It is on its way to the primary.
    pub const fn sent(&mut self) {
        self.sent += 1;
    }

    /// The primary has taken so many messages of this session.
    pub fn taken(&mut self, taken: u64) {
        let before = std::mem::replace(&mut self.taken, taken);
        while self.frames.front().is_some_and(|(number, _)| *number < before) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.bytes -= self.frames.pop_front().map_or(0, |(_, frame)| frame.len());
    }

    /// Another state was loaded: its guest has said none of this.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// From here on it is said to the network.
    pub const fn take_over(&mut self) {
        self.alone = true;
    }

    /// The next frame to say, once this side is the service.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let (_, frame) = if self.alone { self.frames.pop_front()? } else { return None };
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Frames that found no room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

fn is_syn(frame: &[u8]) -> bool {
    let Ok(link) = Ether::parse(frame) else { return false };
    let Ok(ip) = Ip::parse(frame, link.payload, link.ethertype) else { return false };
    ip.protocol == proto::TCP
        && ip.fragment.is_none()
        && TcpSegment::parse(&frame[ip.payload..ip.end]).is_ok_and(|s| s.flags.has(TcpFlags::SYN))
}

#[cfg(test)]
mod tests;

//! Held frames as copies from a BPF ring buffer, released through a packet socket: for kernels without AF_XDP.
//!
//! The ring only hands over; a frame is copied out at once into a buffer of its own, where it waits. When all buffers
//! are taken, frames stay in the ring, and when that is full too, they are lost, counted by the program.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use colo_ebpf::MAX_FRAME;

use super::super::counters::Counters;
use super::super::error::DatapathError;
use super::super::gaps::Gaps;
use super::super::interface::{Interface, VLAN_TAG};
use super::super::packet::{PacketSocket, Sent};
use super::super::record;
use super::super::xsk::umem::{HEADROOM, Occupancy, State, Umem};
use super::super::{Captured, FrameId};
use super::{Hold, reserve};
use crate::mono::Mono;
use crate::path::Side;

/// Smallest buffer.
const MIN_CHUNK: u32 = 2048;

/// See the module.
pub(in super::super) struct RingHold {
    ring: RingBuf<MapData>,
    uplink: Option<PacketSocket>,
    buffers: Umem,
    longest: u32,
    free: Vec<u32>,
    /// Released, in order; at most one entry per buffer.
    waiting: VecDeque<u32>,
    gaps: Gaps,
    refused: u64,
    unsendable: u64,
}

impl RingHold {
    /// Reads frames of `guest` from `ring` into `frames` buffers. `gaps` is where their numbers begin.
    pub fn open(
        ring: RingBuf<MapData>,
        guest: &Interface,
        uplink: &Interface,
        frames: u32,
        gaps: Gaps,
    ) -> Result<Self, DatapathError> {
        let buffers = Umem::new(frames, chunk_for(guest)).map_err(|source| DatapathError::Packet {
            interface: guest.name.clone(),
            step: "frame memory (fewer --frames need less)",
            source,
        })?;
        Ok(Self {
            ring,
            uplink: Some(PacketSocket::open(uplink, false)?),
            buffers,
            longest: chunk_for(guest) - HEADROOM - VLAN_TAG,
            free: (0..frames).rev().collect(),
            waiting: VecDeque::new(),
            gaps,
            refused: 0,
            unsendable: 0,
        })
    }

    /// True if there is a buffer for a frame of the guest.
    fn has_room(&self) -> bool {
        self.free.len() > reserve(self.buffers.frames()) as usize
    }

    fn recycle(&mut self, index: u32, from: State) -> bool {
        let recycled = self.buffers.transfer(index, from, State::Free);
        if recycled {
            self.free.push(index);
        }
        recycled
    }
}

impl Hold for RingHold {
    fn next(&mut self) -> Option<Captured> {
        loop {
            if !self.has_room() {
                return None;
            }
            let item = self.ring.next()?;
            let Some((header, frame)) = record::read(&item) else { continue };
            // The gaps of a series are far shorter than 32 bits.
            self.gaps.arrived(header.index as u32);
            let index = *self.free.last()?;
            if !self.buffers.write(index, frame) {
                debug_assert!(false, "the program let a frame of {} bytes through", frame.len());
                continue;
            }
            self.free.pop();
            self.buffers.transfer(index, State::Free, State::Held);
            return Some(Captured {
                id: FrameId(index),
                len: header.len,
                stamp: Mono::from_nanos(header.stamp_ns),
            });
        }
    }

    fn frame(&self, index: u32) -> &[u8] {
        self.buffers.frame(index)
    }

    fn frame_mut(&mut self, index: u32) -> &mut [u8] {
        self.buffers.frame_mut(index)
    }

    fn release(&mut self, index: u32) -> bool {
        let released = self.buffers.transfer(index, State::Held, State::Sending);
        if released {
            self.waiting.push_back(index);
        }
        released
    }

    fn discard(&mut self, index: u32) -> bool {
        self.recycle(index, State::Held)
    }

    fn emit(&mut self, frame: &[u8]) -> bool {
        let Some(&index) = self.free.last() else { return false };
        if frame.is_empty() || !self.buffers.write(index, frame) {
            return false;
        }
        self.free.pop();
        self.buffers.transfer(index, State::Free, State::Sending);
        self.waiting.push_back(index);
        true
    }

    fn flush(&mut self, may: bool) -> io::Result<bool> {
        let Some(uplink) = &self.uplink else { return Ok(self.waiting.is_empty()) };
        while let Some(&index) = self.waiting.front().filter(|_| may) {
            match uplink.send(self.buffers.outgoing(index))? {
                Sent::Yes => {}
                Sent::Never => self.unsendable += 1,
                Sent::NotNow => {
                    self.refused += 1;
                    return Ok(false);
                }
            }
            self.waiting.pop_front();
            if self.buffers.transfer(index, State::Sending, State::Free) {
                self.free.push(index);
            }
        }
        Ok(true)
    }

    fn occupancy(&self) -> Occupancy {
        self.buffers.occupancy()
    }

    fn lost(&self) -> u64 {
        self.gaps.lost() + self.unsendable
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.has_room().then(|| self.ring.as_fd())
    }

    fn count(&self, counters: &mut Counters) {
        counters.add(
            "hold_lost",
            self.lost(),
            "Guest frames that found no room on the way to the agent, or none on the uplink.",
        );
        counters.add(
            "release_refused",
            self.refused,
            "Times the uplink took no more frames for the moment; they wait in order.",
        );
        counters.add(
            "release_unsendable",
            self.unsendable,
            "Released frames that a packet socket cannot send: an 802.1ad tag needs an uplink MTU that is larger by 4.",
        );
    }

    fn let_go(&mut self, side: Side) {
        // What the guest says comes through a map, whatever its interface.
        if side == Side::Uplink {
            self.uplink = None;
        }
    }

    fn attach(&mut self, side: Side, interface: &Interface) -> Result<(), DatapathError> {
        if side == Side::Uplink && self.uplink.is_none() {
            self.uplink = Some(PacketSocket::open(interface, false)?);
        }
        Ok(())
    }

    fn capture_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn abandon(&mut self) -> u64 {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|&index| {
            self.recycle(index, State::Sending);
        });
        waiting.len() as u64
    }

    fn longest(&self) -> u32 {
        self.longest
    }
}

fn chunk_for(interface: &Interface) -> u32 {
    let longest = interface.longest_frame().min(MAX_FRAME as u32);
    (longest + HEADROOM + VLAN_TAG).next_power_of_two().max(MIN_CHUNK)
}

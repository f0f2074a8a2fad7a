//! Held frames as buffers of AF_XDP sockets: nothing is copied to hold, release or discard a frame.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::super::counters::Counters;
use super::super::error::DatapathError;
use super::super::gaps::Gaps;
use super::super::interface::{Interface, VLAN_TAG};
use super::super::xsk::socket::{Receiver, Transmitter};
use super::super::xsk::umem::{HEADROOM, Occupancy, State, Umem};
use super::super::{Captured, FrameId};
use super::{Hold, reserve};
use crate::mono::Mono;

/// Buffer sizes: the kernel wants a power of two of at most a page.
const CHUNKS: [u32; 2] = [2048, 4096];

/// Bytes of a buffer that are not for an untagged frame: a stamp may have to be put before it.
const BESIDE: u32 = HEADROOM + colo_ebpf::CAPTURE_META_LEN as u32 + VLAN_TAG;

/// See the module.
#[derive(Debug)]
pub(in super::super) struct SocketHold {
    // Closed before the memory goes.
    uplink: Transmitter,
    guest: Receiver,
    umem: Umem,
    free: Vec<u32>,
    gaps: Gaps,
    unstamped: u64,
}

impl SocketHold {
    /// Longest frame without a VLAN tag that can be held for an interface with this MTU, in bytes.
    pub fn longest(interface: &Interface) -> u32 {
        chunk_for(interface) - BESIDE
    }

    /// Sockets on both interfaces over one memory of `frames` buffers. `gaps` is where the numbers of frames begin.
    pub fn open(
        guest: &Interface,
        uplink: &Interface,
        frames: u32,
        gaps: Gaps,
    ) -> Result<Self, DatapathError> {
        let umem = Umem::new(frames, chunk_for(guest)).map_err(|source| DatapathError::Socket {
            interface: guest.name.clone(),
            step: "frame memory (fewer --frames need less)",
            source,
        })?;
        let receiver = Receiver::bind(guest, &umem)?;
        let transmitter = Transmitter::bind(uplink, &umem, &receiver)?;
        let free = (0..frames).rev().collect();
        let mut hold = Self { uplink: transmitter, guest: receiver, umem, free, gaps, unstamped: 0 };
        hold.refill();
        Ok(hold)
    }

    /// The socket that captured frames are sent to.
    pub fn capture_socket(&self) -> BorrowedFd<'_> {
        self.guest.as_fd()
    }

    fn recycle(&mut self, index: u32, from: State) -> bool {
        let recycled = self.umem.transfer(index, from, State::Free);
        if recycled {
            self.free.push(index);
        }
        recycled
    }

    /// Gives the kernel all free buffers but the reserve.
    fn refill(&mut self) {
        let keep = reserve(self.umem.frames()) as usize;
        if self.free.len() <= keep {
            return;
        }
        for index in self.free.drain(keep..) {
            let address = self.umem.clear(index);
            let given = self.umem.transfer(index, State::Free, State::Filling);
            debug_assert!(given, "buffer {index} was in the free list");
            self.guest.fill.push(address);
        }
        self.guest.fill.submit();
    }

    fn reap(&mut self) {
        while let Some(address) = self.uplink.completed.pop() {
            let recycled =
                self.umem.index_of(address).is_some_and(|index| self.recycle(index, State::Sending));
            debug_assert!(recycled, "completion of {address:#x}, which was not being sent");
        }
        self.refill();
    }
}

impl Hold for SocketHold {
    fn next(&mut self) -> Option<Captured> {
        loop {
            let descriptor = self.guest.received.pop()?;
            let index = self.umem.index_of(descriptor.addr);
            let Some(index) = index.filter(|&index| self.umem.transfer(index, State::Filling, State::Held))
            else {
                debug_assert!(false, "{:#x} received, which was not in the fill ring", descriptor.addr);
                continue;
            };
            let meta = self.umem.receive(index, descriptor.addr, descriptor.len);
            let stamp = if let Some(meta) = meta {
                self.gaps.arrived(meta.index);
                Mono::from_nanos(meta.stamp_ns)
            } else {
                self.unstamped += 1;
                Mono::now()
            };
            // A buffer's length is a u32.
            let len = self.umem.frame(index).len() as u32;
            return Some(Captured { id: FrameId(index), len, stamp });
        }
    }

    fn frame(&self, index: u32) -> &[u8] {
        self.umem.frame(index)
    }

    fn frame_mut(&mut self, index: u32) -> &mut [u8] {
        self.umem.frame_mut(index)
    }

    fn release(&mut self, index: u32) -> bool {
        let released = self.umem.transfer(index, State::Held, State::Sending);
        if released {
            self.uplink.transmit.push(self.umem.descriptor(index));
        }
        released
    }

    fn discard(&mut self, index: u32) -> bool {
        self.recycle(index, State::Held)
    }

    fn emit(&mut self, frame: &[u8]) -> bool {
        if self.free.is_empty() {
            self.reap();
        }
        let Some(&index) = self.free.last() else { return false };
        if frame.is_empty() || !self.umem.write(index, frame) {
            return false;
        }
        self.free.pop();
        let sending = self.umem.transfer(index, State::Free, State::Sending);
        debug_assert!(sending, "buffer {index} was in the free list");
        self.uplink.transmit.push(self.umem.descriptor(index));
        true
    }

    fn flush(&mut self, may: bool) -> io::Result<bool> {
        let sent = if may {
            self.uplink.transmit.submit();
            self.uplink.kick()
        } else {
            Ok(true)
        };
        self.reap();
        sent
    }

    fn occupancy(&self) -> Occupancy {
        self.umem.occupancy()
    }

    fn lost(&self) -> u64 {
        let told = self.guest.statistics().map_or(0, |s| s.rx_dropped + s.rx_ring_full + s.rx_invalid_descs);
        told.max(self.gaps.lost())
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.guest.as_fd())
    }

    fn count(&self, counters: &mut Counters) {
        counters.add(
            "hold_unstamped",
            self.unstamped,
            "Held frames without a capture stamp: dated when read.",
        );
        counters.add(
            "hold_lost",
            self.lost(),
            "Guest frames that found no buffer or were lost on the way to the agent.",
        );
        counters.add("release_refused", self.uplink.refused(), "Times the uplink took no more frames for the moment; each may have cost one frame, as on a wire.");
        if let Ok(s) = self.guest.statistics() {
            counters.add(
                "xsk_rx_dropped",
                s.rx_dropped,
                "XDP_STATISTICS: guest frames dropped by the socket, no buffer or too long.",
            );
            counters.add(
                "xsk_rx_invalid_descs",
                s.rx_invalid_descs,
                "XDP_STATISTICS: bad fill ring entries.",
            );
            counters.add(
                "xsk_rx_ring_full",
                s.rx_ring_full,
                "XDP_STATISTICS: guest frames dropped because the receive ring was full.",
            );
            counters.add(
                "xsk_fill_ring_empty",
                s.rx_fill_ring_empty_descs,
                "XDP_STATISTICS: times the fill ring was empty.",
            );
        }
        if let Ok(s) = self.uplink.statistics() {
            counters.add(
                "xsk_tx_invalid_descs",
                s.tx_invalid_descs,
                "XDP_STATISTICS: bad transmit ring entries.",
            );
        }
    }
}

fn chunk_for(interface: &Interface) -> u32 {
    let needed = interface.longest_frame().saturating_add(BESIDE);
    CHUNKS.into_iter().find(|&chunk| chunk >= needed).unwrap_or(CHUNKS[CHUNKS.len() - 1])
}

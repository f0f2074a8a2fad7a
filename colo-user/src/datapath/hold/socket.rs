//! Held frames as buffers of AF_XDP sockets: nothing is copied to hold, release or discard a frame.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use super::super::counters::Counters;
use super::super::error::DatapathError;
use super::super::gaps::Gaps;
use super::super::interface::{Interface, VLAN_TAG};
use super::super::xsk::socket::{BUSY_LIMIT, Receiver, Transmitter};
use super::super::xsk::umem::{HEADROOM, Occupancy, State, Umem};
use super::super::{Captured, FrameId};
use super::{Hold, reserve};
use crate::mono::Mono;
use crate::path::Side;

/// Buffer sizes: the kernel wants a power of two of at most a page.
const CHUNKS: [u32; 2] = [2048, 4096];

/// Between two attempts to have a queue again that is busy.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a buffer that are not for an untagged frame: a stamp may have to be put before it.
const BESIDE: u32 = HEADROOM + colo_ebpf::CAPTURE_META_LEN as u32 + VLAN_TAG;

const NONE: libc::xdp_statistics = libc::xdp_statistics {
    rx_dropped: 0,
    rx_invalid_descs: 0,
    tx_invalid_descs: 0,
    rx_ring_full: 0,
    rx_fill_ring_empty_descs: 0,
    tx_ring_empty_descs: 0,
};

/// See the module. Either socket may be closed for a while, with the memory and what lies in it kept.
#[derive(Debug)]
pub(in super::super) struct SocketHold {
    // Closed before the memory goes.
    uplink: Option<Transmitter>,
    guest: Option<Receiver>,
    /// The uplink, unless it is gone.
    home: Option<Interface>,
    /// When its queue was last asked for.
    asked: Option<Instant>,
    umem: Umem,
    longest: u32,
    free: Vec<u32>,
    /// What a socket that is closed had captured, in order; at most one entry per buffer.
    rescued: VecDeque<Captured>,
    /// Released and not given to the kernel, in order; at most one entry per buffer.
    waiting: VecDeque<u32>,
    gaps: Gaps,
    unstamped: u64,
    before: Before,
}

/// What was counted of sockets that are closed.
#[derive(Debug)]
struct Before {
    guest: libc::xdp_statistics,
    uplink: libc::xdp_statistics,
    refused: u64,
}

impl SocketHold {
    /// Sockets on both interfaces over one memory of `frames` buffers. `gaps` is where the numbers of frames begin.
    pub fn open(
        guest: &Interface,
        uplink: &Interface,
        frames: u32,
        gaps: Gaps,
    ) -> Result<Self, DatapathError> {
        let chunk = chunk_for(guest);
        let umem = Umem::new(frames, chunk).map_err(|source| DatapathError::Socket {
            interface: guest.name.clone(),
            step: "frame memory (fewer --frames need less)",
            source,
        })?;
        let receiver = Receiver::bind(guest, &umem, None, BUSY_LIMIT)?;
        let transmitter = Transmitter::bind(uplink, &umem, Some(&receiver), BUSY_LIMIT)?;
        let mut hold = Self {
            uplink: Some(transmitter),
            guest: Some(receiver),
            home: Some(uplink.clone()),
            asked: None,
            umem,
            longest: chunk - BESIDE,
            free: (0..frames).rev().collect(),
            rescued: VecDeque::new(),
            waiting: VecDeque::new(),
            gaps,
            unstamped: 0,
            before: Before { guest: NONE, uplink: NONE, refused: 0 },
        };
        hold.refill();
        Ok(hold)
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
        let Some(guest) = &mut self.guest else { return };
        let keep = reserve(self.umem.frames()) as usize;
        if self.free.len() <= keep {
            return;
        }
        for index in self.free.drain(keep..) {
            let address = self.umem.clear(index);
            let given = self.umem.transfer(index, State::Free, State::Filling);
            debug_assert!(given, "buffer {index} was in the free list");
            guest.fill.push(address);
        }
        guest.fill.submit();
    }

    fn reap(&mut self) {
        while let Some(address) = self.uplink.as_mut().and_then(|uplink| uplink.completed.pop()) {
            let recycled =
                self.umem.index_of(address).is_some_and(|index| self.recycle(index, State::Sending));
            debug_assert!(recycled, "completion of {address:#x}, which was not being sent");
        }
        self.refill();
    }

    fn receive(&mut self) -> Option<Captured> {
        loop {
            let descriptor = self.guest.as_mut()?.received.pop()?;
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

    /// Gives the kernel what waits, as far as its ring has room.
    fn submit(&mut self) {
        let Some(uplink) = &mut self.uplink else { return };
        for index in self.waiting.drain(..self.waiting.len().min(uplink.transmit.room() as usize)) {
            uplink.transmit.push(self.umem.descriptor(index));
        }
        uplink.transmit.submit();
    }

    /// Closes the uplink's socket, and takes back what the kernel has not sent: it waits again, in order. From an open one nothing can
    /// be taken back.
    fn take_back(&mut self) {
        self.reap();
        let statistics = self.statistics(Side::Uplink);
        let Some(uplink) = self.uplink.take() else { return };
        self.before.uplink = statistics;
        self.before.refused += uplink.refused();
        let (umem, mut back) = (&self.umem, Vec::new());
        uplink.transmit.untaken(|descriptor| back.extend(umem.index_of(descriptor.addr)));
        drop(uplink);
        // One that the device refused may have left the ring unsaid, and its buffer have come there again since.
        let mut seen = vec![false; umem.frames() as usize];
        for index in back.into_iter().rev() {
            if umem.is(index, State::Sending) && !std::mem::replace(&mut seen[index as usize], true) {
                self.waiting.push_front(index);
            }
        }
        // What the kernel took it has copied.
        self.reclaim(State::Sending);
    }

    /// Opens the uplink's socket again if something waits for it. Its queue is busy for a while after the last one was closed.
    fn reopen(&mut self) {
        let Some(home) = &self.home else { return };
        let due = self.asked.is_none_or(|asked| asked.elapsed() >= ASK_PAUSE);
        if self.uplink.is_none() && !self.waiting.is_empty() && due {
            self.asked = Some(Instant::now());
            self.uplink = Transmitter::bind(home, &self.umem, self.guest.as_ref(), Duration::ZERO).ok();
        }
    }

    /// Makes all buffers in `state` free that do not wait.
    fn reclaim(&mut self, state: State) {
        let mut waits = vec![false; self.umem.frames() as usize];
        self.waiting.iter().for_each(|&index| waits[index as usize] = true);
        for index in (0..self.umem.frames()).filter(|&index| !waits[index as usize]) {
            self.recycle(index, state);
        }
    }

    fn statistics(&self, side: Side) -> libc::xdp_statistics {
        let (now, before) = match side {
            Side::Guest => {
                (self.guest.as_ref().and_then(|socket| socket.statistics().ok()), &self.before.guest)
            }
            Side::Uplink => {
                (self.uplink.as_ref().and_then(|socket| socket.statistics().ok()), &self.before.uplink)
            }
        };
        let now = now.unwrap_or(NONE);
        libc::xdp_statistics {
            rx_dropped: before.rx_dropped + now.rx_dropped,
            rx_invalid_descs: before.rx_invalid_descs + now.rx_invalid_descs,
            tx_invalid_descs: before.tx_invalid_descs + now.tx_invalid_descs,
            rx_ring_full: before.rx_ring_full + now.rx_ring_full,
            rx_fill_ring_empty_descs: before.rx_fill_ring_empty_descs + now.rx_fill_ring_empty_descs,
            tx_ring_empty_descs: before.tx_ring_empty_descs + now.tx_ring_empty_descs,
        }
    }
}

impl Hold for SocketHold {
    fn next(&mut self) -> Option<Captured> {
        self.rescued.pop_front().or_else(|| self.receive())
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
            self.waiting.push_back(index);
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
        self.waiting.push_back(index);
        true
    }

    fn flush(&mut self, may: bool) -> io::Result<bool> {
        let sent = if may {
            self.reopen();
            self.submit();
            let taken = self.uplink.as_mut().map_or(Ok(true), Transmitter::kick);
            taken.map(|taken| taken && self.waiting.is_empty())
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
        let told = self.statistics(Side::Guest);
        (told.rx_dropped + told.rx_ring_full + told.rx_invalid_descs).max(self.gaps.lost())
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.guest.as_ref().map(Receiver::as_fd)
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
        let refused = self.before.refused + self.uplink.as_ref().map_or(0, Transmitter::refused);
        counters.add("release_refused", refused, "Times the uplink took no more frames for the moment; each may have cost one frame, as on a wire.");
        let guest = self.statistics(Side::Guest);
        counters.add(
            "xsk_rx_dropped",
            guest.rx_dropped,
            "XDP_STATISTICS: guest frames dropped by the socket, no buffer or too long.",
        );
        counters.add(
            "xsk_rx_invalid_descs",
            guest.rx_invalid_descs,
            "XDP_STATISTICS: bad fill ring entries.",
        );
        counters.add(
            "xsk_rx_ring_full",
            guest.rx_ring_full,
            "XDP_STATISTICS: guest frames dropped because the receive ring was full.",
        );
        counters.add(
            "xsk_fill_ring_empty",
            guest.rx_fill_ring_empty_descs,
            "XDP_STATISTICS: times the fill ring was empty.",
        );
        counters.add(
            "xsk_tx_invalid_descs",
            self.statistics(Side::Uplink).tx_invalid_descs,
            "XDP_STATISTICS: bad transmit ring entries.",
        );
    }

    fn let_go(&mut self, side: Side) {
        match side {
            Side::Guest => {
                self.before.guest = self.statistics(Side::Guest);
                while let Some(captured) = self.receive() {
                    self.rescued.push_back(captured);
                }
                self.guest = None;
                self.reclaim(State::Filling);
            }
            Side::Uplink => {
                self.take_back();
                self.home = None;
            }
        }
    }

    fn attach(&mut self, side: Side, interface: &Interface) -> Result<(), DatapathError> {
        match side {
            Side::Guest if self.guest.is_none() => {
                let sharer = self.uplink.as_ref();
                self.guest = Some(Receiver::bind(interface, &self.umem, sharer, Duration::ZERO)?);
                self.refill();
            }
            Side::Uplink if self.uplink.is_none() => {
                let sharer = self.guest.as_ref();
                self.uplink = Some(Transmitter::bind(interface, &self.umem, sharer, Duration::ZERO)?);
                self.home = Some(interface.clone());
            }
            Side::Guest | Side::Uplink => {}
        }
        Ok(())
    }

    fn capture_socket(&self) -> Option<BorrowedFd<'_>> {
        self.readable()
    }

    fn abandon(&mut self) -> u64 {
        if self.uplink.as_ref().is_some_and(|uplink| uplink.transmit.waiting() != 0) {
            self.take_back();
        }
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
    let needed = interface.longest_frame().saturating_add(BESIDE);
    CHUNKS.into_iter().find(|&chunk| chunk >= needed).unwrap_or(CHUNKS[CHUNKS.len() - 1])
}

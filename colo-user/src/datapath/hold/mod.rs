//! Where the guest's output waits: parked in buffers, until it is released in the caller's order or discarded.

mod ring;
mod socket;

use std::io;
use std::os::fd::BorrowedFd;

pub(super) use ring::RingHold;
pub(super) use socket::SocketHold;

use super::Captured;
use super::counters::Counters;
use super::error::DatapathError;
use super::interface::Interface;
use super::xsk::umem::Occupancy;
use crate::path::Side;

/// Share of the buffers kept for frames of our own, so that a full hold cannot keep us silent.
const RESERVE_SHARE: u32 = 16;

/// A place to park frames. A frame is captured once, and then released or discarded once.
pub(super) trait Hold: Send {
    /// The next frame of the guest, parked.
    fn next(&mut self) -> Option<Captured>;
    /// A parked frame; empty if `index` is none.
    fn frame(&self, index: u32) -> &[u8];
    /// A parked frame, to be changed.
    fn frame_mut(&mut self, index: u32) -> &mut [u8];
    /// Puts a parked frame behind those that wait for the uplink; false if `index` is none.
    fn release(&mut self, index: u32) -> bool;
    /// Gives a parked frame's buffer back; false if `index` is none.
    fn discard(&mut self, index: u32) -> bool;
    /// Puts a copy of `frame` behind those that wait for the uplink; false without room.
    fn emit(&mut self, frame: &[u8]) -> bool;
    /// Sends what waits, if it `may`, and gives finished buffers back. Returns whether nothing waits for the uplink any more.
    fn flush(&mut self, may: bool) -> io::Result<bool>;
    /// Where the buffers are.
    fn occupancy(&self) -> Occupancy;
    /// Frames of the guest that were captured and never got here.
    fn lost(&self) -> u64;
    /// Readable when a frame may have come; `None` while there is no buffer for one.
    fn readable(&self) -> Option<BorrowedFd<'_>>;
    /// Adds this backend's counters.
    fn count(&self, counters: &mut Counters);
    /// One side's interface is gone. What it had captured is handed out still; what it had not sent waits for the next, in
    /// order.
    fn let_go(&mut self, side: Side);
    /// There is another in its place. Nothing happens if this side was not let go of.
    fn attach(&mut self, side: Side, interface: &Interface) -> Result<(), DatapathError>;
    /// The socket that captured frames are sent to, where it takes one and there is one.
    fn capture_socket(&self) -> Option<BorrowedFd<'_>>;
    /// What waits for the uplink never leaves. Returns how many frames these were.
    fn abandon(&mut self) -> u64;
    /// Longest frame without a VLAN tag that can be held, in bytes.
    fn longest(&self) -> u32;
}

/// Buffers of `frames` kept for frames of our own.
fn reserve(frames: u32) -> u32 {
    frames / RESERVE_SHARE
}

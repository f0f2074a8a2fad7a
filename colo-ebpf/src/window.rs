//! The head of a frame in memory of our own, where it is read, and edited before the frame is.
//!
//! Offsets come out of the frame itself. Whether one makes sense is for the caller to say; here it is only kept inside
//! the memory, by an AND that the compiler cannot see through: a check that it can see it would merge with others, and
//! the verifier would lose the bound.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, macros::map, maps::PerCpuArray, programs::XdpContext};
use colo_ebpf::translation::{FlowEntry, FlowKey, WINDOW};

use crate::{edit::Change, parse};

/// TCP flags.
pub const FIN: u32 = 0x01;
/// Begins a connection.
pub const SYN: u32 = 0x02;
/// Ends one.
pub const RST: u32 = 0x04;
/// The acknowledgement number counts.
pub const ACK: u32 = 0x10;

/// Longest TCP header.
pub const MAX_HEADER: u64 = 60;

const SLACK: usize = 64;
const BPF_XDP_STORE_BYTES: usize = 190;

type StoreBytes = unsafe extern "C" fn(*mut xdp_md, u64, *const u8, u64) -> i64;

/// The head of one frame, and what was found in it. Offsets are from the start of the frame.
#[repr(C)]
pub struct Window {
    bytes: [u8; WINDOW + SLACK],
    /// The flow, if it is of TCP.
    pub key: FlowKey,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u32,
    /// 1: a signature covers the numbers.
    pub signed: u32,
    /// Bytes of the frame.
    pub len: u64,
    /// Start of the TCP header, or of the quote of one.
    pub at: u64,
    /// Bytes of the TCP header, as far as they are there.
    pub header: u64,
    /// End of the packet, by its own length.
    pub end: u64,
    /// Start of the ICMP message that quotes; 0 for a segment.
    pub icmp: u64,
    /// Where the TCP checksum is that changes with the numbers; 0 for none.
    pub sum: u64,
    /// Data of the last timestamps option; 0 for none.
    pub timestamps: u64,
    /// The options that carry numbers, by their kind byte.
    pub numbers: [u64; 4],
    /// See [`forget`].
    cell: u64,
    /// What to do to those.
    pub change: Change,
    /// An entry while it is put together.
    pub fresh: FlowEntry,
}

#[map]
static HEAD: PerCpuArray<Window> = PerCpuArray::with_max_entries(1, 0);

impl Window {
    /// The window of this processor, with the head of the frame in it. Programs on one processor do not interrupt each
    /// other. `None` for an empty frame.
    #[inline(always)]
    pub fn load(ctx: &XdpContext) -> Option<*mut Self> {
        let window = HEAD.get_ptr_mut(0)?;
        let len = parse::frame_len(ctx);
        let mut take = if len < WINDOW as u64 { len } else { WINDOW as u64 };
        if take == 0 {
            return None;
        }
        // SAFETY: arithmetic on one register, which leaves 1 to WINDOW as they are.
        unsafe { asm!("{0} += -1", "{0} &= 511", "{0} += 1", inout(reg) take) };
        // SAFETY: the map's value is a valid window, and `take` is at most the length of its bytes.
        unsafe {
            (*window).len = len;
            parse::load(ctx.ctx, 0, (&raw mut (*window).bytes).cast(), take).then_some(window)
        }
    }
}

/// The same value, of which the verifier knows nothing any more. What a loop or a branch leaves behind looks the same on all ways
/// then, and it goes on with one of them instead of each.
#[inline(always)]
pub fn forget(window: *mut Window, value: u64) -> u64 {
    // SAFETY: the window is valid.
    unsafe {
        let cell = &raw mut (*window).cell;
        cell.write_volatile(value);
        cell.read_volatile()
    }
}

/// Keeps an offset inside the window.
#[inline(always)]
fn bounded(mut at: u64) -> usize {
    const { assert!(WINDOW == 512) };
    // SAFETY: arithmetic on one register.
    unsafe { asm!("{0} &= 511", inout(reg) at) };
    at as usize
}

/// The byte at `at`.
#[inline(always)]
pub fn u8_at(window: *mut Window, at: u64) -> u64 {
    // SAFETY: the offset is bounded; up to 64 bytes follow it.
    u64::from(unsafe { *(&raw const (*window).bytes).cast::<u8>().add(bounded(at)) })
}

/// The big-endian number at `at`.
#[inline(always)]
pub fn u16_at(window: *mut Window, at: u64) -> u64 {
    // SAFETY: as above.
    let bytes = unsafe { *(&raw const (*window).bytes).cast::<u8>().add(bounded(at)).cast::<[u8; 2]>() };
    u64::from(u16::from_be_bytes(bytes))
}

/// The big-endian number at `at`.
#[inline(always)]
pub fn u32_at(window: *mut Window, at: u64) -> u32 {
    // SAFETY: as above.
    let bytes = unsafe { *(&raw const (*window).bytes).cast::<u8>().add(bounded(at)).cast::<[u8; 4]>() };
    u32::from_be_bytes(bytes)
}

/// The 16 bytes at `at`.
#[inline(always)]
pub fn address_at(window: *mut Window, at: u64) -> [u8; 16] {
    // SAFETY: as above.
    unsafe { *(&raw const (*window).bytes).cast::<u8>().add(bounded(at)).cast::<[u8; 16]>() }
}

/// The 4 bytes at `at`, and twelve of zero.
#[inline(always)]
pub fn short_address_at(window: *mut Window, at: u64) -> [u8; 16] {
    let mut address = [0; 16];
    let [a, b, c, d] = u32_at(window, at).to_be_bytes();
    (address[0], address[1], address[2], address[3]) = (a, b, c, d);
    address
}

#[inline(always)]
fn put16(window: *mut Window, at: u64, value: u16) {
    // SAFETY: as above.
    unsafe {
        *(&raw mut (*window).bytes).cast::<u8>().add(bounded(at)).cast::<[u8; 2]>() = value.to_be_bytes();
    }
}

/// Replaces the number at `at`, with every checksum that covers it kept as right or as wrong as it was (RFC 1624).
#[inline(never)]
pub fn put(window: *mut Window, at: u64, new: u32) -> u64 {
    let old = u32_at(window, at);
    if old == new {
        return 0;
    }
    // SAFETY: as above, and the window is valid.
    let (start, sum, icmp) = unsafe {
        *(&raw mut (*window).bytes).cast::<u8>().add(bounded(at)).cast::<[u8; 4]>() = new.to_be_bytes();
        ((*window).at, (*window).sum, (*window).icmp)
    };
    if sum != 0 {
        let before = u16_at(window, sum) as u16;
        let after = update32(before, old, new, (at - start) & 1);
        put16(window, sum, after);
        if icmp != 0 {
            // The checksum itself lies under the outer one, on an even offset.
            let carried = update(u16_at(window, icmp + 2) as u16, u64::from(!before) + u64::from(after));
            put16(window, icmp + 2, carried);
        }
    }
    if icmp != 0 {
        let after = update32(u16_at(window, icmp + 2) as u16, old, new, (at - icmp) & 1);
        put16(window, icmp + 2, after);
    }
    0
}

/// The stored checksum after `old` became `new`; on an odd offset each word's bytes are swapped in the sum.
#[inline(always)]
fn update32(stored: u16, old: u32, new: u32, odd: u64) -> u16 {
    let (old, new) = if odd != 0 { (old.rotate_left(8), new.rotate_left(8)) } else { (old, new) };
    let old = u64::from(!old);
    let new = u64::from(new);
    update(stored, (old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff))
}

/// The stored checksum after words that sum up to `change` came in (those that went, complemented).
#[inline(always)]
fn update(stored: u16, change: u64) -> u16 {
    !fold(u64::from(!stored) + change)
}

/// A sum of less than 2^32 folded to 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Puts `len` bytes of the window, at most 64, into the frame. False if the kernel refuses, and then the frame is as it was.
#[inline(always)]
pub fn store(ctx: &XdpContext, window: *mut Window, at: u64, mut len: u64) -> bool {
    if len == 0 {
        return true;
    }
    // SAFETY: arithmetic on one register, which leaves 1 to 64 as they are.
    unsafe { asm!("{0} += -1", "{0} &= 63", "{0} += 1", inout(reg) len) };
    // SAFETY: 190 is bpf_xdp_store_bytes (Linux 5.18), which checks that the frame is long enough; the offset is bounded,
    // and at least 64 bytes follow it.
    unsafe {
        let from = (&raw const (*window).bytes).cast::<u8>().add(bounded(at));
        core::mem::transmute::<usize, StoreBytes>(BPF_XDP_STORE_BYTES)(ctx.ctx, at, from, len) == 0
    }
}

/// Notes the option at `at` as the `slot`-th that carries numbers.
#[inline(always)]
pub fn note_number(window: *mut Window, mut slot: u64, at: u64) {
    // SAFETY: arithmetic on one register, which makes it an index of the array.
    unsafe { asm!("{0} &= 3", inout(reg) slot) };
    // SAFETY: the index was just bounded.
    unsafe { *(&raw mut (*window).numbers).cast::<u64>().add(slot as usize) = at };
}

/// Bytes of data in the window's segment.
#[inline(always)]
pub fn payload(window: *mut Window) -> u32 {
    // SAFETY: the window is valid.
    unsafe { ((*window).end - (*window).at - (*window).header) as u32 }
}

/// Sequence number after everything that the window's segment occupies.
#[inline(always)]
pub fn end(window: *mut Window) -> u32 {
    // SAFETY: the window is valid.
    let (seq, flags) = unsafe { ((*window).seq, (*window).flags) };
    seq.wrapping_add(payload(window)).wrapping_add((flags >> 1 & 1) + (flags & 1))
}

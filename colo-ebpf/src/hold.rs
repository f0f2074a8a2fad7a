//! Guest output for the agent: the frame itself through an AF_XDP socket, or a copy through a ring buffer. Either
//! way the frame is the agent's then, and leaves only by its hand.

use aya_ebpf::{
    bindings::xdp_action::XDP_DROP,
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_meta},
    macros::map,
    maps::{RingBuf, XskMap},
    programs::XdpContext,
};
use colo_ebpf::{CAPTURE_MAGIC, CAPTURE_META_LEN, CaptureMeta, Counter, INDEX_CAPTURED, QUEUES, Settings};

use crate::{
    counters::{count, drop},
    parse, record,
};

#[map]
static HOLD_SOCKETS: XskMap = XskMap::with_max_entries(QUEUES, 0);

/// Sized by the agent when it loads the programs.
#[map]
static HOLD_RING: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Stamps the frame and gives it to the socket of its queue.
#[inline(always)]
pub fn to_socket(ctx: &XdpContext, settings: &Settings) -> u32 {
    // A frame longer than a buffer of the socket would vanish after the verdict.
    if parse::exceeds(ctx, settings.hold_limit) {
        return drop(Counter::GuestHoldTooLong);
    }
    let queue = ctx.rx_queue_index();
    if HOLD_SOCKETS.get(queue).is_none() {
        return drop(Counter::GuestHoldNoSocket);
    }
    if !stamp_below(ctx) && !stamp_in_head(ctx) {
        return drop(Counter::GuestHoldNoRoom);
    }
    match HOLD_SOCKETS.redirect(queue, u64::from(XDP_DROP)) {
        Ok(verdict) => {
            count(Counter::GuestHeld);
            verdict
        }
        Err(_) => drop(Counter::GuestHoldNoSocket),
    }
}

/// Copies the frame into the ring buffer; the original ends here.
#[inline(always)]
pub fn to_ring(ctx: &XdpContext, settings: &Settings) -> u32 {
    if parse::exceeds(ctx, settings.hold_limit) {
        return drop(Counter::GuestHoldTooLong);
    }
    let index = record::next_index(INDEX_CAPTURED);
    if record::copy(ctx, &HOLD_RING, index) {
        drop(Counter::GuestHeld)
    } else {
        drop(Counter::GuestHoldRingFull)
    }
}

#[inline(always)]
fn stamp_below(ctx: &XdpContext) -> bool {
    // SAFETY: the helper takes the context and checks the offset itself.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(CAPTURE_META_LEN as i32)) } != 0 {
        return false;
    }
    write_stamp(ctx.metadata(), ctx.data())
}

#[inline(always)]
fn stamp_in_head(ctx: &XdpContext) -> bool {
    // SAFETY: the helper takes the context and checks the offset itself.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(CAPTURE_META_LEN as i32)) } != 0 {
        return false;
    }
    count(Counter::GuestStampInHead);
    write_stamp(ctx.data(), ctx.data_end())
}

#[inline(always)]
fn write_stamp(start: usize, end: usize) -> bool {
    if start + CAPTURE_META_LEN > end {
        return false;
    }
    // SAFETY: bpf_ktime_get_ns takes nothing and only returns a number.
    let stamp_ns = unsafe { bpf_ktime_get_ns() };
    let index = record::next_index(INDEX_CAPTURED) as u32;
    // SAFETY: the bytes from `start` on were just checked to be ours; BPF has no alignment faults here, and the
    // write is an unaligned one.
    unsafe {
        (start as *mut CaptureMeta).write_unaligned(CaptureMeta { stamp_ns, index, magic: CAPTURE_MAGIC });
    }
    true
}

//! A numbered and stamped copy of a frame in a ring buffer.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::{Array, RingBuf},
    programs::XdpContext,
};
use colo_ebpf::{RECORD_CLASSES, RECORD_HEADER_LEN, RecordHeader};

use crate::parse;

#[map]
static INDICES: Array<u64> = Array::with_max_entries(2, 0);

/// The next number of the series `series`.
#[inline(always)]
pub fn next_index(series: u32) -> u64 {
    match INDICES.get_ptr_mut(series) {
        // SAFETY: map values are 8-byte aligned, live as long as the program, and are only touched here.
        Some(next) => unsafe { fetch_add(next, 1) },
        None => 0,
    }
}

/// Adds to `*value` in one step and returns what it was. `core` has no such operation for BPF: its target is
/// declared without compare and swap.
///
/// # Safety
/// `value` is valid, aligned, and shared only with other calls of this function.
#[inline(always)]
unsafe fn fetch_add(value: *mut u64, add: u64) -> u64 {
    let before: u64;
    // SAFETY: one atomic instruction on the memory that the caller vouches for.
    unsafe {
        core::arch::asm!(
            "{sum} = atomic_fetch_add((u64 *)({at} + 0), {sum})",
            at = in(reg) value,
            sum = inout(reg) add => before,
        );
    }
    before
}

/// Copies the frame into `ring` under `index`; false if there was no room for it.
#[inline(always)]
pub fn copy(ctx: &XdpContext, ring: &RingBuf, index: u64) -> bool {
    let len = parse::frame_len(ctx);
    const C: [usize; 5] = RECORD_CLASSES;
    if len <= C[0] as u64 {
        copy_class::<{ C[0] }>(ctx, ring, index, len)
    } else if len <= C[1] as u64 {
        copy_class::<{ C[1] }>(ctx, ring, index, len)
    } else if len <= C[2] as u64 {
        copy_class::<{ C[2] }>(ctx, ring, index, len)
    } else if len <= C[3] as u64 {
        copy_class::<{ C[3] }>(ctx, ring, index, len)
    } else {
        copy_class::<{ C[4] }>(ctx, ring, index, len)
    }
}

#[inline(always)]
fn copy_class<const ROOM: usize>(ctx: &XdpContext, ring: &RingBuf, index: u64, len: u64) -> bool {
    let Some(mut record) = ring.reserve_bytes(RECORD_HEADER_LEN + ROOM, 0) else {
        return false;
    };
    let start = record.as_mut_ptr();
    // SAFETY: bpf_ktime_get_ns takes nothing and only returns a number.
    let stamp_ns = unsafe { bpf_ktime_get_ns() };
    let header = RecordHeader { stamp_ns, index, len: len as u32, reserved: 0 };
    // SAFETY: the record has room for the header and ROOM bytes, is 8-byte aligned, and `len` is at most ROOM; the
    // comparisons repeat that for the verifier.
    let copied = unsafe {
        start.cast::<RecordHeader>().write(header);
        len > 0 && len <= ROOM as u64 && parse::load(ctx.ctx, 0, start.add(RECORD_HEADER_LEN), len)
    };
    if copied {
        // Default wake-up: an interrupt whenever the reader has caught up. It sleeps in poll(2) between batches then;
        // one that spun instead would cost an interrupt for every frame.
        record.submit(0);
    } else {
        record.discard(0);
    }
    copied
}

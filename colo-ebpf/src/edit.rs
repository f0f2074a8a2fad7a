//! Changing the numbers of a segment, or of the quote of one, in the window, and putting the window's part into the frame.

use aya_ebpf::programs::XdpContext;
use colo_ebpf::translation::NumberDelta;

use crate::{
    entry::{EchoBounds, is_after},
    finished,
    window::{self, MAX_HEADER, Window, put, u8_at, u32_at},
};

/// In what [`said`] returns: the low half is a TSval.
pub const HAS_TSVAL: u64 = 1 << 32;
/// In what [`said`] returns: that TSval was raised to the floor.
pub const RAISED: u64 = 1 << 33;

const SEQ: u64 = 4;
const ACK: u64 = 8;
const TIMESTAMPS: u64 = 8;
/// Ticks within which something said again bounds what may be echoed.
const RECENT: u32 = 1 << 24;

/// What [`numbers`] changes.
#[repr(C)]
pub struct Change {
    /// Added to SACK edges.
    seq: u32,
    /// Added to the timestamp.
    ts: u32,
    /// Offset of the timestamp in its option's data: of what the sender says (0), or of what it echoes (4). SACK
    /// edges go with the latter.
    field: u64,
    /// The lowest TSval.
    floor: u32,
    has_floor: u32,
    first: u32,
    has_first: u32,
    again: u32,
    has_again: u32,
    last: u32,
    has_last: u32,
}

const SAYS: u64 = 0;
const ECHOES: u64 = 4;

/// Guest space to wire space.
///
/// # Safety
/// Here and below: the window is valid, and its options were looked through.
#[inline(always)]
pub unsafe fn said(
    ctx: &XdpContext,
    window: *mut Window,
    delta: NumberDelta,
    floor: u32,
    has_floor: bool,
) -> u64 {
    // SAFETY: the caller vouches for it, here and below.
    unsafe {
        leave_unfinished(ctx, window);
        let change = &raw mut (*window).change;
        (*change).ts = delta.ts.wrapping_neg();
        (*change).field = SAYS;
        (*change).floor = floor;
        (*change).has_floor = u32::from(has_floor);
        add(window, (*window).at + SEQ, delta.seq.wrapping_neg());
        numbers(window)
    }
}

/// Wire space to guest space; only what an ACK bit makes meaningful.
#[inline(always)]
pub unsafe fn heard(ctx: &XdpContext, window: *mut Window, delta: NumberDelta, bounds: EchoBounds) {
    // SAFETY: as above.
    unsafe {
        leave_unfinished(ctx, window);
        let change = &raw mut (*window).change;
        ((*change).seq, (*change).ts, (*change).field) = (delta.seq, delta.ts, ECHOES);
        ((*change).first, (*change).has_first) = (bounds.first, u32::from(bounds.has_first));
        ((*change).again, (*change).has_again) = (bounds.again, u32::from(bounds.has_again));
        ((*change).last, (*change).has_last) = (bounds.last, u32::from(bounds.has_last));
        add(window, (*window).at + ACK, delta.seq);
        numbers(window);
    }
}

/// An ICMP error toward the guest quotes what the guest said: to guest space.
#[inline(always)]
pub unsafe fn quoted_said(window: *mut Window, delta: NumberDelta) {
    // SAFETY: as above.
    unsafe {
        let change = &raw mut (*window).change;
        ((*change).ts, (*change).field, (*change).has_floor) = (delta.ts, SAYS, 0);
        add(window, (*window).at + SEQ, delta.seq);
        numbers(window);
    }
}

/// An ICMP error of the guest quotes what the guest received: to wire space.
#[inline(always)]
pub unsafe fn quoted_heard(window: *mut Window, delta: NumberDelta) {
    // SAFETY: as above.
    unsafe {
        let change = &raw mut (*window).change;
        ((*change).seq, (*change).ts) = (delta.seq.wrapping_neg(), delta.ts.wrapping_neg());
        (*change).field = ECHOES;
        ((*change).has_first, (*change).has_again, (*change).has_last) = (0, 0, 0);
        add(window, (*window).at + ACK, delta.seq.wrapping_neg());
        numbers(window);
    }
}

/// A checksum that is left to the NIC covers no number yet: it must stay.
#[inline(always)]
unsafe fn leave_unfinished(ctx: &XdpContext, window: *mut Window) {
    if finished::is_unfinished(ctx.ctx, window) != 0 {
        // SAFETY: as above.
        unsafe { (*window).sum = 0 };
    }
}

#[inline(always)]
fn add(window: *mut Window, at: u64, delta: u32) {
    put(window, at, u32_at(window, at).wrapping_add(delta));
}

/// Changes the numbers in the options, by the window's [`Change`].
#[inline(never)]
fn numbers(window: *mut Window) -> u64 {
    let mut said = 0;
    // SAFETY: as above.
    unsafe {
        let change = &raw const (*window).change;
        for slot in 0..4 {
            said = window::forget(window, said);
            let at = (*window).numbers[slot];
            if at == 0 {
                break;
            }
            if u8_at(window, at) == TIMESTAMPS {
                let at = at + 2 + (*change).field;
                let before = u32_at(window, at);
                let plain = before.wrapping_add((*change).ts);
                if (*change).field == SAYS {
                    let below =
                        (*change).has_floor != 0 && plain.wrapping_sub((*change).floor).cast_signed() < 0;
                    let tsval = if below { (*change).floor } else { plain };
                    put(window, at, tsval);
                    said = u64::from(tsval) | HAS_TSVAL | if below { RAISED } else { 0 };
                } else if before != 0 {
                    put(window, at, clamp(change, plain));
                }
            } else if (*change).field == ECHOES {
                let blocks = u8_at(window, at + 1) >> 3;
                for edge in 0..8 {
                    if edge >= 2 * blocks {
                        break;
                    }
                    add(window, at + 2 + 4 * edge, (*change).seq);
                }
            }
        }
    }
    said
}

/// An echo within its bounds: a guest in its handshake resets on one of something that it has not said yet, or that is
/// older than its first segment.
#[inline(always)]
unsafe fn clamp(change: *const Change, echo: u32) -> u32 {
    // SAFETY: the change is the window's.
    unsafe {
        if (*change).has_last != 0 && is_after(echo, (*change).last) {
            return (*change).last;
        }
        if (*change).has_first != 0 && is_after((*change).first, echo) {
            return (*change).first;
        }
        let recent = (*change).has_last != 0 && (*change).last.wrapping_sub((*change).again) < RECENT;
        if (*change).has_again != 0 && recent && is_after((*change).again, echo) {
            return (*change).again;
        }
        echo
    }
}

/// Puts what was edited into the frame. False if the kernel refuses: the frame must not go on then.
#[inline(always)]
pub fn store(ctx: &XdpContext, window: *mut Window) -> bool {
    // SAFETY: as above.
    let (at, end, icmp) = unsafe { ((*window).at, (*window).end, (*window).icmp) };
    let length = if end - at < MAX_HEADER { end - at } else { MAX_HEADER };
    if icmp != 0 && !window::store(ctx, window, icmp + 2, 2) {
        return false;
    }
    window::store(ctx, window, at, length)
}

//! Guest input for the agent: a numbered copy. The original goes on to the guest whether the copy found room or not.

use aya_ebpf::{macros::map, maps::RingBuf, programs::XdpContext};
use colo_ebpf::{Counter, INDEX_MIRRORED};

use crate::{counters::count, record};

/// Sized by the agent when it loads the programs.
#[map]
static MIRROR_RING: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Numbers the frame and copies it. A frame without a copy has its number too: the agent sees the gap.
#[inline(always)]
pub fn copy(ctx: &XdpContext) {
    let index = record::next_index(INDEX_MIRRORED);
    if !record::copy(ctx, &MIRROR_RING, index) {
        count(Counter::UplinkMirrorLost);
    }
}

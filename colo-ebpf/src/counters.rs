//! Per-CPU counters: an increment needs no atomic.

use aya_ebpf::{bindings::xdp_action::XDP_DROP, macros::map, maps::PerCpuArray};
use colo_ebpf::Counter;

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT as u32, 0);

/// Raises `counter` by one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the kernel returned this CPU's own value, and XDP programs on one CPU do not interrupt each other.
        unsafe { *value += 1 };
    }
}

/// Raises `counter` and drops the frame.
#[inline(always)]
pub fn drop(counter: Counter) -> u32 {
    count(counter);
    XDP_DROP
}

//! Deadlines that hold without an agent. What lets nothing out anyway, the modes closed and secondary, has none.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_ktime_get_boot_ns, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use colo_ebpf::{Deadman, DeadmanPolicy, Mode};

/// The agent writes it as memory: no system call for a sign of life.
#[map]
static DEADMAN: Array<Deadman> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How things stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    InTime,
    /// The lease has passed.
    LeaseOver,
    /// The agent is overdue, and its guest is silent then.
    Closed,
    /// The agent is overdue, and its guest speaks uncompared then.
    Open,
}

#[inline(always)]
pub fn look(mode: Mode) -> Fate {
    if matches!(mode, Mode::Closed | Mode::Secondary) {
        return Fate::InTime;
    }
    let Some(deadman) = DEADMAN.get_ptr(0) else { return Fate::InTime };
    // SAFETY: the kernel returned a whole, aligned value. The agent writes its words one by one; volatile, so that each
    // is read once and whole.
    let (end, limit, stamp, policy) = unsafe {
        (
            (&raw const (*deadman).lease_end_ns).read_volatile(),
            (&raw const (*deadman).limit_ns).read_volatile(),
            (&raw const (*deadman).stamp_ns).read_volatile(),
            (&raw const (*deadman).policy).read_volatile(),
        )
    };
    // SAFETY: the helper takes nothing and only returns a number.
    if end != 0 && unsafe { bpf_ktime_get_boot_ns() } >= end {
        return Fate::LeaseOver;
    }
    // Without an agent to hold for, the guest that is the service goes on.
    if limit == 0 || mode != Mode::Protect {
        return Fate::InTime;
    }
    // SAFETY: as above.
    if unsafe { bpf_ktime_get_ns() }.saturating_sub(stamp) <= limit {
        return Fate::InTime;
    }
    if policy == DeadmanPolicy::Open as u64 { Fate::Open } else { Fate::Closed }
}

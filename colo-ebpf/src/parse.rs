//! What is read of a frame. Helpers are called with 64-bit lengths: with the 32-bit arguments of their bindings
//! LLVM narrows a length after its bound check, and the verifier loses the bound.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use colo_ebpf::tags;

type BuffLen = unsafe extern "C" fn(*mut xdp_md) -> u64;
type LoadBytes = unsafe extern "C" fn(*mut xdp_md, u64, *mut u8, u64) -> i64;

const BPF_XDP_GET_BUFF_LEN: usize = 188;
const BPF_XDP_LOAD_BYTES: usize = 189;
const VLAN_TAG: u64 = tags::TAG_LEN as u64;

/// Length of the whole frame in bytes, fragments included.
#[inline(always)]
pub fn frame_len(ctx: &XdpContext) -> u64 {
    // SAFETY: 188 is bpf_xdp_get_buff_len (Linux 5.18), which takes the context and returns a u64.
    unsafe { core::mem::transmute::<usize, BuffLen>(BPF_XDP_GET_BUFF_LEN)(ctx.ctx) }
}

/// True if the frame is longer than `limit`, or by a VLAN tag more if it bears one: what an interface forwards.
#[inline(always)]
pub fn exceeds(ctx: &XdpContext, limit: u32) -> bool {
    let (len, limit) = (frame_len(ctx), u64::from(limit));
    len > limit && (len > limit + VLAN_TAG || !is_tagged(ctx))
}

#[inline(always)]
fn is_tagged(ctx: &XdpContext) -> bool {
    let start = ctx.data() + 12;
    if start + 2 > ctx.data_end() {
        return false;
    }
    // SAFETY: the two bytes from `start` on were just checked to lie in the frame; u8 has no alignment.
    let ethertype = unsafe { *(start as *const [u8; 2]) };
    tags::tag(u16::from_be_bytes(ethertype), 0).is_some()
}

/// Copies `len` bytes of the frame, from `at` on, to `to`; false if the frame is shorter.
///
/// # Safety
/// `to` has room for `len` bytes, and the verifier can see it.
#[inline(always)]
pub unsafe fn load(ctx: *mut xdp_md, at: u64, to: *mut u8, len: u64) -> bool {
    // SAFETY: 189 is bpf_xdp_load_bytes (Linux 5.18); the caller vouches for `to` and `len`.
    unsafe { core::mem::transmute::<usize, LoadBytes>(BPF_XDP_LOAD_BYTES)(ctx, at, to, len) == 0 }
}

/// Destination address, `None` for a frame too short to have one.
#[inline(always)]
pub fn destination(ctx: &XdpContext) -> Option<[u8; 6]> {
    let start = ctx.data();
    if start + 6 > ctx.data_end() {
        return None;
    }
    // SAFETY: the six bytes from `start` on were just checked to lie in the frame; u8 has no alignment.
    Some(unsafe { *(start as *const [u8; 6]) })
}

/// True if a frame to `address` is for the guest: its own address or a group.
#[inline(always)]
pub fn is_for(address: [u8; 6], guest: [u8; 6]) -> bool {
    const GROUP: u8 = 1;
    address[0] & GROUP != 0 || address == guest
}

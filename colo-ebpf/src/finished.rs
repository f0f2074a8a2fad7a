//! Checksums that are left to a NIC (`CHECKSUM_PARTIAL`): the field holds the sum of the pseudo header, and whoever
//! finishes it adds up what the segment holds then. A finished checksum may happen to be the same number; the segment
//! itself tells which it is.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, macros::map, maps::PerCpuArray};

use crate::{
    parse,
    window::{Window, fold, u16_at},
};

const TCP: u64 = 6;
/// Bytes that are summed up at a time.
const CHUNK: usize = 512;
/// Chunks of the longest segment that is summed up: more than a jumbo frame has.
const CHUNKS: u32 = 20;
const BPF_CSUM_DIFF: usize = 28;

type CsumDiff = unsafe extern "C" fn(u64, u64, *const u8, u64, u64) -> i64;

/// The chunk, and zeros to fill up its last word.
#[repr(C, align(8))]
struct Chunk([u8; CHUNK + 8]);

#[map]
static CHUNK_BYTES: PerCpuArray<Chunk> = PerCpuArray::with_max_entries(1, 0);

/// 1 if the TCP checksum of the window's segment, which is not edited yet, is only the sum of the pseudo header.
#[inline(never)]
pub fn is_unfinished(ctx: *mut xdp_md, window: *mut Window) -> u64 {
    // SAFETY: the window is valid; the addresses are 16 words of a valid key.
    let (pseudo, mut at, end, stored) = unsafe {
        let (at, end) = ((*window).at, (*window).end);
        let addresses = (&raw const (*window).key).cast::<u16>();
        let mut sum = 0_u64;
        for word in 0..16 {
            sum += u64::from(*addresses.add(word));
        }
        let pseudo = u64::from(fold(sum).to_be()) + TCP + (end - at);
        (pseudo, at, end, u16_at(window, (*window).sum))
    };
    if stored != u64::from(fold(pseudo)) {
        return 0;
    }
    let Some(chunk) = CHUNK_BYTES.get_ptr_mut(0) else { return 1 };
    let chunk = chunk.cast::<u8>();
    let mut sum = 0_u64;
    for _ in 0..CHUNKS {
        if at >= end {
            break;
        }
        let left = end - at;
        let mut take = if left < CHUNK as u64 { left } else { CHUNK as u64 };
        // SAFETY: arithmetic on one register, which leaves 1 to CHUNK as they are.
        unsafe { asm!("{0} += -1", "{0} &= 511", "{0} += 1", inout(reg) take) };
        // SAFETY: the chunk has room for CHUNK bytes and 8 more.
        let loaded = unsafe { parse::load(ctx, at, chunk, take) };
        if !loaded {
            return 1;
        }
        let mut words = take + 3;
        // SAFETY: the zeros lie in the 8 bytes more; arithmetic on one register, for the verifier; 28 is bpf_csum_diff,
        // which reads whole words up to CHUNK bytes.
        unsafe {
            *chunk.add(take as usize).cast::<[u8; 4]>() = [0; 4];
            asm!("{0} &= 0x3fc", inout(reg) words);
            if words > CHUNK as u64 {
                return 1;
            }
            sum = core::mem::transmute::<usize, CsumDiff>(BPF_CSUM_DIFF)(0, 0, chunk, words, sum) as u64;
            sum &= 0xffff_ffff;
        }
        at += take;
    }
    if at < end {
        return 1;
    }
    u64::from(fold(pseudo + u64::from(fold(sum).to_be())) != 0xffff)
}

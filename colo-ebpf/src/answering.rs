//! Looks at a frame, and turns it around if it is a probe of an agent that is known here.

use aya_ebpf::{
    bindings::xdp_action::{XDP_PASS, XDP_TX},
    helpers::bpf_ktime_get_ns,
    macros::{map, xdp},
    maps::HashMap,
    programs::XdpContext,
};
use colo_ebpf::liveness::{ANSWER, LEN, MAGIC, MAX_STAMPS, Probe, QUESTION, Stamp, VERSION};

#[map]
static STAMPS: HashMap<u16, Stamp> = HashMap::with_max_entries(MAX_STAMPS, 0);

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
/// UDP header and payload.
const DATAGRAM: usize = UDP + LEN;
const PROTOCOL_UDP: u8 = 17;
/// Of an answer: it may cross routers.
const HOPS: u8 = 64;

/// Answers probes, and lets everything else go on.
#[xdp]
pub fn colo_answer(ctx: XdpContext) -> u32 {
    let start = ctx.data() as *mut u8;
    if ctx.data() + ETHERNET > ctx.data_end() {
        return XDP_PASS;
    }
    // SAFETY: the header was just checked to lie in the frame; bytes have no alignment.
    let ethertype = unsafe { [*start.add(12), *start.add(13)] };
    let answered = match ethertype {
        // SAFETY: what is read and written was checked to lie in the frame.
        [0x08, 0x00] if ctx.data() + ETHERNET + IPV4 + DATAGRAM <= ctx.data_end() => unsafe {
            answer_v4(start)
        },
        // SAFETY: as above.
        [0x86, 0xdd] if ctx.data() + ETHERNET + IPV6 + DATAGRAM <= ctx.data_end() => unsafe {
            answer_v6(start)
        },
        _ => false,
    };
    if answered { XDP_TX } else { XDP_PASS }
}

/// # Safety
/// Headers and datagram lie in the frame, here and below.
#[inline(always)]
unsafe fn answer_v4(start: *mut u8) -> bool {
    // SAFETY: the caller vouches for it, here and below.
    unsafe {
        let ip = start.add(ETHERNET);
        // No options, not a fragment, and as long as a probe is.
        let whole = *ip == 0x45 && *ip.add(6) & 0x3f == 0 && *ip.add(7) == 0;
        let length = u16::from_be_bytes([*ip.add(2), *ip.add(3)]) as usize == IPV4 + DATAGRAM;
        if !whole || !length || *ip.add(9) != PROTOCOL_UDP || !answer::<IPV4>(start) {
            return false;
        }
        swap::<4>(ip.add(12), ip.add(16));
        *ip.add(8) = HOPS;
        store(ip.add(10), 0);
        store(ip.add(10), !fold(sum::<{ IPV4 / 2 }>(ip)));
        finish::<4>(start.add(ETHERNET + IPV4), ip.add(12));
        true
    }
}

#[inline(always)]
unsafe fn answer_v6(start: *mut u8) -> bool {
    // SAFETY: as above.
    unsafe {
        let ip = start.add(ETHERNET);
        let length = u16::from_be_bytes([*ip.add(4), *ip.add(5)]) as usize == DATAGRAM;
        if *ip >> 4 != 6 || !length || *ip.add(6) != PROTOCOL_UDP || !answer::<IPV6>(start) {
            return false;
        }
        swap::<16>(ip.add(8), ip.add(24));
        *ip.add(7) = HOPS;
        finish::<16>(start.add(ETHERNET + IPV6), ip.add(8));
        true
    }
}

/// Writes the answer into the probe behind an IP header of `IP` bytes, if it is one, and turns Ethernet and UDP around.
#[inline(always)]
unsafe fn answer<const IP: usize>(start: *mut u8) -> bool {
    // SAFETY: as above.
    unsafe {
        let udp = start.add(ETHERNET + IP);
        let probe = udp.add(UDP).cast::<Probe>();
        let length = u16::from_be_bytes([*udp.add(4), *udp.add(5)]) as usize == DATAGRAM;
        let head = (&raw const (*probe).magic).read_unaligned() == MAGIC
            && (*probe).version == VERSION
            && (*probe).kind == QUESTION;
        if !length || !head {
            return false;
        }
        let port = udp.add(2).cast::<u16>().read_unaligned();
        let Some(stamp) = STAMPS.get(&port) else { return false };
        let age = bpf_ktime_get_ns().saturating_sub((*stamp).stamp_ns);
        (*probe).kind = ANSWER;
        (&raw mut (*probe).age).write_unaligned(age.to_be_bytes());
        (&raw mut (*probe).boot).write_unaligned((*stamp).boot.to_be_bytes());
        swap::<6>(start, start.add(6));
        swap::<2>(udp, udp.add(2));
        true
    }
}

/// The UDP checksum, whole: what came may have been unfinished.
#[inline(always)]
unsafe fn finish<const ADDRESS: usize>(udp: *mut u8, addresses: *mut u8) {
    // SAFETY: as above; two addresses follow each other.
    unsafe {
        store(udp.add(6), 0);
        let addresses = if ADDRESS == 4 { sum::<4>(addresses) } else { sum::<16>(addresses) };
        let pseudo = u32::from((DATAGRAM as u16).to_be()) + u32::from(u16::from(PROTOCOL_UDP).to_be());
        let sum = !fold(addresses + pseudo + sum::<{ DATAGRAM / 2 }>(udp));
        // Zero would mean that there is none.
        store(udp.add(6), if sum == 0 { 0xffff } else { sum });
    }
}

/// Sum of 16-bit words, in whatever byte order memory has: the folded sum has the same.
#[inline(always)]
unsafe fn sum<const WORDS: usize>(from: *mut u8) -> u32 {
    let mut sum = 0;
    let mut word = 0;
    while word < WORDS {
        // SAFETY: as above.
        sum += u32::from(unsafe { from.add(word * 2).cast::<u16>().read_unaligned() });
        word += 1;
    }
    sum
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[inline(always)]
unsafe fn store(at: *mut u8, word: u16) {
    // SAFETY: as above.
    unsafe { at.cast::<u16>().write_unaligned(word) }
}

#[inline(always)]
unsafe fn swap<const N: usize>(one: *mut u8, other: *mut u8) {
    let mut at = 0;
    while at < N {
        // SAFETY: as above; the two do not overlap.
        unsafe {
            let byte = *one.add(at);
            *one.add(at) = *other.add(at);
            *other.add(at) = byte;
        }
        at += 1;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the program has no path that panics.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

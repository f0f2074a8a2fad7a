//! Finding a TCP header in a frame, or the quote of one in an ICMP error: as the agent's translator does it, in the
//! frame's first bytes.

use colo_ebpf::{
    tags::{MAX_802_3, MAX_TAGS, MIN_PAYLOAD, NO_TAG, SNAP, SNAP_LEN, SNAP_TAG, TAG_LEN, TUNNEL, tag},
    translation::{FAMILY_V4, FAMILY_V6, FlowKey, WINDOW},
};

use crate::window::{self, MAX_HEADER, Window, address_at, forget, short_address_at, u8_at, u16_at, u32_at};

const IPV4: u64 = 0x0800;
const IPV6: u64 = 0x86dd;

const HOP_BY_HOP: u64 = 0;
const ICMP: u64 = 1;
const TCP: u64 = 6;
const ROUTING: u64 = 43;
const FRAGMENT: u64 = 44;
const AUTHENTICATION: u64 = 51;
const ICMPV6: u64 = 58;
const DESTINATION: u64 = 60;

/// Most IPv6 extension headers that are followed.
const MAX_EXTENSIONS: u32 = 10;
const ICMP_HEADER: u64 = 8;
/// Offsets in a TCP header.
const CHECKSUM: u64 = 16;
const OPTIONS: u64 = 20;

const NOP: u64 = 1;
const SACK: u64 = 5;
const TIMESTAMPS: u64 = 8;
const MD5: u64 = 19;
const AO: u64 = 29;

/// What a frame has to do with translation. A number rather than an enumeration: it crosses function calls.
pub mod located {
    /// Nothing.
    pub const OTHER: u64 = 0;
    /// A whole TCP segment.
    pub const SEGMENT: u64 = 1;
    /// An ICMP error that quotes one; the window's flow names the guest as guest.
    pub const QUOTE: u64 = 2;
    /// The first fragment of a segment: only the window's flow is filled in.
    pub const FRAGMENT: u64 = 3;
    /// Perhaps a segment, but its header lies beyond the window.
    pub const BEYOND: u64 = 4;
}

/// A transport header behind an IP header.
struct Transport {
    protocol: u64,
    at: u64,
    end: u64,
    fragment: bool,
}

/// Looks at the frame in `window`, which goes from the guest or to it.
#[inline(always)]
pub fn locate(window: *mut Window, from_guest: bool) -> u64 {
    // SAFETY: here and below, the window is valid and nobody else's.
    let len = unsafe { (*window).len };
    if len < 14 {
        return located::OTHER;
    }
    let tagged = tags(window, len);
    if tagged & TAGS_FAILED != 0 {
        return located::OTHER;
    }
    let (ethertype, at) = (tagged & 0xffff, tagged >> 16 & 0xff);
    let family = match ethertype {
        IPV4 => FAMILY_V4,
        IPV6 => FAMILY_V6,
        _ => return located::OTHER,
    };
    // SAFETY: as above.
    unsafe {
        (*window).icmp = 0;
        (*window).key.family = family;
        (*window).key.reserved = 0;
    }
    let at = forget(window, at);
    let transport = match outer(window, at, family) {
        Ok(transport) => Transport {
            protocol: forget(window, transport.protocol),
            at: forget(window, transport.at),
            end: forget(window, transport.end),
            fragment: forget(window, u64::from(transport.fragment)) != 0,
        },
        Err(located) => return located,
    };
    let family = forget(window, u64::from(family)) as u16;
    // A later fragment does not say what flow it is of; without the first one it comes to nothing.
    if transport.protocol == TCP {
        let end = if transport.fragment { transport.at + 4 } else { transport.end };
        if transport.at + if transport.fragment { 4 } else { MAX_HEADER } > WINDOW as u64
            && len > WINDOW as u64
        {
            return located::BEYOND;
        }
        // SAFETY: as above.
        unsafe {
            (*window).at = transport.at;
            (*window).end = end;
            addresses(&raw mut (*window).key, window, at, family, from_guest);
        }
        ports(window, from_guest);
        if transport.fragment {
            return located::FRAGMENT;
        }
        return segment(window);
    }
    let quotes = transport.protocol == ICMP && family == FAMILY_V4
        || transport.protocol == ICMPV6 && family == FAMILY_V6;
    if transport.fragment || !quotes || transport.at + ICMP_HEADER > transport.end {
        return located::OTHER;
    }
    let kind = u8_at(window, transport.at);
    let is_error = match family {
        FAMILY_V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        _ => kind < 128,
    };
    if !is_error {
        return located::OTHER;
    }
    // SAFETY: as above.
    unsafe {
        (*window).icmp = transport.at;
        (*window).end = transport.end;
    }
    // What the guest receives is quoted in a frame that the guest sends, and the other way round.
    quote(window, transport.at + ICMP_HEADER, family, !from_guest)
}

/// The tags lead nowhere.
const TAGS_FAILED: u64 = 1 << 32;

/// Reads the tags of a frame of `len` bytes, and the SNAP header of an 802.3 frame, into the window's flow. Returns the type
/// of what follows them (16 bits) and where that starts.
#[inline(never)]
fn tags(window: *mut Window, len: u64) -> u64 {
    let mut vlans = [NO_TAG; MAX_TAGS];
    let mut slots = vlans.iter_mut();
    let (mut at, mut ethertype) = (14, u16_at(window, 12));
    while let Some(word) = tag(ethertype as u16, u16_at(window, at) as u16) {
        // A tag too many.
        let Some(slot) = slots.next() else { return TAGS_FAILED };
        if len < at + TAG_LEN as u64 {
            return TAGS_FAILED;
        }
        *slot = word;
        (at, ethertype) = (at + TAG_LEN as u64, u16_at(window, at + 2));
    }
    if ethertype <= u64::from(MAX_802_3) {
        let (head, last) = (u32_at(window, at), u16_at(window, at + 4));
        let [a, b, c, d, e] = SNAP;
        let is_type = head == u32::from_be_bytes([a, b, c, d])
            && (last == u64::from(e) << 8 || last == u64::from(e) << 8 | u64::from(TUNNEL));
        if ethertype < SNAP_LEN as u64 || at + ethertype > len || !is_type {
            return TAGS_FAILED;
        }
        let Some(slot) = slots.next() else { return TAGS_FAILED };
        *slot = SNAP_TAG | (last & 0xff) as u16;
        (at, ethertype) = (at + SNAP_LEN as u64, u16_at(window, at + 6));
    }
    // SAFETY: as above.
    unsafe { (*window).key.vlans = vlans };
    at << 16 | ethertype
}

/// The IP header at `at`, and what it carries.
#[inline(always)]
fn outer(window: *mut Window, at: u64, family: u16) -> Result<Transport, u64> {
    // SAFETY: as above.
    let len = unsafe { (*window).len };
    if family == FAMILY_V4 {
        if len < at + 20 || u8_at(window, at) >> 4 != 4 {
            return Err(located::OTHER);
        }
        let header = (u8_at(window, at) & 0x0f) * 4;
        // 0 stands for the rest of the frame: longer than the field can say, or not said yet.
        let total = match u16_at(window, at + 2) {
            0 => len - at,
            total => total,
        };
        if header < 20 || total < header || at + total > len {
            return Err(located::OTHER);
        }
        let field = u16_at(window, at + 6);
        let (offset, more) = ((field & 0x1fff) * 8, field & 0x2000 != 0);
        let transport = Transport {
            protocol: u8_at(window, at + 9),
            at: at + header,
            end: at + total,
            fragment: more || offset != 0,
        };
        return check_fragment(transport, offset, more);
    }
    if len < at + 40 || u8_at(window, at) >> 4 != 6 {
        return Err(located::OTHER);
    }
    // Likewise; but a frame that is no longer than the shortest has only padding there.
    let end = match u16_at(window, at + 4) {
        0 if len > at + MIN_PAYLOAD as u64 => len,
        length => at + 40 + length,
    };
    if end > len {
        return Err(located::OTHER);
    }
    let chain = walk(window, u8_at(window, at + 6), at + 40, end);
    if chain & CHAIN_FAILED != 0 {
        return Err(chain & 0xff);
    }
    let transport = Transport {
        protocol: chain & 0xff,
        at: chain >> 8 & 0xffff,
        end,
        fragment: chain & CHAIN_FRAGMENT != 0,
    };
    let field = chain >> 32 & 0xffff;
    // A first fragment may go on with extension headers, which belong to its data.
    let data = chain >> 48;
    if transport.fragment {
        let start = if data == 0 { transport.at } else { data };
        check_fragment(Transport { at: start, ..transport }, field & 0xfff8, field & 1 != 0)?;
    }
    Ok(transport)
}

/// Refuses what no fragment can be, and later fragments.
#[inline(always)]
fn check_fragment(transport: Transport, offset: u64, more: bool) -> Result<Transport, u64> {
    if transport.fragment {
        let length = transport.end - transport.at;
        if length == 0 || more && length & 7 != 0 || offset + length > 65_535 || offset != 0 {
            return Err(located::OTHER);
        }
    }
    Ok(transport)
}

/// The chain led nowhere; its low byte is what the frame is then.
const CHAIN_FAILED: u64 = 1 << 24;
/// The chain has the header of a real fragment.
const CHAIN_FRAGMENT: u64 = 1 << 25;

/// Follows the IPv6 extension headers from `at` to `end`, the first of kind `next`. Returns, from the lowest bit on: the
/// protocol (8 bits), where its header starts (16), the two flags above, and of a real fragment the field with its
/// offset (from bit 32, 16) and where its data starts (16).
#[inline(never)]
fn walk(window: *mut Window, mut next: u64, mut at: u64, end: u64) -> u64 {
    // SAFETY: as above.
    let len = unsafe { (*window).len };
    let mut fragment = 0;
    for _ in 0..MAX_EXTENSIONS {
        (next, at, fragment) = (forget(window, next), forget(window, at), forget(window, fragment));
        let is_extension = matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT);
        if !is_extension {
            return next & 0xff | (at & 0xffff) << 8 | fragment;
        }
        // No extension header is shorter.
        if at + 8 > end {
            return CHAIN_FAILED;
        }
        if at + 8 > WINDOW as u64 && len > WINDOW as u64 {
            return CHAIN_FAILED | located::BEYOND;
        }
        let more = u8_at(window, at + 1);
        let length = match next {
            FRAGMENT => 8,
            AUTHENTICATION => (more + 2) * 4,
            _ => (more + 1) * 8,
        };
        if at + length > end {
            return CHAIN_FAILED;
        }
        if next == FRAGMENT {
            let field = u16_at(window, at + 2);
            if field & 0xfff9 != 0 {
                fragment = CHAIN_FRAGMENT | field << 32 | (at + 8) << 48;
                // What a later fragment starts with is no header.
                if field & 0xfff8 != 0 {
                    return u8_at(window, at) | ((at + 8) & 0xffff) << 8 | fragment;
                }
            }
        }
        next = u8_at(window, at);
        at += length;
    }
    CHAIN_FAILED
}

/// Addresses of the flow from the IP header at `at`, sent by the guest or by the peer.
///
/// # Safety
/// `key` is valid.
#[inline(always)]
unsafe fn addresses(key: *mut FlowKey, window: *mut Window, at: u64, family: u16, by_guest: bool) {
    let (source, destination) = if family == FAMILY_V4 {
        (short_address_at(window, at + 12), short_address_at(window, at + 16))
    } else {
        (address_at(window, at + 8), address_at(window, at + 24))
    };
    // SAFETY: the caller vouches for it.
    unsafe {
        ((*key).guest, (*key).peer) = if by_guest { (source, destination) } else { (destination, source) };
    }
}

/// Ports of the flow from the TCP header of the window.
#[inline(always)]
fn ports(window: *mut Window, by_guest: bool) {
    // SAFETY: as above.
    unsafe {
        let at = (*window).at;
        let (source, destination) = (u16_at(window, at) as u16, u16_at(window, at + 2) as u16);
        let key = &raw mut (*window).key;
        ((*key).guest_port, (*key).peer_port) =
            if by_guest { (source, destination) } else { (destination, source) };
    }
}

#[inline(always)]
fn segment(window: *mut Window) -> u64 {
    // SAFETY: as above.
    unsafe {
        let (at, end) = ((*window).at, (*window).end);
        if at + OPTIONS > end {
            return located::OTHER;
        }
        let header = (u8_at(window, at + 12) >> 4) * 4;
        if header < OPTIONS || at + header > end {
            return located::OTHER;
        }
        (*window).header = header;
        (*window).seq = u32_at(window, at + 4);
        (*window).ack = u32_at(window, at + 8);
        (*window).flags = u8_at(window, at + 13) as u32;
        (*window).sum = at + CHECKSUM;
    }
    located::SEGMENT
}

/// The quote that starts with an IP header at `at`. It is cut, so its own length field is beside the point.
#[inline(always)]
fn quote(window: *mut Window, at: u64, family: u16, by_guest: bool) -> u64 {
    // SAFETY: as above.
    let (len, end) = unsafe { ((*window).len, (*window).end) };
    let tcp = if family == FAMILY_V4 {
        let header = (u8_at(window, at) & 0x0f) * 4;
        let is_tcp = u8_at(window, at) >> 4 == 4
            && u8_at(window, at + 9) == TCP
            && u16_at(window, at + 6) & 0x1fff == 0;
        if at + 20 > end || header < 20 || !is_tcp {
            return located::OTHER;
        }
        at + header
    } else {
        if at + 40 > end || u8_at(window, at) >> 4 != 6 {
            return located::OTHER;
        }
        let chain = walk(window, u8_at(window, at + 6), at + 40, end);
        if chain & CHAIN_FAILED != 0 {
            return chain & 0xff;
        }
        // The offset in a fragment's field: a later fragment quotes no header.
        if chain & 0xff != TCP || chain >> 32 & 0xfff8 != 0 {
            return located::OTHER;
        }
        chain >> 8 & 0xffff
    };
    let tcp = forget(window, tcp);
    if tcp + 8 > end {
        return located::OTHER;
    }
    if tcp + MAX_HEADER > WINDOW as u64 && len > WINDOW as u64 {
        return located::BEYOND;
    }
    // SAFETY: as above.
    unsafe {
        (*window).at = tcp;
        addresses(&raw mut (*window).key, window, at, family, by_guest);
        ports(window, by_guest);
        let there = end - tcp;
        let says = if there > 12 { (u8_at(window, tcp + 12) >> 4) * 4 } else { 0 };
        (*window).header = if says < there { says } else { there };
        (*window).flags = if there > 13 { u8_at(window, tcp + 13) as u32 } else { 0 };
        (*window).sum = if there >= CHECKSUM + 2 { tcp + CHECKSUM } else { 0 };
    }
    located::QUOTE
}

/// Looks through the options of the window's TCP header for those that carry numbers, and for signatures.
#[inline(never)]
pub fn options(window: *mut Window) -> u64 {
    // SAFETY: as above.
    unsafe {
        (*window).timestamps = 0;
        (*window).signed = 0;
        (*window).numbers = [0; 4];
        let start = (*window).at;
        let end = start + (*window).header;
        let mut at = start + OPTIONS;
        let mut found = 0_u64;
        for _ in 0..40 {
            (at, found) = (forget(window, at), forget(window, found));
            if at >= end {
                break;
            }
            let kind = u8_at(window, at);
            if kind == NOP {
                at += 1;
                continue;
            }
            let length = u8_at(window, at + 1);
            if kind == 0 || at + 2 > end || length < 2 || at + length > end {
                break;
            }
            let is_timestamps = kind == TIMESTAMPS && length == 10;
            if is_timestamps {
                (*window).timestamps = at + 2;
            }
            if kind == MD5 || kind == AO {
                (*window).signed = 1;
            }
            // 40 bytes have room for four options with a number in them.
            if (is_timestamps || kind == SACK && length > 2 && length & 7 == 2) && found < 4 {
                window::note_number(window, found, at);
                found += 1;
            }
            at += length;
        }
        found
    }
}

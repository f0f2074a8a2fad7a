//! What a packet asks of the network and of its receiver beside its payload: IPv4 options and IPv6 extension headers, in a form in
//! which two of them can be compared.
//!
//! Left out is what nobody has said yet, or what is to change on the way: padding; of a record route the places that are free; of an
//! IPv4 timestamp the times, and the count of those that found no room; the data of an IPv6 option whose type has the bit
//! "may change en route" (RFC 8200 section 4.2); sequence number and check value of AH, which cover the identification. A jumbogram's
//! length is its payload's.

use super::ip::{Ip, IpFamily, JUMBO, Options, V4_HEADER, V6_HEADER};
use super::{be16, proto};
use smallvec::SmallVec;

/// Nearly always empty.
pub type Extras = SmallVec<[u8; 16]>;

/// IPv4 options (IANA "IP Option Numbers") with places that the packet collects things in.
mod option {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const RECORD_ROUTE: u8 = 7;
    pub const TIMESTAMP: u8 = 68;
    pub const TRACEROUTE: u8 = 82;
}

/// Bit of an IPv6 option's type: its data may change on the way.
const MAY_CHANGE: u8 = 0x20;

/// What the packet `ip` of `frame` says beside its payload.
#[must_use]
pub fn of(frame: &[u8], ip: &Ip) -> Extras {
    let mut extras = Extras::new();
    match ip.family {
        IpFamily::V4 => v4(&frame[ip.start + V4_HEADER..ip.payload], &mut extras),
        IpFamily::V6 => {
            let chain = &frame[ip.start + V6_HEADER..ip.payload];
            let jumbogram = be16(frame, ip.start + 4) == 0;
            v6(frame[ip.start + 6], chain, jumbogram, &mut extras);
        }
    }
    extras
}

/// Appends what IPv4 options say.
fn v4(mut options: &[u8], extras: &mut Extras) {
    while let [kind, rest @ ..] = options {
        match (*kind, rest) {
            (option::END, _) => return,
            (option::NOP, _) => options = rest,
            (_, [length, ..]) if (2..=options.len()).contains(&usize::from(*length)) => {
                let (one, rest) = options.split_at(usize::from(*length));
                options = rest;
                v4_option(one, extras);
            }
            // What contradicts itself is compared as it is.
            _ => {
                extras.extend_from_slice(options);
                return;
            }
        }
    }
}

fn v4_option(one: &[u8], extras: &mut Extras) {
    // Offsets count from one.
    let pointer = one.get(2).map_or(0, |&p| usize::from(p).saturating_sub(1));
    let filled = pointer.min(one.len());
    match one[0] {
        option::RECORD_ROUTE => {
            extras.extend_from_slice(&one[..filled.max(one.len().min(3))]);
        }
        option::TIMESTAMP if one.len() >= 4 => {
            let flags = one[3] & 0x0f;
            extras.extend_from_slice(&[one[0], one[1], one[2], flags]);
            match flags {
                // Addresses are given beforehand.
                3 => one[4..].chunks(8).for_each(|c| extras.extend_from_slice(&c[..c.len().min(4)])),
                // They are collected with the times.
                1 => one[4..filled.max(4)]
                    .chunks(8)
                    .for_each(|c| extras.extend_from_slice(&c[..c.len().min(4)])),
                _ => {}
            }
        }
        option::TRACEROUTE if one.len() >= 8 => {
            // Between the identifier and the originator: hops counted on the way.
            extras.extend_from_slice(&one[..4]);
            extras.extend_from_slice(&one[8..]);
        }
        _ => extras.extend_from_slice(one),
    }
}

/// Appends what the IPv6 extension headers in `chain`, of which the first is `next`, say. Of a jumbogram one of them tells the length.
pub fn v6(mut next: u8, chain: &[u8], jumbogram: bool, extras: &mut Extras) {
    let mut at = 0;
    while let Some([following, units, ..]) = chain.get(at..) {
        let length = match next {
            proto::FRAGMENT => 8,
            proto::AH => (usize::from(*units) + 2) * 4,
            _ => (usize::from(*units) + 1) * 8,
        };
        let header = &chain[at..chain.len().min(at + length)];
        // Its kind and, once that is known, how much it says.
        let begins = extras.len();
        extras.extend_from_slice(&[next, 0, 0]);
        let mut says = true;
        match next {
            // How a datagram is cut is no content.
            proto::FRAGMENT => says = false,
            proto::HOP_BY_HOP | proto::DEST_OPTIONS => {
                let mut length = false;
                for o in Options::of(&header[2..]) {
                    if jumbogram && o.kind == JUMBO {
                        length = true;
                        continue;
                    }
                    // An option has at most 255 bytes.
                    extras.extend_from_slice(&[o.kind, o.data.len() as u8]);
                    extras.extend_from_slice(if o.kind & MAY_CHANGE == 0 { o.data } else { &[] });
                }
                says = !length || extras.len() > begins + 3;
            }
            // The index of the security association.
            proto::AH => extras.extend_from_slice(header.get(4..8).unwrap_or_default()),
            _ => extras.extend_from_slice(&header[1..]),
        }
        // A header has at most 2048 bytes.
        let said = (extras.len() - begins - 3) as u16;
        extras[begins + 1..begins + 3].copy_from_slice(&said.to_be_bytes());
        if !says {
            extras.truncate(begins);
        }
        (next, at) = (*following, at + length);
    }
}

#[cfg(test)]
mod tests;

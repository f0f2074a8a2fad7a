//! Unfinished checksums. A guest that thinks its NIC computes them leaves the sum of the pseudo header in the field
//! (`CHECKSUM_PARTIAL` of the kernel). XDP hands such a frame over as it is, and on a wire it would be corrupt.

use crate::wire::checksum::Sum;
use crate::wire::{Ether, Ip, proto, tcp};

const UDP_CHECKSUM: usize = 6;

/// Completes the TCP or UDP checksum of an IPv4 or IPv6 frame if it is only the sum of the pseudo header. Returns
/// whether it was. A field that happens to hold that sum although it is finished already gets the same value again.
pub(super) fn checksum(frame: &mut [u8]) -> bool {
    let Some(Unfinished { field, value }) = unfinished(frame) else { return false };
    frame[field..field + 2].copy_from_slice(&value.to_be_bytes());
    true
}

/// True if [`checksum`] would change the frame.
pub(super) fn is_needed(frame: &[u8]) -> bool {
    unfinished(frame)
        .is_some_and(|Unfinished { field, value }| frame[field..field + 2] != value.to_be_bytes())
}

struct Unfinished {
    field: usize,
    value: u16,
}

fn unfinished(frame: &[u8]) -> Option<Unfinished> {
    let ether = Ether::parse(frame).ok()?;
    if !matches!(ether.ethertype, crate::wire::ether::ethertype::IPV4 | crate::wire::ether::ethertype::IPV6) {
        return None;
    }
    let ip = Ip::parse(frame, ether.payload, ether.ethertype).ok()?;
    if ip.fragment.is_some() {
        return None;
    }
    let offset = match ip.protocol {
        proto::TCP => tcp::field::CHECKSUM,
        proto::UDP => UDP_CHECKSUM,
        _ => return None,
    };
    let datagram = frame.get(ip.payload..ip.end)?;
    let stored = u16::from_be_bytes(datagram.get(offset..offset + 2)?.try_into().ok()?);
    // A length within an IP packet fits 32 bits.
    let length = datagram.len() as u32;
    let pseudo =
        Sum::ZERO.pseudo_header(ip.significant(&ip.src), ip.significant(&ip.dst), ip.protocol, length);
    if stored != pseudo.folded() {
        return None;
    }
    let value = pseudo.bytes(&datagram[..offset]).bytes(&datagram[offset + 2..]).stored();
    // Zero means "no checksum" in UDP (RFC 768): a sum of zero is sent as its other form.
    let value = if ip.protocol == proto::UDP && value == 0 { 0xffff } else { value };
    Some(Unfinished { field: ip.payload + offset, value })
}

#[cfg(test)]
mod tests;

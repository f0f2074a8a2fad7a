//! Frames made from nothing: what tests, benchmarks and simulators put on a wire. Checksums and lengths are right
//! unless a caller changes the bytes afterwards.

use super::checksum::Sum;
use super::ether::ethertype;
use super::tcp::field;
use super::{Seq, TcpFlags, Vlans, proto};
use colo_ebpf::tags::{SNAP, SNAP_LEN};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How a datagram is wrapped on its way down to a frame.
#[derive(Clone, Debug)]
pub struct Wrap {
    /// Receiver.
    pub dst_mac: [u8; 6],
    /// Sender.
    pub src_mac: [u8; 6],
    /// Tags, and whether a SNAP header follows.
    pub vlans: Vlans,
    /// IP identification (IPv4, and IPv6 fragments).
    pub id: u32,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Default for Wrap {
    fn default() -> Self {
        Self { dst_mac: [2, 0, 0, 0, 0, 1], src_mac: [2, 0, 0, 0, 0, 2], vlans: Vlans::NONE, id: 1, ttl: 64 }
    }
}

/// A TCP segment to be made. Shorter to write than a struct literal: `Tcp::new(a, b).seq(1).ack(2).data(b"x")`.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number; sets the flag.
    pub ack: Option<Seq>,
    /// Other flags.
    pub flags: TcpFlags,
    /// Window field.
    pub window: u16,
    /// Option bytes, padded to words with end-of-list.
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Tcp {
    /// An empty segment.
    #[must_use]
    pub fn new(src: SocketAddr, dst: SocketAddr) -> Self {
        Self {
            src,
            dst,
            seq: Seq(0),
            ack: None,
            flags: TcpFlags(0),
            window: 65_535,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// With this sequence number.
    #[must_use]
    pub const fn seq(mut self, seq: u32) -> Self {
        self.seq = Seq(seq);
        self
    }

    /// With this acknowledgement.
    #[must_use]
    pub const fn ack(mut self, ack: u32) -> Self {
        self.ack = Some(Seq(ack));
        self
    }

    /// With these flags too.
    #[must_use]
    pub const fn flag(mut self, flags: TcpFlags) -> Self {
        self.flags.0 |= flags.0;
        self
    }

    /// With these option bytes.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// With this payload.
    #[must_use]
    pub fn data(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The segment's bytes.
    #[must_use]
    pub fn segment(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = field::OPTIONS + options.len();
        let mut flags = self.flags;
        flags.0 |= if self.ack.is_some() { TcpFlags::ACK.0 } else { 0 };
        let mut b = Vec::with_capacity(header + self.payload.len());
        b.extend(self.src.port().to_be_bytes());
        b.extend(self.dst.port().to_be_bytes());
        b.extend(self.seq.0.to_be_bytes());
        b.extend(self.ack.unwrap_or_default().0.to_be_bytes());
        // A header is at most 60 bytes.
        b.extend([((header / 4) << 4) as u8, flags.0]);
        b.extend(self.window.to_be_bytes());
        b.extend([0; 4]);
        b.extend(options);
        b.extend_from_slice(&self.payload);
        let sum = transport_checksum(self.src.ip(), self.dst.ip(), proto::TCP, &b);
        b[field::CHECKSUM..field::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        b
    }

    /// The segment in an untagged frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.frame_in(&Wrap::default())
    }

    /// The segment in a frame.
    #[must_use]
    pub fn frame_in(&self, wrap: &Wrap) -> Vec<u8> {
        ip(self.src.ip(), self.dst.ip(), proto::TCP, &self.segment(), wrap)
    }
}

/// A UDP datagram's bytes.
#[must_use]
pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    // Callers stay below the longest datagram.
    let length = (payload.len() + 8) as u16;
    let mut b = Vec::with_capacity(payload.len() + 8);
    b.extend(src.port().to_be_bytes());
    b.extend(dst.port().to_be_bytes());
    b.extend(length.to_be_bytes());
    b.extend([0; 2]);
    b.extend_from_slice(payload);
    let sum = match transport_checksum(src.ip(), dst.ip(), proto::UDP, &b) {
        // RFC 768: zero on the wire would mean that there is none.
        0 => 0xffff,
        sum => sum,
    };
    b[6..8].copy_from_slice(&sum.to_be_bytes());
    b
}

/// A UDP datagram in a frame.
#[must_use]
pub fn udp_frame(src: SocketAddr, dst: SocketAddr, payload: &[u8], wrap: &Wrap) -> Vec<u8> {
    ip(src.ip(), dst.ip(), proto::UDP, &udp(src, dst, payload), wrap)
}

/// An ICMP or ICMPv6 message in a frame, by the addresses' family.
#[must_use]
pub fn icmp_frame(
    src: IpAddr,
    dst: IpAddr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    payload: &[u8],
    wrap: &Wrap,
) -> Vec<u8> {
    let mut b = vec![kind, code, 0, 0];
    b.extend(rest);
    b.extend_from_slice(payload);
    let (protocol, sum) = match src {
        IpAddr::V4(_) => (proto::ICMP, Sum::ZERO.bytes(&b).stored()),
        IpAddr::V6(_) => (proto::ICMPV6, transport_checksum(src, dst, proto::ICMPV6, &b)),
    };
    b[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, protocol, &b, wrap)
}

fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    // At most 65,535 bytes.
    let length = bytes.len() as u32;
    let sum = match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Sum::ZERO.pseudo_header(&s.octets(), &d.octets(), protocol, length),
        (IpAddr::V6(s), IpAddr::V6(d)) => Sum::ZERO.pseudo_header(&s.octets(), &d.octets(), protocol, length),
        _ => panic!("both addresses are of one family: {src} {dst}"),
    };
    sum.bytes(bytes).stored()
}

/// An IP packet in a frame.
///
/// # Panics
/// If the addresses are of two families.
#[must_use]
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8], wrap: &Wrap) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            ether(ethertype::IPV4, &ipv4(s, d, protocol, payload, wrap, 0x4000), wrap)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let mut b = vec![0x60, 0, 0, 0];
            b.extend((payload.len() as u16).to_be_bytes());
            b.extend([protocol, wrap.ttl]);
            b.extend(s.octets());
            b.extend(d.octets());
            b.extend_from_slice(payload);
            ether(ethertype::IPV6, &b, wrap)
        }
        _ => panic!("both addresses are of one family: {src} {dst}"),
    }
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8], wrap: &Wrap, fragment: u16) -> Vec<u8> {
    let mut b = vec![0x45, 0];
    b.extend((20 + payload.len() as u16).to_be_bytes());
    // IPv4 has 16 bits of identification.
    b.extend((wrap.id as u16).to_be_bytes());
    b.extend(fragment.to_be_bytes());
    b.extend([wrap.ttl, protocol, 0, 0]);
    b.extend(src.octets());
    b.extend(dst.octets());
    let sum = Sum::ZERO.bytes(&b).stored();
    b[10..12].copy_from_slice(&sum.to_be_bytes());
    b.extend_from_slice(payload);
    b
}

/// A datagram cut into fragments of at most `size` bytes of data (rounded down to a multiple of 8), in order.
#[must_use]
pub fn fragments(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    payload: &[u8],
    size: usize,
    wrap: &Wrap,
) -> Vec<Vec<u8>> {
    let size = (size / 8 * 8).max(8);
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(i, data)| {
            let (offset, more) = ((i * size) as u16, i + 1 < count);
            match (src, dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    let field = (offset / 8) | if more { 0x2000 } else { 0 };
                    ether(ethertype::IPV4, &ipv4(s, d, protocol, data, wrap, field), wrap)
                }
                _ => {
                    let mut b = vec![protocol, 0];
                    b.extend((offset | u16::from(more)).to_be_bytes());
                    b.extend(wrap.id.to_be_bytes());
                    b.extend_from_slice(data);
                    ip(src, dst, proto::FRAGMENT, &b, wrap)
                }
            }
        })
        .collect()
}

/// A payload in a frame.
#[must_use]
pub fn ether(kind: u16, payload: &[u8], wrap: &Wrap) -> Vec<u8> {
    let mut b = Vec::with_capacity(payload.len() + 22);
    b.extend(wrap.dst_mac);
    b.extend(wrap.src_mac);
    for (kind, id) in wrap.vlans.tags() {
        b.extend(kind.to_be_bytes());
        b.extend(id.to_be_bytes());
    }
    if let Some(organisation) = wrap.vlans.snap() {
        // An 802.3 frame has at most 1500 bytes.
        b.extend(((SNAP_LEN + payload.len()) as u16).to_be_bytes());
        b.extend(SNAP);
        b.push(organisation);
    }
    b.extend(kind.to_be_bytes());
    b.extend_from_slice(payload);
    b
}

#[cfg(test)]
mod tests;

//! Frame views: what the bytes of an Ethernet frame mean, without copying them.
//!
//! The order of the files is the order in a frame: [`ether`], [`ip`] (both versions, down to the transport
//! header, fragments recognised), then [`tcp`], [`udp`], [`icmp`] and what it [`quote`]s. [`vlans`] are the tags, [`extras`] what a packet says
//! beside its payload, [`extent`] where content ends that is not IP's. [`seq`] is TCP sequence arithmetic and
//! [`checksum`] the Internet checksum. [`build`] goes the other way: frames from nothing.
//!
//! Everything here takes untrusted input. A parser either returns a view whose every field lies inside the given
//! slice or says [`Malformed`]; no accessor panics. Checksums are never verified: a wrong one is the receiver's
//! business, and both replicas' frames are judged by what they say.

pub mod build;
pub mod checksum;
pub mod ether;
pub mod extent;
pub mod extras;
pub mod icmp;
pub mod ip;
pub mod quote;
pub mod seq;
pub mod tcp;
pub mod udp;
pub mod vlans;

pub use ether::Ether;
pub use icmp::IcmpMessage;
pub use ip::{Fragment, Ip, IpFamily};
pub use seq::Seq;
pub use tcp::{TcpFlags, TcpSegment};
pub use udp::UdpDatagram;
pub use vlans::Vlans;

/// IP protocol numbers that the comparator tells apart (IANA "Assigned Internet Protocol Numbers").
pub mod proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulated security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NOTHING: u8 = 59;
    /// IPv6 destination options.
    pub const DEST_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Why a frame (or a reassembled datagram) cannot be read as what it claims to be. Such frames are a class of
/// their own and are compared by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than an Ethernet header, or than the VLAN tags it announces.
    #[error("frame is shorter than its Ethernet header")]
    Ethernet,
    /// The IP version nibble contradicts the ethertype, or the header is cut or has an impossible length.
    #[error("IP header is cut or contradicts itself")]
    IpHeader,
    /// The IP length field names more bytes than the frame has.
    #[error("IP length exceeds the frame")]
    IpLength,
    /// An IPv6 extension header is cut, or there are more than [`ip::MAX_EXTENSIONS`].
    #[error("IPv6 extension headers are cut or too many")]
    Extension,
    /// TCP header cut, or its data offset below 5 words or beyond the segment.
    #[error("TCP header is cut or its data offset is impossible")]
    Tcp,
    /// UDP header cut, or its length below 8 or beyond the datagram.
    #[error("UDP header is cut or its length is impossible")]
    Udp,
    /// ICMP message shorter than its header.
    #[error("ICMP message is cut")]
    Icmp,
    /// A fragment that is empty, not a multiple of 8 bytes though more follow, or reaches past 65,535 bytes.
    #[error("fragment has an impossible offset or length")]
    Fragment,
    /// Nothing is wrong with it that can be seen: a capture ends within its headers.
    #[error("the capture ends within the headers")]
    Cut,
}

/// Big-endian u16 at `at`. The caller has checked the length.
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// Big-endian u32 at `at`. The caller has checked the length.
pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[cfg(test)]
mod tests;

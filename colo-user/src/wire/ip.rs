//! IPv4 (RFC 791) and IPv6 with extension headers (RFC 8200), down to the transport header.
//!
//! The length comes from the IP header: what a short frame is padded with is not payload.

use super::ether::ethertype;
use super::{Malformed, be16, be32, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most extension headers followed in one packet. RFC 8200 names seven kinds; more is an attack.
pub const MAX_EXTENSIONS: usize = 10;
/// Longest datagram that fragments may form.
pub const MAX_DATAGRAM: usize = 65_535;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Offset of its data in the datagram, bytes.
    pub offset: u32,
    /// Whether more follow.
    pub more: bool,
}

/// An IP packet in a frame. Offsets are from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Address family.
    pub family: IpFamily,
    /// Sender; IPv4 addresses in the first 4 bytes, the rest zero.
    pub src: [u8; 16],
    /// Receiver, likewise.
    pub dst: [u8; 16],
    /// The transport protocol; for a fragment what the fragmentable part starts with.
    pub protocol: u8,
    /// Start of the transport header, or of the fragment's data.
    pub payload: usize,
    /// End of the packet by its own length field.
    pub end: usize,
    /// Set if this is a fragment. An atomic fragment (RFC 6946) is not one.
    pub fragment: Option<Fragment>,
}

impl Ip {
    /// Reads the IP header at `at` of `frame`, whose ethertype is IPv4 or IPv6.
    ///
    /// # Errors
    /// What contradicts itself or the frame's length.
    pub fn parse(frame: &[u8], at: usize, ethertype: u16) -> Result<Self, Malformed> {
        if ethertype == ethertype::IPV4 { Self::v4(frame, at) } else { Self::v6(frame, at) }
    }

    fn v4(frame: &[u8], at: usize) -> Result<Self, Malformed> {
        let b = frame.get(at..).ok_or(Malformed::IpHeader)?;
        if b.len() < 20 || b[0] >> 4 != 4 {
            return Err(Malformed::IpHeader);
        }
        let header = usize::from(b[0] & 0x0f) * 4;
        let total = usize::from(be16(b, 2));
        if header < 20 || total < header {
            return Err(Malformed::IpHeader);
        }
        if total > b.len() {
            return Err(Malformed::IpLength);
        }
        let flags = be16(b, 6);
        let more = flags & 0x2000 != 0;
        let offset = u32::from(flags & 0x1fff) * 8;
        let mut ip = Self {
            family: IpFamily::V4,
            src: [0; 16],
            dst: [0; 16],
            protocol: b[9],
            payload: at + header,
            end: at + total,
            fragment: None,
        };
        ip.src[..4].copy_from_slice(&b[12..16]);
        ip.dst[..4].copy_from_slice(&b[16..20]);
        if more || offset != 0 {
            ip.set_fragment(Fragment { id: u32::from(be16(b, 4)), offset, more })?;
        }
        Ok(ip)
    }

    fn v6(frame: &[u8], at: usize) -> Result<Self, Malformed> {
        let b = frame.get(at..).ok_or(Malformed::IpHeader)?;
        if b.len() < 40 || b[0] >> 4 != 6 {
            return Err(Malformed::IpHeader);
        }
        let end = 40 + usize::from(be16(b, 4));
        if end > b.len() {
            return Err(Malformed::IpLength);
        }
        let chain = Extensions::walk(b[6], &b[40..end])?;
        let mut ip = Self {
            family: IpFamily::V6,
            src: [0; 16],
            dst: [0; 16],
            protocol: chain.protocol,
            payload: at + 40 + chain.length,
            end: at + end,
            fragment: None,
        };
        ip.src.copy_from_slice(&b[8..24]);
        ip.dst.copy_from_slice(&b[24..40]);
        if let Some(fragment) = chain.fragment {
            ip.set_fragment(fragment)?;
        }
        Ok(ip)
    }

    fn set_fragment(&mut self, fragment: Fragment) -> Result<(), Malformed> {
        let length = self.end - self.payload;
        let cut = fragment.more && !length.is_multiple_of(8);
        if length == 0 || cut || fragment.offset as usize + length > MAX_DATAGRAM {
            return Err(Malformed::Fragment);
        }
        self.fragment = Some(fragment);
        Ok(())
    }

    /// The sender as a standard address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        address(self.family, &self.src)
    }

    /// The receiver as a standard address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        address(self.family, &self.dst)
    }

    /// The significant bytes of an address field: 4 or 16.
    #[must_use]
    pub fn significant<'a>(&self, address: &'a [u8; 16]) -> &'a [u8] {
        match self.family {
            IpFamily::V4 => &address[..4],
            IpFamily::V6 => address,
        }
    }
}

/// The standard address in a 16-byte field of `family`.
#[must_use]
pub fn address(family: IpFamily, bytes: &[u8; 16]) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        IpFamily::V6 => Ipv6Addr::from(*bytes).into(),
    }
}

/// What a chain of IPv6 extension headers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// The first header that is not an extension; for a fragment, the one its data starts with.
    pub protocol: u8,
    /// Bytes of extension headers before it.
    pub length: usize,
    /// Set if the chain has a fragment header of a real fragment; the walk ends there.
    pub fragment: Option<Fragment>,
}

impl Extensions {
    /// Follows the chain that starts with header `next` at the start of `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Extension`] if it leaves `bytes` or is longer than [`MAX_EXTENSIONS`].
    pub fn walk(mut next: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut at = 0;
        for _ in 0..MAX_EXTENSIONS {
            let header = &bytes[at..];
            let length = match next {
                proto::HOP_BY_HOP | proto::ROUTING | proto::DEST_OPTIONS => {
                    (usize::from(*header.get(1).ok_or(Malformed::Extension)?) + 1) * 8
                }
                proto::AH => (usize::from(*header.get(1).ok_or(Malformed::Extension)?) + 2) * 4,
                proto::FRAGMENT => 8,
                protocol => return Ok(Self { protocol, length: at, fragment: None }),
            };
            if header.len() < length {
                return Err(Malformed::Extension);
            }
            let fragment_header = next == proto::FRAGMENT;
            next = header[0];
            at += length;
            if fragment_header {
                let field = be16(header, 2);
                let fragment =
                    Fragment { id: be32(header, 4), offset: u32::from(field & 0xfff8), more: field & 1 != 0 };
                if fragment.more || fragment.offset != 0 {
                    return Ok(Self { protocol: next, length: at, fragment: Some(fragment) });
                }
            }
        }
        Err(Malformed::Extension)
    }
}

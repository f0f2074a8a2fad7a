//! IPv4 (RFC 791) and IPv6 with extension headers (RFC 8200), down to the transport header.
//!
//! The length comes from the IP header: what a short frame is padded with is not payload.

use super::ether::ethertype;
use super::{Malformed, be16, be32, proto};
use colo_ebpf::tags::MIN_PAYLOAD;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most extension headers followed in one packet. RFC 8200 names seven kinds; more is an attack.
pub const MAX_EXTENSIONS: usize = 10;
/// Longest datagram that fragments may form.
pub const MAX_DATAGRAM: usize = 65_535;
/// Bytes of an IPv4 header without options.
pub const V4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const V6_HEADER: usize = 40;

/// The IPv6 option that says how long a jumbogram is (RFC 2675).
pub(super) const JUMBO: u8 = 0xc2;
/// Options that fill up.
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;

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
    /// Start of the IP header.
    pub start: usize,
    /// Start of the transport header, or of the fragment's data.
    pub payload: usize,
    /// End of the packet by its own length field, as far as it is there.
    pub end: usize,
    /// Bytes of the packet that a capture lacks behind that.
    pub missing: usize,
    /// Set if this is a fragment. An atomic fragment (RFC 6946) is not one.
    pub fragment: Option<Fragment>,
}

impl Ip {
    /// Reads the IP header at `at` of `frame`, whose ethertype is IPv4 or IPv6.
    ///
    /// # Errors
    /// What contradicts itself or the frame's length.
    pub fn parse(frame: &[u8], at: usize, ethertype: u16) -> Result<Self, Malformed> {
        Self::parse_cut(frame, at, ethertype, 0)
    }

    /// The same of a frame of which a capture lacks the last bytes, so many.
    ///
    /// # Errors
    /// As above, or [`Malformed::Cut`] if it is the headers that are not there.
    pub fn parse_cut(frame: &[u8], at: usize, ethertype: u16, missing: usize) -> Result<Self, Malformed> {
        let b = frame.get(at..).ok_or(Malformed::IpHeader)?;
        let shortest = if ethertype == ethertype::IPV4 { V4_HEADER } else { V6_HEADER };
        let version = if ethertype == ethertype::IPV4 { 4 } else { 6 };
        match b.len() < shortest {
            true if b.first().is_some_and(|first| first >> 4 != version) => Err(Malformed::IpHeader),
            true if b.len() + missing >= shortest => Err(Malformed::Cut),
            true => Err(Malformed::IpHeader),
            false if ethertype == ethertype::IPV4 => Self::v4(b, at, missing),
            false => Self::v6(b, at, missing),
        }
    }

    fn v4(b: &[u8], at: usize, missing: usize) -> Result<Self, Malformed> {
        let header = usize::from(b[0] & 0x0f) * 4;
        let there = b.len() + missing;
        let total = v4_total(b, there);
        if b[0] >> 4 != 4 || header < V4_HEADER || total < header {
            return Err(Malformed::IpHeader);
        }
        if total > there {
            return Err(Malformed::IpLength);
        }
        if header > b.len() {
            return Err(Malformed::Cut);
        }
        let flags = be16(b, 6);
        let more = flags & 0x2000 != 0;
        let offset = u32::from(flags & 0x1fff) * 8;
        let mut ip = Self::addressed(IpFamily::V4, b, at);
        (ip.payload, ip.end) = (at + header, at + total.min(b.len()));
        ip.missing = at + total - ip.end;
        if more || offset != 0 {
            ip.set_fragment(Fragment { id: u32::from(be16(b, 4)), offset, more })?;
        }
        Ok(ip)
    }

    fn v6(b: &[u8], at: usize, missing: usize) -> Result<Self, Malformed> {
        let there = b.len() + missing;
        if b[0] >> 4 != 6 {
            return Err(Malformed::IpHeader);
        }
        let total = v6_total(b, there);
        if total > there {
            return Err(Malformed::IpLength);
        }
        let mut ip = Self::addressed(IpFamily::V6, b, at);
        ip.end = at + total.min(b.len());
        ip.missing = at + total - ip.end;
        let chain = Extensions::walk(b[6], &b[V6_HEADER..ip.end - at]).map_err(|error| match ip.missing {
            0 => error,
            _ => Malformed::Cut,
        })?;
        ip.protocol = chain.protocol;
        ip.payload = at + V6_HEADER + chain.length;
        if let Some(fragment) = chain.fragment {
            ip.set_fragment(fragment)?;
        }
        Ok(ip)
    }

    /// What the header at `at`, the start of `b`, says in any case: addresses and what comes next. The packet is all that is
    /// there behind it.
    fn addressed(family: IpFamily, b: &[u8], at: usize) -> Self {
        let mut ip = Self {
            family,
            src: [0; 16],
            dst: [0; 16],
            protocol: 0,
            start: at,
            payload: 0,
            end: at + b.len(),
            missing: 0,
            fragment: None,
        };
        match family {
            IpFamily::V4 => {
                (ip.protocol, ip.payload) = (b[9], at + V4_HEADER);
                ip.src[..4].copy_from_slice(&b[12..16]);
                ip.dst[..4].copy_from_slice(&b[16..20]);
            }
            IpFamily::V6 => {
                (ip.protocol, ip.payload) = (b[6], at + V6_HEADER);
                ip.src.copy_from_slice(&b[8..24]);
                ip.dst.copy_from_slice(&b[24..40]);
            }
        }
        ip
    }

    /// Of a packet that [`Self::parse_cut`] refuses, what can be told for certain: the fixed header, if it is one, and what
    /// follows it up to the packet's own end or the frame's.
    #[must_use]
    pub fn salvaged(frame: &[u8], at: usize, ethertype: u16, missing: usize) -> Option<Self> {
        let b = frame.get(at..)?;
        let (family, shortest) = match ethertype {
            ethertype::IPV4 => (IpFamily::V4, V4_HEADER),
            _ => (IpFamily::V6, V6_HEADER),
        };
        let version = if family == IpFamily::V4 { 4 } else { 6 };
        if b.len() < shortest || b[0] >> 4 != version {
            return None;
        }
        let mut ip = Self::addressed(family, b, at);
        ip.missing = missing;
        let there = b.len() + missing;
        let total = if family == IpFamily::V4 { v4_total(b, there) } else { v6_total(b, there) };
        if (shortest..=there).contains(&total) {
            ip.end = at + total.min(b.len());
            ip.missing = at + total - ip.end;
        }
        Some(ip)
    }

    fn set_fragment(&mut self, fragment: Fragment) -> Result<(), Malformed> {
        let length = self.end - self.payload + self.missing;
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

/// Length of the IPv4 packet at the start of `b`, of which `there` bytes are to be had. 0 stands for the rest of the frame: longer
/// than the field can say, or not said yet by a sender that leaves segmentation to its card.
fn v4_total(b: &[u8], there: usize) -> usize {
    match usize::from(be16(b, 2)) {
        0 => there,
        total => total,
    }
}

/// The same of an IPv6 packet, whose own option may name its length. What says that nothing follows needs none, and in a frame no
/// longer than the shortest only padding is left.
fn v6_total(b: &[u8], there: usize) -> usize {
    let length = match usize::from(be16(b, 4)) {
        0 if b[6] == proto::HOP_BY_HOP
            && let Some(jumbo) = jumbo(&b[V6_HEADER..]) =>
        {
            jumbo
        }
        0 if b[6] != proto::NOTHING && there > MIN_PAYLOAD => there - V6_HEADER,
        length => length,
    };
    V6_HEADER.saturating_add(length)
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

/// The length that a jumbo payload option in the hop-by-hop header at the start of `bytes` names.
fn jumbo(bytes: &[u8]) -> Option<usize> {
    let length = (usize::from(*bytes.get(1)?) + 1) * 8;
    let mut options = Options::of(bytes.get(2..length.min(bytes.len()))?);
    let length = options.find(|o| o.kind == JUMBO && o.data.len() == 4)?;
    usize::try_from(be32(length.data, 0)).ok()
}

/// One option of a hop-by-hop or destination options header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V6Option<'a> {
    /// Its type.
    pub kind: u8,
    /// What follows type and length.
    pub data: &'a [u8],
}

/// The options in such a header (RFC 8200 section 4.2), without padding. Ends where an option is cut.
#[derive(Clone, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Those in `bytes`, which begin behind the header's length.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = V6Option<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&kind, rest) = self.0.split_first()?;
            if kind == PAD_1 {
                self.0 = rest;
                continue;
            }
            let (&length, rest) = rest.split_first()?;
            let (data, rest) = rest.split_at_checked(length.into())?;
            self.0 = rest;
            if kind != PAD_N {
                return Some(V6Option { kind, data });
            }
        }
    }
}

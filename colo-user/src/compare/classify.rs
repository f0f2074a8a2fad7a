//! What a frame is: its class, the flow it belongs to, and the part of it that is compared.
//!
//! What is compared is what both guests say alike if they say the same, and nothing that is not said: padding ends where a protocol's
//! own length says. Never compared: Ethernet addresses of IP packets, VLAN priority, IP identification, TTL, TOS, flow label, every
//! checksum, TCP windows, PSH, URG and ECN bits, and what [`crate::wire::extras`] leaves out.
//!
//! Of a frame that a capture cut short the same is compared, as far as it goes: [`Gaps`] say what is not known.

use super::gaps::Gaps;
use super::key::Part;
pub use super::key::{FlowKey, IpFlow};
use crate::wire::ether::ethertype;
use crate::wire::extras::{self, Extras};
use crate::wire::icmp::IcmpKind;
use crate::wire::ip::Extensions;
use crate::wire::quote::Quoted;
use crate::wire::{
    Ether, Fragment, IcmpMessage, Ip, IpFamily, Malformed, TcpSegment, UdpDatagram, Vlans, be16, extent,
    proto,
};
use colo_ebpf::tags::MIN_PAYLOAD;
use smallvec::SmallVec;
use std::hash::{DefaultHasher, Hasher as _};

/// The class of a frame. Each frame of each guest falls into exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// TCP, compared as two byte streams.
    Tcp,
    /// UDP, compared by datagram.
    Udp,
    /// ICMP and ICMPv6 queries and replies.
    Icmp,
    /// ICMP and ICMPv6 errors: compared by type, code and quoted flow; dropped when the secondary stays silent.
    IcmpError,
    /// Other IP protocols, compared by payload.
    OtherIp,
    /// Other ethertypes, compared by payload.
    OtherEther,
    /// ARP, RARP, ND, IGMP, MLD: timer-driven, released at once.
    Neighbour,
    /// Fragments: compared once the datagram is whole.
    Fragment,
    /// Runts and frames that contradict themselves, compared by bytes.
    Malformed,
    /// Let through by a rule.
    Bypass,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// All, in the order of declaration.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::IcmpError,
        Self::OtherIp,
        Self::OtherEther,
        Self::Neighbour,
        Self::Fragment,
        Self::Malformed,
        Self::Bypass,
    ];

    /// The name used in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::IcmpError => "icmp_error",
            Self::OtherIp => "other_ip",
            Self::OtherEther => "other_ether",
            Self::Neighbour => "neighbour",
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
            Self::Bypass => "bypass",
        }
    }
}

/// Bytes at the start of an ICMP error's [`Unit::head`] that are a digest of the flow it quotes.
pub(super) const QUOTED: usize = 8;

/// The compared part of something that comes in units: a datagram, a message, a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Compared, but not part of the payload that offsets count in.
    pub head: SmallVec<[u8; 64]>,
    /// The payload.
    pub body: &'a [u8],
    /// What of the payload is not known.
    pub gaps: Gaps,
}

/// What there is to compare in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A TCP segment.
    Tcp(TcpSegment<'a>),
    /// Something that comes in units.
    Unit(Unit<'a>),
    /// Nothing: it leaves at once.
    Neighbour {
        /// Whether it asks for an answer.
        asks: bool,
    },
    /// A piece of a datagram.
    Fragment(FragmentOf<'a>),
}

/// A piece of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentOf<'a> {
    /// The packet's header.
    pub ip: Ip,
    /// Tags.
    pub vlans: Vlans,
    /// What the packet says beside its data.
    pub extras: Extras,
    /// Where it belongs.
    pub fragment: Fragment,
    /// Its data, as far as it is known.
    pub data: &'a [u8],
}

/// A frame, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified<'a> {
    /// Its class.
    pub class: Class,
    /// Its flow.
    pub key: FlowKey,
    /// What is compared.
    pub subject: Subject<'a>,
    /// Of a TCP segment, what of its payload is not known.
    pub gaps: Gaps,
    /// Whether it is not known of a TCP segment what all its options are, or of an ICMP error which flow it quotes.
    pub header_cut: bool,
}

impl<'a> Classified<'a> {
    const fn new(class: Class, key: FlowKey, subject: Subject<'a>) -> Self {
        Self { class, key, subject, gaps: Gaps::NONE, header_cut: false }
    }

    /// Something that comes in units.
    pub(super) fn unit(class: Class, key: FlowKey, head: &[&[u8]], body: &'a [u8], gaps: Gaps) -> Self {
        let head = head.iter().flat_map(|part| part.iter().copied()).collect();
        Self::new(class, key, Subject::Unit(Unit { head, body, gaps }))
    }
}

/// Reads `frame`. Never fails: what cannot be read is of class [`Class::Malformed`].
#[must_use]
pub fn classify(frame: &[u8]) -> Classified<'_> {
    classify_cut(frame, 0)
}

/// The same of a frame of which a capture lacks the last bytes, so many.
#[must_use]
pub fn classify_cut(frame: &[u8], missing: usize) -> Classified<'_> {
    let Ok(ether) = Ether::parse_cut(frame, missing) else { return malformed(frame, missing) };
    if !matches!(ether.ethertype, ethertype::IPV4 | ethertype::IPV6) {
        return other_ethertype(frame, &ether);
    }
    packet(frame, &ether, missing).unwrap_or_else(|error| match error {
        Malformed::Cut => headless(frame, &ether, missing),
        _ => malformed_packet(frame, &ether, missing),
    })
}

fn malformed(frame: &[u8], missing: usize) -> Classified<'_> {
    let mut head = [0; 12];
    let n = frame.len().min(12);
    head[..n].copy_from_slice(&frame[..n]);
    let gaps = Gaps::behind(frame.len(), missing);
    Classified::unit(Class::Malformed, FlowKey::Malformed(head), &[], frame, gaps)
}

fn other_ethertype<'a>(frame: &'a [u8], ether: &Ether) -> Classified<'a> {
    let Ether { vlans, ethertype, src, dst, .. } = *ether;
    let key = FlowKey::Ether { vlans, ethertype, src, dst };
    let payload = &frame[ether.payload..ether.end];
    let asks = match ethertype {
        // The operation field of RFC 826: 1 asks.
        ethertype::ARP => payload.len() >= 8 && be16(payload, 6) == 1,
        ethertype::RARP => false,
        _ => {
            let (body, gaps) = content(ether, payload);
            return Classified::unit(Class::OtherEther, key, &[], body, gaps);
        }
    };
    Classified::new(Class::Neighbour, key, Subject::Neighbour { asks })
}

/// What of `payload`, which follows `ether`, is content, and what of that a capture lacks.
fn content<'a>(ether: &Ether, payload: &'a [u8]) -> (&'a [u8], Gaps) {
    let (there, missing) = (payload.len(), ether.missing);
    let says_length = ether.ethertype == 0 || ether.vlans.snap().is_some();
    match extent::content(ether.ethertype, payload, missing) {
        Some(end) => (&payload[..end.min(there)], Gaps::behind(end.min(there), end.saturating_sub(there))),
        None if says_length => (payload, Gaps::behind(there, missing)),
        None if missing == 0 => (&payload[..extent::without_zeros(payload)], Gaps::NONE),
        // Its length, or the last byte that is no zero, is not there.
        None if there + missing <= MIN_PAYLOAD => {
            let end = extent::without_zeros(payload);
            (&payload[..end], Gaps::open(end))
        }
        None if extent::is_told(ether.ethertype) => (payload, Gaps::open(there)),
        None => (payload, Gaps::behind(there, missing)),
    }
}

/// What follows the fixed header of a packet that cannot be read, by bytes, with what that says of lengths; all of one that has no such
/// header.
fn malformed_packet<'a>(frame: &'a [u8], ether: &Ether, missing: usize) -> Classified<'a> {
    let Some(ip) = Ip::salvaged(frame, ether.payload, ether.ethertype, missing) else {
        let key = IpFlow { part: Part::Malformed, ..nobody(ether) };
        let body = &frame[ether.payload..ether.end];
        let gaps = Gaps::behind(body.len(), ether.missing);
        return Classified::unit(Class::Malformed, FlowKey::Ip(key), &[], body, gaps);
    };
    let header = &frame[ip.start..];
    let key = IpFlow { part: Part::Malformed, ..ip_flow(&ip, ether.vlans, ip.protocol, 0, 0) };
    let body = &frame[ip.payload..ip.end];
    let gaps = Gaps::behind(body.len(), ip.missing);
    // Of the fragment field all but "don't fragment".
    let head = match ip.family {
        IpFamily::V4 => [header[0], header[2], header[3], header[6] & 0xbf, header[7]],
        IpFamily::V6 => [header[4], header[5], 0, 0, 0],
    };
    Classified::unit(Class::Malformed, FlowKey::Ip(key), &[&head], body, gaps)
}

/// The flow of packets of which not even the addresses are known.
fn nobody(ether: &Ether) -> IpFlow {
    IpFlow {
        vlans: ether.vlans,
        family: if ether.ethertype == ethertype::IPV4 { IpFamily::V4 } else { IpFamily::V6 },
        protocol: 0,
        part: Part::Headless,
        extras: 0,
        src: [0; 16],
        dst: [0; 16],
        sport: 0,
        dport: 0,
    }
}

/// A packet whose headers are not all there: only that it was said is known.
fn headless<'a>(frame: &[u8], ether: &Ether, missing: usize) -> Classified<'a> {
    let flow = match Ip::parse_cut(frame, ether.payload, ether.ethertype, missing) {
        Ok(ip) => headless_flow(&ip, ether.vlans),
        // What the extension headers lead to is not known.
        Err(_) => match Ip::salvaged(frame, ether.payload, ether.ethertype, missing) {
            Some(ip) if ip.family == IpFamily::V4 => headless_flow(&ip, ether.vlans),
            Some(ip) => IpFlow { protocol: 0, ..headless_flow(&ip, ether.vlans) },
            None => nobody(ether),
        },
    };
    Classified::new(class_of(flow.protocol), FlowKey::Ip(flow), Subject::Neighbour { asks: false })
}

fn headless_flow(ip: &Ip, vlans: Vlans) -> IpFlow {
    IpFlow { part: Part::Headless, ..ip_flow(ip, vlans, ip.protocol, 0, 0) }
}

/// The class of a packet of which only the protocol is known.
const fn class_of(protocol: u8) -> Class {
    match protocol {
        proto::TCP => Class::Tcp,
        proto::UDP => Class::Udp,
        proto::ICMP | proto::ICMPV6 => Class::Icmp,
        _ => Class::OtherIp,
    }
}

fn packet<'a>(frame: &'a [u8], ether: &Ether, missing: usize) -> Result<Classified<'a>, Malformed> {
    let ip = Ip::parse_cut(frame, ether.payload, ether.ethertype, missing)?;
    let data = &frame[ip.payload..ip.end];
    let extras = extras::of(frame, &ip);
    let vlans = ether.vlans;
    match ip.fragment {
        Some(fragment) => {
            let key = fragment_key(&ip, vlans);
            let of = FragmentOf { ip, vlans, extras, fragment, data };
            Ok(Classified::new(Class::Fragment, key, Subject::Fragment(of)))
        }
        None => transport(&ip, vlans, &extras, ip.protocol, data, Gaps::behind(data.len(), ip.missing)),
    }
}

/// The flow of fragments that are compared one by one.
pub(super) fn fragment_key(ip: &Ip, vlans: Vlans) -> FlowKey {
    FlowKey::Ip(IpFlow { part: Part::Fragments, ..ip_flow(ip, vlans, ip.protocol, 0, 0) })
}

fn ip_flow(ip: &Ip, vlans: Vlans, protocol: u8, sport: u16, dport: u16) -> IpFlow {
    let Ip { family, src, dst, .. } = *ip;
    IpFlow { vlans, family, protocol, part: Part::Whole, extras: 0, src, dst, sport, dport }
}

/// Reads a datagram that was put together from fragments: `data` is the fragmentable part, which may begin with more
/// extension headers, and `gaps` what of it is not known.
///
/// # Errors
/// What contradicts itself, a fragment within a fragment included.
pub fn reassembled<'a>(
    ip: &Ip,
    vlans: Vlans,
    extras: &Extras,
    data: &'a [u8],
    gaps: &Gaps,
) -> Result<Classified<'a>, Malformed> {
    let read = match ip.family {
        IpFamily::V4 => transport(ip, vlans, extras, ip.protocol, data, gaps.clone()),
        IpFamily::V6 => extended(ip, vlans, extras, data, gaps),
    };
    match read {
        Err(Malformed::Cut) => {
            // What the extension headers lead to may not be known.
            let protocol = match ip.family {
                IpFamily::V4 => ip.protocol,
                IpFamily::V6 => {
                    Extensions::walk(ip.protocol, &data[..gaps.sure(data)]).map_or(0, |chain| chain.protocol)
                }
            };
            let flow = IpFlow { protocol, ..headless_flow(ip, vlans) };
            let class = class_of(flow.protocol);
            Ok(Classified::new(class, FlowKey::Ip(flow), Subject::Neighbour { asks: false }))
        }
        read => read,
    }
}

fn extended<'a>(
    ip: &Ip,
    vlans: Vlans,
    extras: &Extras,
    data: &'a [u8],
    gaps: &Gaps,
) -> Result<Classified<'a>, Malformed> {
    let sure = gaps.sure(data);
    let chain = Extensions::walk(ip.protocol, &data[..sure])
        .map_err(|error| if gaps.is_empty() { error } else { Malformed::Cut })?;
    if chain.fragment.is_some() {
        return Err(Malformed::Fragment);
    }
    let mut extras = extras.clone();
    extras::v6(ip.protocol, &data[..chain.length], false, &mut extras);
    let rest = &data[chain.length..];
    transport(ip, vlans, &extras, chain.protocol, rest, gaps.after(chain.length))
}

fn transport<'a>(
    ip: &Ip,
    vlans: Vlans,
    extras: &Extras,
    protocol: u8,
    data: &'a [u8],
    gaps: Gaps,
) -> Result<Classified<'a>, Malformed> {
    let flow = |sport, dport| FlowKey::Ip(ip_flow(ip, vlans, protocol, sport, dport));
    let (sure, total) = (gaps.sure(data), gaps.total(data).unwrap_or(data.len()));
    Ok(match (protocol, ip.family) {
        (proto::TCP, _) => {
            let segment = TcpSegment::parse_cut(data, sure, total)?;
            let header = TcpSegment::header(data);
            let key = IpFlow {
                extras: digest(extras),
                ..ip_flow(ip, vlans, protocol, segment.src_port, segment.dst_port)
            };
            let mut tcp = Classified::new(Class::Tcp, FlowKey::Ip(key), Subject::Tcp(segment));
            (tcp.gaps, tcp.header_cut) = (gaps.after(header), sure < header);
            tcp
        }
        (proto::UDP, _) => {
            let datagram = UdpDatagram::parse_cut(data, sure, total)?;
            let (key, length) = (flow(datagram.src_port, datagram.dst_port), datagram.length.to_be_bytes());
            let gaps = gaps.after(UdpDatagram::HEADER);
            Classified::unit(Class::Udp, key, &[extras, &length], datagram.payload, gaps)
        }
        (proto::ICMP, IpFamily::V4) | (proto::ICMPV6, IpFamily::V6) => {
            let message = IcmpMessage::parse_cut(ip.family, data, sure, total)?;
            let kind = u16::from_be_bytes([message.kind_byte, message.code]);
            let gaps = gaps.after(IcmpMessage::HEADER);
            let said = |id| {
                let head: [&[u8]; 2] = [extras, &message.rest];
                Classified::unit(Class::Icmp, flow(kind, id), &head, message.payload, gaps.clone())
            };
            match message.kind {
                IcmpKind::Echo { id } => said(id),
                IcmpKind::Other => said(0),
                IcmpKind::Neighbour { asks } => {
                    Classified::new(Class::Neighbour, flow(kind, 0), Subject::Neighbour { asks })
                }
                IcmpKind::Error => {
                    let known = message.payload.len().min(sure - IcmpMessage::HEADER);
                    let quoted = Quoted::of(ip.family, &message.payload[..known]);
                    let objects = message.objects(ip.family).unwrap_or(usize::MAX);
                    let head: [&[u8]; 3] = [&digest(&quoted.flow).to_be_bytes(), extras, &message.rest];
                    let body = message.payload.get(objects..).unwrap_or_default();
                    let gaps = gaps.after(objects);
                    let mut error = Classified::unit(Class::IcmpError, flow(kind, 0), &head, body, gaps);
                    error.header_cut = quoted.cut && known < total - IcmpMessage::HEADER;
                    error
                }
            }
        }
        (proto::IGMP, IpFamily::V4) => {
            Classified::new(Class::Neighbour, flow(0, 0), Subject::Neighbour { asks: false })
        }
        _ => Classified::unit(Class::OtherIp, flow(0, 0), &[extras], data, gaps),
    })
}

/// A number for what tells streams apart, 0 for nothing.
fn digest(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests;

//! What a frame is: its class, the flow it belongs to, and the part of it that is compared.
//!
//! What is compared is what a router and a NIC may not change. Never compared: Ethernet addresses of IP packets, VLAN
//! priority, IP identification, TTL, TOS, every checksum, TCP windows, PSH, URG and ECN bits, padding.

use crate::wire::ether::ethertype;
use crate::wire::icmp::IcmpKind;
use crate::wire::ip::Extensions;
use crate::wire::{
    Ether, Fragment, IcmpMessage, Ip, IpFamily, Malformed, TcpSegment, UdpDatagram, Vlans, be16, proto,
};
use smallvec::SmallVec;
use std::fmt;
use std::net::IpAddr;

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

/// What one guest says to one peer: the unit of order. One direction, from the guest out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// An IP flow.
    Ip(IpFlow),
    /// Frames of another ethertype between two stations.
    Ether {
        /// VLAN ids.
        vlans: Vlans,
        /// The ethertype; 0 for 802.3 length frames.
        ethertype: u16,
        /// Sender.
        src: [u8; 6],
        /// Receiver.
        dst: [u8; 6],
    },
    /// Frames that cannot be read, by their first twelve bytes (zeros where the frame is shorter).
    Malformed([u8; 12]),
}

/// The key of an IP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpFlow {
    /// VLAN ids.
    pub vlans: Vlans,
    /// Address family.
    pub family: IpFamily,
    /// IP protocol.
    pub protocol: u8,
    /// Whether these are fragments that are compared one by one because they never became whole.
    pub fragments: bool,
    /// The guest's address.
    pub src: [u8; 16],
    /// The client's address.
    pub dst: [u8; 16],
    /// The guest's port; for ICMP the type and code.
    pub sport: u16,
    /// The client's port; for ICMP echo the identifier.
    pub dport: u16,
}

impl IpFlow {
    fn ends(&self) -> [(IpAddr, u16); 2] {
        use crate::wire::ip::address;
        [(address(self.family, &self.src), self.sport), (address(self.family, &self.dst), self.dport)]
    }

    /// The flow in the other direction: the key of what the client sends, turned to the guest's view.
    #[must_use]
    pub const fn reversed(mut self) -> Self {
        (self.src, self.dst) = (self.dst, self.src);
        (self.sport, self.dport) = (self.dport, self.sport);
        self
    }
}

impl FlowKey {
    /// Whether `rule` lets this flow through uncompared.
    #[must_use]
    pub fn bypassed_by(&self, rule: &super::Bypass) -> bool {
        match self {
            Self::Ip(flow) => rule.matches(flow.protocol, flow.ends(), flow.vlans),
            Self::Ether { vlans, .. } => {
                rule.vlan.is_some_and(|id| vlans.ids().any(|v| v == id))
                    && rule.protocol.is_none()
                    && rule.address.is_none()
                    && rule.port.is_none()
            }
            Self::Malformed(_) => false,
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |f: &mut fmt::Formatter<'_>, m: &[u8]| {
            m.iter().enumerate().try_for_each(|(i, b)| write!(f, "{}{b:02x}", if i > 0 { ":" } else { "" }))
        };
        let vlans =
            |f: &mut fmt::Formatter<'_>, v: &Vlans| v.ids().try_for_each(|id| write!(f, " vlan {id}"));
        match self {
            Self::Ip(flow) => {
                let [(src, sport), (dst, dport)] = flow.ends();
                let name = match flow.protocol {
                    proto::TCP => "tcp",
                    proto::UDP => "udp",
                    proto::ICMP => "icmp",
                    proto::ICMPV6 => "icmpv6",
                    _ => "ip",
                };
                write!(f, "{name}")?;
                match flow.protocol {
                    _ if flow.fragments => write!(f, " fragments {src} > {dst}")?,
                    proto::TCP | proto::UDP => {
                        let src = std::net::SocketAddr::new(src, sport);
                        let dst = std::net::SocketAddr::new(dst, dport);
                        write!(f, " {src} > {dst}")?;
                    }
                    proto::ICMP | proto::ICMPV6 => {
                        write!(f, " {src} > {dst} type {} code {}", sport >> 8, sport & 0xff)?;
                        if dport != 0 {
                            write!(f, " id {dport}")?;
                        }
                    }
                    other => write!(f, " protocol {other} {src} > {dst}")?,
                }
                vlans(f, &flow.vlans)
            }
            Self::Ether { vlans: tags, ethertype, src, dst } => {
                write!(f, "ethertype {ethertype:#06x} ")?;
                mac(f, src)?;
                write!(f, " > ")?;
                mac(f, dst)?;
                vlans(f, tags)
            }
            Self::Malformed(head) => {
                write!(f, "malformed ")?;
                mac(f, &head[6..])?;
                write!(f, " > ")?;
                mac(f, &head[..6])
            }
        }
    }
}

/// The compared part of something that comes in units: a datagram, a message, a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Compared, but not part of the payload that offsets count in.
    pub head: SmallVec<[u8; 64]>,
    /// The payload.
    pub body: &'a [u8],
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentOf<'a> {
    /// The packet's header.
    pub ip: Ip,
    /// VLAN ids.
    pub vlans: Vlans,
    /// Where it belongs.
    pub fragment: Fragment,
    /// Its data.
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
}

/// Reads `frame`. Never fails: what cannot be read is of class [`Class::Malformed`].
#[must_use]
pub fn classify(frame: &[u8]) -> Classified<'_> {
    readable(frame).unwrap_or_else(|_| malformed(frame))
}

fn malformed(frame: &[u8]) -> Classified<'_> {
    let mut head = [0; 12];
    let n = frame.len().min(12);
    head[..n].copy_from_slice(&frame[..n]);
    Classified {
        class: Class::Malformed,
        key: FlowKey::Malformed(head),
        subject: Subject::Unit(Unit { head: SmallVec::new(), body: frame }),
    }
}

fn readable(frame: &[u8]) -> Result<Classified<'_>, Malformed> {
    let ether = Ether::parse(frame)?;
    let key =
        FlowKey::Ether { vlans: ether.vlans, ethertype: ether.ethertype, src: ether.src, dst: ether.dst };
    let neighbour = |asks| Classified { class: Class::Neighbour, key, subject: Subject::Neighbour { asks } };
    Ok(match ether.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            let ip = Ip::parse(frame, ether.payload, ether.ethertype)?;
            let data = &frame[ip.payload..ip.end];
            match ip.fragment {
                Some(fragment) => Classified {
                    class: Class::Fragment,
                    key: fragment_key(&ip, ether.vlans),
                    subject: Subject::Fragment(FragmentOf { ip, vlans: ether.vlans, fragment, data }),
                },
                None => transport(&ip, ether.vlans, ip.protocol, data)?,
            }
        }
        // The operation field of RFC 826: 1 asks.
        ethertype::ARP => neighbour(frame.len() >= ether.payload + 8 && be16(frame, ether.payload + 6) == 1),
        ethertype::RARP => neighbour(false),
        _ => Classified {
            class: Class::OtherEther,
            key,
            subject: Subject::Unit(Unit { head: SmallVec::new(), body: &frame[ether.payload..] }),
        },
    })
}

/// The flow of fragments that are compared one by one.
pub(super) fn fragment_key(ip: &Ip, vlans: Vlans) -> FlowKey {
    FlowKey::Ip(IpFlow { fragments: true, ..ip_flow(ip, vlans, ip.protocol, 0, 0) })
}

fn ip_flow(ip: &Ip, vlans: Vlans, protocol: u8, sport: u16, dport: u16) -> IpFlow {
    IpFlow { vlans, family: ip.family, protocol, fragments: false, src: ip.src, dst: ip.dst, sport, dport }
}

/// Reads a datagram that was put together from fragments: `data` is the fragmentable part, which may begin with more
/// extension headers.
///
/// # Errors
/// What contradicts itself, a fragment within a fragment included.
pub fn reassembled<'a>(ip: &Ip, vlans: Vlans, data: &'a [u8]) -> Result<Classified<'a>, Malformed> {
    match ip.family {
        IpFamily::V4 => transport(ip, vlans, ip.protocol, data),
        IpFamily::V6 => {
            let chain = Extensions::walk(ip.protocol, data)?;
            if chain.fragment.is_some() {
                return Err(Malformed::Fragment);
            }
            transport(ip, vlans, chain.protocol, &data[chain.length..])
        }
    }
}

fn transport<'a>(ip: &Ip, vlans: Vlans, protocol: u8, data: &'a [u8]) -> Result<Classified<'a>, Malformed> {
    let flow = |sport, dport| FlowKey::Ip(ip_flow(ip, vlans, protocol, sport, dport));
    let unit = |head: &[u8], body| Subject::Unit(Unit { head: SmallVec::from_slice(head), body });
    let (class, key, subject) = match (protocol, ip.family) {
        (proto::TCP, _) => {
            let segment = TcpSegment::parse(data)?;
            (Class::Tcp, flow(segment.src_port, segment.dst_port), Subject::Tcp(segment))
        }
        (proto::UDP, _) => {
            let datagram = UdpDatagram::parse(data)?;
            let head = datagram.length.to_be_bytes();
            (Class::Udp, flow(datagram.src_port, datagram.dst_port), unit(&head, datagram.payload))
        }
        (proto::ICMP, IpFamily::V4) | (proto::ICMPV6, IpFamily::V6) => {
            let message = IcmpMessage::parse(ip.family, data)?;
            let kind = u16::from_be_bytes([message.kind_byte, message.code]);
            match message.kind {
                IcmpKind::Echo { id } => (Class::Icmp, flow(kind, id), unit(&message.rest, message.payload)),
                IcmpKind::Other => (Class::Icmp, flow(kind, 0), unit(&message.rest, message.payload)),
                IcmpKind::Neighbour { asks } => {
                    (Class::Neighbour, flow(kind, 0), Subject::Neighbour { asks })
                }
                IcmpKind::Error => {
                    let quoted = quoted_flow(ip.family, message.payload);
                    (Class::IcmpError, flow(kind, 0), Subject::Unit(Unit { head: quoted, body: &[] }))
                }
            }
        }
        (proto::IGMP, IpFamily::V4) => (Class::Neighbour, flow(0, 0), Subject::Neighbour { asks: false }),
        _ => (Class::OtherIp, flow(0, 0), unit(&[], data)),
    };
    Ok(Classified { class, key, subject })
}

/// The addresses, protocol and ports of the packet that an ICMP error quotes, as bytes to compare; shorter where the
/// quote is cut.
fn quoted_flow(family: IpFamily, quote: &[u8]) -> SmallVec<[u8; 64]> {
    let mut flow = SmallVec::new();
    let (addresses, protocol, ports) = match family {
        IpFamily::V4 => (12..20, 9, usize::from(quote.first().map_or(0, |b| b & 0x0f)) * 4),
        IpFamily::V6 => (8..40, 6, 40),
    };
    flow.extend_from_slice(quote.get(addresses).unwrap_or_default());
    flow.extend(quote.get(protocol).copied());
    // Ports, or what stands there: an echo's type and code would come with its checksum, which may differ.
    if quote.get(protocol).is_some_and(|&p| matches!(p, proto::TCP | proto::UDP)) {
        flow.extend_from_slice(quote.get(ports..ports + 4).unwrap_or_default());
    }
    flow
}

#[cfg(test)]
mod tests;

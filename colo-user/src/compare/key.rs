//! What a flow is called: the unit of order.

use super::Bypass;
use crate::wire::ip::address;
use crate::wire::{IpFamily, Vlans, proto};
use std::fmt;
use std::net::IpAddr;

/// What one guest says to one peer. One direction, from the guest out.
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

/// Which part of the packets of a flow there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// All that its protocol says.
    Whole,
    /// Fragments that are compared one by one because they never became whole.
    Fragments,
    /// What follows the IP header contradicts itself, or that header does beyond its fixed part.
    Malformed,
    /// Captures end within the headers: ports that are not known are 0, and so are protocol and addresses.
    Headless,
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
    /// What of it is read.
    pub part: Part,
    /// A digest of what TCP segments say beside their payload (see [`crate::wire::extras`]), 0 for nothing: those that ask for
    /// another route, or carry another label, are another stream. Of all else it is part of what is compared.
    pub extras: u64,
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
    /// The name of the connection, whatever its packets say beside their segments.
    #[must_use]
    pub const fn of_connection(mut self) -> Self {
        if let Self::Ip(flow) = &mut self {
            flow.extras = 0;
        }
        self
    }

    /// Whether there may be others of the same connection.
    pub(super) const fn is_labelled(&self) -> bool {
        matches!(self, Self::Ip(flow) if flow.extras != 0)
    }

    /// Whether `rule` lets this flow through uncompared.
    #[must_use]
    pub fn bypassed_by(&self, rule: &Bypass) -> bool {
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
                    _ if flow.part == Part::Fragments => write!(f, " fragments {src} > {dst}")?,
                    _ if flow.part == Part::Malformed => write!(f, " malformed {src} > {dst}")?,
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
                if self.is_labelled() {
                    write!(f, " with IP options {:016x}", flow.extras)?;
                }
                flow.vlans.fmt(f)
            }
            Self::Ether { vlans: tags, ethertype, src, dst } => {
                write!(f, "ethertype {ethertype:#06x} ")?;
                mac(f, src)?;
                write!(f, " > ")?;
                mac(f, dst)?;
                tags.fmt(f)
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

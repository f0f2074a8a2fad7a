//! Where a guest is now: gratuitous ARP and unsolicited neighbour advertisements for its addresses. No I/O, no clock.
//!
//! After a takeover switches and neighbours must learn that the guest's MAC address is behind another port. Which addresses
//! it has is learned from what it says itself ([`Addresses::said`]): the sender of its ARP, the target of its neighbour
//! advertisements, and the source of packets that it made: their TTL is one that stacks begin with, so what a guest only
//! forwards is not announced as its own.
//!
//! Bounded by [`MAX_ADDRESSES`]; further ones are counted and not announced: their own next frame does it as well.

use crate::wire::build::{Wrap, ether, icmp_frame};
use crate::wire::ether::ethertype;
use crate::wire::ip::address;
use crate::wire::{Ether, Ip, IpFamily, Vlans, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Most addresses that are remembered.
pub const MAX_ADDRESSES: usize = 64;
/// The frames are said twice, with this time between (RFC 5227, ANNOUNCE_INTERVAL).
pub const AGAIN: Duration = Duration::from_secs(2);

/// What stacks set a packet's TTL or hop limit to when they make it.
const OWN_TTL: [u8; 3] = [64, 128, 255];
/// A neighbour advertisement (RFC 4861, 4.4).
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Its flags: it comes from a router, and it overrides what is cached.
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// All nodes on a link, and the Ethernet address for it.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// One of the guest's addresses, and where it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own {
    mac: [u8; 6],
    vlans: Vlans,
    address: IpAddr,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    known: Vec<Own>,
    /// The one that was heard last: most frames repeat it.
    last: usize,
    /// The guest says of itself that it routes IPv6. Hosts forget a router that says it is none.
    router: bool,
    refused: u64,
}

impl Addresses {
    /// The guest said this frame.
    pub fn said(&mut self, frame: &[u8]) {
        let Ok(link) = Ether::parse(frame) else { return };
        let address = match link.ethertype {
            ethertype::ARP => arp_sender(&frame[link.payload..]),
            ethertype::IPV4 | ethertype::IPV6 => self.source(frame, &link),
            _ => None,
        };
        if let Some(address) =
            address.filter(|a| !(a.is_unspecified() || a.is_multicast() || a.is_loopback()))
        {
            self.learn(Own { mac: link.src, vlans: link.vlans, address });
        }
    }

    fn source(&mut self, frame: &[u8], link: &Ether) -> Option<IpAddr> {
        let ip = Ip::parse(frame, link.payload, link.ethertype).ok()?;
        let ttl = frame[link.payload + if ip.family == IpFamily::V4 { 8 } else { 7 }];
        let message = &frame[ip.payload..ip.end];
        if ip.protocol == proto::ICMPV6
            && ip.fragment.is_none()
            && let [NEIGHBOUR_ADVERTISEMENT, _, _, _, flags, _, _, _, target @ ..] = message
        {
            self.router |= flags & ROUTER != 0;
            return target.first_chunk::<16>().map(|target| address(IpFamily::V6, target));
        }
        OWN_TTL.contains(&ttl).then(|| ip.source())
    }

    fn learn(&mut self, own: Own) {
        if self.known.get(self.last) == Some(&own) {
            return;
        }
        match self.known.iter().position(|known| *known == own) {
            Some(at) => self.last = at,
            None if self.known.len() < MAX_ADDRESSES => {
                self.last = self.known.len();
                self.known.push(own);
            }
            None => self.refused += 1,
        }
    }

    /// Addresses known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Frames whose address found no room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// One frame per address: an ARP request of the address for itself, or an unsolicited neighbour advertisement.
    pub fn frames(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.known.iter().map(|own| match own.address {
            IpAddr::V4(address) => gratuitous_arp(own, address),
            IpAddr::V6(address) => self.advertisement(own, address),
        })
    }

    fn advertisement(&self, own: &Own, target: Ipv6Addr) -> Vec<u8> {
        let flags = OVERRIDE | if self.router { ROUTER } else { 0 };
        // The target, and its link-layer address as option 2, of one unit of 8 bytes.
        let body = [&target.octets()[..], &[2, 1], &own.mac].concat();
        // RFC 4861, 7.1.2: anything but 255 has crossed a router and is not believed.
        let wrap = Wrap { ttl: 255, ..wrap(own, ALL_NODES_MAC) };
        icmp_frame(
            target.into(),
            ALL_NODES.into(),
            NEIGHBOUR_ADVERTISEMENT,
            0,
            [flags, 0, 0, 0],
            &body,
            &wrap,
        )
    }
}

fn wrap(own: &Own, dst_mac: [u8; 6]) -> Wrap {
    Wrap { dst_mac, src_mac: own.mac, vlans: own.vlans, ..Wrap::default() }
}

/// RFC 5227, 3: an ARP request whose sender and target address are the same.
fn gratuitous_arp(own: &Own, address: Ipv4Addr) -> Vec<u8> {
    let mut b = vec![0, 1, 8, 0, 6, 4, 0, 1];
    b.extend(own.mac);
    b.extend(address.octets());
    b.extend([0; 6]);
    b.extend(address.octets());
    ether(ethertype::ARP, &b, &wrap(own, BROADCAST))
}

/// The sender's address of ARP for IPv4 over Ethernet; none of anything else, and of a probe.
fn arp_sender(packet: &[u8]) -> Option<IpAddr> {
    let header = packet.get(..6)?;
    let sender = packet.get(14..18)?.first_chunk::<4>()?;
    (header == [0, 1, 8, 0, 6, 4]).then(|| Ipv4Addr::from(*sender).into())
}

#[cfg(test)]
mod tests;

//! The connections that clients keep open to the guest, and up to where each has spoken. After a takeover every client is told
//! that what it says meanwhile was lost ([`Clients::notices`]), or it would wait on.
//!
//! While nobody answered, a client has sent its data again after a time that it doubles each time, and it would be silent for as
//! long again. No acknowledgement ends that: it has said nothing that a duplicate could hurry along. What does is what a router
//! would have said of a route that was gone: ICMP host unreachable, ICMPv6 no route. It takes one doubling back (RFC 6069, in
//! Linux since 2.6.32) if it quotes the first byte that is not acknowledged, and to other stacks it is a hint that they
//! ignore on an open connection (RFC 1122, 4.2.3.9; RFC 5461). The first byte not acknowledged is the first that
//! this side has not heard: what it has heard, its guest has acknowledged, and that is said before ([`super`]). But a client
//! that repeats itself to a primary that is frozen has heard nothing of that: then it is the first that it repeats.
//!
//! A connection that is being opened is never told: there it would be fatal. One that ends is not either. Bounded by twice
//! [`GENERATION`]: beyond it those that spoke longest ago go, and are counted.

use crate::recent::Recent;
use crate::wire::build::{Tcp, Wrap, icmp_frame, ip};
use crate::wire::ether::{self, Ether};
use crate::wire::{Ip, Seq, TcpFlags, TcpSegment, Vlans, proto};
use std::net::SocketAddr;

/// Half of the connections that are remembered, see [`Recent`].
pub const GENERATION: usize = 8192;
/// Doublings taken back: Linux begins with 0.2 s, so this is for a silence of more than 12 s.
pub const NOTICES: usize = 6;

/// Destination unreachable, and the code that says that there was no way to the host.
const UNREACHABLE: [(u8, u8); 2] = [(3, 1), (1, 0)];

/// The client's end and the guest's.
type Ends = (SocketAddr, SocketAddr);

#[derive(Clone, Copy, Debug)]
struct Client {
    mac: [u8; 6],
    guest_mac: [u8; 6],
    vlans: Vlans,
    /// What follows all that it has said.
    next: Seq,
    /// The first byte that nobody has acknowledged to it.
    lost: Seq,
}

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::agent::secondary) struct Clients(Recent<Ends, Client>);

impl Default for Clients {
    fn default() -> Self {
        Self(Recent::new(GENERATION))
    }
}

impl Clients {
    /// A client said this segment to the guest.
    pub fn heard(&mut self, link: &Ether, ip: &Ip, segment: &TcpSegment<'_>) {
        let ends = (
            SocketAddr::new(ip.source(), segment.src_port),
            SocketAddr::new(ip.destination(), segment.dst_port),
        );
        let flags = segment.flags;
        let open = flags.has(TcpFlags::ACK)
            && ![TcpFlags::SYN, TcpFlags::FIN, TcpFlags::RST].into_iter().any(|flag| flags.has(flag));
        if !open {
            self.0.remove(&ends);
            return;
        }
        let bare = segment.payload.is_empty();
        let next = segment.seq + segment.payload.len() as u32;
        let new = || Client { mac: link.src, guest_mac: link.dst, vlans: link.vlans, next, lost: next };
        let client = self.0.touch(ends, new);
        if next.after(client.next) || bare && next == client.next {
            (client.next, client.lost) = (next, next);
        } else if !bare {
            client.lost = segment.seq;
        }
    }

    /// What to say to each of them, [`NOTICES`] times.
    pub fn notices(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.0.iter().map(|(ends, client)| notice(ends, client))
    }

    /// Connections that found no room.
    pub const fn forgotten(&self) -> u64 {
        self.0.forgotten()
    }
}

fn notice(&(client, guest): &Ends, to: &Client) -> Vec<u8> {
    let lost = Tcp::new(client, guest).seq(to.lost.0).segment();
    let quote = ip(client.ip(), guest.ip(), proto::TCP, &lost, &Wrap::default());
    let (kind, code) = UNREACHABLE[usize::from(client.is_ipv6())];
    let wrap = Wrap { dst_mac: to.mac, src_mac: to.guest_mac, vlans: to.vlans, ..Wrap::default() };
    icmp_frame(guest.ip(), client.ip(), kind, code, [0; 4], &quote[ether::HEADER..], &wrap)
}

#[cfg(test)]
mod tests;

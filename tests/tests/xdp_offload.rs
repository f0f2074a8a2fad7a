//! A guest that leaves checksums to its NIC: released frames carry finished ones. The guest is a real Linux stack
//! behind a veth with transmit checksum offload on.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use colo_tests::ends::{End, Ends, GUEST, Joint, SOON, capture, mirrored};
use colo_user::datapath::{AttachMode, Datapath, HoldBackend, Injected, Role};
use colo_user::wire::checksum::Sum;
use colo_user::wire::{Ether, Ip};

const CLIENT_MAC: &str = "02:00:00:00:00:01";

/// A guest on a veth that may say UDP over both IP versions to a client that never answers.
fn talking_guest(backend: HoldBackend, attach: AttachMode) -> Result<(Ends, Datapath)> {
    let ends = Ends::new(Joint::Veth, Joint::Veth)?;
    let End::Veth(_, guest) = &ends.guest else { anyhow::bail!("the guest is on a veth") };
    guest.run("sysctl -qw net.ipv6.conf.far0.disable_ipv6=0")?;
    guest.run("ethtool -K far0 tx on")?;
    guest.run("ip addr add 192.0.2.1/24 dev far0")?;
    guest.run("ip addr add 2001:db8::1/64 dev far0 nodad")?;
    guest.run(&format!("ip neigh add 192.0.2.2 lladdr {CLIENT_MAC} dev far0"))?;
    guest.run(&format!("ip neigh add 2001:db8::2 lladdr {CLIENT_MAC} dev far0"))?;
    let datapath = ends.attach(&ends.config(Role::Primary, attach, backend))?;
    Ok((ends, datapath))
}

/// What a receiver sums up: all ones if the checksum is right.
fn transport_sum(frame: &[u8]) -> Result<u16> {
    let ether = Ether::parse(frame)?;
    let ip = Ip::parse(frame, ether.payload, ether.ethertype)?;
    let datagram = &frame[ip.payload..ip.end];
    let pseudo = Sum::ZERO.pseudo_header(
        ip.significant(&ip.src),
        ip.significant(&ip.dst),
        ip.protocol,
        datagram.len() as u32,
    );
    Ok(pseudo.bytes(datagram).folded())
}

fn is_udp(frame: &[u8]) -> bool {
    let Ok(ether) = Ether::parse(frame) else { return false };
    Ip::parse(frame, ether.payload, ether.ethertype).is_ok_and(|ip| ip.protocol == 17)
}

#[test]
fn an_unfinished_checksum_is_completed_before_release() -> Result<()> {
    for backend in [HoldBackend::Afxdp, HoldBackend::Ringbuf] {
        for attach in [AttachMode::Native, AttachMode::Skb] {
            for (from, to) in
                [("192.0.2.1:4000", "192.0.2.2:5000"), ("[2001:db8::1]:4000", "[2001:db8::2]:5000")]
            {
                let (ends, mut datapath) = talking_guest(backend, attach)?;
                let End::Veth(_, guest) = &ends.guest else { anyhow::bail!("the guest is on a veth") };
                let socket = guest.enter(|| UdpSocket::bind(from))?;
                socket.send_to(b"an odd payload!", to)?;
                // Router solicitations and the like may come first.
                let mut released = 0;
                while released == 0 {
                    for held in capture(&mut datapath, 1)? {
                        let frame = datapath.frame(held.id);
                        if is_udp(frame) {
                            ensure!(
                                transport_sum(frame)? != 0xffff,
                                "the guest finished it: nothing is tested"
                            );
                            datapath.release(held.id);
                            released += 1;
                        } else {
                            datapath.discard(held.id);
                        }
                    }
                }
                datapath.flush()?;
                let mut heard = ends.client.hear(SOON)?.context("nothing was released")?;
                let place = format!("{backend:?} {attach:?} {to}");
                ensure!(transport_sum(&heard)? == 0xffff, "{place}: {heard:02x?}");
                ensure!(datapath.counters().get("checksum_completed") == Some(1), "{place}");
                // The same check sees one changed byte.
                let last = heard.len() - 1;
                heard[last] ^= 1;
                ensure!(transport_sum(&heard)? != 0xffff, "{place}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_clients_unfinished_checksum_is_counted_and_completed_for_the_other_guest() -> Result<()> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let End::Veth(_, client) = &ends.client else { anyhow::bail!("the client is on a veth") };
    client.run("ethtool -K far0 tx on")?;
    client.run("ip addr add 192.0.2.2/24 dev far0")?;
    client.run(&format!("ip neigh add 192.0.2.1 lladdr {CLIENT_MAC} dev far0"))?;
    let mut primary = ends.attach(&ends.config(Role::Primary, AttachMode::Native, HoldBackend::Auto))?;
    client.enter(|| UdpSocket::bind("192.0.2.2:5000"))?.send_to(b"a request", "192.0.2.1:4000")?;
    let (_, copy) = mirrored(&mut primary)?;
    ensure!(primary.counters().get("mirror_unfinished") == Some(1), "{:?}", primary.counters());
    ensure!(transport_sum(&copy)? != 0xffff);

    let other = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut secondary = other.attach(&other.config(Role::Secondary, AttachMode::Auto, HoldBackend::Auto))?;
    ensure!(secondary.inject(&copy)? == Injected::Sent);
    let heard = other.guest.hear(SOON)?.context("nothing was injected")?;
    ensure!(transport_sum(&heard)? == 0xffff, "{heard:02x?}");
    ensure!(secondary.counters().get("inject_completed") == Some(1));
    Ok(())
}

#[test]
fn the_offload_on_our_end_is_warned_about_with_the_peer() -> Result<()> {
    let ends = Ends::new(Joint::Veth, Joint::Veth)?;
    ends.host.run(&format!("ethtool -K {GUEST} tx on"))?;
    let datapath = ends.attach(&ends.config(Role::Primary, AttachMode::Auto, HoldBackend::Auto))?;
    let warnings = datapath.warnings().join("\n");
    ensure!(
        warnings.contains(&format!("ethtool -K {GUEST} tx off")) && warnings.contains("peer"),
        "{warnings}"
    );
    Ok(())
}

use super::*;
use crate::wire::IcmpMessage;
use crate::wire::build::{Tcp, udp_frame};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const V4: &str = "192.0.2.7";
const V6: &str = "2001:db8::7";

fn said(addresses: &mut Addresses, source: &str, ttl: u8, vlans: &[u16]) {
    let wrap = Wrap { src_mac: MAC, ttl, vlans: Vlans::stacked(vlans), ..Wrap::default() };
    let (source, sink): (IpAddr, IpAddr) = (
        source.parse().unwrap(),
        match source.contains(':') {
            true => "2001:db8::1".parse().unwrap(),
            false => "192.0.2.1".parse().unwrap(),
        },
    );
    addresses.said(&Tcp::new((source, 1).into(), (sink, 2).into()).data(b"x").frame_in(&wrap));
    addresses.said(&udp_frame((source, 1).into(), (sink, 2).into(), b"x", &wrap));
}

#[test]
fn a_guest_that_speaks_tcp_is_announced_in_both_families() {
    let mut addresses = Addresses::default();
    assert!(addresses.is_empty() && addresses.frames().count() == 0);
    said(&mut addresses, V4, 64, &[]);
    said(&mut addresses, V6, 64, &[]);
    let frames: Vec<_> = addresses.frames().collect();
    assert_eq!(frames.len(), 2, "each once");

    let link = Ether::parse(&frames[0]).unwrap();
    assert_eq!((link.dst, link.src, link.ethertype), (BROADCAST, MAC, ethertype::ARP));
    let expected = [
        &[0, 1, 8, 0, 6, 4, 0, 1][..], // Ethernet, IPv4, request
        &MAC,
        &[192, 0, 2, 7],
        &[0; 6],
        &[192, 0, 2, 7],
    ];
    assert_eq!(frames[0][link.payload..], expected.concat());

    let link = Ether::parse(&frames[1]).unwrap();
    assert_eq!((link.dst, link.src), (ALL_NODES_MAC, MAC));
    let ip = Ip::parse(&frames[1], link.payload, link.ethertype).unwrap();
    assert_eq!((ip.source(), ip.destination()), (V6.parse().unwrap(), ALL_NODES.into()));
    assert_eq!(frames[1][link.payload + 7], 255, "hop limit");
    let message = IcmpMessage::parse(IpFamily::V6, &frames[1][ip.payload..ip.end]).unwrap();
    assert_eq!(
        (message.kind_byte, message.rest),
        (136, [0x20, 0, 0, 0]),
        "override, not solicited, no router"
    );
    let target: Ipv6Addr = V6.parse().unwrap();
    assert_eq!(message.payload, [&target.octets()[..], &[2, 1], &MAC].concat());
}

#[test]
fn tags_are_kept_and_a_second_vlan_is_another_place() {
    let mut addresses = Addresses::default();
    said(&mut addresses, V4, 64, &[100]);
    said(&mut addresses, V4, 64, &[200, 100]);
    let vlans: Vec<Vec<u16>> =
        addresses.frames().map(|frame| Ether::parse(&frame).unwrap().vlans.ids().collect()).collect();
    assert_eq!(vlans, [vec![100], vec![200, 100]]);
}

#[test]
fn what_is_forwarded_is_not_announced() {
    let mut addresses = Addresses::default();
    for ttl in [63, 127, 254, 1] {
        said(&mut addresses, "198.51.100.9", ttl, &[]);
        said(&mut addresses, "2001:db8:9::9", ttl, &[]);
    }
    assert!(addresses.is_empty());
    said(&mut addresses, V4, 128, &[]);
    assert_eq!(addresses.len(), 1);
}

#[test]
fn arp_and_neighbour_advertisements_say_it_themselves() {
    let mut addresses = Addresses::default();
    let own = |address: &str| Own { mac: MAC, vlans: Vlans::NONE, address: address.parse().unwrap() };
    let mut reply = gratuitous_arp(&own(V4), V4.parse().unwrap());
    reply[21] = 2;
    addresses.said(&reply);
    // A probe (RFC 5227) asks from nowhere.
    let mut probe = gratuitous_arp(&own(V4), Ipv4Addr::UNSPECIFIED);
    probe[14 + 24..14 + 28].copy_from_slice(&[192, 0, 2, 99]);
    addresses.said(&probe);
    assert_eq!(addresses.known, [own(V4)]);

    let says = Addresses { router: true, ..Addresses::default() };
    addresses.said(&says.advertisement(&own(V6), V6.parse().unwrap()));
    assert_eq!(addresses.known, [own(V4), own(V6)]);
    let announced = addresses.frames().last().unwrap();
    assert_eq!(announced[14 + 40 + 4], OVERRIDE | ROUTER, "a router stays one");
}

#[test]
fn what_is_too_much_or_broken_is_not_learned() {
    let mut addresses = Addresses::default();
    for i in 0..MAX_ADDRESSES + 5 {
        said(&mut addresses, &format!("10.0.{}.{}", i / 200, i % 200 + 1), 64, &[]);
    }
    // Two frames each.
    assert_eq!((addresses.len(), addresses.refused()), (MAX_ADDRESSES, 10));
    said(&mut addresses, "10.0.0.1", 64, &[]);
    assert_eq!(addresses.refused(), 10, "one that is known is not refused");
    let mut addresses = Addresses::default();
    let whole = gratuitous_arp(
        &Own { mac: MAC, vlans: Vlans::NONE, address: V4.parse().unwrap() },
        Ipv4Addr::LOCALHOST,
    );
    for length in 0..whole.len() {
        addresses.said(&whole[..length]);
    }
    addresses.said(&whole);
    assert!(addresses.is_empty(), "cut, and a loopback address");
}

mod fields;
mod lengths;

use super::super::DivergenceKind as Kind;
use super::super::rig::{Rig, addr, tcp};
use super::super::{Bypass, Limits, Policy};
use super::*;
use crate::wire::build::{self, Wrap};
use crate::wire::proto;

fn class_of(frame: &[u8]) -> Class {
    classify(frame).class
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    build::ip(addr("10.0.0.2:0").ip(), addr("10.0.0.1:0").ip(), protocol, payload, &Wrap::default())
}

#[test]
fn every_frame_has_one_class() {
    let w = Wrap::default();
    let (a, b) = (addr("10.0.0.2:53"), addr("10.0.0.1:9"));
    let (a6, b6) = (addr("[fd00::2]:53"), addr("[fd00::1]:9"));
    let arp = |op| build::ether(0x0806, &[0, 1, 8, 0, 6, 4, 0, op, 0, 0], &w);
    for (class, frame) in [
        (Class::Tcp, tcp().frame()),
        (Class::Udp, build::udp_frame(a6, b6, b"x", &w)),
        (Class::Icmp, build::icmp_frame(a.ip(), b.ip(), 0, 0, [0, 1, 0, 1], b"ping", &w)),
        (Class::Icmp, build::icmp_frame(a6.ip(), b6.ip(), 129, 0, [0, 1, 0, 1], b"ping", &w)),
        (Class::IcmpError, build::icmp_frame(a.ip(), b.ip(), 3, 3, [0; 4], &[0x45], &w)),
        (Class::Neighbour, build::icmp_frame(a6.ip(), b6.ip(), 135, 0, [0; 4], &[0; 16], &w)),
        (Class::Neighbour, build::icmp_frame(a6.ip(), b6.ip(), 143, 0, [0; 4], &[], &w)),
        (Class::Neighbour, v4(proto::IGMP, &[0x16, 0, 0, 0, 0, 0, 0, 0])),
        (Class::Neighbour, arp(1)),
        (Class::Neighbour, build::ether(0x8035, &[0; 28], &w)),
        (Class::OtherIp, v4(47, b"gre")),
        (Class::OtherEther, build::ether(0x88cc, b"lldp", &w)),
        (Class::Malformed, vec![]),
        (Class::Malformed, vec![1; 13]),
        (Class::Malformed, v4(proto::TCP, b"short")),
        (Class::Malformed, v4(proto::UDP, &[0, 1, 0, 2, 0, 99, 0, 0])),
        (Class::Malformed, v4(proto::ICMP, &[8, 0])),
    ] {
        assert_eq!(class_of(&frame), class, "{frame:02x?}");
    }
    let asks = |frame: &[u8]| matches!(classify(frame).subject, Subject::Neighbour { asks: true });
    assert!(asks(&arp(1)) && !asks(&arp(2)));
}

#[test]
fn a_bad_checksum_does_not_reclassify() {
    let mut frame = tcp().data(b"x").frame();
    frame[24] ^= 0xff;
    frame[14 + 20 + 16] ^= 0xff;
    assert_eq!(class_of(&frame), Class::Tcp);
}

#[test]
fn neighbour_frames_leave_at_once_and_solicitations_of_the_secondary_too() {
    let policy = Policy { emit_solicitations: true, emit_per_second: 3, ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    let arp = build::ether(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 0, 0], &Wrap::default());
    let reply = build::ether(0x0806, &[0, 1, 8, 0, 6, 4, 0, 2, 0, 0], &Wrap::default());
    rig.p(&arp);
    rig.assert_agreed();
    rig.s(&reply);
    assert!(rig.emitted.is_empty());
    (0..5).for_each(|_| rig.s(&arp));
    assert_eq!((rig.emitted.len(), rig.c.counters().emit_limited), (3, 2));
    rig.pass(1000);
    rig.s(&arp);
    assert_eq!(rig.emitted.len(), 4);
    assert_eq!(rig.emitted[0], arp);
}

#[test]
fn bypass_rules_release_at_once_and_are_counted() {
    let rule = |text: Bypass| Policy { bypass: vec![text], ..Policy::default() };
    let frame = tcp().data(b"x").frame();
    for (bypass, hit) in [
        (Bypass { protocol: Some(6), port: Some(80), ..Bypass::default() }, true),
        (Bypass { protocol: Some(6), port: Some(4000), ..Bypass::default() }, true),
        (Bypass { protocol: Some(17), port: Some(80), ..Bypass::default() }, false),
        (Bypass { address: Some("10.0.0.1".parse().unwrap()), ..Bypass::default() }, true),
        (Bypass { address: Some("10.0.0.1".parse().unwrap()), port: Some(80), ..Bypass::default() }, false),
        (Bypass { vlan: Some(9), ..Bypass::default() }, false),
    ] {
        let mut rig = Rig::with(rule(bypass.clone()), Limits::default());
        rig.p(&frame);
        assert_eq!(rig.left.len(), usize::from(hit), "{bypass:?}");
        assert_eq!(rig.c.counters().primary[Class::Bypass as usize], u64::from(hit));
    }
    let tagged = tcp().frame_in(&Wrap { vlans: Vlans::stacked(&[9]), ..Wrap::default() });
    let mut rig = Rig::with(rule(Bypass { vlan: Some(9), ..Bypass::default() }), Limits::default());
    rig.p(&tagged);
    rig.assert_agreed();
}

#[test]
fn vlans_and_families_are_flows_of_their_own() {
    let mut rig = Rig::new();
    let tagged = |vlans: &[u16]| {
        tcp().ack(1).data(b"x").frame_in(&Wrap { vlans: Vlans::stacked(vlans), ..Wrap::default() })
    };
    rig.p(&tagged(&[5]));
    rig.s(&tagged(&[6]));
    rig.s(&tagged(&[5, 5]));
    rig.s(&tagged(&[]));
    assert_eq!(rig.left, [0; 0]);
    rig.s(&tagged(&[5]));
    assert_eq!(rig.left, [0]);
    assert_eq!(rig.c.flows(), 4);
}

#[test]
fn runts_and_malformed_frames_are_compared_by_bytes() {
    let mut rig = Rig::new();
    for frame in [&[][..], &[1, 2, 3], &[9; 60], &v4(proto::TCP, b"short")] {
        rig.both(frame);
        rig.s(frame);
        rig.p(frame);
    }
    rig.assert_agreed();
    rig.p(&[1, 2, 4]);
    rig.s(&[1, 2, 5]);
    rig.pass(5000);
    assert_eq!(rig.left.len(), 8);
    assert!(rig.kinds().contains(&Kind::LateSecondary) || rig.kinds().contains(&Kind::Payload));
}

#[test]
fn other_protocols_ignore_what_a_router_changes() {
    let gre = |id, ttl, body: &[u8]| {
        let (a, b) = (addr("10.0.0.2:0").ip(), addr("10.0.0.1:0").ip());
        build::ip(a, b, 47, body, &Wrap { id, ttl, ..Wrap::default() })
    };
    let mut rig = Rig::new();
    rig.p(&gre(1, 64, b"tunnel"));
    rig.s(&gre(900, 63, b"tunnel"));
    rig.assert_agreed();
    rig.p(&gre(2, 64, b"tunnel"));
    rig.s(&gre(3, 64, b"funnel"));
    rig.pass(600);
    assert_eq!(rig.kinds(), [Kind::Payload]);
    assert_eq!(rig.divergences()[0].offset, Some(0));
}

proptest::proptest! {
    #[test]
    fn no_frame_is_too_strange(frames in proptest::collection::vec(
        (proptest::bool::ANY, proptest::collection::vec(proptest::num::u8::ANY, 0..120), 0usize..4), 1..40)
    ) {
        let mut rig = Rig::new();
        for (primary, mut bytes, kind) in frames {
            // Let many of them get past the first header.
            let head = [&[][..], &[0x08, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x08, 0, 0x45]][kind];
            if bytes.len() > 40 {
                bytes[12..12 + head.len()].copy_from_slice(head);
                if kind == 1 {
                    let total = (bytes.len() - 14) as u16;
                    bytes[16..18].copy_from_slice(&total.to_be_bytes());
                    bytes[23] = [6, 17, 1, 44][usize::from(bytes[23]) % 4];
                }
            }
            if primary { rig.p(&bytes); } else { rig.s(&bytes); }
        }
        rig.pass(10_000);
        rig.finish();
        rig.checkpoint();
        proptest::prop_assert_eq!(rig.c.held(), 0);
        proptest::prop_assert_eq!(rig.c.counters().secondary_overflow, 0);
    }
}

use super::build::{Tcp, Wrap};
use super::ether::ethertype;
use super::ip::Extensions;
use super::*;
use colo_ebpf::tags::{MAX_TAGS, TAG_TYPES};

fn hex(s: &str) -> Vec<u8> {
    let digits: Vec<u8> = s.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

#[test]
fn tags_are_stacked_outermost_first() {
    let frame = hex("020000000001 020000000002 88a8 2064 8100 0005 0800 45");
    let ether = Ether::parse(&frame).unwrap();
    assert_eq!(ether.vlans.ids().collect::<Vec<_>>(), [0x064, 5]);
    assert_eq!((ether.ethertype, ether.payload), (ethertype::IPV4, 22));
}

#[test]
fn an_802_3_length_is_no_ethertype() {
    let frame = hex("0180c2000000 020000000002 0005 424203 0102 eeeeee");
    let ether = Ether::parse(&frame).unwrap();
    assert_eq!((ether.ethertype, ether.payload, ether.end), (0, 12, 19), "padding is no payload");
    let tagged = hex("0180c2000000 020000000002 8100 0007 0005 424203 0102 eeeeee");
    let ether = Ether::parse(&tagged).unwrap();
    assert_eq!((ether.ethertype, ether.payload, ether.end), (0, 16, 23));
    let short = hex("0180c2000000 020000000002 0006 424203 0102");
    assert_eq!(Ether::parse(&short), Err(Malformed::Ethernet), "its length exceeds the frame");
    let cut = Ether::parse_cut(&short, 1).unwrap();
    assert_eq!((cut.end, cut.missing), (19, 1));
    let neither = hex("0180c2000000 020000000002 05dd 0102");
    assert_eq!(Ether::parse(&neither).unwrap().ethertype, 0x05dd, "longer than any 802.3 frame");
}

#[test]
fn a_snap_header_leads_to_a_type() {
    let snap = |organisation: &str| {
        hex(&format!("020000000001 020000000002 000a aaaa03 {organisation} 0800 4500 eeee"))
    };
    for (organisation, last) in [("000000", 0), ("0000f8", 0xf8)] {
        let ether = Ether::parse(&snap(organisation)).unwrap();
        assert_eq!((ether.ethertype, ether.payload, ether.end), (ethertype::IPV4, 22, 24));
        assert_eq!(ether.vlans.snap(), Some(last));
    }
    // The types of other organisations are their own.
    let ether = Ether::parse(&snap("00000c")).unwrap();
    assert_eq!((ether.ethertype, ether.payload, ether.end, ether.vlans), (0, 12, 24, Vlans::NONE));
}

#[test]
fn tags_of_every_type_are_read_in_any_order() {
    for (outer, inner) in TAG_TYPES.iter().flat_map(|a| TAG_TYPES.map(|b| (*a, b))) {
        for tags in [vec![(outer, 1)], vec![(outer, 4095), (inner, 0)], vec![(inner, 7); MAX_TAGS]] {
            let wrap = Wrap { vlans: Vlans::of(&tags), ..Wrap::default() };
            let ether = Ether::parse(&build::ether(ethertype::IPV4, b"x", &wrap)).unwrap();
            assert_eq!(ether.vlans.tags().collect::<Vec<_>>(), tags);
            assert_eq!((ether.ethertype, ether.payload), (ethertype::IPV4, 14 + 4 * tags.len()));
        }
    }
    assert_eq!(
        Vlans::of(&[(0x8100, 7), (0x9100, 8)]).in_snap().to_string(),
        " vlan 7 vlan 8 (0x9100) in SNAP"
    );
}

#[test]
fn a_tag_too_many_is_a_type() {
    let wrap = Wrap { vlans: Vlans::of(&[(0x9100, 7); MAX_TAGS]), ..Wrap::default() };
    let ether = Ether::parse(&build::ether(0x8100, &hex("0001 0800 45"), &wrap)).unwrap();
    assert_eq!((ether.ethertype, ether.vlans), (0x8100, wrap.vlans));
}

#[test]
fn no_length_is_the_rest_of_the_frame() {
    let wrap = Wrap::default();
    for (src, dst, at) in [("10.0.0.2:80", "10.0.0.1:4000", 16), ("[fd00::2]:80", "[fd00::1]:4000", 18)] {
        let tcp = Tcp::new(src.parse().unwrap(), dst.parse().unwrap()).data(&[7; 70_000]);
        let mut frame = tcp.frame_in(&wrap);
        frame[at..at + 2].fill(0);
        let ether = Ether::parse(&frame).unwrap();
        let ip = Ip::parse(&frame, ether.payload, ether.ethertype).unwrap();
        assert_eq!(TcpSegment::parse(&frame[ip.payload..ip.end]).unwrap().payload.len(), 70_000);
        let kept = &frame[..96];
        let ip = Ip::parse_cut(kept, ether.payload, ether.ethertype, frame.len() - 96).unwrap();
        assert_eq!((ip.end, ip.missing), (96, frame.len() - 96));
    }
}

#[test]
fn an_ipv6_packet_of_nothing_is_not_its_padding() {
    let mut nothing = hex("60000000 0000 3b 40");
    nothing.extend([1; 32]);
    nothing.extend([0xee; 60]);
    assert_eq!(Ip::parse(&nothing, 0, ethertype::IPV6).unwrap().end, 40, "no next header");
    nothing[6] = proto::UDP;
    assert_eq!(Ip::parse(&nothing, 0, ethertype::IPV6).unwrap().end, 100);
    assert_eq!(Ip::parse(&nothing[..46], 0, ethertype::IPV6).unwrap().end, 40, "the shortest frame");
}

#[test]
fn a_jumbogram_names_its_own_length() {
    let mut frame = hex("60000000 0000 00 40");
    frame.extend([1; 32]);
    frame.extend(hex("0600 c204"));
    let data = 8 + 66_000;
    frame.extend(u32::try_from(data).unwrap().to_be_bytes());
    frame.extend(vec![2; data - 8 + 9]);
    let ip = Ip::parse(&frame, 0, ethertype::IPV6).unwrap();
    assert_eq!((ip.protocol, ip.payload, ip.end), (proto::TCP, 48, 40 + data), "and padding is none of it");
    assert!(extras::of(&frame, &ip).is_empty(), "a length is no content");
    assert_eq!(Ip::parse(&frame[..1000], 0, ethertype::IPV6), Err(Malformed::IpLength));
}

#[test]
fn headers_that_a_capture_lacks_are_no_contradiction() {
    let (src, dst) = ("[fd00::2]:80".parse().unwrap(), "[fd00::1]:4000".parse().unwrap());
    let tcp = Tcp::new(src, dst).seq(9).ack(3).options(&[2, 4, 5, 180, 1, 1, 8, 10]).data(b"hello");
    let (frame, segment) = (tcp.frame(), tcp.segment());
    for there in 0..frame.len() {
        let missing = frame.len() - there;
        match Ip::parse_cut(&frame[..there], 14, ethertype::IPV6, missing) {
            Ok(ip) => assert!(there >= 54 && (ip.end, ip.missing) == (there, missing)),
            Err(error) => {
                assert!(there < 54 && (error == Malformed::Cut || there < 14), "{there}: {error}");
            }
        }
        assert!(Ip::parse(&frame[..there], 14, ethertype::IPV6).is_err());
    }
    for there in 0..segment.len() {
        let read = TcpSegment::parse_cut(&segment[..there], there, segment.len());
        if there < 14 {
            assert_eq!(read, Err(Malformed::Cut));
            continue;
        }
        let read = read.unwrap();
        assert_eq!((read.src_port, read.seq, read.ack), (80, Seq(9), Seq(3)));
        assert_eq!(read.options, segment.get(20..there.min(28)).unwrap_or_default());
        assert_eq!(read.payload, segment.get(28..there).unwrap_or_default());
    }
    assert_eq!(TcpSegment::parse_cut(&segment[..15], 15, 19), Err(Malformed::Tcp), "it never fitted");
}

#[test]
fn a_udp_length_of_0_is_the_packets() {
    let mut datagram = build::udp("[fd00::2]:1".parse().unwrap(), "[fd00::1]:2".parse().unwrap(), b"hello");
    datagram[4..6].fill(0);
    assert_eq!(UdpDatagram::parse(&datagram).unwrap().payload, b"hello");
    for length in [1, 7, 14] {
        datagram[5] = length;
        assert_eq!(UdpDatagram::parse(&datagram), Err(Malformed::Udp), "{length}");
    }
}

#[test]
fn a_cut_tag_is_malformed() {
    assert_eq!(Ether::parse(&hex("020000000001 020000000002 8100 00")), Err(Malformed::Ethernet));
    assert_eq!(Ether::parse(&[0; 13]), Err(Malformed::Ethernet));
}

#[test]
fn padding_is_not_payload() {
    let mut frame = hex("4500 0028 0000 4000 4006 0000 0a000001 0a000002");
    frame.extend(hex("1000 0050 00000001 00000002 5010 ffff 0000 0000"));
    frame.extend([0xee; 6]);
    let ip = Ip::parse(&frame, 0, ethertype::IPV4).unwrap();
    let tcp = TcpSegment::parse(&frame[ip.payload..ip.end]).unwrap();
    assert!(tcp.payload.is_empty());
    assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack), (0x1000, 80, Seq(1), Seq(2)));
}

#[test]
fn ipv4_headers_that_contradict_themselves() {
    let good = hex("4500 0014 0000 0000 4011 0000 0a000001 0a000002");
    assert!(Ip::parse(&good, 0, ethertype::IPV4).is_ok());
    for (at, value, want) in [
        (0, 0x65, Malformed::IpHeader),
        (0, 0x44, Malformed::IpHeader),
        (0, 0x46, Malformed::IpHeader),
        (3, 0x13, Malformed::IpHeader),
        (3, 0x15, Malformed::IpLength),
        (6, 0x20, Malformed::Fragment),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Ip::parse(&bad, 0, ethertype::IPV4), Err(want), "byte {at} = {value:#x}");
    }
}

#[test]
fn extension_headers_are_followed() {
    // Hop-by-hop, routing, destination options, then TCP.
    let bytes = hex("2b00 010400000000  3c00 000000000000  0600 010400000000");
    let chain = Extensions { protocol: proto::TCP, length: 24, fragment: None };
    assert_eq!(Extensions::walk(proto::HOP_BY_HOP, &bytes), Ok(chain));
    assert_eq!(Extensions::walk(proto::HOP_BY_HOP, &bytes[..20]), Err(Malformed::Extension));
}

#[test]
fn an_atomic_fragment_is_whole() {
    let atomic = hex("0600 0000 00000007");
    assert_eq!(Extensions::walk(proto::FRAGMENT, &atomic).unwrap().fragment, None);
    let first = hex("0600 0001 00000007");
    let fragment = Fragment { id: 7, offset: 0, more: true };
    assert_eq!(Extensions::walk(proto::FRAGMENT, &first).unwrap().fragment, Some(fragment));
}

#[test]
fn endless_extensions_are_malformed() {
    let bytes = [0u8; 8 * 20];
    assert_eq!(Extensions::walk(proto::HOP_BY_HOP, &bytes), Err(Malformed::Extension));
}

#[test]
fn options_stop_at_nonsense() {
    let options = |bytes: &[u8]| {
        let mut header = hex("1000 0050 00000001 00000002 f010 ffff 0000 0000");
        header.extend_from_slice(bytes);
        header.resize(60, 0);
        let segment = TcpSegment::parse(&header).unwrap();
        segment.options().map(|o| (o.kind, o.at)).collect::<Vec<_>>()
    };
    assert_eq!(options(&hex("020405b4 01 030307 0402")), [(2, 0), (3, 5), (4, 8)]);
    assert_eq!(options(&hex("0101 0800")), []);
    assert_eq!(options(&hex("0402 05ff")), [(4, 0)]);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic_a_parser(
        frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        v6: bool,
        missing in 0usize..3000,
    ) {
        let _ = (Ether::parse(&frame), Ether::parse_cut(&frame, missing));
        for at in [0, 14] {
            let e = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
            for missing in [0, missing] {
                if let Ok(ip) = Ip::parse_cut(&frame, at, e, missing) {
                    let _ = (&frame[ip.payload..ip.end], extras::of(&frame, &ip));
                }
                if let Some(ip) = Ip::salvaged(&frame, at, e, missing) {
                    let _ = &frame[ip.payload..ip.end];
                }
            }
        }
        if let Ok(tcp) = TcpSegment::parse(&frame) {
            let _ = tcp.options().count();
        }
        for kind in [0x8863, 0x8847, 0x88cc, 0x8902, 0x88e5, 0x887b, 0x80f3, 0x88e7, 0x8100, 0xf1c1, 0x88a4] {
            let _ = extent::content(kind, &frame, missing);
        }
        let _ = UdpDatagram::parse(&frame);
        let _ = IcmpMessage::parse(IpFamily::V6, &frame).map(|m| m.objects(IpFamily::V6));
    }
}

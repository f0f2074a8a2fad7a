use super::ether::{Ether, ethertype};
use super::ip::Extensions;
use super::*;

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
    let frame = hex("0180c2000000 020000000002 0026 424203");
    let ether = Ether::parse(&frame).unwrap();
    assert_eq!((ether.ethertype, ether.payload), (0, 12));
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
    fn no_bytes_panic_a_parser(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..200), v6: bool) {
        let _ = Ether::parse(&frame);
        for at in [0, 14] {
            let e = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
            if let Ok(ip) = Ip::parse(&frame, at, e) {
                let _ = &frame[ip.payload..ip.end];
            }
        }
        if let Ok(tcp) = TcpSegment::parse(&frame) {
            let _ = tcp.options().count();
        }
        let _ = UdpDatagram::parse(&frame);
        let _ = IcmpMessage::parse(IpFamily::V6, &frame);
    }
}

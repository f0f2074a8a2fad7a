//! Header fields: what is content is compared, and what is not changes nothing.

use super::*;
use crate::compare::Coverage;
use std::net::{IpAddr, SocketAddr};

const V4: (&str, &str) = ("10.0.0.2:80", "10.0.0.1:4000");
const V6: (&str, &str) = ("[fd00::2]:80", "[fd00::1]:4000");

fn ends((guest, client): (&str, &str)) -> (SocketAddr, SocketAddr) {
    (addr(guest), addr(client))
}

/// Whether the secondary's frame lets the primary's go.
fn lets_go(primary: &[u8], secondary: &[u8]) -> bool {
    let mut rig = Rig::new();
    rig.p(primary);
    rig.s(secondary);
    !rig.left.is_empty()
}

#[track_caller]
fn assert_content(one: &[u8], other: &[u8], what: &str) {
    assert!(lets_go(one, one) && lets_go(other, other), "{what}: alike");
    assert!(!lets_go(one, other) && !lets_go(other, one), "{what}");
}

#[track_caller]
fn assert_no_content(one: &[u8], other: &[u8], what: &str) {
    assert!(lets_go(one, other) && lets_go(other, one), "{what}");
}

/// An IPv4 frame with these options.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    assert_eq!(options.len() % 4, 0);
    frame[14] += (options.len() / 4) as u8;
    let total = be16(&frame, 16) + options.len() as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame.splice(34..34, options.iter().copied());
    frame
}

/// An IPv6 frame with this extension header of kind `next`, whose own next header is filled in.
fn with_header(frame: &[u8], next: u8, header: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut header = header.to_vec();
    assert_eq!(header.len() % 8, 0);
    (header[0], frame[20]) = (frame[20], next);
    let length = be16(&frame, 18) + header.len() as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame.splice(54..54, header);
    frame
}

/// One frame of each kind over IP that is compared, between these ends.
fn of_each_kind(ends: (SocketAddr, SocketAddr), wrap: &Wrap) -> Vec<Vec<u8>> {
    let (a, b) = ends;
    let echo = if a.is_ipv4() { 0 } else { 129 };
    let mut segment = tcp().seq(1).ack(2).data(b"segment");
    (segment.src, segment.dst) = ends;
    vec![
        segment.frame_in(wrap),
        build::udp_frame(a, b, b"datagram", wrap),
        build::icmp_frame(a.ip(), b.ip(), echo, 0, [0, 1, 0, 2], b"ping", wrap),
        build::icmp_frame(a.ip(), b.ip(), if a.is_ipv4() { 3 } else { 1 }, 1, [0; 4], &[0x45; 28], wrap),
        build::ip(a.ip(), b.ip(), 47, b"tunnel", wrap),
    ]
}

#[test]
fn ipv4_options_are_content() {
    let route = [0x83, 7, 4, 10, 0, 0, 9, 0];
    let other = [0x83, 7, 4, 10, 0, 0, 8, 0];
    let stamped = |time| [0x44, 8, 9, 0, 0, 0, 0, time];
    for frame in of_each_kind(ends(V4), &Wrap::default()) {
        assert_content(&with_options(&frame, &route), &with_options(&frame, &other), "another route");
        assert_content(&with_options(&frame, &route), &frame, "a route or none");
        let (one, later) = (with_options(&frame, &stamped(1)), with_options(&frame, &stamped(9)));
        assert_no_content(&one, &later, "the time of a stamp");
    }
}

#[test]
fn ipv6_extension_headers_are_content() {
    let dest = |value| [0, 0, 0x04, 1, value, 1, 1, 0];
    let changing = |value| [0, 0, 0x3e, 1, value, 1, 1, 0];
    let mut route = vec![0, 2, 2, 1, 0, 0, 0, 0];
    route.extend([7; 16]);
    let mut other = route.clone();
    other[20] = 9;
    for frame in of_each_kind(ends(V6), &Wrap::default()) {
        for next in [proto::DEST_OPTIONS, proto::HOP_BY_HOP] {
            let one = with_header(&frame, next, &dest(1));
            assert_content(&one, &with_header(&frame, next, &dest(2)), "another option");
            assert_content(&one, &frame, "an option or none");
            let (may, change) =
                (with_header(&frame, next, &changing(1)), with_header(&frame, next, &changing(2)));
            assert_no_content(&may, &change, "data that may change on the way");
        }
        let routed = |route: &[u8]| with_header(&frame, proto::ROUTING, route);
        assert_content(&routed(&route), &routed(&other), "another address on the way");
    }
}

#[test]
fn what_is_named_as_not_compared_is_not() {
    for family in [V4, V6] {
        let plain = of_each_kind(ends(family), &Wrap::default());
        let elsewhere = Wrap { dst_mac: [2, 0, 0, 0, 9, 9], src_mac: [2, 0, 0, 0, 8, 8], ..Wrap::default() };
        for (one, other) in plain.iter().zip(of_each_kind(ends(family), &elsewhere)) {
            assert_no_content(one, &other, "Ethernet addresses");
        }
        let far = Wrap { id: 77, ttl: 3, ..Wrap::default() };
        for (one, other) in plain.iter().zip(of_each_kind(ends(family), &far)) {
            assert_no_content(one, &other, "identification and TTL");
        }
        for frame in &plain {
            let mut other = frame.clone();
            let fields = if family == V4 {
                &[(15, 0xff), (20, 0x40), (24, 0xff)][..]
            } else {
                &[(14, 0x0f), (15, 0xff), (17, 1)]
            };
            for &(at, bits) in fields {
                other[at] ^= bits;
            }
            assert_no_content(frame, &other, "class of service, don't fragment, flow label, header checksum");
        }
    }
}

/// An ICMP error with these fields, quoting `quote`.
fn error(family: (&str, &str), kind: u8, code: u8, rest: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let (a, b) = ends(family);
    build::icmp_frame(a.ip(), b.ip(), kind, code, rest, quote, &Wrap::default())
}

/// What a client said, as an error quotes it.
fn quoted(family: (&str, &str), seq: u32) -> Vec<u8> {
    let (guest, client) = ends(family);
    let mut segment = tcp().seq(seq).ack(seq).data(b"quoted");
    (segment.src, segment.dst) = (client, guest);
    segment.frame()[14..].to_vec()
}

#[test]
fn what_an_icmp_error_says_is_content() {
    let v4 = quoted(V4, 1);
    let v6 = quoted(V6, 1);
    for (family, kind, code, one, other, what) in [
        (V4, 5, 1, [10, 0, 0, 7], [10, 0, 0, 8], "a redirect's gateway"),
        (V4, 3, 4, [0, 0, 5, 0], [0, 0, 5, 1], "the MTU of fragmentation needed"),
        (V4, 12, 0, [20, 0, 0, 0], [21, 0, 0, 0], "a parameter's place"),
        (V6, 2, 0, [0, 0, 5, 0], [0, 0, 5, 1], "the MTU of packet too big"),
        (V6, 4, 0, [0, 0, 0, 6], [0, 0, 0, 7], "a parameter's place"),
    ] {
        let quote = if family == V4 { &v4 } else { &v6 };
        let frame = |rest| error(family, kind, code, rest, quote);
        assert_content(&frame(one), &frame(other), what);
        assert_content(&frame(one), &error(family, kind, code + 1, one, quote), "a code");
    }
}

#[test]
fn of_a_quote_the_flow_is_content_and_its_numbers_are_not() {
    for (family, kind) in [(V4, 3), (V6, 1)] {
        let one = error(family, kind, 1, [0; 4], &quoted(family, 1));
        assert_no_content(&one, &error(family, kind, 1, [0; 4], &quoted(family, 9)), "sequence numbers");
        let mut other = quoted(family, 1);
        let ports = if family == V4 { 20 } else { 40 };
        other[ports] ^= 1;
        assert_content(&one, &error(family, kind, 1, [0; 4], &other), "a port");
        // Behind an extension header too.
        if family == V6 {
            let mut behind = quoted(family, 1);
            behind[6] = proto::DEST_OPTIONS;
            behind.splice(40..40, [proto::TCP, 0, 1, 4, 0, 0, 0, 0]);
            let mut another = behind.clone();
            another[48] ^= 1;
            let frame = |quote: &[u8]| error(family, kind, 1, [0; 4], quote);
            assert_content(&frame(&behind), &frame(&another), "a port behind a header");
        }
    }
    let ping = |id: u8, sum: u8| {
        let mut quote = quoted(V4, 1)[..20].to_vec();
        quote[9] = proto::ICMP;
        quote.extend([8, 0, sum, sum, 0, id, 0, 1]);
        error(V4, 3, 1, [0; 4], &quote)
    };
    assert_no_content(&ping(1, 1), &ping(1, 2), "a checksum");
    assert_content(&ping(1, 1), &ping(2, 1), "which ping");
}

#[test]
fn extensions_of_an_icmp_error_are_content() {
    // Quotes are filled up to a length that the message names, in words of 4 or 8 bytes.
    for (family, kind, rest) in [(V4, 3, [0, 32, 0, 0]), (V4, 11, [0, 32, 0, 0]), (V6, 1, [16, 0, 0, 0])] {
        let extended = |sum: u8, label: u8| {
            let mut quote = quoted(family, 1);
            quote.resize(128, 0);
            quote.extend([0x20, 0, sum, sum, 0, 8, 1, 1, 0, label, 0x11, 64]);
            error(family, kind, 0, rest, &quote)
        };
        assert_content(&extended(1, 1), &extended(1, 2), "an MPLS label");
        assert_no_content(&extended(1, 1), &extended(2, 1), "a checksum");
    }
}

#[test]
fn an_error_that_only_one_guest_says_asks_for_nothing() {
    let mut rig = Rig::new();
    rig.p(&error(V4, 5, 1, [10, 0, 0, 7], &quoted(V4, 1)));
    rig.s(&error(V4, 5, 1, [10, 0, 0, 8], &quoted(V4, 1)));
    rig.pass(10_000);
    assert_eq!((rig.asked.len(), rig.left.len(), &rig.dropped[..]), (0, 0, &[0][..]));
}

#[test]
fn a_connection_with_options_is_one_to_its_client() {
    let policy = Policy { coverage: Coverage::NewFlows, ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    let (guest, client) = ends(V4);
    let from_client = build::Tcp::new(client, guest);
    let route = [0x83, 7, 4, 10, 0, 0, 9, 0];
    use crate::wire::TcpFlags;
    rig.client(&from_client.clone().seq(9).flag(TcpFlags::SYN).frame());
    let syn = with_options(&tcp().seq(1).ack(10).flag(TcpFlags::SYN).frame(), &route);
    rig.p(&syn);
    assert_eq!(rig.left, [0; 0], "the client has begun it: it is compared");
    rig.s(&syn);
    let said = with_options(&tcp().seq(2).ack(10).data(b"hello").frame(), &route);
    rig.both(&said);
    assert_eq!(rig.left, [0, 1]);
    assert_eq!(rig.c.held_bytes(), 5, "until the client has them");
    rig.client(&from_client.clone().seq(10).ack(7).frame());
    assert_eq!(rig.c.held_bytes(), 0);
    // Its other packets need not ask for the same.
    rig.p(&tcp().seq(7).ack(10).data(b"more").frame());
    assert_eq!(rig.left.len(), 2, "the connection is compared");
    rig.s(&tcp().seq(7).ack(10).data(b"more").frame());
    rig.assert_agreed();
    rig.release_all();
    assert_eq!(rig.c.flows(), 0);
}

#[test]
fn what_cannot_be_read_behind_ip_is_compared_without_what_ip_changes() {
    let wraps = [Wrap::default(), Wrap { id: 99, ttl: 3, dst_mac: [9; 6], ..Wrap::default() }];
    let of = |family: (&str, &str), protocol, payload: &[u8]| {
        let (a, b): (IpAddr, IpAddr) = (ends(family).0.ip(), ends(family).1.ip());
        wraps.clone().map(|wrap| build::ip(a, b, protocol, payload, &wrap))
    };
    for (family, protocol, payload) in [
        (V4, proto::TCP, &b"short"[..]),
        (V6, proto::TCP, b"short"),
        (V4, proto::UDP, &[0, 1, 0, 2, 0, 99, 0, 0]),
        (V4, proto::ICMP, &[8, 0]),
        (V6, proto::HOP_BY_HOP, &[6, 99, 0, 0, 0, 0, 0, 0]),
    ] {
        let [mut one, mut other] = of(family, protocol, payload);
        assert_eq!((class_of(&one), class_of(&other)), (Class::Malformed, Class::Malformed));
        assert_no_content(&one, &other, "what a router changes");
        one.extend([0xee; 9]);
        assert_no_content(&one, &other, "padding");
        let last = other.len() - 1;
        other[last] ^= 1;
        assert_content(&one, &other, "a byte");
    }
    // Longer by its own word than it is.
    for (family, at) in [(V4, 17), (V6, 19)] {
        let [mut one, mut other] = of(family, 47, b"tunnel");
        (one[at], other[at]) = (200, 200);
        assert_eq!(class_of(&one), Class::Malformed);
        assert_no_content(&one, &other, "what a router changes");
        other[at] = 201;
        assert_content(&one, &other, "another length");
    }
}

#[test]
fn a_difference_in_a_header_is_told_as_one() {
    let (a, b) = ends(V4);
    let ping = |seq| build::icmp_frame(a.ip(), b.ip(), 0, 0, [0, 1, 0, seq], b"same", &Wrap::default());
    let mut rig = Rig::new();
    rig.p(&ping(1));
    rig.s(&ping(2));
    rig.pass(600);
    let told = rig.divergences()[0];
    assert_eq!((told.kind, told.offset), (Kind::Flags, None));
    assert_eq!((&told.primary[..], &told.secondary[..]), (&[0, 1, 0, 1][..], &[0, 1, 0, 2][..]));
}

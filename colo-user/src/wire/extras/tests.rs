use super::*;
use crate::wire::ether::ethertype;

fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// What an IPv4 packet with these options says.
fn v4_says(options: &str) -> Extras {
    let mut options = bytes(options);
    options.resize(options.len().next_multiple_of(4), 0);
    let length = u8::try_from(20 + options.len()).unwrap();
    let mut packet = vec![0x40 + length / 4, 0, 0, length, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    of(&packet, &Ip::parse(&packet, 0, ethertype::IPV4).unwrap())
}

/// What an IPv6 packet with these extension headers says, the first of them of kind `next`.
fn v6_says(next: u8, chain: &str) -> Extras {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
    packet.extend([1; 32]);
    packet.extend(bytes(chain));
    let length = u16::try_from(packet.len() - 40).unwrap();
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    of(&packet, &Ip::parse(&packet, 0, ethertype::IPV6).unwrap())
}

#[test]
fn ipv4_options_say_what_the_sender_asks_for() {
    assert!(v4_says("").is_empty());
    for (one, other, why) in [
        ("83 07 04 0a000009", "83 07 04 0a00000a", "another source route"),
        ("89 07 04 0a000009", "83 07 04 0a000009", "a strict one"),
        ("83 07 04 0a000009", "83 07 08 0a000009", "one that has come further"),
        ("07 0b 04 00000000 00000000", "07 07 04 00000000", "a longer record"),
        ("07 0b 08 0a000009 00000000", "07 0b 08 0a00000a 00000000", "another address in the record"),
        ("07 0b 08 0a000009 00000000", "07 0b 04 0a000009 00000000", "a place that is free"),
        ("44 0c 05 01 00000000 00000000", "44 0c 05 00 00000000 00000000", "stamps of another kind"),
        ("44 0c 05 03 0a000009 00000000", "44 0c 05 03 0a00000a 00000000", "other hosts are to stamp"),
        ("44 0c 0d 01 0a000009 00000001", "44 0c 0d 01 0a00000a 00000001", "another host has stamped"),
        ("94 04 0000", "94 04 0001", "a router alert"),
        ("52 0c 0001 0002 ffff 0a000009", "52 0c 0002 0002 ffff 0a000009", "another trace"),
        ("94 04 0000", "", "an option or none"),
        ("94 09 0000", "94 09 0001", "one that contradicts itself"),
    ] {
        assert_ne!(v4_says(one), v4_says(other), "{why}");
    }
}

#[test]
fn ipv4_options_that_routers_fill_are_theirs() {
    for (one, other, why) in [
        ("01 01 94 04 0000", "94 04 0000", "padding"),
        ("94 04 0000 00 ff ff ff", "94 04 0000", "what follows the end"),
        ("07 0b 04 00000000 00000000", "07 0b 04 0a000001 0a000002", "free places of a record"),
        ("44 0c 05 00 00000000 00000000", "44 0c 05 10 11111111 00000000", "times, and those without room"),
        ("44 0c 0d 01 0a000009 00000001", "44 0c 0d 01 0a000009 00000002", "the time of a stamp"),
        ("44 0c 05 03 0a000009 00000000", "44 0c 05 03 0a000009 00000007", "the time of a given host"),
        ("52 0c 0001 0002 ffff 0a000009", "52 0c 0001 0009 0001 0a000009", "hops of a trace"),
    ] {
        assert_eq!(v4_says(one), v4_says(other), "{why}");
    }
}

#[test]
fn ipv6_headers_say_what_the_sender_asks_for() {
    let (hop, routing, dest) = (proto::HOP_BY_HOP, proto::ROUTING, proto::DEST_OPTIONS);
    let address = "20010db8000000000000000000000009";
    for (one, other, why) in [
        ((dest, "1100 040101 010100"), (dest, "1100 040102 010100"), "a destination option"),
        ((hop, "1100 0502 0000 0100"), (dest, "1100 0502 0000 0100"), "for routers, or for the receiver"),
        ((hop, "1100 0502 0000 0100"), (hop, "1100 0502 0001 0100"), "a router alert"),
        ((dest, "1100 010400000000"), (17, ""), "a header or none"),
        ((dest, "1100 3e01 01 010100"), (dest, "1100 3e02 0101 0100"), "more of what may change"),
        (
            (51, "1102 0000 00000001 00000001 00000000"),
            (51, "1102 0000 00000002 00000001 00000000"),
            "an association",
        ),
    ] {
        assert_ne!(v6_says(one.0, one.1), v6_says(other.0, other.1), "{why}");
    }
    let route = |left: &str, last: &str| {
        v6_says(routing, &format!("1102 02{left} 00000000 {}{last}", &address[..30]))
    };
    assert_ne!(route("01", "09"), route("01", "0a"), "another way");
    assert_ne!(route("01", "09"), route("00", "09"), "more of it to go");
    // Options of one header are none of the next.
    let split = v6_says(hop, "3c00 3c01 05 010100 1100 0502 0000 0100");
    let other = v6_says(hop, "1101 3c01 05 3c06 0502 0000 0100 010100 0000");
    assert_ne!(split, other);
}

#[test]
fn ipv6_options_that_may_change_on_the_way_are_not_compared() {
    let dest = proto::DEST_OPTIONS;
    for (one, other, why) in [
        ((dest, "1100 3e02 0102 0100"), (dest, "1100 3e02 0909 0100"), "the bit is set"),
        ((dest, "1100 0401 01 0000 00"), (dest, "1100 0000 00 0401 01"), "padding"),
        ((dest, "1100 040101 0101ff"), (dest, "1100 040101 010100"), "what padding holds"),
        (
            (51, "1102 0000 00000001 00000001 00000000"),
            (51, "1102 0000 00000001 00000007 11111111"),
            "number and value",
        ),
        ((44, "1100 0000 00000007"), (44, "1100 0000 00000008"), "how a datagram is cut"),
    ] {
        assert_eq!(v6_says(one.0, one.1), v6_says(other.0, other.1), "{why}");
    }
}

use super::*;

/// Ethertype, content as digits, and what it is.
const CONTENTS: [(u16, &str, &str); 25] = [
    (0x8863, "11090000 0004 01010000", "PPPoE discovery"),
    (0x8864, "11000001 0006 c021 09000004", "PPPoE session"),
    (0x888e, "0103 0003 010203", "EAP over LAN"),
    (0x888e, "0101 0000", "EAP over LAN that starts"),
    (0x88c7, "0103 0003 010203", "EAP before a station arrives"),
    (0x88f7, "0002 000c 0000000000000001", "precision time"),
    (0x88b8, "0001 000b 00000000 616263", "GOOSE"),
    (0x88a4, "0510 0102030405", "EtherCAT"),
    (0x8914, "1000 0001 0001 0002 8000 0102030405060708", "FCoE initialisation"),
    (0x8137, "ffff 0008 00020102", "IPX"),
    (0x0600, "ffff 0006 0102", "XNS"),
    (0x6003, "0300 010203", "DECnet"),
    (0x88ca, "0000000a 010203040506", "TIPC"),
    (0x8847, "00010140 45000018 00000000 40010000 0a000001 0a000002 01020304", "MPLS with IPv4"),
    (0x8847, "00001040 00020140 00060000 6162", "MPLS with a pseudowire"),
    (0x88cc, "0207 04010203040506 0403 070102 0602 0078 0000", "LLDP"),
    (0x8902, "20 01 00 04 00000007 010002 aabb 00", "connectivity fault management"),
    (0x88e5, "0002 00000001 6162 0102030405060708090a0b0c0d0e0f10", "MACsec"),
    (0x88e5, "2001 00000001 0102030405060001 61 0102030405060708090a0b0c0d0e0f10", "MACsec with a channel"),
    (0x80f3, "0001809b 0604 0001 020304050607 00010203 000000000000 00010204", "AppleTalk's ARP"),
    (0x887b, "02 0001aa 0102bbcc", "HomePlug"),
    (0x8100, "0001 0005 424203 0102", "a tag too many, 802.3"),
    (0x9100, "0001 8100 0002 888e 0103 0003 010203", "two tags too many"),
    (0xf1c1, "0000 0007 8863 11090000 0004 01010000", "a redundancy tag"),
    (0x88e7, "00000001 020000000001 020000000002 888e 0103 0003 010203", "a backbone service tag"),
];

fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

#[test]
fn what_has_a_length_ends_there() {
    for (ethertype, digits, what) in CONTENTS {
        let mut payload = bytes(digits);
        let end = payload.len();
        assert_eq!(content(ethertype, &payload, 0), Some(end), "{what}");
        payload.extend([0xee; 30]);
        assert_eq!(content(ethertype, &payload, 0), Some(end), "{what}, padded");
        assert_eq!(content(ethertype, &payload[..end - 1], 0), None, "{what}, cut");
    }
}

#[test]
fn a_length_tells_what_a_capture_lacks() {
    let session = bytes("11000001 0030 c021 0900");
    assert_eq!(content(0x8864, &session, 100), Some(6 + 0x30));
    assert_eq!(content(0x8864, &session, 10), None);
}

#[test]
fn what_has_none_ends_with_the_frame_but_for_the_zeros_of_a_short_one() {
    assert_eq!(content(0x0842, &[0xff; 102], 0), None);
    for (payload, end) in
        [(&[1, 2, 0, 0][..], 2), (&[0; 46], 0), (&[0; 47], 47), (&[1; 46], 46), (&[], 0), (&[1, 0, 1], 3)]
    {
        assert_eq!(without_zeros(payload), end, "{payload:?}");
    }
}

#[test]
fn what_carries_itself_ends() {
    assert_eq!(content(0x8100, &[0x81, 0].repeat(800), 0), None);
    assert_eq!(content(0x88cc, &[2, 0].repeat(800), 0), None, "elements without an end");
}

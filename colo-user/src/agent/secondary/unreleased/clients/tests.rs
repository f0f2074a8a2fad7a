use super::*;
use crate::wire::{IcmpMessage, IpFamily};

const GUESTS: [&str; 2] = ["192.0.2.7:80", "[2001:db8::7]:80"];
const CLIENTS: [&str; 2] = ["192.0.2.1:1000", "[2001:db8::1]:1000"];

fn from_client(family: usize) -> Tcp {
    Tcp::new(CLIENTS[family].parse().unwrap(), GUESTS[family].parse().unwrap()).ack(9)
}

/// The clients after these segments, each in two VLANs.
fn after(segments: impl IntoIterator<Item = Tcp>) -> Clients {
    let mut clients = Clients::default();
    hear(&mut clients, segments);
    clients
}

fn hear(clients: &mut Clients, segments: impl IntoIterator<Item = Tcp>) {
    for segment in segments {
        let frame = segment.frame_in(&Wrap { vlans: Vlans::stacked(&[7, 8]), ..Wrap::default() });
        let link = Ether::parse(&frame).unwrap();
        let ip = Ip::parse(&frame, link.payload, link.ethertype).unwrap();
        clients.heard(&link, &ip, &TcpSegment::parse(&frame[ip.payload..ip.end]).unwrap());
    }
}

/// Whom a notice is for, and the number it quotes.
fn read(notice: &[u8]) -> (String, u32) {
    let link = Ether::parse(notice).unwrap();
    let heard = Wrap::default();
    assert_eq!((link.src, link.dst), (heard.dst_mac, heard.src_mac), "the way back");
    assert_eq!(link.vlans.ids().collect::<Vec<_>>(), [7, 8]);
    let ip = Ip::parse(notice, link.payload, link.ethertype).unwrap();
    let message = IcmpMessage::parse(ip.family, &notice[ip.payload..ip.end]).unwrap();
    let family = usize::from(ip.family == IpFamily::V6);
    assert_eq!((message.kind_byte, message.code), UNREACHABLE[family]);
    let quote = Ip::parse(message.payload, 0, link.ethertype).unwrap();
    assert_eq!((quote.src, quote.dst), (ip.dst, ip.src), "what the client said to the guest");
    let lost = TcpSegment::parse(&message.payload[quote.payload..quote.end]).unwrap();
    assert_eq!((lost.src_port, lost.dst_port), (1000, 80));
    (quote.source().to_string(), lost.seq.0)
}

fn told(clients: &Clients) -> Vec<(String, u32)> {
    clients.notices().map(|notice| read(&notice)).collect()
}

#[test]
fn a_client_is_told_what_follows_all_that_it_has_said() {
    for (family, client) in ["192.0.2.1", "2001:db8::1"].into_iter().enumerate() {
        let said = |seq, data: &[u8]| from_client(family).seq(seq).data(data);
        // Across the end of the numbers, and with an older acknowledgement that comes late.
        let mut clients = after([said(u32::MAX - 4, b"abcd"), said(5, b"fghij"), said(1, b"")]);
        assert_eq!(told(&clients), [(client.to_owned(), 10)]);
        hear(&mut clients, [said(5, b"fg")]);
        assert_eq!(told(&clients), [(client.to_owned(), 5)], "nobody has acknowledged what it repeats");
        hear(&mut clients, [said(10, b"")]);
        assert_eq!(told(&clients), [(client.to_owned(), 10)], "it has no reason to repeat any more");
    }
}

#[test]
fn a_connection_that_opens_or_ends_is_not_told() {
    let open = || from_client(0).seq(5).data(b"x");
    let mut syn = from_client(0).seq(1).flag(TcpFlags::SYN);
    assert!(told(&after([syn.clone()])).is_empty(), "an answer to the guest's SYN");
    syn.ack = None;
    for flag in [TcpFlags::FIN, TcpFlags::RST] {
        assert!(told(&after([open(), open().flag(flag)])).is_empty());
    }
    // Its ends serve again, with other numbers.
    assert!(told(&after([open(), syn.clone()])).is_empty());
    assert_eq!(told(&after([open(), syn, from_client(0).seq(u32::MAX - 100)]))[0].1, u32::MAX - 100);
}

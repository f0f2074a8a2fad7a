use super::*;
use crate::wire::{Ether, Ip, TcpSegment};

#[test]
fn a_built_segment_reads_back() {
    for (src, dst) in [("10.0.0.2:80", "10.0.0.1:4000"), ("[fd00::2]:80", "[fd00::1]:4000")] {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let tcp = Tcp::new(src, dst).seq(7).ack(9).flag(TcpFlags::PSH).options(&[1, 1, 1]).data(b"hello");
        let frame = tcp.frame_in(&Wrap { vlans: Vlans::stacked(&[5, 6]), ..Wrap::default() });
        let ether = Ether::parse(&frame).unwrap();
        assert_eq!(ether.vlans.ids().collect::<Vec<_>>(), [5, 6]);
        let ip = Ip::parse(&frame, ether.payload, ether.ethertype).unwrap();
        assert_eq!((ip.source(), ip.destination()), (src.ip(), dst.ip()));
        let bytes = &frame[ip.payload..ip.end];
        // A receiver sums everything, checksum included, to all ones.
        let sum = Sum::ZERO.pseudo_header(
            ip.significant(&ip.src),
            ip.significant(&ip.dst),
            proto::TCP,
            bytes.len() as u32,
        );
        assert_eq!(sum.bytes(bytes).stored(), 0);
        let segment = TcpSegment::parse(bytes).unwrap();
        assert_eq!((segment.seq, segment.ack, segment.payload), (Seq(7), Seq(9), &b"hello"[..]));
        assert!(segment.flags.has(TcpFlags::ACK) && segment.flags.has(TcpFlags::PSH));
    }
}

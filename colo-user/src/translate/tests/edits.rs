//! What an edit changes, and what it leaves.

use super::super::Outcome;
use super::frames::{ACK, C, Host, Net, P, S, TC, TP, TS, Tcp, accepted, p, syn_ack};

/// Every way a packet is wrapped.
fn nets() -> impl Iterator<Item = Net> {
    (0..12).map(|i| Net { v6: i % 2 == 1, tags: i / 2 % 3, extras: i / 6 == 1, host: 0 })
}

#[test]
fn options_at_odd_offsets_keep_the_checksum_right() {
    for net in nets() {
        for pad in 0..4 {
            let mut h = accepted(net);
            let said = Tcp::new(S + 1, C + 1, ACK).timestamps(pad, TS + 0x0102_0304, TC).payload(b"odd");
            let want = Tcp::new(p(1), C + 1, ACK).timestamps(pad, TP + 0x0102_0304, TC).payload(b"odd");
            assert_eq!(h.output(&said).unwrap().options, net.read(&net.output(&want)).options);
            let edges = [p(20), p(30), p(0), p(7)];
            let got = Tcp::new(C + 1, p(1), ACK).timestamps(pad, TC, TP + 9).sack(&edges).payload(b"!");
            let want = Tcp::new(C + 1, S + 1, ACK)
                .timestamps(pad, TC, TS + 9)
                .sack(&[S + 20, S + 30, S, S + 7])
                .payload(b"!");
            assert_eq!(h.input(&got).unwrap().options, net.read(&net.input(&want)).options, "{net:?} {pad}");
        }
    }
}

#[test]
fn a_corrupted_frame_stays_corrupted() {
    let mut h = accepted(Net::default());
    let mut frame = h.net.output(&Tcp::new(S + 1, C + 1, ACK).payload(b"precious"));
    *frame.last_mut().unwrap() ^= 0x40;
    assert_eq!(h.t.output(h.now, &mut frame), Outcome::Translated);
    assert!(!h.net.sound(true, &frame));
    *frame.last_mut().unwrap() ^= 0x40;
    assert!(h.net.sound(true, &frame));
}

#[test]
fn padding_stays() {
    let mut h = accepted(Net::default());
    let mut frame = h.net.output(&Tcp::new(S + 1, C + 1, ACK));
    frame.extend([0xee; 6]);
    assert_eq!(h.t.output(h.now, &mut frame), Outcome::Translated);
    let (packet, padding) = frame.split_at(frame.len() - 6);
    assert!(h.net.sound(true, packet));
    assert_eq!(padding, [0xee; 6]);
}

/// A quote of `length` bytes of TCP and what lies before it.
fn quoted(net: Net, tcp: usize) -> usize {
    net.payload_at() - net.ip_at() + tcp
}

#[test]
fn errors_toward_the_guest_quote_what_it_said() {
    for net in nets() {
        for tcp in [8, 12, 18, 20, 27, 32, 40] {
            let mut h = accepted(net);
            let on_wire = net.output(&Tcp::new(p(9), C, ACK).timestamps(2, TP + 4, TC).payload(&[1; 8]));
            let in_guest = net.output(&Tcp::new(S + 9, C, ACK).timestamps(2, TS + 4, TC).payload(&[1; 8]));
            let mut frame = net.error(false, &on_wire, quoted(net, tcp));
            assert_eq!(h.t.input(h.now, &mut frame), Outcome::Translated);
            assert!(net.sound(false, &frame), "{net:?}, {tcp} bytes quoted");
            let mut want = net.error(false, &in_guest, quoted(net, tcp));
            if tcp == 27 {
                // The option is cut off: it stays, and so does its part of the quoted checksum.
                let option = net.payload_at() + 8 + quoted(net, 20);
                want[option..].copy_from_slice(&net.error(false, &on_wire, quoted(net, tcp))[option..]);
            }
            let icmp = net.payload_at();
            let checksums = |f: &mut [u8]| {
                f[icmp + 2..icmp + 4].fill(0);
                if (18..32).contains(&tcp) {
                    let at = icmp + 8 + quoted(net, 16);
                    f[at..at + 2].fill(0);
                }
            };
            checksums(&mut frame);
            checksums(&mut want);
            assert_eq!(frame, want, "{net:?}, {tcp} bytes quoted");
            assert_eq!(h.count("quotes_translated"), 1);
        }
    }
}

#[test]
fn errors_of_the_guest_quote_what_it_received() {
    for net in nets() {
        let mut h = accepted(net);
        let tcp = |ack, echo, edge| Tcp::new(C + 1, ack, ACK).timestamps(2, TC, echo).sack(&[edge, edge + 5]);
        let in_guest = net.input(&tcp(S + 1, TS + 4, S + 50));
        let on_wire = net.input(&tcp(p(1), TP + 4, p(50)));
        let mut frame = net.error(true, &in_guest, usize::MAX);
        assert_eq!(h.t.output(h.now, &mut frame), Outcome::Translated);
        assert_eq!(frame, net.error(true, &on_wire, usize::MAX), "{net:?}");
        // Without the acknowledgement there is no number in it.
        let mut frame = net.error(true, &in_guest, quoted(net, 8));
        assert_eq!(h.t.output(h.now, &mut frame), Outcome::Unchanged);
        assert_eq!(frame, net.error(true, &on_wire, quoted(net, 8)));
    }
}

#[test]
fn errors_about_an_unknown_delta_are_dropped() {
    let net = Net::default();
    let mut h = Host::new(net);
    h.output(&syn_ack(S, TS)).unwrap();
    let mut frame = net.error(false, &net.output(&syn_ack(P, TP)), usize::MAX);
    assert_eq!(h.t.input(h.now, &mut frame), Outcome::Dropped);
    assert_eq!(h.count("quotes_dropped"), 1);
    let mut other = Net { host: 9, ..net }.output(&syn_ack(P, TP));
    let mut frame = net.error(false, &other, usize::MAX);
    let before = frame.clone();
    assert_eq!(h.t.input(h.now, &mut frame), Outcome::Unchanged);
    assert_eq!(frame, before);
    assert_eq!(h.t.output(h.now, &mut other), Outcome::Unchanged);
}

#[test]
fn other_connections_and_protocols_are_left_alone() {
    let mut h = accepted(Net::default());
    let v6 = Net { v6: true, ..h.net };
    let tagged = Net { tags: 1, ..h.net };
    let other = Net { host: 1, ..h.net };
    for mut frame in [
        v6.output(&Tcp::new(S + 1, C + 1, ACK)),
        tagged.output(&Tcp::new(S + 1, C + 1, ACK)),
        other.output(&Tcp::new(S + 1, C + 1, ACK)),
        h.net.packet(true, 17, &[0; 60]),
        h.net.packet(true, 1, &[8; 60]),
    ] {
        let before = frame.clone();
        assert_eq!(h.t.output(h.now, &mut frame), Outcome::Unchanged);
        assert_eq!(frame, before);
    }
}

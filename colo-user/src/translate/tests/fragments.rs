//! TCP segments that come in IP fragments.

use super::super::{Direction, Event, Limits, Outcome, Translator};
use super::frames::{ACK, C, Host, Net, P, S, SYN, TC, TP, TS, Tcp, accepted, p, syn_ack};
use std::time::Duration;

fn segment(seq: u32, tsval: u32) -> Tcp {
    Tcp::new(seq, C + 1, ACK).timestamps(1, tsval, TC).payload(&[0x5a; 100])
}

/// Hands the fragments to the translator: outcomes, and what came out.
fn output(h: &mut Host, fragments: &[Vec<u8>]) -> (Vec<Outcome>, Vec<Vec<u8>>) {
    let outcomes = fragments.iter().map(|f| h.t.output(h.now, &mut f.clone())).collect();
    let out = h.events().into_iter().map(|e| match e {
        Event::Forward(Direction::Output, frame) => frame,
        e => panic!("{e:?}"),
    });
    (outcomes, out.collect())
}

#[test]
fn a_segment_is_translated_across_its_fragments() {
    for v6 in [false, true] {
        for tags in 0..3 {
            // The second cut is within the header, in front of the option.
            for cuts in [&[64][..], &[8, 16, 24, 40], &[96, 104]] {
                let net = Net { v6, tags, ..Net::default() };
                let mut h = accepted(net);
                let said = net.fragments(true, &net.output(&segment(S + 1, TS + 5)), 9, cuts);
                let want = net.fragments(true, &net.output(&segment(p(1), TP + 5)), 9, cuts);
                let order: Vec<_> = (0..said.len()).rev().collect();
                let shuffled: Vec<_> = order.iter().map(|&i| said[i].clone()).collect();
                let (outcomes, out) = output(&mut h, &shuffled);
                assert!(outcomes.iter().all(|&o| o == Outcome::Kept), "{outcomes:?}");
                assert_eq!(
                    out,
                    order.iter().map(|&i| want[i].clone()).collect::<Vec<_>>(),
                    "{net:?} {cuts:?}"
                );
                assert_eq!(h.count("fragments_kept"), said.len() as u64);
            }
        }
    }
}

#[test]
fn input_is_translated_across_its_fragments() {
    let net = Net::default();
    let mut h = accepted(net);
    let tcp = |ack| Tcp::new(C + 1, ack, ACK).payload(&[3; 64]);
    let said = net.fragments(false, &net.input(&tcp(p(1))), 9, &[8, 48]);
    let want = net.fragments(false, &net.input(&tcp(S + 1)), 9, &[8, 48]);
    for f in &said {
        assert_eq!(h.t.input(h.now, &mut f.clone()), Outcome::Kept);
    }
    let want: Vec<_> = want.into_iter().map(|f| Event::Forward(Direction::Input, f)).collect();
    assert_eq!(h.events(), want);
}

#[test]
fn extension_headers_behind_the_fragment_header_hide_nothing() {
    let net = Net { v6: true, ..Net::default() };
    let hidden = |next: u8, tcp: &Tcp| {
        let mut packet = net.output(tcp);
        let at = net.payload_at();
        packet.splice(at..at, [next, 0, 1, 4, 0, 0, 0, 0]);
        net.fragments(true, &packet, 9, &[48])
            .into_iter()
            .map(|mut f| {
                f[at] = 60;
                f
            })
            .collect::<Vec<_>>()
    };
    let mut h = accepted(net);
    let (outcomes, out) = output(&mut h, &hidden(6, &segment(S + 1, TS + 5)));
    assert_eq!(outcomes, [Outcome::Kept; 2]);
    assert_eq!(out, hidden(6, &segment(p(1), TP + 5)));
    // Not TCP after all: it goes on as it came.
    let udp = hidden(17, &segment(S + 1, TS + 5));
    assert_eq!(output(&mut h, &udp).1, udp);
}

#[test]
fn without_a_flow_nothing_is_put_together() {
    let net = Net::default();
    let mut h = Host::new(net);
    let said = net.fragments(true, &net.output(&segment(S + 1, TS)), 9, &[64]);
    let (outcomes, out) = output(&mut h, &said);
    assert_eq!((outcomes, out.len()), (vec![Outcome::Unchanged; 2], 0));
}

#[test]
fn fragments_of_an_unknown_delta_are_dropped_and_counted() {
    let net = Net::default();
    let mut h = Host::new(net);
    h.output(&syn_ack(S, TS)).unwrap();
    let (_, out) = output(&mut h, &net.fragments(true, &net.output(&segment(S + 1, TS)), 9, &[64]));
    assert!(out.is_empty());
    assert_eq!(h.count("fragments_dropped"), 2);
    // A SYN needs no delta.
    let net = Net { host: 1, ..net };
    let syn = net.output(&Tcp::new(S, 0, SYN).timestamps(0, TS, 0).payload(&[1; 40]));
    let (_, out) = output(&mut h, &net.fragments(true, &syn, 9, &[16]));
    assert_eq!((out.len(), h.t.flows()), (2, 2));
    assert_ne!(S, P);
}

#[test]
fn overlaps_discard_the_datagram_and_repetitions_do_not() {
    let net = Net::default();
    let whole = net.output(&segment(S + 1, TS));
    let said = net.fragments(true, &whole, 9, &[64, 96]);
    let overlap = &net.fragments(true, &whole, 9, &[56, 96])[1];
    let mut h = accepted(net);
    let (outcomes, out) = output(&mut h, &[said[0].clone(), overlap.clone(), said[2].clone()]);
    assert_eq!(outcomes, [Outcome::Kept, Outcome::Dropped, Outcome::Kept]);
    assert!(out.is_empty());
    assert_eq!(h.count("fragments_dropped"), 2);

    let mut h = accepted(net);
    let (outcomes, out) = output(&mut h, &[&said[..1], &said[..1], &said[1..]].concat());
    assert_eq!(outcomes, [Outcome::Kept, Outcome::Dropped, Outcome::Kept, Outcome::Kept]);
    assert_eq!(out.len(), 3);
}

#[test]
fn what_never_completes_expires() {
    let net = Net::default();
    let mut h = accepted(net);
    let said = net.fragments(true, &net.output(&segment(S + 1, TS)), 9, &[64]);
    output(&mut h, &said[..1]);
    assert_eq!(h.t.next_deadline(), Some(super::frames::at(30_000)));
    h.pass(Duration::from_secs(30));
    assert_eq!(h.count("fragments_dropped"), 1);
    let (outcomes, out) = output(&mut h, &said[1..]);
    assert_eq!((outcomes, out.len()), (vec![Outcome::Kept], 0));
}

#[test]
fn reassembly_is_bounded() {
    let net = Net::default();
    let first = |id| net.fragments(true, &net.output(&segment(S + 1, TS)), id, &[64])[0].clone();
    for (limits, fit) in [
        (Limits { reassemblies: 3, ..Limits::default() }, 3),
        (Limits { reassembly_bytes: 400, ..Limits::default() }, 2),
    ] {
        let mut h = Host { t: Translator::new(limits), ..Host::new(net) };
        h.accept();
        let frames: Vec<_> = (0..10).map(first).collect();
        let (outcomes, _) = output(&mut h, &frames);
        assert_eq!(outcomes.iter().filter(|&&o| o == Outcome::Kept).count(), fit);
        assert_eq!(h.count("fragments_dropped"), 10 - fit as u64);
        h.t.epoch_cut(h.now, []).unwrap();
        assert_eq!(h.count("fragments_dropped"), 10);
        h.accept();
        assert_eq!(output(&mut h, &frames[..1]).0, [Outcome::Kept]);
    }
}

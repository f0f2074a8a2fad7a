//! Every bound, its overload rule and its counter.

use super::super::limits::KEPT_PER_FLOW;
use super::super::{Base, Delta, Event, Learned, Limits, Outcome, Signature, Translator, initial_of};
use super::frames::{ACK, C, Host, Net, P, S, SYN, TC, TP, TS, Tcp, accepted, at, p, syn_ack};

fn small(limits: Limits) -> Host {
    Host { t: Translator::new(limits), ..Host::new(Net::default()) }
}

#[test]
fn a_full_table_evicts_nobody_and_asks_once() {
    let mut h = small(Limits { flows: 1, ..Limits::default() });
    h.accept();
    h.net.host = 1;
    assert!(h.output(&syn_ack(S, TS)).is_none(), "held, it would begin what cannot be translated");
    assert_eq!(h.primary(&syn_ack(P, TP)), Learned::Full);
    assert_eq!(h.events(), [Event::TableFull { alarm: false }]);
    assert_eq!(h.count("table_full"), 2);
    h.net.host = 0;
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
    h.t.epoch_cut(h.now, []).unwrap();
    h.net.host = 1;
    assert!(h.output(&syn_ack(S, TS)).is_some());
    h.net.host = 2;
    h.t.take_over(h.now);
    assert!(h.output(&syn_ack(S, TS)).is_some(), "nobody else says it");
    assert_eq!(h.events(), [Event::TableFull { alarm: true }]);
}

#[test]
fn bases_beyond_the_table_are_named() {
    let mut h = small(Limits { flows: 2, ..Limits::default() });
    let base = |host| Base {
        flow: initial_of(&Net { host, ..Net::default() }.output(&Tcp::new(1, 0, SYN))).unwrap().flow,
        delta: Delta { seq: 1, ts: 1 },
        guest_isn: None,
    };
    assert_eq!(h.t.epoch_cut(at(0), (0..5).map(base)), Err(3));
    assert_eq!((h.t.flows(), h.count("table_full")), (2, 3));
}

#[test]
fn kept_frames_are_bounded_per_flow_in_number_and_in_bytes() {
    let ack = Tcp::new(C + 1, p(1), ACK).payload(&[0; 100]);
    let fill = |limits, flows: u8| {
        let mut h = small(limits);
        for host in 0..flows {
            h.net.host = host;
            h.primary(&syn_ack(P, TP));
            for _ in 0..2 * KEPT_PER_FLOW {
                assert!(h.input(&ack).is_none());
            }
        }
        (h.count("kept"), h.count("kept_overflow"))
    };
    let (per_flow, all) = (KEPT_PER_FLOW as u64, 2 * KEPT_PER_FLOW as u64);
    assert_eq!(fill(Limits::default(), 2), (2 * per_flow, 2 * all - 2 * per_flow));
    assert_eq!(fill(Limits { kept_frames: 5, ..Limits::default() }, 2), (5, 2 * all - 5));
    assert_eq!(fill(Limits { kept_bytes: 1_000, ..Limits::default() }, 1), (6, all - 6));
}

#[test]
fn room_for_kept_frames_comes_back() {
    let mut h = small(Limits { kept_frames: 1, ..Limits::default() });
    for host in 0..10 {
        h.net.host = host;
        h.primary(&syn_ack(P, TP));
        assert!(h.input(&Tcp::new(C + 1, p(1), ACK)).is_none());
        match host % 3 {
            0 => drop(h.output(&syn_ack(S, TS))),
            1 => h.t.epoch_cut(h.now, []).unwrap(),
            _ => h.pass(super::super::limits::EMBRYONIC),
        }
    }
    assert_eq!((h.count("kept"), h.count("kept_overflow")), (10, 0));
}

#[test]
fn signed_segments_are_refused_by_name_once() {
    for (option, signature, name) in
        [(&[19, 18][..], Signature::Md5, "TCP-MD5"), (&[29, 16][..], Signature::Ao, "TCP-AO")]
    {
        assert_eq!(signature.name(), name);
        let signed = |tcp: Tcp| {
            let digest = vec![0xab; usize::from(option[1]) - 2];
            tcp.options(option).options(&digest)
        };
        let mut h = Host::new(Net::default());
        assert!(h.output(&signed(Tcp::new(S, 0, SYN))).is_none());
        assert!(h.output(&signed(Tcp::new(S, 0, SYN))).is_none());
        assert!(h.input(&signed(Tcp::new(C, p(1), ACK))).is_none());
        let flow = h.t.entries().next().unwrap().flow;
        assert_eq!(h.events(), [Event::Refused { flow, signature }]);
        assert_eq!(h.count("refused"), 3);
        // Where nothing is to be translated there is nothing to refuse.
        h.t.epoch_cut(h.now, []).unwrap();
        assert!(h.output(&signed(Tcp::new(S + 1, C, ACK))).is_some());
    }
    let mut h = accepted(Net::default());
    let mut frame = h.net.output(&Tcp::new(S + 1, C + 1, ACK).options(&[19, 2]));
    assert_eq!(h.t.output(h.now, &mut frame), Outcome::Dropped);
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(0, TS, TC)).unwrap().seq, p(1));
}

#[test]
fn counters_have_distinct_names() {
    let names: Vec<_> = Translator::new(Limits::default()).counters().named().map(|(n, _)| n).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!((unique.len(), names.len() > 10), (names.len(), true));
}

use super::super::{Direction, Event, Learned};
use super::frames::{
    ACK, C, Host, Net, P, RST, RST_ACK, S, SYN, SYN_ACK, TC, TP, TS, Tcp, accepted, p, syn_ack,
};

#[test]
fn a_passive_open_is_translated_both_ways() {
    for net in [Net::default(), Net { v6: true, tags: 1, extras: true, host: 0 }] {
        let mut h = accepted(net);
        let said =
            h.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(2, TS + 9, TC + 1).payload(b"hello")).unwrap();
        assert_eq!(said.seq, p(1));
        assert_eq!(said.ack, C + 1, "the client's numbers are everybody's");
        assert_eq!(said.options, Tcp::default().timestamps(2, TP + 9, TC + 1).options);
        let sack = [p(20), p(30)];
        let got = h.input(&Tcp::new(C + 1, p(6), ACK).sack(&sack).payload(b"x")).unwrap();
        assert_eq!(got.ack, S + 6);
        assert_eq!(got.options, Tcp::default().options(&[]).sack(&[S + 20, S + 30]).options.padded());
    }
}

trait Padded {
    fn padded(self) -> Self;
}

impl Padded for Vec<u8> {
    fn padded(mut self) -> Self {
        self.resize(self.len().next_multiple_of(4), 0);
        self
    }
}

#[test]
fn an_active_open_is_translated_from_the_servers_syn_ack_on() {
    for told_first in [true, false] {
        let mut h = Host::new(Net::default());
        let syn = |isn, ts| Tcp::new(isn, 0, SYN).timestamps(0, ts, 0);
        if told_first {
            assert_eq!(h.primary(&syn(P, TP)), Learned::Waiting);
        }
        assert_eq!(h.output(&syn(S, TS)).unwrap().seq, S);
        if !told_first {
            assert_eq!(h.primary(&syn(P, TP)), Learned::Paired);
        }
        assert_eq!(h.primary(&syn(P, TP)), Learned::Repeated);
        let got = h.input(&Tcp::new(C, p(1), SYN_ACK).timestamps(0, TC, TP)).unwrap();
        assert_eq!(got.ack, S + 1);
        assert_eq!(got.options, Tcp::default().timestamps(0, TC, TS).options.padded());
        assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
        assert_eq!((h.count("learned_told"), h.count("learned_acknowledgement")), (1, 0));
    }
}

#[test]
fn the_first_acknowledgement_teaches_what_nobody_told() {
    let mut passive = Host::new(Net::default());
    passive.output(&syn_ack(S, TS)).unwrap();
    let got = passive.input(&Tcp::new(C + 1, p(1), ACK).timestamps(2, TC, TP)).unwrap();
    assert_eq!(got.ack, S + 1);
    let said = passive.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(2, TS + 5, TC)).unwrap();
    assert_eq!(said.options, Tcp::default().timestamps(2, TP + 5, TC).options);

    let mut active = Host::new(Net::default());
    active.output(&Tcp::new(S, 0, SYN)).unwrap();
    assert_eq!(active.input(&Tcp::new(C, p(1), SYN_ACK)).unwrap().ack, S + 1);
    assert_eq!(active.count("learned_acknowledgement"), 1);

    let mut refused = Host::new(Net::default());
    refused.output(&Tcp::new(S, 0, SYN)).unwrap();
    assert_eq!(refused.input(&Tcp::new(0, p(1), RST_ACK)).unwrap().ack, S + 1);
}

#[test]
fn what_does_not_answer_the_handshake_teaches_nothing() {
    let cases = [
        (Tcp::new(S, C + 1, SYN_ACK), Tcp::new(C + 900, P, ACK), "an old duplicate"),
        (Tcp::new(S, C + 1, SYN_ACK), Tcp::new(C + 1, P, RST_ACK), "a reset"),
        (Tcp::new(S, 0, SYN), Tcp::new(C + 1, P, ACK), "no SYN-ACK"),
        (Tcp::new(S, 0, SYN).payload(b"fast open"), Tcp::new(C, P, SYN_ACK), "the SYN had data"),
    ];
    for (said, answer, why) in cases {
        let mut h = Host::new(Net::default());
        h.output(&said).unwrap();
        assert!(h.input(&answer).is_none(), "{why}");
        assert_eq!((h.count("kept"), h.count("learned_acknowledgement")), (1, 0), "{why}");
    }
}

#[test]
fn what_comes_before_the_delta_is_kept_and_goes_on_in_order() {
    let mut h = Host::new(Net::default());
    h.primary(&syn_ack(P, TP));
    let first = Tcp::new(C + 1, p(1), ACK);
    let second = Tcp::new(C + 1, p(1), ACK).payload(b"GET /");
    assert!(h.input(&first).is_none());
    assert!(h.input(&second).is_none());
    assert!(h.events().is_empty());
    h.output(&syn_ack(S, TS)).unwrap();
    let got: Vec<_> = h
        .events()
        .into_iter()
        .map(|e| match e {
            Event::Forward(Direction::Input, frame) => h.net.read(&frame),
            e => panic!("{e:?}"),
        })
        .collect();
    assert_eq!(got.iter().map(|t| (t.ack, t.payload.len())).collect::<Vec<_>>(), [(S + 1, 0), (S + 1, 5)]);

    let mut h = Host::new(Net::default());
    h.output(&syn_ack(S, TS)).unwrap();
    assert!(h.output(&Tcp::new(S + 1, C + 1, ACK).payload(b"early")).is_none());
    h.primary(&syn_ack(P, TP));
    let events = h.events();
    let [Event::Forward(Direction::Output, frame)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(h.net.read(frame).seq, p(1));
    assert!(h.net.sound(true, frame));
}

#[test]
fn resets_are_translated_and_never_kept() {
    let mut h = accepted(Net::default());
    let got = h.input(&Tcp::new(C + 1, p(1), RST_ACK)).unwrap();
    assert_eq!(got.ack, S + 1);
    assert!(h.input(&Tcp::new(C + 1, 0xdead, RST)).is_some_and(|t| t.ack == 0xdead), "no ACK bit, no number");
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, RST_ACK)).unwrap().seq, p(1));
    assert_eq!(h.t.flows(), 0, "the guest itself resets");

    let mut pending = Host::new(Net::default());
    pending.output(&syn_ack(S, TS)).unwrap();
    assert!(pending.output(&Tcp::new(5, 0, RST)).is_some());
    assert_eq!(pending.t.flows(), 1, "a bare reset may answer an old duplicate: the handshake goes on");
}

#[test]
fn another_initial_number_of_the_guest_begins_another_connection() {
    let mut h = accepted(Net::default());
    h.input(&Tcp::new(C + 9_999, 0, SYN)).unwrap();
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1), "a SYN of the client");
    // The primary is ahead: what this guest still says is of the former connection.
    assert_eq!(h.primary(&syn_ack(p(5), TP)), Learned::Waiting);
    assert_eq!(h.output(&Tcp::new(S + 2, C + 1, ACK)).unwrap().seq, p(2));
    assert!(h.input(&Tcp::new(C + 1, p(6), ACK)).is_none(), "what the client says is of the new one");
    assert_eq!(h.output(&syn_ack(S + 777, TS)).unwrap().seq, S + 777);
    assert_eq!(h.output(&Tcp::new(S + 778, C + 1, ACK)).unwrap().seq, p(6));
    assert_eq!(h.events().len(), 1);
    // The other way round: this guest is ahead.
    h.output(&syn_ack(S + 9_000, TS)).unwrap();
    assert!(h.output(&Tcp::new(S + 9_001, C + 1, ACK)).is_none(), "not known yet");
    assert_eq!(h.primary(&syn_ack(p(77), TP)), Learned::Paired);
    assert_eq!(h.events().len(), 1);
    assert_eq!(h.output(&Tcp::new(S + 9_002, C + 1, ACK)).unwrap().seq, p(79));
}

#[test]
fn a_handshake_that_an_epoch_cuts_is_learned_afresh() {
    let mut h = accepted(Net::default());
    h.t.epoch_cut(h.now, []).unwrap();
    assert_eq!(h.t.flows(), 0);
    // The guest's state is the primary's: its numbers are the wire's.
    assert_eq!(h.output(&Tcp::new(P, C + 1, ACK)).unwrap().seq, P);
    // It says the primary's SYN-ACK again, a little later than the primary does.
    assert_eq!(h.output(&syn_ack(P, TP + 40)).unwrap().seq, P);
    assert_eq!(h.primary(&syn_ack(P, TP + 37)), Learned::Paired);
    let got = h.input(&Tcp::new(C + 1, p(1), ACK).timestamps(2, TC, TP)).unwrap();
    assert_eq!(got.ack, p(1));
    assert_eq!(got.options, Tcp::default().timestamps(2, TC, TP).options, "one clock, whenever it was read");
    // A handshake that was not cut goes its own way.
    h.net.host = 1;
    h.output(&syn_ack(S, TS)).unwrap();
    assert_eq!(h.primary(&syn_ack(P, TP)), Learned::Paired);
    assert_eq!(h.input(&Tcp::new(C + 1, p(1), ACK)).unwrap().ack, S + 1);
}

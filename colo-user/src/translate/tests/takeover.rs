//! The direct path: what holds once the secondary speaks for itself, and what its own secondary inherits.

use super::super::limits::TAKEOVER_GRACE;
use super::super::{Base, Delta, Event, Handshake};
use super::frames::{ACK, C, Host, Net, P, S, SYN, SYN_ACK, TC, TP, TS, Tcp, accepted, p, syn_ack};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn drift_becomes_base_and_every_segment_is_translated() {
    let mut h = accepted(Net::default());
    let total = Delta { seq: S.wrapping_sub(P), ts: TS - TP };
    let view = |h: &Host| h.t.entries().next().unwrap();
    assert_eq!((view(&h).base, view(&h).drift, view(&h).handshake), (Delta::ZERO, total, Handshake::Known));
    h.t.take_over(h.now);
    h.t.take_over(h.now);
    assert_eq!((view(&h).base, view(&h).drift), (total, Delta::ZERO));
    assert_eq!(h.output(&syn_ack(S, TS)).unwrap().seq, P, "a SYN-ACK said again too");
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
    assert_eq!(h.input(&Tcp::new(C + 1, p(5), ACK)).unwrap().ack, S + 5);
}

#[test]
fn what_the_survivor_carries_reaches_its_own_secondary() {
    let mut survivor = accepted(Net::default());
    survivor.t.take_over(survivor.now);
    let bases: Vec<Base> = survivor.t.bases().collect();
    assert_eq!(bases.len(), 1);

    // A new secondary, loaded with the survivor's state, speaks the same guest space.
    let mut h = Host::new(Net::default());
    h.t.epoch_cut(h.now, bases.clone()).unwrap();
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
    assert_eq!(h.input(&Tcp::new(C + 1, p(5), ACK)).unwrap().ack, S + 5);
    assert_eq!(h.output(&syn_ack(S, TS)).unwrap().seq, P, "the survivor's SYN-ACK is in wire space as well");
    // The tuple is used again: nothing of the old connection is left.
    h.primary(&syn_ack(70, TP));
    assert_eq!(h.output(&syn_ack(90, TS)).unwrap().seq, 90);
    assert_eq!(h.output(&Tcp::new(91, C + 1, ACK)).unwrap().seq, 71);

    // Taken over once more: the deltas add up, here to the one against the first primary.
    h.t.take_over(h.now);
    let total = h.t.bases().next().unwrap().delta;
    assert_eq!(total, Delta { seq: 20, ts: TS - TP });
}

#[test]
fn a_handshake_is_completed_when_the_primary_dies_in_between() {
    // Its number was told.
    let mut h = Host::new(Net::default());
    h.primary(&syn_ack(P, TP));
    h.t.take_over(h.now);
    assert_eq!(h.output(&syn_ack(S, TS)).unwrap().seq, P);
    assert_eq!(h.input(&Tcp::new(C + 1, p(1), ACK)).unwrap().ack, S + 1);

    // It was not, and the client has seen it.
    let mut h = Host::new(Net::default());
    h.output(&syn_ack(S, TS)).unwrap();
    h.t.take_over(h.now);
    h.now = h.now + 10 * TAKEOVER_GRACE;
    assert_eq!(h.input(&Tcp::new(C + 1, p(1), ACK)).unwrap().ack, S + 1);
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));

    // It was not, and the client has not: this guest's own goes out.
    let mut h = Host::new(Net::default());
    h.output(&syn_ack(S, TS)).unwrap();
    h.t.take_over(h.now);
    assert_eq!(h.output(&syn_ack(S, TS)).unwrap().seq, S);
    assert_eq!(h.input(&Tcp::new(C + 1, S + 1, ACK)).unwrap().ack, S + 1);
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, S + 1);
}

#[test]
fn a_delta_that_was_learned_after_the_takeover_reaches_the_next_secondary() {
    // The takeover cut the handshake: the guest says its own number afterwards, or the client tells the primary's.
    let mut told = Host::new(Net::default());
    told.primary(&syn_ack(P, TP));
    told.t.take_over(told.now);
    told.output(&syn_ack(S, TS)).unwrap();
    let mut acknowledged = Host::new(Net::default());
    acknowledged.output(&syn_ack(S, TS)).unwrap();
    acknowledged.t.take_over(acknowledged.now);
    assert_eq!(acknowledged.t.bases().count(), 0, "nothing is known yet");
    acknowledged.input(&Tcp::new(C + 1, p(1), ACK)).unwrap();
    for survivor in [told, acknowledged] {
        let mut h = Host::new(Net::default());
        h.t.epoch_cut(h.now, survivor.t.bases()).unwrap();
        assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
        assert_eq!(h.input(&Tcp::new(C + 1, p(5), ACK)).unwrap().ack, S + 5);
    }
}

#[test]
fn long_after_a_takeover_only_the_guest_accepts_acknowledgements() {
    let mut h = Host::new(Net::default());
    h.t.take_over(h.now);
    h.now = h.now + TAKEOVER_GRACE;
    h.output(&syn_ack(S, TS)).unwrap();
    assert_eq!(h.t.flows(), 1);
    h.now = h.now + MS;
    h.net.host = 1;
    h.output(&syn_ack(S, TS)).unwrap();
    assert_eq!(h.input(&Tcp::new(C + 1, 0xbad, ACK)).unwrap().ack, 0xbad, "the guest will reset it");
    assert_eq!(h.t.flows(), 1);
    // A tuple with a base is used again.
    let mut h = accepted(Net::default());
    h.t.take_over(h.now);
    h.now = h.now + TAKEOVER_GRACE + MS;
    assert_eq!(h.output(&syn_ack(S + 5, TS)).unwrap().seq, S + 5);
    assert_eq!(h.input(&Tcp::new(C + 1, 0xbad, ACK)).unwrap().ack, 0xbad);
    assert_eq!(h.t.flows(), 0);
}

#[test]
fn a_timestamp_toward_the_client_never_steps_back() {
    // This guest lags 40 ms behind the primary, whose last TSval the client has echoed.
    let mut h = accepted(Net::default());
    h.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(2, TS + 60, TC)).unwrap();
    h.input(&Tcp::new(C + 1, p(1), ACK).timestamps(2, TC, TP + 100)).unwrap();
    h.t.take_over(h.now);
    let mut last = 0;
    for (tick, want) in [(61, 100), (99, 100), (100, 100), (130, 130), (120, 130), (131, 131)] {
        let said = h.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(2, TS + tick, TC)).unwrap();
        assert_eq!(said.options, Tcp::default().timestamps(2, TP + want, TC).options, "tick {tick}");
        assert!(want >= last);
        last = want;
    }
    assert_eq!(h.count("timestamps_raised"), 3);
}

#[test]
fn a_forged_echo_does_not_freeze_the_clock() {
    let mut h = accepted(Net::default());
    h.input(&Tcp::new(C + 1, p(1), ACK).timestamps(2, TC, TP + (1 << 30))).unwrap();
    let said = h.output(&Tcp::new(S + 1, C + 1, ACK).timestamps(2, TS + 5, TC)).unwrap();
    assert_eq!(said.options, Tcp::default().timestamps(2, TP + 5, TC).options);
}

#[test]
fn an_echo_toward_the_guest_is_of_something_it_has_said() {
    let echoed = |h: &mut Host, flags, echo| {
        let got = h.input(&Tcp::new(C, p(1), flags).timestamps(2, TC, echo)).unwrap();
        u32::from_be_bytes(got.options[8..12].try_into().unwrap())
    };
    let opened = || {
        let mut h = Host::new(Net::default());
        h.primary(&Tcp::new(P, 0, SYN).timestamps(2, TP, 0));
        h.output(&Tcp::new(S, 0, SYN).timestamps(2, TS, 0)).unwrap();
        h
    };
    // The primary's SYN was said again after 1000 ms, this guest's after 990: Linux resets on a later echo.
    let mut h = opened();
    h.output(&Tcp::new(S, 0, SYN).timestamps(2, TS + 990, 0)).unwrap();
    assert_eq!(echoed(&mut h, SYN_ACK, TP + 1_000), TS + 990);
    // And on an earlier one.
    assert_eq!(echoed(&mut opened(), SYN_ACK, TP - 3), TS);
    // Later on, an old echo is just old; zero is none.
    let mut h = accepted(Net::default());
    assert_eq!(echoed(&mut h, ACK, TP - 3), TS - 3);
    assert_eq!(echoed(&mut h, ACK, 0), 0);
}

#[test]
fn kept_input_outlives_the_takeover() {
    let mut h = Host::new(Net::default());
    h.primary(&syn_ack(P, TP));
    assert!(h.input(&Tcp::new(C + 1, p(1), ACK)).is_none());
    h.t.take_over(h.now);
    h.output(&syn_ack(S, TS)).unwrap();
    assert!(matches!(&h.events()[..], [Event::Forward(..)]));
}

#[test]
fn an_echo_never_makes_a_retransmission_look_needless() {
    let mut h = accepted(Net::default());
    let say = |h: &mut Host, seq: u32, ts| {
        h.output(&Tcp::new(seq, C + 1, ACK).timestamps(2, ts, TC).payload(b"0123456789")).unwrap();
    };
    let echoed = |h: &mut Host, ack, echo| {
        let got = h.input(&Tcp::new(C + 1, ack, ACK).timestamps(2, TC, echo)).unwrap();
        u32::from_be_bytes(got.options[8..12].try_into().unwrap())
    };
    say(&mut h, S + 1, TS + 100);
    say(&mut h, S + 11, TS + 101);
    // The primary said it at TP + 100 and was held; this guest repeats the first part 300 ms later.
    say(&mut h, S + 1, TS + 400);
    assert_eq!(echoed(&mut h, p(1), TP + 90), TS + 90, "what came before it is not concerned");
    assert_eq!(echoed(&mut h, p(11), TP + 100), TS + 400);
    assert_eq!(echoed(&mut h, p(21), TP + 401), TS + 400, "no echo of what was never said");
    say(&mut h, S + 21, TS + 500);
    assert_eq!(echoed(&mut h, p(31), TP + 450), TS + 450);
}

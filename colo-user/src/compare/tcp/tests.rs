use super::super::rig::{CLIENT, GUEST, Rig, addr, tcp};
use super::super::{Cause, Coverage, Divergence, DivergenceKind as Kind, Limits, Policy};
use crate::wire::build::{Tcp, Wrap};
use crate::wire::{Seq, TcpFlags};
use std::time::Duration;

const FIN: TcpFlags = TcpFlags::FIN;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;

mod odd;

const MSS: [u8; 4] = [2, 4, 5, 180];

fn syn_ack(isn: u32) -> Tcp {
    tcp().seq(isn).ack(500).flag(SYN).options(&MSS)
}

#[test]
fn equal_segments_leave_whoever_speaks_first() {
    let mut rig = Rig::new();
    let a = tcp().seq(100).ack(5).data(b"hello").frame();
    rig.p(&a);
    assert_eq!(rig.left, [0; 0]);
    rig.s(&a);
    assert_eq!(rig.left, [0]);
    let b = tcp().seq(105).ack(5).data(b"world").frame();
    rig.s(&b);
    rig.p(&b);
    rig.assert_agreed();
}

#[test]
fn segmentation_does_not_matter() {
    let mut rig = Rig::new();
    let p = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    rig.p(&p(0, b"abcdef"));
    rig.s(&p(0, b"abc"));
    assert_eq!(rig.left, [0; 0]);
    rig.s(&p(3, b"defghi"));
    assert_eq!(rig.left, [0]);
    rig.p(&p(6, b"gh"));
    rig.p(&p(8, b"i"));
    rig.assert_agreed();
}

#[test]
fn a_flow_may_begin_in_mid_stream_out_of_order_and_wrap() {
    let mut rig = Rig::new();
    let p = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    rig.p(&p(3, b"ghi"));
    rig.s(&p(u32::MAX - 2, b"abc"));
    rig.p(&p(u32::MAX - 2, b"abcdef"));
    rig.s(&p(0, b"defghi"));
    rig.assert_agreed();
}

#[test]
fn a_changed_byte_is_held_until_a_checkpoint_and_explained() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(1000).ack(5).data(b"good morning").frame());
    rig.s(&tcp().seq(1000).ack(5).data(b"good evening").frame());
    assert_eq!(rig.left, [0; 0]);
    let expected = Divergence {
        flow: rig.divergences()[0].flow,
        kind: Kind::Payload,
        seq: Some(Seq(1000)),
        offset: Some(5),
        primary: b"morning".to_vec(),
        secondary: b"evening".to_vec(),
    };
    assert_eq!(rig.asked, [Cause::Divergence(expected)]);
    assert_eq!(rig.divergences()[0].flow.to_string(), format!("tcp {GUEST} > {CLIENT}"));
    // The same again, and more of the same flow, ask for nothing new and do not leave.
    rig.s(&tcp().seq(1000).ack(5).data(b"good morning").frame());
    rig.both(&tcp().seq(1012).ack(5).data(b"!").frame());
    assert_eq!((rig.left.len(), rig.asked.len()), (0, 1));
    rig.pass(10_000);
    assert_eq!((rig.left.len(), rig.asked.len()), (0, 1));
    rig.checkpoint();
    assert_eq!(rig.left, [0, 1]);
    rig.both(&tcp().seq(1013).ack(5).data(b"new epoch").frame());
    assert_eq!((rig.left.len(), rig.asked.len()), (3, 1));
}

#[test]
fn what_agrees_before_the_first_difference_leaves() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(0).ack(5).data(b"abc").frame());
    rig.p(&tcp().seq(3).ack(5).data(b"def").frame());
    rig.s(&tcp().seq(0).ack(5).data(b"abcdeX").frame());
    assert_eq!(rig.left, [0]);
    let d = rig.divergences()[0];
    assert_eq!((d.kind, d.seq, d.offset), (Kind::Payload, Some(Seq(3)), Some(2)));
}

#[test]
fn equal_bytes_elsewhere_do_not_count() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(100).ack(5).data(b"hello").frame());
    rig.s(&tcp().seq(777).ack(5).data(b"hello").frame());
    assert_eq!(rig.left, [0; 0]);
    rig.pass(100);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
}

#[test]
fn a_retransmission_leaves_at_once_and_overtakes_if_equal() {
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).data(b"abc").frame());
    let held = rig.p(&tcp().seq(3).ack(5).data(b"def").frame());
    let again = rig.p(&tcp().seq(0).ack(5).data(b"abc").frame());
    assert_eq!(rig.left, [0, again]);
    // The secondary may yet repeat it otherwise too; until then it stays, and what follows it.
    let otherwise = rig.p(&tcp().seq(0).ack(5).data(b"abX").frame());
    assert_eq!(rig.asked, []);
    rig.s(&tcp().seq(3).ack(5).data(b"def").frame());
    assert_eq!(rig.left, [0, again, held]);
    rig.both(&tcp().seq(6).ack(5).data(b"ghi").frame());
    rig.pass(100);
    assert_eq!(rig.kinds(), [Kind::Payload]);
    assert!(!rig.left.contains(&otherwise) && rig.left.len() == 3, "nothing from the difference on leaves");
    assert_eq!(rig.c.counters().retransmissions, 1);
}

#[test]
fn what_the_client_acknowledged_is_history() {
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).data(b"abc").frame());
    assert!(rig.c.held_bytes() > 0);
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(5).ack(3).frame());
    assert_eq!(rig.c.held_bytes(), 0);
    // A keep-alive probe may carry any byte.
    rig.p(&tcp().seq(2).ack(5).data(b"\0").frame());
    rig.assert_agreed();
    // A forged acknowledgement of what was never let out changes nothing.
    rig.p(&tcp().seq(3).ack(5).data(b"def").frame());
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(5).ack(6).frame());
    assert_eq!(rig.left.len(), 2);
    rig.s(&tcp().seq(3).ack(5).data(b"deX").frame());
    assert_eq!(rig.kinds(), [Kind::Payload]);
}

#[test]
fn an_acknowledgement_waits_for_the_secondarys() {
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(100).frame());
    rig.p(&tcp().seq(0).ack(200).frame());
    assert_eq!(rig.left.len(), 1);
    rig.pass(240);
    assert_eq!(rig.asked, [], "a delayed ACK is waited for");
    rig.s(&tcp().seq(0).ack(199).frame());
    assert_eq!(rig.left.len(), 1);
    rig.s(&tcp().seq(0).ack(250).frame());
    rig.assert_agreed();
    rig.p(&tcp().seq(0).ack(300).frame());
    rig.pass(300);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
}

#[test]
fn acknowledgements_are_compared_on_the_circle() {
    let mut rig = Rig::new();
    rig.s(&tcp().seq(0).ack(5).frame());
    rig.p(&tcp().seq(0).ack(u32::MAX - 5).frame());
    rig.assert_agreed();
    rig.p(&tcp().seq(0).ack(6).frame());
    assert_eq!(rig.left.len(), 1);
}

#[test]
fn handshakes_match_with_other_initial_numbers() {
    let mut rig = Rig::new();
    rig.p(&syn_ack(1000).frame());
    assert_eq!(rig.left, [0; 0]);
    rig.s(&syn_ack(777_777).frame());
    assert_eq!(rig.left, [0]);
    rig.both(&tcp().seq(1001).ack(500).data(b"x").frame());
    rig.both(&syn_ack(1000).frame());
    rig.assert_agreed();
}

#[test]
fn syn_options_are_compared_timestamp_values_and_padding_are_not() {
    let options = |mss: u8, ts: u8| [2, 4, 5, mss, 1, 3, 3, 7, 4, 2, 8, 10, ts, ts, ts, ts, 0, 0, 0, 0];
    let syn = |o: &[u8]| tcp().seq(9).flag(SYN).options(o).frame();
    let mut rig = Rig::new();
    rig.p(&syn(&options(180, 1)));
    let mut reordered = vec![4, 2];
    reordered.extend([2, 4, 5, 180, 8, 10, 9, 9, 9, 9, 9, 9, 9, 9, 3, 3, 7]);
    rig.s(&syn(&reordered));
    rig.assert_agreed();

    for other in [&options(100, 1)[..], &options(180, 1)[..8], &[2, 4, 5, 180]] {
        let mut rig = Rig::new();
        rig.p(&syn(&options(180, 1)));
        rig.s(&syn(other));
        assert_eq!((rig.left.len(), rig.kinds()), (0, vec![Kind::Flags]));
        rig.checkpoint();
        assert_eq!(rig.left, [0]);
    }
    // A SYN is no SYN-ACK.
    let mut rig = Rig::new();
    rig.p(&tcp().seq(9).flag(SYN).frame());
    rig.s(&tcp().seq(9).ack(1).flag(SYN).frame());
    assert_eq!(rig.kinds(), [Kind::Flags]);
}

#[test]
fn a_reused_port_is_compared_anew() {
    let mut rig = Rig::new();
    rig.both(&syn_ack(5000).frame());
    rig.both(&tcp().seq(5001).ack(500).data(b"GOOD").frame());
    rig.assert_agreed();
    // The secondary is a moment behind: its segments still belong to the old incarnation.
    rig.p(&syn_ack(100).frame());
    rig.p(&tcp().seq(101).ack(500).data(b"EVIL").frame());
    rig.s(&tcp().seq(5001).ack(500).data(b"GOOD").frame());
    assert_eq!(rig.left.len(), 2);
    rig.s(&syn_ack(60_000).frame());
    assert_eq!(rig.left.len(), 3);
    rig.s(&tcp().seq(101).ack(500).data(b"GOOD").frame());
    assert_eq!((rig.left.len(), rig.kinds()), (3, vec![Kind::Payload]));
}

#[test]
fn a_clients_syn_alone_changes_nothing() {
    let mut rig = Rig::new();
    rig.both(&syn_ack(5000).frame());
    rig.both(&tcp().seq(5001).ack(500).data(b"GOOD").frame());
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(1).flag(SYN).frame());
    rig.both(&tcp().seq(5005).ack(500).data(b"MORE").frame());
    rig.assert_agreed();
}

#[test]
fn a_syn_overtaken_by_its_data_is_of_the_same_incarnation() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(1001).ack(500).data(b"x").frame());
    rig.p(&syn_ack(1000).frame());
    rig.s(&syn_ack(77).frame());
    rig.s(&tcp().seq(1001).ack(500).data(b"x").frame());
    rig.assert_agreed();
    // The same of the secondary's.
    let mut rig = Rig::new();
    rig.p(&syn_ack(1000).frame());
    rig.p(&tcp().seq(1001).ack(500).data(b"x").frame());
    rig.s(&tcp().seq(1001).ack(500).data(b"x").frame());
    rig.s(&syn_ack(77).frame());
    rig.assert_agreed();
}

#[test]
fn fin_and_rst_must_be_said_by_both() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(0).ack(5).data(b"bye").flag(FIN).frame());
    rig.s(&tcp().seq(0).ack(5).data(b"bye").frame());
    assert_eq!(rig.left, [0; 0]);
    rig.s(&tcp().seq(3).ack(5).flag(FIN).frame());
    rig.assert_agreed();

    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
    rig.p(&tcp().seq(1).flag(RST).frame());
    assert_eq!(rig.left.len(), 1);
    rig.s(&tcp().seq(99).ack(77).flag(RST).frame());
    rig.assert_agreed();
}

#[test]
fn a_fin_or_rst_of_the_secondary_alone_is_a_divergence_after_the_wait() {
    for end in [FIN, RST] {
        let mut rig = Rig::new();
        rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
        rig.s(&tcp().seq(1).ack(5).flag(end).frame());
        rig.pass(10);
        assert_eq!(rig.asked, []);
        rig.pass(20);
        assert_eq!(rig.kinds(), [Kind::LatePrimary], "{end:?}");
    }
    // One that is merely ahead asks for nothing.
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
    rig.s(&tcp().seq(1).ack(5).data(b"yz").flag(FIN).frame());
    rig.pass(10_000);
    assert_eq!(rig.asked, []);
    rig.p(&tcp().seq(1).ack(5).data(b"yz").flag(FIN).frame());
    rig.assert_agreed();
}

#[test]
fn an_rst_after_the_end_of_both_directions_is_no_divergence() {
    let client = Tcp::new(addr(CLIENT), addr(GUEST));
    let fin = tcp().seq(1).ack(6).flag(FIN).frame();
    let rst = tcp().seq(2).flag(RST).frame();
    for secondary in [true, false] {
        let mut rig = Rig::new();
        rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
        rig.client(&client.clone().seq(5).ack(1).flag(FIN).frame());
        rig.both(&fin);
        // One guest lacks the last acknowledgement and says its FIN again; the other answers what that brings.
        if secondary {
            rig.s(&rst);
        } else {
            rig.p(&rst);
        }
        rig.pass(10_000);
        rig.assert_agreed();
    }
    // A connection that the client may still use is another matter.
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
    rig.both(&tcp().seq(1).ack(5).flag(FIN).frame());
    rig.s(&rst);
    rig.pass(10_000);
    assert_eq!(rig.kinds(), [Kind::LatePrimary]);
}

#[test]
fn streams_of_other_length_diverge() {
    let mut rig = Rig::new();
    rig.s(&tcp().seq(0).ack(5).data(b"abc").flag(FIN).frame());
    rig.p(&tcp().seq(0).ack(5).data(b"abcd").frame());
    assert_eq!((rig.left.len(), rig.kinds()), (0, vec![Kind::Length]));
    assert_eq!(rig.divergences()[0].offset, Some(3));
    rig.checkpoint();
    assert_eq!(rig.left, [0]);
}

#[test]
fn a_late_secondary_is_asked_about_once_and_may_catch_up() {
    let mut rig = Rig::new();
    rig.p(&tcp().seq(0).ack(5).data(b"abc").frame());
    rig.pass(19);
    assert_eq!(rig.asked, []);
    rig.pass(2);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
    rig.pass(1000);
    assert_eq!(rig.asked.len(), 1);
    rig.s(&tcp().seq(0).ack(5).data(b"abc").frame());
    assert_eq!(rig.left, [0]);
    rig.p(&tcp().seq(3).ack(5).data(b"d").frame());
    rig.pass(30);
    assert_eq!(rig.asked.len(), 2);
}

#[test]
fn a_secondary_ahead_asks_by_time_only_where_the_policy_says_so() {
    let ahead = tcp().seq(3).ack(5).data(b"def").frame();
    let first = tcp().seq(0).ack(5).data(b"abc").frame();
    let mut rig = Rig::new();
    rig.both(&first);
    rig.s(&ahead);
    rig.pass(100_000);
    assert_eq!(rig.asked, []);
    let policy = Policy { late_primary: Some(Duration::from_secs(3)), ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    rig.both(&first);
    rig.s(&ahead);
    rig.pass(2_990);
    assert_eq!(rig.asked, []);
    rig.pass(20);
    assert_eq!(rig.kinds(), [Kind::LatePrimary]);
    assert_eq!(rig.divergences()[0].seq, Some(Seq(3)));
}

#[test]
fn the_queue_bound_asks_and_drops_nothing() {
    let limits = Limits { queue: 10, ..Limits::default() };
    let mut rig = Rig::with(Policy::default(), limits);
    let segment = |i: u32| tcp().seq(i).ack(5).data(&[i as u8]).frame();
    (0..3000).for_each(|i| {
        rig.p(&segment(i));
    });
    assert_eq!((rig.left.len(), rig.asked.len()), (0, 1));
    assert_eq!(rig.asked[0].to_string(), format!("bound `queue` of 10 reached by tcp {GUEST} > {CLIENT}"));
    (0..3000).for_each(|i| rig.s(&segment(i)));
    assert_eq!(rig.left, (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_secondary_too_far_ahead_is_forgotten_and_asked_about() {
    let limits = Limits { ahead_bytes: 100, ..Limits::default() };
    let mut rig = Rig::with(Policy::default(), limits);
    rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
    for i in 0..20 {
        rig.s(&tcp().seq(1 + i * 10).ack(5).data(&[7; 10]).frame());
    }
    assert_eq!((rig.asked.len(), rig.c.counters().secondary_overflow), (1, 10));
    assert!(rig.c.held_bytes() <= 101);
    for i in 0..20 {
        rig.p(&tcp().seq(1 + i * 10).ack(5).data(&[7; 10]).frame());
    }
    assert_eq!(rig.left.len(), 11);
    rig.checkpoint();
    assert_eq!(rig.left.len(), 21);
}

#[test]
fn what_both_repeat_leaves_although_the_front_waits_and_it_was_forgotten() {
    let limits = Limits { said_bytes: 10, ..Limits::default() };
    let mut rig = Rig::with(Policy::default(), limits);
    let p = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    // Said by both and released, but lost on the way to the client; then forgotten for the bound.
    rig.both(&p(0, b"0123456789"));
    rig.both(&p(10, b"abcdefghij"));
    assert_eq!(rig.left, [0, 1]);
    // The front lacks what the secondary will say only when the client has what it lost.
    rig.p(&p(20, b"front"));
    rig.p(&p(0, b"0123456789"));
    assert_eq!(rig.left, [0, 1]);
    rig.s(&p(0, b"0123456789"));
    assert_eq!(rig.left, [0, 1, 3]);
    rig.s(&p(20, b"front"));
    assert_eq!(rig.left, [0, 1, 3, 2]);
    assert_eq!(rig.asked, []);
}

#[test]
fn said_bytes_are_bounded_and_compared_anew_when_forgotten() {
    let limits = Limits { said_bytes: 50, ..Limits::default() };
    let mut rig = Rig::with(Policy::default(), limits);
    for i in 0..100 {
        rig.both(&tcp().seq(i * 10).ack(5).data(&[i as u8; 10]).frame());
        assert!(rig.c.held_bytes() <= 60);
    }
    rig.assert_agreed();
    let again = tcp().seq(0).ack(5).data(&[0; 10]).frame();
    rig.p(&again);
    assert_eq!(rig.left.len(), 100, "nothing is known of it any more");
    rig.s(&again);
    rig.assert_agreed();
}

#[test]
fn more_holes_than_are_tracked_hold_the_flow() {
    let mut rig = Rig::new();
    for i in 0..=super::ranges::MAX_RANGES as u32 {
        rig.p(&tcp().seq(i * 10).ack(5).data(b"x").frame());
    }
    assert!(rig.asked.iter().any(|c| c.name() == "overload"), "{:?}", rig.asked);
    rig.checkpoint();
    assert_eq!(rig.c.held(), 0);
}

#[test]
fn more_incarnations_than_are_followed_hold_the_flow() {
    let mut rig = Rig::new();
    for i in 0..80 {
        rig.p(&syn_ack(i * 1000).frame());
    }
    assert_eq!((rig.left.len(), rig.asked.len()), (0, 1));
    rig.checkpoint();
    assert_eq!(rig.left.len(), 80);
    rig.both(&syn_ack(900_000).frame());
    assert_eq!(rig.left.len(), 81);
}

#[test]
fn after_a_checkpoint_all_that_was_said_counts_as_owned() {
    let mut rig = Rig::new();
    rig.p(&syn_ack(10).frame());
    rig.p(&tcp().seq(11).ack(600).data(b"abc").frame());
    rig.s(&tcp().seq(11).ack(10).data(b"zzz").frame());
    rig.checkpoint();
    assert_eq!(rig.left, [0, 1]);
    // A retransmission of the old epoch, with the old acknowledgement, leaves by itself.
    rig.p(&tcp().seq(11).ack(600).data(b"abc").frame());
    assert_eq!(rig.left.len(), 3);
    rig.p(&tcp().seq(14).ack(601).data(b"d").frame());
    assert_eq!(rig.left.len(), 3);
    rig.s(&tcp().seq(14).ack(601).data(b"d").frame());
    assert_eq!(rig.left.len(), 4);
    rig.p(&tcp().seq(11).ack(600).data(b"abX").frame());
    assert_eq!(rig.kinds().last(), Some(&Kind::Payload));
}

#[test]
fn old_flows_are_not_compared_before_a_checkpoint_if_so_covered() {
    let policy = Policy { coverage: Coverage::NewFlows, ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    rig.s(&tcp().seq(0).flag(RST).frame());
    rig.p(&tcp().seq(100).ack(5).data(b"old").frame());
    rig.pass(1000);
    rig.assert_agreed();
    assert_eq!(rig.c.counters().released_unprotected, 1);
    // A new connection on the same ports is compared.
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(4).flag(SYN).frame());
    rig.p(&syn_ack(5).frame());
    assert_eq!(rig.left.len(), 1);
    rig.s(&syn_ack(6).frame());
    rig.p(&tcp().seq(6).ack(5).data(b"new").frame());
    assert_eq!(rig.left.len(), 2);
    // An old one is compared from the next checkpoint on, and what it said before is history.
    let other = || Tcp::new(addr(GUEST), addr("10.0.0.1:9"));
    rig.p(&other().seq(50).ack(5).data(b"old").frame());
    assert_eq!(rig.left.len(), 3);
    rig.checkpoint();
    rig.p(&other().seq(50).ack(5).data(b"old").frame());
    rig.p(&other().seq(53).ack(5).data(b"now").frame());
    assert_eq!(rig.left.len(), 5);
    rig.s(&other().seq(53).ack(5).data(b"now").frame());
    assert_eq!(rig.left.len(), 6);
    assert_eq!(rig.asked, []);
}

#[test]
fn a_handshake_older_than_the_protection_is_not_held() {
    let policy = Policy { coverage: Coverage::NewFlows, ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    // The client's SYN came before: nobody knows whether the secondary has heard it. The guest repeats its answer.
    for _ in 0..3 {
        rig.p(&syn_ack(5).frame());
    }
    rig.p(&tcp().seq(6).ack(5).data(b"old").frame());
    rig.pass(10_000);
    assert_eq!((rig.left.len(), rig.c.counters().released_unprotected), (4, 4));
    rig.assert_agreed();
    // The same when the secondary answers first.
    let other = |seq| Tcp::new(addr(GUEST), addr("10.0.0.1:9")).seq(seq).ack(5).flag(SYN).frame();
    rig.s(&other(7));
    rig.p(&other(5));
    assert_eq!(rig.left.len(), 5);
    // A SYN that comes again has reached both by now, and so has one of another connection.
    for (client, answer) in [("10.0.0.1:9", other(5)), (CLIENT, syn_ack(5).frame())] {
        rig.client(&Tcp::new(addr(client), addr(GUEST)).seq(4).flag(SYN).frame());
        let left = rig.left.len();
        rig.p(&answer);
        assert_eq!(rig.left.len(), left, "held");
        rig.s(&answer);
        assert_eq!(rig.left.len(), left + 1);
    }
    // The guest's own SYN is new whatever came before.
    let opens = Tcp::new(addr(GUEST), addr("10.0.0.1:10")).seq(1).flag(SYN).frame();
    rig.p(&opens);
    assert_eq!(rig.left.len(), 7);
}

#[test]
fn what_began_before_another_protection_does_not_count_in_it() {
    let policy = Policy { coverage: Coverage::NewFlows, ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(4).flag(SYN).frame());
    rig.c.set_coverage(Coverage::NewFlows);
    rig.p(&syn_ack(5).frame());
    assert_eq!(rig.c.counters().released_unprotected, 1);
}

#[test]
fn header_fields_that_routers_and_stacks_choose_do_not_matter() {
    let mut rig = Rig::new();
    let segment = |w| Tcp { window: w, ..tcp().seq(0).ack(5).data(b"abc") };
    rig.p(&segment(10).frame_in(&Wrap { id: 7, ttl: 3, ..Wrap::default() }));
    let mut other = segment(999).flag(TcpFlags(0xc8)).frame();
    other[15] = 0x08;
    other[24] ^= 0xff;
    other.extend([0xee; 9]);
    rig.s(&other);
    rig.assert_agreed();
}

#[test]
fn flows_leave_on_close_and_idleness() {
    let mut rig = Rig::new();
    rig.both(&tcp().seq(0).ack(5).flag(FIN).frame());
    assert_eq!(rig.c.flows(), 1);
    rig.pass(6_000);
    assert_eq!(rig.c.flows(), 0);
    rig.both(&tcp().seq(0).ack(5).data(b"x").frame());
    rig.pass(299_000);
    assert_eq!(rig.c.flows(), 1);
    rig.pass(2_000);
    assert_eq!((rig.c.flows(), rig.c.held_bytes()), (0, 0));
    rig.p(&tcp().seq(1).ack(5).data(b"held").frame());
    rig.pass(1_000_000);
    assert_eq!(rig.c.flows(), 1, "a flow that holds something stays");
}

#[test]
fn a_client_hears_where_a_secondary_that_missed_input_stands() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    let ack = |n: u32| tcp().seq(100).ack(n).frame();
    rig.both(&ack(1000));
    // The primary has heard more, in two steps; the secondary missed what follows 1500.
    rig.p(&ack(2000));
    rig.p(&ack(3000));
    rig.s(&ack(1500));
    assert_eq!((rig.left.len(), &rig.emitted), (1, &vec![ack(1500)]));
    // The same again is how a client learns of a loss; older than that says nothing.
    rig.s(&ack(1500));
    rig.s(&ack(1200));
    assert_eq!(rig.emitted, [ack(1500), ack(1500)]);
    // What the primary's own frame says need not be said twice.
    rig.s(&ack(2000));
    assert_eq!((rig.left.len(), rig.emitted.len()), (2, 2));
    rig.s(&ack(3000));
    rig.assert_agreed();
    assert_eq!(rig.c.counters().emitted_acknowledgements, 2);
}

#[test]
fn no_acknowledgement_passes_a_segment_that_is_held_for_what_it_says() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    rig.both(&tcp().seq(100).ack(1000).frame());
    rig.p(&tcp().seq(100).ack(2000).data(b"good").frame());
    rig.s(&tcp().seq(100).ack(1500).frame());
    rig.s(&tcp().seq(100).ack(1500).data(b"evil").frame());
    rig.s(&tcp().seq(104).ack(1600).frame());
    assert_eq!((rig.left.len(), rig.emitted.len()), (1, 0));
}

#[test]
fn a_client_gets_the_part_that_both_said_when_the_secondary_repeats_it() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    let say = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    rig.both(&say(0, b"abc"));
    rig.p(&say(3, b"defghi"));
    rig.s(&say(3, b"def"));
    assert_eq!((rig.left.len(), rig.emitted.len()), (1, 0), "it may go on by itself");
    rig.s(&say(3, b"def"));
    assert_eq!(rig.emitted, [say(3, b"def")]);
    // It may be lost, and is repeated until the client acknowledges it.
    rig.s(&say(3, b"def"));
    assert_eq!(rig.emitted.len(), 2);
    rig.client(&Tcp::new(addr(CLIENT), addr(GUEST)).seq(5).ack(6).frame());
    rig.s(&say(6, b"ghi"));
    rig.assert_agreed();
    assert_eq!(rig.emitted.len(), 2);
}

#[test]
fn a_client_repeats_an_acknowledgement_that_the_secondary_missed() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    let say = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    let client = |ack: u32| Tcp::new(addr(CLIENT), addr(GUEST)).seq(5).ack(ack).frame();
    rig.both(&say(0, b"abc"));
    rig.client(&client(3));
    // The secondary's guest has not heard it: full windows, nothing new before that.
    rig.p(&say(3, b"def"));
    rig.s(&say(0, b"abc"));
    assert_eq!((rig.left.len(), &rig.emitted[..]), (1, &[say(0, b"abc")][..]));
    // Or it takes the window for closed, and probes it: with a byte, or with none.
    rig.s(&say(2, b"c"));
    rig.s(&say(2, b""));
    assert_eq!(rig.emitted.len(), 3);
    // What the client has not acknowledged, what acknowledges more than the primary has, what ends the connection.
    rig.s(&say(3, b""));
    rig.s(&tcp().seq(0).ack(6).data(b"abc").frame());
    rig.s(&tcp().seq(0).ack(5).data(b"abc").flag(FIN).frame());
    assert_eq!(rig.emitted.len(), 3);
}

#[test]
fn a_client_gets_the_data_of_a_segment_that_ends_before_the_secondary_does() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    let last = tcp().seq(0).ack(5).data(b"abc").frame();
    rig.p(&tcp().seq(0).ack(5).data(b"abc").flag(FIN).frame());
    rig.s(&last);
    rig.s(&last);
    assert_eq!((rig.left.len(), &rig.emitted), (0, &vec![last]));
    rig.s(&tcp().seq(3).ack(5).flag(FIN).frame());
    rig.assert_agreed();
}

#[test]
fn after_one_part_the_client_gets_the_next_ones_at_once() {
    let mut rig = Rig::with(Policy { emit_acknowledgements: true, ..Policy::default() }, Limits::default());
    let p = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    rig.p(&p(0, b"aabbcc"));
    rig.p(&p(6, b"ddeeff"));
    rig.s(&p(0, b"aa"));
    assert_eq!(rig.emitted.len(), 0);
    rig.s(&p(0, b"aa"));
    assert_eq!(rig.emitted.len(), 1);
    // Each would else wait for a timeout of a guest that says one segment at a time.
    rig.s(&p(2, b"bb"));
    assert_eq!(rig.emitted.len(), 2);
    rig.s(&p(4, b"ccdd"));
    assert_eq!((rig.left.len(), rig.emitted.len()), (1, 3));
    rig.s(&p(8, b"eeff"));
    assert_eq!((rig.left.len(), rig.emitted.len()), (2, 3));
    // Nothing is held any more: as before.
    rig.p(&p(12, b"gghh"));
    rig.s(&p(12, b"gg"));
    assert_eq!(rig.emitted.len(), 3);
    assert_eq!(rig.asked, []);
}

#[test]
fn no_part_leaves_that_only_the_secondary_says_or_that_differs() {
    let policy = || Policy { emit_acknowledgements: true, ..Policy::default() };
    let say = |seq: u32, data: &[u8]| tcp().seq(seq).ack(5).data(data).frame();
    let mut rig = Rig::with(policy(), Limits::default());
    rig.p(&say(0, b"abcdef"));
    for _ in 0..2 {
        rig.s(&say(0, b"abX"));
        rig.s(&say(3, b"de"));
    }
    assert!(rig.emitted.is_empty() && rig.left.is_empty());
    let mut rig = Rig::with(policy(), Limits::default());
    rig.p(&say(3, b"def"));
    for _ in 0..2 {
        // Before anything of the primary, across its end, and with an acknowledgement that it has not given.
        rig.s(&say(0, b"abc"));
        rig.s(&tcp().seq(3).ack(6).data(b"d").frame());
    }
    assert!(rig.emitted.is_empty() && rig.left.is_empty());
}

#[test]
fn initial_numbers_of_the_secondary_are_no_place_in_the_stream() {
    for distance in [1, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fff0] {
        let mut rig = Rig::new();
        let isn = 4_000_000_000_u32;
        rig.p(&syn_ack(isn).frame());
        rig.s(&syn_ack(isn.wrapping_add(distance)).frame());
        rig.s(&syn_ack(isn.wrapping_add(distance)).frame());
        for i in 0..1000_u32 {
            rig.both(&tcp().seq(isn.wrapping_add(1 + i * 1000)).ack(500).data(&[i as u8; 1000]).frame());
        }
        rig.assert_agreed();
        // In mid-stream, and the secondary first.
        let mut rig = Rig::new();
        rig.s(&syn_ack(isn.wrapping_add(distance)).frame());
        rig.p(&syn_ack(isn).frame());
        rig.both(&tcp().seq(isn.wrapping_add(1)).ack(500).data(b"x").frame());
        rig.assert_agreed();
    }
}

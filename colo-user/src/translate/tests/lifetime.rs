//! Entries leave when nobody can need them, and not before.

use super::super::Delta;
use super::super::limits::{EMBRYONIC, MSL, ZERO_IDLE};
use super::frames::{
    ACK, C, FIN_ACK, Host, Net, P, RST, RST_ACK, S, SYN, SYN_ACK, TP, TS, Tcp, accepted, p, syn_ack,
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Both sides close; `last` is the acknowledgement of the client's FIN.
fn close(h: &mut Host, last: u32) {
    h.output(&Tcp::new(S + 1, C + 1, FIN_ACK)).unwrap();
    h.input(&Tcp::new(C + 1, p(2), ACK)).unwrap();
    h.input(&Tcp::new(C + 1, p(2), FIN_ACK)).unwrap();
    h.output(&Tcp::new(S + 2, last, ACK)).unwrap();
}

#[test]
fn a_close_acknowledged_both_ways_leaves_after_2_msl() {
    let mut h = accepted(Net::default());
    close(&mut h, C + 2);
    h.pass(2 * MSL - Duration::from_millis(1));
    assert_eq!(h.t.flows(), 1);
    assert_eq!(h.output(&Tcp::new(S + 2, C + 2, ACK)).unwrap().seq, p(2), "TIME-WAIT still answers");
    h.pass(2 * MSL - Duration::from_millis(1));
    assert_eq!(h.t.flows(), 1, "2 MSL after the last word");
    h.pass(Duration::from_millis(1));
    assert_eq!((h.t.flows(), h.count("flows_expired")), (0, 1));
    h.pass(DAY);
    assert_eq!(h.t.next_deadline(), None);
}

/// What happened, and how.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Host));

#[test]
fn half_a_close_stays() {
    let unacknowledged = |h: &mut Host| close(h, C + 1);
    let forged = |h: &mut Host| {
        h.output(&Tcp::new(S + 1, C + 1, FIN_ACK)).unwrap();
        h.input(&Tcp::new(C + 1, p(2), ACK)).unwrap();
        h.input(&Tcp::new(C + 1, p(2), FIN_ACK)).unwrap();
        h.output(&Tcp::new(S + 2, C + 2, ACK)).unwrap();
        h.output(&Tcp::new(S + 2, C + 50, ACK)).unwrap();
    };
    let guest_only = |h: &mut Host| {
        h.output(&Tcp::new(S + 1, C + 1, FIN_ACK)).unwrap();
        h.input(&Tcp::new(C + 1, p(2), ACK)).unwrap();
    };
    let client_only = |h: &mut Host| {
        h.input(&Tcp::new(C + 1, p(1), FIN_ACK)).unwrap();
        h.output(&Tcp::new(S + 1, C + 2, ACK)).unwrap();
    };
    let cases: [Case<'_>; 4] = [
        ("unacknowledged", &unacknowledged),
        ("data came after the FIN that was seen", &forged),
        ("the client still speaks", &client_only),
        ("the guest still listens", &guest_only),
    ];
    for (why, case) in cases {
        let mut h = accepted(Net::default());
        case(&mut h);
        h.pass(DAY);
        assert_eq!(h.t.flows(), 1, "{why}");
        assert_eq!(h.output(&Tcp::new(S + 2, C + 2, ACK)).unwrap().seq, p(2), "{why}");
    }
}

#[test]
fn neither_idleness_nor_a_clients_reset_forgets_a_delta() {
    let mut h = accepted(Net::default());
    h.pass(DAY);
    h.input(&Tcp::new(C + 1, 0, RST)).unwrap();
    h.input(&Tcp::new(C + 1, p(1), RST_ACK)).unwrap();
    h.pass(DAY);
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK)).unwrap().seq, p(1));
}

#[test]
fn the_guests_reset_forgets_it_at_once() {
    for reset in [Tcp::new(S + 1, 0, RST), Tcp::new(S + 1, C + 1, RST_ACK)] {
        let mut h = accepted(Net::default());
        assert_eq!(h.output(&reset).unwrap().seq, p(1));
        assert_eq!((h.t.flows(), h.count("flows_expired")), (0, 1));
        assert_eq!(h.input(&Tcp::new(C + 1, p(1), ACK)).unwrap().ack, p(1));
        h.pass(DAY);
        assert_eq!(h.t.next_deadline(), None);
    }
}

#[test]
fn a_reset_of_the_former_connection_does_not_forget_the_new_one() {
    let mut h = accepted(Net::default());
    h.primary(&syn_ack(p(0x9000), TP));
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, RST_ACK)).unwrap().seq, p(1));
    h.output(&syn_ack(S + 7, TS)).unwrap();
    assert_eq!(h.output(&Tcp::new(S + 8, C + 1, ACK)).unwrap().seq, p(0x9001));
}

#[test]
fn a_guest_that_speaks_is_no_embryo() {
    let mut h = Host::new(Net::default());
    h.output(&syn_ack(S, TS)).unwrap();
    h.primary(&syn_ack(P, TP));
    // Data before the handshake's end (RFC 7413).
    assert_eq!(h.output(&Tcp::new(S + 1, C + 1, ACK).payload(b"fast")).unwrap().seq, p(1));
    h.pass(DAY);
    assert_eq!(h.t.flows(), 1);
}

#[test]
fn a_handshake_that_both_guests_gave_up_leaves() {
    let mut h = Host::new(Net::default());
    h.output(&syn_ack(S, TS)).unwrap();
    h.net.host = 1;
    h.primary(&syn_ack(P, TP));
    h.net.host = 2;
    h.output(&Tcp::new(S, 0, SYN)).unwrap();
    h.primary(&Tcp::new(P, 0, SYN));
    h.pass(EMBRYONIC - Duration::from_millis(1));
    h.output(&Tcp::new(S, 0, SYN)).unwrap();
    h.pass(Duration::from_millis(1));
    assert_eq!(h.t.flows(), 1, "the one that was said again");
    h.pass(EMBRYONIC);
    assert_eq!(h.t.flows(), 0);
}

#[test]
fn a_silent_server_is_no_embryo() {
    let mut h = accepted(Net::default());
    h.pass(DAY);
    assert_eq!(h.t.flows(), 1, "the client's acknowledgement has completed the handshake");
    let mut h = Host::new(Net::default());
    h.output(&Tcp::new(S, 0, SYN)).unwrap();
    h.primary(&Tcp::new(P, 0, SYN));
    h.input(&Tcp::new(C, p(1), SYN_ACK)).unwrap();
    h.pass(DAY);
    assert_eq!(h.t.flows(), 1, "so has the server's");
}

#[test]
fn without_a_delta_idleness_is_enough() {
    let mut h = Host::new(Net::default());
    h.primary(&syn_ack(S, TS));
    h.output(&syn_ack(S, TS)).unwrap();
    h.input(&Tcp::new(C + 1, S + 1, ACK)).unwrap();
    assert!(h.t.entries().all(|e| e.drift == Delta::ZERO && e.base == Delta::ZERO));
    h.pass(ZERO_IDLE - Duration::from_millis(1));
    assert_eq!(h.t.flows(), 1);
    h.pass(Duration::from_millis(1));
    assert_eq!(h.t.flows(), 0);
}

#[test]
fn an_epoch_cut_forgets_all() {
    let mut h = accepted(Net::default());
    h.net.host = 1;
    h.primary(&syn_ack(P, TP));
    assert!(h.input(&Tcp::new(C + 1, p(1), ACK)).is_none());
    h.t.epoch_cut(h.now, []).unwrap();
    assert_eq!((h.t.flows(), h.count("kept_forgotten"), h.count("epoch_cuts")), (0, 1, 1));
    assert!(h.events().is_empty());
    assert_eq!(h.input(&Tcp::new(C + 1, p(1), ACK)).unwrap().ack, p(1));
    h.pass(DAY);
}

#[test]
fn the_queue_of_deadlines_stays_bounded() {
    let mut h = Host::new(Net::default());
    for i in 0..20_000 {
        h.output(&Tcp::new(S + 7 * i, 0, SYN)).unwrap();
        h.output(&Tcp::new(S + 7 * i, 1, RST_ACK)).unwrap();
    }
    assert!(h.t.table.deadlines() < 2_000, "{}", h.t.table.deadlines());
}

use super::super::rig::{Rig, addr};
use super::super::{DivergenceKind as Kind, Limits, Policy};
use crate::wire::build::{self, Wrap};
use std::time::Duration;

fn udp(payload: &[u8]) -> Vec<u8> {
    build::udp_frame(addr("10.0.0.2:53"), addr("10.0.0.1:9"), payload, &Wrap::default())
}

#[test]
fn datagrams_match_in_any_order_within_the_window_and_leave_in_theirs() {
    let mut rig = Rig::new();
    rig.p(&udp(b"one"));
    rig.p(&udp(b"two"));
    rig.s(&udp(b"two"));
    assert_eq!((rig.left.len(), rig.asked.len()), (0, 0));
    rig.s(&udp(b"one"));
    rig.assert_agreed();
    rig.s(&udp(b"four"));
    rig.s(&udp(b"three"));
    rig.p(&udp(b"three"));
    rig.p(&udp(b"four"));
    rig.assert_agreed();
}

#[test]
fn beyond_the_window_equals_do_not_match() {
    let mut rig = Rig::with(Policy::default(), Limits { reorder_window: 2, ..Limits::default() });
    for word in [&b"a"[..], b"b", b"c"] {
        rig.p(&udp(word));
    }
    rig.s(&udp(b"c"));
    rig.s(&udp(b"a"));
    rig.s(&udp(b"b"));
    assert_eq!(rig.left, [0, 1]);
    rig.pass(1000);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
}

#[test]
fn unmatched_datagrams_on_both_sides_diverge_at_the_latest_after_the_mismatch_wait() {
    let policy = Policy { wait_min: Duration::from_secs(3), ..Policy::default() };
    let mut rig = Rig::with(policy.clone(), Limits::default());
    rig.p(&udp(b"good"));
    rig.s(&udp(b"gold"));
    rig.pass(490);
    assert_eq!(rig.asked, []);
    rig.pass(20);
    assert_eq!(rig.kinds(), [Kind::Payload]);
    let d = rig.divergences()[0];
    assert_eq!((d.offset, &d.primary[..], &d.secondary[..]), (Some(2), &b"od"[..], &b"ld"[..]));
    rig.checkpoint();
    rig.both(&udp(b"next"));
    assert_eq!(rig.left, [0, 1]);

    let mut rig = Rig::with(policy, Limits::default());
    rig.p(&udp(b"good"));
    rig.s(&udp(b"good!"));
    rig.pass(510);
    assert_eq!(rig.kinds(), [Kind::Length]);
    assert_eq!(rig.divergences()[0].offset, Some(4));
}

#[test]
fn a_lone_datagram_is_late() {
    let mut rig = Rig::new();
    rig.p(&udp(b"lone"));
    rig.pass(21);
    assert_eq!(rig.kinds(), [Kind::LateSecondary]);
    rig.s(&udp(b"lone"));
    assert_eq!(rig.left, [0]);
    rig.s(&udp(b"ahead"));
    rig.pass(100_000);
    assert_eq!(rig.asked.len(), 1, "a secondary that is ahead asks for nothing by time");

    let policy = Policy { late_primary: Some(Duration::from_secs(3)), ..Policy::default() };
    let mut rig = Rig::with(policy, Limits::default());
    rig.s(&udp(b"ahead"));
    rig.pass(3001);
    assert_eq!(rig.kinds(), [Kind::LatePrimary]);
}

#[test]
fn the_queue_bound_asks_and_drops_nothing() {
    for ahead in [false, true] {
        let mut rig = Rig::new();
        let frames: Vec<_> = (0..3000u32).map(|i| udp(&i.to_be_bytes())).collect();
        if ahead {
            frames.iter().for_each(|f| rig.s(f));
        }
        frames.iter().for_each(|f| {
            rig.p(f);
        });
        if !ahead {
            frames.iter().for_each(|f| rig.s(f));
        }
        assert_eq!(rig.left, (0..3000).collect::<Vec<_>>());
        assert_eq!(rig.asked.len(), 1);
        assert_eq!(rig.c.held_bytes(), 0);
    }
}

#[test]
fn icmp_echo_is_compared_errors_may_be_missing() {
    let (a, b) = (addr("10.0.0.2:0").ip(), addr("10.0.0.1:0").ip());
    let echo = |id: u8, data: &[u8]| build::icmp_frame(a, b, 0, 0, [0, id, 0, 1], data, &Wrap::default());
    let mut rig = Rig::new();
    rig.both(&echo(1, b"ping"));
    rig.assert_agreed();
    rig.p(&echo(2, b"ping"));
    rig.s(&echo(2, b"pong"));
    rig.pass(600);
    assert_eq!(rig.kinds(), [Kind::Payload]);
    assert_eq!(rig.divergences()[0].offset, Some(1));

    let quote = |port: u8| {
        let inner =
            build::udp_frame(addr("10.0.0.1:9"), addr(&format!("10.0.0.2:{port}")), b"q", &Wrap::default());
        build::icmp_frame(a, b, 3, 3, [0; 4], &inner[14..], &Wrap::default())
    };
    let mut rig = Rig::new();
    rig.both(&quote(1));
    assert_eq!(rig.left, [0]);
    rig.p(&quote(2));
    rig.s(&quote(3));
    rig.p(&quote(4));
    rig.s(&quote(4));
    assert_eq!(rig.left, [0], "order is kept behind the one that waits");
    rig.pass(1000);
    assert_eq!((rig.left.clone(), rig.dropped.clone(), rig.asked.len()), (vec![0, 2], vec![1], 0));
}

#[test]
fn at_the_end_what_one_side_said_alone_is_missing_or_extra() {
    let mut rig = Rig::new();
    rig.p(&udp(b"x"));
    rig.finish();
    assert_eq!((rig.kinds(), rig.c.held()), (vec![Kind::Missing], 1));
    let mut rig = Rig::new();
    rig.s(&udp(b"x"));
    rig.finish();
    assert_eq!((rig.kinds(), rig.c.held()), (vec![Kind::Extra], 0));
}

#[test]
fn protection_lost_releases_everything_in_the_order_of_capture() {
    let mut rig = Rig::new();
    for i in 0..50u8 {
        let port = 1000 + u16::from(i % 7);
        rig.p(&build::udp_frame(
            addr("10.0.0.2:53"),
            addr(&format!("10.0.0.1:{port}")),
            &[i],
            &Wrap::default(),
        ));
    }
    rig.release_all();
    assert_eq!((rig.left.clone(), rig.c.flows(), rig.c.held_bytes()), ((0..50).collect(), 0, 0));
    assert_eq!(rig.c.counters().released_unprotected, 50);
}

#[test]
fn a_full_table_holds_outside_and_loses_nothing() {
    let mut rig = Rig::with(Policy::default(), Limits { flows: 10, ..Limits::default() });
    let frame = |i: u16| {
        build::udp_frame(addr("10.0.0.2:53"), addr(&format!("10.0.0.1:{}", 1000 + i)), &[1], &Wrap::default())
    };
    (0..30).for_each(|i| {
        rig.p(&frame(i));
    });
    assert_eq!(rig.asked.len(), 1);
    assert_eq!((rig.c.flows(), rig.c.held(), rig.c.counters().flow_table_full), (10, 30, 20));
    // Room is made by flows that agree, but order within a flow keeps the rest outside until the checkpoint.
    (0..10).for_each(|i| rig.s(&frame(i)));
    rig.p(&frame(25));
    assert_eq!(rig.left.len(), 10);
    rig.checkpoint();
    assert_eq!(rig.left, (0..31).collect::<Vec<_>>());
    (0..25).for_each(|i| rig.both(&frame(i + 100)));
    assert_eq!(rig.left.len(), 56);
}

#[test]
fn the_wait_follows_what_checkpoints_cost() {
    let mut rig = Rig::new();
    (0..30).for_each(|_| rig.c.checkpoint_cost(Duration::from_millis(100)));
    assert!(rig.c.wait() > Duration::from_millis(90), "{:?}", rig.c.wait());
    (0..30).for_each(|_| rig.c.checkpoint_cost(Duration::from_millis(1)));
    assert_eq!(rig.c.wait(), Duration::from_millis(20));
    (0..30).for_each(|_| rig.c.checkpoint_cost(Duration::from_secs(100)));
    assert_eq!(rig.c.wait(), Duration::from_secs(3));
}

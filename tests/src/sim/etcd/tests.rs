use super::*;
use colo_user::judge::etcd::keeper::Me;
use colo_user::link::frame::Role;

const TTL: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn me(n: u8) -> Me {
    Me { claimant: Claimant([n; 16]), role: Role::Primary }
}

fn answered(fate: Fate) -> (Reply, u64) {
    match fate {
        Fate::Answered(Ok(reply), raft_term) => (reply, raft_term),
        other => panic!("{other:?}"),
    }
}

/// Members of which one leads, and `me(1)` has the role since 0 s.
fn held(seed: u64) -> (Etcd, i64) {
    let mut etcd = Etcd::new(Random::new(seed), false);
    let (granted, _) = answered(etcd.asked(at(0), 0, &Request::Grant { ttl: TTL }));
    let Reply::Granted { lease, .. } = granted else { panic!("{granted:?}") };
    let taken = etcd.asked(at(0), 1, &take(&Seen::default(), 1, lease));
    assert!(matches!(answered(taken).0, Reply::Taken { .. }));
    (etcd, lease)
}

fn take(seen: &Seen, n: u8, lease: i64) -> Request {
    Request::Take { seen: seen.clone(), me: me(n), role: Some(lease), claim: false, term: None }
}

#[test]
fn a_transaction_does_nothing_when_its_keys_have_changed() {
    let (mut etcd, lease) = held(1);
    let (reply, _) = answered(etcd.asked(at(1), 2, &take(&Seen::default(), 2, lease)));
    assert!(matches!(reply, Reply::Seen(seen) if seen.role.as_ref().unwrap().claimant == me(1).claimant));
    assert_eq!(etcd.holder(), Some(me(1).claimant));
}

#[test]
fn what_is_not_renewed_is_let_go_of_and_not_before_its_time() {
    let (mut etcd, _) = held(2);
    etcd.tick(at(1950));
    assert_eq!(etcd.holder(), Some(me(1).claimant));
    etcd.tick(at(2050 + LAG));
    assert_eq!(etcd.holder(), None);
}

#[test]
fn without_a_majority_nothing_is_done_and_later_it_is() {
    let (mut etcd, _) = held(3);
    let leader = etcd.named(Which::Leader);
    for member in [leader, (leader + 1) % MEMBERS] {
        etcd.isolates(member, at(1000));
    }
    for member in 0..MEMBERS {
        assert!(matches!(etcd.asked(at(10), member, &Request::Look { term: None }), Fate::Waits(_)));
    }
    assert!(matches!(answered(etcd.asked(at(1001), 0, &Request::Look { term: None })).0, Reply::Seen(_)));
}

#[test]
fn a_leader_that_stood_still_answers_renewals_in_a_term_that_is_over() {
    let (mut etcd, lease) = held(4);
    let leader = etcd.named(Which::Leader);
    etcd.pauses(leader, at(4000));
    for millis in (10..=4000).step_by(10) {
        etcd.tick(at(millis));
    }
    assert_ne!(etcd.named(Which::Leader), leader);
    let (renewed, term) = answered(etcd.asked(at(4000), leader, &Request::Renew { lease }));
    assert!(matches!(renewed, Reply::Renewed(Some(_))));
    let (_, since) = answered(etcd.asked(at(4000), leader, &Request::Look { term: None }));
    assert_ne!(term, since);
    assert!(
        matches!(etcd.asked(at(4020), leader, &Request::Renew { lease }), Fate::Answered(_, same) if same == since)
    );
}

mod world;

use super::*;
use world::{Broken, World};

const TERMS: Terms = Terms { ttl: Duration::from_secs(10), drift: 1 };
const STEPS: u32 = 12_000;

fn at(millis: u64) -> Boot {
    Boot::from_nanos(millis * 1_000_000)
}

fn me(n: u8) -> Me {
    Me { claimant: Claimant([n; 16]), role: if n == 1 { Role::Primary } else { Role::Secondary } }
}

fn kept(n: u8, revision: i64, lease: i64) -> Option<Kept> {
    Some(Kept { revision, lease, claimant: me(n).claimant })
}

fn granted(lease: i64) -> Reply {
    Reply::Granted { lease, ttl: TERMS.ttl }
}

/// A keeper and what it has put out.
struct Rig {
    keeper: Keeper,
    out: Vec<Outcome>,
}

impl Rig {
    fn new(want: Want) -> Self {
        let mut rig = Self { keeper: Keeper::new(TERMS, me(1)), out: Vec::new() };
        rig.keeper.want(at(0), want, me(1), &mut rig.out);
        rig
    }

    /// The next request, answered.
    fn exchange(&mut self, sent: u64, heard: u64, reply: Reply) -> Request {
        let request = self.keeper.next(at(sent)).expect("a request is due");
        self.keeper.reply(at(heard), reply, &mut self.out);
        request
    }

    /// Has the role, by a lease granted at `sent`.
    fn holding(sent: u64) -> Self {
        let mut rig = Self::new(Want::Fresh);
        rig.exchange(sent, sent + 5, granted(7));
        rig.exchange(sent + 5, sent + 10, Reply::Seen(Seen::default()));
        rig.exchange(sent + 10, sent + 15, Reply::Taken { revision: 40 });
        rig.out.clear();
        rig
    }

    fn put_out(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.out)
    }
}

#[test]
fn a_free_role_is_taken_and_its_lease_counts_from_the_grants_sending() {
    let mut rig = Rig::new(Want::Fresh);
    assert_eq!(rig.exchange(100, 900, granted(7)), Request::Grant { ttl: TERMS.ttl });
    assert_eq!(rig.exchange(900, 950, Reply::Seen(Seen::default())), Request::Look { term: None });
    let taken = rig.exchange(950, 1000, Reply::Taken { revision: 40 });
    let (seen, me) = (Seen::default(), me(1));
    assert_eq!(taken, Request::Take { seen, me, role: Some(7), claim: false, term: None });
    // 10 s less a hundredth.
    assert_eq!(rig.put_out(), [Outcome::End(at(10_000)), Outcome::Tenure(Tenure::Held(40))]);
    assert_eq!(rig.keeper.next(at(3_000)), None);
    assert_eq!(rig.keeper.next_deadline(at(3_000)), Some(at(3_400)));
    assert_eq!(rig.exchange(3_400, 3_500, Reply::Renewed(Some(TERMS.ttl))), Request::Renew { lease: 7 });
    assert_eq!(rig.put_out(), [Outcome::End(at(13_300))]);
}

#[test]
fn a_lease_that_is_not_renewed_is_over_in_time_and_known_when_it_comes_back() {
    let mut rig = Rig::holding(0);
    for sent in [3_300, 6_000, 9_000] {
        rig.exchange(sent, sent + 600, Reply::Failed("no answer".into()));
        assert_eq!(rig.keeper.next(at(sent + 601)), None, "not without a pause");
    }
    assert_eq!(rig.keeper.next_deadline(at(9_700)), Some(at(9_850)));
    rig.keeper.tick(at(9_899), &mut rig.out);
    assert_eq!(rig.put_out(), []);
    rig.keeper.tick(at(9_900), &mut rig.out);
    assert_eq!(rig.put_out(), [Outcome::Tenure(Tenure::Over)]);
    // etcd has not let go of it yet.
    rig.exchange(10_000, 10_001, Reply::Renewed(Some(TERMS.ttl)));
    assert_eq!(rig.put_out(), [Outcome::End(at(19_900)), Outcome::Tenure(Tenure::Held(40))]);
    // It has, and nobody had it since.
    rig.exchange(20_000, 20_001, Reply::Renewed(None));
    assert_eq!(rig.put_out(), [Outcome::End(at(20_001)), Outcome::Tenure(Tenure::Over)]);
    rig.exchange(20_001, 20_002, granted(8));
    let free = Seen { epoch: kept(1, 40, 0), ..Seen::default() };
    rig.exchange(20_002, 20_003, Reply::Seen(free));
    rig.exchange(20_003, 20_004, Reply::Taken { revision: 60 });
    assert_eq!(rig.put_out(), [Outcome::End(at(29_901)), Outcome::Tenure(Tenure::Held(60))]);
}

#[test]
fn who_was_followed_by_another_does_not_come_back_by_itself() {
    for held in [true, false] {
        let mut rig = Rig::holding(0);
        rig.exchange(11_000, 11_001, Reply::Renewed(None));
        rig.exchange(11_001, 11_002, granted(8));
        let role = if held { kept(2, 50, 9) } else { None };
        rig.put_out();
        rig.exchange(11_002, 11_003, Reply::Seen(Seen { role, epoch: kept(2, 50, 0), claim: None }));
        assert_eq!(rig.put_out(), [Outcome::Tenure(Tenure::Taken(me(2).claimant.to_string()))]);
        assert_eq!(rig.keeper.next(at(60_000)), None);
        assert_eq!(rig.keeper.next_deadline(at(60_000)), None);
    }
}

#[test]
fn who_was_followed_comes_back_by_an_operators_order_when_the_lease_of_the_other_has_ended() {
    let mut rig = Rig::holding(0);
    rig.exchange(11_000, 11_001, Reply::Renewed(None));
    rig.exchange(11_001, 11_002, granted(8));
    let held = Seen { role: kept(2, 50, 9), epoch: kept(2, 50, 0), claim: None };
    rig.exchange(11_002, 11_003, Reply::Seen(held.clone()));
    rig.keeper.want(at(12_000), Want::Forced, me(1), &mut rig.out);
    rig.put_out();
    rig.exchange(12_000, 12_001, Reply::Seen(held));
    assert_eq!(rig.keeper.next(at(13_000)), None, "not while the other holds it");
    rig.exchange(13_001, 13_002, Reply::Seen(Seen { epoch: kept(2, 50, 0), ..Seen::default() }));
    rig.exchange(13_002, 13_003, Reply::Taken { revision: 60 });
    assert_eq!(rig.put_out(), [Outcome::End(at(20_901)), Outcome::Tenure(Tenure::Held(60))]);
}

#[test]
fn a_claim_waits_for_the_lease_of_the_other_and_is_final() {
    let mut rig = Rig::new(Want::Nothing);
    assert_eq!(rig.keeper.next(at(0)), None);
    rig.keeper.claim(at(0), 3, me(1));
    rig.exchange(0, 1, granted(7));
    let others = Seen { role: kept(2, 50, 9), epoch: kept(2, 50, 0), claim: None };
    assert_eq!(rig.exchange(1, 2, Reply::Seen(others.clone())), Request::Look { term: Some(3) });
    assert!(matches!(&rig.put_out()[..], [Outcome::Answer(3, Answer::NotYet(why))] if why.contains("lease")));
    rig.keeper.claim(at(1_000), 3, me(1));
    let free = Seen { role: None, ..others };
    rig.exchange(1_000, 1_001, Reply::Seen(free.clone()));
    let taken = rig.exchange(1_001, 1_002, Reply::Taken { revision: 70 });
    assert_eq!(taken, Request::Take { seen: free, me: me(1), role: Some(7), claim: true, term: Some(3) });
    let yes = [Outcome::End(at(9_900)), Outcome::Answer(3, Answer::Yes), Outcome::Tenure(Tenure::Held(70))];
    assert_eq!(rig.put_out(), yes);
    // Asked again, also after the reply was lost.
    rig.keeper.claim(at(1_100), 3, me(1));
    let mine = Seen { role: kept(1, 70, 7), epoch: kept(1, 70, 0), claim: kept(1, 70, 0) };
    rig.exchange(1_100, 1_101, Reply::Seen(mine.clone()));
    assert_eq!(rig.put_out(), [Outcome::Answer(3, Answer::Yes)]);
    // The other has the next term.
    rig.keeper.claim(at(1_200), 4, me(1));
    rig.exchange(1_200, 1_201, Reply::Seen(Seen { claim: kept(2, 71, 0), ..mine }));
    assert!(matches!(&rig.put_out()[..], [Outcome::Answer(4, Answer::No(_))]));
}

#[test]
fn what_changed_since_the_look_is_looked_at_again() {
    let mut rig = Rig::new(Want::Fresh);
    rig.exchange(0, 1, granted(7));
    rig.exchange(1, 2, Reply::Seen(Seen::default()));
    let changed = Seen { role: None, epoch: kept(2, 50, 0), claim: None };
    rig.exchange(2, 3, Reply::Seen(changed.clone()));
    let taken = rig.exchange(3, 4, Reply::Failed("no answer".into()));
    assert!(matches!(taken, Request::Take { seen, .. } if seen == changed));
    // It was carried out all the same.
    let mine = Seen { role: kept(1, 51, 7), epoch: kept(1, 51, 0), claim: None };
    assert_eq!(rig.exchange(300, 301, Reply::Seen(mine)), Request::Look { term: None });
    assert_eq!(rig.put_out(), [Outcome::End(at(9_900)), Outcome::Tenure(Tenure::Held(51))]);
}

#[test]
fn what_is_given_up_is_silent_before_etcd_hears_of_it() {
    let mut rig = Rig::holding(0);
    rig.keeper.want(at(500), Want::Release, me(1), &mut rig.out);
    assert_eq!(rig.put_out(), [Outcome::End(at(500)), Outcome::Tenure(Tenure::Over)]);
    assert_eq!(rig.exchange(500, 510, Reply::Failed("away".into())), Request::Revoke { lease: 7 });
    assert_eq!(rig.exchange(760, 770, Reply::Revoked), Request::Revoke { lease: 7 });
    assert_eq!((rig.put_out(), rig.keeper.next(at(800))), (vec![], None));
    // A new protection.
    rig.keeper.want(at(900), Want::Fresh, me(1), &mut rig.out);
    assert_eq!(rig.keeper.next(at(900)), Some(Request::Grant { ttl: TERMS.ttl }));
}

#[test]
fn a_renewal_that_is_answered_after_the_release_brings_nothing_back() {
    let mut rig = Rig::holding(0);
    assert!(rig.keeper.next(at(4_000)).is_some());
    rig.keeper.want(at(4_001), Want::Release, me(1), &mut rig.out);
    rig.put_out();
    rig.keeper.reply(at(4_002), Reply::Renewed(Some(TERMS.ttl)), &mut rig.out);
    assert_eq!(rig.put_out(), []);
}

#[test]
fn never_two_hold_the_role_and_never_two_have_a_term() {
    let (mut tenures, mut claims) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed, Broken::Not);
        let outcome = world.run(STEPS).and_then(|()| world.settle());
        assert_eq!(outcome, Ok(()), "seed {seed}");
        tenures += world.tenures;
        claims += world.claims;
    }
    assert!(tenures > 1000 && claims > 1000, "{tenures} tenures, {claims} claims: too few to mean anything");
}

#[test]
fn what_is_broken_is_found() {
    for broken in [Broken::CountsFromReply, Broken::NoDrift, Broken::NoClaim] {
        let found =
            (0..400).find_map(|seed| World::new(seed, broken).run(STEPS).err().map(|what| (seed, what)));
        let (seed, what) = found.unwrap_or_else(|| panic!("{broken:?} was not found"));
        println!("{broken:?}: seed {seed}: {what}");
    }
}

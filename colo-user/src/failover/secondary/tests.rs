mod verbs;

use super::*;
use crate::failover::tests::obeyed;
use serde_json::json;

const LEASE: Duration = Duration::from_secs(4);
const WHO: Claimant = Claimant([9; 16]);

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn config() -> Config {
    Config {
        judged: true,
        vm_limit: Duration::from_secs(2),
        lease: Duration::from_secs(60),
        before: Vec::new(),
    }
}

struct Rig {
    machine: Secondary,
    out: Vec<Order>,
    kept: Option<Memory>,
}

impl Rig {
    fn new(config: Config, past: Past, kept: Option<Memory>) -> Self {
        let mut rig = Self { machine: Secondary::new(config, WHO, kept), out: Vec::new(), kept };
        rig.machine.placed(past, false, &mut rig.out);
        rig
    }

    /// In term 1, with a state.
    fn protected(config: Config) -> Self {
        let mut rig = Self::new(config, Past::Fresh, None);
        assert_eq!(rig.standing(), (Standing::Closed, Why::AwaitsCheckpoint));
        assert!(rig.machine.session(1, LEASE, &mut rig.out));
        rig.machine.in_sync();
        assert_eq!(rig.machine.standing(), Standing::Closed, "it owns nothing");
        rig.machine.confirmed(true);
        rig.machine.loaded(&mut rig.out);
        assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
        assert!(rig.orders().is_empty());
        rig
    }

    fn orders(&mut self) -> Vec<Order> {
        obeyed(&mut self.out, &mut self.kept)
    }

    fn standing(&self) -> (Standing, Why) {
        (self.machine.standing(), self.machine.why())
    }

    fn tick(&mut self, now: u64) {
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= at(now)) {
            self.machine.tick(at(now), &mut self.out);
        }
    }

    /// And whether the primary is to be shut off.
    fn asks(&mut self, term: u64) -> bool {
        let orders = self.orders();
        let Some(&Order::Ask { term: asked, claimant: WHO, fence }) = orders.last() else {
            panic!("{orders:?}")
        };
        assert_eq!(asked, term);
        assert_eq!(self.kept, Some(Memory { term, next: None, claimant: WHO, standing: Standing::Asking }));
        fence
    }

    fn takes_over(&mut self, now: u64) {
        let orders = self.orders();
        assert_eq!(orders[0], Order::Bye(Parting::TookOver));
        assert_eq!(self.machine.standing(), Standing::TakingOver);
        for (step, value) in [
            (Step::LostHeartbeat, json!({})),
            (Step::Mode, json!({ "mode": "none", "last-mode": "secondary" })),
            (Step::Runs, json!({ "running": true, "status": "running" })),
        ] {
            assert_eq!(self.machine.standing(), Standing::TakingOver);
            self.machine.done(at(now), step, &Ok(value), &mut self.out);
        }
        assert_eq!(self.orders().last(), Some(&Order::TakeOver));
        assert_eq!(self.kept.unwrap().standing, Standing::Alone);
        assert_eq!(self.standing(), (Standing::Alone, Why::JudgeSaidYes));
    }
}

#[test]
fn a_lost_primary_is_waited_for_until_its_lease_is_over() {
    for loss in [Loss::Link, Loss::Silent, Loss::Bye(Parting::Left)] {
        let mut rig = Rig::protected(config());
        rig.machine.lost(loss, at(10_000), &mut rig.out);
        assert_eq!(rig.standing(), (Standing::Holding, loss.why()));
        // The lease that the primary told, after it was heard last, and a quarter.
        rig.tick(14_999);
        assert!(rig.orders().is_empty());
        rig.tick(15_000);
        rig.asks(1);
        rig.machine.answer(at(15_010), 1, &Answer::Yes, &mut rig.out);
        rig.takes_over(15_020);
    }
}

#[test]
fn a_primary_that_says_closed_is_neither_waited_for_nor_shut_off() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    assert!(!rig.asks(1));
    assert_eq!(rig.standing(), (Standing::Asking, Why::PeerClosed));
    rig.machine.answer(at(10_010), 1, &Answer::None("away".into()), &mut rig.out);
    rig.tick(12_000);
    assert!(!rig.asks(1), "it stays closed");
    // Also when it comes back only to say so.
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_200), &mut rig.out);
    assert!(!rig.asks(1));
    // What it said in one session is nothing in the next.
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.orders();
    rig.machine.session(2, LEASE, &mut rig.out);
    rig.machine.loaded(&mut rig.out);
    rig.machine.in_sync();
    rig.machine.lost(Loss::Silent, at(20_000), &mut rig.out);
    rig.orders();
    rig.tick(40_000);
    assert!(rig.asks(2));
}

#[test]
fn the_disk_of_the_secondary_is_given_free_first() {
    let before = vec![crate::qmp::command::nbd_server_stop().call];
    let mut rig = Rig::protected(Config { before, ..config() });
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
    rig.machine.answer(at(10_001), 1, &Answer::Yes, &mut rig.out);
    assert!(matches!(
        &rig.orders()[..],
        [Order::Bye(_), Order::Command(Step::Before(0), call)] if call.name == "nbd-server-stop"
    ));
}

#[test]
fn a_judge_that_waits_for_a_lease_is_asked_again_soon() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
    for now in [10_000, 10_100, 10_200] {
        rig.machine.answer(at(now), 1, &Answer::NotYet("its lease".into()), &mut rig.out);
        assert_eq!(rig.standing(), (Standing::Asking, Why::OtherLease));
        rig.tick(now + 99);
        assert!(rig.orders().is_empty());
        rig.tick(now + 100);
        rig.asks(1);
    }
    rig.machine.answer(at(10_301), 1, &Answer::Yes, &mut rig.out);
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::JudgeSaidYes));
}

#[test]
fn no_means_closed_and_no_answer_means_closed_and_asking_again() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
    rig.machine.answer(at(10_000), 1, &Answer::None("away".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Asking, Why::JudgeSilent));
    rig.tick(10_999);
    assert!(rig.orders().is_empty());
    rig.tick(11_000);
    rig.asks(1);
    rig.machine.answer(at(11_000), 1, &Answer::No("primary".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::JudgeSaidNo));
    assert_eq!(rig.machine.next_deadline(), None);
    assert_eq!(rig.orders(), [Order::halt()]);
    rig.machine.answer(at(11_000), 1, &Answer::Yes, &mut rig.out);
    assert!(rig.orders().is_empty());
    // A state of that VM is worth nothing any more: no primary counts on it, and its guest stands still.
    assert!(!rig.machine.session(2, LEASE, &mut rig.out));
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)]);
    rig.machine.placed(Past::Secondary, false, &mut rig.out);
    assert_eq!(rig.orders(), [Order::halt()]);
    let mut rig = Rig::new(config(), Past::Secondary, rig.kept);
    assert_eq!(rig.standing(), (Standing::Closed, Why::AgentRestarted));
    assert!(!rig.machine.session(2, LEASE, &mut rig.out));
    // Another VM is another matter.
    let mut rig = Rig::new(config(), Past::Fresh, rig.kept);
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
}

#[test]
fn without_a_judge_it_stays_closed() {
    let mut rig = Rig::protected(Config { judged: false, ..config() });
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    assert!(rig.orders().is_empty());
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Holding, Why::NoJudge), None));
}

#[test]
fn one_that_owns_no_state_of_the_term_never_asks() {
    let mut rig = Rig::new(config(), Past::Fresh, None);
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    assert!(rig.orders().is_empty());
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Closed, Why::PeerClosed), None));
    // Started again it has lost its translation.
    let kept = Memory { term: 1, next: None, claimant: WHO, standing: Standing::Protected };
    let mut rig = Rig::new(config(), Past::Secondary, Some(kept));
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    assert_eq!(rig.machine.standing(), Standing::Closed);
    rig.machine.loaded(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Protected);
}

#[test]
fn a_link_that_comes_back_in_time_goes_on_and_one_that_comes_late_is_refused() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Protected, Why::InSync), None));
    rig.machine.lost(Loss::Link, at(20_000), &mut rig.out);
    rig.tick(25_000);
    rig.asks(1);
    assert!(!rig.machine.session(1, LEASE, &mut rig.out), "the answer may be yes");
    assert_eq!(rig.orders(), [Order::Bye(Parting::Refused)]);
    // In another term it joins, and is bound to the old one until it has loaded a state of the new one.
    for loads in [true, false] {
        let mut rig = Rig { machine: rig.machine.clone(), out: Vec::new(), kept: None };
        assert!(rig.machine.session(2, LEASE, &mut rig.out));
        rig.machine.in_sync();
        assert_eq!(rig.machine.standing(), Standing::Asking);
        if loads {
            rig.machine.loaded(&mut rig.out);
            assert_eq!((rig.standing(), rig.machine.term()), ((Standing::Protected, Why::InSync), Some(2)));
            rig.orders();
            rig.machine.answer(at(25_010), 1, &Answer::Yes, &mut rig.out);
            assert!(rig.orders().is_empty(), "nobody listens to the old one");
        } else {
            rig.machine.answer(at(25_010), 1, &Answer::Yes, &mut rig.out);
            rig.takes_over(25_020);
        }
    }
}

#[test]
fn a_state_is_good_until_there_is_one_of_the_next_term() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
    rig.machine.in_sync();
    assert_eq!(rig.standing(), (Standing::Holding, Why::AwaitsCheckpoint));
    assert_eq!(rig.machine.next_deadline(), None, "the primary is there");
    rig.machine.lost(Loss::Silent, at(20_000), &mut rig.out);
    rig.tick(25_000);
    rig.asks(1);
}

#[test]
fn a_question_ends_a_session_that_is_being_begun() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.tick(15_000);
    assert_eq!(rig.orders()[0], Order::Bye(Parting::Refused));
    rig.machine.in_sync();
    rig.machine.loaded(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Asking);
}

#[test]
fn a_guest_that_nobody_reaches_leaves_a_primary_that_lives_and_no_other() {
    let mut rig = Rig::protected(config());
    rig.machine.unreachable(&mut rig.out);
    assert_eq!(rig.orders(), [Order::halt(), Order::Bye(Parting::VmGone)]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::GuestLost));
    assert!(Why::GuestLost.way_out().is_some());
    rig.machine.unreachable(&mut rig.out);
    assert!(rig.orders().is_empty(), "once");
    assert!(!rig.machine.session(1, LEASE, &mut rig.out));
    assert_eq!(rig.orders(), [Order::Bye(Parting::VmGone)]);
    // Another VM in its place waits for a state.
    rig.machine.placed(Past::Fresh, false, &mut rig.out);
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
    rig.machine.unreachable(&mut rig.out);
    assert!(rig.orders().is_empty(), "there is nothing that it could leave");
    // Beside a primary that is lost it is the last one.
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Silent, at(10_000), &mut rig.out);
    rig.orders();
    rig.machine.unreachable(&mut rig.out);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.standing(), (Standing::Holding, Why::PeerSilent));
}

#[test]
fn a_vm_that_is_gone_or_frozen_is_told_and_never_takes_over() {
    for (trouble, why) in [(Trouble::Gone, Why::VmGone), (Trouble::Frozen, Why::VmFrozen)] {
        let mut rig = Rig::protected(config());
        rig.machine.trouble(trouble, &mut rig.out);
        let mut orders = rig.orders();
        assert_eq!(orders.pop(), Some(Order::Bye(Parting::VmGone)));
        // A frozen one hears it when it runs again.
        assert_eq!(orders, if trouble == Trouble::Frozen { vec![Order::halt()] } else { Vec::new() });
        rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
        assert!(rig.orders().is_empty());
        assert_eq!(rig.standing(), (Standing::Closed, why));
    }
    // Another VM in its place waits for a state.
    let mut rig = Rig::protected(config());
    rig.machine.trouble(Trouble::Gone, &mut rig.out);
    rig.machine.placed(Past::Fresh, false, &mut rig.out);
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
    rig.machine.in_sync();
    rig.machine.loaded(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Protected);
}

#[test]
fn leaving_colo_alone_is_an_alarm_and_no_takeover() {
    let mut rig = Rig::protected(config());
    rig.machine.trouble(Trouble::LeftColo, &mut rig.out);
    rig.machine.trouble(Trouble::Stuck, &mut rig.out);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.machine.standing(), Standing::Protected);
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
}

#[test]
fn a_primary_that_goes_on_alone_closes_the_secondary() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::TookOver), at(10_000), &mut rig.out);
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Closed, Why::PeerTookOver), None));
    assert_eq!(rig.orders(), [Order::halt()]);
    // And as often as somebody lets its guest run.
    rig.machine.ran(&mut rig.out);
    assert_eq!(rig.orders(), [Order::halt()]);
}

#[test]
fn one_that_is_the_service_says_so_to_every_primary_and_stays_it_when_started_again() {
    let kept = Memory { term: 1, next: None, claimant: Claimant([3; 16]), standing: Standing::Alone };
    let mut rig = Rig::new(config(), Past::Was, Some(kept));
    assert_eq!(rig.orders(), [Order::TakeOver]);
    assert_eq!(rig.kept, Some(kept));
    assert!(!rig.machine.session(1, LEASE, &mut rig.out));
    assert!(!rig.machine.session(2, LEASE, &mut rig.out));
    assert_eq!(rig.orders(), [Order::Bye(Parting::TookOver), Order::Bye(Parting::TookOver)]);
    rig.machine.trouble(Trouble::Frozen, &mut rig.out);
    assert!(rig.orders().is_empty());
}

/// One whose agent was killed when it stood so, and is started again.
fn again(past: Past, standing: Standing) -> Rig {
    Rig::new(config(), past, Some(Memory { term: 1, next: None, claimant: AGENT, standing }))
}

const AGENT: Claimant = Claimant([3; 16]);

#[test]
fn started_again_with_a_question_out_it_waits_for_a_state_of_another_term() {
    for standing in [Standing::Asking, Standing::TakingOver] {
        let mut rig = again(Past::Secondary, standing);
        assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
        assert!(rig.machine.why().way_out().is_some());
        assert_eq!((rig.orders(), rig.machine.next_deadline()), (Vec::new(), None), "it asks nobody");
        // As the one before it, it does not meet the primary in the term that was asked for.
        assert!(!rig.machine.session(1, LEASE, &mut rig.out));
        assert_eq!(rig.orders(), [Order::Bye(Parting::Refused)]);
        for loss in [Loss::Link, Loss::Bye(Parting::Closed)] {
            rig.machine.lost(loss, at(10), &mut rig.out);
            rig.machine.placed(Past::Secondary, false, &mut rig.out);
            assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
        }
        assert!(rig.machine.session(2, LEASE, &mut rig.out));
        rig.machine.in_sync();
        assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
        rig.machine.loaded(&mut rig.out);
        assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
        assert_eq!((rig.orders(), rig.machine.term()), (Vec::new(), Some(2)));
    }
}

#[test]
fn started_again_after_qemu_has_left_colo_it_is_the_service_by_what_is_pinned_alone() {
    let mut rig = again(Past::Was, Standing::TakingOver);
    assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
    assert_eq!(rig.orders(), [Order::halt()]);
    rig.machine.placed(Past::Was, false, &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
    assert_eq!(rig.orders(), [Order::halt()]);
    // No state comes to it any more.
    assert!(!rig.machine.session(2, LEASE, &mut rig.out));
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)]);
    rig.machine.placed(Past::Fresh, false, &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::AwaitsCheckpoint), "another VM");

    let kept = Memory { term: 1, next: None, claimant: AGENT, standing: Standing::TakingOver };
    let mut machine = Secondary::new(config(), WHO, Some(kept));
    let mut out = Vec::new();
    machine.placed(Past::Was, true, &mut out);
    assert_eq!(machine.standing(), Standing::Alone);
    let alone = Memory { standing: Standing::Alone, ..kept };
    assert_eq!(out, [Order::TakeOver, Order::Remember(alone)]);
}

#[test]
fn a_primary_that_went_on_meanwhile_closes_one_that_was_started_again() {
    let mut rig = again(Past::Secondary, Standing::Asking);
    rig.machine.lost(Loss::Bye(Parting::TookOver), at(10), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::PeerTookOver));
    assert_eq!((rig.orders(), rig.kept.unwrap().standing), (vec![Order::halt()], Standing::Closed));
}

#[test]
fn one_that_froze_after_it_had_asked_may_be_promoted_when_it_is_started_again() {
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
    rig.machine.trouble(Trouble::Frozen, &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::VmFrozen));
    assert_eq!(rig.orders(), [Order::halt(), Order::Bye(Parting::VmGone)]);
    let rig = Rig::new(config(), Past::Secondary, rig.kept);
    assert_eq!(rig.standing(), (Standing::Closed, Why::TranslationLost));
    // The primary goes on without one that had not asked.
    let mut rig = Rig::protected(config());
    rig.machine.trouble(Trouble::Frozen, &mut rig.out);
    rig.orders();
    let rig = Rig::new(config(), Past::Secondary, rig.kept);
    assert_eq!(rig.standing(), (Standing::Closed, Why::AgentRestarted));
}

#[test]
fn a_primary_that_lives_without_a_link_has_precedence_for_a_time() {
    let mut rig = Rig::protected(config());
    rig.machine.elsewhere(Elsewhere::Alive, &mut rig.out);
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Holding, Why::LinkLost));
    // The lease and its quarter, and twice as much: it may have no judge to ask.
    rig.tick(24_999);
    assert!(rig.orders().is_empty());
    rig.tick(25_000);
    rig.asks(1);
    assert_eq!(rig.standing(), (Standing::Asking, Why::LinkLost));
}

#[test]
fn a_primary_that_dies_behind_a_lost_link_has_its_lease_and_no_more() {
    for dies_at in [11_000, 20_000] {
        let mut rig = Rig::protected(config());
        rig.machine.elsewhere(Elsewhere::Alive, &mut rig.out);
        rig.machine.lost(Loss::Silent, at(10_000), &mut rig.out);
        rig.tick(dies_at);
        rig.machine.elsewhere(Elsewhere::Silent, &mut rig.out);
        assert_eq!(rig.standing(), (Standing::Holding, Why::PeerSilent));
        rig.tick(14_999);
        assert!(dies_at > 15_000 || rig.orders().is_empty());
        rig.tick(dies_at.max(15_000));
        rig.asks(1);
    }
}

#[test]
fn a_primary_that_is_closed_in_this_term_is_not_waited_for_whatever_link_says_so() {
    for first in [true, false] {
        let mut rig = Rig::protected(config());
        if first {
            rig.machine.elsewhere(Elsewhere::Closed(1), &mut rig.out);
            assert_eq!(rig.standing(), (Standing::Protected, Why::InSync), "the link says it in order");
        }
        rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
        rig.machine.elsewhere(Elsewhere::Closed(1), &mut rig.out);
        assert_eq!(rig.standing(), (Standing::Asking, Why::PeerClosed));
        rig.asks(1);
    }
    let mut rig = Rig::protected(config());
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    rig.machine.elsewhere(Elsewhere::Closed(7), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Holding, Why::LinkLost), "closed in another term is not closed");
    assert!(rig.orders().is_empty());
}

fn with_disk() -> Rig {
    let before = vec![crate::qmp::command::nbd_server_stop().call];
    Rig::protected(Config { before, ..config() })
}

#[test]
fn a_state_that_was_not_cut_is_not_served_beside_a_disk() {
    let mut rig = with_disk();
    rig.machine.confirmed(false);
    rig.machine.lost(Loss::Link, at(10_000), &mut rig.out);
    rig.tick(15_000);
    assert!(rig.orders().is_empty(), "the judge is not asked");
    assert_eq!(rig.standing(), (Standing::Holding, Why::Unconfirmed));
    rig.machine.lost(Loss::Bye(Parting::Closed), at(16_000), &mut rig.out);
    assert!(rig.orders().is_empty());
    // The primary comes back, and cuts.
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    rig.machine.confirmed(true);
    rig.machine.loaded(&mut rig.out);
    assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
    rig.machine.lost(Loss::Bye(Parting::Closed), at(20_000), &mut rig.out);
    rig.asks(1);
    // QEMU loads another state while the judge is asked.
    rig.machine.confirmed(false);
    rig.machine.answer(at(20_010), 1, &Answer::Yes, &mut rig.out);
    assert_eq!(rig.orders(), [Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::Unconfirmed));
    assert_eq!(rig.kept.unwrap().standing, Standing::Closed);
}

#[test]
fn a_state_that_is_loaded_while_qemu_is_told_is_not_served_beside_a_disk() {
    let mut rig = with_disk();
    rig.machine.lost(Loss::Bye(Parting::Closed), at(10_000), &mut rig.out);
    rig.asks(1);
    rig.machine.answer(at(10_010), 1, &Answer::Yes, &mut rig.out);
    rig.machine.done(at(10_020), Step::Before(0), &Ok(json!({})), &mut rig.out);
    rig.machine.confirmed(false);
    rig.machine.done(at(10_030), Step::LostHeartbeat, &Ok(json!({})), &mut rig.out);
    rig.machine.done(at(10_040), Step::Mode, &Ok(json!({ "mode": "none" })), &mut rig.out);
    rig.machine.done(at(10_050), Step::Runs, &Ok(json!({ "running": true })), &mut rig.out);
    assert!(!rig.orders().contains(&Order::TakeOver));
    assert_eq!(rig.standing(), (Standing::Closed, Why::Unconfirmed));
}

#[test]
fn a_yes_without_a_fence_is_asked_for_again_and_a_service_that_was_followed_closes() {
    let mut rig = Rig::protected(config());
    rig.machine.tenure(&Tenure::Taken("nobody's business".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
    rig.machine.lost(Loss::Silent, at(0), &mut rig.out);
    rig.tick(10_000);
    assert!(rig.asks(1));
    rig.machine.answer(at(10_010), 1, &Answer::NotFenced("no answer".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Asking, Why::NotFenced));
    rig.tick(11_010);
    assert!(rig.asks(1));
    rig.machine.answer(at(11_020), 1, &Answer::Yes, &mut rig.out);
    rig.takes_over(11_030);
    rig.machine.tenure(&Tenure::Over, &mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Alone);
    rig.machine.tenure(&Tenure::Taken("the other".into()), &mut rig.out);
    assert_eq!(rig.orders(), [Order::Shut, Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::LeaseTaken));
}

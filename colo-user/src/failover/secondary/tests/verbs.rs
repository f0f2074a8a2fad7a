use super::*;
use crate::failover::verbs::{Commanded, Context, Ended, Refusal, Reply, Verb};
use crate::judge::Prospect;
use crate::qmp::command;

const PROMOTE: Verb = Verb::Promote { force: false };
const FORCE: Verb = Verb::Promote { force: true };

impl Rig {
    fn order(&mut self, now: u64, verb: Verb) -> Reply {
        self.machine.order(
            at(now),
            verb,
            &Context { judge: Prospect::Reachable, fresh: 0, path: true },
            &mut self.out,
        )
    }

    fn refuses(&mut self, verb: Verb, refusal: Refusal) {
        let before = self.standing();
        assert_eq!(self.order(0, verb), Reply::Refused(refusal));
        assert_eq!(self.standing(), before);
        assert!(self.orders().is_empty(), "a refusal changes nothing");
    }

    fn lost(&mut self, loss: Loss, heard: u64) {
        self.machine.lost(loss, at(heard), &mut self.out);
    }
}

#[test]
fn nobody_is_promoted_beside_a_primary_that_is_there_or_without_a_state() {
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.refuses(FORCE, Refusal::NoState);
    let mut rig = Rig::protected(config());
    rig.refuses(PROMOTE, Refusal::PeerThere);
    rig.refuses(FORCE, Refusal::PeerThere);
    for verb in [Verb::Pause, Verb::Resume, Verb::Failover] {
        rig.refuses(verb, Refusal::OtherSide);
    }
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
    rig.machine.in_sync();
    rig.refuses(FORCE, Refusal::AwaitsCheckpoint);
}

#[test]
fn an_order_shortens_no_lease() {
    let mut rig = Rig::protected(config());
    rig.lost(Loss::Link, 1000);
    let due = rig.machine.next_deadline();
    assert_eq!(rig.order(1001, FORCE), Reply::Begun);
    assert_eq!(rig.machine.next_deadline(), due);
    assert!(rig.orders().is_empty() && rig.machine.progress(FORCE).is_none());
    rig.tick(1000 + 5000);
    rig.asks(1);
    rig.machine.answer(at(6100), 1, &Answer::None("away".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::Forced), "the judge's silence is no hindrance");
}

#[test]
fn a_judge_that_says_nothing_or_no_is_overruled_by_force_alone() {
    let mut rig = Rig::protected(config());
    rig.lost(Loss::Bye(Parting::Closed), 0);
    rig.asks(1);
    rig.machine.answer(at(1), 1, &Answer::None("away".into()), &mut rig.out);
    assert_eq!(rig.order(2, PROMOTE), Reply::Begun);
    rig.asks(1);
    rig.machine.answer(at(3), 1, &Answer::No("the primary".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::JudgeSaidNo));
    assert!(matches!(rig.machine.progress(PROMOTE), Some(Ended::Failed(_))));
    rig.orders();
    rig.refuses(PROMOTE, Refusal::JudgeSaidNo);
    assert_eq!(rig.order(4, FORCE), Reply::Begun);
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::Forced));
    assert_eq!(rig.orders()[0], Order::Bye(Parting::TookOver));
}

#[test]
fn without_a_judge_only_force_takes_over_and_only_after_the_lease() {
    let mut rig = Rig::protected(Config { judged: false, ..config() });
    rig.lost(Loss::Link, 1000);
    rig.refuses(PROMOTE, Refusal::NoJudge);
    rig.tick(6000);
    assert_eq!(rig.standing(), (Standing::Holding, Why::NoJudge));
    rig.refuses(PROMOTE, Refusal::NoJudge);
    assert_eq!(rig.order(6001, FORCE), Reply::Begun);
    assert_eq!(rig.machine.standing(), Standing::TakingOver);

    let mut early = Rig::protected(Config { judged: false, ..config() });
    early.lost(Loss::Link, 1000);
    assert_eq!(early.order(1001, FORCE), Reply::Begun);
    early.tick(5900);
    assert_eq!(early.machine.standing(), Standing::Holding);
    early.tick(6000);
    assert_eq!(early.standing(), (Standing::TakingOver, Why::Forced));
}

#[test]
fn a_primary_that_comes_back_ends_the_force() {
    let mut rig = Rig::protected(config());
    rig.lost(Loss::Link, 0);
    rig.order(1, FORCE);
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    assert!(matches!(rig.machine.progress(FORCE), Some(Ended::Failed(_))));
    rig.lost(Loss::Link, 10);
    rig.tick(20_000);
    rig.asks(1);
    rig.machine.answer(at(20_001), 1, &Answer::No("the primary".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::JudgeSaidNo));
}

#[test]
fn a_state_that_is_older_than_what_clients_were_told_is_never_promoted() {
    let mut rig = Rig::protected(config());
    rig.lost(Loss::Bye(Parting::TookOver), 0);
    rig.orders();
    rig.refuses(FORCE, Refusal::Stale);
    // Also if it has asked before it heard of it.
    let mut rig = Rig::protected(config());
    rig.lost(Loss::Link, 0);
    rig.order(1, FORCE);
    rig.tick(10_000);
    rig.asks(1);
    rig.lost(Loss::Bye(Parting::TookOver), 10_001);
    rig.machine.answer(at(10_002), 1, &Answer::No("the primary".into()), &mut rig.out);
    rig.orders();
    rig.refuses(FORCE, Refusal::Stale);
}

#[test]
fn a_demoted_side_says_so_and_takes_nothing_over() {
    let mut rig = Rig::protected(config());
    assert!(matches!(rig.order(0, Verb::Demote), Reply::Done(_)));
    assert_eq!(rig.orders(), [Order::Shut, Order::halt(), Order::Bye(Parting::Closed)]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::Demoted));
    rig.machine.loaded(&mut rig.out);
    rig.lost(Loss::Bye(Parting::Closed), 0);
    rig.tick(60_000);
    rig.refuses(FORCE, Refusal::Closed(Why::Demoted));
    assert!(matches!(rig.order(0, Verb::Demote), Reply::Done(_)));

    let mut service = Rig::protected(config());
    service.lost(Loss::Bye(Parting::Closed), 0);
    service.asks(1);
    service.machine.answer(at(1), 1, &Answer::Yes, &mut service.out);
    service.takes_over(2);
    assert!(matches!(service.order(3, PROMOTE), Reply::Done(_)));
    service.order(4, Verb::Demote);
    assert_eq!(service.orders()[0], Order::Shut, "the uplink of the service is closed as well");
    assert_eq!(service.kept.unwrap().standing, Standing::Closed);
}

#[test]
fn a_state_that_was_not_cut_is_not_promoted_beside_a_disk() {
    // While the primary may still be heard.
    let mut rig = with_disk();
    rig.machine.confirmed(false);
    rig.lost(Loss::Link, 0);
    rig.refuses(FORCE, Refusal::Unconfirmed);
    // When it is not.
    rig.tick(10_000);
    assert_eq!(rig.standing(), (Standing::Holding, Why::Unconfirmed));
    rig.refuses(FORCE, Refusal::Unconfirmed);
    // It was confirmed when the order came.
    let mut rig = with_disk();
    rig.lost(Loss::Link, 0);
    assert_eq!(rig.order(1, FORCE), Reply::Begun);
    rig.machine.confirmed(false);
    rig.tick(10_000);
    assert!(rig.orders().is_empty());
    assert!(matches!(rig.machine.progress(FORCE), Some(Ended::Failed(_))));
    // Or when the judge was asked; without a yes it stays to be asked for.
    for (answer, why) in [
        (Answer::No("the primary".into()), Why::JudgeSaidNo),
        (Answer::None("away".into()), Why::JudgeSilent),
    ] {
        let mut rig = with_disk();
        rig.lost(Loss::Bye(Parting::Closed), 0);
        rig.asks(1);
        rig.order(1, FORCE);
        rig.machine.confirmed(false);
        rig.machine.answer(at(2), 1, &answer, &mut rig.out);
        assert_eq!(rig.machine.why(), why);
        rig.orders();
        rig.refuses(FORCE, Refusal::Unconfirmed);
    }
    // Without a judge.
    let before = vec![command::nbd_server_stop().call];
    let mut rig = Rig::protected(Config { judged: false, before, ..config() });
    rig.lost(Loss::Link, 0);
    assert_eq!(rig.order(1, FORCE), Reply::Begun);
    rig.machine.confirmed(false);
    rig.tick(10_000);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.standing(), (Standing::Holding, Why::Unconfirmed));
}

#[test]
fn one_whose_translation_is_lost_takes_over_by_force_alone_and_asks_first() {
    for (answer, why) in [
        (Answer::Yes, Why::JudgeSaidYes),
        (Answer::None("away".into()), Why::Forced),
        (Answer::NotFenced("exit status 1".into()), Why::Forced),
    ] {
        for past in [Past::Secondary, Past::Was] {
            let mut rig = again(past, Standing::Asking);
            rig.orders();
            rig.refuses(PROMOTE, Refusal::TranslationLost);
            assert_eq!(rig.order(10, FORCE), Reply::Begun);
            assert_eq!(rig.orders(), [Order::Ask { term: 1, claimant: AGENT, fence: true }]);
            assert_eq!(rig.standing(), (Standing::Asking, Why::TranslationLost));
            rig.machine.answer(at(20), 1, &answer, &mut rig.out);
            assert_eq!(rig.standing(), (Standing::TakingOver, why));
            assert_eq!(rig.orders()[0], Order::Bye(Parting::TookOver));
        }
    }
    let mut rig = Rig::new(
        Config { judged: false, ..config() },
        Past::Secondary,
        again(Past::Was, Standing::Asking).kept,
    );
    assert_eq!(rig.order(10, FORCE), Reply::Begun);
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::Forced));
    // A primary that got the right may have been the service since.
    let mut rig = again(Past::Secondary, Standing::Asking);
    assert_eq!(rig.order(10, FORCE), Reply::Begun);
    rig.machine.answer(at(20), 1, &Answer::No("the primary".into()), &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Closed, Why::JudgeSaidNo));
    assert!(matches!(rig.machine.progress(FORCE), Some(Ended::Failed(_))));
    assert_eq!(rig.order(30, FORCE), Reply::Begun);
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::Forced));
}

#[test]
fn one_whose_translation_is_lost_is_not_promoted_beside_a_primary_or_a_disk_that_lacks_what_it_has() {
    let mut rig = again(Past::Secondary, Standing::Asking);
    assert!(rig.machine.session(2, LEASE, &mut rig.out));
    rig.machine.in_sync();
    rig.refuses(FORCE, Refusal::PeerThere);
    rig.lost(Loss::Bye(Parting::TookOver), 10);
    rig.orders();
    rig.refuses(FORCE, Refusal::Stale);

    let before = vec![command::nbd_server_stop().call];
    let mut rig =
        Rig::new(Config { before, ..config() }, Past::Secondary, again(Past::Was, Standing::Asking).kept);
    rig.refuses(FORCE, Refusal::Unconfirmed);

    let mut rig = again(Past::Was, Standing::Asking);
    rig.orders();
    assert!(matches!(rig.order(10, Verb::Demote), Reply::Done(_)));
    assert_eq!(rig.standing(), (Standing::Closed, Why::Demoted));
    rig.orders();
    assert_eq!(rig.kept.unwrap().standing, Standing::Closed);
}

#[test]
fn only_who_has_taken_over_or_is_found_a_primary_goes_on_as_one() {
    const REPROTECT: Verb = Verb::Reprotect;
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.refuses(REPROTECT, Refusal::NotAlone(Standing::Closed, Why::AwaitsCheckpoint));
    let mut rig = Rig::protected(config());
    rig.refuses(REPROTECT, Refusal::NotAlone(Standing::Protected, Why::InSync));
    assert_eq!(rig.machine.legacy(), None);
    rig.lost(Loss::Bye(Parting::Closed), 0);
    rig.asks(1);
    rig.refuses(REPROTECT, Refusal::NotAlone(Standing::Asking, Why::PeerClosed));
    rig.machine.answer(at(1), 1, &Answer::Yes, &mut rig.out);
    assert!(!rig.machine.may_lead(), "QEMU has not been told");
    rig.takes_over(2);
    assert_eq!(rig.order(3, REPROTECT), Reply::Begun);
    assert_eq!(rig.machine.progress(REPROTECT), None, "it goes on as another machine");
    assert_eq!(rig.machine.legacy(), rig.kept);
    // The lease was taken by somebody else meanwhile.
    rig.machine.tenure(&Tenure::Taken("another".into()), &mut rig.out);
    assert!(matches!(rig.machine.progress(REPROTECT), Some(Ended::Failed(_))) && !rig.machine.may_lead());
    rig.orders();
    rig.refuses(REPROTECT, Refusal::Closed(Why::LeaseTaken));

    let kept = |standing| Some(Memory { term: 1, next: None, claimant: WHO, standing });
    for kept in [None, kept(Standing::Closed)] {
        let mut rig = Rig::new(config(), Past::Primary, kept);
        rig.refuses(REPROTECT, Refusal::NotAlone(Standing::Closed, Why::WrongRole));
    }
    let mut rig = Rig::new(config(), Past::Primary, kept(Standing::Protected));
    assert_eq!(rig.order(0, REPROTECT), Reply::Begun);
    rig.lost(Loss::Link, 0);
    rig.machine.in_sync();
    assert!(rig.machine.may_lead() && rig.machine.why() == Why::WrongRole);
}

#[test]
fn a_peer_that_is_back_is_waited_for_no_more() {
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.lost(Loss::Link, 0);
    assert_eq!(rig.standing(), (Standing::Closed, Why::PeerLost));
    assert!(rig.machine.session(1, LEASE, &mut rig.out));
    rig.machine.in_sync();
    assert_eq!(rig.standing(), (Standing::Closed, Why::AwaitsCheckpoint));
}

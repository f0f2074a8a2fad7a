use super::*;
use crate::failover::verbs::{Commanded, Context, Ended, PLAN_LIMIT, Refusal, Reply, Verb};
use crate::judge::Prospect;

const PROMOTE: Verb = Verb::Promote { force: false };
const FORCE: Verb = Verb::Promote { force: true };

impl Rig {
    fn order_with(&mut self, now: u64, verb: Verb, judge: Prospect) -> Reply {
        self.machine.order(at(now), verb, &Context { judge, fresh: 90, path: true }, &mut self.out)
    }

    fn order(&mut self, now: u64, verb: Verb) -> Reply {
        self.order_with(now, verb, Prospect::Reachable)
    }

    fn refuses(&mut self, verb: Verb, refusal: Refusal) {
        let before = self.standing();
        assert_eq!(self.order(0, verb), Reply::Refused(refusal));
        assert_eq!(self.standing(), before);
        assert!(self.orders().is_empty(), "a refusal changes nothing");
    }

    fn paused() -> Self {
        let mut rig = Self::protected(config());
        assert_eq!(rig.order(0, Verb::Pause), Reply::Begun);
        rig.asks_and(1, false);
        assert_eq!(rig.machine.progress(Verb::Pause), None);
        rig.answer(1, 1, Answer::Yes);
        assert_eq!(rig.orders(), [Order::Pause]);
        assert_eq!(rig.standing(), (Standing::Paused, Why::Paused));
        assert_eq!(rig.kept, Some(memory(Standing::Paused)));
        assert!(matches!(rig.machine.progress(Verb::Pause), Some(Ended::Done(_))));
        rig
    }
}

#[test]
fn a_planned_failover_closes_at_its_checkpoint_after_what_may_leave_has_left() {
    let mut rig = Rig::protected(config());
    assert_eq!(rig.order(0, Verb::Failover), Reply::Begun);
    assert_eq!(rig.orders(), [Order::Checkpoint]);
    assert_eq!(rig.order(5, Verb::Failover), Reply::Begun, "the same once more");
    assert!(rig.orders().is_empty());
    assert_eq!(rig.machine.progress(Verb::Failover), None);
    rig.machine.cut(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Protected);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Flush, Order::Shut, Order::Bye(Parting::Closed), Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::HandedOver));
    assert_eq!(rig.kept.unwrap().standing, Standing::Closed, "an agent after this one stays closed");
    assert!(matches!(rig.machine.progress(Verb::Failover), Some(Ended::Done(_))));
    assert!(matches!(rig.order(0, Verb::Failover), Reply::Done(_)));
    rig.refuses(PROMOTE, Refusal::Closed(Why::HandedOver));
}

#[test]
fn a_planned_failover_without_its_checkpoint_leaves_the_pair_as_it_was() {
    let mut rig = Rig::protected(config());
    rig.order(0, Verb::Failover);
    let limit = u64::try_from(PLAN_LIMIT.as_millis()).unwrap();
    assert_eq!(rig.machine.next_deadline(), Some(at(limit)));
    rig.tick(limit);
    assert!(matches!(rig.machine.progress(Verb::Failover), Some(Ended::Failed(_))));
    rig.orders();
    rig.checkpoint(1);
    assert!(rig.orders().is_empty(), "a later checkpoint is none of its");

    let mut rig = Rig::protected(config());
    rig.order(0, Verb::Failover);
    rig.lost(1, Loss::Link);
    assert!(matches!(rig.machine.progress(Verb::Failover), Some(Ended::Failed(_))));
    rig.joined(8, 1);
    rig.checkpoint(1);
    assert!(!rig.orders().contains(&Order::Shut), "the plan went with the peer");
}

#[test]
fn the_service_is_handed_over_only_to_a_secondary_that_could_take_it() {
    let mut rig = Rig::protected(config());
    for (judge, refusal) in [
        (Prospect::None, Refusal::NoJudge),
        (Prospect::Unreachable("gone".into()), Refusal::JudgeUnreachable("gone".into())),
    ] {
        assert_eq!(rig.order_with(0, Verb::Failover, judge), Reply::Refused(refusal));
    }
    rig.lost(0, Loss::Link);
    rig.orders();
    rig.refuses(Verb::Failover, Refusal::NotInSync(Standing::Holding, Why::PeerLost));
    let mut fresh = Rig::new(config(), Past::Fresh, None);
    fresh.orders();
    fresh.refuses(Verb::Failover, Refusal::NotInSync(Standing::Passing, Why::Fresh));
}

#[test]
fn a_pause_keeps_the_pair_and_is_taken_back_in_another_term() {
    let mut rig = Rig::paused();
    rig.machine.cut(&mut rig.out);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Paused, "a checkpoint of the pause protects nobody");
    assert!(matches!(rig.order(2, PROMOTE), Reply::Done(_)));
    rig.refuses(Verb::Failover, Refusal::NotInSync(Standing::Paused, Why::Paused));
    assert_eq!(rig.order(3, Verb::Resume), Reply::Begun);
    assert_eq!(rig.orders(), [Order::Anew(90)]);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Paused, "a state of the term before");
    rig.machine.in_sync(&mut rig.out);
    rig.machine.cut(&mut rig.out);
    assert_eq!(rig.standing(), (Standing::Protected, Why::AwaitsCheckpoint));
    assert_eq!(rig.machine.progress(Verb::Resume), None);
    rig.machine.owned(&mut rig.out);
    assert_eq!((rig.machine.term(), rig.standing()), (Some(90), (Standing::Protected, Why::InSync)));
    assert!(matches!(rig.machine.progress(Verb::Resume), Some(Ended::Done(_))));
    assert!(matches!(rig.order(4, Verb::Resume), Reply::Done(_)));
    rig.orders();
    rig.lost(5, Loss::Silent);
    rig.tick(5);
    rig.asks(90);
}

#[test]
fn a_paused_primary_that_loses_its_secondary_has_the_right_already() {
    for resumed in [false, true] {
        let mut rig = Rig::paused();
        if resumed {
            rig.order(2, Verb::Resume);
            rig.orders();
        }
        rig.lost(3, Loss::Link);
        rig.goes_alone(4);
    }
    let mut stuck = Rig::paused();
    stuck.machine.trouble(at(2), Trouble::Stuck, &mut stuck.out);
    stuck.goes_alone(3);
    let mut gone = Rig::paused();
    gone.machine.trouble(at(2), Trouble::Gone, &mut gone.out);
    assert_eq!(gone.standing(), (Standing::Closed, Why::VmGone));
    // An agent after it asks the judge, who says yes again.
    let mut again = Rig::new(config(), Past::Primary, Some(memory(Standing::Paused)));
    again.orders();
    again.tick(0);
    again.asks(1);
}

#[test]
fn without_the_right_nothing_is_paused() {
    let mut rig = Rig::protected(config());
    assert_eq!(rig.order_with(0, Verb::Pause, Prospect::Unfenced), Reply::Refused(Refusal::Unfenced));
    assert_eq!(rig.order_with(0, Verb::Pause, Prospect::None), Reply::Refused(Refusal::NoJudge));
    rig.order(0, Verb::Pause);
    rig.asks_and(1, false);
    rig.answer(1, 1, Answer::None("away".into()));
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)], "they meet again in another term");
    assert!(matches!(rig.machine.progress(Verb::Pause), Some(Ended::Failed(_))));
    rig.joined(5, 5);
    rig.checkpoint(5);
    assert_eq!(rig.orders(), [Order::Resume]);
}

#[test]
fn a_pause_is_asked_for_in_the_term_too_in_which_the_agents_have_met_meanwhile() {
    let mut rig = Rig::protected(config());
    rig.order(0, Verb::Pause);
    rig.asks_and(1, false);
    rig.lost(5, Loss::Link);
    rig.joined(2, 2);
    rig.answer(10, 1, Answer::Yes);
    rig.asks_and(2, false);
    rig.machine.cut(&mut rig.out);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.machine.standing(), Standing::Asking, "the secondary could take over in that term");
    rig.answer(20, 2, Answer::Yes);
    assert_eq!((rig.standing(), rig.machine.term()), ((Standing::Paused, Why::Paused), Some(2)));
}

#[test]
fn a_secondary_that_is_lost_while_the_judge_is_asked_for_a_pause_leaves_this_side_alone() {
    let mut rig = Rig::protected(config());
    rig.order(0, Verb::Pause);
    rig.asks_and(1, false);
    rig.lost(1, Loss::Link);
    rig.answer(2, 1, Answer::Yes);
    rig.goes_alone(3);
    assert!(matches!(rig.machine.progress(Verb::Pause), Some(Ended::Failed(_))));
    rig.refuses(Verb::Resume, Refusal::NotPaused(Standing::Alone));
}

#[test]
fn a_side_that_is_demoted_stays_closed_over_a_restart_of_its_agent() {
    let mut rig = Rig::protected(config());
    assert!(matches!(rig.order(0, Verb::Demote), Reply::Done(_)));
    assert_eq!(rig.orders(), [Order::Shut, Order::Bye(Parting::Closed), Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::Demoted));
    assert!(matches!(rig.order(1, Verb::Demote), Reply::Done(_)));
    assert!(rig.orders().is_empty());
    let again = Rig::new(config(), Past::Primary, rig.kept);
    assert_eq!(again.standing(), (Standing::Closed, Why::AgentRestarted));
}

#[test]
fn a_primary_that_holds_goes_on_by_force_only_without_a_yes() {
    let mut rig = Rig::protected(config());
    assert!(matches!(rig.order(0, PROMOTE), Reply::Done(_)), "it is the service");
    rig.lost(0, Loss::Link);
    rig.orders();
    assert_eq!(rig.order(1, FORCE), Reply::Begun);
    rig.asks(1);
    assert_eq!(rig.order(2, FORCE), Reply::Begun);
    assert!(rig.orders().is_empty(), "the answer is on its way");
    rig.answer(3, 1, Answer::No("the other".into()));
    assert_eq!(rig.standing(), (Standing::TakingOver, Why::Forced));

    let mut refused = Rig::protected(config());
    refused.lost(0, Loss::Silent);
    refused.tick(0);
    refused.answer(1, 1, Answer::No("the other".into()));
    refused.orders();
    assert_eq!(refused.order(2, PROMOTE), Reply::Refused(Refusal::JudgeSaidNo));
    assert_eq!(refused.order(2, FORCE), Reply::Begun);
    refused.asks(1);
    refused.answer(3, 1, Answer::No("the other".into()));
    assert_eq!(refused.standing(), (Standing::TakingOver, Why::Forced));

    let mut silent = Rig::protected(config());
    silent.lost(0, Loss::Silent);
    silent.tick(0);
    silent.asks(1);
    silent.answer(1, 1, Answer::None("away".into()));
    assert_eq!(silent.order(2, PROMOTE), Reply::Begun);
    silent.asks(1);
    silent.answer(3, 1, Answer::None("away".into()));
    assert_eq!(silent.order(4, FORCE), Reply::Begun);
    assert_eq!(silent.standing(), (Standing::TakingOver, Why::Forced));

    let mut nobody = Rig::protected(Config { judged: false, ..config() });
    nobody.lost(0, Loss::Silent);
    nobody.tick(0);
    nobody.orders();
    nobody.refuses(PROMOTE, Refusal::NoJudge);
    assert_eq!(nobody.order(1, FORCE), Reply::Begun);
    assert_eq!(nobody.standing(), (Standing::TakingOver, Why::Forced));
}

#[test]
fn a_forced_primary_that_gets_its_yes_is_not_forced_and_one_whose_peer_is_back_needs_a_checkpoint() {
    let mut rig = Rig::protected(config());
    rig.lost(0, Loss::Link);
    rig.orders();
    rig.order(1, FORCE);
    rig.asks(1);
    rig.answer(2, 1, Answer::Yes);
    rig.goes_alone(3);

    let mut back = Rig::protected(config());
    back.lost(0, Loss::Link);
    back.joined(2, 1);
    back.orders();
    back.refuses(FORCE, Refusal::AwaitsCheckpoint);
}

#[test]
fn an_order_to_go_on_ends_with_the_next_pair() {
    let mut rig = Rig::protected(config());
    rig.lost(0, Loss::Link);
    rig.orders();
    rig.order(1, FORCE);
    rig.asks(1);
    rig.answer(2, 1, Answer::None("away".into()));
    for (step, value) in [
        (Step::LostHeartbeat, json!({})),
        (Step::Mode, json!({ "mode": "none", "last-mode": "primary" })),
        (Step::Runs, json!({ "running": true, "status": "running" })),
    ] {
        rig.machine.done(at(3), step, &Ok(value), &mut rig.out);
    }
    assert_eq!(rig.standing(), (Standing::Alone, Why::Forced));
    rig.joined(5, 5);
    assert_eq!(rig.standing(), (Standing::Passing, Why::Forced));
    rig.checkpoint(5);
    rig.orders();
    rig.lost(10, Loss::Silent);
    rig.tick(10);
    rig.asks(5);
    rig.answer(11, 5, Answer::None("away".into()));
    assert_eq!(rig.standing(), (Standing::Asking, Why::JudgeSilent), "nobody orders it any more");
}

#[test]
fn a_survivor_that_is_closed_beside_a_new_secondary_stays_closed() {
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
    rig.joined(2, 2);
    assert_eq!(rig.machine.standing(), Standing::Passing);
    rig.orders();
    assert!(matches!(rig.order(10, Verb::Demote), Reply::Done(_)));
    rig.closed(Why::Demoted);
    assert_eq!(rig.kept, Some(Memory { term: 2, ..memory(Standing::Closed) }));
    let mut rig = Rig::new(config(), Past::Was, rig.kept);
    rig.closed(Why::AgentRestarted);
}

#[test]
fn a_primary_is_one_already_and_a_closed_one_is_none() {
    let mut rig = Rig::protected(config());
    assert!(matches!(rig.order(0, Verb::Reprotect), Reply::Done(_)));
    assert!(rig.orders().is_empty());
    rig.order(0, Verb::Demote);
    rig.orders();
    rig.refuses(Verb::Reprotect, Refusal::Closed(Why::Demoted));
    // One that goes on from a secondary that took over.
    let kept = memory(Standing::Alone);
    let mut out = Vec::new();
    let mut survivor = Primary::new(config(), kept.claimant, Some(kept), &mut out);
    assert_eq!(survivor.progress(Verb::Reprotect), None, "its QEMU has not said where it is");
    survivor.placed(at(0), Past::Was, &mut out);
    assert_eq!(survivor.standing(), Standing::Alone);
    assert!(matches!(survivor.progress(Verb::Reprotect), Some(Ended::Done(_))));
}

/// It has no term then: that of its own protection is over, and the new one never began.
#[test]
fn a_survivor_that_is_demoted_after_it_has_met_and_lost_a_new_secondary_is_closed_over_restarts() {
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
    rig.joined(5, 5);
    rig.lost(10, Loss::Bye(Parting::VmGone));
    assert_eq!((rig.machine.standing(), rig.machine.term()), (Standing::Alone, None));
    assert!(matches!(rig.order(20, Verb::Demote), Reply::Done(_)));
    rig.orders();
    assert_eq!(rig.kept.map(|kept| kept.standing), Some(Standing::Closed));
    let again = Rig::new(config(), Past::Was, rig.kept);
    assert_eq!(again.standing(), (Standing::Closed, Why::AgentRestarted));
    // So is what it went on alone by, where nobody was asked.
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.joined(6, 6);
    rig.lost(10, Loss::Link);
    rig.orders();
    rig.machine.trouble(at(20), Trouble::Stranded, &mut rig.out);
    rig.runs_alone(30);
    assert_eq!(rig.kept.map(|kept| kept.standing), Some(Standing::Alone));
    let again = Rig::new(config(), Past::Was, rig.kept);
    assert_eq!(again.standing(), (Standing::Alone, Why::JudgeSaidYes));
}

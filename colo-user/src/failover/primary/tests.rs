mod judged;
mod leased;
mod verbs;

use super::*;
use crate::failover::tests::obeyed;
use crate::path::{Fault, Side};
use serde_json::json;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(5);

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn config() -> Config {
    Config { judged: true, vm_limit: Duration::from_secs(2), lease: LEASE, before: Vec::new() }
}

fn memory(standing: Standing) -> Memory {
    Memory { term: 1, next: None, claimant: Claimant([7; 16]), standing }
}

/// A machine and what it ordered since the last look; the memory apart.
struct Rig {
    machine: Primary,
    out: Vec<Order>,
    kept: Option<Memory>,
}

impl Rig {
    fn new(config: Config, past: Past, kept: Option<Memory>) -> Self {
        let mut out = Vec::new();
        let machine = Primary::new(config, Claimant([7; 16]), kept, &mut out);
        assert_eq!(out, [Order::Hold], "nothing leaves before the VM is known");
        let mut rig = Self { machine, out: Vec::new(), kept };
        rig.machine.placed(at(0), past, &mut rig.out);
        rig
    }

    /// In term 1, protected.
    fn protected(config: Config) -> Self {
        let mut rig = Self::new(config, Past::Fresh, None);
        assert_eq!(rig.orders(), [Order::Resume]);
        assert_eq!(rig.standing(), (Standing::Passing, Why::Fresh));
        rig.joined(1, 1);
        rig.machine.cut(&mut rig.out);
        assert_eq!(rig.standing(), (Standing::Protected, Why::AwaitsCheckpoint));
        rig.machine.owned(&mut rig.out);
        assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
        assert!(rig.orders().is_empty());
        assert_eq!(rig.kept, Some(memory(Standing::Protected)));
        rig
    }

    fn orders(&mut self) -> Vec<Order> {
        obeyed(&mut self.out, &mut self.kept)
    }

    fn standing(&self) -> (Standing, Why) {
        (self.machine.standing(), self.machine.why())
    }

    /// A session in which the peer answers; `fresh` is drawn, `expected` offered.
    fn joined(&mut self, fresh: u64, expected: u64) {
        assert_eq!(self.machine.session(fresh, &mut self.out), Some(expected));
        self.machine.in_sync(&mut self.out);
    }

    /// A checkpoint in that session, to its end.
    fn checkpoint(&mut self, expected: u64) {
        self.machine.cut(&mut self.out);
        self.machine.owned(&mut self.out);
        assert_eq!(self.machine.term(), Some(expected));
        assert_eq!(self.standing(), (Standing::Protected, Why::InSync));
    }

    fn lost(&mut self, now: u64, loss: Loss) {
        self.machine.lost(at(now), loss, &mut self.out);
    }

    fn tick(&mut self, now: u64) {
        if self.machine.next_deadline().is_some_and(|deadline| deadline <= at(now)) {
            self.machine.tick(at(now), &mut self.out);
        }
    }

    fn asks(&mut self, term: u64) {
        self.asks_and(term, true);
    }

    fn asks_and(&mut self, term: u64, fence: bool) {
        let orders = self.orders();
        let ask = Order::Ask { term, claimant: Claimant([7; 16]), fence };
        assert_eq!(orders.last(), Some(&ask), "{orders:?}");
        assert_eq!(self.machine.standing(), Standing::Asking);
        assert_eq!(self.kept.map(|kept| kept.standing), Some(Standing::Asking), "it may have the yes by now");
    }

    fn answer(&mut self, now: u64, term: u64, answer: Answer) {
        self.machine.answer(at(now), term, &answer, &mut self.out);
    }

    /// After a yes: what is said to QEMU until its guest runs, and the end.
    fn goes_alone(&mut self, now: u64) {
        let orders = self.orders();
        assert!(matches!(
            &orders[..],
            [Order::Bye(Parting::TookOver), Order::Command(Step::LostHeartbeat, _)]
        ));
        assert_eq!(self.standing(), (Standing::TakingOver, Why::JudgeSaidYes));
        self.runs_alone(now);
        assert_eq!(self.standing(), (Standing::Alone, Why::JudgeSaidYes));
        assert_eq!(self.kept, Some(memory(Standing::Alone)));
    }

    /// QEMU does as it is told.
    fn runs_alone(&mut self, now: u64) {
        for (step, value) in [
            (Step::LostHeartbeat, json!({})),
            (Step::Mode, json!({ "mode": "none", "last-mode": "primary" })),
            (Step::Runs, json!({ "running": true, "status": "running" })),
        ] {
            assert_eq!(self.machine.standing(), Standing::TakingOver);
            self.machine.done(at(now), step, &Ok(value), &mut self.out);
        }
        assert_eq!(self.orders().last(), Some(&Order::Open));
    }

    fn closed(&mut self, why: Why) {
        let mut orders = self.orders();
        if !matches!(why, Why::VmGone | Why::WrongRole) {
            assert_eq!(orders.pop(), Some(Order::halt()), "the guest stands still");
        }
        assert_eq!(orders, [Order::Shut, Order::Bye(Parting::Closed)]);
        assert_eq!(self.standing(), (Standing::Closed, why));
        assert_eq!(self.machine.next_deadline(), None);
    }
}

#[test]
fn a_lost_link_has_a_grace_and_then_the_judge_decides() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Link);
    assert_eq!(rig.orders(), [Order::Hold]);
    assert_eq!(rig.standing(), (Standing::Holding, Why::PeerLost));
    rig.tick(10_999);
    assert!(rig.orders().is_empty());
    rig.tick(11_000);
    rig.asks(1);
    rig.answer(11_010, 1, Answer::Yes);
    rig.goes_alone(11_020);
}

#[test]
fn no_answer_means_holding_on_and_asking_again() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Bye(Parting::VmGone));
    rig.tick(10_000);
    for round in 0..20 {
        let now = 10_000 + round * 1000;
        rig.tick(now);
        rig.asks(1);
        rig.answer(now, 1, Answer::None("away".into()));
        assert_eq!(rig.standing(), (Standing::Asking, Why::JudgeSilent));
        assert!(rig.orders().is_empty(), "nothing is released");
        rig.tick(now + 999);
        assert!(rig.orders().is_empty());
    }
    rig.tick(30_000);
    rig.asks(1);
    rig.answer(30_000, 1, Answer::Yes);
    rig.goes_alone(30_010);
}

#[test]
fn without_a_judge_it_holds_and_an_unknown_term_cannot_be_asked_for() {
    let mut rig = Rig::protected(Config { judged: false, ..config() });
    rig.lost(10_000, Loss::Silent);
    rig.tick(10_000);
    assert_eq!(rig.orders(), [Order::Hold]);
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Holding, Why::NoJudge), None));
    rig.joined(2, 1);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Resume]);

    let mut rig = Rig::new(config(), Past::Primary, None);
    rig.tick(0);
    assert_eq!(rig.orders(), [Order::Hold]);
    assert_eq!(rig.standing(), (Standing::Holding, Why::TermUnknown));
}

#[test]
fn a_short_loss_goes_on_in_the_same_term_after_a_checkpoint() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Link);
    rig.joined(2, 1);
    assert_eq!(rig.orders(), [Order::Hold], "held stays held");
    assert_eq!(rig.standing(), (Standing::Holding, Why::AwaitsCheckpoint));
    rig.tick(60_000);
    assert!(rig.orders().is_empty(), "it asks for nothing while the peer is there");
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Resume]);
    assert_eq!(rig.standing(), (Standing::Protected, Why::InSync));
}

#[test]
fn a_question_while_the_session_is_begun_ends_the_session() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Link);
    assert_eq!(rig.machine.session(2, &mut rig.out), Some(1));
    rig.tick(11_000);
    rig.asks(1);
    rig.machine.in_sync(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)]);
    rig.lost(11_010, Loss::Link);
    assert_eq!(rig.machine.standing(), Standing::Asking);
    rig.joined(3, 3);
}

#[test]
fn a_guest_that_stands_still_for_a_pair_that_never_was_goes_on_without_it() {
    let troubles = [
        (Trouble::Stranded, Why::LeftColo),
        (Trouble::Stuck, Why::CheckpointOverdue),
        (Trouble::NoCheckpoint, Why::CheckpointOverdue),
    ];
    for (trouble, why) in troubles {
        let fresh = Rig::new(config(), Past::Fresh, None);
        let survivor = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
        let mut again = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
        again.joined(2, 2);
        let all = [(fresh, Standing::Passing), (survivor, Standing::Alone), (again, Standing::Passing)];
        for (mut rig, standing) in all {
            rig.orders();
            // As one has it for good that has left COLO.
            rig.machine.trouble(at(10), Trouble::LeftColo, &mut rig.out);
            assert_eq!((rig.machine.standing(), rig.orders()), (standing, Vec::new()));
            rig.machine.trouble(at(20), trouble, &mut rig.out);
            assert_eq!(rig.standing(), (Standing::TakingOver, why));
            assert_eq!(rig.orders()[0], Order::Bye(Parting::TookOver));
            rig.runs_alone(30);
            assert_eq!(rig.standing(), (Standing::Alone, why));
        }
    }
    // In a pair the judge is asked, as for every end of COLO.
    let mut rig = Rig::protected(config());
    rig.machine.trouble(at(10), Trouble::Stranded, &mut rig.out);
    assert_eq!(rig.standing(), (Standing::Holding, Why::LeftColo));
}

#[test]
fn leaving_colo_and_an_overdue_checkpoint_go_to_the_judge_at_once() {
    let troubles = [
        (Trouble::LeftColo, Why::LeftColo),
        (Trouble::Stuck, Why::CheckpointOverdue),
        (Trouble::NoCheckpoint, Why::CheckpointOverdue),
    ];
    for (trouble, why) in troubles {
        let mut rig = Rig::protected(config());
        rig.machine.trouble(at(10_000), trouble, &mut rig.out);
        assert_eq!(rig.standing(), (Standing::Holding, why));
        rig.tick(10_000);
        rig.asks(1);
        rig.machine.trouble(at(10_001), trouble, &mut rig.out);
        assert!(rig.orders().is_empty());
        rig.answer(10_010, 1, Answer::Yes);
        rig.goes_alone(10_020);
    }
}

#[test]
fn a_checkpoint_that_was_only_slow_and_a_judge_that_is_away_begin_another_term() {
    let mut rig = Rig::protected(config());
    rig.machine.trouble(at(10_000), Trouble::Stuck, &mut rig.out);
    rig.tick(10_000);
    rig.asks(1);
    rig.machine.owned(&mut rig.out);
    assert!(rig.orders().is_empty(), "the question is out");
    rig.answer(10_500, 1, Answer::None("away".into()));
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)]);
    rig.lost(10_510, Loss::Link);
    rig.joined(2, 2);
}

#[test]
fn a_vm_that_is_gone_or_frozen_closes_at_once_wherever_it_stood() {
    for (trouble, why) in [(Trouble::Gone, Why::VmGone), (Trouble::Frozen, Why::VmFrozen)] {
        let mut rig = Rig::protected(config());
        rig.machine.trouble(at(10_000), trouble, &mut rig.out);
        rig.closed(why);
        let mut rig = Rig::protected(config());
        rig.lost(10_000, Loss::Silent);
        rig.tick(10_000);
        rig.asks(1);
        rig.machine.trouble(at(10_001), trouble, &mut rig.out);
        rig.closed(why);
        rig.answer(10_010, 1, Answer::Yes);
        assert!(rig.orders().is_empty());
    }
    // Unprotected there is nobody to close for.
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.orders();
    rig.machine.trouble(at(1), Trouble::Frozen, &mut rig.out);
    assert!(rig.orders().is_empty());
    rig.machine.trouble(at(1), Trouble::Gone, &mut rig.out);
    assert_eq!(rig.orders(), [Order::Hold]);
    rig.machine.placed(at(2), Past::Fresh, &mut rig.out);
    assert_eq!(rig.orders(), [Order::Resume], "another VM");
}

#[test]
fn a_peer_that_took_over_closes_also_a_vm_that_was_started_anew() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Bye(Parting::TookOver));
    rig.closed(Why::PeerTookOver);
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.orders();
    rig.machine.session(1, &mut rig.out);
    rig.lost(10_000, Loss::Bye(Parting::TookOver));
    rig.closed(Why::PeerTookOver);
    rig.machine.placed(at(10_001), Past::Primary, &mut rig.out);
    assert_eq!(rig.orders(), [Order::halt()], "also one that was not heard when it was told first");
}

#[test]
fn a_peer_that_is_lost_before_the_first_cut_changes_nothing() {
    let mut rig = Rig::new(config(), Past::Fresh, None);
    rig.orders();
    rig.joined(1, 1);
    rig.lost(10_000, Loss::Link);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.machine.standing(), Standing::Passing);
    // From the cut on the secondary may own a state.
    rig.joined(2, 2);
    rig.machine.cut(&mut rig.out);
    rig.lost(10_000, Loss::Silent);
    assert_eq!(rig.orders(), [Order::Hold]);
    rig.tick(10_000);
    rig.asks(2);
}

#[test]
fn an_agent_started_again_never_passes_by_itself() {
    for stood in [Standing::Protected, Standing::Holding] {
        let mut rig = Rig::new(config(), Past::Primary, Some(memory(stood)));
        assert_eq!(rig.orders(), [Order::Hold]);
        assert_eq!(rig.standing(), (Standing::Holding, Why::AgentRestarted));
        // It seeks its peer in the same term,
        let mut found = Rig { machine: rig.machine.clone(), out: Vec::new(), kept: None };
        found.joined(9, 1);
        found.checkpoint(1);
        assert_eq!(found.orders(), [Order::Resume]);
        // or asks.
        rig.tick(4_999);
        assert!(rig.orders().is_empty());
        rig.tick(5_000);
        rig.asks(1);
    }
    for stood in [Standing::Asking, Standing::TakingOver] {
        let mut rig = Rig::new(config(), Past::Primary, Some(memory(stood)));
        rig.tick(0);
        rig.asks(1);
        rig.joined(9, 9);
    }
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Protected)));
    rig.tick(0);
    rig.asks(1);
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
    assert_eq!(rig.orders(), [Order::Open], "the judge never takes a yes back");
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Closed)));
    rig.closed(Why::AgentRestarted);
    let mut rig = Rig::new(config(), Past::Secondary, None);
    rig.closed(Why::WrongRole);
    let mut rig = Rig::new(config(), Past::Fresh, Some(memory(Standing::Closed)));
    assert_eq!(rig.orders(), [Order::Resume], "another VM");
}

#[test]
fn a_survivor_is_protected_again_in_another_term() {
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
    rig.orders();
    rig.lost(1, Loss::Link);
    assert_eq!(rig.machine.session(2, &mut rig.out), Some(2));
    assert!(rig.orders().is_empty(), "nobody has answered yet");
    assert_eq!(rig.machine.standing(), Standing::Alone);
    rig.machine.in_sync(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Guard]);
    assert_eq!((rig.machine.standing(), rig.machine.is_service()), (Standing::Passing, true));
    assert_eq!(rig.kept, Some(memory(Standing::Alone)), "started again before the first cut it is alone");
    rig.machine.cut(&mut rig.out);
    rig.machine.owned(&mut rig.out);
    rig.orders();
    assert_eq!(rig.kept, Some(Memory { term: 2, ..memory(Standing::Protected) }));
}

#[test]
fn a_lost_link_beside_a_living_secondary_is_said_so_and_a_silent_one_is_not_waited_for() {
    let mut rig = Rig::protected(config());
    rig.machine.elsewhere(at(0), Elsewhere::Alive);
    rig.lost(1000, Loss::Link);
    assert_eq!(rig.standing(), (Standing::Holding, Why::LinkLost));
    assert_eq!(rig.orders(), [Order::Hold]);
    rig.tick(1500);
    assert!(rig.orders().is_empty(), "the link may come back");
    rig.machine.elsewhere(at(1600), Elsewhere::Silent);
    assert_eq!(rig.standing(), (Standing::Holding, Why::PeerSilent));
    rig.tick(1600);
    rig.asks(1);
    // What is heard meanwhile changes nothing: the judge was asked.
    rig.machine.elsewhere(at(1700), Elsewhere::Alive);
    assert_eq!(rig.standing(), (Standing::Asking, Why::PeerSilent));
    rig.answer(1800, 1, Answer::Yes);
    rig.goes_alone(1900);
}

#[test]
fn a_lost_link_alone_costs_the_secondary_after_the_grace() {
    let mut rig = Rig::protected(config());
    rig.machine.elsewhere(at(0), Elsewhere::Alive);
    rig.lost(1000, Loss::Link);
    rig.orders();
    rig.tick(1999);
    assert!(rig.orders().is_empty());
    rig.tick(2000);
    rig.asks(1);
}

#[test]
fn a_primary_whose_interface_is_gone_closes_as_one_without_carrier_and_says_which() {
    for (side, fault, why) in [
        (Side::Uplink, Fault::NoCarrier, Why::UplinkDark),
        (Side::Uplink, Fault::Gone, Why::UplinkLost),
        (Side::Uplink, Fault::Taken(7), Why::UplinkLost),
        (Side::Guest, Fault::Moved, Why::GuestLost),
        (Side::Guest, Fault::NoCarrier, Why::GuestLost),
    ] {
        let mut rig = Rig::protected(config());
        assert_eq!(Why::of_path(side, &fault), why);
        for now in [1000, 1999] {
            rig.machine.path(at(now), Some(why), true, &mut rig.out);
            assert!(rig.orders().is_empty(), "it may be made anew at once");
        }
        rig.machine.path(at(2000), Some(why), true, &mut rig.out);
        rig.closed(why);
        assert!(why.way_out().is_some());
    }
}

#[test]
fn a_primary_without_carrier_closes_for_a_secondary_that_could_take_over() {
    let dark = |rig: &mut Rig, now, relief| {
        rig.machine.path(at(now), Some(Why::UplinkDark), relief, &mut rig.out);
    };
    let mut rig = Rig::protected(config());
    dark(&mut rig, 1000, true);
    rig.machine.path(at(1500), None, true, &mut rig.out);
    dark(&mut rig, 1900, true);
    dark(&mut rig, 2899, true);
    assert!(rig.orders().is_empty(), "it was away for less than a second, twice");
    dark(&mut rig, 2900, false);
    assert!(rig.orders().is_empty(), "the secondary is no better");
    dark(&mut rig, 2901, true);
    rig.closed(Why::UplinkDark);

    // Nobody would answer for the one that takes over.
    let mut rig = Rig::protected(Config { judged: false, ..config() });
    dark(&mut rig, 1000, true);
    dark(&mut rig, 9000, true);
    assert!(rig.orders().is_empty());
    // A secondary that does not own the state, or is not there.
    let mut rig = Rig::protected(config());
    dark(&mut rig, 0, true);
    rig.lost(1000, Loss::Link);
    rig.orders();
    dark(&mut rig, 1999, true);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.standing(), (Standing::Holding, Why::PeerLost));
}

#[test]
fn a_survivor_whose_new_secondary_leaves_before_there_is_a_pair_is_alone_as_before() {
    let mut rig = Rig::new(config(), Past::Was, Some(memory(Standing::Alone)));
    rig.orders();
    // One that does not answer changes nothing.
    assert_eq!(rig.machine.session(2, &mut rig.out), Some(2));
    rig.lost(1, Loss::Bye(Parting::VmGone));
    assert!(rig.orders().is_empty());
    rig.joined(3, 3);
    rig.orders();
    rig.lost(2, Loss::Link);
    assert_eq!(rig.orders(), [Order::Open]);
    assert_eq!(rig.machine.standing(), Standing::Alone);
    rig.joined(4, 4);
    rig.checkpoint(4);
    assert!(!rig.machine.is_service());
}

#[test]
fn a_yes_without_a_fence_is_asked_for_again() {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Bye(Parting::VmGone));
    rig.tick(10_000);
    rig.asks(1);
    rig.answer(10_010, 1, Answer::NotFenced("exit status 1".into()));
    assert!(rig.orders().is_empty());
    assert_eq!(rig.standing(), (Standing::Asking, Why::NotFenced));
    rig.tick(11_010);
    rig.asks(1);
    rig.answer(11_020, 1, Answer::Yes);
    rig.goes_alone(11_030);
}

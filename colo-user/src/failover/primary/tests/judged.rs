use super::*;

#[test]
fn no_means_closed_for_good_unless_the_secondary_comes_back_in_another_term() {
    let refused = || {
        let mut rig = Rig::protected(config());
        rig.lost(10_000, Loss::Silent);
        rig.tick(10_000);
        rig.asks(1);
        rig.answer(10_010, 1, Answer::No("the other".into()));
        assert_eq!(rig.standing(), (Standing::Holding, Why::JudgeSaidNo));
        assert_eq!(rig.orders(), [Order::Hold]);
        rig
    };
    // Whoever has the yes and uses it says so.
    let mut rig = refused();
    rig.lost(11_000, Loss::Bye(Parting::TookOver));
    rig.closed(Why::PeerTookOver);
    // One that has asked and was started again does not.
    let mut rig = refused();
    rig.joined(2, 2);
    assert_eq!(rig.machine.next_deadline(), None);
    rig.checkpoint(2);
    assert_eq!(rig.orders(), [Order::Resume]);
    rig.lost(20_000, Loss::Silent);
    rig.tick(20_000);
    rig.asks(2);
    // Sessions that come to nothing give it no more time.
    let mut rig = refused();
    rig.joined(2, 2);
    rig.lost(15_000, Loss::Link);
    rig.orders();
    rig.tick(22_509);
    assert!(rig.orders().is_empty());
    rig.tick(22_510);
    rig.closed(Why::JudgeSaidNo);
    assert_eq!(rig.machine.session(2, &mut rig.out), None);
    assert_eq!(rig.orders(), [Order::Bye(Parting::Closed)]);
    rig.machine.placed(at(20_000), Past::Fresh, &mut rig.out);
    rig.answer(20_000, 1, Answer::Yes);
    assert!(rig.orders().is_empty());
    assert_eq!(rig.kept, Some(memory(Standing::Closed)));
}

/// A rig that has asked in term 1, and whose peer is back in term 2.
fn asked_and_joined() -> Rig {
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Silent);
    rig.tick(10_000);
    rig.asks(1);
    rig.joined(2, 2);
    assert_eq!(rig.machine.standing(), Standing::Asking, "the old term is good until there is a new state");
    rig
}

#[test]
fn after_a_question_the_agents_meet_in_another_term() {
    let mut rig = asked_and_joined();
    rig.checkpoint(2);
    assert_eq!(rig.orders(), [Order::Resume]);
    rig.answer(12_000, 1, Answer::Yes);
    rig.answer(12_000, 1, Answer::No("late".into()));
    assert!(rig.orders().is_empty(), "nobody listens to the old term");
    // The secondary has asked in term 2.
    rig.lost(20_000, Loss::Bye(Parting::Refused));
    rig.joined(3, 3);
    rig.checkpoint(3);
}

#[test]
fn before_the_cut_an_answer_of_the_old_term_counts() {
    let mut rig = asked_and_joined();
    rig.answer(10_100, 1, Answer::Yes);
    rig.goes_alone(10_110);
    let mut rig = asked_and_joined();
    rig.answer(10_100, 1, Answer::No("the other".into()));
    assert_eq!((rig.standing(), rig.machine.next_deadline()), ((Standing::Holding, Why::JudgeSaidNo), None));
    rig.lost(30_000, Loss::Silent);
    rig.orders();
    rig.tick(30_000);
    rig.closed(Why::JudgeSaidNo);
}

#[test]
fn after_the_cut_it_takes_a_yes_in_both_terms() {
    let cut = || {
        let mut rig = asked_and_joined();
        rig.machine.cut(&mut rig.out);
        rig.orders();
        assert_eq!(rig.kept, Some(Memory { next: Some(2), ..memory(Standing::Asking) }));
        rig.lost(10_500, Loss::Link);
        rig.answer(10_600, 1, Answer::Yes);
        assert_eq!(rig.machine.standing(), Standing::Asking);
        rig.asks(2);
        rig
    };
    let mut rig = cut();
    rig.answer(10_700, 2, Answer::Yes);
    assert_eq!(rig.machine.standing(), Standing::TakingOver);
    let mut rig = cut();
    rig.answer(10_700, 2, Answer::No("the other has loaded".into()));
    assert_eq!(rig.standing(), (Standing::Holding, Why::JudgeSaidNo));
    rig.orders();
    rig.tick(30_000);
    rig.closed(Why::JudgeSaidNo);
    // Also when the agent is started again in between.
    let kept = Memory { next: Some(2), ..memory(Standing::Asking) };
    let mut rig = Rig::new(config(), Past::Primary, Some(kept));
    rig.tick(0);
    rig.asks(1);
    rig.answer(10, 1, Answer::Yes);
    rig.asks(2);
    // A session that comes before the answer goes on in the new term.
    let mut rig = Rig::new(config(), Past::Primary, Some(kept));
    rig.joined(9, 2);
}

#[test]
fn a_secondary_that_says_closed_is_not_shut_off() {
    for (loss, fence) in [(Loss::Bye(Parting::Closed), false), (Loss::Bye(Parting::VmGone), true)] {
        let mut rig = Rig::protected(config());
        rig.lost(10_000, loss);
        rig.tick(10_000);
        rig.asks_and(1, fence);
        rig.answer(10_010, 1, Answer::None("away".into()));
        rig.tick(12_000);
        rig.asks_and(1, fence);
        rig.answer(12_010, 1, Answer::Yes);
        rig.goes_alone(12_020);
    }
}

/// An agent that was started again while the secondary's answered: nothing else would ever end the wait.
#[test]
fn a_primary_that_awaits_a_checkpoint_in_vain_asks_although_the_peer_is_there() {
    for (trouble, why) in [
        (Trouble::NoCheckpoint, Why::CheckpointOverdue),
        (Trouble::Stuck, Why::CheckpointOverdue),
        (Trouble::LeftColo, Why::LeftColo),
    ] {
        let mut rig = Rig::new(config(), Past::Primary, Some(memory(Standing::Protected)));
        rig.orders();
        rig.joined(2, 1);
        assert_eq!(rig.standing(), (Standing::Holding, Why::AwaitsCheckpoint));
        rig.machine.trouble(at(4000), trouble, &mut rig.out);
        assert_eq!((rig.standing(), rig.orders()), ((Standing::Holding, why), vec![Order::Hold]));
        rig.tick(4000);
        rig.asks(1);
        // It is found again and again, and changes nothing.
        rig.machine.trouble(at(4001), trouble, &mut rig.out);
        assert!(rig.orders().is_empty());
        rig.answer(4010, 1, Answer::Yes);
        rig.goes_alone(4020);
    }
}

use super::*;

#[test]
fn a_primary_whose_lease_is_over_leaves_its_peer_and_meets_it_again_with_the_lease() {
    let mut rig = Rig::protected(config());
    rig.machine.tenure(at(10_000), &Tenure::Held(1), &mut rig.out);
    assert!(rig.orders().is_empty());
    rig.machine.tenure(at(10_000), &Tenure::Over, &mut rig.out);
    assert_eq!(rig.orders(), [Order::Hold, Order::Bye(Parting::Left)]);
    assert_eq!(rig.standing(), (Standing::Holding, Why::LeaseOver));
    // Whoever reaches the judge may follow: not while this side is met.
    assert_eq!(rig.machine.session(2, &mut rig.out), None);
    assert_eq!(rig.orders(), [Order::Bye(Parting::Left)]);
    rig.machine.tenure(at(11_000), &Tenure::Held(1), &mut rig.out);
    rig.joined(2, 1);
    assert_eq!(rig.standing(), (Standing::Holding, Why::AwaitsCheckpoint));
    rig.checkpoint(1);
    assert_eq!(rig.orders(), [Order::Resume]);
    // It does not come back in time.
    rig.machine.tenure(at(20_000), &Tenure::Over, &mut rig.out);
    rig.tick(24_999);
    assert_eq!(rig.orders(), [Order::Hold, Order::Bye(Parting::Left)]);
    rig.tick(25_000);
    rig.asks(1);
}

#[test]
fn whose_lease_another_has_had_is_closed_wherever_it_stands() {
    let taken = Tenure::Taken("the other".into());
    let mut rig = Rig::protected(config());
    rig.machine.tenure(at(10_000), &taken, &mut rig.out);
    assert_eq!(rig.orders(), [Order::Shut, Order::Bye(Parting::Closed), Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::LeaseTaken));
    // A checkpoint that fails lets the guest run on.
    rig.machine.ran(&mut rig.out);
    assert_eq!(rig.orders(), [Order::halt()]);
    rig.machine.tenure(at(10_001), &taken, &mut rig.out);
    assert!(rig.orders().is_empty());

    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Bye(Parting::VmGone));
    rig.tick(10_000);
    rig.asks(1);
    rig.answer(10_010, 1, Answer::Yes);
    rig.goes_alone(10_020);
    rig.orders();
    rig.machine.tenure(at(60_000), &Tenure::Over, &mut rig.out);
    assert!(rig.orders().is_empty(), "XDP lets nothing out, and nobody else is there");
    assert_eq!(rig.machine.standing(), Standing::Alone);
    rig.machine.tenure(at(70_000), &taken, &mut rig.out);
    assert_eq!(rig.orders()[0], Order::Shut);
    assert_eq!(rig.kept.map(|kept| kept.standing), Some(Standing::Closed));
}

/// Who has had the lease may have had it by a claim that came too late for its term.
#[test]
fn who_has_asked_waits_for_the_answer_although_another_has_had_the_lease() {
    let taken = Tenure::Taken("the other".into());
    let asking = || {
        let mut rig = Rig::protected(config());
        rig.lost(10_000, Loss::Silent);
        rig.tick(10_000);
        rig.asks(1);
        rig.machine.tenure(at(10_001), &taken, &mut rig.out);
        assert_eq!((rig.machine.standing(), rig.orders()), (Standing::Asking, Vec::new()));
        rig
    };
    let mut rig = asking();
    rig.answer(10_010, 1, Answer::None("away".into()));
    rig.tick(11_010);
    rig.asks(1);
    rig.answer(11_020, 1, Answer::Yes);
    rig.goes_alone(11_030);
    let mut rig = asking();
    rig.answer(10_010, 1, Answer::No("the other".into()));
    rig.closed(Why::LeaseTaken);
    // The agents had met again, and nobody listens to the answer any more.
    let mut rig = Rig::protected(config());
    rig.lost(10_000, Loss::Silent);
    rig.tick(10_000);
    rig.asks(1);
    rig.joined(2, 2);
    rig.machine.tenure(at(10_001), &taken, &mut rig.out);
    rig.machine.cut(&mut rig.out);
    rig.machine.owned(&mut rig.out);
    assert_eq!(rig.orders(), [Order::Shut, Order::Bye(Parting::Closed), Order::halt()]);
    assert_eq!(rig.standing(), (Standing::Closed, Why::LeaseTaken));
    // It is had again.
    let mut rig = asking();
    rig.machine.tenure(at(10_005), &Tenure::Held(9), &mut rig.out);
    rig.joined(2, 2);
    rig.checkpoint(2);
    assert_eq!(rig.orders(), [Order::Resume]);
}

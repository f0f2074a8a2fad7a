use super::*;
use crate::agent::primary::tests::Rig;
use crate::compare::Token;
use crate::epoch::Epoch;
use crate::link::frame::{AskReason, Heartbeat};
use crate::vm::Moment;

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

/// Stood still from 100 ms to 110 ms.
fn silence() -> Silence {
    let moment = |ms| Moment { after: at(90), before: at(120), at: Some(at(ms)) };
    Silence::between(moment(100), moment(110))
}

const PLACED: Told = Told::Placed { colo: false, stopped: false, missed: false };

/// A primary whose QEMU is not in COLO yet, with a secondary that has answered its session.
fn met() -> Rig {
    let mut rig = Rig::following();
    rig.told(PLACED);
    rig.connect();
    rig.hear(&Message::Begin(rig.core.epoch())).unwrap();
    rig.effects.clear();
    rig
}

/// A checkpoint at the primary, as far as its own QEMU tells.
fn checkpoint(rig: &mut Rig, entry: bool) {
    rig.told(Told::Stopped);
    rig.core.copied(entry, (7, true), Vec::new(), Some(&mut rig.outbox));
    rig.told(Told::Ran(silence()));
}

/// The secondary owns the next state.
fn owned(rig: &mut Rig) {
    let epoch = rig.core.epoch();
    rig.hear(&Message::End(epoch)).unwrap();
    rig.hear(&Message::Begin(epoch.next())).unwrap();
}

fn drained(rig: &mut Rig) -> bool {
    rig.core.drained(rig.now, Some(&mut rig.outbox), &mut rig.effects)
}

fn in_colo() -> Rig {
    let mut rig = met();
    checkpoint(&mut rig, true);
    drained(&mut rig);
    owned(&mut rig);
    assert_eq!(rig.core.protection(), Protection::Protected);
    rig.effects.clear();
    rig
}

#[test]
fn until_colo_everything_leaves_at_once_and_from_then_on_it_waits_for_the_secondary() {
    let mut rig = met();
    assert_eq!(rig.core.protection(), Protection::Not(Reason::NotInColo));
    rig.say(1);
    assert_eq!(rig.effects, [Effect::Release(Token(1))]);
    checkpoint(&mut rig, true);
    assert_eq!(rig.core.protection(), Protection::Not(Reason::CheckpointDue));
    assert_eq!(rig.core.place(at(104)), Place::Now, "said before it was copied");
    assert_eq!(rig.core.place(at(106)), Place::Wait, "of the next epoch");
    rig.say(2);
    assert_eq!(rig.effects.len(), 1, "held");
    owned(&mut rig);
    assert_eq!(rig.effects.len(), 1, "not drained yet");
    assert!(drained(&mut rig));
    assert!(rig.effects.contains(&Effect::Release(Token(2))));
    assert_eq!((rig.core.protection(), rig.core.place(at(106))), (Protection::Protected, Place::Now));
}

#[test]
fn the_secondarys_word_and_the_own_guests_are_both_needed_in_whatever_order() {
    for secondary_first in [true, false] {
        let mut rig = in_colo();
        rig.say(3);
        rig.told(Told::Stopped);
        rig.core.copied(false, (9, true), Vec::new(), Some(&mut rig.outbox));
        if secondary_first {
            owned(&mut rig);
            assert!(!drained(&mut rig), "its own guest still stands");
            rig.told(Told::Ran(silence()));
            assert!(drained(&mut rig));
        } else {
            rig.told(Told::Ran(silence()));
            assert!(!drained(&mut rig));
            assert_eq!(rig.effects, [], "held");
            owned(&mut rig);
        }
        assert!(rig.effects.contains(&Effect::Release(Token(3))));
    }
}

#[test]
fn two_checkpoints_before_the_first_answer_are_answered_one_by_one() {
    let mut rig = in_colo();
    let epoch = rig.core.epoch();
    checkpoint(&mut rig, false);
    checkpoint(&mut rig, false);
    drained(&mut rig);
    let cuts = |rig: &mut Rig| rig.said().iter().filter(|m| m.starts_with("InputCut")).count();
    cuts(&mut rig);
    owned(&mut rig);
    assert_eq!((rig.core.epoch(), cuts(&mut rig)), (epoch.next(), 1), "the second is sent now");
    assert!(rig.hear(&Message::Begin(Epoch(epoch.0 + 3))).is_err());
    drained(&mut rig);
    owned(&mut rig);
    assert_eq!(rig.core.epoch(), Epoch(epoch.0 + 2));
}

#[test]
fn an_operators_stop_is_nothing() {
    let mut rig = in_colo();
    let pauses = rig.core.pauses();
    assert_eq!((pauses.count, pauses.max_us), (1, 10_000), "of the entry");
    rig.told(Told::Stopped);
    rig.told(Told::Continued);
    assert_eq!(rig.core.pauses(), pauses);
    assert_eq!((rig.core.place(at(1)), rig.core.protection()), (Place::Now, Protection::Protected));
    assert_eq!(rig.effects, []);
}

#[test]
fn a_stop_before_the_sessions_answer_begins_it_anew() {
    let mut rig = Rig::following();
    rig.told(PLACED);
    rig.connect();
    rig.told(Told::Stopped);
    let first = rig.core.epoch();
    rig.hear(&Message::Begin(first)).unwrap();
    assert_eq!(rig.core.epoch(), first, "not while it stands");
    rig.told(Told::Continued);
    rig.core.settle_session(rig.now, Some(&mut rig.outbox));
    assert_eq!(rig.core.epoch(), Epoch(first.0 + 2));
    rig.hear(&Message::End(first)).unwrap();
    rig.hear(&Message::Begin(first.next())).unwrap();
    assert!(rig.core.following.as_ref().is_some_and(|f| !f.ready), "of the session before");
    rig.hear(&Message::Begin(rig.core.epoch())).unwrap();
    assert!(rig.core.following.as_ref().is_some_and(|f| f.ready));
}

/// Whatever ends the common epoch, what is held stays so until a checkpoint that is seen from its beginning.
#[test]
fn what_ends_the_common_epoch_holds_everything() {
    type End = fn(&mut Rig);
    let ends: [(&str, Reason, End); 4] = [
        ("link", Reason::PeerLost, |rig| rig.core.lost(rig.now, Reason::PeerLost, &mut rig.effects)),
        ("monitor", Reason::MonitorLost, |rig| rig.told(Told::Unheard)),
        ("exit", Reason::LeftColo, |rig| rig.told(Told::Left)),
        ("secondary", Reason::CheckpointDue, |rig| {
            rig.hear(&Message::Ask(AskReason::EpochsInDoubt)).unwrap();
        }),
    ];
    for (name, reason, end) in ends {
        let mut rig = in_colo();
        rig.say(4);
        end(&mut rig);
        assert_eq!(rig.core.protection(), Protection::Not(reason), "{name}");
        rig.say(5);
        let released = |rig: &Rig| rig.effects.iter().any(|effect| matches!(effect, Effect::Release(_)));
        assert!(!released(&rig) && rig.core.held() == 2, "{name}: {:?}", rig.effects);
        if name == "monitor" {
            assert_eq!(rig.core.place(at(1)), Place::Wait, "of no known epoch");
            continue;
        }
        rig.effects.clear();
        assert_eq!(rig.core.has_left_colo(), name == "exit");
        rig.core.go_on_alone(rig.now, &mut rig.effects);
        assert_eq!(rig.effects[..2], [Effect::Release(Token(4)), Effect::Release(Token(5))], "{name}");
        assert!(!rig.core.has_left_colo());
    }
}

#[test]
fn agents_that_meet_in_colo_hold_and_ask_for_a_checkpoint() {
    let mut rig = Rig::following();
    rig.told(Told::Placed { colo: true, stopped: false, missed: false });
    rig.say(1);
    assert_eq!((rig.effects.len(), rig.core.held()), (0, 1));
    rig.connect();
    rig.hear(&Message::Begin(rig.core.epoch())).unwrap();
    assert_eq!(rig.asked(), ["session"]);
    checkpoint(&mut rig, false);
    drained(&mut rig);
    owned(&mut rig);
    assert_eq!((rig.core.protection(), rig.core.held()), (Protection::Protected, 0));
}

#[test]
fn what_was_said_before_going_on_alone_and_is_taken_in_colo_leaves() {
    let mut rig = met();
    rig.core.go_on_alone(rig.now, &mut rig.effects);
    // The same look at the monitor that took these has found the entry.
    checkpoint(&mut rig, true);
    rig.say(1);
    rig.say(2);
    assert_eq!((rig.core.held(), rig.effects.len()), (2, 0));
    rig.core.let_out(rig.now, &mut rig.effects);
    assert_eq!(rig.effects, [Effect::Release(Token(1)), Effect::Release(Token(2))]);
    assert_eq!(rig.core.held(), 0);
}

#[test]
fn one_that_went_on_alone_in_colo_holds_when_there_is_a_pair() {
    let mut rig = met();
    rig.told(Told::Stopped);
    rig.core.copied(true, (7, true), Vec::new(), None);
    rig.core.lost(rig.now, Reason::PeerLost, &mut rig.effects);
    rig.told(Told::Continued);
    rig.core.go_on_alone(rig.now, &mut rig.effects);
    rig.connect();
    rig.hear(&Message::Begin(rig.core.epoch())).unwrap();
    checkpoint(&mut rig, false);
    drained(&mut rig);
    owned(&mut rig);
    assert_eq!(rig.core.protection(), Protection::Protected);
    rig.effects.clear();
    rig.say(3);
    assert_eq!((rig.core.held(), rig.effects.len()), (1, 0));
}

#[test]
fn an_inexact_cut_asks_for_one_more() {
    for (exact, sure, kinds) in [(false, true, vec!["input-cut-inexact"]), (true, false, vec!["cut-unsure"])]
    {
        let mut rig = in_colo();
        rig.told(Told::Stopped);
        rig.core.copied(false, (7, exact), Vec::new(), Some(&mut rig.outbox));
        let stepped = Moment { after: at(90), before: at(120), at: Some(at(99_000)) };
        rig.told(Told::Ran(if sure { silence() } else { Silence::between(stepped, stepped) }));
        drained(&mut rig);
        owned(&mut rig);
        assert_eq!(rig.asked(), kinds);
    }
}

#[test]
fn only_the_own_qemu_is_believed() {
    let mut rig = in_colo();
    rig.core.cut(rig.now, Some(&mut rig.outbox));
    assert_eq!(rig.core.place(at(1)), Place::Now);
    assert!(rig.hear(&Message::Heartbeat(Heartbeat::default())).is_ok());
}

/// A QEMU says only once that its channel to the other is gone: who was not there to hear it finds it in COLO, and no checkpoint comes.
#[test]
fn a_checkpoint_that_is_due_and_never_begins_is_known_by_its_absence() {
    const VM: Duration = Duration::from_secs(2);
    let overdue = |rig: &mut Rig, millis: u64| {
        let now = rig.now + Duration::from_millis(millis);
        rig.core.await_checkpoint(now);
        rig.core.no_checkpoint(now, VM).is_some()
    };
    let mut rig = Rig::following();
    rig.told(Told::Placed { colo: true, stopped: false, missed: false });
    assert!(!overdue(&mut rig, 0) && !overdue(&mut rig, 60_000), "nobody to make a checkpoint with");
    // A secondary that stands still does not answer the session, and nothing can be asked for.
    rig.connect();
    assert!(!overdue(&mut rig, 0) && !overdue(&mut rig, 3999));
    assert!(overdue(&mut rig, 4000), "not answered");
    rig.hear(&Message::Begin(rig.core.epoch())).unwrap();
    assert!(overdue(&mut rig, 4000), "answered, and asked for in vain");
    rig.told(Told::Stopped);
    assert!(!overdue(&mut rig, 4001), "one begins, or an operator has stopped it");
    rig.told(Told::Continued);
    assert!(!overdue(&mut rig, 8000) && overdue(&mut rig, 12_000), "counted anew");
    checkpoint(&mut rig, false);
    drained(&mut rig);
    assert!(!overdue(&mut rig, 12_001), "the cut is on its way");
    owned(&mut rig);
    assert!(!overdue(&mut rig, 13_000) && !overdue(&mut rig, 60_000), "none is due in sync");
    // The same for one that is asked for in the common epoch: what has diverged is held until then.
    rig.core.ask(rig.now, "input-lost", String::new(), &mut rig.effects);
    assert!(!overdue(&mut rig, 61_000) && overdue(&mut rig, 65_000));
    checkpoint(&mut rig, false);
    drained(&mut rig);
    owned(&mut rig);
    assert!(!overdue(&mut rig, 65_001) && !overdue(&mut rig, 99_000));
    // The monitor was lost and is back, and what was said meanwhile is not known.
    rig.told(Told::Unheard);
    rig.told(Told::Placed { colo: true, stopped: false, missed: true });
    assert!(!overdue(&mut rig, 100_000) && overdue(&mut rig, 104_000));
    rig.told(Told::Left);
    assert!(!overdue(&mut rig, 104_001), "known to be out of COLO");
}

use super::*;
use crate::agent::secondary::Injection;
use crate::agent::secondary::tests::Rig;
use crate::link::frame::Heartbeat;
use crate::vm::Moment;
use std::time::Duration;

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn moment(ms: u64) -> Moment {
    Moment { after: at(90), before: at(120), at: Some(at(ms)) }
}

/// Stood still from 100 ms to 110 ms.
fn silence() -> Silence {
    Silence::between(moment(100), moment(110))
}

/// In COLO, protected, in epoch 6 from input 2 on.
fn in_colo() -> Rig {
    let mut rig = Rig::following();
    rig.told(Told::Placed { colo: false, stopped: false, missed: false }, 0);
    rig.meet();
    (0..2).for_each(|index| rig.input(index));
    rig.told(Told::Ran(silence()), 0);
    cut(&mut rig, 5, 2);
    assert!(rig.settle());
    rig.inject(Injection::Sent);
    assert_eq!((rig.core.protection(), rig.got().len()), (Protection::Protected, 0));
    rig.said();
    rig
}

fn cut(rig: &mut Rig, epoch: u64, first: u64) {
    rig.hear(&Message::Bases { epoch: Epoch(epoch), bases: Vec::new() }).unwrap();
    rig.hear(&Message::InputCut { epoch: Epoch(epoch), first }).unwrap();
}

fn heartbeat(echo: Mono) -> Message<'static> {
    Message::Heartbeat(Heartbeat { sent: 9, echo: echo.as_nanos(), frames: 0, lost: 0 })
}

#[test]
fn a_loaded_state_gets_each_input_once_that_it_lacks_and_none_that_it_has() {
    let mut rig = in_colo();
    (2..8).for_each(|index| rig.input(index));
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [2, 3, 4, 5, 6, 7]);
    rig.guest.clear();
    // 6 and 7 lie unread in the guest's interface; the primary's guest had read all before 4.
    rig.told(Told::Stopped, 2);
    rig.input(8);
    rig.inject(Injection::Sent);
    rig.told(Told::Ran(silence()), 0);
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [0; 0], "nothing before the input cut");
    assert!(!rig.settle());
    cut(&mut rig, 6, 4);
    assert!(rig.settle());
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [4, 5, 8]);
    assert_eq!((rig.count("input_again"), rig.count("input_unread")), (2, 2));
    let said: Vec<_> = rig.said().into_iter().filter(|m| !m.starts_with("Heart")).collect();
    assert_eq!(said, ["End(Epoch(6))", "Begin(Epoch(7))"]);
}

#[test]
fn an_input_cut_before_the_stop_is_seen_stops_the_input() {
    let mut rig = in_colo();
    cut(&mut rig, 6, 2);
    rig.input(2);
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [0; 0]);
    rig.told(Told::Stopped, 0);
    rig.told(Told::Ran(silence()), 0);
    assert!(rig.settle());
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [2]);
}

#[test]
fn frames_are_of_the_epoch_their_stamps_say_and_of_none_where_the_clocks_contradict() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    assert_eq!(rig.core.place(at(500)), Place::Now, "no RESUME was written before it was taken");
    rig.told(Told::Ran(silence()), 0);
    assert_eq!([104, 106].map(|ms| rig.core.place(at(ms))), [Place::Now, Place::Wait]);
    cut(&mut rig, 6, 2);
    rig.settle();
    assert_eq!(rig.core.place(at(106)), Place::Now);
    rig.told(Told::Stopped, 0);
    rig.told(Told::Ran(Silence::between(moment(99_000), moment(99_010))), 0);
    assert_eq!([89, 105, 121].map(|ms| rig.core.place(at(ms))), [Place::Now, Place::Drop, Place::Wait]);
    cut(&mut rig, 7, 2);
    rig.settle();
    rig.tick();
    assert!(rig.said().contains(&"Ask(CutUnsure)".to_owned()));
}

#[test]
fn an_operators_stop_injects_nothing_while_it_lasts_and_ends_no_epoch() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    rig.input(2);
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [0; 0]);
    rig.told(Told::Continued, 0);
    rig.inject(Injection::Sent);
    assert_eq!((rig.got(), rig.core.epoch()), (vec![2], Epoch(6)));
    assert!(!rig.settle());
}

#[test]
fn a_doubtful_resume_is_a_load_if_its_cut_comes_and_none_if_the_primary_answers_without_one() {
    for cut_comes in [true, false] {
        let mut rig = in_colo();
        rig.told(Told::Stopped, 0);
        rig.tick();
        rig.told(Told::Doubtful { silence: silence(), paused: false }, 0);
        rig.input(2);
        rig.inject(Injection::Sent);
        rig.hear(&heartbeat(at(5))).unwrap();
        assert_eq!((rig.got(), rig.core.place(at(106))), (vec![], Place::Wait), "nobody knows yet");
        if cut_comes {
            cut(&mut rig, 6, 3);
        }
        rig.hear(&heartbeat(rig.now)).unwrap();
        assert_eq!(rig.settle(), cut_comes);
        rig.inject(Injection::Sent);
        assert_eq!(rig.got(), if cut_comes { vec![] } else { vec![2] });
        assert_eq!(rig.core.epoch(), Epoch(6 + u64::from(cut_comes)));
    }
}

#[test]
fn a_checkpoint_behind_a_doubtful_resume_counts_anew() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    rig.told(Told::Doubtful { silence: silence(), paused: false }, 0);
    rig.told(Told::Stopped, 0);
    rig.tick();
    assert!(rig.said().contains(&"Ask(EpochsInDoubt)".to_owned()));
    assert_eq!(rig.core.protection(), Protection::Not(Reason::CheckpointDue));
    cut(&mut rig, 6, 3);
    assert!(!rig.settle(), "of a session that is over");
}

#[test]
fn a_session_is_answered_once_the_guest_stands_in_no_checkpoint() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    rig.hear(&Message::Session { epoch: Epoch(9), term: 1, lease: Duration::from_secs(5) }).unwrap();
    assert_eq!(rig.said(), [""; 0]);
    rig.told(Told::Ran(silence()), 0);
    assert_eq!(rig.said(), ["Begin(Epoch(9))"]);
    cut(&mut rig, 9, 0);
    assert!(!rig.settle(), "the load before the answer counts for nothing");
}

#[test]
fn after_a_failover_what_was_withheld_goes_in_by_the_old_translation() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    rig.input(2);
    rig.told(Told::Left, 0);
    assert_eq!(rig.core.protection(), Protection::Not(Reason::LeftColo));
    let mut effects = Vec::new();
    rig.core.take_over(rig.now, &mut effects);
    rig.told(Told::TookOver, 0);
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [2]);
}

#[test]
fn a_monitor_that_is_lost_leaves_nothing_to_be_said() {
    let mut rig = in_colo();
    rig.told(Told::Unheard, 0);
    assert_eq!(rig.core.place(at(1)), Place::Drop);
    assert_eq!(rig.core.protection(), Protection::Not(Reason::MonitorLost));
    rig.tick();
    assert!(rig.said().contains(&"Ask(EpochsInDoubt)".to_owned()));
}

#[test]
fn a_state_is_confirmed_by_its_cut_and_by_nothing_else() {
    assert!(!Rig::following().core.confirmed(), "none is loaded");
    let loads = [
        Told::Ran(silence()),
        Told::Doubtful { silence: silence(), paused: false },
        Told::Doubtful { silence: silence(), paused: true },
    ];
    for (load, likely) in loads.into_iter().zip([true, true, false]) {
        // QEMU goes on with checkpoints that the primary's agent does not cut.
        let mut rig = in_colo();
        assert!(rig.core.confirmed());
        rig.told(Told::Stopped, 0);
        assert!(rig.core.confirmed(), "the old state is there until another is loaded");
        rig.told(load, 0);
        assert_eq!(rig.core.confirmed(), !likely);
        // Not by a new session either, which forgets what was loaded in the old one.
        rig.hear(&Message::Session { epoch: Epoch(9), term: 1, lease: Duration::from_secs(5) }).unwrap();
        assert_eq!(rig.core.confirmed(), !likely);
        rig.told(Told::Stopped, 0);
        rig.told(Told::Ran(silence()), 0);
        cut(&mut rig, 9, 0);
        assert!(rig.settle() && rig.core.confirmed());
        // Nor when the agents have lost each other.
        rig.core.lost(Reason::PeerLost, &mut Vec::new());
        rig.told(Told::Stopped, 0);
        rig.told(load, 0);
        assert_eq!(rig.core.confirmed(), !likely);
    }
}

#[test]
fn a_cut_that_came_before_the_link_was_lost_counts_for_its_load() {
    let mut rig = in_colo();
    rig.told(Told::Stopped, 0);
    cut(&mut rig, 6, 2);
    rig.core.lost(Reason::PeerLost, &mut Vec::new());
    rig.told(Told::Ran(silence()), 0);
    assert!(rig.settle());
    assert!(rig.core.confirmed());
    assert_eq!(rig.core.epoch(), Epoch(7));
}

/// A guest has said something in a state that is then loaded over; nobody knows its cut, nor whether it was a load.
fn loaded_over(told: Told) -> Rig {
    let mut rig = in_colo();
    rig.core.captured(rig.now, &mut [9; 60], Some(&mut rig.outbox));
    rig.told(Told::Stopped, 0);
    rig.told(told, 0);
    rig
}

fn said_after_takeover(mut rig: Rig) -> Option<Vec<u8>> {
    rig.core.take_over(rig.now, &mut rig.effects);
    rig.core.next_unreleased()
}

#[test]
fn what_a_guest_said_before_a_load_is_not_said_after_a_takeover() {
    let doubtful = |paused| Told::Doubtful { silence: silence(), paused };
    for (told, again) in [(Told::Ran(silence()), false), (doubtful(false), false), (doubtful(true), true)] {
        let mut rig = loaded_over(told);
        rig.core.lost(Reason::PeerSilent, &mut rig.effects);
        // The failover's own.
        rig.told(Told::Stopped, 0);
        rig.told(Told::TookOver, 0);
        assert_eq!(said_after_takeover(rig).is_some(), again, "{told:?}");
    }
}

#[test]
fn a_session_that_begins_anew_does_not_undo_a_load() {
    let mut rig = loaded_over(Told::Ran(silence()));
    let lease = Duration::from_secs(5);
    rig.hear(&Message::Session { epoch: Epoch(9), term: 1, lease }).unwrap();
    assert_eq!(said_after_takeover(rig), None);
}

#[test]
fn an_agent_that_finds_a_load_late_does_not_take_what_was_said_before_for_said_after() {
    let mut rig = in_colo();
    rig.core.lost(Reason::PeerLost, &mut rig.effects);
    rig.told(Told::Stopped, 0);
    rig.told(Told::Ran(silence()), 0);
    assert_eq!([99, 111].map(|ms| rig.core.place(at(ms))), [Place::Drop, Place::Now]);
}

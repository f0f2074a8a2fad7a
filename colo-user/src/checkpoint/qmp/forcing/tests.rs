use super::*;
use crate::qmp::{ColoStatus, Event, Gap, Snapshot, Status};

const PASS: EventKind = EventKind::MigrationPass(3);

fn hear(forcing: &mut Forcing, kinds: &[EventKind]) -> Vec<Heard> {
    let notice = |kind: &EventKind| Notice::Event(Event { kind: kind.clone(), at: None });
    kinds.iter().filter_map(|kind| forcing.notice(&notice(kind))).collect()
}

fn snapshot(status: RunState, colo: bool) -> Snapshot {
    let mode = if colo { ColoMode::Primary } else { ColoMode::None };
    Snapshot {
        status: Status { running: status == RunState::Running, status },
        migration: colo.then_some(MigrationStatus::Colo),
        colo: ColoStatus { mode, last_mode: ColoMode::None },
    }
}

fn up(status: RunState, colo: bool, in_doubt: Option<bool>) -> Notice {
    let snapshot = snapshot(status, colo);
    let gap = in_doubt.map(|epochs_in_doubt| Gap {
        before: snapshot,
        since: Mono::ZERO,
        until: Mono::ZERO,
        epochs_in_doubt,
    });
    Notice::Up { snapshot, gap }
}

fn primary() -> Forcing {
    let mut forcing = Forcing::default();
    assert_eq!(forcing.notice(&up(RunState::Running, true, None)), None);
    forcing
}

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn exit() -> EventKind {
    EventKind::ColoExit { mode: ColoMode::Primary, reason: "error".to_owned() }
}

#[test]
fn a_want_is_asked_for_at_once_and_again_until_a_stop() {
    let mut forcing = primary();
    assert!(!forcing.take_ask(at(1000)));
    assert!(forcing.want());
    assert!(forcing.take_ask(at(1000)));
    assert!(!forcing.take_ask(at(1099)));
    assert_eq!(forcing.next_deadline(), Some(at(1100)));
    assert!(forcing.take_ask(at(1100)), "swallowed by a checkpoint that ran");
    assert_eq!(hear(&mut forcing, &[EventKind::Stop]), []);
    assert_eq!(forcing.next_deadline(), None);
    assert_eq!(hear(&mut forcing, &[PASS, EventKind::Resume]), [Heard::Checkpoint]);
    assert!(!forcing.take_ask(at(5000)));
}

#[test]
fn a_want_while_the_guest_is_stopped_is_covered() {
    let mut forcing = primary();
    hear(&mut forcing, &[EventKind::Stop, PASS]);
    forcing.want();
    assert!(!forcing.take_ask(at(1000)));
    assert_eq!(hear(&mut forcing, &[EventKind::Resume]), [Heard::Checkpoint]);
    assert_eq!(forcing.next_deadline(), None);
}

#[test]
fn periodic_checkpoints_are_reported_too() {
    let mut forcing = primary();
    for _ in 0..3 {
        assert_eq!(hear(&mut forcing, &[EventKind::Stop, PASS, EventKind::Resume]), [Heard::Checkpoint]);
    }
}

/// What an operator stops and continues was not copied: releasing on it would be a lie.
#[test]
fn an_operators_stop_is_no_checkpoint() {
    let mut forcing = primary();
    forcing.want();
    assert!(forcing.take_ask(at(0)));
    assert_eq!(hear(&mut forcing, &[EventKind::Stop, EventKind::Resume, EventKind::Resume]), []);
    assert!(forcing.take_ask(at(200)), "still wanted");
}

#[test]
fn a_checkpoint_that_fails_is_none() {
    let mut forcing = primary();
    let heard = hear(&mut forcing, &[EventKind::Stop, PASS, exit(), EventKind::Resume]);
    assert_eq!(heard, [Heard::Left]);
    assert!(!forcing.want());
    assert!(!forcing.take_ask(at(1000)));
    let mut forcing = primary();
    let completed = EventKind::Migration(MigrationStatus::Completed);
    assert_eq!(hear(&mut forcing, &[EventKind::Stop, PASS, completed, EventKind::Resume]), [Heard::Left]);
}

#[test]
fn entering_colo_counts_from_its_first_resume() {
    let mut forcing = Forcing::default();
    forcing.notice(&up(RunState::Running, false, None));
    assert!(!forcing.want());
    assert!(!forcing.take_ask(at(1000)));
    let colo = EventKind::Migration(MigrationStatus::Colo);
    assert_eq!(hear(&mut forcing, &[PASS, EventKind::Stop, PASS, colo]), []);
    assert_eq!(hear(&mut forcing, &[EventKind::Resume]), [Heard::Entered]);
    assert!(!forcing.take_ask(at(1000)), "the want is satisfied by the first state");
    assert!(forcing.want());
    assert!(forcing.take_ask(at(1000)));
}

#[test]
fn a_gap_is_closed_by_a_checkpoint_seen_from_its_beginning() {
    let mut forcing = primary();
    assert_eq!(forcing.notice(&Notice::Down { reason: String::new() }), None);
    forcing.notice(&up(RunState::Colo, true, Some(true)));
    assert!(forcing.take_ask(at(1000)), "what runs was not seen to begin");
    assert_eq!(hear(&mut forcing, &[PASS, EventKind::Resume]), []);
    assert_eq!(hear(&mut forcing, &[EventKind::Stop, PASS, EventKind::Resume]), [Heard::Checkpoint]);

    forcing.notice(&up(RunState::Running, true, Some(false)));
    assert!(!forcing.take_ask(at(9000)));
    forcing.notice(&Notice::Lagged(5));
    assert!(forcing.take_ask(at(9000)));
}

#[test]
fn a_primary_that_left_meanwhile_is_told() {
    let mut forcing = primary();
    assert_eq!(forcing.notice(&up(RunState::Running, false, Some(true))), Some(Heard::Left));
}

use super::*;
use crate::qmp::{ColoStatus, Status};

pub(in crate::protect) fn side(
    status: RunState,
    migration: Option<MigrationStatus>,
    mode: ColoMode,
    last_mode: ColoMode,
) -> Snapshot {
    let running = status == RunState::Running;
    Snapshot { status: Status { running, status }, migration, colo: ColoStatus { mode, last_mode } }
}

fn alone() -> Snapshot {
    side(RunState::Running, None, ColoMode::None, ColoMode::None)
}

fn waiting() -> Snapshot {
    side(RunState::Inmigrate, None, ColoMode::None, ColoMode::None)
}

fn refusal(primary: &Snapshot, secondary: &Snapshot) -> String {
    states(primary, secondary).unwrap_err().to_string()
}

#[test]
fn a_vm_that_runs_and_one_that_waits_are_taken_survivors_too() {
    states(&alone(), &waiting()).unwrap();
    for last in [ColoMode::Primary, ColoMode::Secondary] {
        let survivor = side(RunState::Running, Some(MigrationStatus::Completed), ColoMode::None, last);
        states(&survivor, &waiting()).unwrap();
    }
    for earlier in [MigrationStatus::Failed, MigrationStatus::Cancelled] {
        states(&side(RunState::Running, Some(earlier), ColoMode::None, ColoMode::None), &waiting()).unwrap();
    }
}

#[test]
fn every_other_state_is_named_with_its_way_out() {
    let colo = Some(MigrationStatus::Colo);
    let protected = side(RunState::Running, colo, ColoMode::Primary, ColoMode::None);
    let exited = side(RunState::Colo, colo, ColoMode::Primary, ColoMode::None);
    for primary in [&protected, &exited] {
        let text = refusal(primary, &waiting());
        assert!(text.starts_with("primary: in COLO already") && text.contains("lost-heartbeat"), "{text}");
    }
    let moving = side(RunState::Running, Some(MigrationStatus::Active), ColoMode::None, ColoMode::None);
    let text = refusal(&moving, &waiting());
    assert!(text.contains("a migration is under way") && text.contains("active"), "{text}");
    let text = refusal(&waiting(), &alone());
    assert!(text.contains("wrong way round") && text.contains("inmigrate"), "{text}");
    let paused = side(RunState::Paused, None, ColoMode::None, ColoMode::None);
    let text = refusal(&paused, &waiting());
    assert!(text.contains("does not run") && text.contains("`cont`"), "{text}");
    let follows = side(RunState::Running, colo, ColoMode::Secondary, ColoMode::None);
    for secondary in [alone(), paused, follows] {
        let text = refusal(&alone(), &secondary);
        assert!(text.starts_with("secondary: does not wait") && text.contains("-incoming"), "{text}");
    }
}

#[test]
fn only_what_differs_is_set_and_a_qemu_without_colo_is_named() {
    let capability = |name: &str, on| Capability { name: name.to_owned(), on };
    let before = [
        capability("events", true),
        capability("pause-before-switchover", true),
        capability("x-colo", false),
        capability("xbzrle", true),
    ];
    let wanted = capabilities(Role::Primary, &before).unwrap();
    assert_eq!(wanted, [("x-colo", true), ("pause-before-switchover", false)]);
    let after = [
        capability("events", true),
        capability("pause-before-switchover", false),
        capability("x-colo", true),
    ];
    assert_eq!(capabilities(Role::Primary, &after).unwrap(), []);
    let text = capabilities(Role::Secondary, &before[..2]).unwrap_err().to_string();
    assert!(
        text.starts_with("secondary: ") && text.contains("`x-colo`") && text.contains("replication"),
        "{text}"
    );
}

#[test]
fn both_must_run_in_their_own_mode() {
    let colo = Some(MigrationStatus::Colo);
    let runs = side(RunState::Running, colo, ColoMode::Primary, ColoMode::None);
    assert!(in_colo(&runs, ColoMode::Primary) && !in_colo(&runs, ColoMode::Secondary));
    assert!(!in_colo(
        &side(RunState::FinishMigrate, colo, ColoMode::Primary, ColoMode::None),
        ColoMode::Primary
    ));
    assert!(!in_colo(&waiting(), ColoMode::Secondary));
}

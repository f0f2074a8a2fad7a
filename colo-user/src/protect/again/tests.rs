use super::*;
use crate::protect::checks::tests::side;
use crate::qmp::{MigrationStatus, RunState};

fn survivor(last: ColoMode) -> Snapshot {
    side(RunState::Running, Some(MigrationStatus::Completed), ColoMode::None, last)
}

fn waiting() -> Snapshot {
    side(RunState::Inmigrate, None, ColoMode::None, ColoMode::None)
}

fn in_colo(mode: ColoMode) -> Snapshot {
    side(RunState::Running, Some(MigrationStatus::Colo), mode, ColoMode::None)
}

fn next(back: bool, first: Option<&Snapshot>, second: Option<&Snapshot>) -> Next {
    Again::new(back, 3).look(Mono::ZERO, [first, second])
}

#[test]
fn the_one_that_runs_is_protected_by_the_one_that_waits_whichever_it_is() {
    for last in [ColoMode::None, ColoMode::Primary, ColoMode::Secondary] {
        let (runs, waits) = (survivor(last), waiting());
        assert_eq!(next(false, Some(&runs), Some(&waits)), Next::Protect(Way::There));
        assert_eq!(next(true, Some(&waits), Some(&runs)), Next::Protect(Way::Back));
        let Next::Wait(why) = next(false, Some(&waits), Some(&runs)) else { panic!("no way back is known") };
        assert!(why.ends_with("protected only with --back-uri"), "{why}");
    }
}

#[test]
fn a_pair_rests_and_whatever_is_no_candidate_or_no_survivor_is_waited_for() {
    let (primary, secondary) = (in_colo(ColoMode::Primary), in_colo(ColoMode::Secondary));
    assert_eq!(next(true, Some(&primary), Some(&secondary)), Next::Rest);
    assert_eq!(next(true, Some(&secondary), Some(&primary)), Next::Rest);
    let (runs, waits) = (survivor(ColoMode::Secondary), waiting());
    // A primary that was closed, one that was cut off, and a VM that runs beside the survivor.
    let closed = side(RunState::Paused, Some(MigrationStatus::Colo), ColoMode::Primary, ColoMode::None);
    for (first, second) in [
        (Some(&runs), None),
        (None, Some(&waits)),
        (Some(&primary), Some(&waits)),
        (Some(&closed), Some(&waits)),
        (Some(&closed), Some(&runs)),
        (Some(&runs), Some(&runs)),
        (Some(&waits), Some(&waits)),
        (Some(&primary), Some(&runs)),
    ] {
        assert!(matches!(next(true, first, second), Next::Wait(_)), "{first:?}, {second:?}");
        assert!(matches!(next(true, second, first), Next::Wait(_)), "{second:?}, {first:?}");
    }
}

#[test]
fn failures_are_tried_again_after_longer_and_longer_pauses_and_not_for_ever() {
    let (runs, waits) = (survivor(ColoMode::Primary), waiting());
    let mut again = Again::new(false, 10);
    let mut now = Mono::from_millis(1_000_000);
    let mut pauses = Vec::new();
    loop {
        assert_eq!(again.look(now, [Some(&runs), Some(&waits)]), Next::Protect(Way::There));
        if !again.failed(now) {
            break;
        }
        let begun = now;
        while let Next::Wait(why) = again.look(now, [Some(&runs), Some(&waits)]) {
            assert!(why.contains(&format!("{} failed", pauses.len() + 1)), "{why}");
            now = now + Duration::from_secs(1);
        }
        pauses.push(now.saturating_since(begun).as_secs());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
    // A success begins anew.
    again.done();
    assert!(again.failed(now));
    assert_eq!(again.look(now + PAUSE, [Some(&runs), Some(&waits)]), Next::Protect(Way::There));
}

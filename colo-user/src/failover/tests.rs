mod model;
mod runs;

use super::*;
use crate::qmp::{RunState, Status};
use std::collections::HashSet;

/// The orders given, but for those to remember something, which are obeyed.
pub(super) fn obeyed(out: &mut Vec<Order>, kept: &mut Option<Memory>) -> Vec<Order> {
    out.drain(..)
        .filter(|order| {
            if let Order::Remember(memory) = order {
                *kept = Some(*memory);
            }
            !matches!(order, Order::Remember(_))
        })
        .collect()
}

#[test]
fn every_word_is_another() {
    let words: HashSet<_> = Standing::ALL.iter().map(|standing| standing.word()).collect();
    let texts: HashSet<_> = Why::ALL.iter().map(|why| why.text()).collect();
    assert_eq!((words.len(), texts.len()), (Standing::ALL.len(), Why::ALL.len()));
}

#[test]
fn a_secondary_keeps_the_lease_only_while_it_asks_or_serves() {
    let wanted = |standing, why| wants(Role::Secondary, (standing, why));
    for standing in Standing::ALL {
        let want = match standing {
            Standing::Asking => Want::Nothing,
            Standing::TakingOver | Standing::Alone => Want::Again,
            _ => Want::Release,
        };
        assert_eq!(wanted(standing, Why::PeerLost), want, "{standing}");
    }
    assert_eq!(wanted(Standing::Closed, Why::Unknown), Want::Nothing, "it may be the service");
    assert_eq!(wanted(Standing::Alone, Why::Forced), Want::Forced);
}

#[test]
fn a_primary_has_the_lease_unless_it_is_closed() {
    let wanted = |standing, why| wants(Role::Primary, (standing, why));
    for standing in Standing::ALL {
        let want = match standing {
            Standing::Passing | Standing::Protected => Want::Fresh,
            Standing::Closed => Want::Release,
            _ => Want::Again,
        };
        assert_eq!(wanted(standing, Why::PeerLost), want, "{standing}");
    }
    assert_eq!(wanted(Standing::Holding, Why::Unknown), Want::Nothing);
}

#[test]
fn the_past_of_a_vm_is_read_from_its_qemu() {
    let look = |mode, last_mode, migration| {
        Past::of(&Snapshot {
            status: Status { running: true, status: RunState::Running },
            migration,
            colo: crate::qmp::ColoStatus { mode, last_mode },
        })
    };
    let none = ColoMode::None;
    assert_eq!(look(none, none, None), Past::Fresh);
    assert_eq!(look(none, none, Some(MigrationStatus::Completed)), Past::Fresh, "a plain migration");
    assert_eq!(look(ColoMode::Primary, none, Some(MigrationStatus::Colo)), Past::Primary);
    assert_eq!(look(ColoMode::Secondary, none, Some(MigrationStatus::Colo)), Past::Secondary);
    assert_eq!(look(none, ColoMode::Primary, Some(MigrationStatus::Completed)), Past::Was);
    assert_eq!(look(none, ColoMode::Secondary, Some(MigrationStatus::Completed)), Past::Was);
    assert_eq!(look(ColoMode::Primary, ColoMode::Secondary, None), Past::Primary, "protected again");
}

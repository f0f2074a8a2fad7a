//! What must hold before anything is touched, and what must hold at the end.

use anyhow::{Result, bail, ensure};

use super::Role;
use crate::qmp::{ColoMode, MigrationStatus, RunState, Snapshot, state::Capability};

/// A primary that runs alone, and a secondary that waits.
pub(super) fn states(primary: &Snapshot, secondary: &Snapshot) -> Result<()> {
    ensure!(
        !primary.in_colo(),
        "primary: in COLO already ({}): it is protected, or its failover was never finished with x-colo-lost-heartbeat",
        seen(primary)
    );
    ensure!(
        !matches!(
            primary.migration,
            Some(MigrationStatus::Setup | MigrationStatus::Active | MigrationStatus::Cancelling)
        ),
        "primary: a migration is under way ({}): wait for its end or cancel it",
        seen(primary)
    );
    ensure!(
        primary.status.status != RunState::Inmigrate,
        "primary: waits for a state itself ({}): the monitors may be given the wrong way round",
        seen(primary)
    );
    ensure!(
        primary.status.running,
        "primary: does not run ({}): only a VM that runs is protected, see `cont`",
        seen(primary)
    );
    ensure!(
        secondary.status.status == RunState::Inmigrate && !secondary.in_colo(),
        "secondary: does not wait for a state ({}): start it with `-incoming URI`, as new each time",
        seen(secondary)
    );
    Ok(())
}

/// The capabilities to change, each with its new state.
pub(super) fn capabilities(role: Role, before: &[Capability]) -> Result<Vec<(&'static str, bool)>> {
    let state = |name: &str| before.iter().find(|capability| capability.name == name).map(|c| c.on);
    let mut wanted = Vec::new();
    for name in ["x-colo", "events"] {
        match state(name) {
            Some(true) => {}
            Some(false) => wanted.push((name, true)),
            None => bail!(
                "{role}: this QEMU has no migration capability `{name}`: COLO needs one that is built with replication (Debian's is)"
            ),
        }
    }
    if state("pause-before-switchover") == Some(true) {
        wanted.push(("pause-before-switchover", false));
    }
    Ok(wanted)
}

/// Whether this side follows checkpoints and runs.
pub(super) fn in_colo(side: &Snapshot, mode: ColoMode) -> bool {
    side.status.running && side.colo.mode == mode && side.migration == Some(MigrationStatus::Colo)
}

/// Where a QEMU is, for messages.
pub(super) fn seen(side: &Snapshot) -> String {
    let migration = side.migration.map_or_else(|| "none".to_owned(), |status| format!("{status:?}"));
    let text =
        format!("run state {:?}, migration {migration}, COLO {:?}", side.status.status, side.colo.mode);
    text.to_ascii_lowercase()
}

#[cfg(test)]
pub(super) mod tests;

//! What takes back the steps that were taken, last first.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LOOK, Qemu, Role};
use crate::qmp::{
    Command, Empty, Failure, MigrationStatus,
    command::{self, quorum_remove, yank_block_node},
};

/// How long a cancelled migration or job may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// The steps back, in the order of the steps.
#[derive(Debug, Default)]
pub(super) struct Undo {
    steps: Vec<Back>,
    given_up: bool,
}

#[derive(Debug)]
enum Back {
    /// A command; whether it is certain that there is something to take back.
    Call { role: Role, command: Command<Empty>, certain: bool },
    /// The primary's guest, which was stopped.
    Guest,
    /// The primary's migration.
    Migration,
    /// A copy of a disk, by its job.
    Job(String),
    /// A quorum's second child over an NBD node.
    Child { quorum: String, nbd: String },
}

impl Undo {
    pub(super) fn push(&mut self, role: Role, command: Command<Empty>, certain: bool) {
        self.steps.push(Back::Call { role, command, certain });
    }

    pub(super) fn migration(&mut self) {
        self.steps.push(Back::Migration);
    }

    pub(super) fn job(&mut self, job: &str) {
        self.steps.push(Back::Job(job.to_owned()));
    }

    pub(super) fn child(&mut self, quorum: &str, nbd: &str) {
        self.steps.push(Back::Child { quorum: quorum.to_owned(), nbd: nbd.to_owned() });
    }

    pub(super) fn guest(&mut self) {
        self.steps.push(Back::Guest);
    }

    /// It was not stopped for long.
    pub(super) fn guest_runs(&mut self) {
        self.steps.retain(|step| !matches!(step, Back::Guest));
    }

    /// Copies are over: nothing is to be cancelled.
    pub(super) fn jobs_are_over(&mut self) {
        self.steps.retain(|step| !matches!(step, Back::Job(_)));
    }

    /// From here on a failure leaves everything as it is.
    pub(super) fn give_up(&mut self) {
        self.steps.clear();
        self.given_up = true;
    }

    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Takes back what can be; returns what could not.
    pub(super) async fn run(&mut self, primary: &Qemu, secondary: &Qemu) -> Vec<String> {
        let mut left = Vec::new();
        if self.given_up {
            left.push("the primary is in COLO: its agent decides who goes on; by hand x-colo-lost-heartbeat on the primary ends it".to_owned());
        }
        while let Some(step) = self.steps.pop() {
            match step {
                Back::Call { role, command, certain } => {
                    let side = if role == Role::Primary { primary } else { secondary };
                    let shown = format!("`{}` {}", command.call.name, command.call.arguments);
                    let Err(error) = side.try_call(command).await else { continue };
                    let gone = matches!(error.failure(), Some(Failure::Down { .. }));
                    // A QEMU that has ended keeps nothing.
                    if certain && !(gone && role == Role::Secondary) {
                        left.push(format!("{role}: {shown} was not taken back: {error}"));
                    }
                }
                Back::Guest => left.extend(
                    primary
                        .try_call(command::cont())
                        .await
                        .err()
                        .map(|error| format!("primary: the guest is stopped, `cont` it: {error}")),
                ),
                Back::Migration => left.extend(end_migration(primary).await),
                Back::Job(job) => left.extend(end_job(primary, &job).await),
                Back::Child { quorum, nbd } => {
                    left.extend(
                        remove_child(primary, &quorum, &nbd).await.err().map(|error| error.to_string()),
                    );
                }
            }
        }
        left
    }
}

/// Takes the second child out of a quorum. Its connection is cut first: writes to a side that is silent would never end.
pub(super) async fn remove_child(primary: &Qemu, quorum: &str, nbd: &str) -> anyhow::Result<()> {
    // Refused where the connection is down already.
    let _ = primary.try_call(yank_block_node(nbd)).await;
    primary.call(quorum_remove(quorum, super::disk::CHILD)).await?;
    Ok(())
}

async fn end_migration(primary: &Qemu) -> Option<String> {
    // A stream that hangs would keep it from ending; without one this is refused.
    let _ = primary.try_call(command::yank_migration()).await;
    if let Err(error) = primary.try_call(command::migrate_cancel()).await {
        return Some(format!("primary: the migration goes on: {error}"));
    }
    let end = Instant::now() + ENDING;
    while Instant::now() < end {
        let over = [MigrationStatus::Failed, MigrationStatus::Cancelled, MigrationStatus::None];
        match primary.try_call(command::query_migrate()).await {
            Ok(migration) if migration.status.is_none_or(|status| over.contains(&status)) => return None,
            Ok(_) => sleep(LOOK).await,
            Err(error) => return Some(format!("primary: {error}")),
        }
    }
    Some(format!("primary: the migration was cancelled and has not ended within {ENDING:?}"))
}

async fn end_job(primary: &Qemu, job: &str) -> Option<String> {
    // Refused if it has ended by an error.
    let _ = primary.try_call(command::block_job_cancel(job, true)).await;
    let end = Instant::now() + ENDING;
    while Instant::now() < end {
        match primary.try_call(command::dismiss_job(job)).await {
            Ok(_) => return None,
            Err(error) if matches!(error.failure(), Some(Failure::Refused(_))) => sleep(LOOK).await,
            Err(error) => return Some(format!("primary: the copy {job}: {error}")),
        }
    }
    Some(format!("primary: the copy {job} has not ended within {ENDING:?}"))
}

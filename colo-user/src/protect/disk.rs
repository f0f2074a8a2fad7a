//! Replicated disks: what is set up on both sides before the migration.
//!
//! The primary's disk is a quorum with one child, the local image; the secondary's is the same over QEMU's replication
//! overlays, whose lowest image is exported. The content is copied while the guest runs, and kept equal by the copy. For
//! some milliseconds the guest is stopped: the copy ends, and the export becomes the second child of the quorum. From here on
//! each write goes to both, before COLO as well as in it. A second child that fails is no reason for QEMU to stop; it is one
//! for us. (With a replication node above the export, as QEMU's documentation has it, writes before COLO would fail, and
//! the guest would stand still until its memory is copied.)
//!
//! The nodes made here are named after the disk's place in the list, so that a later protection finds those of an earlier one
//! whose secondary is gone.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::{LOOK, Progress, Role, Steps, Still, undo::remove_child};
use crate::qmp::{
    Event, EventKind, Failure, Notice,
    command::{self, CHILD_NODE},
    state::{Job, JobStatus},
};

/// How QEMU calls the second child of a quorum.
pub(super) const CHILD: &str = "children.1";
/// QEMU tells of failures of a quorum's children at most once a second, and then late.
const LATE: Duration = Duration::from_millis(1200);
/// The copies.
const JOB: &str = "colo-sync";

/// A disk that both sides have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The primary's quorum: device or node name.
    pub quorum: String,
    /// The secondary's image below the overlays: device or node name, and the name of its export.
    pub export: String,
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((quorum, export)) if !quorum.is_empty() && !export.is_empty() => {
                Ok(Self { quorum: quorum.to_owned(), export: export.to_owned() })
            }
            _ => Err(format!(
                "disk `{text}`: write QUORUM=EXPORT, the primary's quorum and the secondary's image, such as colo-disk0=parent0"
            )),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.quorum, self.export)
    }
}

impl Steps<'_> {
    /// Deletes the nodes of an earlier protection, whose secondary is gone, child of a quorum or no longer.
    pub(super) async fn clear_stale(&mut self) -> Result<()> {
        let mut found = false;
        for node in self.primary.call(command::query_block_nodes()).await? {
            let Some(number) = node.name.strip_prefix(CHILD_NODE) else { continue };
            (self.progress)(Progress::Stale(&node.name));
            found = true;
            let Err(error) = self.primary.try_call(command::delete_node(&node.name)).await else { continue };
            ensure!(matches!(error.failure(), Some(Failure::Refused(_))), "primary: {error}");
            let disk = number.parse().ok().and_then(|index: usize| self.plan.disks.get(index));
            let disk = disk.with_context(|| {
                format!(
                    "primary: {} of an earlier protection is in use: {error}; name its disk with --disk, or remove it from its \
                     quorum with x-blockdev-change",
                    node.name
                )
            })?;
            remove_child(&self.primary, &disk.quorum, &node.name).await?;
            self.primary.call(command::delete_node(&node.name)).await?;
        }
        if found {
            // Its failures are not those of the node that gets its name.
            sleep(LATE).await;
            while self.primary.notices.try_next().is_some() {}
        }
        Ok(())
    }

    /// Makes the disks equal and has the primary write to both from here on.
    pub(super) async fn replicate(&mut self) -> Result<()> {
        let Some(address) = &self.plan.nbd else { bail!("a replicated disk needs an address for NBD") };
        let stop = command::nbd_server_stop();
        self.step(Role::Secondary, command::nbd_server_start(address), Some(stop)).await.context(
            "the secondary serves no disks; if its NBD server runs already, end it there with nbd-server-stop",
        )?;
        for (index, disk) in self.plan.disks.iter().enumerate() {
            let (nbd, job) = (format!("{CHILD_NODE}{index}"), format!("{JOB}{index}"));
            let context = || format!("disk {disk}");
            self.step(Role::Secondary, command::nbd_server_add(&disk.export), None)
                .await
                .with_context(context)?;
            let add = command::add_nbd_node(&nbd, address, &disk.export);
            self.step(Role::Primary, add, Some(command::delete_node(&nbd))).await.with_context(context)?;
            let mirror = command::mirror(&disk.quorum, &job, &nbd);
            self.step(Role::Primary, mirror, None).await.with_context(context)?;
            self.undo.job(&job);
        }
        self.copies_are_ready().await?;
        let stopped = Instant::now();
        self.step(Role::Primary, command::stop(), None).await?;
        self.undo.guest();
        self.end_copies().await?;
        for (index, disk) in self.plan.disks.iter().enumerate() {
            let nbd = format!("{CHILD_NODE}{index}");
            let child = command::quorum_add(&disk.quorum, &nbd);
            self.step(Role::Primary, child, None).await.with_context(|| {
                format!(
                    "disk {disk}: {} must be a quorum (driver=quorum,vote-threshold=1) with the local image as its only child",
                    disk.quorum
                )
            })?;
            self.undo.child(&disk.quorum, &nbd);
        }
        self.primary.call(command::cont()).await?;
        self.undo.guest_runs();
        self.stopped = Some(stopped.elapsed());
        (self.progress)(Progress::Equal);
        Ok(())
    }

    /// A disk of the secondary that lacks what was written is none.
    pub(super) fn no_write_failed(&mut self) -> Result<()> {
        while let Some(notice) = self.primary.notices.try_next() {
            match notice {
                Notice::Event(Event { kind: EventKind::QuorumBad { node, error }, .. })
                    if node.starts_with(CHILD_NODE) =>
                {
                    bail!("the secondary's disk behind {node} has missed a write: {error}");
                }
                Notice::Event(_) | Notice::Up { .. } => {}
                Notice::Down { reason } => bail!("primary: the monitor was lost: {reason}"),
                Notice::Lagged(missed) => bail!("primary: {missed} events of QEMU came too fast to be read"),
            }
        }
        Ok(())
    }

    /// Until source and target of every copy are equal, and stay so.
    async fn copies_are_ready(&mut self) -> Result<()> {
        let mut still = Still::new(self.plan.patience);
        loop {
            self.go_on()?;
            let jobs = self.copies().await?;
            if jobs.iter().all(|job| job.status == JobStatus::Ready) {
                return Ok(());
            }
            let done = jobs.iter().map(|job| job.current_progress).sum();
            (self.progress)(Progress::Disks { done, total: jobs.iter().map(|job| job.total_progress).sum() });
            still.moved(done).context("the copy of the disks")?;
            sleep(LOOK).await;
        }
    }

    /// With the guest stopped: the copies end, with equal disks.
    async fn end_copies(&mut self) -> Result<()> {
        for index in 0..self.plan.disks.len() {
            let job = format!("{JOB}{index}");
            self.step(Role::Primary, command::block_job_cancel(&job, false), None).await?;
        }
        let mut still = Still::new(self.plan.patience);
        loop {
            let jobs = self.copies().await?;
            if jobs.iter().all(|job| job.status == JobStatus::Concluded) {
                break;
            }
            still.moved(jobs.iter().map(|job| job.current_progress).sum()).context("the end of the copy")?;
            sleep(LOOK).await;
        }
        self.undo.jobs_are_over();
        for index in 0..self.plan.disks.len() {
            self.primary.call(command::dismiss_job(&format!("{JOB}{index}"))).await?;
        }
        Ok(())
    }

    /// Our copies, none of which has failed.
    async fn copies(&self) -> Result<Vec<Job>> {
        let mut jobs = self.primary.call(command::query_jobs()).await?;
        jobs.retain(|job| job.id.starts_with(JOB));
        for job in &jobs {
            if let Some(error) = &job.error {
                bail!(
                    "the copy {} failed: {error}; the secondary's image must be as large as the primary's",
                    job.id
                );
            }
        }
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests;

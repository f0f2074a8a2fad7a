//! Two VMs on the hosts of the lab, and their way into COLO.

use std::{
    path::{Path, PathBuf},
    sync::MutexGuard,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use colo_user::{
    link::endpoint::Endpoint,
    qmp::{Client, EventKind, MigrationStatus, Notice, Notices, Snapshot},
};
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    channel::Channel,
    disk,
    ours::Running,
    vm::{Extras, Parts, Vm},
    watch::Side,
};
use crate::lab::{
    child::Programs,
    stage::{alone, sweep},
    topology::{Topology, Wires},
};

/// What the names of the pairs' directories begin with; the process follows.
const DIRECTORY: &str = "colo-pair-";
/// How long the pair may take for a step: the first copy of the memory, a checkpoint, a takeover.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How the two VMs are started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// What the VM has that boots.
    pub primary: Extras,
    /// What the other has.
    pub secondary: Extras,
    /// The other boots too and is a VM of its own, not one that waits for a state.
    pub apart: bool,
    /// Both have a disk, which is replicated ([`disk`]).
    pub disk: bool,
    /// What the VMs say to each other can be made to stand still ([`Pair::stall`]).
    pub stallable: bool,
}

impl Setup {
    /// What the VM has on a side, and on its disk as a VM that waits for a state or not.
    fn extras(&self, directory: &Path, side: Side, name: &str, waits: bool) -> Result<Extras> {
        let mut extras = match side {
            Side::First => self.primary.clone(),
            Side::Second => self.secondary.clone(),
        };
        if self.disk {
            let make = if waits { disk::secondary } else { disk::primary };
            extras.arguments.extend(make(directory, name)?);
        }
        Ok(extras)
    }
}

/// Namespaces with a VM on each host. What is dropped first goes first: VMs, namespaces, files.
#[derive(Debug)]
pub struct Pair {
    /// The VM that has booted.
    pub primary: Vm,
    /// The VM that waits for the other's state.
    pub secondary: Vm,
    /// The namespaces.
    pub topology: Topology,
    /// The programs.
    pub programs: Programs,
    parts: Parts,
    setup: Setup,
    uri: String,
    channel: Option<Channel>,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Pair {
    /// Makes the namespaces and starts both VMs; the primary's guest serves when this returns. Nothing forwards yet
    /// between a VM and its uplink. `colo-guest` is expected beside `colo-lab`, and the kernel is kept in `cache`.
    pub fn boot(programs: &Programs, cache: &Path) -> Result<Self> {
        Self::boot_as(programs, cache, &Setup::default())
    }

    /// As [`Pair::boot`], with VMs as `setup` says; one that is `apart` serves too.
    pub fn boot_as(programs: &Programs, cache: &Path, setup: &Setup) -> Result<Self> {
        let alone = alone();
        sweep(DIRECTORY);
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let parts = Parts::new(cache, &programs.lab.with_file_name("colo-guest"), directory.path())?;
        let topology = Topology::new(Wires::Vm)?;
        // A stream through the file system has no delayed acknowledgements, which cost 40 ms a checkpoint.
        let place = directory.path().join("migration");
        let uri = format!("unix:{}", place.display());
        let (hosts, incoming) = (&topology, (!setup.apart).then_some(uri.as_str()));
        let extras = |side, name, waits| setup.extras(directory.path(), side, name, waits);
        let own = extras(Side::First, "primary", false)?;
        let mut primary = Vm::start(programs, &hosts.primary.netns, &parts, "primary", None, &own)?;
        let own = extras(Side::Second, "secondary", !setup.apart)?;
        let mut secondary = Vm::start(programs, &hosts.secondary.netns, &parts, "secondary", incoming, &own)?;
        primary.ready()?;
        if setup.apart {
            secondary.ready()?;
        }
        let near = directory.path().join("channel");
        let channel = setup.stallable.then(|| Channel::new(&near, &place)).transpose()?;
        let uri = if channel.is_some() { format!("unix:{}", near.display()) } else { uri };
        let (programs, setup) = (programs.clone(), setup.clone());
        Ok(Self {
            primary,
            secondary,
            topology,
            programs,
            parts,
            setup,
            uri,
            channel,
            directory,
            _alone: alone,
        })
    }

    /// Puts a VM that waits for a state where one was lost; the next [`Pair::protect`] copies to it. `name` has not been used
    /// for another VM of this pair.
    pub fn replace(&mut self, side: Side, name: &'static str) -> Result<()> {
        self.uri = format!("unix:{}", self.path(&format!("migration-{name}")).display());
        let extras = self.setup.extras(self.directory.path(), side, name, true)?;
        let host = match side {
            Side::First => &self.topology.primary,
            Side::Second => &self.topology.secondary,
        };
        // Its tap is free only when the one before has ended.
        match side {
            Side::First => self.primary.process().kill(),
            Side::Second => self.secondary.process().kill(),
        }
        let vm = Vm::start(&self.programs, &host.netns, &self.parts, name, Some(&self.uri), &extras)?;
        match side {
            Side::First => self.primary = vm,
            Side::Second => self.secondary = vm,
        }
        Ok(())
    }

    /// The VM on a side.
    pub fn vm(&self, side: Side) -> &Vm {
        match side {
            Side::First => &self.primary,
            Side::Second => &self.secondary,
        }
    }

    /// Whether both VMs have a disk.
    pub fn has_disk(&self) -> bool {
        self.setup.disk
    }

    /// From now on nothing comes through between the VMs, and both live.
    pub fn stall(&self) -> Result<()> {
        self.channel.as_ref().context("this pair's channel is not one that stands still")?.stall();
        Ok(())
    }

    /// Where the VM waits that is to be the secondary.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// A path in the pair's directory, which goes with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Enters COLO by `colo protect`, with periodic checkpoints `delay` apart. Returns when both sides have said that they are
    /// in it and run.
    pub async fn protect(
        &self,
        primary: &mut Followed,
        secondary: &mut Followed,
        delay: Duration,
    ) -> Result<()> {
        let sides = [primary.spare.clone(), secondary.spare.clone()];
        let mut more = Vec::new();
        if self.setup.disk {
            let nbd = format!("unix:{}.nbd", self.path(secondary.name).display());
            more.extend(["--disk", disk::DISK, "--nbd", &nbd].map(str::to_owned));
        }
        let running = Running::start(&self.programs, &sides, &self.uri, delay, &more)?;
        let ended = spawn_blocking(move || running.wait()).await??;
        ensure!(ended.code == 0, "colo protect: {ended:?}");
        let colo = |kind: &EventKind| *kind == EventKind::Migration(MigrationStatus::Colo);
        for side in [primary, secondary] {
            side.until(colo).await?;
            side.until(|kind| *kind == EventKind::Resume).await?;
        }
        Ok(())
    }
}

/// Where the kernel is kept.
pub fn cache(program: &Path) -> PathBuf {
    target(program).join("guest")
}

/// Cargo's target directory, found from a program in it.
pub fn target(program: &Path) -> &Path {
    let target = program.ancestors().find(|directory| directory.file_name().is_some_and(|n| n == "target"));
    target.unwrap_or_else(|| Path::new("target"))
}

/// A VM's monitor and what is heard from it.
#[derive(Debug)]
pub struct Followed {
    /// What the messages call it.
    pub name: &'static str,
    /// The monitor.
    pub client: Client,
    pub(super) notices: Notices,
    spare: Endpoint,
}

impl Followed {
    /// Connects to a VM's monitor.
    pub async fn open(name: &'static str, vm: &Vm) -> Result<(Self, Snapshot)> {
        let (client, notices) = Client::open(vm.monitor());
        let mut followed = Self { name, client, notices, spare: vm.spare_monitor() };
        loop {
            match followed.next().await? {
                Notice::Up { snapshot, .. } => return Ok((followed, snapshot)),
                // What the look contains already.
                Notice::Event(_) => {}
                other => bail!("{name}: {other:?} before the first look"),
            }
        }
    }

    /// The next notice.
    pub async fn next(&mut self) -> Result<Notice> {
        let next = timeout(PATIENCE, self.notices.next()).await;
        let next = next.with_context(|| format!("{}: nothing heard for {PATIENCE:?}", self.name))?;
        next.with_context(|| format!("{}: the client has ended", self.name))
    }

    /// Takes notices until an event that is `wanted`, and returns when it happened by QEMU's clock.
    pub async fn until(&mut self, wanted: impl Fn(&EventKind) -> bool) -> Result<Duration> {
        loop {
            match self.next().await? {
                Notice::Event(event) if wanted(&event.kind) => {
                    return event
                        .at
                        .with_context(|| format!("{}: {:?} without a time", self.name, event.kind));
                }
                Notice::Event(_) => {}
                other => bail!("{}: {other:?}", self.name),
            }
        }
    }
}

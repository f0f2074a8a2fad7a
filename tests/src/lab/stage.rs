//! Everything but the agents: the namespaces, the two replicas in them, and a directory for logs.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{
    child::{Programs, Tethered},
    replica::{READY, TAKEN},
    topology::{Host, Topology, Wires},
};

/// What the names of the labs' directories begin with; the process follows.
const DIRECTORY: &str = "colo-lab-";
/// How long a replica may take to say that it serves, or that it has taken a command.
const PATIENCE: Duration = Duration::from_secs(30);

/// A replica running in a guest.
#[derive(Debug)]
pub struct Replica {
    /// The process, to be stopped and continued by tests.
    pub process: Tethered,
    commands: usize,
}

/// Namespaces with a replica in each guest. What is dropped first goes first: processes, namespaces, logs.
#[derive(Debug)]
pub struct Stage {
    /// The replica that the client hears.
    pub primary: Replica,
    /// The replica that only the comparator hears.
    pub secondary: Replica,
    /// The namespaces.
    pub topology: Topology,
    /// The programs.
    pub programs: Programs,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Two cores carry one lab at a time, or each measures the other: tests of one process wait for their turn.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for the turn, which lasts as long as what this returns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    /// Makes the namespaces and starts both replicas; they serve when this returns.
    pub fn new(programs: &Programs, wires: Wires) -> Result<Self> {
        let alone = alone();
        let topology = Topology::new(wires)?;
        sweep(DIRECTORY);
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let primary =
            Replica::start(programs, &topology.primary, &directory.path().join("replica-primary.log"))?;
        let secondary =
            Replica::start(programs, &topology.secondary, &directory.path().join("replica-secondary.log"))?;
        Ok(Self { primary, secondary, topology, programs: programs.clone(), directory, _alone: alone })
    }

    /// A path in the lab's directory, which goes with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Removes the directories, named PREFIX-PROCESS-…, of labs that were killed and could not do it themselves.
pub(crate) fn sweep(prefix: &str) {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another lab may sweep at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Replica {
    fn start(programs: &Programs, host: &Host, log: &Path) -> Result<Self> {
        let process =
            Tethered::start(programs, &host.guest, &programs.lab, &["serve".to_owned()], log, true)?;
        let mut replica = Self { process, commands: 0 };
        replica.wait_for(READY, 1)?;
        Ok(replica)
    }

    /// From now on this replica answers a download of `path` with one other byte at `offset` of the body.
    pub fn differ(&mut self, path: &str, offset: u64) -> Result<()> {
        let stdin = self.process.stdin().context("a replica is talked to on its standard input")?;
        writeln!(stdin, "differ {path} {offset}")?;
        self.commands += 1;
        self.wait_for(TAKEN, self.commands)
    }

    fn wait_for(&mut self, line: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.process.log();
            if log.lines().filter(|said| *said == line).count() >= times {
                return Ok(());
            }
            if self.process.ended().is_some() || Instant::now() > deadline {
                bail!("the replica did not say {line:?} within {PATIENCE:?}; it said:\n{log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

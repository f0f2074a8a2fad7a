//! `colo protect --watch` beside a pair whose VMs are lost and replaced: where a VM waits, and its monitor, have names that its
//! successors have as well.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use colo_user::link::endpoint::Address;
use serde_json::Value;

use super::{
    disk,
    ours::Running,
    stage::{PATIENCE, Pair},
    watch::Side,
};

/// Between two looks at what was printed.
const LOOK: Duration = Duration::from_millis(500);

/// One that runs.
#[derive(Debug)]
pub struct Watched {
    running: Running,
    printed: PathBuf,
    /// The monitors, as it was told: the first side's first.
    pub monitors: [String; 2],
}

impl Watched {
    /// Has a pair watched, whichever side is the primary; `delay` and `more` as with [`Running::start`].
    pub fn start(pair: &Pair, delay: Duration, more: &[String]) -> Result<Self> {
        let [[back, first], [uri, second]] = [rename(pair, Side::First)?, rename(pair, Side::Second)?];
        let printed = pair.path("watched");
        let sides = [first.parse()?, second.parse()?];
        let mut words = vec!["--back-uri".to_owned(), back];
        if pair.has_disk() {
            let nbd = |side: Side| format!("unix:{}", pair.path(&format!("{side:?}.nbd")).display());
            for (option, value) in [
                ("--disk", disk::DISK.to_owned()),
                ("--nbd", nbd(Side::Second)),
                ("--back-disk", disk::DISK.to_owned()),
                ("--back-nbd", nbd(Side::First)),
            ] {
                words.extend([option.to_owned(), value]);
            }
        }
        words.extend_from_slice(more);
        let running = Running::watch(&pair.programs, &sides, &uri, delay, &printed, &words)?;
        Ok(Self { running, printed, monitors: [first, second] })
    }

    /// The lines of a kind that it has printed, once there are so many.
    pub fn lines(&self, wanted: usize, kind: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&self.printed)?;
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            let lines: Vec<Value> = lines.filter(&kind).collect();
            if lines.len() >= wanted {
                return Ok(lines);
            }
            ensure!(Instant::now() < end, "not {wanted} within {PATIENCE:?}:\n{text}");
            thread::sleep(LOOK);
        }
    }

    /// The lines that tell of a protection, once there are so many.
    pub fn pairs(&self, wanted: usize) -> Result<Vec<Value>> {
        self.lines(wanted, |line| line["protected"] == true)
    }

    /// Ends it: its exit status, and what it said on standard error.
    pub fn end(self) -> Result<(Option<i32>, String)> {
        self.running.end()
    }
}

/// Gives the place where the VM waits that was started last, and the monitor of the one on a side, the names that they have for who
/// watches: of the place, and of the monitor.
pub fn rename(pair: &Pair, side: Side) -> Result<[String; 2]> {
    let Address::Unix(monitor) = pair.vm(side).spare_monitor().address else { unreachable!("a path") };
    let uri = pair.uri().strip_prefix("unix:").context("a path")?;
    // Who sees the monitor finds the place.
    let names = [(Path::new(uri), "uri"), (&monitor, "monitor")].map(|(target, what)| {
        let name = pair.path(&format!("{side:?}.{what}"));
        renew(target, &name).map(|()| format!("unix:{}", name.display()))
    });
    let [uri, monitor] = names;
    Ok([uri?, monitor?])
}

fn renew(target: &Path, name: &Path) -> Result<()> {
    if name.symlink_metadata().is_ok() {
        fs::remove_file(name)?;
    }
    Ok(symlink(target, name)?)
}

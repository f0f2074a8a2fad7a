//! What the kernel tells about a process: CPU time of all its threads, and where they may run.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

fn tasks(pid: u32) -> Result<Vec<PathBuf>> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("{directory} is gone"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// CPU time of all threads that are alive.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in tasks(pid)? {
        // Time on CPU, time waiting, slices (kernel documentation, scheduler/sched-stats).
        let text = fs::read_to_string(task.join("schedstat"))?;
        nanos += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Puts all threads of a process on these CPUs; `None` is the calling thread alone.
pub fn pin(pid: Option<u32>, cpus: impl IntoIterator<Item = usize>) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.into_iter().for_each(|cpu| set.set(cpu));
    let Some(pid) = pid else { return Ok(sched_setaffinity(None, &set)?) };
    for task in tasks(pid)? {
        let name = task.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sched_setaffinity(Pid::from_raw(name.parse()?), &set)?;
    }
    Ok(())
}

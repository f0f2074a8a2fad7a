//! What a lab has made and must not leave behind: its namespaces, and the processes in them.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::Result;

/// The network namespaces of one lab, found by its process.
#[derive(Debug)]
pub struct Namespaces(Vec<(String, u64)>);

impl Namespaces {
    /// Those whose names carry the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let owner = format!("-{pid}-");
        let mut found = Vec::new();
        for entry in fs::read_dir("/run/netns")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(&owner) {
                found.push((name, fs::metadata(entry.path())?.ino()));
            }
        }
        Ok(Self(found))
    }

    /// How many there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many processes live in them.
    pub fn inhabitants(&self) -> usize {
        let Ok(processes) = fs::read_dir("/proc") else { return 0 };
        processes
            .filter_map(|entry| fs::metadata(entry.ok()?.path().join("ns/net")).ok())
            .filter(|lives| self.0.iter().any(|(_, inode)| *inode == lives.ino()))
            .count()
    }

    /// The names of those that are still there.
    pub fn left(&self) -> Vec<&str> {
        let there = |name: &&str| fs::exists(format!("/run/netns/{name}")).unwrap_or(true);
        self.0.iter().map(|(name, _)| name.as_str()).filter(there).collect()
    }
}

//! Files that the server keeps where a VM has a disk.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use super::{LINE_LIMIT, content};

/// Where a VM's disk is mounted.
pub const DISK: &str = "/disk";

/// Writes the first `length` bytes of stream `name` to the file of that name. File and directory are on the disk when this
/// returns.
pub(super) fn keep(name: u64, length: usize) -> Result<()> {
    // Elsewhere this would write to a disk that is not the lab's.
    ensure!(std::process::id() == 1, "only a VM of the lab keeps files");
    ensure!(length <= LINE_LIMIT, "a file has at most {LINE_LIMIT} bytes");
    let path = Path::new(DISK).join(name.to_string());
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    file.write_all(&content::bytes(name, length))?;
    file.sync_all()?;
    File::open(DISK)?.sync_all()?;
    Ok(())
}

/// What is in a file.
pub(super) fn show(name: u64) -> Result<Vec<u8>> {
    let path = Path::new(DISK).join(name.to_string());
    fs::read(&path).with_context(|| path.display().to_string())
}

//! Replicated disks as QEMU's documentation of block replication has them, and what is on them.
//!
//! ```text
//!  primary:    colo-disk0 (quorum) ── NAME.img, an empty ext4
//!  secondary:  colo-disk0 (quorum) ── childs0 (replication) ── active ── hidden ── parent0 ── NAME.img, zeroes
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::image::run_in;

/// What `colo protect --disk` takes.
pub const DISK: &str = "colo-disk0=parent0";
/// What `colo primary --block-child` takes.
pub const CHILD: &str = "colo-disk0:children.1:colo-nbd0";
/// Bytes of a disk.
const SIZE: u64 = 64 << 20;
/// The layer that both guests see.
const QUORUM: &str = "if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1";
/// Logarithm of the size of the overlays' clusters.
const CLUSTER_BITS: u32 = 16;

/// Makes an image with an empty file system; QEMU's arguments for a VM that boots with it.
pub fn primary(directory: &Path, name: &str) -> Result<Vec<String>> {
    let image = empty(directory, name)?;
    run_in(directory, "mke2fs", &["-q", "-F", "-t", "ext4", &image])
        .context("mke2fs is part of e2fsprogs")?;
    Ok(arguments(&[&format!("{QUORUM},children.0.driver=raw,children.0.file.filename={image}")]))
}

/// Makes an image of zeroes and its overlays; QEMU's arguments for a VM that waits for another's state.
pub fn secondary(directory: &Path, name: &str) -> Result<Vec<String>> {
    let image = empty(directory, name)?;
    let overlay = |layer: &str| -> Result<String> {
        let path = directory.join(format!("{name}.{layer}.qcow2"));
        fs::write(&path, qcow2(SIZE)).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    };
    let (active, hidden) = (overlay("active")?, overlay("hidden")?);
    Ok(arguments(&[
        &format!("if=none,id=parent0,driver=raw,file.filename={image}"),
        &format!(
            "if=none,id=childs0,driver=replication,mode=secondary,top-id=colo-disk0,file.driver=qcow2,\
             file.file.filename={active},file.backing.driver=qcow2,file.backing.file.filename={hidden},\
             file.backing.backing=parent0"
        ),
        &format!("{QUORUM},children.0=childs0"),
    ]))
}

fn arguments(drives: &[&str]) -> Vec<String> {
    let drives = drives.iter().flat_map(|drive| ["-drive", drive]);
    drives.chain(["-device", "virtio-blk-pci,drive=colo-disk0"]).map(str::to_owned).collect()
}

/// The path of a VM's image.
pub fn image(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.img"))
}

fn empty(directory: &Path, name: &str) -> Result<String> {
    let path = image(directory, name);
    File::create(&path).and_then(|file| file.set_len(SIZE)).with_context(|| path.display().to_string())?;
    Ok(path.display().to_string())
}

/// An empty qcow2 image, version 3 (docs/interop/qcow2.txt): header, table of reference counts, their one block and the table
/// of the first level, a cluster each.
fn qcow2(size: u64) -> Vec<u8> {
    let cluster = 1_usize << CLUSTER_BITS;
    // A table of the second level fills a cluster with entries of 8 bytes, and maps as many clusters.
    let tables = size.div_ceil((cluster * cluster / 8) as u64);
    let mut image = vec![0; 4 * cluster];
    let mut put = |at: usize, width: usize, value: u64| {
        image[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
    };
    put(0, 4, 0x5146_49fb);
    put(4, 4, 3);
    put(20, 4, CLUSTER_BITS.into());
    put(24, 8, size);
    put(36, 4, tables);
    put(40, 8, 3 * cluster as u64);
    put(48, 8, cluster as u64);
    put(56, 4, 1);
    // References are counted with 2^4 bits, and the header has 104 bytes.
    put(96, 4, 4);
    put(100, 4, 104);
    put(cluster, 8, 2 * cluster as u64);
    for used in 0..4 {
        put(2 * cluster + 2 * used, 2, 1);
    }
    image
}

/// The files of a disk whose VM has ended, on a copy whose journal has been replayed as a mount would.
#[derive(Debug)]
pub struct Files {
    copy: PathBuf,
    scratch: PathBuf,
}

impl Files {
    /// Replays the journal and has the whole file system checked; fails if it is not whole.
    pub fn of(image: &Path) -> Result<Self> {
        let (copy, scratch) = (image.with_extension("copy"), image.with_extension("file"));
        fs::copy(image, &copy)?;
        for how in ["-p", "-fn"] {
            let output = Command::new("e2fsck").arg(how).arg(&copy).output().context("e2fsck")?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "e2fsck {how} {}: {}: {said}", image.display(), output.status);
        }
        Ok(Self { copy, scratch })
    }

    /// The content of a file; none if it is not there.
    pub fn read(&self, name: u64) -> Result<Option<Vec<u8>>> {
        // A request that fails leaves what was there before.
        if self.scratch.exists() {
            fs::remove_file(&self.scratch)?;
        }
        let request = format!("dump /{name} {}", self.scratch.display());
        run_in(Path::new("/"), "debugfs", &["-R", &request, &self.copy.display().to_string()])?;
        self.scratch.exists().then(|| fs::read(&self.scratch)).transpose().map_err(Into::into)
    }
}

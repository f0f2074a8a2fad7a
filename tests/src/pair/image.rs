//! What a VM boots: a kernel of Debian and an initramfs of our own.
//!
//! The kernel is Debian's cloud kernel, fetched once by `apt-get download` and unpacked (not installed) by `dpkg` below
//! `target/guest`. The initramfs is made anew for each run: `colo-guest` as `/init`, `ip` to configure the network, the
//! libraries of both as the dynamic linker lists them, and the modules of the network card and the disk. What a debugger would
//! read of `colo-guest` is left out: it is most of a program, and the VM has little memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::guest::{MODULES, NETWORK};
use crate::lab::{
    replica::DISK,
    topology::{SERVER_V4, SERVER_V6},
};

/// The package that depends on the kernel of the day.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// The modules of a virtio network card and disk, in the order in which they need each other.
const NEEDED: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
];
/// The dynamic linker of x86-64 (psABI), which also says what a program needs.
const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

/// A kernel with its modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What `-kernel` takes.
    pub vmlinuz: PathBuf,
    modules: Vec<PathBuf>,
}

/// The kernel below `cache`, fetched if it is not there yet. Says what it does.
pub fn kernel(cache: &Path) -> Result<Kernel> {
    if let Some(kernel) = find(&cache.join("kernel"))? {
        return Ok(kernel);
    }
    fs::create_dir_all(cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    let scratch = tempfile::Builder::new().prefix("kernel-").tempdir_in(cache)?;
    let way_out = format!(
        "elsewhere than on Debian unpack a linux-image-…-cloud-amd64 package with `dpkg -x` or `ar` and `tar` into {}",
        cache.join("kernel").display()
    );
    let depends = run_in(scratch.path(), "apt-cache", &["depends", PACKAGE]).context(way_out.clone())?;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).with_context(|| {
        format!("apt knows no {PACKAGE}: run `apt-get update` and look at /etc/apt/sources.list; {way_out}")
    })?;
    eprintln!("==> guest kernel: apt-get download {name}, unpacked into {}/kernel", cache.display());
    run_in(scratch.path(), "apt-get", &["download", name]).context(way_out)?;
    let package = fs::read_dir(scratch.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let unpacked = scratch.path().join("kernel");
    run_in(scratch.path(), "dpkg", &["-x", &package.to_string_lossy(), &unpacked.to_string_lossy()])?;
    ensure!(find(&unpacked)?.is_some(), "{name} has no kernel with the modules {NEEDED:?}");
    let place = cache.join("kernel");
    if let Err(error) = fs::rename(&unpacked, &place) {
        // Another process may have been faster; what it has put there is as good.
        if find(&place)?.is_none() {
            return Err(error).with_context(|| format!("{} is in the way", place.display()));
        }
    }
    find(&place)?.with_context(|| format!("{} vanished", place.display()))
}

/// The kernel of an unpacked package, if it is complete.
fn find(package: &Path) -> Result<Option<Kernel>> {
    let mut files = Vec::new();
    if package.is_dir() {
        list(package, &mut files)?;
    }
    let named = |name: &str| files.iter().find(|path| path.file_name().is_some_and(|n| n == name)).cloned();
    let vmlinuz = files
        .iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    let modules: Option<Vec<PathBuf>> = NEEDED.iter().map(|name| named(&format!("{name}.ko"))).collect();
    Ok(vmlinuz.cloned().zip(modules).map(|(vmlinuz, modules)| Kernel { vmlinuz, modules }))
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Writes the initramfs with `init` as its program to `place`.
pub fn initramfs(kernel: &Kernel, init: &Path, place: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for directory in ["/dev", "/proc", "/sys", "/bin", DISK, MODULES] {
        archive.directory(directory);
    }
    let stripped = place.with_extension("init");
    let shown = |path: &Path| path.display().to_string();
    run_in(Path::new("."), "strip", &["--strip-debug", "-o", &shown(&stripped), &shown(init)])?;
    archive.file("/init", 0o755, &read(&stripped)?);
    let ip = find_program("ip").context("no program `ip`: install iproute2")?;
    archive.file("/bin/ip", 0o755, &read(&ip)?);
    let mut libraries = libraries(init)?;
    libraries.extend(libraries_of_other(&ip, &libraries)?);
    libraries.push(PathBuf::from(LINKER));
    for library in &libraries {
        archive.parents(library);
        archive.file(&library.to_string_lossy(), 0o755, &read(library)?);
    }
    for (index, (name, module)) in NEEDED.iter().zip(&kernel.modules).enumerate() {
        archive.file(&format!("{MODULES}/{index:02}-{name}.ko"), 0o644, &read(module)?);
    }
    let network = format!(
        "link set lo up\nlink set eth0 up\naddr add {SERVER_V4}/24 dev eth0\naddr add {SERVER_V6}/64 dev eth0 nodad\n"
    );
    archive.file(NETWORK, 0o644, network.as_bytes());
    fs::write(place, archive.finish()).with_context(|| format!("{} cannot be written", place.display()))
}

fn libraries_of_other(program: &Path, known: &[PathBuf]) -> Result<Vec<PathBuf>> {
    Ok(libraries(program)?.into_iter().filter(|library| !known.contains(library)).collect())
}

/// The shared libraries that a program needs, without the linker itself.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = run_in(Path::new("/"), LINKER, &["--list", &program.to_string_lossy()])?;
    let paths = listing.lines().filter_map(|line| line.split_once("=> ")?.1.split_whitespace().next());
    Ok(paths.map(PathBuf::from).filter(|path| path.is_absolute() && path != Path::new(LINKER)).collect())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Runs a program in a directory and returns what it writes.
pub(super) fn run_in(directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !output.status.success() {
        bail!("`{shown}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A cpio archive as the kernel unpacks it (`newc`, Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: Vec<PathBuf>,
}

impl Archive {
    fn directory(&mut self, path: &str) {
        if !self.directories.iter().any(|known| known == Path::new(path)) {
            self.directories.push(PathBuf::from(path));
            self.entry(path, 0o040_755, &[]);
        }
    }

    /// All directories above a path, outermost first.
    fn parents(&mut self, path: &Path) {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| *p != Path::new("/")).collect();
        above.reverse();
        for directory in above {
            self.directory(&directory.to_string_lossy());
        }
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, 0o100_000 | mode, content);
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        use std::io::Write as _;
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let links = 1;
        // ino, mode, uid, gid, nlink, mtime, size, device and rdevice (two each), length of the name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            length(content.len()),
            0,
            0,
            0,
            0,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}").expect("memory takes all that is written");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("a file of an initramfs is smaller than 4 GiB")
}

//! Builds the XDP programs for the BPF target and leaves the object in `OUT_DIR`.
//!
//! Which compiler builds them is told by `COLO_EBPF_TOOLCHAIN`, a toolchain name of rustup. Without it, it is
//! a nightly with its `rust-src` component, as in the aya template; else the toolchain linked as `debian` (Debian's compiler and library sources),
//! for which the build script starts itself again with `RUSTC_BOOTSTRAP=1`: a stable compiler needs that
//! to build `core`, and set in the environment of cargo it would touch every other crate.

use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

const TOOLCHAIN: &str = "COLO_EBPF_TOOLCHAIN";
const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";
const LINKED: &str = "debian";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    let named = env::var(TOOLCHAIN).ok();
    if env::var_os(BOOTSTRAP).is_none()
        && let Some(toolchain) = named.clone().or_else(linked_toolchain)
    {
        return again_with_bootstrap(&toolchain);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../colo-ebpf");
    let root_dir = root.to_str().context("the path of this workspace is not UTF-8")?;
    let toolchain = named.as_deref().map_or_else(Toolchain::default, Toolchain::Custom);
    share_target().context("the directory for the BPF target cannot be made")?;
    build_ebpf([Package { name: "colo-ebpf", root_dir, ..Package::default() }], toolchain)
}

/// Debug and release builds and clippy each have an `OUT_DIR` of their own, and the object is the same for all: they share
/// one target directory for it, beside theirs, so that `core` is compiled once.
fn share_target() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let Some(target) = out.ancestors().nth(4) else { return Ok(()) };
    let (shared, own) = (target.join("ebpf"), out.join("aya-build"));
    fs::create_dir_all(&shared)?;
    fs::create_dir_all(&own)?;
    let link = own.join("target");
    if fs::read_link(&link).is_ok_and(|to| to != shared) {
        // The target directory was moved, and the link still leads to where it was.
        fs::remove_file(&link)?;
    }
    match symlink(shared, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// `debian` if it is linked and no nightly can build `core`.
fn linked_toolchain() -> Option<String> {
    let sysroot = rustup(&["run", "nightly", "rustc", "--print", "sysroot"]);
    let has_sources = |root: &String| Path::new(root.trim()).join("lib/rustlib/src/rust/library").exists();
    if sysroot.as_ref().is_some_and(has_sources) {
        return None;
    }
    // Without rustup aya-build takes the compiler in PATH, which then is Debian's.
    let Some(toolchains) = rustup(&["toolchain", "list"]) else { return Some(LINKED.to_owned()) };
    toolchains.lines().any(|line| line.split_whitespace().next() == Some(LINKED)).then(|| LINKED.to_owned())
}

fn rustup(arguments: &[&str]) -> Option<String> {
    let output = Command::new("rustup").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn again_with_bootstrap(toolchain: &str) -> Result<()> {
    let this = env::current_exe().context("the build script does not know its own path")?;
    let status = Command::new(this).env(BOOTSTRAP, "1").env(TOOLCHAIN, toolchain).status()?;
    if !status.success() {
        bail!("building the XDP programs with toolchain {toolchain} failed: {status}");
    }
    Ok(())
}

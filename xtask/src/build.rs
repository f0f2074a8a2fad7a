//! `cargo xtask build`: the agent with the eBPF object in it, the lab and the benchmark.
//!
//! colo-user's build script builds the object for the BPF target; nothing is exported here on which a dependency's
//! fingerprint depends, so plain `cargo build` and this task share what they build.

use std::path::PathBuf;

use anyhow::Result;

use crate::command;
use crate::setup::{self, Purpose};

/// Sets up and builds.
pub fn run(release: bool) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    build(release)?;
    eprintln!("    {}", program("colo", release).display());
    Ok(())
}

/// Builds all programs, without set-up.
pub fn build(release: bool) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", "colo-user", "--package", "colo-tests"]);
    if release {
        cargo.arg("--release");
    }
    command::run(
        "build",
        &mut cargo,
        "the compiler's messages are above; `cargo xtask setup` shows what is installed",
    )
}

/// Where [`build`] puts a program.
pub fn program(name: &str, release: bool) -> PathBuf {
    command::target_dir().join(if release { "release" } else { "debug" }).join(name)
}

//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::{build, command};

/// Sets up and runs all tests; `args` go to `cargo test`, `test_args` to the test programs. Without root it fails, it
/// never skips.
pub fn run(args: &[String], test_args: &[String]) -> Result<()> {
    let mut args = args.to_vec();
    if !test_args.is_empty() {
        args.push("--".to_owned());
        args.extend_from_slice(test_args);
    }
    command::require_root("test", &args, "the tests make network namespaces and load XDP programs")?;
    setup::ensure(Purpose::Test)?;
    // The tests start the programs themselves, which `cargo test` alone does not build.
    build::build(false)?;
    let mut cargo = command::cargo();
    cargo.args(["test", "--no-fail-fast"]);
    if !names_packages(&args) {
        cargo.arg("--workspace");
    }
    cargo.args(args);
    command::run("test", &mut cargo, "the failing tests are named above")
}

/// Whether the arguments choose packages; cargo would ignore them beside `--workspace`.
fn names_packages(args: &[String]) -> bool {
    let mut ours = args.iter().take_while(|arg| *arg != "--");
    ours.any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

#[cfg(test)]
mod tests;

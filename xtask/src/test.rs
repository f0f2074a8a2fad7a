//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::{build, command};

/// Sets up and runs all tests; further arguments go to `cargo test`. Without root it fails, it never skips.
pub fn run(args: &[String]) -> Result<()> {
    command::require_root("test", args, "the tests make network namespaces and load XDP programs")?;
    setup::ensure(Purpose::Test)?;
    // The tests start the programs themselves, which `cargo test` alone does not build.
    build::build(false)?;
    let mut cargo = command::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(args);
    command::run("test", &mut cargo, "the failing tests are named above")
}

//! `cargo xtask bench`: our numbers beside those of the peers, in one run.

use anyhow::Result;

use crate::command;
use crate::setup::{self, Purpose};
use crate::{build, build::program};

/// Sets up (the peer is QEMU's colo-compare), builds, and becomes the benchmark; arguments are passed on.
pub fn run(args: &[String]) -> Result<()> {
    setup::ensure(Purpose::Compare)?;
    build::build(true)?;
    command::become_as_root(&program("colo-bench", true), args)
}

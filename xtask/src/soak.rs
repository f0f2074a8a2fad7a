//! `cargo xtask soak`: what takes too long for the tests: every way of losing one side of a pair, many times.

use anyhow::Result;

use crate::command;
use crate::setup::{self, Purpose};
use crate::{build, build::program};

/// Sets up, builds, and becomes `colo-lab soak`; arguments are passed on.
pub fn run(args: &[String]) -> Result<()> {
    setup::ensure(Purpose::Compare)?;
    build::build(true)?;
    let mut lab = vec!["soak".to_owned()];
    lab.extend_from_slice(args);
    command::become_as_root(&program("colo-lab", true), &lab)
}

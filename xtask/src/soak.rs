//! `cargo xtask soak`: what takes too long for the tests: every way of losing one side of a pair, many times; the time that a
//! takeover takes, by judge; schedules of what goes wrong between two simulated hosts, many thousands.

use anyhow::Result;

use crate::command;
use crate::setup::{self, Purpose};
use crate::{build, build::program};

/// Sets up, builds, and becomes `colo-lab soak`; arguments are passed on.
pub fn run(args: &[String]) -> Result<()> {
    let simulated = args.first().is_some_and(|what| what == "sim" || what == "compare");
    setup::ensure(match args.first().map(String::as_str) {
        Some("sim" | "compare") => Purpose::Build,
        Some("takeover") => Purpose::Judge,
        _ => Purpose::Compare,
    })?;
    build::build(true)?;
    let mut lab = vec!["soak".to_owned()];
    lab.extend_from_slice(args);
    let program = program("colo-lab", true);
    if simulated { command::become_program(&program, &lab) } else { command::become_as_root(&program, &lab) }
}

//! `cargo xtask run`: the lab, or the agent on given interfaces. Always optimised: what is shown is what is shipped.

use anyhow::Result;

use crate::command;
use crate::setup::{self, Purpose};
use crate::{build, build::program};

/// Sets up, builds, and becomes the lab or the agent. Nothing of this process is left, so Ctrl-C is theirs.
pub fn run(args: &[String]) -> Result<()> {
    setup::ensure(purpose(args))?;
    build::build(true)?;
    if is_agent(args) {
        return command::become_as_root(&program("colo", true), args);
    }
    let mut lab = vec!["run".to_owned()];
    lab.extend_from_slice(args);
    command::become_as_root(&program("colo-lab", true), &lab)
}

/// VMs need QEMU, the light lab and the agent do not.
fn purpose(args: &[String]) -> Purpose {
    let light = args.iter().any(|arg| arg.ends_with("namespaces"));
    if is_agent(args) || light { Purpose::Lab } else { Purpose::Compare }
}

/// A first word without a dash is a subcommand of colo; all else is for the lab.
fn is_agent(args: &[String]) -> bool {
    args.first().is_some_and(|first| !first.starts_with('-'))
}

#[cfg(test)]
mod tests;

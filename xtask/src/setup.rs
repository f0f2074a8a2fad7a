//! `cargo xtask setup`: finds out what is missing, says what it installs and why, and installs it.
//!
//! Four things are looked at, each by at most one command, so that a look costs a fraction of a second: Debian packages
//! ([`packages`], for the programs of [`programs`]), the toolchain for the eBPF object ([`toolchain`]), bpf-linker ([`linker`])
//! and the bpffs ([`bpffs`]). What is missing becomes a [`Plan`], which is either carried out or, on another system or without
//! the rights, printed as commands.

pub mod bpffs;
mod linker;
pub mod packages;
pub mod programs;
pub mod toolchain;

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use linker::Linker;
use packages::Package;
use toolchain::Toolchain;

/// What a task needs the machine for, each with all of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Compiling the agent and the eBPF object.
    Build,
    /// The lab in namespaces, and the agent itself.
    Lab,
    /// VMs, and the peer that tests and benchmark compare with.
    Compare,
    /// The judge of a pair.
    Judge,
    /// What only tests need: what an operator's host has or has not, and need not have for the lab.
    Test,
}

impl Purpose {
    /// All of them, in their order.
    pub const ALL: [Purpose; 5] =
        [Purpose::Build, Purpose::Lab, Purpose::Compare, Purpose::Judge, Purpose::Test];
}

/// `cargo xtask setup`: everything that any task needs.
pub fn run() -> Result<()> {
    if !ensure(Purpose::Test)? {
        eprintln!("nothing to do: packages, toolchain, bpf-linker and bpffs are in place");
    }
    Ok(())
}

/// Installs what is missing for a purpose. True if something was.
pub fn ensure(purpose: Purpose) -> Result<bool> {
    let plan = Plan::make(purpose)?;
    if plan.steps.is_empty() {
        return Ok(false);
    }
    eprintln!("set-up:");
    for step in &plan.steps {
        eprint!("{}", step.explained());
    }
    if let Some(reason) = plan.refusal(command::is_root()) {
        bail!("{reason}. The set-up is\n{}", plan.script(command::is_root()));
    }
    for step in &plan.steps {
        step.carry_out()?;
    }
    // A step that ended well may still have changed nothing that counts: a program outside of PATH, an old package.
    let rest = Plan::make(purpose)?;
    if !rest.steps.is_empty() {
        bail!("the set-up ended well, yet this is still missing:\n{}", rest.script(command::is_root()));
    }
    Ok(true)
}

/// One thing to do.
#[derive(Debug, PartialEq)]
enum Step {
    /// Install these Debian packages.
    Packages(Vec<&'static Package>),
    /// Outside of Debian: the operator installs these programs.
    Programs(Vec<&'static Package>),
    /// Make Debian's compiler known to rustup.
    LinkToolchain,
    /// Outside of Debian: the operator installs a nightly with the library's sources.
    Nightly,
    /// Build and install bpf-linker.
    Linker(Linker),
    /// Beside a nightly, or outside of Debian: the operator installs bpf-linker.
    LinkerByHand(Linker),
    /// Mount the bpffs.
    Bpffs,
}

/// What is to be done, in order.
#[derive(Debug)]
struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// Looks at the machine.
    fn make(purpose: Purpose) -> Result<Plan> {
        let toolchain = toolchain::detect()?;
        let missing = packages::missing(purpose, toolchain)?;
        let bpffs = purpose < Purpose::Lab || bpffs::is_mounted();
        Ok(Plan::new(missing, toolchain, linker::detect(), bpffs, packages::on_debian()))
    }

    fn new(
        missing: Vec<&'static Package>,
        toolchain: Toolchain,
        linker: Linker,
        bpffs: bool,
        on_debian: bool,
    ) -> Plan {
        let mut steps = Vec::new();
        if !missing.is_empty() {
            steps.push(if on_debian { Step::Packages(missing) } else { Step::Programs(missing) });
        }
        match toolchain {
            Toolchain::Nightly | Toolchain::Linked | Toolchain::NoRustup => {}
            Toolchain::Unlinked if on_debian => steps.push(Step::LinkToolchain),
            Toolchain::Unlinked => steps.push(Step::Nightly),
        }
        if !linker.usable() {
            let ours = on_debian && toolchain != Toolchain::Nightly;
            steps.push(if ours { Step::Linker(linker) } else { Step::LinkerByHand(linker) });
        }
        if !bpffs {
            steps.push(Step::Bpffs);
        }
        Plan { steps }
    }

    /// Why the plan cannot be carried out by this process, if so.
    fn refusal(&self, root: bool) -> Option<&'static str> {
        self.steps.iter().find_map(|step| match step {
            Step::Packages(_) if !root => Some("installing packages needs root"),
            Step::Bpffs if !root => Some("mounting the bpffs needs root"),
            Step::Programs(_) | Step::Nightly => Some("this is not Debian, so nothing is installed"),
            Step::LinkerByHand(_) => {
                Some("bpf-linker must fit the LLVM of the compiler in use, so none is installed")
            }
            _ => None,
        })
    }

    /// The commands, one a line, to be typed as they stand.
    fn script(&self, root: bool) -> String {
        let mut script = String::new();
        for step in &self.steps {
            for line in step.lines(root) {
                script.push_str("    ");
                script.push_str(&line);
                script.push('\n');
            }
        }
        script
    }
}

impl Step {
    /// What and why, one line each.
    fn explained(&self) -> String {
        match self {
            Step::Packages(packages) | Step::Programs(packages) => {
                packages.iter().map(|package| format!("  {:<16} {}\n", package.name, package.why)).collect()
            }
            Step::LinkToolchain => {
                format!(
                    "  {:<16} rustup's name for Debian's compiler, which builds the eBPF object\n",
                    "debian"
                )
            }
            Step::Nightly => {
                format!("  {:<16} builds the eBPF object: `core` is compiled for the BPF target\n", "nightly")
            }
            Step::Linker(found) | Step::LinkerByHand(found) => {
                format!("  {:<16} links the eBPF object and makes its BTF ({found})\n", "bpf-linker")
            }
            Step::Bpffs => format!(
                "  {:<16} is not mounted at {}: programs and maps outlive their agent in it; until the machine's next start\n",
                "bpffs",
                bpffs::PLACE
            ),
        }
    }

    fn lines(&self, root: bool) -> Vec<String> {
        match self {
            Step::Programs(packages) => {
                let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
                vec![format!("# install what Debian calls: {}", names.join(" "))]
            }
            Step::Nightly => {
                vec!["rustup toolchain install nightly --component rust-src".to_owned()]
            }
            Step::LinkerByHand(_) => vec![linker::BY_HAND.to_owned()],
            Step::Packages(_) | Step::LinkToolchain | Step::Linker(_) | Step::Bpffs => {
                let of_root = matches!(self, Step::Packages(_) | Step::Bpffs);
                let sudo = if of_root && !root { "sudo " } else { "" };
                self.commands().iter().map(|command| format!("{sudo}{}", command::shown(command))).collect()
            }
        }
    }

    fn commands(&self) -> Vec<Command> {
        match self {
            Step::Packages(packages) => packages::commands(packages),
            Step::LinkToolchain => vec![toolchain::link()],
            Step::Linker(_) => vec![linker::install()],
            Step::Bpffs => vec![bpffs::mount()],
            Step::Programs(_) | Step::Nightly | Step::LinkerByHand(_) => Vec::new(),
        }
    }

    fn carry_out(&self) -> Result<()> {
        let (name, way_out) = match self {
            Step::Packages(_) => ("packages", packages::WAY_OUT),
            Step::LinkToolchain => ("toolchain", "`rustup toolchain list` shows what is there"),
            Step::Linker(_) => ("bpf-linker", linker::WAY_OUT),
            Step::Bpffs => ("bpffs", bpffs::WAY_OUT),
            Step::Programs(_) | Step::Nightly | Step::LinkerByHand(_) => return Ok(()),
        };
        for mut command in self.commands() {
            command::run(name, &mut command, way_out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

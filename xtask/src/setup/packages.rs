//! Debian packages: the table, and what is missing of it.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::programs::PROGRAMS;
use super::{Purpose, Toolchain};
use crate::command;

/// A Debian package that something here needs.
#[derive(Debug, PartialEq)]
pub struct Package {
    /// Its name in Debian.
    pub name: &'static str,
    /// The smallest purpose that needs it. What only a build needs is the eBPF compiler, where that is Debian's.
    from: Purpose,
    /// The reason for installing it.
    pub why: &'static str,
}

const fn package(name: &'static str, from: Purpose, why: &'static str) -> Package {
    Package { name, from, why }
}

/// Everything that is ever installed: what owns a program of [`PROGRAMS`] and is not on every Debian system, or has another
/// reason, and leaves with it. None is left to another's dependencies: those may be weakened to recommendations, which are not
/// installed. A C compiler is not among them: without one this program would not have been built.
pub const PACKAGES: &[Package] = &[
    package("rustc-web", Purpose::Build, "compiles the eBPF object"),
    package("cargo-web", Purpose::Build, "drives that compiler"),
    package("rust-web-src", Purpose::Build, "its library sources: `core` is built for the BPF target"),
    package("llvm-22-dev", Purpose::Build, "bpf-linker links against LLVM 22"),
    package("iproute2", Purpose::Lab, "namespaces, veth pairs and taps"),
    package("mount", Purpose::Lab, "mounts the bpffs, and what is a node's own"),
    package("ethtool", Purpose::Lab, "switches offloads off"),
    package("tcpdump", Purpose::Lab, "what left toward the client, for the lab and the tests"),
    package("binutils", Purpose::Compare, "the program of the lab's VMs without its debug information"),
    package("e2fsprogs", Purpose::Compare, "the file system of the VMs, made and checked"),
    package("procps", Purpose::Compare, "interfaces that say nothing by themselves, by sysctl"),
    package("qemu-system-x86", Purpose::Compare, "its colo-compare is what we are compared with"),
    package(
        "etcd-server",
        Purpose::Judge,
        "the judge of the lab's pairs, for the tests and the soak of takeovers",
    ),
    package(
        "corosync",
        Purpose::Test,
        "the membership of Pacemaker's nodes, in namespaces; Debian starts a service, which is not needed",
    ),
    package(
        "pacemaker",
        Purpose::Test,
        "drives the OCF resource agent, in namespaces; Debian starts a service, which is not needed",
    ),
    package("pacemaker-cli-utils", Purpose::Test, "what Pacemaker's nodes are asked and ordered by"),
    package("resource-agents", Purpose::Test, "tests the OCF resource agent"),
    package(
        "curl",
        Purpose::Test,
        "the client of the captures in tests/captures, where they are recorded anew",
    ),
    package("python3-minimal", Purpose::Test, "runs the script that records them"),
    package("python3", Purpose::Test, "that script's library"),
    package("libxml2-utils", Purpose::Test, "checks the OCF resource agent's description, for ocf-tester"),
];

/// What to do when apt fails.
pub const WAY_OUT: &str = "rustc-web and llvm-22-dev are in bookworm-security and bookworm-updates: check \
     /etc/apt/sources.list; or install a nightly with rust-src (`rustup toolchain install nightly --component rust-src`), \
     which needs no rustc-web";

/// Whether packages are Debian's here.
pub fn on_debian() -> bool {
    Path::new("/etc/debian_version").exists() && command::find_program("dpkg-query").is_some()
}

/// Looks for what a purpose needs with the given toolchain, by one call of dpkg-query.
pub fn missing(purpose: Purpose, toolchain: Toolchain) -> Result<Vec<&'static Package>> {
    let wanted = wanted(purpose, toolchain);
    if wanted.is_empty() {
        return Ok(wanted);
    }
    if !on_debian() {
        let there = |program: &str| command::find_program(program).is_some();
        return Ok(wanted.into_iter().filter(|package| is_absent(package, purpose, there)).collect());
    }
    // Ends with 1 when a package is unknown, which is no error here: what counts is what it lists.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(wanted.iter().map(|package| package.name))
        .output()
        .context("cannot start dpkg-query")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(not_installed(wanted, &listing))
}

/// All that a purpose needs with the given toolchain, installed or not.
pub fn wanted(purpose: Purpose, toolchain: Toolchain) -> Vec<&'static Package> {
    let needed = |package: &&Package| match package.from {
        Purpose::Build => toolchain != Toolchain::Nightly,
        from => from <= purpose,
    };
    PACKAGES.iter().filter(needed).collect()
}

/// On another system: whether a program that the purpose calls, and that Debian has in this package, is not there.
fn is_absent(package: &Package, purpose: Purpose, there: impl Fn(&str) -> bool) -> bool {
    let mut called = PROGRAMS.iter().filter(|program| program.from <= purpose);
    called
        .any(|program| program.file().is_some_and(|(owner, _)| owner == package.name) && !there(program.name))
}

fn not_installed(wanted: Vec<&'static Package>, listing: &str) -> Vec<&'static Package> {
    let installed: HashSet<&str> =
        listing.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    wanted.into_iter().filter(|package| !installed.contains(package.name)).collect()
}

/// The commands that install packages.
pub fn commands(packages: &[&Package]) -> Vec<Command> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments);
        command
    };
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    install.env("DEBIAN_FRONTEND", "noninteractive").args(packages.iter().map(|package| package.name));
    vec![apt(&["update"]), install]
}

#[cfg(test)]
mod tests;

//! Debian packages: the table, and what is missing of it.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Purpose, Toolchain};
use crate::command;

/// A Debian package that something here needs.
#[derive(Debug, PartialEq)]
pub struct Package {
    /// Its name in Debian.
    pub name: &'static str,
    /// Which program or file proves it on another system; nothing where there is no counterpart to ask for.
    program: Option<&'static str>,
    scope: Scope,
    /// The reason for installing it.
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scope {
    /// A build whose eBPF compiler is Debian's, and with it bpf-linker's LLVM.
    DebianToolchain,
    /// Namespaces: lab, tests, benchmark.
    Net,
    /// VMs: the pair of the lab, tests and benchmark, and the peer.
    Peer,
    /// The judge of pairs: tests, and the soak of takeovers.
    Judge,
    /// Tests alone: what an operator's host has or has not, and need not have for the lab.
    Test,
}

const fn package(
    name: &'static str,
    program: Option<&'static str>,
    scope: Scope,
    why: &'static str,
) -> Package {
    Package { name, program, scope, why }
}

/// Everything that is ever installed. A line leaves when its reason does. A C linker is not among them: without one
/// this program would not have been built.
const PACKAGES: &[Package] = &[
    package("rustc-web", None, Scope::DebianToolchain, "compiles the eBPF object"),
    package("cargo-web", None, Scope::DebianToolchain, "drives that compiler"),
    package(
        "rust-web-src",
        None,
        Scope::DebianToolchain,
        "its library sources: `core` is built for the BPF target",
    ),
    package("llvm-22-dev", None, Scope::DebianToolchain, "bpf-linker links against LLVM 22"),
    package("iproute2", Some("ip"), Scope::Net, "namespaces, veth pairs and taps"),
    package(
        "etcd-server",
        Some("etcd"),
        Scope::Judge,
        "the judge of the lab's pairs, for the tests and the soak of takeovers",
    ),
    package(
        "binutils",
        Some("strip"),
        Scope::Peer,
        "the program of the lab's VMs without its debug information",
    ),
    package("ethtool", Some("ethtool"), Scope::Net, "switches offloads off"),
    package("e2fsprogs", Some("mke2fs"), Scope::Peer, "the file system of the VMs, made and checked"),
    package("tcpdump", Some("tcpdump"), Scope::Net, "what left toward the client, for the lab and the tests"),
    package(
        "qemu-system-x86",
        Some("qemu-system-x86_64"),
        Scope::Peer,
        "its colo-compare is what we are compared with",
    ),
    package("libxml2-utils", Some("xmllint"), Scope::Test, "checks the OCF resource agent's description"),
    package(
        "corosync",
        Some("corosync"),
        Scope::Test,
        "the membership of Pacemaker's nodes, in namespaces; Debian starts a service, which is not needed",
    ),
    package(
        "pacemaker",
        Some("pacemakerd"),
        Scope::Test,
        "drives the OCF resource agent, in namespaces; Debian starts a service, which is not needed",
    ),
    package("resource-agents", Some("ocf-tester"), Scope::Test, "tests the OCF resource agent"),
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
        let absent =
            |package: &Package| package.program.is_some_and(|name| command::find_program(name).is_none());
        return Ok(wanted.into_iter().filter(|package| absent(package)).collect());
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
    let needed = |scope| match scope {
        Scope::DebianToolchain => toolchain != Toolchain::Nightly,
        Scope::Net => purpose != Purpose::Build,
        Scope::Peer => matches!(purpose, Purpose::Compare | Purpose::Judge | Purpose::Test),
        Scope::Judge => matches!(purpose, Purpose::Judge | Purpose::Test),
        Scope::Test => purpose == Purpose::Test,
    };
    PACKAGES.iter().filter(|package| needed(package.scope)).collect()
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

//! Every external program that the project's code calls, and which Debian package brings it.
//!
//! A program is called by the set-up, the lab and the tests, by colo, by its OCF resource agent, or by a script of theirs. CI
//! looks for calls in the sources and refuses one that is not listed here, one that is made sooner than is said here, and a line
//! that nobody calls; and it resolves [`PACKAGES`](super::packages::PACKAGES) on a machine that has nothing, where each of these
//! programs must be owned by a package of its purpose.

use super::Purpose;

/// A program.
#[derive(Debug)]
pub struct Program {
    /// The name by which it is called.
    pub name: &'static str,
    /// Where it comes from.
    pub origin: Origin,
    /// The smallest purpose for which it is called.
    pub from: Purpose,
}

/// Where a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Debian package, which has it under its own name.
    Package(&'static str),
    /// A Debian package, which has it under this other name and installs it as the alternative.
    Alternative(&'static str, &'static str),
    /// The operator, before anything else: rustup and its toolchain; sudo, for who is not root.
    Operator,
    /// The set-up builds it.
    Built,
}

impl Program {
    /// The package that brings it, and the name of its file there.
    pub fn file(&self) -> Option<(&'static str, &'static str)> {
        match self.origin {
            Origin::Package(package) => Some((package, self.name)),
            Origin::Alternative(package, file) => Some((package, file)),
            Origin::Operator | Origin::Built => None,
        }
    }
}

const fn program(from: Purpose, name: &'static str, package: &'static str) -> Program {
    Program { name, origin: Origin::Package(package), from }
}

const fn other(from: Purpose, name: &'static str, origin: Origin) -> Program {
    Program { name, origin, from }
}

/// The table.
pub const PROGRAMS: &[Program] = &[
    // What builds, and what the set-up itself calls.
    other(Purpose::Build, "cargo", Origin::Operator),
    other(Purpose::Build, "rustc", Origin::Operator),
    other(Purpose::Build, "rustup", Origin::Operator),
    other(Purpose::Build, "sudo", Origin::Operator),
    other(Purpose::Build, "bpf-linker", Origin::Built),
    program(Purpose::Build, "apt-get", "apt"),
    program(Purpose::Build, "dpkg-query", "dpkg"),
    program(Purpose::Build, "sh", "dash"),
    // The namespaces of the lab. The mount is the set-up's, of the bpffs.
    program(Purpose::Lab, "mount", "mount"),
    program(Purpose::Lab, "ip", "iproute2"),
    program(Purpose::Lab, "nsenter", "util-linux"),
    program(Purpose::Lab, "ethtool", "ethtool"),
    program(Purpose::Lab, "tcpdump", "tcpdump"),
    program(Purpose::Lab, "cat", "coreutils"),
    program(Purpose::Lab, "env", "coreutils"),
    // VMs, their image and their disk; the benchmark.
    program(Purpose::Compare, "qemu-system-x86_64", "qemu-system-x86"),
    program(Purpose::Compare, "apt-cache", "apt"),
    program(Purpose::Compare, "dpkg", "dpkg"),
    program(Purpose::Compare, "ld-linux-x86-64.so.2", "libc6"),
    program(Purpose::Compare, "strip", "binutils"),
    other(Purpose::Compare, "cc", Origin::Alternative("gcc", "gcc")),
    program(Purpose::Compare, "mke2fs", "e2fsprogs"),
    program(Purpose::Compare, "e2fsck", "e2fsprogs"),
    program(Purpose::Compare, "debugfs", "e2fsprogs"),
    program(Purpose::Compare, "sysctl", "procps"),
    // The judge.
    program(Purpose::Judge, "etcd", "etcd-server"),
    // The nodes of a Pacemaker cluster.
    program(Purpose::Test, "unshare", "util-linux"),
    program(Purpose::Test, "hostname", "hostname"),
    program(Purpose::Test, "corosync", "corosync"),
    program(Purpose::Test, "corosync-cfgtool", "corosync"),
    program(Purpose::Test, "pacemakerd", "pacemaker"),
    program(Purpose::Test, "crm_mon", "pacemaker-cli-utils"),
    program(Purpose::Test, "crm_resource", "pacemaker-cli-utils"),
    program(Purpose::Test, "chmod", "coreutils"),
    program(Purpose::Test, "chown", "coreutils"),
    program(Purpose::Test, "cp", "coreutils"),
    program(Purpose::Test, "grep", "grep"),
    program(Purpose::Test, "ln", "coreutils"),
    program(Purpose::Test, "mkdir", "coreutils"),
    program(Purpose::Test, "readlink", "coreutils"),
    program(Purpose::Test, "sleep", "coreutils"),
    program(Purpose::Test, "tail", "coreutils"),
    // The OCF resource agent, and what it is tested by.
    program(Purpose::Test, "ocf-tester", "resource-agents"),
    other(Purpose::Test, "awk", Origin::Alternative("mawk", "mawk")),
    program(Purpose::Test, "head", "coreutils"),
    program(Purpose::Test, "rm", "coreutils"),
    program(Purpose::Test, "rmdir", "coreutils"),
    program(Purpose::Test, "sed", "sed"),
    program(Purpose::Test, "setsid", "util-linux"),
    program(Purpose::Test, "tr", "coreutils"),
    program(Purpose::Test, "cut", "coreutils"),
    program(Purpose::Test, "sort", "coreutils"),
    program(Purpose::Test, "uname", "coreutils"),
    // Other tests, and the hooks that they give to colo.
    program(Purpose::Test, "echo", "coreutils"),
    program(Purpose::Test, "mkfifo", "coreutils"),
    program(Purpose::Test, "mv", "coreutils"),
    program(Purpose::Test, "timeout", "coreutils"),
    program(Purpose::Test, "touch", "coreutils"),
    program(Purpose::Test, "update-alternatives", "dpkg"),
    program(Purpose::Test, "yes", "coreutils"),
    // CI itself, and the script that records the captures anew.
    program(Purpose::Test, "bash", "bash"),
    program(Purpose::Test, "dirname", "coreutils"),
    program(Purpose::Test, "curl", "curl"),
    program(Purpose::Test, "python3", "python3-minimal"),
];

//! A network namespace that lives as long as its guard.
//!
//! Names carry the process id, a counter and the clock, so tests that run side by side never meet.
//! [`Netns::enter`] runs a closure on a thread of its own inside the namespace: sockets and
//! attached programs made there stay in it, whichever thread uses them later. Interfaces die with the
//! namespace, which needs no clean-up of its own. Everything here needs root.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A network namespace, deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace named `prefix-<unique>` with its loopback up.
    pub fn new(prefix: &str) -> Result<Self> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{serial}-{nanos:x}", std::process::id());
        let namespace = Self { name };
        ip(&["netns", "add", &namespace.name])?;
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that `setns` and `nsenter --net=` take.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `f` on a new thread inside the namespace and returns what it returns; a panic in `f` goes on here.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let inside = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = File::open(self.path()).expect("the namespace exists while its guard does");
                    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("setns needs root");
                    f()
                })
                .join()
        });
        inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The calling thread is in it from here on.
    pub fn stay(&self) -> Result<()> {
        let file = File::open(self.path())?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// A command that will run inside the namespace, with the host's mounts: what it pins in the bpffs outlives it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).args(["--", program]);
        command
    }

    /// Runs a command line, split at white space, with the namespace's own `/sys`, and returns its standard output; a failure
    /// names the command and carries its standard error.
    pub fn run(&self, command_line: &str) -> Result<String> {
        let mut words = command_line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        output(Command::new("ip").args(["netns", "exec", &self.name, program]).args(words), command_line)
    }

    /// Joins two namespaces by a veth pair, `name` here and `peer_name` there, both up. Transmit checksum and
    /// segmentation and VLAN offloads are off on both ends (XDP would see frames unfinished and without their tag), GRO is on:
    /// a veth takes redirected frames only while its peer runs an XDP program or has GRO on.
    pub fn veth(&self, name: &str, peer: &Self, peer_name: &str) -> Result<()> {
        self.veth_with(name, peer, peer_name, None)
    }

    /// The same, where `name` gets this index.
    pub fn veth_with(&self, name: &str, peer: &Self, peer_name: &str, index: Option<u32>) -> Result<()> {
        let index = index.map(|index| index.to_string());
        let mut words = vec!["link", "add", name, "netns", &self.name];
        words.extend(index.iter().flat_map(|index| ["index", index.as_str()]));
        words.extend(["type", "veth", "peer", "name", peer_name, "netns", &peer.name]);
        ip(&words)?;
        for (namespace, interface) in [(self, name), (peer, peer_name)] {
            namespace.run(&format!("ip link set {interface} up"))?;
            // GRO that is switched on while the link is down does not make its peer a redirect target.
            namespace.run(&format!("ethtool -K {interface} tx off tso off gso off txvlan off gro on"))?;
        }
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // It may not have come to be at all, when `new` failed: nothing is left to do then.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    output(Command::new("ip").args(arguments), &format!("ip {}", arguments.join(" ")))
}

fn output(command: &mut Command, shown: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("`{shown}` could not be started"))?;
    if !output.status.success() {
        bail!("`{shown}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;

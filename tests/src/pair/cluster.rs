//! Corosync and Pacemaker on the two hosts of a pair, with colo's resource agent as a promotable clone.
//!
//! A node is a process tree with mounts, a host name and process ids of its own, in its host's network: what the daemons keep in
//! /run, /var and /dev/shm is the node's. It ends as one, like a host.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{stage::Pair, watch::Side};
use crate::lab::{
    child::Tethered,
    topology::{GUEST, LINK_PRIMARY, LINK_SECONDARY, UPLINK},
};

/// How long the cluster may take for a step: its own limits are tens of seconds.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(500);
/// The clone's name.
const CLONE: &str = "vm-clone";
/// The agent's control socket on each node.
const CONTROL: &str = "/run/colo.sock";

/// What a node does: arguments are its name and the directory with its files.
const NODE: &str = r#"
set -e
hostname "$1"
for place in /run /dev/shm /var/log /var/lib/pacemaker /var/lib/corosync /etc/corosync /usr/lib/ocf/resource.d; do
	mount -t tmpfs tmpfs $place
done
mkdir -p /run/lock /run/crm /var/log/pacemaker /var/log/corosync /usr/lib/ocf/resource.d/colo
mkdir -p /var/lib/pacemaker/cib /var/lib/pacemaker/pengine /var/lib/pacemaker/blackbox /var/lib/pacemaker/cores
cp "$2/corosync.conf" /etc/corosync/
ln -s "$(readlink "$2/$1.qmp")" /run/vm.qmp
cp "$2/cib.xml" /var/lib/pacemaker/cib/
cp "$2/agent" /usr/lib/ocf/resource.d/colo/colo
chown -R hacluster:haclient /var/lib/pacemaker /run/crm /var/log/pacemaker
chmod 600 /var/lib/pacemaker/cib/cib.xml
corosync -f &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.2; done
exec pacemakerd
"#;

const CONF: &str = "\
totem {
 version: 2
 cluster_name: colo
 transport: udpu
 crypto_cipher: none
 crypto_hash: none
 token: 3000
}
nodelist {
 node {
  name: node1
  nodeid: 1
  ring0_addr: PRIMARY
 }
 node {
  name: node2
  nodeid: 2
  ring0_addr: SECONDARY
 }
}
quorum {
 provider: corosync_votequorum
 two_node: 1
 wait_for_all: 0
}
logging {
 to_stderr: yes
 to_syslog: no
}
system {
 sched_rr: no
}
";

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Tethered; 2],
}

impl Cluster {
    /// Starts both nodes beside the VMs of a pair; the first is preferred as the service.
    pub fn start(pair: &Pair) -> Result<Self> {
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../colo-user/ocf/colo");
        fs::copy(agent, pair.path("agent"))?;
        let conf = CONF.replace("PRIMARY", LINK_PRIMARY).replace("SECONDARY", LINK_SECONDARY);
        fs::write(pair.path("corosync.conf"), conf)?;
        for (vm, node) in [(&pair.primary, "node1"), (&pair.secondary, "node2")] {
            let monitor = vm.agent_monitor().to_string();
            symlink(monitor.trim_start_matches("unix:"), pair.path(&format!("{node}.qmp")))?;
        }
        fs::write(pair.path("cib.xml"), cib(pair))?;
        let start = |side: Side, name: &str| {
            let own = ["--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"];
            let directory = pair.path("").display().to_string();
            let words = own.into_iter().chain(["sh", "-c", NODE, "node", name, &directory]);
            let words: Vec<String> = words.map(str::to_owned).collect();
            let netns = &match side {
                Side::First => &pair.topology.primary,
                Side::Second => &pair.topology.secondary,
            }
            .netns;
            let log = pair.path(&format!("{name}.log"));
            Tethered::start(&pair.programs, netns, Path::new("unshare"), &words, &log, false)
        };
        Ok(Self { nodes: [start(Side::First, "node1")?, start(Side::Second, "node2")?] })
    }

    /// Runs a command on a node: whether it ended well, and what it wrote.
    pub fn run(&self, side: Side, words: &[&str]) -> Result<(bool, String)> {
        let node = &self.nodes[usize::from(side == Side::Second)];
        let output = Command::new("nsenter")
            .args(["--mount", "--uts", "--net", "--pid", "--target", &first(node)?, "--"])
            .args(words)
            .output()?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    /// What `colo status` says on a node.
    pub fn status(&self, side: Side, colo: &Path) -> Result<serde_json::Value> {
        let colo = colo.display().to_string();
        let (_, text) = self.run(side, &[&colo, "status", "--json", "--control", CONTROL])?;
        serde_json::from_str(&text).with_context(|| format!("no status: {text}"))
    }

    /// Waits until the cluster, as a node sees it, has promoted the clone on the node `name`, and nowhere else.
    pub fn wait_promoted(&self, seen_by: Side, name: &str) -> Result<()> {
        let wanted = format!("Promoted: [ {name} ]");
        self.wait(seen_by, &wanted, |text| text.contains(&wanted))
    }

    /// Waits until what `crm_mon` shows is as wanted.
    pub fn wait(&self, seen_by: Side, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.run(seen_by, &["crm_mon", "-1", "--inactive"]);
            let text = seen.map_or_else(|error| format!("{error:#}"), |(_, text)| text);
            if wanted(&text) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "not within {PATIENCE:?}: {what}; crm_mon:\n{text}\n{}",
                self.logs()
            );
            thread::sleep(LOOK);
        }
    }

    /// Has the cluster make another node the service.
    pub fn move_to(&self, name: &str) -> Result<()> {
        let (moved, text) = self.run(
            Side::First,
            &["crm_resource", "--move", "--resource", CLONE, "--promoted", "--node", name],
        )?;
        ensure!(moved, "{text}");
        Ok(())
    }

    /// Ends a node as a host ends that loses its power; its VM is not part of it.
    pub fn lose(&mut self, side: Side) {
        end(&mut self.nodes[usize::from(side == Side::Second)]);
    }

    /// What the agents and the daemons of both nodes have said.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (side, node) in [Side::First, Side::Second].into_iter().zip(&self.nodes) {
            let own = node.log();
            let lines: Vec<&str> = own.lines().collect();
            text += &lines[lines.len().saturating_sub(10)..].join("\n");
            let what = "colo|vm.*(promote|demote|start|stop)";
            for said in [
                self.run(side, &["tail", "-n", "40", "/var/log/colo-vm.log"]),
                self.run(side, &["grep", "-hE", what, "/var/log/pacemaker/pacemaker.log"]),
            ] {
                let (_, said) = said.unwrap_or_default();
                let lines: Vec<&str> = said.lines().collect();
                text += &format!("--- {side:?}\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        text
    }
}

impl Drop for Cluster {
    /// Nothing of a node has to be put away.
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(end);
    }
}

/// A node's first process, with which it ends.
fn first(node: &Tethered) -> Result<String> {
    let outer = node.id();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
    Ok(children.split_whitespace().next().context("the node has ended")?.to_owned())
}

fn end(node: &mut Tethered) {
    let pid = first(node).ok().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    // It may have ended by itself.
    let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    node.stop();
}

/// The cluster's configuration: no node fences another, the judge decides.
fn cib(pair: &Pair) -> String {
    let colo = pair.programs.colo.display().to_string();
    let directory = pair.path("").display().to_string();
    let pairs = |set: &str, values: &[(&str, &str)]| -> String {
        let pair = |(name, value): &(&str, &str)| {
            format!("<nvpair id=\"{set}-{name}\" name=\"{name}\" value=\"{value}\"/>")
        };
        values.iter().map(pair).collect()
    };
    let options = pairs(
        "options",
        &[("stonith-enabled", "false"), ("dc-deadtime", "3s"), ("no-quorum-policy", "ignore")],
    );
    let meta = pairs("meta", &[("promotable", "true"), ("notify", "true")]);
    let addresses = format!("node1={LINK_PRIMARY} node2={LINK_SECONDARY}");
    let parameters = pairs(
        "vm",
        &[
            ("binary", &colo),
            ("guest", GUEST),
            ("uplink", UPLINK),
            ("addresses", &addresses),
            ("control", CONTROL),
            ("qmp", "unix:/run/vm.qmp"),
            ("judge", &format!("lock:{directory}")),
            ("options", "--vm-timeout 5000"),
            ("primary_options", "--wait-min 2000 --wait-max 4000"),
        ],
    );
    format!(
        "<cib crm_feature_set=\"3.16.1\" validate-with=\"pacemaker-3.9\" epoch=\"1\" num_updates=\"0\" admin_epoch=\"1\">\
         <configuration><crm_config><cluster_property_set id=\"options\">{options}</cluster_property_set></crm_config><nodes/>\
         <resources><clone id=\"{CLONE}\"><meta_attributes id=\"meta\">{meta}</meta_attributes>\
         <primitive id=\"vm\" class=\"ocf\" provider=\"colo\" type=\"colo\">\
         <instance_attributes id=\"vm-parameters\">{parameters}</instance_attributes><operations>\
         <op id=\"vm-promoted\" name=\"monitor\" role=\"Promoted\" interval=\"2s\" timeout=\"20s\"/>\
         <op id=\"vm-unpromoted\" name=\"monitor\" role=\"Unpromoted\" interval=\"3s\" timeout=\"20s\"/>\
         <op id=\"vm-start\" name=\"start\" interval=\"0s\" timeout=\"30s\"/>\
         <op id=\"vm-promote\" name=\"promote\" interval=\"0s\" timeout=\"60s\"/>\
         <op id=\"vm-demote\" name=\"demote\" interval=\"0s\" timeout=\"60s\"/>\
         </operations></primitive></clone></resources><constraints><rsc_location id=\"home\" rsc=\"{CLONE}\">\
         <rule id=\"home-rule\" role=\"Promoted\" score=\"50\"><expression id=\"home-node\" attribute=\"#uname\" operation=\"eq\" \
         value=\"node1\"/></rule></rsc_location></constraints></configuration><status/></cib>\n"
    )
}

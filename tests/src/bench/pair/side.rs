//! What is measured side by side: five ways to serve one client by two VMs, or by one.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{checkpoints::Followed as Checkpoints, stock};
use crate::{
    lab::{
        child::{Programs, Tethered},
        topology::{CAPTURE, GUEST, Host, LINK_PRIMARY, UPLINK},
    },
    netns::Netns,
    pair::stage::{Followed, PATIENCE, Pair, Setup, cache},
};

/// Time between two periodic checkpoints, with our agents and with stock: QEMU's default.
pub const PERIOD: Duration = Duration::from_secs(20);
/// How long our agent waits at least for a late secondary, in milliseconds. Stock waits 3,000. Four virtual machines' worth of
/// threads on few cores are off their processor for longer than the default.
const WAIT: &str = "500";

/// One of the five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Two VMs that know nothing of each other, each behind a plain bridge and with a client of its own that does the same.
    Ceiling,
    /// Two VMs with QEMU's own proxy, network cards without offloads.
    Stock,
    /// Two VMs with our agents, the same network cards.
    Colo,
    /// One VM behind a plain bridge.
    Plain,
    /// As stock, with the offloads that QEMU has by default.
    StockOffloads,
}

impl Side {
    /// All of them, in the order in which a round takes them.
    pub const ALL: [Self; 5] = [Self::Ceiling, Self::Stock, Self::Colo, Self::Plain, Self::StockOffloads];

    /// The name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Stock => "stock",
            Self::Colo => "colo",
            Self::Plain => "plain",
            Self::StockOffloads => "stock-offloads",
        }
    }
}

/// A side that serves.
#[derive(Debug)]
pub struct Running {
    // What is dropped first ends first.
    agents: Vec<Tethered>,
    /// The VMs and the client.
    pub pair: Pair,
    /// The client of the second VM, where it has one.
    pub shadow: Option<Netns>,
    /// The checkpoints since the pair was protected, where it is.
    pub checkpoints: Option<Checkpoints>,
}

impl Running {
    /// Boots a side and protects it, if it can be.
    pub fn start(side: Side, programs: &Programs, runtime: &Runtime) -> Result<Self> {
        let setup = match side {
            Side::Ceiling => Setup { apart: true, ..Setup::default() },
            Side::Stock => stock::setup(false),
            Side::StockOffloads => stock::setup(true),
            Side::Colo | Side::Plain => Setup::default(),
        };
        let pair = Pair::boot_as(programs, &cache(&programs.lab), &setup)?;
        let mut running = Self { agents: Vec::new(), pair, shadow: None, checkpoints: None };
        let topology = &running.pair.topology;
        match side {
            Side::Plain => topology.forward_plain()?,
            Side::Ceiling => {
                topology.forward_plain()?;
                running.shadow = Some(shadow(&topology.secondary)?);
            }
            Side::Stock | Side::StockOffloads => {
                if side == Side::StockOffloads {
                    for (namespace, end) in [(&topology.primary.netns, UPLINK), (&topology.client, CAPTURE)] {
                        namespace.run(&format!("ethtool -K {end} tx on tso on gso on"))?;
                    }
                }
                topology.forward_plain()?;
                running.protect(runtime)?;
            }
            Side::Colo => {
                running.protect(runtime)?;
                running.start_agents()?;
            }
        }
        Ok(running)
    }

    fn protect(&mut self, runtime: &Runtime) -> Result<()> {
        let followed = runtime.block_on(async {
            let (mut primary, _) = Followed::open("primary", &self.pair.primary).await?;
            let (mut secondary, _) = Followed::open("secondary", &self.pair.secondary).await?;
            self.pair.protect(&mut primary, &mut secondary, PERIOD).await?;
            anyhow::Ok(Checkpoints::follow(&primary.client))
        })?;
        self.checkpoints = Some(followed);
        Ok(())
    }

    fn start_agents(&mut self) -> Result<()> {
        let monitors = [&self.pair.primary, &self.pair.secondary].map(|vm| vm.agent_monitor().to_string());
        let peer = format!("tcp:{LINK_PRIMARY}:9000");
        let server = format!("{peer},server=on");
        let topology = &self.pair.topology;
        let first = ["--peer", &server, "--wait-min", WAIT, "--qmp", &monitors[0]];
        let second = ["--peer", &peer, "--qmp", &monitors[1]];
        self.agents.push(agent(&self.pair, &topology.primary, "primary", &first)?);
        self.agents.push(agent(&self.pair, &topology.secondary, "secondary", &second)?);
        let end = Instant::now() + PATIENCE;
        while self.status("primary").is_none_or(|status| status["state"] != "protected") {
            if Instant::now() > end {
                bail!("the agents do not protect the pair: {}", self.logs());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// What `colo status --json` says of an agent.
    #[must_use]
    pub fn status(&self, role: &str) -> Option<Value> {
        let control = self.pair.path(&format!("{role}.sock"));
        let colo = &self.pair.programs.colo;
        let output = Command::new(colo).args(["status", "--json", "--control"]).arg(control).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What the programs wrote, for a person who looks for a reason.
    #[must_use]
    pub fn logs(&self) -> String {
        let vms = [&self.pair.primary, &self.pair.secondary];
        let logs = vms.map(crate::pair::vm::Vm::log).into_iter().chain(self.agents.iter().map(Tethered::log));
        let end = |log: String| log.lines().rev().take(20).collect::<Vec<_>>().join("\n");
        logs.map(end).collect::<Vec<_>>().join("\n---\n")
    }
}

/// A client for the second VM alone. Its wire is made as the first one's.
fn shadow(host: &Host) -> Result<Netns> {
    let client = Netns::new("colo-client")?;
    host.netns.veth("shadow0", &client, "eth0")?;
    client.run("ip addr add 192.0.2.1/24 dev eth0")?;
    host.join(&[GUEST, "shadow0"])?;
    Ok(client)
}

fn agent(pair: &Pair, host: &Host, role: &str, more: &[&str]) -> Result<Tethered> {
    let control = pair.path(&format!("{role}.sock")).display().to_string();
    let fixed = [role, "--guest", GUEST, "--uplink", UPLINK, "--control", &control];
    let arguments: Vec<String> = fixed.iter().chain(more).map(|word| (*word).to_owned()).collect();
    let log = pair.path(&format!("agent-{role}.log"));
    Tethered::start(&pair.programs, &host.netns, &pair.programs.colo, &arguments, &log, false)
}

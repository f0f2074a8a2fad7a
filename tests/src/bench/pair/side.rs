//! What is measured side by side: the ways to serve one client by two VMs, or by one.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::Result;
use colo_user::qmp::Client;
use tokio::runtime::{Builder, Runtime};

use super::{
    super::process,
    case::Case,
    checkpoints::{Count, count},
    stock,
};
use crate::{
    lab::{
        child::Programs,
        topology::{CAPTURE, GUEST, Host, UPLINK, prepare},
    },
    netns::Netns,
    pair::{
        journal::Journal,
        protected::{Options, Protected},
        stage::{Followed, Pair, Setup, cache},
        vm::Vm,
        watch,
    },
};

/// Time between two periodic checkpoints, with our agents and with stock: QEMU's default.
pub const PERIOD: Duration = Duration::from_secs(20);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Two VMs that know nothing of each other, each behind a plain bridge and with a client of its own that does the same.
    Ceiling,
    /// Two VMs with QEMU's own proxy, network cards without offloads.
    Stock,
    /// Two VMs with our agents, the same network cards.
    Colo,
    /// The ceiling, with one client that waits for both answers.
    Both,
    /// One VM behind a plain bridge.
    Plain,
    /// As colo, the agents' packet threads in the scheduling class of all others.
    ColoNormal,
    /// As stock, with the offloads that QEMU has by default.
    StockOffloads,
}

impl Side {
    /// All of them, in the order in which a round takes them.
    pub const ALL: [Self; 7] = [
        Self::Ceiling,
        Self::Both,
        Self::Stock,
        Self::Colo,
        Self::Plain,
        Self::ColoNormal,
        Self::StockOffloads,
    ];

    /// Whether this traffic means something on it.
    #[must_use]
    pub const fn takes(self, case: Case) -> bool {
        !matches!(self, Self::Both) || matches!(case, Case::Byte | Case::Kilobyte)
    }

    /// The name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Stock => "stock",
            Self::Colo => "colo",
            Self::Both => "both",
            Self::Plain => "plain",
            Self::ColoNormal => "colo-normal",
            Self::StockOffloads => "stock-offloads",
        }
    }
}

/// The VMs of a side.
#[derive(Debug)]
enum Vms {
    /// Nobody asks for checkpoints.
    Bare(Box<Pair>),
    /// QEMU does by itself.
    Stock(Box<Pair>, Journal),
    /// Our agents do.
    Colo(Box<Protected>),
}

/// A side that serves.
#[derive(Debug)]
pub struct Running {
    // What is dropped first ends first.
    vms: Vms,
    /// When the first epoch had begun.
    entered: Instant,
    /// Which it is.
    pub side: Side,
    /// The client of the second VM, where it has one.
    pub shadow: Option<Netns>,
    /// What the journal of a stock pair is written by: it ends with the client.
    _following: Option<(Client, Runtime)>,
}

impl Running {
    /// Boots a side and protects it, if it can be.
    pub fn start(side: Side, programs: &Programs) -> Result<Self> {
        let boot = |setup: &Setup| Pair::boot_as(programs, &cache(&programs.lab), setup);
        let (mut shadow, mut following) = (None, None);
        let mut vms = match side {
            Side::Plain => Vms::Bare(Box::new(boot(&Setup::default())?)),
            Side::Ceiling | Side::Both => {
                let pair = boot(&Setup { apart: true, ..Setup::default() })?;
                shadow = Some(second_client(&pair.topology.secondary)?);
                Vms::Bare(Box::new(pair))
            }
            Side::Stock | Side::StockOffloads => {
                let pair = boot(&stock::setup(side == Side::StockOffloads))?;
                let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                let followed = runtime.block_on(async {
                    let (mut primary, _) = Followed::open("primary", &pair.primary).await?;
                    let (mut secondary, _) = Followed::open("secondary", &pair.secondary).await?;
                    pair.protect(&mut primary, &mut secondary, PERIOD).await?;
                    anyhow::Ok(primary)
                })?;
                let journal = Journal::default();
                let client = journal.follow(&runtime, followed);
                following = Some((client, runtime));
                Vms::Stock(Box::new(pair), journal)
            }
            Side::Colo | Side::ColoNormal => {
                let both = if side == Side::Colo { &[][..] } else { &["--realtime", "0"] };
                let both = both.iter().map(|word| (*word).to_owned()).collect();
                let options = Options { delay: PERIOD, both, ..Options::default() };
                Vms::Colo(Box::new(Protected::start(programs, options, &AtomicBool::new(false))?))
            }
        };
        let entered = Instant::now();
        if let Vms::Bare(pair) | Vms::Stock(pair, ..) = &vms {
            let topology = &pair.topology;
            if side == Side::StockOffloads {
                for (namespace, end) in [(&topology.primary.netns, UPLINK), (&topology.client, CAPTURE)] {
                    namespace.run(&format!("ethtool -K {end} tx on tso on gso on"))?;
                }
            }
            topology.forward_plain()?;
        }
        vms.part()?;
        Ok(Self { vms, entered, side, shadow, _following: following })
    }

    /// The VMs and the client.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        self.vms.pair()
    }

    /// The checkpoints that have begun within `during`; none where nobody makes any.
    #[must_use]
    pub fn checkpoints(&self, during: (Instant, Instant)) -> Option<Count> {
        let journal = match &self.vms {
            Vms::Bare(_) => return None,
            Vms::Stock(_, journal) => journal,
            Vms::Colo(protected) => &protected.journal,
        };
        Some(count(self.entered, PERIOD, &journal.pauses("primary"), during))
    }

    /// What our agents asked checkpoints for, where the guests differed: by kind, and the last divergences.
    #[must_use]
    pub fn reasons(&self) -> Option<String> {
        let Vms::Colo(protected) = &self.vms else { return None };
        let status =
            protected.status(watch::Side::First).ok().filter(|status| !status.divergences().is_empty())?;
        let mut text = status.json()["checkpoints"]["by"].to_string();
        for divergence in status.divergences() {
            text += &format!("\n      {divergence}");
        }
        Some(text)
    }

    /// What the programs wrote, for a person who looks for a reason.
    #[must_use]
    pub fn logs(&self) -> String {
        match &self.vms {
            Vms::Bare(pair) => [&pair.primary, &pair.secondary].map(Vm::log).concat(),
            Vms::Stock(pair, journal) => {
                // For each packet before the secondary is there, and meaning nothing.
                let harmless = "filter mirror send failed";
                let logs = [&pair.primary, &pair.secondary].map(Vm::log).concat();
                let lines: Vec<&str> = logs.lines().filter(|line| !line.contains(harmless)).collect();
                lines.join("\n") + "\n" + &journal.text()
            }
            Vms::Colo(protected) => protected.logs(),
        }
    }
}

impl Vms {
    fn pair(&self) -> &Pair {
        match self {
            Self::Bare(pair) | Self::Stock(pair, ..) => pair,
            Self::Colo(protected) => &protected.pair,
        }
    }

    /// Gives each host its own half of the processors, as two machines have, so that one VM's work never takes the
    /// other's place. The client runs where there is room.
    fn part(&mut self) -> Result<()> {
        let cpus = std::thread::available_parallelism()?.get();
        let halves = [0..cpus / 2, cpus / 2..cpus];
        if halves[0].is_empty() {
            return Ok(());
        }
        let mut hosts: [Vec<u32>; 2] = Default::default();
        if let Self::Colo(protected) = self {
            for (host, side) in hosts.iter_mut().zip([watch::Side::First, watch::Side::Second]) {
                host.push(protected.agent(side).id());
            }
        }
        let pair = match self {
            Self::Bare(pair) | Self::Stock(pair, ..) => &mut **pair,
            Self::Colo(protected) => &mut protected.pair,
        };
        for (host, vm) in hosts.iter_mut().zip([&mut pair.primary, &mut pair.secondary]) {
            host.push(vm.process().id());
        }
        for (host, half) in hosts.iter().zip(halves) {
            for &pid in host {
                process::pin(Some(pid), half.clone())?;
            }
        }
        Ok(())
    }
}

/// A client for the second VM alone. Its wire is made as the first one's.
fn second_client(host: &Host) -> Result<Netns> {
    let client = Netns::new("colo-client")?;
    prepare(&client, true)?;
    host.netns.veth("shadow0", &client, "eth0")?;
    client.run("ip addr add 192.0.2.1/24 dev eth0")?;
    host.join(&[GUEST, "shadow0"])?;
    Ok(client)
}

//! `colo primary`: the agent on the host whose guest is heard.

use super::common::{Common, bypass};
use super::{Misuse, fit};
use crate::agent::primary::OnPeerLoss;
use crate::agent::run::{PrimaryOptions, run};
use crate::checkpoint::BackendSpec;
use crate::compare::{Bypass, Policy};
use crate::datapath::{AgentLimit, Overdue};
use crate::qmp::command::{self, Call};
use clap::{Args, ValueEnum, value_parser};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Guard a guest: what it says leaves only when its replica has said the same
///
/// Runs on the host of the primary. Guest output is held in XDP, compared with what the secondary's guest says over the
/// link, and leaves when it matches. Where they differ, or the secondary is late, a checkpoint is asked for and the frames
/// stay held until it has come. Clients' frames go to the guest in the kernel, and a copy over the link to the replica.
///
/// Protection covers TCP connections that begin after the agents have met (older ones are released and counted as
/// released_unprotected until a checkpoint), and everything that is not TCP. Needs root.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example, the primary on 192.0.2.10 and the secondary on 192.0.2.11:
  primary's host:    colo primary   --guest tap0 --uplink eth1 --peer tcp:192.0.2.10:9000,server=on
  secondary's host:  colo secondary --guest tap0 --uplink eth1 --peer tcp:192.0.2.10:9000
  either:            colo status --control /run/colo/tap0.sock

The guest's interface and the uplink are used as they are and left as they were found; neither may be in a bridge.
On SIGTERM or SIGINT what is held leaves in order (or is dropped, see --on-exit), and the exit status is 0.
Exit status 1: it could not start, or lost an interface. 2: the command line is wrong.

With exec:COMMAND the command finds the divergence in COLO_KIND, COLO_TEXT, COLO_EPOCH, COLO_FLOW, COLO_SEQ, COLO_OFFSET,
COLO_PRIMARY, COLO_SECONDARY (hexadecimal) and COLO_COALESCED. One runs at a time, for at most 30 s; what comes meanwhile is
one more run. With notify:ENDPOINT the agent speaks QEMU's notify_dev protocol: DO_CHECKPOINT each second until
COLO_CHECKPOINT says that the secondary owns the state, which releases what is held.

With --qmp ENDPOINT, a monitor of this guest's QEMU that is colo's alone, the agent follows QEMU's own COLO and asks it for
checkpoints: start the agents before COLO is entered. What the guest says leaves at once until then, and from then on only
what was compared or what a checkpoint has given to the secondary.")]
pub struct Primary {
    #[command(flatten)]
    common: Common,
    /// Without a peer: pass (release what is held, then everything at once), hold, or close (drop)
    ///
    /// Applies once the agents have met; before that everything passes. The default is pass, and hold with --qmp, where pass
    /// is refused.
    #[arg(long, value_name = "POLICY", value_enum)]
    on_peer_loss: Option<Loss>,
    /// What becomes of held frames when the agent ends
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Exit::Release)]
    on_exit: Exit,
    /// Release these frames without comparison: `tcp:22`, `udp:192.0.2.7:53`, `tcp:[2001:db8::1]:443`, `icmp`, `vlan:100`, `addr:ADDR`
    ///
    /// `PROTO[:[ADDR:]PORT]`, `vlan:ID` or `addr:ADDR`; ports and addresses match on either end. May be given several times.
    #[arg(long, value_name = "RULE", value_parser = bypass)]
    bypass: Vec<Bypass>,
    /// Shortest wait for a late secondary before a checkpoint is asked for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = value_parser!(u64).range(1..))]
    wait_min: u64,
    /// Longest such wait, in milliseconds; between the two it is what checkpoints have lately cost
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = value_parser!(u64).range(1..))]
    wait_max: u64,
    /// How checkpoints are asked for: log, exec:COMMAND or notify:ENDPOINT; may be given several times
    #[arg(long, value_name = "HOW", default_value = "log")]
    checkpoint: Vec<BackendSpec>,
    /// The disk is replicated: `PARENT:CHILD[:NODE]`, the child of a quorum to be removed before this side goes on alone
    ///
    /// Such as colo-disk0:children.1:colo-nbd0. NODE is the child's connection to the secondary; it is cut first, so that
    /// writes that hang on it do not hold anything up. May be given several times.
    #[arg(long, value_name = "CHILD", requires = "qmp")]
    block_child: Vec<BlockChild>,
    /// What XDP does when this agent shows no sign of life: closed (drop) or open (let it pass uncompared)
    ///
    /// Without it the guest is silent for as long as its agent is. With closed nothing of that time is said late either. With
    /// open the secondary lacks what has left, so it must never take over: open is refused beside --judge and
    /// --allow-unfenced.
    #[arg(long, value_name = "POLICY")]
    deadman: Option<Overdue>,
    /// How long the agent may show no sign of life, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, requires = "deadman",
          value_parser = value_parser!(u64).range(20..=3_600_000))]
    deadman_limit: u64,
}

/// The secondary's part of a replicated disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BlockChild {
    parent: String,
    child: String,
    node: Option<String>,
}

impl FromStr for BlockChild {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [parent, child, ref node @ ..]
                if node.len() <= 1 && parts.iter().all(|part| !part.is_empty()) =>
            {
                let node = node.first().map(|&node| node.to_owned());
                Ok(Self { parent: parent.to_owned(), child: child.to_owned(), node })
            }
            _ => Err(format!(
                "`{text}`: write PARENT:CHILD or PARENT:CHILD:NODE, such as colo-disk0:children.1:colo-nbd0"
            )),
        }
    }
}

impl BlockChild {
    /// What is said to QEMU to be rid of it.
    fn calls(self) -> impl Iterator<Item = Call> {
        let cut = self.node.map(|node| command::yank_block_node(&node).call);
        cut.into_iter().chain([command::quorum_remove(&self.parent, &self.child).call])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Loss {
    Pass,
    Hold,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Exit {
    Release,
    Drop,
}

impl Primary {
    /// Runs until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (min, max) = (self.wait_min, self.wait_max);
        fit(min <= max, || format!("--wait-min {min} is more than --wait-max {max}: give a range"))?;
        let policy = Policy {
            wait_min: Duration::from_millis(self.wait_min),
            wait_max: Duration::from_millis(self.wait_max),
            bypass: self.bypass,
            ..Policy::default()
        };
        let follows = self.common.follows();
        fit(!(follows && self.on_peer_loss == Some(Loss::Pass)), || {
            "--on-peer-loss pass with --qmp: the secondary may have taken over; give hold or close".to_owned()
        })?;
        fit(!(self.deadman == Some(Overdue::Open) && self.common.may_be_followed()), || {
            "--deadman open with --judge or --allow-unfenced: the secondary may take over, and what has left uncompared it \
             does not have; give closed"
                .to_owned()
        })?;
        let default = if follows { Loss::Hold } else { Loss::Pass };
        let on_loss = match self.on_peer_loss.unwrap_or(default) {
            Loss::Pass => OnPeerLoss::Pass,
            Loss::Hold => OnPeerLoss::Hold,
            Loss::Close => OnPeerLoss::Close,
        };
        let release_on_exit = self.on_exit == Exit::Release;
        let primary = PrimaryOptions { policy, on_loss, release_on_exit, checkpoints: self.checkpoint };
        let before = self.block_child.into_iter().flat_map(BlockChild::calls).collect();
        let mut options = self.common.options(Some(primary), before).map_err(Misuse)?;
        let limit = Duration::from_millis(self.deadman_limit);
        options.datapath.overdue = self.deadman.map(|policy| AgentLimit { limit, policy });
        run(options)?;
        Ok(ExitCode::SUCCESS)
    }
}

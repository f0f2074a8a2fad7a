//! What a primary's agent is told beyond what both are: by `colo primary`, and by `colo secondary` for when it is one.

use super::common::{Common, bypass};
use super::{Misuse, fit};
use crate::agent::primary::OnPeerLoss;
use crate::agent::run::PrimaryOptions;
use crate::checkpoint::BackendSpec;
use crate::compare::{Bypass, Policy};
use crate::datapath::{AgentLimit, Overdue};
use crate::qmp::command::{self, Call};
use clap::{Args, ValueEnum, value_parser};
use std::str::FromStr;
use std::time::Duration;

/// See the module.
#[derive(Args, Debug)]
pub struct AsPrimary {
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

impl AsPrimary {
    /// As the agent takes them, beside what both agents are told.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn options(self, common: &Common) -> Result<PrimaryOptions, Misuse> {
        let (min, max) = (self.wait_min, self.wait_max);
        fit(min <= max, || format!("--wait-min {min} is more than --wait-max {max}: give a range"))?;
        let policy = Policy {
            wait_min: Duration::from_millis(self.wait_min),
            wait_max: Duration::from_millis(self.wait_max),
            bypass: self.bypass,
            ..Policy::default()
        };
        let follows = common.follows();
        fit(!(follows && self.on_peer_loss == Some(Loss::Pass)), || {
            "--on-peer-loss pass with --qmp: the secondary may have taken over; give hold or close".to_owned()
        })?;
        fit(!(self.deadman == Some(Overdue::Open) && common.may_be_followed()), || {
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
        let limit = Duration::from_millis(self.deadman_limit);
        Ok(PrimaryOptions {
            policy,
            on_loss,
            release_on_exit: self.on_exit == Exit::Release,
            checkpoints: self.checkpoint,
            before: self.block_child.into_iter().flat_map(BlockChild::calls).collect(),
            overdue: self.deadman.map(|policy| AgentLimit { limit, policy }),
        })
    }
}

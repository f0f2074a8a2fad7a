//! `colo primary`: the agent on the host whose guest is heard.

use super::Misuse;
use super::as_primary::AsPrimary;
use super::common::Common;
use crate::agent::run::run;
use crate::datapath::Role;
use clap::Args;
use std::process::ExitCode;

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
    #[command(flatten)]
    own: AsPrimary,
}

impl Primary {
    /// Runs until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let own = self.own.options(&self.common)?;
        run(self.common.options(Role::Primary, own, Vec::new()).map_err(Misuse)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

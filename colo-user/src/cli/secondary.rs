//! `colo secondary`: the agent on the host of the replica.

use super::Misuse;
use super::as_primary::AsPrimary;
use super::common::Common;
use crate::agent::run::{Options, run};
use crate::datapath::Role;
use crate::qmp::command;
use clap::Args;
use std::process::ExitCode;

/// Feed a replica the primary's input, and tell the primary what it says
///
/// Runs on the host of the secondary. What clients say to the primary comes over the link and is put into the guest's
/// interface, with TCP sequence numbers translated to those that this guest has chosen; what the guest says is captured, translated
/// back and sent over the link. Nothing of it reaches the client network. Needs root.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example, the primary on 192.0.2.10 and the secondary on 192.0.2.11:
  primary's host:    colo primary   --guest tap0 --uplink eth1 --peer tcp:192.0.2.10:9000,server=on
  secondary's host:  colo secondary --guest tap0 --uplink eth1 --peer tcp:192.0.2.10:9000

With --qmp ENDPOINT, a monitor of this guest's QEMU that is colo's alone, the agent follows the states that QEMU's own COLO
loads; the primary's agent needs it too.

A secondary that has taken over is a primary's agent from `colo reprotect` on, or by itself with --reprotect: in place, with the
same link, control socket and process, and with the options of `colo primary` that are given here. So let one host listen at
--peer, whichever role its agent has.

Either agent may be started first, and again after it was stopped. The interfaces are left as they were found.
Exit status 0: stopped by SIGTERM or SIGINT. 1: it could not start, or lost an interface. 2: the command line is wrong.")]
pub struct Secondary {
    #[command(flatten)]
    common: Common,
    /// The disk is replicated: QEMU's NBD server is stopped before this side goes on alone
    #[arg(long, requires = "qmp")]
    nbd: bool,
    /// Once this side has taken over go on as a primary's agent, which takes a new secondary: as `colo reprotect` orders
    ///
    /// An agent with it that is started again on a VM that is the primary of its pair is a primary's as well.
    #[arg(long, requires = "qmp")]
    reprotect: bool,
    #[command(flatten, next_help_heading = "Once this side is the primary")]
    later: AsPrimary,
}

impl Secondary {
    /// Runs until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let before = if self.nbd { vec![command::nbd_server_stop().call] } else { Vec::new() };
        let later = self.later.options(&self.common)?;
        let options = self.common.options(Role::Secondary, later, before).map_err(Misuse)?;
        run(Options { reprotect: self.reprotect, ..options })?;
        Ok(ExitCode::SUCCESS)
    }
}

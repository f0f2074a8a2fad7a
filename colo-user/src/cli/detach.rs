//! `colo detach`: take off what an agent has left behind on purpose.

use crate::datapath::detach_pinned;
use crate::output;
use clap::Args;
use std::process::ExitCode;

/// Nothing was there.
const NOTHING: u8 = 2;

/// Take off the XDP programs that an agent which is gone has left pinned
///
/// After a takeover programs and translations outlive the agent, so that the guest goes on talking. This removes them: the
/// interfaces are as they were found, and connections that need translation break. An agent that runs is left alone. Needs
/// root.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  colo detach --guest tap0 --uplink eth1

Exit status 0: removed. 1: it could not be, the reason is shown. 2: nothing is pinned there, or the command line is wrong.")]
pub struct Detach {
    /// The guest's interface on this host
    #[arg(long, value_name = "IF")]
    guest: String,
    /// The interface toward the client network
    #[arg(long, value_name = "IF")]
    uplink: String,
}

impl Detach {
    /// Removes what is there.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if detach_pinned(&self.guest, &self.uplink)? {
            output::print(&format!("removed the pinned programs of {} and {}\n", self.guest, self.uplink));
            return Ok(ExitCode::SUCCESS);
        }
        output::print(&format!("nothing is pinned for {}\n", self.guest));
        Ok(ExitCode::from(NOTHING))
    }
}

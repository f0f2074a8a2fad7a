//! The secondary's agent goes on as a primary's, without a gap for the guest.
//!
//! ```text
//!   alone, or found to be its pair's primary ──ordered, or --reprotect──▶ all is said and given ──▶ Ended::Leads
//! ```
//!
//! The data path is handed on as it is: the guest speaks through the kernel all the while, translated as before. The judge with its
//! lease, the heartbeats, the control socket and whoever waits for the order are handed on, too; core, machine, link
//! and monitor begin anew, as with an agent that is started again. Being told to end in between is being told before or after.

use super::SecondaryThread;
use crate::agent::packet::Ends;
use crate::agent::packet::seat::Failover;
use crate::datapath::{Datapath, Mode};
use crate::failover::verbs::Commanded as _;
use crate::failover::{Standing, Why};
use crate::link::connect::Slot;
use crate::qmp::command::Call;
use std::io;
use std::sync::Arc;
use tracing::info;

/// How a secondary's packet thread has ended.
pub enum Ended {
    /// It was told to.
    Told,
    /// This side is a primary from here on.
    Leads(Box<Lead>),
}

/// What a primary's packet thread begins with.
pub struct Lead {
    /// Mode and translations are what the guest speaks by.
    pub datapath: Datapath,
    /// With a place for another link.
    pub ends: Ends,
    /// With the right that this side has.
    pub failover: Failover,
}

impl SecondaryThread {
    /// Whether the time to go on as a primary's agent has come.
    pub(super) fn is_to_lead(&self) -> bool {
        let Some(seat) = &self.seat else { return false };
        if !(self.reprotect || seat.is_to_lead()) || !seat.machine.may_lead() {
            return false;
        }
        // What a takeover owes to the clients, and the guest, is paid first.
        let paid = self.announce.is_none() && !self.core.speaks() && self.core.waiting() == 0;
        let heard = seat.machine.standing() != Standing::Alone || seat.is_heard(self.datapath.lease().end());
        paid && heard && self.taken.is_empty() && self.datapath.is_flushed()
    }

    /// Hands everything on; `before` is what the primary's machine tells QEMU before it goes on alone.
    pub(super) fn lead(mut self, before: Vec<Call>) -> io::Result<Ended> {
        let (seat, eye) = self.seat.take().zip(self.eye.take()).expect("an agent that follows its QEMU");
        let (standing, why) = seat.machine.stands();
        info!("going on as the primary's agent: {standing} ({why})");
        self.peer.close(None);
        if why == Why::WrongRole && !self.datapath.is_adopted() {
            self.datapath.set_mode(Mode::Protect).map_err(io::Error::other)?;
        }
        let failover = seat.succeed(before);
        let ends = Ends {
            slot: Arc::new(Slot::default()),
            peer: self.peer.name,
            port: self.port,
            monitor: Some(eye.close()),
            vm_limit: failover.vm_limit(),
            heart: self.heart,
        };
        Ok(Ended::Leads(Box::new(Lead { datapath: self.datapath, ends, failover })))
    }
}

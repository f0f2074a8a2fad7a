//! The secondary's packet thread and its failover machine: what happened goes in, orders are carried out; the takeover
//! itself.

use super::SecondaryThread;
use crate::agent::packet::Asked;
use crate::agent::packet::monitor::Eye;
use crate::agent::packet::seat::Seat;
use crate::agent::protection::Protection;
use crate::announce::AGAIN;
use crate::datapath::Mode;
use crate::failover::verbs::Refusal;
use crate::failover::{self, Loss, Order, Parting, Standing};
use crate::heartbeat::{Condition, Verdict};
use crate::judge::Answer;
use crate::judge::etcd::keeper::Tenure;
use crate::link::frame::ByeReason;
use crate::mono::Mono;
use crate::path::Side;
use std::io;
use std::time::Duration;
use tracing::{info, warn};

/// Most frames said again in one turn: the uplink has to take them.
const SAY_BATCH: usize = 256;

impl SecondaryThread {
    /// Tells the machine what has happened and does what it says.
    pub(super) fn fail_over(&mut self, now: Mono) -> io::Result<()> {
        let (Some(seat), Some(eye)) = (&mut self.seat, &mut self.eye) else { return Ok(()) };
        let (machine, orders) = (&mut seat.machine, &mut seat.orders);
        if let Some(past) = eye.take_past() {
            machine.placed(past, self.adopted, orders);
            // A primary's programs are left as they are to its agent.
            let leads = self.reprotect && machine.may_lead();
            if self.adopted && machine.standing() != Standing::Alone && !leads {
                self.adopted = false;
                self.datapath.set_mode(Mode::Secondary).map_err(io::Error::other)?;
            }
        }
        if eye.take_ran() {
            machine.ran(orders);
        }
        if let Some(trouble) = eye.trouble(now) {
            machine.trouble(trouble, orders);
        }
        if self.datapath.paths().is_lost_for(now, Side::Guest, self.path_limit) {
            machine.unreachable(orders);
        }
        if self.core.joined() && !std::mem::replace(&mut seat.joined, true) {
            machine.in_sync();
        }
        machine.confirmed(self.core.confirmed());
        let commits = self.core.commits();
        if std::mem::replace(&mut seat.commits, commits) != commits {
            machine.loaded(orders);
        }
        if let Some(heart) = &self.heart {
            machine.elsewhere(heart.elsewhere(), orders);
        }
        if let Some((loss, heard)) = self.core.take_loss() {
            seat.joined = false;
            if loss == Loss::Bye(Parting::TookOver) {
                self.peer.slot.rest();
            }
            machine.lost(loss, heard, orders);
        }
        for (step, outcome) in eye.take_done() {
            machine.done(now, step, &outcome, orders);
        }
        machine.tick(now, orders);
        self.obey(now)?;
        self.speak(now)
    }

    /// The judge has answered.
    pub(super) fn judged(&mut self, now: Mono, term: u64, answer: &Answer) -> io::Result<()> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.judged(term, answer);
        seat.machine.answer(now, term, answer, &mut seat.orders);
        self.obey(now)
    }

    /// An operator orders something.
    pub(super) fn ordered(&mut self, now: Mono, asked: Asked) -> io::Result<()> {
        match &mut self.seat {
            // It draws no terms.
            Some(seat) => seat.ordered(now, asked, 0, self.datapath.paths().is_whole()),
            None => asked.refuse(Refusal::NoQemu),
        }
        self.obey(now)
    }

    /// It stands otherwise with the lease.
    pub(super) fn tenure(&mut self, now: Mono, tenure: &Tenure) -> io::Result<()> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.keep_tenure(tenure);
        seat.machine.tenure(tenure, &mut seat.orders);
        self.obey(now)
    }

    /// A link is there: whether this side is still the secondary of anybody.
    pub(super) fn takes_part(&mut self, now: Mono) -> io::Result<bool> {
        let Some(seat) = &mut self.seat else { return Ok(true) };
        seat.joined = false;
        let part = !matches!(seat.machine.standing(), Standing::TakingOver | Standing::Alone);
        if !part {
            seat.orders.push(Order::Bye(Parting::TookOver));
        }
        self.obey(now)?;
        self.apply();
        Ok(part)
    }

    /// The primary begins a session: whether this side joins it.
    pub(super) fn joins(&mut self, now: Mono, term: u64, lease: Duration) -> io::Result<bool> {
        let Some(seat) = &mut self.seat else { return Ok(true) };
        seat.joined = false;
        // A state that was loaded before is of the session before.
        let commits = self.core.commits();
        if std::mem::replace(&mut seat.commits, commits) != commits {
            seat.machine.loaded(&mut seat.orders);
        }
        let joins = seat.machine.session(term, lease, &mut seat.orders);
        self.obey(now)?;
        Ok(joins)
    }

    fn obey(&mut self, now: Mono) -> io::Result<()> {
        let Some(mut seat) = self.seat.take() else { return Ok(()) };
        let done = self.carry_out(now, &mut seat);
        seat.want(seat.machine.claimant());
        seat.tell();
        self.seat = Some(seat);
        done
    }

    fn carry_out(&mut self, now: Mono, seat: &mut Seat<failover::Secondary>) -> io::Result<()> {
        for order in std::mem::take(&mut seat.orders) {
            match order {
                Order::Ask { term, claimant, fence } => seat.ask(term, claimant, fence),
                Order::Command(step, call) => {
                    if let Some(eye) = &mut self.eye {
                        eye.give(now, step, call);
                    }
                }
                Order::Bye(parting) => {
                    let (reason, text) = parting.bye();
                    self.core.part(reason, text, &mut self.effects);
                }
                Order::Remember(memory) => seat.remember(&memory),
                Order::TakeOver => self.take_over(now)?,
                Order::Shut => {
                    self.datapath.set_mode(Mode::Closed).map_err(io::Error::other)?;
                    self.datapath.abandon();
                }
                Order::Hold
                | Order::Resume
                | Order::Flush
                | Order::Open
                | Order::Guard
                | Order::Checkpoint
                | Order::Pause
                | Order::Anew(_) => {
                    tracing::error!("a secondary holds nothing");
                }
            }
        }
        Ok(())
    }

    /// The guest is the service from here on: what it said and the clients may lack leaves first, then all it says, straight
    /// through the kernel.
    fn take_over(&mut self, now: Mono) -> io::Result<()> {
        self.core.take_over(now, &mut self.effects);
        // What an agent before this one has put there is what its guest speaks by.
        if !std::mem::take(&mut self.adopted) {
            let translator = self.core.translator();
            self.datapath.set_translations(translator.entries()).map_err(io::Error::other)?;
        }
        self.datapath.set_mode(Mode::Pass).map_err(io::Error::other)?;
        if let Err(error) = self.datapath.pin() {
            warn!("the guest speaks for as long as this agent runs: {error}");
        }
        (self.announce, self.announced) = (Some(now), false);
        self.captured(now)?;
        self.speak(now)
    }

    /// The heart has come to another verdict on the peer.
    pub(super) fn peer_judged(&mut self, verdict: Verdict) {
        if let Some(reason) = self.heart.as_mut().and_then(|heart| heart.judged(verdict)) {
            self.core.lost(reason, &mut self.effects);
        }
    }

    /// Whether the guest has been without its interface for so long that this side is the secondary of nobody. One that has, or may
    /// have, something to go on with decides by its machine.
    pub(super) fn is_unreachable(&self, now: Mono) -> bool {
        let idle = self.seat.as_ref().is_none_or(|seat| seat.machine.standing() == Standing::Closed);
        idle && self.datapath.paths().is_lost_for(now, Side::Guest, self.path_limit)
    }

    /// Leaves the primary, which goes on without.
    pub(super) fn leave(&mut self) {
        let text = "the interface of the secondary's guest carries nothing";
        self.core.part(ByeReason::VmGone, text, &mut self.effects);
        self.apply();
    }

    /// Whether the pair protects its client, by what is heard over all links and carried by the interfaces.
    pub(super) fn protection(&self) -> Protection {
        let protection = self.core.protection();
        let protection = self.heart.as_ref().map_or(protection, |heart| heart.name(protection));
        protection.over(self.datapath.paths(), self.core.peer_reaches())
    }

    /// What the next beats say of this side.
    pub(super) fn beat(&mut self) {
        let Some(heart) = &mut self.heart else { return };
        let machine = self.seat.as_ref().map(|seat| &seat.machine);
        let paths = self.datapath.paths();
        let reached = paths.of(Side::Guest).is_whole();
        let condition = Condition {
            paused: self.eye.as_ref().is_some_and(Eye::paused),
            promotable: reached && machine.is_some_and(|machine| machine.standing() == Standing::Protected),
            carrier: paths.of(Side::Uplink).is_whole(),
            term: machine.and_then(failover::Secondary::term).unwrap_or(0),
            ..Condition::default()
        };
        heart.tell(self.peer.link.is_some(), condition);
    }

    /// Whether the guest is the service, and goes on through the kernel when this agent ends.
    pub(super) fn is_service(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.machine.standing() == Standing::Alone)
    }

    /// When there is something to announce.
    pub(super) fn announces(&self) -> Option<Mono> {
        self.announce.filter(|_| !self.lease.is_over())
    }

    fn announce(&mut self, now: Mono) {
        let frames: Vec<_> = self.addresses.frames().collect();
        if frames.is_empty() {
            warn!("the guest has not said any address yet: nothing can be announced");
        }
        for frame in &frames {
            if !self.datapath.emit(frame) {
                warn!("no buffer for an announcement");
            }
        }
        info!("{} addresses of the guest announced at {} ms", frames.len(), now.as_nanos() / 1_000_000);
    }

    /// After a takeover, while the lease lasts: what the agent still has of the guest's words, and two announcements.
    fn speak(&mut self, now: Mono) -> io::Result<()> {
        if self.lease.is_over() {
            return Ok(());
        }
        let mut said = false;
        if self.announce.is_some_and(|at| now >= at) {
            let again = !std::mem::replace(&mut self.announced, true);
            self.announce = again.then(|| now + AGAIN);
            self.announce(now);
            said = true;
        }
        for frame in (0..SAY_BATCH).map_while(|_| self.core.next_unreleased()) {
            // What finds no room is counted there, and TCP says it again.
            let _ = self.datapath.emit(&frame);
            said = true;
        }
        if said { self.datapath.flush() } else { Ok(()) }
    }
}

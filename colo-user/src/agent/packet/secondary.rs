//! The secondary's packet thread.
//!
//! One turn: commands, guest output to the link, what the clock brings, the link's messages, input to the guest as it takes
//! it, and one flush of the link. As in [`super::primary`] the own QEMU's monitor is read between taking frames and
//! deciding them.

mod failing;
mod leading;

use super::monitor::Eye;
use super::seat::{Failover, Seat};
use super::{
    CAPTURE_BATCH, Command, Ends, JANITOR, LINK_READS, LOOK, Peer, Port, Reading, Woken, all_counters, runs,
    take, timeout, words,
};
use crate::agent::heart::Heart;
use crate::agent::place::Place;
use crate::agent::protection::{Protection, Reason};
use crate::agent::secondary::{Effect, Injection, Secondary};
use crate::agent::status::{Checkpoints, Interfaces, Standing, Status};
use crate::agent::times::Summary;
use crate::announce::Addresses;
use crate::datapath::{Captured, Datapath, Injected, LeaseEnd};
use crate::failover;
use crate::failover::verbs::Commanded as _;
use crate::link::buffer::Outbox;
use crate::link::connect::Connected;
use crate::link::frame::Role;
use crate::mono::Mono;
use crate::path::{GRACE, Side};
use crate::qmp::command::Call;
use crate::vm::Told;
pub use leading::{Ended, Lead};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tracing::{info, warn};

/// Most frames put into the guest in one turn.
const INJECT_BATCH: usize = 256;
/// Longest sleep while the guest does not take its input: nobody tells when it does again.
const CREDIT_PAUSE: Duration = Duration::from_millis(1);

/// See the module.
pub struct SecondaryThread {
    datapath: Datapath,
    core: Secondary,
    peer: Peer,
    port: Port,
    /// Set where the own QEMU is followed.
    eye: Option<Eye>,
    /// What it told, while that is carried out.
    told_by_vm: VecDeque<Told>,
    /// Frames off the ring that are not sent yet.
    taken: VecDeque<Captured>,
    effects: Vec<Effect>,
    last_look: Mono,
    told: Protection,
    /// Who may go on alone, where the own QEMU is followed.
    seat: Option<Seat<failover::Secondary>>,
    /// The guest's, to be announced after a takeover.
    addresses: Addresses,
    /// When they are, and whether they were before.
    announce: Option<Mono>,
    announced: bool,
    /// Nothing leaves beyond its end, where the judge gives one.
    lease: LeaseEnd,
    /// Programs of an agent before this one go on in the mode that it left until the VM is known.
    adopted: bool,
    last_janitor: Mono,
    woken: Woken,
    /// Set where there are heartbeat links.
    heart: Option<Heart>,
    /// Once it may it goes on as a primary's agent, without an order.
    reprotect: bool,
    /// A guest whose interface has carried nothing for this long is as good as gone.
    path_limit: Duration,
}

impl SecondaryThread {
    /// Joins the parts; nothing runs yet.
    #[must_use]
    pub fn new(datapath: Datapath, core: Secondary, ends: Ends, failover: Option<Failover>) -> Self {
        let told = core.protection();
        let (adopted, lease) = (datapath.is_adopted(), datapath.lease());
        // A QEMU that does not answer is given as long.
        let path_limit = if failover.is_some() { ends.vm_limit } else { GRACE };
        Self {
            datapath,
            core,
            peer: Peer::new(ends.slot, ends.peer),
            port: ends.port,
            eye: ends.monitor.map(|monitor| Eye::new(monitor, Role::Secondary, ends.vm_limit)),
            told_by_vm: VecDeque::new(),
            taken: VecDeque::new(),
            effects: Vec::new(),
            last_look: Mono::ZERO,
            told,
            seat: failover.map(|failover| failover.leased(lease.clone()).secondary()),
            addresses: Addresses::default(),
            announce: None,
            announced: false,
            lease,
            adopted,
            last_janitor: Mono::ZERO,
            woken: Woken::UNKNOWN,
            heart: ends.heart,
            reprotect: false,
            path_limit,
        }
    }

    /// The same, that goes on as a primary's agent once it may.
    #[must_use]
    pub fn reprotecting(self, reprotect: bool) -> Self {
        Self { reprotect, ..self }
    }

    /// Turns until it is told to exit, or goes on as a primary's agent: `before` is what that tells QEMU before it goes on alone.
    ///
    /// # Errors
    /// What the kernel refuses. An interface that is gone is none: it is waited for.
    pub fn run(mut self, before: Vec<Call>) -> io::Result<Ended> {
        loop {
            let now = Mono::now();
            while let Some(command) = self.port.next() {
                match command {
                    Command::Link(connected) => self.connect(now, connected)?,
                    Command::Judged(term, answer) => self.judged(now, term, &answer)?,
                    Command::Tenure(tenure) => self.tenure(now, &tenure)?,
                    // Cuts come from the primary, through the link.
                    Command::Cut => {}
                    Command::Peer(verdict) => self.peer_judged(verdict),
                    Command::Status(reply) => {
                        // Whoever asked may have left.
                        let _ = reply.send(self.status());
                    }
                    Command::Order(asked) => self.ordered(now, *asked)?,
                    Command::Exit => return self.exit().map(|()| Ended::Told),
                }
            }
            let mut busy = self.captured(now)?;
            self.core.tick(now, self.peer.outbox(), &mut self.effects);
            self.fail_over(now)?;
            if self.peer.link.is_some() && self.is_unreachable(now) {
                self.leave();
            }
            busy |= self.messages()?;
            self.fail_over(now)?;
            let more = self.inject(now)?;
            busy |= more == More::Now;
            // An input cut may have come for a state that is loaded already.
            busy |= self.core.settles() || self.core.speaks() && !self.lease.is_over();
            if now.saturating_since(self.last_look) >= LOOK {
                self.last_look = now;
                self.core.losses(self.datapath.pressure().lost);
                if now.saturating_since(self.last_janitor) >= JANITOR {
                    self.last_janitor = now;
                    self.datapath.forget_closed(now).map_err(io::Error::other)?;
                }
            }
            self.apply();
            self.datapath.flush()?;
            self.peer.tell_path(self.datapath.paths());
            if !self.peer.flush() {
                self.core.lost(Reason::LinkStalled, &mut self.effects);
            }
            self.apply();
            self.tell();
            self.beat();
            if self.is_to_lead() {
                return self.lead(before);
            }
            let now = Mono::now();
            let eye = self.eye.as_ref();
            let mut deadline =
                self.core.next_deadline().into_iter().chain(eye.and_then(Eye::next_deadline)).min();
            let seat = self.seat.as_ref().and_then(|seat| seat.machine.next_deadline());
            deadline = deadline.into_iter().chain(seat).chain(self.announces()).min();
            if more == More::Later {
                let again = now + CREDIT_PAUSE;
                deadline = Some(deadline.map_or(again, |at| at.min(again)));
            }
            self.woken = self.peer.wait(&mut self.datapath, &self.port, eye, timeout(busy, now, deadline))?;
        }
    }

    fn connect(&mut self, now: Mono, connected: Connected) -> io::Result<()> {
        if let Some(heart) = &mut self.heart {
            heart.connected(now, &connected.hello);
        }
        self.peer.take(connected);
        if self.is_unreachable(now) {
            // Until the guest hears again what the primary's hears it is the secondary of nobody.
            self.leave();
        } else if self.takes_part(now)? {
            self.core.connected(now);
        }
        Ok(())
    }

    /// Sends guest output, each frame in its epoch; true if there may be more.
    fn captured(&mut self, now: Mono) -> io::Result<bool> {
        let before = self.taken.len();
        let more = take(&mut self.datapath, &mut self.taken);
        let took = self.taken.len() > before;
        if let Some(eye) = &mut self.eye {
            if took {
                eye.spoke(now);
            }
            // What is not decided needs no look, unless there is something to see.
            if took || self.woken.monitor || !self.taken.is_empty() || eye.is_due(now) {
                self.look(now)?;
            }
        }
        loop {
            while let Some(captured) = self.taken.front().copied() {
                match self.core.place(captured.stamp) {
                    Place::Wait => break,
                    Place::Drop => self.core.unsure(),
                    Place::Now => {
                        let frame = self.datapath.frame_mut(captured.id);
                        self.addresses.said(frame);
                        self.core.captured(now, frame, self.peer.outbox());
                    }
                }
                self.datapath.discard(captured.id);
                self.taken.pop_front();
            }
            let drained = !more || !self.taken.is_empty();
            if !drained || !self.core.settle(now, self.peer.outbox()) {
                return Ok(more && self.taken.is_empty());
            }
        }
    }

    /// Hears what the own QEMU has said so far.
    fn look(&mut self, now: Mono) -> io::Result<()> {
        let Some(eye) = &mut self.eye else { return Ok(()) };
        eye.look(&mut self.told_by_vm);
        while let Some(told) = self.told_by_vm.pop_front() {
            let unread = match told {
                Told::Stopped => {
                    let unread = self.datapath.injected_unread();
                    let Some(eye) = &mut self.eye else { return Ok(()) };
                    eye.look(&mut self.told_by_vm);
                    Some((unread, !runs(&self.told_by_vm)))
                }
                _ => None,
            };
            self.core.told(now, told, unread, self.peer.outbox());
        }
        Ok(())
    }

    /// Takes the peer's messages; true if there may be more.
    fn messages(&mut self) -> io::Result<bool> {
        if !self.woken.link {
            return Ok(false);
        }
        for _ in 0..LINK_READS {
            let Some(link) = &mut self.peer.link else { return Ok(false) };
            let reading = Peer::read(link, "primary");
            let now = Mono::now();
            let more = match reading {
                Reading::Some { .. } if self.core.overdue(now) => {
                    self.core.lost(Reason::PeerSilent, &mut self.effects);
                    return Ok(false);
                }
                Reading::Some { more } => {
                    self.heart.iter().for_each(|heart| heart.heard(now));
                    more
                }
                Reading::Empty => return Ok(false),
                Reading::Lost => {
                    self.core.lost(Reason::PeerLost, &mut self.effects);
                    return Ok(false);
                }
            };
            loop {
                let Some(link) = &mut self.peer.link else { return Ok(false) };
                let refused = match link.next_message() {
                    Ok(None) => break,
                    Ok(Some((message, outbox))) => {
                        let refused = self.core.message(now, &message, outbox, &mut self.effects);
                        if self.effects.last() == Some(&Effect::Drain) {
                            self.effects.pop();
                            while drain(&mut self.datapath, &mut self.core, now, outbox) {}
                            self.core.drained(now, Some(outbox));
                        }
                        refused.map_err(|e| e.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if let Err(refused) = refused {
                    warn!("link: {refused}");
                    self.core.lost(Reason::ProtocolBroken, &mut self.effects);
                    return Ok(false);
                }
                if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                    return Ok(false);
                }
                if let Some((term, lease)) = self.core.take_offer() {
                    if !self.joins(now, term, lease)? {
                        return Ok(false);
                    }
                    self.core.join(self.peer.outbox());
                }
            }
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn inject(&mut self, now: Mono) -> io::Result<More> {
        // It waits, in order.
        if !self.datapath.paths().of(Side::Guest).is_whole() {
            return Ok(More::Nothing);
        }
        let (datapath, mut outcome, mut later) = (&mut self.datapath, Ok(()), false);
        let more =
            self.core.inject(now, INJECT_BATCH, self.peer.outbox(), |frame| match datapath.inject(frame) {
                Ok(Injected::Sent) => Injection::Sent,
                Ok(Injected::NoCredit) => {
                    later = true;
                    Injection::Later
                }
                Ok(Injected::TooLong) => Injection::Never,
                Err(error) => {
                    outcome = Err(error);
                    Injection::Later
                }
            });
        outcome?;
        Ok(if more {
            More::Now
        } else if later {
            More::Later
        } else {
            More::Nothing
        })
    }

    fn apply(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                // Done where the message was read.
                Effect::Drain => {}
                Effect::CloseLink(bye) => self.peer.close(bye),
            }
        }
    }

    /// Logs a change of protection.
    fn tell(&mut self) {
        let now = self.protection();
        if std::mem::replace(&mut self.told, now) != now {
            match now {
                Protection::Protected => info!("protected in epoch {}", self.core.epoch()),
                Protection::Not(_) => warn!("{now}"),
            }
        }
    }

    fn status(&mut self) -> Status {
        let protection = self.protection();
        let protection = self.seat.as_ref().map_or(protection, |s| protection.beside(s.machine.standing()));
        let (attach, hold) = words(self.datapath.attached(), self.datapath.backend());
        Status {
            role: "secondary",
            state: protection.state(),
            reason: protection.reason(),
            epoch: self.core.epoch().0,
            peer: self.peer.name.clone(),
            attach,
            hold: hold.to_owned(),
            held: self.core.waiting() as u64,
            held_time: Summary::default(),
            pauses: Summary::default(),
            counters: all_counters(
                &mut self.datapath,
                self.core
                    .counters()
                    .chain(self.eye.iter().flat_map(Eye::counters))
                    .chain([("addresses_refused".to_owned(), self.addresses.refused())]),
                self.peer.slot.refused(),
            ),
            checkpoints: Checkpoints::default(),
            heartbeat: self.heart.as_ref().and_then(Heart::shown),
            divergences: Vec::new(),
            failover: self
                .seat
                .as_ref()
                .map(|seat| Standing::new(seat.machine.stands(), seat.machine.term(), self.datapath.paths())),
            lease: self.seat.as_ref().and_then(|seat| seat.lease(self.lease.end())),
            interfaces: Interfaces::new(self.datapath.paths()),
        }
    }

    fn exit(mut self) -> io::Result<()> {
        self.core.lost(Reason::Exiting, &mut self.effects);
        self.apply();
        info!("exiting: {} frames of input were not injected", self.core.waiting());
        if self.is_service() { self.datapath.leave() } else { self.datapath.detach() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Nothing,
    Now,
    Later,
}

/// Hands guest output to the link when somebody else reports a checkpoint; true if there may be more.
fn drain(datapath: &mut Datapath, core: &mut Secondary, now: Mono, outbox: &mut Outbox) -> bool {
    for _ in 0..CAPTURE_BATCH {
        let Some(captured) = datapath.next_captured() else { return false };
        core.captured(now, datapath.frame_mut(captured.id), Some(outbox));
        datapath.discard(captured.id);
    }
    true
}

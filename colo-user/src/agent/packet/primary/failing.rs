//! The primary's packet thread and its failover machine: what happened goes in, orders are carried out.
//!
//! The machine is asked at the beginning of a turn, before anything that came meanwhile is believed, and once more before
//! anything leaves. Between them the core may decide what it likes: it leaves through the gate.

use super::{Gate, PrimaryThread};
use crate::agent::packet::Asked;
use crate::agent::packet::monitor::Eye;
use crate::agent::packet::seat::{Seat, random};
use crate::agent::protection::Protection;
use crate::datapath::Mode;
use crate::failover::verbs::Refusal;
use crate::failover::{self, Loss, Order, Parting, Past, Standing, Why};
use crate::heartbeat::{Condition, Verdict};
use crate::judge::Answer;
use crate::judge::etcd::keeper::Tenure;
use crate::mono::Mono;
use crate::path::Side;
use std::io;
use std::time::Duration;
use tracing::warn;

/// Longest time for the uplink to take what was held before the guest goes on through the kernel. What it has not taken by
/// then leaves behind the first frames that pass.
const LET_OUT: Duration = Duration::from_millis(20);

impl PrimaryThread {
    /// Tells the machine what has happened and does what it says.
    pub(super) fn fail_over(&mut self, now: Mono) -> io::Result<()> {
        self.joins();
        let (Some(seat), Some(eye)) = (&mut self.seat, &mut self.eye) else { return Ok(()) };
        let (machine, orders) = (&mut seat.machine, &mut seat.orders);
        let past = eye.take_past();
        if let Some(past) = past {
            machine.placed(now, past, orders);
        }
        if eye.take_ran() {
            machine.ran(orders);
        }
        if let Some(trouble) = eye.trouble(now).or_else(|| self.core.no_checkpoint(now, eye.limit())) {
            machine.trouble(now, trouble, orders);
        }
        let mut relief = self.core.peer_reaches() == Some(true);
        if let Some(heart) = &self.heart {
            machine.elsewhere(now, heart.elsewhere());
            relief |= heart.relieves(machine.term());
        }
        let lost = self.datapath.paths().fault().map(|(side, fault)| Why::of_path(side, fault));
        machine.path(now, lost, relief, orders);
        if let Some(loss) = self.core.take_loss() {
            seat.joined = false;
            if loss == Loss::Bye(Parting::TookOver) {
                self.peer.slot.rest();
            }
            machine.lost(now, loss, orders);
        }
        let commits = self.core.commits();
        if std::mem::replace(&mut seat.commits, commits) != commits {
            machine.owned(orders);
        }
        for (step, outcome) in eye.take_done() {
            machine.done(now, step, &outcome, orders);
        }
        machine.tick(now, orders);
        if matches!(machine.standing(), Standing::Passing | Standing::Alone) && self.core.has_left_colo() {
            // No pair came of it: what is held for one leaves, and the agents meet anew.
            self.core.go_on_alone(now, &mut self.effects);
            orders.push(Order::Bye(Parting::Left));
        } else if machine.standing() == Standing::Alone {
            self.core.let_out(now, &mut self.effects);
        }
        if past.is_some() && std::mem::take(&mut self.adopted) && machine.standing() != Standing::Alone {
            self.datapath.set_mode(Mode::Protect).map_err(io::Error::other)?;
            if past == Some(Past::Fresh) {
                self.datapath.set_translations([]).map_err(io::Error::other)?;
            }
        }
        self.obey(now)
    }

    /// The heart has come to another verdict on the peer.
    pub(super) fn peer_judged(&mut self, now: Mono, verdict: Verdict) {
        if let Some(reason) = self.heart.as_mut().and_then(|heart| heart.judged(verdict)) {
            self.core.lost(now, reason, &mut self.effects);
        }
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
        let condition = Condition {
            primary: true,
            paused: self.eye.as_ref().is_some_and(Eye::paused),
            closed: self.gate == Gate::Shut,
            carrier: self.datapath.paths().of(Side::Uplink).is_whole(),
            term: machine.and_then(failover::Primary::term).unwrap_or(0),
            ..Condition::default()
        };
        heart.tell(self.peer.link.is_some(), condition);
    }

    /// Whether what is held may leave when the agent ends: nobody else could go on with what the guest said before.
    pub(super) fn may_release(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| {
            matches!(seat.machine.standing(), Standing::Passing | Standing::Alone)
                && self.gate == Gate::Open
                && !self.lease.is_over()
        })
    }

    /// Whether the guest goes on through the kernel, or its translation is kept for the next agent, when this one ends.
    pub(super) fn stays(&self) -> bool {
        self.seat
            .as_ref()
            .is_some_and(|seat| seat.machine.standing() != Standing::Passing || seat.machine.is_service())
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
            Some(seat) => {
                let path = self.core.peer_reaches() != Some(false);
                seat.ordered(now, asked, u64::from_ne_bytes(random()?), path);
            }
            None => asked.refuse(Refusal::NoQemu),
        }
        self.obey(now)
    }

    /// It stands otherwise with the lease.
    pub(super) fn tenure(&mut self, now: Mono, tenure: &Tenure) -> io::Result<()> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.keep_tenure(tenure);
        seat.machine.tenure(now, tenure, &mut seat.orders);
        self.obey(now)
    }

    /// A link is there: whether a session is to be begun over it.
    pub(super) fn offers(&mut self, now: Mono) -> io::Result<bool> {
        let Some(seat) = &mut self.seat else { return Ok(true) };
        seat.joined = false;
        let fresh = u64::from_ne_bytes(random()?);
        let term = seat.machine.session(fresh, &mut seat.orders);
        if let Some(term) = term {
            self.core.set_term(term);
        }
        self.obey(now)?;
        self.apply();
        Ok(term.is_some())
    }

    /// The guest was copied: from here on the secondary may own what it said.
    pub(super) fn cuts(&mut self) {
        self.joins();
        if let Some(seat) = &mut self.seat {
            seat.machine.cut(&mut seat.orders);
            // Known after a restart before the secondary hears of the cut.
            seat.remember_now();
        }
    }

    fn joins(&mut self) {
        let joined = self.core.joined();
        let Some(seat) = &mut self.seat else { return };
        if joined && !std::mem::replace(&mut seat.joined, joined) {
            seat.machine.in_sync(&mut seat.orders);
        }
    }

    fn obey(&mut self, now: Mono) -> io::Result<()> {
        let Some(mut seat) = self.seat.take() else { return Ok(()) };
        let done = self.carry_out(now, &mut seat);
        seat.want(seat.machine.claimant());
        seat.tell();
        self.seat = Some(seat);
        done
    }

    fn carry_out(&mut self, now: Mono, seat: &mut Seat<failover::Primary>) -> io::Result<()> {
        for order in std::mem::take(&mut seat.orders) {
            match order {
                Order::Hold if self.gate == Gate::Open => self.gate = Gate::Held,
                Order::Hold => {}
                Order::Resume => self.open(),
                Order::Shut => {
                    self.gate = Gate::Shut;
                    self.effects.splice(0..0, self.gated.drain(..));
                    self.core.drop_all(now, &mut self.effects);
                    self.datapath.set_mode(Mode::Closed).map_err(io::Error::other)?;
                    self.apply();
                    // Whatever left before has left by the time that anybody hears of it, or never does.
                    self.datapath.flush()?;
                    self.datapath.abandon();
                }
                Order::Open => {
                    self.open();
                    self.core.go_on_alone(now, &mut self.effects);
                    self.let_out(now)?;
                    self.datapath.set_mode(Mode::Pass).map_err(io::Error::other)?;
                    self.let_out(now)?;
                    if let Err(error) = self.datapath.pin() {
                        warn!("the guest speaks for as long as this agent runs: {error}");
                    }
                }
                Order::Flush => {
                    self.apply();
                    self.datapath.flush()?;
                }
                Order::Checkpoint => {
                    if let Some(eye) = &mut self.eye {
                        eye.vm().want();
                    }
                }
                Order::Pause => {
                    self.open();
                    self.core.pause(now, &mut self.effects);
                }
                Order::Anew(term) => {
                    seat.joined = false;
                    self.core.set_term(term);
                    self.core.unpause(now, self.peer.outbox());
                }
                Order::Guard => self.datapath.set_mode(Mode::Protect).map_err(io::Error::other)?,
                Order::Ask { term, claimant, fence } => seat.ask(term, claimant, fence),
                Order::Command(step, call) => {
                    if let Some(eye) = &mut self.eye {
                        eye.give(now, step, call);
                    }
                }
                Order::Bye(parting) => {
                    let (reason, text) = parting.bye();
                    self.core.part(now, reason, text, &mut self.effects);
                }
                Order::Remember(memory) => seat.remember(&memory),
                Order::TakeOver => tracing::error!("a primary does not take over"),
            }
        }
        Ok(())
    }

    /// Lets out what is decided and all that the guest has said besides, until nothing waits on the way: what the kernel
    /// passes from here on comes behind it.
    fn let_out(&mut self, now: Mono) -> io::Result<()> {
        let end = Mono::now() + LET_OUT;
        loop {
            self.apply();
            self.datapath.flush()?;
            let more = self.captured(now)?;
            self.core.let_out(now, &mut self.effects);
            let rests = more || !self.effects.is_empty() || !self.datapath.is_flushed();
            if !rests || Mono::now() >= end {
                return Ok(());
            }
        }
    }

    fn open(&mut self) {
        if self.gate == Gate::Held {
            self.gate = Gate::Open;
            self.effects.splice(0..0, self.gated.drain(..));
        }
    }
}

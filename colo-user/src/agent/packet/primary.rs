//! The primary's packet thread.
//!
//! One turn: commands, then input copies to the link, guest output to the comparator, what the clock brings, the link's
//! messages, and at the end one flush of the uplink and of the link. Where the own QEMU is followed its monitor is read until
//! empty between taking frames or messages and deciding them. The clock comes before the messages: a thread that was off its
//! processor for too long must find its peer silent before it believes what waited in the socket.

mod failing;

use super::monitor::Eye;
use super::seat::{Failover, Seat};
use super::{
    Command, EXIT_LIMIT, Ends, JANITOR, LINK_READS, LOOK, Peer, Port, Reading, Woken, all_counters, runs,
    take, timeout, words,
};
use crate::agent::heart::Heart;
use crate::agent::place::Place;
use crate::agent::primary::{Effect, Losses, Primary};
use crate::agent::protection::{Protection, Reason};
use crate::agent::status::{Checkpoints, Interfaces, Standing, Status};
use crate::agent::times::Times;
use crate::checkpoint::Signals;
use crate::compare::Token;
use crate::datapath::{Captured, Datapath, FrameId, InputRead, LeaseEnd, MIRROR_BATCH, MIRROR_BATCHES, Mode};
use crate::failover;
use crate::failover::verbs::Commanded as _;
use crate::link::connect::Connected;
use crate::link::frame::Role;
use crate::mono::Mono;
use crate::path::Side;
use crate::vm::Told;
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use tracing::{info, warn};

/// The data path's counter of frames too long to be held.
const OVERSIZED: &str = "guest_hold_too_long";

/// See the module.
pub struct PrimaryThread {
    datapath: Datapath,
    core: Primary,
    peer: Peer,
    port: Port,
    signals: Signals,
    /// Set where the own QEMU is followed.
    eye: Option<Eye>,
    /// What it told, while that is carried out.
    told_by_vm: VecDeque<Told>,
    /// How it stood with the guest's input at the last cut.
    read: Option<InputRead>,
    /// Frames off the ring that are not decided yet.
    taken: VecDeque<Captured>,
    /// Frames that the core has, by token, and when the guest said them.
    parked: Slab<(FrameId, Mono)>,
    held_time: Times,
    effects: Vec<Effect>,
    release_on_exit: bool,
    last_look: Mono,
    losses: Losses,
    told: Protection,
    /// Who may go on alone, where the own QEMU is followed.
    seat: Option<Seat<failover::Primary>>,
    /// Beyond its end nothing leaves, where there is one.
    lease: LeaseEnd,
    gate: Gate,
    /// What the core has let out since the gate was closed, in order.
    gated: VecDeque<Effect>,
    /// Programs of an agent before this one go on in the mode that it left until the VM is known.
    adopted: bool,
    last_janitor: Mono,
    woken: Woken,
    /// Set where there are heartbeat links.
    heart: Option<Heart>,
}

/// What becomes of what the core lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// It leaves.
    Open,
    /// It is kept, in order.
    Held,
    /// It is dropped, for good.
    Shut,
}

impl PrimaryThread {
    /// Joins the parts; nothing runs yet.
    #[must_use]
    pub fn new(
        datapath: Datapath,
        core: Primary,
        ends: Ends,
        signals: Signals,
        release_on_exit: bool,
        failover: Option<Failover>,
    ) -> Self {
        let told = core.protection();
        let (adopted, lease) = (datapath.is_adopted(), datapath.lease());
        Self {
            datapath,
            core,
            peer: Peer::new(ends.slot, ends.peer),
            port: ends.port,
            signals,
            eye: ends.monitor.map(|monitor| Eye::new(monitor, Role::Primary, ends.vm_limit)),
            told_by_vm: VecDeque::new(),
            read: None,
            taken: VecDeque::new(),
            parked: Slab::new(),
            held_time: Times::default(),
            effects: Vec::new(),
            release_on_exit,
            last_look: Mono::ZERO,
            losses: Losses::default(),
            told,
            seat: failover.map(|failover| failover.leased(lease.clone()).primary()),
            lease,
            gate: Gate::Open,
            gated: VecDeque::new(),
            adopted,
            last_janitor: Mono::ZERO,
            woken: Woken::UNKNOWN,
            heart: ends.heart,
        }
    }

    /// Turns until it is told to exit.
    ///
    /// # Errors
    /// What the kernel refuses. An interface that is gone is none: it is waited for.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let now = Mono::now();
            // Before anything that came meanwhile is believed.
            if self.core.overdue(now) {
                self.core.lost(now, Reason::PeerSilent, &mut self.effects);
            }
            self.fail_over(now)?;
            while let Some(command) = self.port.next() {
                match command {
                    Command::Link(connected) => self.connect(now, connected)?,
                    Command::Judged(term, answer) => self.judged(now, term, &answer)?,
                    Command::Tenure(tenure) => self.tenure(now, &tenure)?,
                    Command::Cut => self.cut(now)?,
                    Command::Peer(verdict) => self.peer_judged(now, verdict),
                    Command::Status(reply) => {
                        // Whoever asked may have left.
                        let _ = reply.send(self.status());
                    }
                    Command::Order(asked) => self.ordered(now, *asked)?,
                    Command::Exit => return self.exit(now),
                }
            }
            let mut busy = self.mirrored(now);
            // The secondary's guest works on it while this turn goes on.
            self.send(now);
            busy |= self.captured(now)?;
            self.core.tick(now, self.peer.outbox(), &mut self.effects);
            busy |= self.messages()?;
            busy |= self.taken.front().is_some_and(|next| self.core.place(next.stamp) != Place::Wait);
            if now.saturating_since(self.last_look) >= LOOK {
                self.last_look = now;
                let p = self.datapath.pressure();
                if p.lost > self.losses.captured {
                    self.losses.oversized = self.datapath.counters().get(OVERSIZED).unwrap_or(0);
                }
                self.losses.captured = p.lost;
                self.losses.mirrored = p.mirror_lost;
                self.losses.restored = self.datapath.paths().of(Side::Guest).restored;
                self.losses.scarce = p.scarce;
                self.core.losses(now, self.losses, &mut self.effects);
                if now.saturating_since(self.last_janitor) >= JANITOR {
                    self.last_janitor = now;
                    self.datapath.forget_closed(now).map_err(io::Error::other)?;
                }
            }
            self.fail_over(now)?;
            self.apply();
            self.datapath.flush()?;
            self.peer.tell_path(self.datapath.paths());
            self.send(now);
            if !self.effects.is_empty() {
                self.apply();
                self.datapath.flush()?;
            }
            self.tell();
            self.beat();
            let eye = self.eye.as_ref();
            let deadline =
                self.core.next_deadline().into_iter().chain(eye.and_then(Eye::next_deadline)).min();
            let seat = self.seat.as_ref().and_then(|seat| seat.machine.next_deadline());
            let deadline = deadline.into_iter().chain(seat).min();
            let timeout = timeout(busy, Mono::now(), deadline);
            self.woken = self.peer.wait(&mut self.datapath, &self.port, eye, timeout)?;
        }
    }

    /// Writes what waits for the link.
    fn send(&mut self, now: Mono) {
        if !self.peer.flush() {
            self.core.stalled(now, &mut self.effects);
        }
    }

    fn connect(&mut self, now: Mono, connected: Connected) -> io::Result<()> {
        // One that was made before this agent became a primary's.
        if connected.hello.role != Role::Secondary {
            return Ok(());
        }
        if let Some(heart) = &mut self.heart {
            heart.connected(now, &connected.hello);
        }
        self.peer.take(connected);
        if !self.offers(now)? {
            return Ok(());
        }
        if let Some(link) = &mut self.peer.link {
            self.core.connected(now, link.outbox());
        }
        Ok(())
    }

    /// Hands copies of input to the link; true if there may be more.
    fn mirrored(&mut self, now: Mono) -> bool {
        let (core, peer) = (&mut self.core, &mut self.peer);
        let handed = self.datapath.next_mirrored(|mirrored| {
            core.mirrored(now, mirrored.index, mirrored.frame, peer.outbox());
        });
        handed == MIRROR_BATCH
    }

    /// Hands guest output to the comparator, each frame in its epoch; true if there may be more.
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
            self.core.settle_session(now, self.peer.outbox());
        }
        // Without checkpoints to know them by, connections are known by their client's SYN, which came before any answer: all that
        // lies in the ring is heard first, however much that is.
        let heard = took && self.eye.is_none() && (0..MIRROR_BATCHES).all(|_| self.mirrored(now));
        loop {
            while let Some(captured) = self.taken.front().copied() {
                match self.core.place(captured.stamp) {
                    Place::Wait => break,
                    Place::Drop => self.datapath.discard(captured.id),
                    Place::Now => {
                        let token = Token(self.parked.insert((captured.id, captured.stamp)) as u64);
                        let frame = self.datapath.frame(captured.id);
                        self.core.captured(now, token, frame, self.peer.outbox(), &mut self.effects);
                    }
                }
                self.taken.pop_front();
            }
            let drained = !more || !self.taken.is_empty();
            if !drained || !self.core.drained(now, self.peer.outbox(), &mut self.effects) {
                return Ok(heard || more && self.taken.is_empty());
            }
        }
    }

    /// Hears what the own QEMU has said so far.
    fn look(&mut self, now: Mono) -> io::Result<()> {
        let Some(eye) = &mut self.eye else { return Ok(()) };
        eye.look(&mut self.told_by_vm);
        while let Some(told) = self.told_by_vm.pop_front() {
            let Told::Copied { entry } = told else {
                self.core.told(now, told, self.peer.outbox());
                continue;
            };
            self.cuts();
            while self.mirrored(now) {}
            let read = self.datapath.input_read();
            let Some(eye) = &mut self.eye else { return Ok(()) };
            // Still standing after the count, so it stood during the count.
            eye.look(&mut self.told_by_vm);
            let last = self.read.replace(read).unwrap_or(InputRead { dropped: 0, changes: 0, ..read });
            let same = (read.dropped, read.changes) == (last.dropped, last.changes);
            let exact = !runs(&self.told_by_vm) && same;
            let bases = self.datapath.translations().map_err(io::Error::other)?;
            self.core.copied(entry, (read.first, exact), bases, self.peer.outbox());
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
            let reading = Peer::read(link, "secondary");
            let now = Mono::now();
            let more = match reading {
                Reading::Some { .. } if self.core.overdue(now) => {
                    self.core.lost(now, Reason::PeerSilent, &mut self.effects);
                    return Ok(false);
                }
                Reading::Some { more } => {
                    self.heart.iter().for_each(|heart| heart.heard(now));
                    more
                }
                Reading::Empty => return Ok(false),
                Reading::Lost => {
                    self.core.lost(now, Reason::PeerLost, &mut self.effects);
                    return Ok(false);
                }
            };
            self.look(now)?;
            let Some(link) = &mut self.peer.link else { return Ok(false) };
            loop {
                let refused = match link.next_message() {
                    Ok(None) => break,
                    Ok(Some((message, outbox))) => {
                        self.core.message(now, &message, outbox, &mut self.effects).map_err(|e| e.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if let Err(refused) = refused {
                    warn!("link: {refused}");
                    self.core.lost(now, Reason::ProtocolBroken, &mut self.effects);
                    return Ok(false);
                }
                if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                    return Ok(false);
                }
            }
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A checkpoint has come: all that was said and heard before belongs to the epoch that ends.
    fn cut(&mut self, now: Mono) -> io::Result<()> {
        while self.mirrored(now) {}
        while self.captured(now)? {
            self.apply();
        }
        self.core.cut(now, self.peer.outbox());
        Ok(())
    }

    fn apply(&mut self) {
        let over = self.lease.is_over();
        if self.gate == Gate::Open && !over && !self.gated.is_empty() {
            // The lease was over, and is had again.
            self.effects.splice(0..0, self.gated.drain(..));
        }
        if self.effects.is_empty() {
            return;
        }
        let now = Mono::now();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            let leaves = matches!(effect, Effect::Window(..) | Effect::Release(_) | Effect::Emit(_));
            match effect {
                effect if leaves && (self.gate == Gate::Held || self.gate == Gate::Open && over) => {
                    self.gated.push_back(effect);
                }
                Effect::Emit(_) | Effect::Window(..) if self.gate == Gate::Shut => {}
                Effect::Release(token) if self.gate == Gate::Shut => {
                    let (id, _) = self.unpark(token);
                    self.datapath.discard(id);
                }
                Effect::Window(token, window) => {
                    if let Some((id, _)) = self.parked.get(place(token)) {
                        self.datapath.set_window(*id, window);
                    }
                }
                Effect::Release(token) => {
                    let (id, said) = self.unpark(token);
                    self.held_time.record(now.saturating_since(said));
                    self.datapath.release(id);
                }
                Effect::Drop(token) => {
                    let (id, _) = self.unpark(token);
                    self.datapath.discard(id);
                }
                Effect::Emit(frame) => {
                    // What finds no room is counted there; the guest asks again.
                    let _ = self.datapath.emit(&frame);
                }
                Effect::Ask(request) => {
                    self.signals.ask(&request);
                    if let Some(eye) = &mut self.eye {
                        eye.vm().want();
                    }
                }
                Effect::Settle(epoch) => self.signals.settle(epoch),
                Effect::CloseLink(bye) => self.peer.close(bye),
            }
        }
        self.effects = effects;
    }

    fn unpark(&mut self, token: Token) -> (FrameId, Mono) {
        self.parked.remove(place(token))
    }

    /// Logs a change of protection.
    fn tell(&mut self) {
        let now = self.protection();
        if std::mem::replace(&mut self.told, now) != now {
            let held = self.core.held();
            match now {
                Protection::Protected => {
                    info!("protected in epoch {}", self.core.epoch());
                }
                Protection::Not(_) => warn!("{now}, {held} frames held"),
            }
        }
    }

    fn status(&mut self) -> Status {
        let protection = self.protection();
        let protection = self.seat.as_ref().map_or(protection, |s| protection.beside(s.machine.standing()));
        let (attach, hold) = words(self.datapath.attached(), self.datapath.backend());
        let by = self.core.asked().clone();
        let vm = self.eye.iter().flat_map(Eye::counters);
        let counters = self.core.counters().chain(self.signals.counters()).chain(vm);
        Status {
            role: "primary",
            state: protection.state(),
            reason: protection.reason(),
            epoch: self.core.epoch().0,
            peer: self.peer.name.clone(),
            attach,
            hold: hold.to_owned(),
            held: self.core.held() as u64,
            held_time: self.held_time.summary(),
            pauses: self.core.pauses(),
            counters: all_counters(&mut self.datapath, counters, self.peer.slot.refused()),
            checkpoints: Checkpoints { asked: by.values().sum(), by },
            heartbeat: self.heart.as_ref().and_then(Heart::shown),
            divergences: self.core.divergences().cloned().collect(),
            failover: self
                .seat
                .as_ref()
                .map(|seat| Standing::new(seat.machine.stands(), seat.machine.term(), self.datapath.paths())),
            lease: self.seat.as_ref().and_then(|seat| seat.lease(self.lease.end())),
            interfaces: Interfaces::new(self.datapath.paths()),
        }
    }

    /// Releases or discards all that was captured since, and returns how many.
    fn empty(&mut self, release: bool) -> io::Result<u64> {
        let mut frames = 0;
        while let Some(captured) = self.taken.pop_front().or_else(|| self.datapath.next_captured()) {
            frames += 1;
            if release {
                self.datapath.release(captured.id);
            } else {
                self.datapath.discard(captured.id);
            }
        }
        self.datapath.flush()?;
        Ok(frames)
    }

    fn exit(mut self, now: Mono) -> io::Result<()> {
        let held = self.core.held();
        let release = self.release_on_exit && self.may_release();
        self.core.exit(now, release, &mut self.effects);
        if self.gate == Gate::Held || self.lease.is_over() {
            self.gate = Gate::Shut;
            self.effects.splice(0..0, std::mem::take(&mut self.gated));
        }
        self.apply();
        self.datapath.flush()?;
        let mut late = 0;
        // What the guest says from here on goes straight through, behind what was held, until the programs are off.
        if release {
            late += self.empty(release)?;
            self.datapath.set_mode(Mode::Pass).map_err(io::Error::other)?;
        }
        let end = now + EXIT_LIMIT;
        loop {
            late += self.empty(release)?;
            let pressure = self.datapath.pressure();
            // An uplink that carries nothing takes nothing.
            let takes = self.datapath.paths().of(Side::Uplink).is_whole();
            let sending = takes && pressure.sending != 0;
            if !sending && pressure.held == 0 || Mono::now() >= end {
                break;
            }
            self.peer.wait(
                &mut self.datapath,
                &self.port,
                None,
                Some(std::time::Duration::from_millis(1)),
            )?;
        }
        let done = if release { "released in order" } else { "dropped" };
        info!("exiting: {held} frames held and {late} captured since were {done}");
        if self.stays() { self.datapath.leave() } else { self.datapath.detach() }
    }
}

/// Where the frame of `token` is among those parked.
fn place(token: Token) -> usize {
    usize::try_from(token.0).expect("a token is made of a usize")
}

//! The primary's packet thread.
//!
//! One turn: commands, then input copies to the link, guest output to the comparator, the link's messages, what the
//! clock brings, and at the end one flush of the uplink and of the link.

use super::{
    CAPTURE_BATCH, Command, EXIT_LIMIT, Flushed, LINK_READS, LOOK, Peer, Port, Reading, all_counters,
    timeout, words,
};
use crate::agent::primary::{Effect, Losses, Primary};
use crate::agent::protection::{Protection, Reason};
use crate::agent::status::{Checkpoints, Status};
use crate::agent::times::Times;
use crate::checkpoint::Signals;
use crate::compare::Token;
use crate::datapath::{Datapath, FrameId, MIRROR_BATCH, Mode};
use crate::link::connect::{Connected, Slot};
use crate::link::stream::Link;
use crate::mono::Mono;
use slab::Slab;
use std::io;
use std::sync::Arc;
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
    /// Frames that the core has, by token, and when the guest said them.
    parked: Slab<(FrameId, Mono)>,
    held_time: Times,
    effects: Vec<Effect>,
    release_on_exit: bool,
    last_look: Mono,
    losses: Losses,
    told: Protection,
}

impl PrimaryThread {
    /// Joins the parts; nothing runs yet.
    #[must_use]
    pub fn new(
        datapath: Datapath,
        core: Primary,
        slot: Arc<Slot>,
        peer: String,
        port: Port,
        signals: Signals,
        release_on_exit: bool,
    ) -> Self {
        let told = core.protection();
        Self {
            datapath,
            core,
            peer: Peer { link: None, slot, name: peer },
            port,
            signals,
            parked: Slab::new(),
            held_time: Times::default(),
            effects: Vec::new(),
            release_on_exit,
            last_look: Mono::ZERO,
            losses: Losses::default(),
            told,
        }
    }

    /// Turns until it is told to exit.
    ///
    /// # Errors
    /// An interface is gone.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let now = Mono::now();
            while let Some(command) = self.port.next() {
                match command {
                    Command::Link(connected) => self.connect(now, connected),
                    Command::Cut => self.cut(now),
                    Command::Status(reply) => {
                        // Whoever asked may have left.
                        let _ = reply.send(self.status());
                    }
                    Command::Exit => return self.exit(now),
                }
            }
            let mut busy = self.mirrored(now);
            busy |= self.captured(now, CAPTURE_BATCH);
            busy |= self.messages(now);
            if now.saturating_since(self.last_look) >= LOOK {
                self.last_look = now;
                let p = self.datapath.pressure();
                if p.lost > self.losses.captured {
                    self.losses.oversized = self.datapath.counters().get(OVERSIZED).unwrap_or(0);
                }
                self.losses.captured = p.lost;
                self.losses.mirrored = p.mirror_lost;
                self.losses.scarce = p.scarce;
                self.core.losses(now, self.losses, &mut self.effects);
            }
            self.core.tick(now, self.peer.outbox(), &mut self.effects);
            self.apply();
            self.datapath.flush()?;
            match self.peer.flush() {
                Flushed::Fine => {}
                Flushed::Stalled => self.core.stalled(now, &mut self.effects),
                Flushed::Broken => self.core.lost(now, Reason::PeerLost, &mut self.effects),
            }
            if !self.effects.is_empty() {
                self.apply();
                self.datapath.flush()?;
            }
            self.tell();
            let deadline = self.core.next_deadline();
            self.peer.wait(&mut self.datapath, &self.port, timeout(busy, Mono::now(), deadline))?;
        }
    }

    fn connect(&mut self, now: Mono, connected: Connected) {
        let mut link = Link::new(connected.stream, connected.hello);
        self.core.connected(now, link.outbox());
        self.peer.link = Some(link);
    }

    /// Hands copies of input to the link; true if there may be more.
    fn mirrored(&mut self, now: Mono) -> bool {
        let (core, peer) = (&mut self.core, &mut self.peer);
        let handed = self.datapath.next_mirrored(|mirrored| {
            core.mirrored(now, mirrored.index, mirrored.frame, peer.outbox());
        });
        handed == MIRROR_BATCH
    }

    /// Hands guest output to the comparator; true if there may be more.
    fn captured(&mut self, now: Mono, batch: usize) -> bool {
        if !self.core.takes_output() {
            return false;
        }
        for _ in 0..batch {
            let Some(captured) = self.datapath.next_captured() else { return false };
            let token = Token(self.parked.insert((captured.id, captured.stamp)) as u64);
            let frame = self.datapath.frame(captured.id);
            self.core.captured(now, token, frame, self.peer.outbox(), &mut self.effects);
        }
        true
    }

    /// Takes the peer's messages; true if there may be more.
    fn messages(&mut self, now: Mono) -> bool {
        let Some(link) = &mut self.peer.link else { return false };
        for _ in 0..LINK_READS {
            match Peer::read(link, "secondary") {
                Reading::Some => {}
                Reading::Empty => return false,
                Reading::Lost => {
                    self.core.lost(now, Reason::PeerLost, &mut self.effects);
                    return false;
                }
            }
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
                    return false;
                }
                if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                    return false;
                }
            }
        }
        true
    }

    /// A checkpoint has come: all that was said and heard before belongs to the epoch that ends.
    fn cut(&mut self, now: Mono) {
        while self.mirrored(now) {}
        while self.captured(now, CAPTURE_BATCH) {
            self.apply();
        }
        self.core.cut(now, self.peer.outbox());
    }

    fn apply(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let now = Mono::now();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
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
                Effect::Ask(request) => self.signals.ask(&request),
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
        let now = self.core.protection();
        if std::mem::replace(&mut self.told, now) != now {
            let held = self.core.held();
            match now {
                Protection::Protected => {
                    info!("protected in epoch {}: new flows are compared", self.core.epoch());
                }
                Protection::Not(_) => warn!("{now}, {held} frames held"),
            }
        }
    }

    fn status(&mut self) -> Status {
        let protection = self.core.protection();
        let (attach, hold) = words(self.datapath.attached(), self.datapath.backend());
        let by = self.core.asked().clone();
        let counters = self.core.counters().chain(self.signals.counters());
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
            counters: all_counters(&mut self.datapath, counters, self.peer.slot.refused()),
            checkpoints: Checkpoints { asked: by.values().sum(), by },
            divergences: self.core.divergences().cloned().collect(),
        }
    }

    fn exit(mut self, now: Mono) -> io::Result<()> {
        let held = self.core.held();
        self.core.exit(now, self.release_on_exit, &mut self.effects);
        self.apply();
        self.datapath.flush()?;
        // What the guest says from here on goes straight through, behind what was held, until the programs are off.
        if self.release_on_exit {
            self.datapath.set_mode(Mode::Pass).map_err(io::Error::other)?;
        }
        let mut late = 0;
        let end = now + EXIT_LIMIT;
        loop {
            while let Some(captured) = self.datapath.next_captured() {
                late += 1;
                if self.release_on_exit {
                    self.datapath.release(captured.id);
                } else {
                    self.datapath.discard(captured.id);
                }
            }
            self.datapath.flush()?;
            let pressure = self.datapath.pressure();
            if pressure.sending == 0 && pressure.held == 0 || Mono::now() >= end {
                break;
            }
            self.peer.wait(&mut self.datapath, &self.port, Some(std::time::Duration::from_millis(1)))?;
        }
        let done = if self.release_on_exit { "released in order" } else { "dropped" };
        info!("exiting: {held} frames held and {late} captured since were {done}");
        self.datapath.detach()
    }
}

/// Where the frame of `token` is among those parked.
fn place(token: Token) -> usize {
    usize::try_from(token.0).expect("a token is made of a usize")
}

//! The secondary's packet thread.
//!
//! One turn: commands, the link's messages, input to the guest as it takes it, guest output to the link, what the clock
//! brings, and one flush of the link.

use super::{
    CAPTURE_BATCH, Command, Flushed, LINK_READS, LOOK, Peer, Port, Reading, all_counters, timeout, words,
};
use crate::agent::protection::{Protection, Reason};
use crate::agent::secondary::{Effect, Injection, Secondary};
use crate::agent::status::{Checkpoints, Status};
use crate::agent::times::Summary;
use crate::datapath::{Datapath, Injected};
use crate::link::buffer::Outbox;
use crate::link::connect::{Connected, Slot};
use crate::link::stream::Link;
use crate::mono::Mono;
use std::io;
use std::sync::Arc;
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
    effects: Vec<Effect>,
    last_look: Mono,
    told: Protection,
}

impl SecondaryThread {
    /// Joins the parts; nothing runs yet.
    #[must_use]
    pub fn new(datapath: Datapath, core: Secondary, slot: Arc<Slot>, peer: String, port: Port) -> Self {
        let told = core.protection();
        let peer = Peer { link: None, slot, name: peer };
        Self { datapath, core, peer, port, effects: Vec::new(), last_look: Mono::ZERO, told }
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
                    // Cuts come from the primary, through the link.
                    Command::Cut => {}
                    Command::Status(reply) => {
                        // Whoever asked may have left.
                        let _ = reply.send(self.status());
                    }
                    Command::Exit => return self.exit(),
                }
            }
            let mut busy = self.messages(now);
            let more = self.inject(now)?;
            busy |= more == More::Now;
            busy |= captured(&mut self.datapath, &mut self.core, now, self.peer.outbox());
            if now.saturating_since(self.last_look) >= LOOK {
                self.last_look = now;
                self.core.losses(self.datapath.pressure().lost);
            }
            self.core.tick(now, self.peer.outbox(), &mut self.effects);
            self.apply();
            self.datapath.flush()?;
            match self.peer.flush() {
                Flushed::Fine => {}
                Flushed::Stalled => self.core.lost(Reason::LinkStalled, &mut self.effects),
                Flushed::Broken => self.core.lost(Reason::PeerLost, &mut self.effects),
            }
            self.apply();
            self.tell();
            let now = Mono::now();
            let mut deadline = self.core.next_deadline();
            if more == More::Later {
                let again = now + CREDIT_PAUSE;
                deadline = Some(deadline.map_or(again, |at| at.min(again)));
            }
            self.peer.wait(&mut self.datapath, &self.port, timeout(busy, now, deadline))?;
        }
    }

    fn connect(&mut self, now: Mono, connected: Connected) {
        self.core.connected(now);
        self.peer.link = Some(Link::new(connected.stream, connected.hello));
    }

    /// Takes the peer's messages; true if there may be more.
    fn messages(&mut self, now: Mono) -> bool {
        let Some(link) = &mut self.peer.link else { return false };
        for _ in 0..LINK_READS {
            match Peer::read(link, "primary") {
                Reading::Some => {}
                Reading::Empty => return false,
                Reading::Lost => {
                    self.core.lost(Reason::PeerLost, &mut self.effects);
                    return false;
                }
            }
            loop {
                let refused = match link.next_message() {
                    Ok(None) => break,
                    Ok(Some((message, outbox))) => {
                        let refused = self.core.message(now, &message, outbox, &mut self.effects);
                        if self.effects.last() == Some(&Effect::Drain) {
                            self.effects.pop();
                            while captured(&mut self.datapath, &mut self.core, now, Some(outbox)) {}
                            self.core.drained(now, Some(outbox));
                        }
                        refused.map_err(|e| e.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if let Err(refused) = refused {
                    warn!("link: {refused}");
                    self.core.lost(Reason::ProtocolBroken, &mut self.effects);
                    return false;
                }
                if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                    return false;
                }
            }
        }
        true
    }

    fn inject(&mut self, now: Mono) -> io::Result<More> {
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
        let now = self.core.protection();
        if std::mem::replace(&mut self.told, now) != now {
            match now {
                Protection::Protected => info!("protected in epoch {}", self.core.epoch()),
                Protection::Not(_) => warn!("{now}"),
            }
        }
    }

    fn status(&mut self) -> Status {
        let protection = self.core.protection();
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
            counters: all_counters(&mut self.datapath, self.core.counters(), self.peer.slot.refused()),
            checkpoints: Checkpoints::default(),
            divergences: Vec::new(),
        }
    }

    fn exit(mut self) -> io::Result<()> {
        self.core.lost(Reason::Exiting, &mut self.effects);
        self.apply();
        info!("exiting: {} frames of input were not injected", self.core.waiting());
        self.datapath.detach()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Nothing,
    Now,
    Later,
}

/// Hands guest output to the link; true if there may be more.
fn captured(
    datapath: &mut Datapath,
    core: &mut Secondary,
    now: Mono,
    mut outbox: Option<&mut Outbox>,
) -> bool {
    for _ in 0..CAPTURE_BATCH {
        let Some(captured) = datapath.next_captured() else { return false };
        core.captured(now, datapath.frame_mut(captured.id), outbox.as_deref_mut());
        datapath.discard(captured.id);
    }
    true
}

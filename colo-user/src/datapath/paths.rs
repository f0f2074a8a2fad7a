//! What becomes of the data path when an interface goes, comes, or is made useless: [`crate::path`] decides, this carries it out.
//!
//! Programs, maps and the memory of held frames stay, whatever goes: what the guest has said is neither lost nor let out, what was released
//! waits for the next uplink in order, translations are in their map. What is made anew are the program's link, the sockets on the interface,
//! the device map's entry, the pinned names, and where input and credit are counted from.

use std::time::Duration;

use super::config::AttachMode;
use super::error::DatapathError;
use super::interface::Interface;
use super::packet::PacketSocket;
use super::pins::Name;
use super::programs::NATIVE;
use super::{Attached, Datapath, attach};
use crate::mono::Mono;
use crate::path::{Do, Fault, Paths, Seen, Side};

/// How long a program that was in the driver is to be there again, before it is attached in any way: whoever makes a veth anew
/// switches GRO on after that.
const NATIVE_PATIENCE: Duration = Duration::from_secs(1);

/// What is remembered of a side besides what the core knows.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What the log says of it.
    said: Option<Fault>,
    name: String,
    /// Since when it is tried to attach to what is there.
    tried: Option<Mono>,
}

impl Memory {
    pub fn of(interface: &Interface) -> Self {
        Self { said: None, name: interface.name.clone(), tried: None }
    }
}

impl Datapath {
    /// How the interfaces stand.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Takes what was found of the interfaces and does what is to be done. [`Self::wait`] does it by itself.
    /// Whether there was anything to do.
    pub fn tend(&mut self) -> bool {
        let mut out = Vec::new();
        for (side, look) in Side::ALL.into_iter().zip(self.watch.take()) {
            if let Some(look) = look {
                self.paths.look(Mono::now(), side, &look, &mut out);
            }
        }
        let anything = !out.is_empty();
        self.carry_out(out);
        anything
    }

    /// Whether the kernel has let go of an interface that nobody has told of yet.
    pub(super) fn check_ports(&mut self) {
        let mut out = Vec::new();
        for side in Side::ALL {
            if !self.programs.has_port(side) {
                self.paths.unmapped(Mono::now(), side, &mut out);
            }
        }
        self.carry_out(out);
    }

    pub(super) fn carry_out(&mut self, out: Vec<Do>) {
        for wanted in out {
            match wanted {
                Do::Look(side) => self.watch.aim(side, self.paths.of(side).index),
                Do::Shut(side) => {
                    self.close_port(side);
                    self.closed(side);
                }
                Do::Bare(side) => {
                    self.close_port(side);
                    self.programs.take_off(side);
                    self.closed(side);
                }
                Do::LetGo(side) => {
                    self.let_go(side);
                    self.memories[side as usize].tried = None;
                    self.closed(side);
                }
                Do::Open(side) => {
                    let opened = self.open_port(side);
                    self.had(side, opened);
                }
                Do::Attach(side, seen) => {
                    let there = self.paths.of(side).is_there();
                    let attached = self.attach_anew(side, &seen);
                    if attached.is_err() {
                        self.programs.take_off(side);
                        if !there {
                            self.let_go(side);
                        }
                    }
                    self.had(side, attached);
                }
            }
        }
        Side::ALL.into_iter().for_each(|side| self.tell(side));
    }

    fn closed(&mut self, side: Side) {
        self.paths.shut(Mono::now(), side);
        self.watch.aim(side, self.paths.of(side).index);
    }

    fn had(&mut self, side: Side, outcome: Result<Seen, DatapathError>) {
        match outcome {
            Ok(seen) => {
                self.memories[side as usize].tried = None;
                self.paths.opened(Mono::now(), side, &seen);
                self.watch.aim(side, seen.index);
            }
            // The next look comes by itself.
            Err(error) => self.paths.refused(Mono::now(), side, error.to_string()),
        }
    }

    fn interface(&self, side: Side) -> &Interface {
        match side {
            Side::Guest => &self.guest,
            Side::Uplink => &self.uplink,
        }
    }

    fn close_port(&mut self, side: Side) {
        if let Err(error) = self.programs.clear_port(side) {
            tracing::warn!("{error}");
        }
    }

    /// Frames for `side` go to its interface; those of the guest are counted from here on.
    fn open_port(&mut self, side: Side) -> Result<Seen, DatapathError> {
        if side == Side::Guest {
            self.begin_input()?;
        }
        let interface = self.interface(side);
        let (index, name) = (interface.index, interface.name.clone());
        self.programs.set_port(side, index)?;
        let program = Some(self.programs.id(side)?);
        Ok(Seen { index, name, up: true, carrier: true, program })
    }

    fn let_go(&mut self, side: Side) {
        self.close_port(side);
        self.programs.take_off(side);
        self.hold.let_go(side);
        match side {
            Side::Guest => {
                self.waiting.deaf = false;
                self.injector.let_go();
            }
            Side::Uplink => self.promiscuous = None,
        }
    }

    fn attach_anew(&mut self, side: Side, seen: &Seen) -> Result<Seen, DatapathError> {
        let mut interface = Interface::inspect(&mut self.netlink, &seen.name, None)?;
        let other = if side == Side::Guest { Side::Uplink } else { Side::Guest };
        if interface.index == self.paths.of(other).index {
            return Err(DatapathError::SameInterface(interface.name));
        }
        interface.follow(self.interface(side));
        self.hold.attach(side, &interface)?;
        match side {
            Side::Guest => {
                if let Some(socket) = self.hold.capture_socket() {
                    self.programs.set_hold_socket(socket)?;
                }
                self.injector.attach(&interface)?;
                self.guest = interface;
            }
            Side::Uplink => {
                if interface.filters_addresses() && self.promiscuous.is_none() {
                    self.promiscuous = Some(PacketSocket::open(&interface, true)?);
                }
                self.uplink = interface;
            }
        }
        let settings =
            attach::settings(&self.config, self.backend, self.hold.longest(), &self.guest, &self.uplink);
        self.programs.set_settings(settings)?;
        self.attach_programs(side, other)?;
        self.renew_pins(side);
        for warning in attach::warnings(side, self.interface(side), self.hold.longest()) {
            tracing::warn!("{warning}");
        }
        self.open_port(side)
    }

    /// Attaches the program of `side`, as before where that may be had.
    fn attach_programs(&mut self, side: Side, other: Side) -> Result<(), DatapathError> {
        let now = Mono::now();
        let tried = *self.memories[side as usize].tried.get_or_insert(now);
        let native = self.attached == Attached { guest: NATIVE, uplink: NATIVE };
        let waits = native && self.config.attach == AttachMode::Auto;
        let mode = if waits && now.saturating_since(tried) < NATIVE_PATIENCE {
            AttachMode::Native
        } else {
            self.config.attach
        };
        let joined = self.paths.of(other).is_there();
        let interfaces = match side {
            Side::Guest => [Some(&self.guest), joined.then_some(&self.uplink)],
            Side::Uplink => [joined.then_some(&self.guest), Some(&self.uplink)],
        };
        let mut attached = self.attached;
        self.programs.attach(interfaces, mode, &mut self.netlink, &mut attached)?;
        self.attached = attached;
        Ok(())
    }

    /// Gives what was attached the names that the pins before it had.
    fn renew_pins(&mut self, side: Side) {
        let Some(pins) = &mut self.pins else {
            if let Ok(name) = Name::new(&self.netlink, self.guest.index) {
                self.name = name;
            }
            return;
        };
        let renewed = Name::new(&self.netlink, self.guest.index)
            .map_err(|source| DatapathError::Interface { interface: self.guest.name.clone(), source })
            .and_then(|name| {
                pins.rename(&name)?;
                self.name = name;
                // Both: a fallback may have changed the other one.
                Side::ALL.into_iter().try_for_each(|side| self.programs.renew_pin(side, pins))?;
                if side == Side::Uplink {
                    pins.unmark_promiscuous()?;
                }
                Ok(())
            });
        let renewed = renewed.and_then(|()| self.mark_promiscuous());
        if let Err(error) = renewed {
            tracing::warn!("the guest speaks for as long as this agent runs: {error}");
        }
    }

    /// Logs what has changed.
    fn tell(&mut self, side: Side) {
        let (path, memory) = (self.paths.of(side), &mut self.memories[side as usize]);
        if memory.name != path.name {
            tracing::info!("{} {} is called {} from here on", side.name(), memory.name, path.name);
            memory.name.clone_from(&path.name);
        }
        if memory.said == path.fault {
            return;
        }
        memory.said.clone_from(&path.fault);
        match &path.fault {
            Some(fault) => tracing::warn!(
                "{} ({}): {}",
                fault.reason(side),
                path.name,
                fault.way_out(side, &path.name, &path.given)
            ),
            None => tracing::info!("{} {} carries frames again", side.name(), path.name),
        }
    }
}

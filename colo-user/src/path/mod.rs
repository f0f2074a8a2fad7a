//! Whether the two interfaces of a guest carry its frames, and what is to be done about one that does not. No I/O, no clock:
//! what was found and `now` in, [`Do`]s out.
//!
//! ```text
//!             down, no carrier                up, carrier
//!   open ─────────────────────────▶ shut ──────────────────▶ open
//!    │  program taken off, replaced   │                        ▲
//!    ├────────────────────────────────┴─▶ bare ────────────────┤ up, and no program of another: attached anew
//!    └─ deleted, moved away ────────────▶ gone ─ one of the ───┘
//!                                                given name
//! ```
//!
//! An interface is known by its index: one that is renamed is the same, and only its name in the status changes. One that is deleted
//! or moved to another network namespace is no more, whatever comes after it: sockets and device map have let go of it. Then
//! the one that has the name which the operator gave is taken, as at the start. A program of somebody else is left alone.
//!
//! What was found may be older than what was done since: it is passed over.

mod fault;

pub use fault::{Fault, REASONS};

use crate::mono::Mono;
use std::time::Duration;

/// A path that is back in this time was not lost: nobody is asked to go on in its place.
pub const GRACE: Duration = Duration::from_secs(1);

/// The two ends of a guest's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The guest's interface, `colo_guest`.
    Guest,
    /// The uplink, `colo_uplink`.
    Uplink,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Guest, Self::Uplink];

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest interface",
            Self::Uplink => "uplink",
        }
    }
}

/// Which of a side's interfaces carry frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrying {
    /// The guest's.
    pub guest: bool,
    /// The uplink.
    pub uplink: bool,
}

impl Carrying {
    /// As the core of the paths says.
    #[must_use]
    pub const fn of(paths: &Paths) -> Self {
        Self { guest: paths.of(Side::Guest).is_whole(), uplink: paths.of(Side::Uplink).is_whole() }
    }

    /// Both.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.guest && self.uplink
    }
}

/// An interface as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its index.
    pub index: u32,
    /// Its name now.
    pub name: String,
    /// It is set up.
    pub up: bool,
    /// Its driver sees the other end.
    pub carrier: bool,
    /// The XDP program on it, by its id.
    pub program: Option<u32>,
}

/// How an interface went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was deleted.
    Deleted,
    /// It is in another network namespace.
    Moved,
}

/// What was found of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When it was begun.
    pub at: Mono,
    /// The index that was looked for; 0 for none.
    pub index: u32,
    /// The kernel has said of the interface with that index, or of the last one, that it went.
    pub gone: Option<Gone>,
    /// The one with that index.
    pub there: Option<Seen>,
    /// The one with the name that was given.
    pub named: Option<Seen>,
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Look for it now.
    Look(Side),
    /// Nothing is sent to it any more; program and sockets stay.
    Shut(Side),
    /// It is sent to again. Then [`Paths::opened`] or [`Paths::refused`].
    Open(Side),
    /// As [`Self::Shut`], and the program is taken off.
    Bare(Side),
    /// As [`Self::Bare`], and the sockets are closed.
    LetGo(Side),
    /// Attach to this one what it lacks, and open it. Then [`Paths::opened`] or [`Paths::refused`].
    Attach(Side, Seen),
}

/// What is had of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grip {
    Open,
    Shut,
    Bare,
    Gone,
}

/// One side.
#[derive(Clone, Debug)]
pub struct Path {
    /// The name that the operator gave.
    pub given: String,
    /// The name it has, or had last.
    pub name: String,
    /// Its index; 0 while there is none.
    pub index: u32,
    /// Why it carries nothing; none while it does.
    pub fault: Option<Fault>,
    /// Since when.
    pub since: Mono,
    /// Times that it was lost.
    pub lost: u64,
    /// Times that it was had again.
    pub restored: u64,
    /// The index of the one that is gone.
    last: u32,
    program: u32,
    grip: Grip,
    /// Since when the device map has it no more, although it is open.
    unmapped: Option<Mono>,
    /// What was found before this is older than what was done.
    done: Mono,
}

impl Path {
    fn new(now: Mono, given: &str, seen: &Seen) -> Self {
        Self {
            given: given.to_owned(),
            name: seen.name.clone(),
            index: seen.index,
            fault: None,
            since: now,
            lost: 0,
            restored: 0,
            last: 0,
            program: seen.program.unwrap_or(0),
            grip: Grip::Open,
            unmapped: None,
            done: now,
        }
    }

    /// Whether it carries frames.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.fault.is_none()
    }

    /// Whether sockets on it can be used: it is there, whatever else.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        !matches!(self.grip, Grip::Gone)
    }

    fn fails(&mut self, now: Mono, fault: Fault) {
        if self.fault.is_none() {
            self.since = now;
            self.lost += 1;
        }
        self.fault = Some(fault);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Paths([Path; 2]);

impl Paths {
    /// Both sides, just attached: by the name that was given and as they were found then, with the own program on it.
    #[must_use]
    pub fn new(now: Mono, guest: (&str, &Seen), uplink: (&str, &Seen)) -> Self {
        Self([Path::new(now, guest.0, guest.1), Path::new(now, uplink.0, uplink.1)])
    }

    /// One side.
    #[must_use]
    pub const fn of(&self, side: Side) -> &Path {
        match side {
            Side::Guest => &self.0[0],
            Side::Uplink => &self.0[1],
        }
    }

    const fn of_mut(&mut self, side: Side) -> &mut Path {
        match side {
            Side::Guest => &mut self.0[0],
            Side::Uplink => &mut self.0[1],
        }
    }

    /// Whether both sides carry frames.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.0[0].is_whole() && self.0[1].is_whole()
    }

    /// The side that carries nothing, the guest's before the uplink, and why.
    #[must_use]
    pub fn fault(&self) -> Option<(Side, &Fault)> {
        Side::ALL.into_iter().find_map(|side| Some((side, self.of(side).fault.as_ref()?)))
    }

    /// Whether a side has carried nothing for so long.
    #[must_use]
    pub fn is_lost_for(&self, now: Mono, side: Side, limit: Duration) -> bool {
        let path = self.of(side);
        !path.is_whole() && now.saturating_since(path.since) >= limit
    }

    /// One side was looked for.
    pub fn look(&mut self, now: Mono, side: Side, look: &Look, out: &mut Vec<Do>) {
        let path = self.of_mut(side);
        // It was found gone before the kernel said how.
        let is_last = look.index == 0 || look.index == path.last;
        if !path.is_there() && is_last && (look.gone, &path.fault) == (Some(Gone::Moved), &Some(Fault::Gone))
        {
            path.fails(now, Fault::Moved);
        }
        // Of another one, or asked before that one was attached, opened or shut. That it went is never too old.
        if look.index != path.index || look.at < path.done && look.gone.is_none() {
            return;
        }
        if path.is_there() {
            if let (None, Some(seen)) = (look.gone, &look.there) {
                let unmapped = path.unmapped.is_some_and(|since| look.at >= since);
                return if unmapped {
                    path.goes(now, side, Gone::Deleted, out);
                } else {
                    path.found(now, side, seen, out);
                };
            }
            let own = path.program;
            path.goes(now, side, look.gone.unwrap_or(Gone::Deleted), out);
            // It was away and came back before it was let go.
            if look.named.as_ref().is_some_and(|seen| seen.program == Some(own)) {
                return;
            }
        }
        path.seek(now, side, look.named.as_ref(), out);
    }

    /// The device map has no interface for a side that is open: the kernel has taken it out, as it does with one that goes. How it
    /// went the next look says; one that seems to be there still was away in between.
    pub fn unmapped(&mut self, now: Mono, side: Side, out: &mut Vec<Do>) {
        let path = self.of_mut(side);
        if path.grip == Grip::Open && path.unmapped.is_none() {
            path.unmapped = Some(now);
            out.push(Do::Look(side));
        }
    }

    /// A [`Do::Shut`], [`Do::Bare`] or [`Do::LetGo`] was carried out.
    pub const fn shut(&mut self, now: Mono, side: Side) {
        self.of_mut(side).done = now;
    }

    /// A [`Do::Open`] or [`Do::Attach`] was carried out: the interface is this one, with the own program on it.
    pub fn opened(&mut self, now: Mono, side: Side, seen: &Seen) {
        let path = self.of_mut(side);
        (path.index, path.program) = (seen.index, seen.program.unwrap_or(0));
        path.name.clone_from(&seen.name);
        (path.grip, path.fault, path.done, path.unmapped) = (Grip::Open, None, now, None);
        path.restored += 1;
    }

    /// A [`Do::Open`] or [`Do::Attach`] failed. It is tried again when the interface is found fit the next time.
    pub fn refused(&mut self, now: Mono, side: Side, text: String) {
        let path = self.of_mut(side);
        path.done = now;
        path.fails(now, Fault::Refused(text));
    }
}

impl Path {
    /// It is there still.
    fn found(&mut self, now: Mono, side: Side, seen: &Seen, out: &mut Vec<Do>) {
        self.name.clone_from(&seen.name);
        if self.grip != Grip::Bare && seen.program == Some(self.program) {
            match (seen.up, seen.carrier, self.grip) {
                (true, true, Grip::Open) => {}
                (true, true, _) => out.push(Do::Open(side)),
                (up, _, grip) => {
                    self.fails(now, if up { Fault::NoCarrier } else { Fault::Down });
                    if grip == Grip::Open {
                        self.grip = Grip::Shut;
                        out.push(Do::Shut(side));
                    }
                }
            }
            return;
        }
        // What was put in the place of the own program by its own link goes with that link.
        if self.grip != Grip::Bare {
            self.grip = Grip::Bare;
            out.push(Do::Bare(side));
            self.fails(now, seen.program.map_or(Fault::NoProgram, Fault::Taken));
            return;
        }
        self.attach(now, side, seen, out);
    }

    fn goes(&mut self, now: Mono, side: Side, gone: Gone, out: &mut Vec<Do>) {
        self.last = self.index;
        (self.grip, self.index, self.program, self.unmapped) = (Grip::Gone, 0, 0, None);
        self.fails(now, if gone == Gone::Moved { Fault::Moved } else { Fault::Gone });
        out.push(Do::LetGo(side));
    }

    /// It is gone: perhaps there is another of the given name.
    fn seek(&mut self, now: Mono, side: Side, named: Option<&Seen>, out: &mut Vec<Do>) {
        match named {
            Some(seen) => self.attach(now, side, seen, out),
            // It was there for a moment.
            None if !matches!(self.fault, Some(Fault::Gone | Fault::Moved)) => self.fails(now, Fault::Gone),
            None => {}
        }
    }

    fn attach(&mut self, now: Mono, side: Side, seen: &Seen, out: &mut Vec<Do>) {
        match seen.program {
            Some(id) => self.fails(now, Fault::Taken(id)),
            None if !seen.up => self.fails(now, Fault::Down),
            None => out.push(Do::Attach(side, seen.clone())),
        }
    }
}

#[cfg(test)]
mod tests;

//! The data path: XDP programs on the guest's interface and on the uplink, and what they hand to the agent.
//!
//! - *Capture*: in the modes protect and secondary every frame of the guest is taken off its way and parked
//!   ([`Datapath::next_captured`]) until the agent releases it onto the uplink, in its own order, or discards it.
//! - *Mirror*: in mode protect client frames go on to the guest in the kernel; the agent gets numbered copies
//!   ([`Datapath::next_mirrored`]).
//! - *Inject*: the secondary's agent writes mirrored input into its guest's interface ([`Datapath::inject`]).
//!
//! - *Translate*: in the modes protect and pass the programs translate the flows of a guest that speaks for another
//!   ([`Datapath::set_translations`]).
//!
//! One thread owns a [`Datapath`] and turns it: wait, take what came, decide, release, flush. Nothing here decides what
//! may leave. Dropping it takes the programs off the interfaces first, which are then as they were found, unless they are
//! pinned ([`Datapath::pin`]): then they go on. Frames that were still parked are gone with it, so an agent that ends
//! releases or discards them before.
//!
//! What is bounded: parked frames by [`Config::frames`], copies by the ring buffers, frames unread in a tap by
//! [`TAP_CREDIT`]. What does not fit is counted under its reason ([`Datapath::counters`]), and [`Datapath::pressure`] says so
//! before it happens.
#![allow(
    unsafe_code,
    reason = "AF_XDP rings are memory shared with the kernel, and some system calls have no safe wrapper"
)]

mod answerer;
mod attach;
mod bpf;
mod config;
mod counters;
mod deadman;
mod error;
mod finish;
mod gaps;
mod hold;
mod inject;
mod interface;
mod netlink;
mod pace;
mod packet;
mod paths;
mod pins;
pub mod programs;
mod realtime;
mod record;
mod sys;
mod tally;
mod translations;
mod unread;
mod wait;
mod watch;
mod xsk;

use std::io;

use aya::maps::{MapData, RingBuf};
pub use colo_ebpf::Mode;

pub use answerer::Answerer;
pub use attach::detach_pinned;
pub use config::{AttachMode, Config, DEFAULT_FRAMES, HoldBackend, MAX_FRAMES, MIN_FRAMES, Role};
pub use counters::{CounterValue, Counters};
pub use deadman::{AgentLimit, LeaseEnd, Overdue};
pub use error::DatapathError;
pub use inject::{Injected, TAP_CREDIT};
pub use pins::BPFFS;
pub use realtime::{MAX_REALTIME, set as set_realtime};
pub(crate) use sys::untaken;
pub use tally::Pressure;
pub use translations::JANITOR_BATCH;
pub use unread::InputRead;
pub use wait::{Ready, Wake};

use deadman::Signs;
use gaps::Gaps;
use hold::Hold;
use inject::Injector;
use interface::Interface;
use netlink::Netlink;
use packet::PacketSocket;
use pins::Pins;
use programs::{NATIVE, Programs};
use tally::{Own, ToldLosses};
use translations::Janitor;
use watch::Watch;

use crate::mono::Mono;
use crate::path::{Paths, Side};

/// Bytes of the ring buffer of mirrored input: more than 10,000 full frames.
pub const MIRROR_BYTES: u32 = 16 << 20;
/// Bytes of the ring buffer of held frames, where that is how they are held.
pub const HOLD_BYTES: u32 = 16 << 20;
/// Most copies that one [`Datapath::next_mirrored`] hands out.
pub const MIRROR_BATCH: usize = 256;
/// After so many batches all is heard that lay in the ring at the first: more frames, of 60 bytes at least, it does not hold.
pub const MIRROR_BATCHES: usize = MIRROR_BYTES as usize / 60 / MIRROR_BATCH + 1;

/// A parked frame. Good from its capture to its release or discard; after that it names no frame, or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(u32);

/// One frame that the guest said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Where it is parked.
    pub id: FrameId,
    /// Its length in bytes.
    pub len: u32,
    /// When the guest said it.
    pub stamp: Mono,
}

/// A copy of a frame that a client said; the original went to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrored<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// Its number among the frames that went to the guest, from 0. A gap is a frame without a copy.
    pub index: u64,
    /// When it came.
    pub stamp: Mono,
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// On the guest's interface: `native` or `skb`.
    pub guest: &'static str,
    /// On the uplink: `native` or `skb`.
    pub uplink: &'static str,
}

impl Attached {
    const fn of(&mut self, side: Side) -> &mut &'static str {
        match side {
            Side::Guest => &mut self.guest,
            Side::Uplink => &mut self.uplink,
        }
    }
}

/// See the module.
pub struct Datapath {
    // First of all the programs leave the interfaces.
    programs: Programs,
    hold: Box<dyn Hold>,
    mirror: RingBuf<MapData>,
    injector: Injector,
    /// Lives for what it keeps switched on.
    promiscuous: Option<PacketSocket>,
    netlink: Netlink,
    guest: Interface,
    uplink: Interface,
    attached: Attached,
    backend: HoldBackend,
    warnings: Vec<String>,
    signs: Signs,
    waiting: wait::Waiting,
    mirror_gaps: Gaps,
    input: unread::Input,
    told: ToldLosses,
    own: Own,
    janitor: Janitor,
    /// Number of the first mirrored frame that is ours.
    first_mirrored: u64,
    adopted: bool,
    name: pins::Name,
    /// As it was told.
    config: Config,
    paths: Paths,
    memories: [paths::Memory; 2],
    watch: Watch,
    /// Unlocked last, when all else is closed.
    pins: Option<Pins>,
}

impl Datapath {
    /// How the programs are attached.
    #[must_use]
    pub fn attached(&self) -> Attached {
        self.attached
    }

    /// Where held frames are parked: never [`HoldBackend::Auto`].
    #[must_use]
    pub fn backend(&self) -> HoldBackend {
        self.backend
    }

    /// What about the interfaces will spoil frames, each with the command that helps. Logged at the start, too.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// From here on XDP does this when the agent shows no sign of life ([`Config::overdue`]).
    pub fn limit_agent(&mut self, overdue: Option<AgentLimit>) {
        self.signs.limit(overdue);
    }

    /// The end of this side's lease, where it has one ([`Config::leased`]).
    #[must_use]
    pub fn lease(&self) -> LeaseEnd {
        self.signs.lease()
    }

    /// The programs, for those who run them by themselves.
    pub fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// Says what happens to frames from now on.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), DatapathError> {
        self.programs.set_mode(mode)
    }

    /// The next frame of the guest, in the order it said them. It is parked until [`Self::release`] or
    /// [`Self::discard`].
    pub fn next_captured(&mut self) -> Option<Captured> {
        let captured = self.hold.next();
        self.own.captured += u64::from(captured.is_some());
        captured
    }

    /// The bytes of a parked frame; empty if it is parked no longer.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> &[u8] {
        self.hold.frame(id.0)
    }

    /// The bytes of a parked frame, to be changed; empty if it is parked no longer.
    pub fn frame_mut(&mut self, id: FrameId) -> &mut [u8] {
        self.hold.frame_mut(id.0)
    }

    /// Lets a frame go onto the uplink, behind all released before; it leaves at the next [`Self::flush`]. An unfinished
    /// TCP or UDP checksum is completed.
    pub fn release(&mut self, id: FrameId) {
        self.own.completed += u64::from(finish::checksum(self.hold.frame_mut(id.0)));
        let released = self.hold.release(id.0);
        self.tally(released, |own| &mut own.released);
    }

    /// Gives a parked frame another TCP window. An unfinished checksum is completed first.
    pub fn set_window(&mut self, id: FrameId, window: u16) {
        let frame = self.hold.frame_mut(id.0);
        self.own.completed += u64::from(finish::checksum(frame));
        crate::wire::tcp::set_window(frame, window);
    }

    /// Drops a frame for good.
    pub fn discard(&mut self, id: FrameId) {
        let discarded = self.hold.discard(id.0);
        self.tally(discarded, |own| &mut own.discarded);
    }

    fn tally(&mut self, parked: bool, counter: impl FnOnce(&mut Own) -> &mut u64) {
        debug_assert!(parked, "a frame was released or discarded twice");
        let counter = if parked { counter(&mut self.own) } else { &mut self.own.stale };
        *counter += 1;
    }

    /// Puts a frame of our own onto the uplink, behind all released before; it leaves at the next [`Self::flush`], or at once
    /// where its buffers are used up. False if there is no buffer for it even then, or it is empty or longer than one.
    pub fn emit(&mut self, frame: &[u8]) -> bool {
        // What goes wrong is told of by the flush at the end of the turn.
        let emitted = self.hold.emit(frame) || self.flush().is_ok() && self.hold.emit(frame);
        let counter = if emitted { &mut self.own.emitted } else { &mut self.own.emit_no_room };
        *counter += 1;
        emitted
    }

    /// Gives the guest a frame as if it came from the client network.
    ///
    /// # Errors
    /// The kernel's reason; an interface that is gone or down is none, and has no credit.
    pub fn inject(&mut self, frame: &[u8]) -> io::Result<Injected> {
        self.injector.inject(frame, &mut self.netlink)
    }

    /// Sends what was released and emitted, as far as the uplink takes it (the rest goes with the next call, in order), and
    /// makes the buffers of what left free for capture. Call it once per turn. Once the lease has ended nothing is sent, whenever
    /// it was released: an agent may have stood still since, and XDP does not see what it sends.
    ///
    /// # Errors
    /// The kernel's reason; an uplink that is gone or down is none, and takes nothing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.waiting.backlog = !self.send()?;
        Ok(())
    }

    fn send(&mut self) -> io::Result<bool> {
        self.hold.flush(!self.signs.lease().is_over())
    }

    /// What was released and the uplink has not taken never leaves.
    pub fn abandon(&mut self) {
        let frames = self.hold.abandon();
        self.own.abandoned += frames;
        self.waiting.backlog = false;
        if frames > 0 {
            tracing::warn!("{frames} frames that the uplink had not taken are dropped");
        }
    }

    /// Whether the uplink has taken all that was released before the last [`Self::flush`].
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        !self.waiting.backlog
    }

    /// Hands out at most [`MIRROR_BATCH`] copies of client frames, in order, and returns how many: as many means that there
    /// may be more.
    pub fn next_mirrored(&mut self, mut each: impl FnMut(Mirrored<'_>)) -> usize {
        let (mut handed, mut unfinished) = (0, 0);
        while handed < MIRROR_BATCH
            && let Some(item) = self.mirror.next()
        {
            handed += 1;
            let Some((header, frame)) = record::read(&item) else { continue };
            // What an agent before this one did not read.
            let Some(index) = header.index.checked_sub(self.first_mirrored) else { continue };
            // Gaps are far shorter than 32 bits.
            self.mirror_gaps.arrived(index as u32);
            self.input.next = self.input.next.max(index + 1);
            if finish::is_needed(frame) {
                unfinished += 1;
            }
            each(Mirrored { frame, index, stamp: Mono::from_nanos(header.stamp_ns) });
        }
        self.own.mirrored += handed as u64;
        if unfinished > 0 && self.own.mirrored_unfinished == 0 && self.attached.uplink == NATIVE {
            tracing::warn!(
                "clients reach {} with unfinished checksums, which the guest will drop: switch transmit checksum offload \
                 off on their side (`ethtool -K INTERFACE tx off`, on the peer of a veth), or use `--attach skb`",
                self.uplink.name
            );
        }
        self.own.mirrored_unfinished += unfinished;
        handed
    }

    /// Makes programs and maps outlive this process: they are pinned in a bpffs, go on in the mode they are in, and
    /// are found by the next [`Self::attach`]. Dropping a pinned data path is the same as [`Self::leave`]; only
    /// [`Self::detach`] takes the programs off. Pinned already: nothing happens.
    ///
    /// # Errors
    /// No bpffs is mounted, with the command that mounts it; what the kernel refuses. The data path is as it was then.
    pub fn pin(&mut self) -> Result<(), DatapathError> {
        if self.pins.is_some() {
            return Ok(());
        }
        self.pins = Some(self.programs.pin(&self.name)?);
        self.mark_promiscuous()
    }

    /// What keeps the uplink promiscuous goes with this process: what is pinned is to have it all the same.
    fn mark_promiscuous(&mut self) -> Result<(), DatapathError> {
        let Some(pins) = &self.pins else { return Ok(()) };
        if self.promiscuous.is_some() && !self.uplink.start.promiscuous && !pins.is_promiscuous() {
            pins.mark_promiscuous()?;
            self.netlink
                .set_promiscuous(self.uplink.index, true)
                .map_err(|source| DatapathError::Interface { interface: self.uplink.name.clone(), source })?;
        }
        Ok(())
    }

    /// Whether [`Self::pin`] would find a bpffs now.
    #[must_use]
    pub fn can_pin() -> bool {
        pins::can_be_made()
    }

    /// Whether programs and maps were taken over from an agent that is gone. The mode is then what that one left, and
    /// so are the translations, until they are set.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Sends what was released and ends without touching the programs, if they are pinned; if not, it is as
    /// [`Self::detach`]. Frames that are parked are gone either way.
    ///
    /// # Errors
    /// What was released could not all be sent.
    pub fn leave(self) -> io::Result<()> {
        self.end()
    }

    /// Sends what was released and takes the programs off, pinned or not.
    ///
    /// # Errors
    /// What was released could not all be sent, or pins not be removed.
    pub fn detach(mut self) -> io::Result<()> {
        self.programs.detach();
        let removed = match self.pins.take() {
            // One that is gone is as it was found.
            Some(pins) if !self.paths.of(Side::Uplink).is_there() => pins.discard(),
            Some(pins) => unmark(&mut self.netlink, &pins, self.uplink.index).and_then(|()| pins.discard()),
            None => Ok(()),
        };
        self.end()?;
        removed.map_err(io::Error::other)
    }

    fn end(mut self) -> io::Result<()> {
        if self.pins.is_none() {
            self.programs.detach();
        }
        // Nobody waits for an uplink that carries nothing.
        if self.send()? {
            Ok(())
        } else if !self.paths.of(Side::Uplink).is_whole() {
            self.abandon();
            Ok(())
        } else {
            Err(io::Error::other("the uplink did not take all released frames"))
        }
    }
}

/// Takes back what was done to the uplink for `pins`.
fn unmark(netlink: &mut Netlink, pins: &Pins, uplink: u32) -> Result<(), DatapathError> {
    if !pins.is_promiscuous() {
        return Ok(());
    }
    netlink
        .set_promiscuous(uplink, false)
        .map_err(|source| DatapathError::Interface { interface: format!("with index {uplink}"), source })
}

impl Drop for Datapath {
    fn drop(&mut self) {
        if self.pins.is_none() {
            self.programs.detach();
        }
        // The interface may be gone; there is no one left to tell.
        let _ = self.send();
    }
}

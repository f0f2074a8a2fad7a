//! The data path: XDP programs on the guest's interface and on the uplink, and what they hand to the agent.
//!
//! - *Capture*: in the modes protect and secondary every frame of the guest is taken off its way and parked
//!   ([`Datapath::next_captured`]) until the agent releases it onto the uplink, in its own order, or discards it.
//! - *Mirror*: in mode protect client frames go on to the guest in the kernel; the agent gets numbered copies
//!   ([`Datapath::next_mirrored`]).
//! - *Inject*: the secondary's agent writes mirrored input into its guest's interface ([`Datapath::inject`]).
//!
//! One thread owns a [`Datapath`] and turns it: wait, take what came, decide, release, flush. Nothing here decides what
//! may leave. Dropping it takes the programs off the interfaces first, which are then as they were found; frames that
//! were still parked are gone with it, so an agent that ends releases or discards them before.
//!
//! What is bounded: parked frames by [`Config::frames`], copies by the ring buffers, frames unread in a tap by
//! [`TAP_CREDIT`]. What does not fit is counted under its reason ([`Datapath::counters`]), and [`Datapath::pressure`] says so
//! before it happens.
#![allow(
    unsafe_code,
    reason = "AF_XDP rings are memory shared with the kernel, and some system calls have no safe wrapper"
)]

mod config;
mod counters;
mod error;
mod finish;
mod gaps;
mod hold;
mod inject;
mod interface;
mod netlink;
mod packet;
pub mod programs;
mod record;
mod sys;
mod wait;
mod xsk;

use std::io;

use aya::maps::{MapData, RingBuf};
pub use colo_ebpf::Mode;
use colo_ebpf::{ABI_VERSION, Counter, MAP_HOLD_RING, MAP_MIRROR_RING, Settings};

pub use config::{AttachMode, Config, DEFAULT_FRAMES, HoldBackend, MAX_FRAMES, MIN_FRAMES, Role};
pub use counters::{CounterValue, Counters};
pub use error::DatapathError;
pub use inject::{Injected, TAP_CREDIT};
pub use wait::{Ready, Wake};

use gaps::Gaps;
use hold::{Hold, RingHold, SocketHold};
use inject::Injector;
use interface::Interface;
use netlink::Netlink;
use packet::PacketSocket;
use programs::{NATIVE, Programs};

use crate::mono::Mono;

/// Bytes of the ring buffer of mirrored input: more than 10,000 full frames.
pub const MIRROR_BYTES: u32 = 16 << 20;
/// Bytes of the ring buffer of held frames, where that is how they are held.
pub const HOLD_BYTES: u32 = 16 << 20;
/// Most copies that one [`Datapath::next_mirrored`] hands out.
pub const MIRROR_BATCH: usize = 256;
/// Below this share of free buffers frames are scarce.
const SCARCE_SHARE: u32 = 4;

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

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Buffers in all.
    pub total: u32,
    /// Buffers that a captured frame can go to.
    pub free: u32,
    /// Buffers with a parked frame.
    pub held: u32,
    /// Buffers with a frame on its way out.
    pub sending: u32,
    /// Less than a quarter is free: time to ask for a checkpoint, before a frame is lost.
    pub scarce: bool,
    /// Frames of the guest that were lost since the start, for whatever reason: each makes a checkpoint necessary. The
    /// counters `guest_*` and `hold_lost` tell the reason.
    pub lost: u64,
    /// Copies of client frames that found no room: the secondary lacks that input.
    pub mirror_lost: u64,
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// On the guest's interface: `native` or `skb`.
    pub guest: &'static str,
    /// On the uplink: `native` or `skb`.
    pub uplink: &'static str,
}

/// See the module.
pub struct Datapath {
    // First of all the programs leave the interfaces.
    programs: Programs,
    hold: Box<dyn Hold>,
    mirror: RingBuf<MapData>,
    injector: Injector,
    /// Lives for what it keeps switched on.
    _promiscuous: Option<PacketSocket>,
    netlink: Netlink,
    guest: Interface,
    uplink: Interface,
    attached: Attached,
    backend: HoldBackend,
    warnings: Vec<String>,
    waiting: wait::Waiting,
    mirror_gaps: Gaps,
    told: ToldLosses,
    own: Own,
}

/// What the kernel's counters said last about lost frames.
#[derive(Clone, Copy, Debug, Default)]
struct ToldLosses {
    guest: u64,
    mirror: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Own {
    captured: u64,
    released: u64,
    discarded: u64,
    stale: u64,
    completed: u64,
    emitted: u64,
    emit_no_room: u64,
    mirrored: u64,
    mirrored_unfinished: u64,
}

impl Datapath {
    /// Loads the programs, opens the sockets, attaches. From then on the mode is that of the role: protect or
    /// secondary.
    ///
    /// # Errors
    /// An interface that is missing, down, has several queues or runs someone else's program; what the kernel refuses,
    /// with its reason. Nothing is left behind.
    pub fn attach(config: &Config) -> Result<Self, DatapathError> {
        if !(MIN_FRAMES..=MAX_FRAMES).contains(&config.frames) {
            return Err(DatapathError::Frames(config.frames));
        }
        if config.guest == config.uplink {
            return Err(DatapathError::SameInterface(config.guest.clone()));
        }
        let mut netlink = Netlink::open()
            .map_err(|source| DatapathError::Interface { interface: config.guest.clone(), source })?;
        let guest = Interface::inspect(&mut netlink, &config.guest)?;
        let uplink = Interface::inspect(&mut netlink, &config.uplink)?;
        let mut warnings: Vec<_> = [&guest, &uplink].into_iter().flat_map(Interface::warnings).collect();

        let sockets = open_sockets(config, &guest, &uplink)?;
        let mut programs = Programs::load(MIRROR_BYTES, if sockets.is_some() { 0 } else { HOLD_BYTES })?;
        let (hold, backend, longest): (Box<dyn Hold>, _, _) = if let Some(sockets) = sockets {
            programs.set_hold_socket(sockets.capture_socket())?;
            (Box::new(sockets), HoldBackend::Afxdp, SocketHold::longest(&guest))
        } else {
            let ring = programs.take_ring(MAP_HOLD_RING)?;
            let hold = RingHold::open(ring, &guest, &uplink, config.frames)?;
            (Box::new(hold), HoldBackend::Ringbuf, RingHold::longest(&guest))
        };
        if guest.speaks_ipv6() {
            warnings.push(format!(
                "the host itself speaks IPv6 on {0}, and the guest hears it: `sysctl -w net.ipv6.conf.{0}.disable_ipv6=1`",
                guest.name
            ));
        }
        if longest < guest.longest_frame() {
            warnings.push(format!(
                "{} has MTU {}, frames of more than {longest} bytes cannot be held: lower the MTU on both sides of it, \
                 or use --hold ringbuf",
                guest.name, guest.start.mtu
            ));
        }
        programs.set_settings(settings(config, backend, longest, &guest, &uplink))?;
        programs.set_ports(guest.index, uplink.index)?;
        programs.set_mode(match config.role {
            Role::Primary => Mode::Protect,
            Role::Secondary => Mode::Secondary,
        })?;
        let mirror = programs.take_ring(MAP_MIRROR_RING)?;
        let injector = Injector::open(&guest)?;
        let promiscuous =
            if uplink.filters_addresses() { Some(PacketSocket::open(&uplink, true)?) } else { None };
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let attached = programs.attach(&guest, &uplink, config.attach, &mut netlink)?;
        Ok(Self {
            programs,
            hold,
            mirror,
            injector,
            _promiscuous: promiscuous,
            netlink,
            guest,
            uplink,
            attached,
            backend,
            warnings,
            waiting: wait::Waiting::default(),
            mirror_gaps: Gaps::default(),
            told: ToldLosses::default(),
            own: Own::default(),
        })
    }

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

    /// Puts a frame of our own onto the uplink, behind all released before; it leaves at the next [`Self::flush`]. False
    /// if there is no buffer for it, or it is empty or longer than one.
    pub fn emit(&mut self, frame: &[u8]) -> bool {
        let emitted = self.hold.emit(frame);
        let counter = if emitted { &mut self.own.emitted } else { &mut self.own.emit_no_room };
        *counter += 1;
        emitted
    }

    /// Gives the guest a frame as if it came from the client network.
    ///
    /// # Errors
    /// The guest's interface is gone.
    pub fn inject(&mut self, frame: &[u8]) -> io::Result<Injected> {
        self.injector.inject(frame, &mut self.netlink)
    }

    /// Sends what was released and emitted, as far as the uplink takes it (the rest goes with the next call, in order), and
    /// makes the buffers of what left free for capture. Call it once per turn.
    ///
    /// # Errors
    /// The uplink is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        self.waiting.backlog = !self.hold.flush()?;
        Ok(())
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
            // Gaps are far shorter than 32 bits.
            self.mirror_gaps.arrived(header.index as u32);
            if finish::is_needed(frame) {
                unfinished += 1;
            }
            each(Mirrored { frame, index: header.index, stamp: Mono::from_nanos(header.stamp_ns) });
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

    /// How much room there is, and what was lost. What the kernel alone knows of is read at every [`Self::wait`], at
    /// most ten times a second.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let occupancy = self.hold.occupancy();
        let free = occupancy.free + occupancy.filling;
        let total = free + occupancy.held + occupancy.sending;
        Pressure {
            total,
            free,
            held: occupancy.held,
            sending: occupancy.sending,
            scarce: free < total / SCARCE_SHARE,
            lost: self.told.guest,
            mirror_lost: self.told.mirror.max(self.mirror_gaps.lost()),
        }
    }

    fn read_losses(&mut self) {
        // A frame that the socket or the ring could not take was seen by the hold as well: not summed.
        let counter = |counter| self.programs.counter(counter).unwrap_or(0);
        let refused = counter(Counter::GuestHoldTooLong)
            + counter(Counter::GuestHoldNoSocket)
            + counter(Counter::GuestHoldNoRoom);
        let no_room = self.hold.lost().max(counter(Counter::GuestHoldRingFull));
        self.told.guest = self.told.guest.max(refused + no_room);
        self.told.mirror = counter(Counter::UplinkMirrorLost);
    }

    /// All counters since the start.
    #[must_use]
    pub fn counters(&mut self) -> Counters {
        let mut counters = Counters::default();
        for counter in Counter::ALL {
            counters.add(counter.name(), self.programs.counter(counter).unwrap_or(0), counter.help());
        }
        let own = self.own;
        counters.add("captured", own.captured, "Guest frames parked by the agent.");
        counters.add("released", own.released, "Parked frames released onto the uplink.");
        counters.add("discarded", own.discarded, "Parked frames dropped by the agent.");
        counters.add(
            "stale_frame",
            own.stale,
            "Releases or discards of a frame that was not parked: a fault of the agent.",
        );
        counters.add(
            "checksum_completed",
            own.completed,
            "Released frames whose unfinished checksum was completed.",
        );
        counters.add("emitted", own.emitted, "Frames of the agent's own put onto the uplink.");
        counters.add("emit_no_room", own.emit_no_room, "Frames of the agent's own that found no room.");
        counters.add("mirrored", own.mirrored, "Copies of client frames read by the agent.");
        counters.add(
            "mirror_unfinished",
            own.mirrored_unfinished,
            "Client frames that came with an unfinished checksum: natively redirected, the guest drops them.",
        );
        counters.add(
            "mirror_gaps",
            self.mirror_gaps.lost(),
            "Numbers missing between the copies of client frames.",
        );
        self.hold.count(&mut counters);
        self.injector.count(&mut counters);
        for (interface, name, help) in [
            (&self.guest, "guest_tx_dropped", "Frames dropped by the guest's interface, as it counts them."),
            (&self.uplink, "uplink_tx_dropped", "Frames dropped by the uplink, as it counts them."),
        ] {
            if let Ok(link) = self.netlink.link_by_index(interface.index) {
                counters.add(name, link.tx_dropped.saturating_sub(interface.start.tx_dropped), help);
            }
        }
        counters
    }

    /// Sends what was released and takes the programs off. Dropping does the same without the last word.
    ///
    /// # Errors
    /// What was released could not all be sent.
    pub fn detach(mut self) -> io::Result<()> {
        self.programs.detach();
        if self.hold.flush()? {
            Ok(())
        } else {
            Err(io::Error::other("the uplink did not take all released frames"))
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.programs.detach();
        // The interface may be gone; there is no one left to tell.
        let _ = self.hold.flush();
    }
}

/// The sockets of the AF_XDP backend; `None` if frames are to be held without.
fn open_sockets(
    config: &Config,
    guest: &Interface,
    uplink: &Interface,
) -> Result<Option<SocketHold>, DatapathError> {
    if config.hold == HoldBackend::Ringbuf {
        return Ok(None);
    }
    match SocketHold::open(guest, uplink, config.frames) {
        Ok(sockets) => Ok(Some(sockets)),
        Err(error) if config.hold == HoldBackend::Auto && error.is_missing_support() => {
            tracing::warn!("{error}: that is what is done now");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn settings(
    config: &Config,
    backend: HoldBackend,
    longest: u32,
    guest: &Interface,
    uplink: &Interface,
) -> Settings {
    let hold = if backend == HoldBackend::Ringbuf { colo_ebpf::Hold::Ring } else { colo_ebpf::Hold::Socket };
    Settings {
        abi: ABI_VERSION,
        hold: hold as u32,
        hold_limit: longest.min(uplink.longest_frame()),
        uplink_limit: uplink.longest_frame(),
        guest_limit: guest.longest_frame(),
        filter: u32::from(config.guest_mac.is_some()),
        guest_mac: config.guest_mac.unwrap_or_default(),
        reserved: [0; 2],
    }
}

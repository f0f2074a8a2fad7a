//! The start: from two interface names to a data path.

use std::time::Instant;

use colo_ebpf::{ABI_VERSION, GUEST_PROGRAM, INDEX_MIRRORED, MAP_HOLD_RING, MAP_MIRROR_RING, Mode, Settings};

use super::config::{Config, HoldBackend, MAX_FRAMES, MIN_FRAMES, Role};
use super::deadman::Signs;
use super::error::DatapathError;
use super::gaps::Gaps;
use super::hold::{Hold, RingHold, SocketHold};
use super::inject::Injector;
use super::interface::Interface;
use super::netlink::{Link, Netlink};
use super::pace::Pace;
use super::packet::PacketSocket;
use super::paths::Memory;
use super::pins::{self, Found, Name, Pins};
use super::programs::Programs;
use super::realtime;
use super::tally::{Own, ToldLosses};
use super::translations::Janitor;
use super::wait::Waiting;
use super::watch::Watch;
use super::{Attached, Datapath, HOLD_BYTES, MIRROR_BYTES, unmark};
use crate::mono::Mono;
use crate::path::{Look, Paths, Side};

impl Datapath {
    /// Loads the programs, opens the sockets, attaches. From then on the mode is that of the role: protect or
    /// secondary.
    ///
    /// Where an agent that is gone has left pinned programs, those are replaced in place and their maps adopted: not a
    /// frame meets no program. The mode stays what it was until [`Self::set_mode`]; [`Self::is_adopted`] tells.
    ///
    /// # Errors
    /// An interface that is missing, down, has several queues or runs someone else's program; what the kernel refuses,
    /// with its reason. Nothing is left behind; what was pinned stays pinned.
    pub fn attach(config: &Config) -> Result<Self, DatapathError> {
        if !(MIN_FRAMES..=MAX_FRAMES).contains(&config.frames) {
            return Err(DatapathError::Frames(config.frames));
        }
        if config.guest == config.uplink {
            return Err(DatapathError::SameInterface(config.guest.clone()));
        }
        let mut realtime = None;
        if config.realtime != 0 {
            match realtime::set(config.realtime) {
                Ok(()) => realtime = Some((config.realtime, Pace::new(Instant::now()))),
                Err(error) => tracing::warn!("the packet thread gets no real-time priority: {error}"),
            }
        }
        let mut netlink = Netlink::open()
            .map_err(|source| DatapathError::Interface { interface: config.guest.clone(), source })?;
        pins::tidy();
        let left = adoptable(&mut netlink, &config.guest, &config.uplink)?;
        let own = |side| left.as_ref().and_then(|pins| pins.link(side)).map(|(_, info)| info.program);
        let guest = Interface::inspect(&mut netlink, &config.guest, own(Side::Guest))?;
        let uplink = Interface::inspect(&mut netlink, &config.uplink, own(Side::Uplink))?;
        let name = pin_name(&netlink, &guest.name, guest.index)?;
        let gaps = if left.is_some() { Gaps::anywhere() } else { Gaps::default() };
        let sockets = open_sockets(config, &guest, &uplink, gaps)?;
        let mut programs = match &left {
            Some(pins) if sockets.is_none() && pins.entries(MAP_HOLD_RING)? < HOLD_BYTES => {
                return Err(DatapathError::PinnedBackend(guest.name));
            }
            Some(pins) => Programs::adopt(pins)?,
            None => Programs::load(MIRROR_BYTES, if sockets.is_some() { 0 } else { HOLD_BYTES })?,
        };
        let first_mirrored = programs.next_index(INDEX_MIRRORED)?;
        let (hold, backend): (Box<dyn Hold>, _) = if let Some(sockets) = sockets {
            (Box::new(sockets), HoldBackend::Afxdp)
        } else {
            let ring = programs.take_ring(MAP_HOLD_RING)?;
            let hold = RingHold::open(ring, &guest, &uplink, config.frames, gaps)?;
            (Box::new(hold), HoldBackend::Ringbuf)
        };
        if let Some(socket) = hold.capture_socket() {
            programs.set_hold_socket(socket)?;
        }
        let longest = hold.longest();
        let warnings: Vec<_> = [(Side::Guest, &guest), (Side::Uplink, &uplink)]
            .into_iter()
            .flat_map(|(side, interface)| warnings(side, interface, longest))
            .collect();
        programs.set_settings(settings(config, backend, longest, &guest, &uplink))?;
        programs.set_ports(guest.index, uplink.index)?;
        let signs = Signs::begin(&programs, config.overdue, config.leased)?;
        if left.is_none() {
            programs.set_mode(match config.role {
                Role::Primary => Mode::Protect,
                Role::Secondary => Mode::Secondary,
            })?;
        }
        let mirror = programs.take_ring(MAP_MIRROR_RING)?;
        let injector = Injector::open(&guest)?;
        let promiscuous =
            if uplink.filters_addresses() { Some(PacketSocket::open(&uplink, true)?) } else { None };
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let mut attached = Attached { guest: guest.attached_as(), uplink: uplink.attached_as() };
        if left.is_none() {
            let interfaces = [Some(&guest), Some(&uplink)];
            programs.attach(interfaces, config.attach, &mut netlink, &mut attached)?;
        }
        let mut seen = [guest.start.seen(), uplink.start.seen()];
        for (side, seen) in Side::ALL.into_iter().zip(&mut seen) {
            seen.program = Some(programs.id(side)?);
        }
        let watched = [&config.guest, &config.uplink].map(Clone::clone);
        let watch = Watch::start(watched, [guest.index, uplink.index])
            .map_err(|source| DatapathError::Interface { interface: guest.name.clone(), source })?;
        let now = Mono::now();
        let paths = Paths::new(now, (&config.guest, &seen[0]), (&config.uplink, &seen[1]));
        let memories = [Memory::of(&guest), Memory::of(&uplink)];
        let mut datapath = Self {
            programs,
            hold,
            mirror,
            injector,
            promiscuous,
            netlink,
            guest,
            uplink,
            attached,
            backend,
            warnings,
            signs,
            waiting: Waiting::new(realtime),
            mirror_gaps: Gaps::default(),
            input: super::unread::Input::default(),
            told: ToldLosses::default(),
            own: Own::default(),
            janitor: Janitor::default(),
            first_mirrored,
            adopted: left.is_some(),
            name,
            config: config.clone(),
            paths,
            memories,
            watch,
            pins: left,
        };
        // One without carrier carries nothing from the beginning.
        let mut out = Vec::new();
        for (side, seen) in Side::ALL.into_iter().zip(seen) {
            let look = Look { at: now, index: seen.index, there: Some(seen), ..Look::default() };
            datapath.paths.look(now, side, &look, &mut out);
        }
        datapath.carry_out(out);
        Ok(datapath)
    }
}

/// Takes off the programs that an agent which is gone has left pinned on these interfaces. False if there are none.
///
/// # Errors
/// The guest's interface is missing or in use, the programs are on another uplink, or the kernel refuses.
pub fn detach_pinned(guest: &str, uplink: &str) -> Result<bool, DatapathError> {
    let mut netlink =
        Netlink::open().map_err(|source| DatapathError::Interface { interface: guest.to_owned(), source })?;
    pins::tidy();
    let link = netlink
        .link(guest)
        .map_err(|source| DatapathError::Interface { interface: guest.to_owned(), source })?;
    match find(&netlink, guest, &link)? {
        Found::Nothing => Ok(false),
        Found::Busy => Err(busy(guest, &link)),
        Found::Left(pins) | Found::OtherVersion(pins) => {
            check_uplink(&mut netlink, &pins, guest, uplink)?;
            if let Some((_, info)) = pins.link(Side::Uplink) {
                unmark(&mut netlink, &pins, info.interface)?;
            }
            pins.remove().map(|()| true)
        }
    }
}

/// The pins of the guest's interface that are to be adopted. Unfinished ones are removed.
fn adoptable(netlink: &mut Netlink, guest: &str, uplink: &str) -> Result<Option<Pins>, DatapathError> {
    // An interface that is missing is refused where it is looked at.
    let Ok(link) = netlink.link(guest) else { return Ok(None) };
    match find(netlink, guest, &link)? {
        Found::Nothing => Ok(None),
        Found::Busy => Err(busy(guest, &link)),
        Found::OtherVersion(pins) => Err(DatapathError::OtherVersion {
            interface: guest.to_owned(),
            uplink: uplink.to_owned(),
            path: pins.path().to_owned(),
        }),
        Found::Left(pins) if !pins.is_whole() => pins.remove().map(|()| None),
        Found::Left(pins) => {
            check_uplink(netlink, &pins, guest, uplink)?;
            Ok(Some(pins))
        }
    }
}

fn find(netlink: &Netlink, guest: &str, link: &Link) -> Result<Found, DatapathError> {
    Pins::find(&pin_name(netlink, guest, link.index)?)
}

fn busy(guest: &str, link: &Link) -> DatapathError {
    let id = link.program.map_or(0, |program| program.id);
    DatapathError::InUse { interface: guest.to_owned(), program: GUEST_PROGRAM.to_owned(), id }
}

fn check_uplink(netlink: &mut Netlink, pins: &Pins, guest: &str, uplink: &str) -> Result<(), DatapathError> {
    let Some((_, info)) = pins.link(Side::Uplink) else { return Ok(()) };
    if netlink.link(uplink).is_ok_and(|link| link.index == info.interface) {
        return Ok(());
    }
    let pinned = netlink
        .link_by_index(info.interface)
        .map_or_else(|_| format!("interface {} of another namespace", info.interface), |link| link.name);
    Err(DatapathError::PinnedElsewhere { guest: guest.to_owned(), uplink: uplink.to_owned(), pinned })
}

fn pin_name(netlink: &Netlink, guest: &str, index: u32) -> Result<Name, DatapathError> {
    Name::new(netlink, index)
        .map_err(|source| DatapathError::Interface { interface: guest.to_owned(), source })
}

/// The sockets of the AF_XDP backend; `None` if frames are to be held without.
fn open_sockets(
    config: &Config,
    guest: &Interface,
    uplink: &Interface,
    gaps: Gaps,
) -> Result<Option<SocketHold>, DatapathError> {
    if config.hold == HoldBackend::Ringbuf {
        return Ok(None);
    }
    match SocketHold::open(guest, uplink, config.frames, gaps) {
        Ok(sockets) => Ok(Some(sockets)),
        Err(error) if config.hold == HoldBackend::Auto && error.is_missing_support() => {
            tracing::warn!("{error}: that is what is done now");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn settings(
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

/// What about an interface will spoil frames, of which one of `longest` bytes can be held.
pub(super) fn warnings(side: Side, interface: &Interface, longest: u32) -> Vec<String> {
    let mut warnings = interface.warnings();
    if side == Side::Guest && interface.speaks_ipv6() {
        warnings.push(format!(
            "the host itself speaks IPv6 on {0}, and the guest hears it: `sysctl -w net.ipv6.conf.{0}.disable_ipv6=1`",
            interface.name
        ));
    }
    if side == Side::Guest && longest < interface.longest_frame() {
        warnings.push(format!(
            "{} has MTU {}, frames of more than {longest} bytes cannot be held: lower the MTU on both sides of it, \
             or use --hold ringbuf",
            interface.name, interface.start.mtu
        ));
    }
    warnings
}

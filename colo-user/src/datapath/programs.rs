//! The XDP programs in the kernel: loaded, told what to do, attached.
//!
//! Links and maps are kept as they are, so that they can be pinned. On drop the links go first: an interface is as it
//! was found before anything that its program used is gone.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Array, DevMap, MapData, PerCpuArray, RingBuf, XskMap};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use colo_ebpf::{
    Counter, Deadman, GUEST_PROGRAM, MAP_COUNTERS, MAP_DEADMAN, MAP_HOLD_RING, MAP_HOLD_SOCKETS, MAP_INDICES,
    MAP_MIRROR_RING, MAP_MODE, MAP_PORTS, MAP_SETTINGS, Mode, PINNED_MAPS, PORT_GUEST, PORT_UPLINK, Settings,
    UPLINK_PROGRAM,
};

use super::Attached;
use super::bpf::{self, XdpLink};
use super::config::AttachMode;
use super::error::DatapathError;
use super::interface::{Interface, occupied};
use super::netlink::{Netlink, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, takes_redirects};
use super::pins::{Name, Pins};
pub use crate::path::Side;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/colo-ebpf"));

/// What [`Attached`] says of a program in the driver.
pub(super) const NATIVE: &str = "native";
pub(super) const SKB: &str = "skb";

/// Bytes of a ring buffer that is not used.
const SMALLEST_RING: u32 = 4096;

const fn program_of(side: Side) -> &'static str {
    match side {
        Side::Guest => GUEST_PROGRAM,
        Side::Uplink => UPLINK_PROGRAM,
    }
}

const fn port_of(side: Side) -> u32 {
    match side {
        Side::Guest => PORT_GUEST,
        Side::Uplink => PORT_UPLINK,
    }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: `Settings` is `repr(C)`, of integers only, without padding (its last field fills it up).
unsafe impl Pod for Value<Settings> {}
// SAFETY: `Deadman` is four 64-bit integers.
unsafe impl Pod for Value<Deadman> {}

/// The programs and their maps. For those who test the programs by themselves; the agents use
/// [`Datapath`](super::Datapath).
#[derive(Debug)]
pub struct Programs {
    links: [Option<XdpLink>; 2],
    ebpf: Ebpf,
    /// Ring buffers that were taken out, to be pinned all the same.
    rings: Vec<(&'static str, OwnedFd)>,
}

impl Programs {
    /// Loads both programs, with ring buffers of so many bytes (powers of two of at least a page; 0 for one that is
    /// not used). Nothing is attached; the mode is closed.
    ///
    /// # Errors
    /// What the kernel, with the verifier's words, does not like.
    pub fn load(mirror_bytes: u32, hold_bytes: u32) -> Result<Self, DatapathError> {
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(MAP_MIRROR_RING, mirror_bytes.max(SMALLEST_RING))
            .map_max_entries(MAP_HOLD_RING, hold_bytes.max(SMALLEST_RING));
        Self::load_with(loader)
    }

    /// Loads both programs over the maps of `pins` and puts them where the pinned links are, in place of the
    /// programs there. Nothing of what the maps say changes.
    pub(super) fn adopt(pins: &Pins) -> Result<Self, DatapathError> {
        let mut loader = EbpfLoader::new();
        for name in PINNED_MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
        for ring in [MAP_MIRROR_RING, MAP_HOLD_RING] {
            loader.map_max_entries(ring, pins.entries(ring)?);
        }
        let mut programs = Self::load_with(loader)?;
        for side in [Side::Guest, Side::Uplink] {
            let (link, _) = pins.link(side).ok_or_else(|| pins.broken())?;
            let program = programs.program(side)?.fd().map_err(|error| DatapathError::Load(chain(&error)))?;
            link.update(program.as_fd()).map_err(|error| DatapathError::Load(chain(&error)))?;
            programs.links[side as usize] = Some(link);
        }
        Ok(programs)
    }

    fn load_with(mut loader: EbpfLoader<'_>) -> Result<Self, DatapathError> {
        let mut ebpf = loader.load(OBJECT).map_err(|error| DatapathError::Load(chain(&error)))?;
        for side in [Side::Guest, Side::Uplink] {
            program(&mut ebpf, side)?.load().map_err(|error| DatapathError::Load(chain(&error)))?;
        }
        Ok(Self { links: [None, None], ebpf, rings: Vec::new() })
    }

    /// Pins maps and links under `name`; the links last, and then they stay on their interfaces.
    pub(super) fn pin(&mut self, name: &Name) -> Result<Pins, DatapathError> {
        let pins = Pins::create(name)?;
        if let Err(error) = self.pin_all(&pins) {
            // The first error says more than one of tidying up.
            let _ = pins.discard();
            return Err(error);
        }
        self.links.iter_mut().flatten().for_each(|link| link.keep(true));
        Ok(pins)
    }

    fn pin_all(&self, pins: &Pins) -> Result<(), DatapathError> {
        for (name, ring) in &self.rings {
            pins.add(name, ring.as_fd())?;
        }
        for name in PINNED_MAPS {
            if let Some(map) = self.ebpf.map(name) {
                map.pin(pins.map(name)).map_err(|error| map_error(name, &error))?;
            }
        }
        for side in [Side::Uplink, Side::Guest] {
            if let Some(link) = &self.links[side as usize] {
                pins.add_link(side, link)?;
            }
        }
        Ok(())
    }

    /// A program, to be run by itself.
    ///
    /// # Errors
    /// If the object is not ours.
    pub fn program(&mut self, side: Side) -> Result<&mut Xdp, DatapathError> {
        program(&mut self.ebpf, side)
    }

    /// Tells the programs what to do with frames.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), DatapathError> {
        let mut map: Array<_, u32> = self.map_mut(MAP_MODE)?;
        map.set(0, mode as u32, 0).map_err(|error| map_error(MAP_MODE, &error))
    }

    /// Tells the programs about the interfaces.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), DatapathError> {
        let mut map: Array<_, Value<Settings>> = self.map_mut(MAP_SETTINGS)?;
        map.set(0, Value(settings), 0).map_err(|error| map_error(MAP_SETTINGS, &error))
    }

    /// Sets the deadlines.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_deadman(&mut self, deadman: Deadman) -> Result<(), DatapathError> {
        let mut map: Array<_, Value<Deadman>> = self.map_mut(MAP_DEADMAN)?;
        map.set(0, Value(deadman), 0).map_err(|error| map_error(MAP_DEADMAN, &error))
    }

    /// Sets the interfaces, by index, between which frames go straight through.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_ports(&mut self, guest: u32, uplink: u32) -> Result<(), DatapathError> {
        self.set_port(Side::Guest, guest)?;
        self.set_port(Side::Uplink, uplink)
    }

    /// Sets the interface, by index, that frames for `side` go to.
    pub(super) fn set_port(&mut self, side: Side, interface: u32) -> Result<(), DatapathError> {
        let mut map: DevMap<_> = self.map_mut(MAP_PORTS)?;
        map.set(port_of(side), interface, None, 0).map_err(|error| map_error(MAP_PORTS, &error))
    }

    /// Frames for `side` go nowhere, and are counted by the programs.
    pub(super) fn clear_port(&mut self, side: Side) -> Result<(), DatapathError> {
        let aya::maps::Map::DevMap(map) = self.map(MAP_PORTS)? else { return Err(missing(MAP_PORTS)) };
        bpf::remove(map.fd().as_fd(), port_of(side)).map_err(|error| map_error(MAP_PORTS, &error))
    }

    /// Whether frames for `side` go anywhere: the kernel takes an interface out that goes.
    pub(super) fn has_port(&self, side: Side) -> bool {
        let map = self.map(MAP_PORTS).ok().and_then(|map| DevMap::try_from(map).ok());
        map.is_some_and(|map: DevMap<_>| map.get(port_of(side), 0).is_ok())
    }

    /// The kernel's id for the program of `side`.
    pub(super) fn id(&mut self, side: Side) -> Result<u32, DatapathError> {
        let info = self.program(side)?.info().map_err(|error| DatapathError::Load(chain(&error)))?;
        Ok(info.id())
    }

    /// Sets the AF_XDP socket that gets the guest's output.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_hold_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), DatapathError> {
        let mut map: XskMap<_> = self.map_mut(MAP_HOLD_SOCKETS)?;
        map.set(0, socket.as_raw_fd(), 0).map_err(|error| map_error(MAP_HOLD_SOCKETS, &error))
    }

    /// Takes one of the ring buffers out, to be read.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, DatapathError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| missing(name))?;
        let ring = RingBuf::try_from(map).map_err(|error| map_error(name, &error))?;
        let fd = ring.as_fd().try_clone_to_owned().map_err(|error| map_error(name, &error))?;
        self.rings.push((name, fd));
        Ok(ring)
    }

    /// The next number of a series, `INDEX_*`.
    pub(super) fn next_index(&self, series: u32) -> Result<u64, DatapathError> {
        let map = Array::<_, u64>::try_from(self.map(MAP_INDICES)?);
        let map = map.map_err(|error| map_error(MAP_INDICES, &error))?;
        map.get(&series, 0).map_err(|error| map_error(MAP_INDICES, &error))
    }

    /// The value of a counter, summed over all CPUs.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn counter(&self, counter: Counter) -> Result<u64, DatapathError> {
        let map = self.map(MAP_COUNTERS)?;
        let map = PerCpuArray::<_, u64>::try_from(map).map_err(|error| map_error(MAP_COUNTERS, &error))?;
        let values = map.get(&(counter as u32), 0).map_err(|error| map_error(MAP_COUNTERS, &error))?;
        Ok(values.iter().sum())
    }

    /// Attaches each program that is not, to the interface of its side, where there is one; `attached` says how both are.
    ///
    /// A native program cannot redirect to every interface. Where it cannot, it is attached in the generic path, which
    /// can, unless native is asked for.
    pub(super) fn attach(
        &mut self,
        [guest, uplink]: [Option<&Interface>; 2],
        mode: AttachMode,
        netlink: &mut Netlink,
        attached: &mut Attached,
    ) -> Result<(), DatapathError> {
        for (side, interface) in [(Side::Guest, guest), (Side::Uplink, uplink)] {
            if let Some(interface) = interface.filter(|_| self.links[side as usize].is_none()) {
                *attached.of(side) = self.attach_side(side, interface, mode, netlink)?;
            }
        }
        let (Some(guest), Some(uplink)) = (guest, uplink) else { return Ok(()) };
        loop {
            let uplink_first = attached.uplink == NATIVE && !takes_redirects(guest.index);
            let (side, from, to) = if uplink_first {
                (Side::Uplink, uplink, guest)
            } else if attached.guest == NATIVE && !takes_redirects(uplink.index) {
                (Side::Guest, guest, uplink)
            } else {
                return Ok(());
            };
            let (from_name, to_name) = (from.name.clone(), to.name.clone());
            if mode == AttachMode::Native {
                return Err(DatapathError::NoRedirect {
                    from: from_name,
                    to: to_name,
                    hint: to.redirect_hint(),
                });
            }
            tracing::warn!(
                "native XDP on {from_name} cannot send frames to {to_name}: falling back to generic XDP, which is slower; {}",
                to.redirect_hint()
            );
            self.take_off(side);
            *attached.of(side) = self.attach_side(side, from, AttachMode::Skb, netlink)?;
        }
    }

    /// Attaches a program and returns how.
    fn attach_side(
        &mut self,
        side: Side,
        interface: &Interface,
        mode: AttachMode,
        netlink: &mut Netlink,
    ) -> Result<&'static str, DatapathError> {
        if mode != AttachMode::Skb {
            match self.attach_as(side, interface, XDP_FLAGS_DRV_MODE, netlink) {
                Ok(()) => return Ok(NATIVE),
                Err(Refusal { reason, by_driver: true, .. }) if mode == AttachMode::Auto => {
                    tracing::warn!(
                        interface = interface.name,
                        "the driver refuses native XDP ({reason}): falling back to generic XDP, which is slower"
                    );
                }
                Err(refusal) => {
                    return Err(refusal.into_error(
                        interface,
                        "native",
                        "`--attach skb` works on any driver",
                    ));
                }
            }
        }
        let way_out = "CONFIG_XDP_SOCKETS and CAP_NET_ADMIN are needed";
        self.attach_as(side, interface, XDP_FLAGS_SKB_MODE, netlink)
            .map_err(|refusal| refusal.into_error(interface, SKB, way_out))?;
        Ok(SKB)
    }

    fn attach_as(
        &mut self,
        side: Side,
        interface: &Interface,
        mode: u32,
        netlink: &mut Netlink,
    ) -> Result<(), Refusal> {
        let refuse = |reason: String| Refusal { reason, by_driver: false, other: None };
        let xdp = self.program(side).map_err(|error| refuse(error.to_string()))?;
        let program = xdp.fd().map_err(|error| refuse(chain(&error)))?.as_fd();
        let error = match XdpLink::create(program, interface.index, mode) {
            Ok(link) => {
                self.links[side as usize] = Some(link);
                return Ok(());
            }
            Err(error) => error,
        };
        // Lost a race: someone attached since the interface was looked at.
        if let (Some(libc::EBUSY | libc::EEXIST), Ok(link)) =
            (error.raw_os_error(), netlink.link_by_index(interface.index))
            && let Some(program) = link.program
        {
            return Err(Refusal {
                other: Some(occupied(&interface.name, program)),
                ..refuse(error.to_string())
            });
        }
        let by_driver = matches!(
            error.raw_os_error(),
            // A driver may decline for its own reasons by any of these.
            Some(libc::EOPNOTSUPP | libc::ERANGE | libc::EINVAL | libc::ENOSPC | libc::ENOMEM | libc::E2BIG)
        );
        // A link is refused without a word; the older way of attaching says why.
        let words = netlink.why_refused(interface.index, program, mode);
        Err(Refusal { by_driver, ..refuse(words.unwrap_or_else(|| error.to_string())) })
    }

    /// Takes the programs off their interfaces, pinned or not.
    pub(super) fn detach(&mut self) {
        Side::ALL.into_iter().for_each(|side| self.take_off(side));
    }

    /// Takes the program of one side off, pinned or not.
    pub(super) fn take_off(&mut self, side: Side) {
        if let Some(mut link) = self.links[side as usize].take() {
            link.keep(false);
        }
    }

    /// Puts the link of `side` in the place of the one that is pinned there.
    pub(super) fn renew_pin(&mut self, side: Side, pins: &Pins) -> Result<(), DatapathError> {
        let Some(link) = &mut self.links[side as usize] else { return Ok(()) };
        pins.renew_link(side, link)?;
        link.keep(true);
        Ok(())
    }

    pub(super) fn map(&self, name: &'static str) -> Result<&aya::maps::Map, DatapathError> {
        self.ebpf.map(name).ok_or_else(|| missing(name))
    }

    pub(super) fn map_mut<'a, M>(&'a mut self, name: &'static str) -> Result<M, DatapathError>
    where
        M: TryFrom<&'a mut aya::maps::Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        M::try_from(map).map_err(|error| map_error(name, &error))
    }
}

struct Refusal {
    reason: String,
    by_driver: bool,
    other: Option<DatapathError>,
}

impl Refusal {
    fn into_error(self, interface: &Interface, mode: &'static str, way_out: &'static str) -> DatapathError {
        let Self { reason, other, .. } = self;
        other.unwrap_or_else(|| DatapathError::Attach {
            interface: interface.name.clone(),
            mode,
            reason,
            way_out,
        })
    }
}

fn program(ebpf: &mut Ebpf, side: Side) -> Result<&mut Xdp, DatapathError> {
    let name = program_of(side);
    let program =
        ebpf.program_mut(name).ok_or_else(|| DatapathError::Load(format!("the object has no {name}")))?;
    program.try_into().map_err(|error: ProgramError| DatapathError::Load(chain(&error)))
}

/// An error and its causes in one line; aya's own messages leave the causes out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

pub(super) fn missing(map: &'static str) -> DatapathError {
    DatapathError::Map { map, reason: "the object has no such map".to_owned() }
}

pub(super) fn map_error(map: &'static str, error: &(dyn std::error::Error + 'static)) -> DatapathError {
    DatapathError::Map { map, reason: chain(error) }
}

//! The start: from two interface names to a data path.

use colo_ebpf::{ABI_VERSION, MAP_HOLD_RING, MAP_MIRROR_RING, Mode, Settings};

use super::config::{Config, HoldBackend, MAX_FRAMES, MIN_FRAMES, Role};
use super::error::DatapathError;
use super::gaps::Gaps;
use super::hold::{Hold, RingHold, SocketHold};
use super::inject::Injector;
use super::interface::Interface;
use super::netlink::Netlink;
use super::packet::PacketSocket;
use super::programs::Programs;
use super::tally::{Own, ToldLosses};
use super::wait::Waiting;
use super::{Datapath, HOLD_BYTES, MIRROR_BYTES};

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
            waiting: Waiting::default(),
            mirror_gaps: Gaps::default(),
            input: super::unread::Input::default(),
            told: ToldLosses::default(),
            own: Own::default(),
        })
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

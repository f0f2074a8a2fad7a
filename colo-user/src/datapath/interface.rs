//! What must be true of an interface before programs are attached, and what an operator is to be told about it.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use colo_ebpf::{GUEST_PROGRAM, QUEUES, UPLINK_PROGRAM};

use super::error::DatapathError;
use super::netlink::{AttachedProgram, Link, Netlink};
use super::programs::{NATIVE, SKB};
use super::sys;

/// Bytes of an Ethernet header.
const HEADER: u32 = 14;
/// Bytes of a VLAN tag: the kernel forwards a tagged frame that is longer by this (`is_skb_forwardable`,
/// `xdp_ok_fwd_dev`).
pub(super) const VLAN_TAG: u32 = 4;

const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_TXVLAN: u32 = 1 << 7;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// Words of `struct ethtool_channels`, and of those that hold the receive and the combined queues in use.
const CHANNEL_WORDS: usize = 9;
const CHANNELS_RX: usize = 5;
const CHANNELS_COMBINED: usize = 8;

/// An interface that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub name: String,
    pub index: u32,
    /// As it was at the start: counters are told from here on.
    pub start: Link,
    /// Frames that interfaces in its place had dropped until then; and until it was looked at last.
    dropped_before: u64,
    dropped: u64,
}

impl Interface {
    /// Looks at interface `name` and refuses what cannot work or would take it from someone else. `own` is the id of a
    /// program that may run there.
    pub fn inspect(netlink: &mut Netlink, name: &str, own: Option<u32>) -> Result<Self, DatapathError> {
        let start = netlink
            .link(name)
            .map_err(|source| DatapathError::Interface { interface: name.to_owned(), source })?;
        if let Some(program) = start.program.filter(|program| Some(program.id) != own) {
            return Err(occupied(name, program));
        }
        if !start.up {
            return Err(DatapathError::Down(name.to_owned()));
        }
        let interface =
            Self { name: start.name.clone(), index: start.index, start, dropped_before: 0, dropped: 0 };
        interface.check_queues()?;
        Ok(interface)
    }

    /// Takes the place of `before`.
    pub fn follow(&mut self, before: &Self) {
        (self.dropped_before, self.dropped) = (before.dropped, before.dropped);
    }

    /// From here on, where it stands as `link` says, its counters are told.
    pub fn begin(&mut self, link: Link) {
        self.dropped_before = self.dropped(Some(&link));
        self.start = link;
    }

    /// Frames that it and those before it have dropped, as far as is known.
    pub fn dropped(&mut self, link: Option<&Link>) -> u64 {
        if let Some(link) = link.filter(|link| link.index == self.index) {
            self.dropped = self.dropped_before + link.tx_dropped.saturating_sub(self.start.tx_dropped);
        }
        self.dropped
    }

    /// Longest frame without a VLAN tag that it carries, in bytes.
    pub fn longest_frame(&self) -> u32 {
        self.start.mtu.saturating_add(HEADER)
    }

    /// How the program that it had at the start is attached, as [`Attached`](super::Attached) says it.
    pub fn attached_as(&self) -> &'static str {
        match self.start.program {
            Some(AttachedProgram { attached: 1, .. }) => NATIVE,
            _ => SKB,
        }
    }

    /// True if frames sent to it wait in a queue that its reader empties, and that drops without a word.
    pub fn is_tap(&self) -> bool {
        self.start.is_tap()
    }

    /// True if the host has IPv6 on it: its neighbour discovery and multicast reports then reach the guest, and count
    /// as its input.
    pub fn speaks_ipv6(&self) -> bool {
        let switch = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name);
        std::fs::read_to_string(switch).is_ok_and(|value| value.trim() == "0")
    }

    fn is_veth(&self) -> bool {
        self.start.kind == "veth"
    }

    /// True if the hardware filters by address, so that the guest's would not arrive.
    pub fn filters_addresses(&self) -> bool {
        !self.is_tap() && !self.is_veth()
    }

    /// How to make it take frames that a native program redirects.
    pub fn redirect_hint(&self) -> String {
        if self.start.kind == "veth" {
            format!(
                "the peer of {} must have GRO on (`ethtool -K PEER gro on`, while it is up) or run XDP",
                self.name
            )
        } else {
            format!("the driver of {} does not take redirected frames", self.name)
        }
    }

    fn check_queues(&self) -> Result<(), DatapathError> {
        let name = &self.name;
        let channels = self.ethtool(ETHTOOL_GCHANNELS).unwrap_or([0; CHANNEL_WORDS]);
        let queues = match self.start.tun_queues {
            Some(queues) => queues,
            None => channels[CHANNELS_RX] + channels[CHANNELS_COMBINED],
        };
        if queues <= QUEUES {
            return Ok(());
        }
        let hint = if self.is_tap() {
            format!("give the guest's NIC one queue (QEMU: no `queues=`, no `mq=on` for {name})")
        } else if channels[CHANNELS_COMBINED] > 0 {
            format!("`ethtool -L {name} combined 1`")
        } else {
            format!("`ethtool -L {name} rx 1`")
        };
        Err(DatapathError::Queues { interface: name.clone(), queues, hint })
    }

    /// What the interface's offloads would spoil, each with the command that helps.
    pub fn warnings(&self) -> Vec<String> {
        let name = &self.name;
        let ask = |command| self.ethtool::<2>(command).map_or(0, |answer| answer[1]);
        let flags = ask(ETHTOOL_GFLAGS);
        let mut warnings = Vec::new();
        let mut unfinished = Vec::new();
        for (on, word) in [
            (ask(ETHTOOL_GTXCSUM) != 0, "tx"),
            (ask(ETHTOOL_GTSO) != 0, "tso"),
            // The tag travels beside the frame then, and XDP does not see it.
            (self.is_veth() && flags & ETH_FLAG_TXVLAN != 0, "txvlan"),
        ] {
            if on {
                unfinished.push(word);
            }
        }
        if !unfinished.is_empty() {
            let options: String = unfinished.iter().map(|word| format!(" {word} off")).collect();
            let far_end = if self.is_tap() {
                "; switch checksum and segmentation offload of the guest's NIC off too (QEMU: csum=off,gso=off,\
                 host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,guest_csum=off,guest_tso4=off,guest_tso6=off,\
                 guest_ecn=off,guest_ufo=off)"
            } else if self.is_veth() {
                "; and the same on its peer, where it matters more"
            } else {
                ""
            };
            warnings.push(format!(
                "{name} has transmit offloads on ({}): frames may cross it with unfinished checksums, unsegmented or \
                 without their VLAN tag; `ethtool -K {name}{options}`{far_end}",
                unfinished.join(", ")
            ));
        }
        if !self.is_tap() && !self.is_veth() {
            for (flag, word, spoils) in [
                (ETH_FLAG_LRO, "lro", "merged frames are too long for the guest"),
                (ETH_FLAG_RXVLAN, "rxvlan", "frames lose their VLAN tag before XDP sees them"),
            ] {
                if flags & flag != 0 {
                    warnings.push(format!(
                        "{name} has receive offload {word} on: {spoils}; `ethtool -K {name} {word} off`"
                    ));
                }
            }
        }
        warnings
    }

    /// One ethtool question; `None` where the driver has no answer.
    fn ethtool<const WORDS: usize>(&self, command: u32) -> Option<[u32; WORDS]> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
        let mut words = [0; WORDS];
        words[0] = command;
        sys::ethtool(&socket, &self.name, &mut words).ok()?;
        Some(words)
    }
}

/// The error for an interface that runs `program` already.
pub(super) fn occupied(interface: &str, program: AttachedProgram) -> DatapathError {
    let AttachedProgram { id, attached } = program;
    let interface = interface.to_owned();
    let name = program_name(id);
    if let Some(name) = name.as_deref().filter(|name| [GUEST_PROGRAM, UPLINK_PROGRAM].contains(name)) {
        return DatapathError::InUse { interface, program: name.to_owned(), id };
    }
    let program = name.map_or_else(|| "of unknown name".to_owned(), |name| format!("{name:?}"));
    let (mode, off) = match attached {
        1 => ("native", "xdpdrv"),
        2 => ("skb", "xdpgeneric"),
        3 => ("offloaded", "xdpoffload"),
        _ => ("several modes", "xdp"),
    };
    DatapathError::ForeignProgram { interface, program, id, mode, off }
}

/// The name of a loaded program; `None` if it has none or may not be looked at.
fn program_name(id: u32) -> Option<String> {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    let program = programs.into_iter().find(|program| program.id() == id)?;
    program.name_as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

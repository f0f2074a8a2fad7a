//! The namespaces of the lab and the wires between them.
//!
//! ```text
//!  client:  br0 192.0.2.1  2001:db8::1          the client, its switch and the point of capture
//!            ├ up-primary ──── uplink0 :primary host:   guest0 ──── eth0 192.0.2.2  2001:db8::2  primary guest
//!            └ up-secondary ── uplink0 :secondary host: guest0 ──── eth0 192.0.2.2  2001:db8::2  secondary guest
//!  primary host: link0 10.99.0.1 ──── 10.99.0.2 link0 :secondary host
//! ```
//!
//! A guest is a real Linux TCP stack behind a veth; `guest0`, the host's end of it, is what a tap is to a VM. Both
//! guests have one MAC address and the same IP addresses. What each would send by a timer of its own (address
//! detection, router solicitation) is off; neighbour discovery and multicast reports stay. The hosts
//! themselves say nothing on the client's network.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result};

use super::relay::{Relay, Way};
use crate::netns::Netns;

/// The host's end of the guest's wire: `--guest`.
pub const GUEST: &str = "guest0";
/// The host's interface toward the client: `--uplink`.
pub const UPLINK: &str = "uplink0";
/// Both hosts' end of the link between the agents.
pub const LINK: &str = "link0";
/// The client's end of the primary host's uplink: where a capture sees what left.
pub const CAPTURE: &str = "up-primary";
/// The client's end of the secondary host's uplink: nothing comes from there until a takeover.
pub const CAPTURE_SECONDARY: &str = "up-secondary";
/// The MAC address of both guests.
pub const GUEST_MAC: [u8; 6] = [0x02, 0xc0, 0x10, 0x00, 0x00, 0x02];
/// The link's address on the primary host.
pub const LINK_PRIMARY: &str = "10.99.0.1";
/// The link's address on the secondary host.
pub const LINK_SECONDARY: &str = "10.99.0.2";
/// The guests' IPv4 address (RFC 5737).
pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// The guests' IPv6 address (RFC 3849).
pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// Frames that a VM's tap keeps while the VM is stopped: more than a checkpoint's worth at the speed of these VMs.
const TAP_QUEUE: u32 = 10_000;

/// What the guests and uplinks hang on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wires {
    /// Veth pairs.
    #[default]
    Veth,
    /// The guests on taps fed through their fds, the uplinks on veth pairs.
    TapGuest,
    /// The guests' taps without a guest: for VMs. The uplinks on veth pairs.
    Vm,
    /// Guests and uplinks on taps, all frames on them tagged with a VLAN.
    Tagged(u16),
}

/// One host: its own namespace and its guest's.
#[derive(Debug)]
pub struct Host {
    /// Where the agent runs.
    pub netns: Netns,
    /// Where the replica runs.
    pub guest: Netns,
    relays: Vec<Relay>,
}

/// All namespaces of a lab; they go when it does.
#[derive(Debug)]
pub struct Topology {
    /// The client and its switch.
    pub client: Arc<Netns>,
    /// The host of the replica that the client hears.
    pub primary: Host,
    /// The host of the replica that only the comparator hears.
    pub secondary: Host,
}

impl Topology {
    /// Makes the namespaces and joins them. Nothing forwards between a guest and its uplink yet: that is the
    /// agents' work, or [`Topology::forward_plain`]'s.
    pub fn new(wires: Wires) -> Result<Self> {
        sweep()?;
        let client = Arc::new(Netns::new("colo-client")?);
        prepare(&client, false)?;
        // Root may open ping sockets.
        set(&client, "net/ipv4/ping_group_range", "0 0")?;
        client.run("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        let mut primary = Host::new("colo-primary", wires)?;
        let mut secondary = Host::new("colo-secondary", wires)?;
        for (host, port) in [(&mut primary, CAPTURE), (&mut secondary, CAPTURE_SECONDARY)] {
            match wires {
                Wires::Veth | Wires::TapGuest | Wires::Vm => host.plug_uplink(&client, port)?,
                Wires::Tagged(id) => {
                    host.relays.push(Relay::new(&host.netns, UPLINK, &client, port, Some(id))?);
                    join_switch(&client, port)?;
                }
            }
        }
        client.run("ip link set br0 up")?;
        client.run("ip addr add 192.0.2.1/24 dev br0")?;
        client.run("ip addr add 2001:db8::1/64 dev br0 nodad")?;
        primary.netns.veth(LINK, &secondary.netns, LINK)?;
        primary.netns.run(&format!("ip addr add {LINK_PRIMARY}/24 dev {LINK}"))?;
        secondary.netns.run(&format!("ip addr add {LINK_SECONDARY}/24 dev {LINK}"))?;
        Ok(Self { client, primary, secondary })
    }

    /// Puts a plain kernel bridge where the primary's agent would be: what the lab does with nobody between.
    pub fn forward_plain(&self) -> Result<()> {
        self.primary.forward_plain()
    }
}

impl Host {
    /// Joins guest and uplink by a plain kernel bridge.
    pub fn forward_plain(&self) -> Result<()> {
        self.join(&[GUEST, UPLINK])
    }

    /// Joins interfaces by a plain kernel bridge.
    pub fn join(&self, interfaces: &[&str]) -> Result<()> {
        self.netns.run("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        for interface in interfaces {
            self.netns.run(&format!("ip link set {interface} master br0"))?;
        }
        self.netns.run("ip link set br0 up")?;
        Ok(())
    }

    /// Makes the wire to the client's switch, on whose port `port` it ends; as often as the last one is gone.
    pub fn plug_uplink(&self, client: &Netns, port: &str) -> Result<()> {
        self.netns.veth(UPLINK, client, port)?;
        join_switch(client, port)
    }

    /// Makes the tap of a VM; as often as the last one is gone.
    pub fn plug_tap(&self) -> Result<()> {
        self.netns.run(&format!("ip tuntap add dev {GUEST} mode tap"))?;
        self.netns.run(&format!("ip link set {GUEST} txqueuelen {TAP_QUEUE} up")).map(drop)
    }

    /// Makes the wire to a guest that is no VM; as often as the last one is gone.
    pub fn plug_guest(&self) -> Result<()> {
        self.netns.veth(GUEST, &self.guest, "eth0")?;
        furnish(&self.guest)
    }

    /// The same, whose interface on the host has this index.
    pub fn plug_guest_as(&self, index: u32) -> Result<()> {
        self.netns.veth_with(GUEST, &self.guest, "eth0", Some(index))?;
        furnish(&self.guest)
    }

    /// From now on the guest's wire loses the last `burst` of each `every` frames that go this way; 0 ends it. For taps only:
    /// the frames of a veth pass nobody who could lose them.
    pub fn lose(&self, way: Way, burst: u64, every: u64) {
        assert!(!self.relays.is_empty(), "only a guest on a tap can lose frames");
        self.relays[0].lose(way, burst, every);
    }

    fn new(name: &str, wires: Wires) -> Result<Self> {
        let netns = Netns::new(name)?;
        prepare(&netns, true)?;
        let guest = Netns::new(&format!("{name}-guest"))?;
        prepare(&guest, false)?;
        let relays = match wires {
            Wires::Vm => {
                let host = Self { netns, guest, relays: Vec::new() };
                host.plug_tap()?;
                return Ok(host);
            }
            Wires::Veth => Vec::new(),
            Wires::TapGuest => vec![Relay::new(&netns, GUEST, &guest, "eth0", None)?],
            Wires::Tagged(id) => vec![Relay::new(&netns, GUEST, &guest, "eth0", Some(id))?],
        };
        set(&guest, "net/core/somaxconn", "4096")?;
        set(&guest, "net/ipv4/tcp_max_syn_backlog", "4096")?;
        let host = Self { netns, guest, relays };
        if wires == Wires::Veth {
            host.plug_guest()?;
        } else {
            furnish(&host.guest)?;
        }
        Ok(host)
    }
}

/// Makes `eth0` what both guests have.
fn furnish(guest: &Netns) -> Result<()> {
    let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    guest.run(&format!("ip link set eth0 address {mac}"))?;
    guest.run("ip addr add 192.0.2.2/24 dev eth0")?;
    guest.run("ip addr add 2001:db8::2/64 dev eth0 nodad")?;
    Ok(())
}

fn join_switch(client: &Netns, port: &str) -> Result<()> {
    set(client, &format!("net/ipv6/conf/{port}/disable_ipv6"), "1")?;
    client.run(&format!("ip link set {port} master br0")).map(drop)
}

/// Deletes the namespaces of labs that were killed and could not do it themselves.
fn sweep() -> Result<()> {
    let Ok(names) = fs::read_dir("/run/netns") else { return Ok(()) };
    for name in names {
        let name = name?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another lab may sweep at the same time.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
    Ok(())
}

/// The process that made a lab's namespace: its name is ROLE-PID-SERIAL-CLOCK.
fn owner(name: &str) -> Option<u32> {
    let ours = ["colo-client-", "colo-primary-", "colo-secondary-"].iter().any(|role| name.starts_with(role));
    name.rsplit('-').nth(2).filter(|_| ours)?.parse().ok()
}

/// For interfaces yet to come: no address detection, no router solicitation, no autoconfiguration, or no
/// IPv6 at all. And TCP has the congestion control that every kernel has, whatever this machine is set to.
pub(crate) fn prepare(namespace: &Netns, disable: bool) -> Result<()> {
    let mut settings =
        vec![("accept_dad", "0"), ("dad_transmits", "0"), ("accept_ra", "0"), ("autoconf", "0")];
    settings.extend([("router_solicitations", "0"), ("disable_ipv6", if disable { "1" } else { "0" })]);
    for (name, value) in settings {
        set(namespace, &format!("net/ipv6/conf/default/{name}"), value)?;
    }
    set(namespace, "net/ipv4/tcp_congestion_control", "reno")
}

/// Sets one sysctl of a namespace.
fn set(namespace: &Netns, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{name}");
    namespace.enter(|| fs::write(&path, value)).with_context(|| format!("{path} = {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_labs_namespace_has_an_owner() {
        assert_eq!(owner("colo-client-123-0-1f"), Some(123));
        assert_eq!(owner("colo-primary-guest-123-2-1f"), Some(123));
        assert_eq!(owner("colo-client"), None);
        assert_eq!(owner("other-client-123-0-1f"), None);
        assert_eq!(owner("colo-client-x-0-1f"), None);
    }
}

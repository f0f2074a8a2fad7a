//! Arguments that both agents have, and the syntax of bypass rules.

use crate::agent::heart::BeatLink;
use crate::agent::run::{Alone, Options, PrimaryOptions};
use crate::compare::Bypass;
use crate::control;
use crate::datapath::{
    AttachMode, Config, DEFAULT_FRAMES, HoldBackend, MAX_FRAMES, MAX_REALTIME, MIN_FRAMES, Role,
};
use crate::heartbeat::{INTERVALS_MS, MAX_LINKS, MULTIPLIERS, Settings};
use crate::judge::fence::FenceSpec;
use crate::judge::{JudgeSpec, Pair};
use crate::link::endpoint::Endpoint;
use crate::qmp::command::Call;
use crate::wire::proto;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, value_parser};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What both agents are told.
#[derive(Args, Debug)]
pub struct Common {
    /// The guest's interface on this host: its tap, or the host's end of its veth pair
    #[arg(long, value_name = "IF")]
    guest: String,
    /// The interface toward the client network
    #[arg(long, value_name = "IF")]
    uplink: String,
    /// The link to the other agent: tcp:HOST:PORT or unix:PATH; ,server=on on the side that listens
    ///
    /// It listens on the given address only. It is plain text: keep it on a network of its own.
    #[arg(long, value_name = "ENDPOINT")]
    peer: Endpoint,
    /// How XDP programs are attached: native (in the driver), skb (generic, any interface), auto (native where possible)
    #[arg(long, value_name = "MODE", default_value = "auto")]
    attach: AttachMode,
    /// Where held frames are parked: afxdp (one copy), ringbuf (any kernel), auto (afxdp where possible)
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    hold: HoldBackend,
    /// Frames that can be held or on their way at one time; 2 KiB each
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FRAMES,
          value_parser = value_parser!(u32).range(i64::from(MIN_FRAMES)..=i64::from(MAX_FRAMES)))]
    frames: u32,
    /// Take only this guest's frames, broadcast and multicast from the uplink, and leave the rest to the host
    ///
    /// Without it the uplink is the guest's alone.
    #[arg(long, value_name = "MAC", value_parser = mac)]
    guest_mac: Option<[u8; 6]>,
    /// Real-time priority of the packet thread; 0 for none
    ///
    /// It then does not wait behind its own guest for a processor with a request whose client waits, nor with its heartbeats.
    /// While frames come in streams it is as all other threads, and works in batches. Where the kernel grants no such priority
    /// that is logged, and it is as all others.
    #[arg(long, value_name = "PRIORITY", default_value_t = 1,
          value_parser = value_parser!(u8).range(0..=i64::from(MAX_REALTIME)))]
    realtime: u8,
    /// A peer that has not been heard for this long is lost, in milliseconds
    ///
    /// Heartbeats go out eight times as often, at least every 500 ms. With --qmp the secondary takes over a quarter later than
    /// this after a primary has fallen silent: clients wait that long for a lost host.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = value_parser!(u64).range(100..))]
    peer_timeout: u64,
    /// One more link to the peer, for heartbeats only: `udp:PEER:PORT[@LOCAL:PORT]`; may be given several times
    ///
    /// The peer is then lost only when no link is heard, the one between the agents included, and as soon as that; one that
    /// is silent alone is a lost link. Put it on another network than --peer. Numeric addresses; every VM has a port of its own.
    #[arg(long, value_name = "ENDPOINT")]
    heartbeat: Vec<BeatLink>,
    /// Between two heartbeats over every link, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100, requires = "heartbeat",
          value_parser = value_parser!(u64).range(INTERVALS_MS))]
    heartbeat_interval: u64,
    /// So many intervals without a heartbeat, and a link is lost
    #[arg(long, value_name = "N", default_value_t = 5, requires = "heartbeat",
          value_parser = value_parser!(u8).range(i64::from(*MULTIPLIERS.start())..=i64::from(*MULTIPLIERS.end())))]
    heartbeat_multiplier: u8,
    /// Answer for this host in the kernel on this interface, on which the peer's heartbeats come in, and ask the peer's host likewise
    ///
    /// Give it to both agents: then `colo status` tells a host that is dead from an agent that is starved, or has ended.
    /// The interface takes one such program: of one VM.
    #[arg(long, value_name = "IF", requires = "heartbeat")]
    heartbeat_probe: Option<String>,
    /// The monitor of this guest's QEMU (unix:PATH or tcp:HOST:PORT), colo's alone: follow its own COLO, exactly
    ///
    /// Give it to both agents. The migration capability `events` must be on before `migrate`.
    #[arg(long, value_name = "ENDPOINT", value_parser = monitor)]
    qmp: Option<Endpoint>,
    /// Whom to ask before going on alone: lock:DIRECTORY, which both hosts have mounted, exec:COMMAND, or `etcd:http[s]://HOST:PORT`
    ///
    /// Without one, or with none, nobody goes on alone: the primary holds, the secondary stays closed. With etcd
    /// (`etcd:http://HOST:PORT[,http://HOST:PORT...][;ttl=SECONDS][;drift=PERCENT][;prefix=PATH]`) the side that is heard holds a
    /// lease, 5 seconds long by default, and is silent when it cannot renew it. With https:// throughout it speaks TLS:
    /// `;ca=FILE` is etcd's authority (default: the system's roots), `;cert=FILE;key=FILE` are shown to etcd; all in PEM, and
    /// read again when they change. `;user=NAME;password-file=FILE` names a user of etcd's.
    #[arg(long, value_name = "JUDGE", requires = "qmp")]
    judge: Option<Whom>,
    /// Go on alone without asking anybody: both sides may do so at once
    #[arg(long, requires = "qmp")]
    allow_unfenced: bool,
    /// A command that shuts the other side off (STONITH), run after the judge's yes and before anything else
    ///
    /// Not where the other side has said that it is closed. Exit status 0: it is off. Otherwise this side does not go on, and the
    /// command is run again after a while. Environment: COLO_PAIR, COLO_TERM, COLO_ROLE (the side that stays), COLO_BOOT.
    #[arg(long, value_name = "COMMAND", requires = "qmp", value_parser = NonEmptyStringValueParser::new())]
    fence: Option<String>,
    /// After so many seconds that command has given no answer, and is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "fence",
          value_parser = value_parser!(u64).range(1..=3600))]
    fence_limit: u64,
    /// The pair's name to the judge, the same on both hosts (default: the guest's MAC address, or its interface)
    #[arg(long, value_name = "NAME")]
    pair: Option<Pair>,
    /// A QEMU that does not answer for this long is frozen, a guest that stays stopped for it is stuck, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = value_parser!(u64).range(100..))]
    vm_timeout: u64,
    /// What the agent must know when it is started again (default: beside the control socket)
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// The control socket, for `colo status` (default: `/run/colo/<guest interface>.sock`)
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Common {
    /// The agent's options; those of a primary come from its own arguments. `before` is what a secondary tells QEMU before it goes on
    /// alone.
    ///
    /// # Errors
    /// The default name of the pair is none; a judge and none; too many heartbeat links.
    pub fn options(self, role: Role, primary: PrimaryOptions, before: Vec<Call>) -> Result<Options, String> {
        let control = self.control.unwrap_or_else(|| control::default_path(&self.guest));
        let pair = match (self.pair, self.guest_mac) {
            (Some(pair), _) => pair,
            (None, Some(mac)) => mac.map(|byte| format!("{byte:02x}")).join(":").parse()?,
            (None, None) => self.guest.parse()?,
        };
        let judge = self.judge.and_then(|whom| whom.0);
        if self.allow_unfenced && judge.is_some() {
            return Err(
                "--allow-unfenced with --judge: that one is asked, or nobody; give one of them".to_owned()
            );
        }
        let leased = matches!(judge, Some(JudgeSpec::Etcd(_)));
        let limit = Duration::from_secs(self.fence_limit);
        let alone = Alone {
            judge: if self.allow_unfenced { Some(JudgeSpec::Unfenced) } else { judge },
            fence: self.fence.map(|command| FenceSpec { command, limit }),
            pair,
            before,
            state: self.state.unwrap_or_else(|| control.with_extension("state")),
        };
        let datapath = Config {
            attach: self.attach,
            hold: self.hold,
            frames: self.frames,
            guest_mac: self.guest_mac,
            realtime: self.realtime,
            leased,
            overdue: primary.overdue.filter(|_| role == Role::Primary),
            ..Config::new(role, &self.guest, &self.uplink)
        };
        if self.heartbeat.len() >= MAX_LINKS {
            return Err(format!(
                "{} times --heartbeat: the link between the agents and at most {} more are heard",
                self.heartbeat.len(),
                MAX_LINKS - 1
            ));
        }
        let heartbeat_settings = Settings {
            interval: Duration::from_millis(self.heartbeat_interval),
            // The range begins above zero.
            multiplier: NonZeroU8::new(self.heartbeat_multiplier).unwrap_or(NonZeroU8::MIN),
        };
        let peer_limit = Duration::from_millis(self.peer_timeout);
        let vm_limit = Duration::from_millis(self.vm_timeout);
        Ok(Options {
            datapath,
            peer: self.peer,
            peer_limit,
            qmp: self.qmp,
            vm_limit,
            alone,
            heartbeat: self.heartbeat,
            heartbeat_probe: self.heartbeat_probe,
            heartbeat_settings,
            control,
            primary,
            reprotect: false,
        })
    }

    /// Whether the other side may go on in this one's place.
    #[must_use]
    pub const fn may_be_followed(&self) -> bool {
        matches!(self.judge, Some(Whom(Some(_)))) || self.allow_unfenced
    }

    /// Whether the guest's QEMU is followed.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.qmp.is_some()
    }
}

/// The value of `--judge`: somebody, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whom(Option<JudgeSpec>);

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
    }
}

/// Reads the endpoint of a monitor.
fn monitor(text: &str) -> Result<Endpoint, String> {
    match text.parse::<Endpoint>().map_err(|error| error.to_string())? {
        Endpoint { server: true, .. } => {
            Err(format!("`{text}`: QEMU listens on its monitor and colo connects; leave out server=on"))
        }
        monitor => Ok(monitor),
    }
}

/// Reads an Ethernet address: six pairs of hexadecimal digits, with colons or dashes between them.
///
/// # Errors
/// The text and an example.
pub fn mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || format!("`{text}` is not a MAC address such as 52:54:00:12:34:56");
    let mut address = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut address {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() { Err(wrong()) } else { Ok(address) }
}

/// Reads a bypass rule: `PROTO[:[ADDR:]PORT]`, `vlan:ID` or `addr:ADDR`.
///
/// # Errors
/// What is wrong with it, and the forms there are.
pub fn bypass(text: &str) -> Result<Bypass, String> {
    let wrong = |what: &str| {
        format!(
            "bypass rule `{text}`: {what}; write tcp:22, udp:192.0.2.7:53, tcp:[2001:db8::1]:443, icmp, vlan:100 or addr:192.0.2.7"
        )
    };
    let (word, rest) = match text.split_once(':') {
        Some((word, rest)) => (word, Some(rest)),
        None => (text, None),
    };
    match (word, rest) {
        ("vlan", Some(id)) => {
            let id = id.parse().ok().filter(|id| (1..=4094).contains(id));
            Ok(Bypass { vlan: Some(id.ok_or_else(|| wrong("a VLAN id is 1 to 4094"))?), ..Bypass::default() })
        }
        ("addr", Some(address)) => {
            let address = address.parse().map_err(|_| wrong("not an IP address"))?;
            Ok(Bypass { address: Some(address), ..Bypass::default() })
        }
        ("vlan" | "addr", None) => Err(wrong("a value is missing")),
        _ => {
            let protocol = protocol(word).ok_or_else(|| wrong("not a protocol's name or number"))?;
            let mut rule = Bypass { protocol: Some(protocol), ..Bypass::default() };
            let Some(end) = rest else { return Ok(rule) };
            if !matches!(protocol, proto::TCP | proto::UDP) {
                return Err(wrong("only tcp and udp have ports"));
            }
            let port = match end.rsplit_once(':') {
                Some((address, port)) => {
                    rule.address = Some(
                        bracketed(address).ok_or_else(|| wrong("not an IP address (IPv6 in brackets)"))?,
                    );
                    port
                }
                None => end,
            };
            let port = port.parse().ok().filter(|&port: &u16| port != 0);
            rule.port = Some(port.ok_or_else(|| wrong("a port is 1 to 65535"))?);
            Ok(rule)
        }
    }
}

fn protocol(word: &str) -> Option<u8> {
    Some(match word {
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "icmp" => proto::ICMP,
        "icmpv6" => proto::ICMPV6,
        "igmp" => proto::IGMP,
        number => return number.parse().ok(),
    })
}

fn bracketed(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests;

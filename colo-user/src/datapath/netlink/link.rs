//! rtnetlink: what the kernel says about an interface, and why it refuses a program there.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{NESTED, NLM_F_ACK, Netlink, attribute, find, u32_at};
use crate::path::{Gone, Seen};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFINFO: usize = 16;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_XDP: u16 = 43;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_TUN_NUM_QUEUES: u16 = 8;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
/// Attach in the generic path.
pub(in super::super) const XDP_FLAGS_SKB_MODE: u32 = 2;
/// Attach in the driver.
pub(in super::super) const XDP_FLAGS_DRV_MODE: u32 = 4;

const IFF_UP: u32 = libc::IFF_UP as u32;
const IFF_RUNNING: u32 = libc::IFF_RUNNING as u32;
const IFF_PROMISC: u32 = libc::IFF_PROMISC as u32;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct AttachedProgram {
    /// The kernel's id for it.
    pub id: u32,
    /// `XDP_ATTACHED_*`: 1 native, 2 generic, 3 offloaded, 4 several.
    pub attached: u8,
}

/// What the kernel says about an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Link {
    pub name: String,
    pub index: u32,
    pub up: bool,
    /// Its driver sees the other end.
    pub carrier: bool,
    /// It was told to take frames for any address; a socket that asks for that does not count.
    pub promiscuous: bool,
    pub mtu: u32,
    pub tx_queue_len: u32,
    /// `tun`, `veth`, ...; empty for a physical device.
    pub kind: String,
    /// Queues of a tap.
    pub tun_queues: Option<u32>,
    pub program: Option<AttachedProgram>,
    pub tx_packets: u64,
    pub tx_dropped: u64,
}

impl Link {
    /// True if frames sent to it wait in a queue that its reader empties, and that drops without a word.
    pub fn is_tap(&self) -> bool {
        self.kind == "tun"
    }

    /// What decides whether it carries frames.
    pub fn seen(&self) -> Seen {
        Seen {
            index: self.index,
            name: self.name.clone(),
            up: self.up,
            carrier: self.carrier,
            program: self.program.map(|program| program.id),
        }
    }
}

/// What the kernel tells of an interface without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Told {
    pub index: u32,
    pub name: String,
    /// It went.
    pub gone: Option<Gone>,
}

impl Told {
    /// Of a message of the kernel; `None` for one that is of something else. A bridge's word on a port that left it is one.
    pub fn of(kind: u16, body: &[u8]) -> Option<Self> {
        if !matches!(kind, RTM_NEWLINK | RTM_DELLINK) || i32::from(*body.first()?) != libc::AF_UNSPEC {
            return None;
        }
        let attributes = body.get(IFINFO..)?;
        let gone = (kind == RTM_DELLINK)
            .then(|| find(attributes, IFLA_NEW_NETNSID).map_or(Gone::Deleted, |_| Gone::Moved));
        Some(Self { index: u32_at(body, 4)?, name: text(attributes, IFLA_IFNAME), gone })
    }
}

/// The text of an attribute; empty if there is none.
fn text(attributes: &[u8], kind: u16) -> String {
    let bytes = find(attributes, kind).unwrap_or_default();
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

impl Netlink {
    /// The interface called `name`.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        self.ask_link(&by_name(name)?)
    }

    /// What decides whether the interface called `name` carries frames; `None` if there is none.
    pub fn seen(&mut self, name: &str) -> io::Result<Option<Seen>> {
        let message = by_name(name)?;
        self.ask_seen(message)
    }

    /// The same of the one with index `index`.
    pub fn seen_by_index(&mut self, index: u32) -> io::Result<Option<Seen>> {
        self.ask_seen(ifinfo(index))
    }

    fn ask_seen(&mut self, mut message: Vec<u8>) -> io::Result<Option<Seen>> {
        attribute(&mut message, IFLA_EXT_MASK, |value| {
            value.extend_from_slice(&RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        });
        match self.ask_link(&message) {
            Ok(link) => Ok(Some(link.seen())),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The interface with index `index`.
    pub fn link_by_index(&mut self, index: u32) -> io::Result<Link> {
        self.ask_link(&ifinfo(index))
    }

    fn ask_link(&mut self, message: &[u8]) -> io::Result<Link> {
        self.request(RTM_GETLINK, 0, message)?;
        let body = self.receive().map_err(|(error, _)| error)?;
        parse_link(body).ok_or_else(|| io::Error::other("rtnetlink answered with less than a link"))
    }

    /// Makes an interface take frames for any address, until told otherwise.
    pub fn set_promiscuous(&mut self, index: u32, on: bool) -> io::Result<()> {
        let mut message = ifinfo(index);
        // The flags, and which of them are meant.
        message[8..12].copy_from_slice(&(if on { IFF_PROMISC } else { 0 }).to_ne_bytes());
        message[12..16].copy_from_slice(&IFF_PROMISC.to_ne_bytes());
        self.request(RTM_SETLINK, NLM_F_ACK, &message)?;
        self.receive().map(|_| ()).map_err(|(error, _)| error)
    }

    /// Why the kernel refuses `program` on an interface, in its own words. Meant for an interface that just refused a
    /// link, which carries no text; should the kernel have changed its mind, the program is taken off again.
    pub fn why_refused(&mut self, index: u32, program: BorrowedFd<'_>, mode: u32) -> Option<String> {
        let flags = mode | XDP_FLAGS_UPDATE_IF_NOEXIST;
        match self.set_program(index, program.as_raw_fd(), flags) {
            Err((error, text)) => {
                Some(text.map_or_else(|| error.to_string(), |text| format!("{text} ({error})")))
            }
            Ok(()) => {
                let _ = self.set_program(index, -1, mode);
                None
            }
        }
    }

    fn set_program(&mut self, index: u32, fd: i32, flags: u32) -> Result<(), (io::Error, Option<String>)> {
        let mut message = ifinfo(index);
        attribute(&mut message, IFLA_XDP | NESTED, |value| {
            attribute(value, IFLA_XDP_FD, |v| v.extend_from_slice(&fd.to_ne_bytes()));
            attribute(value, IFLA_XDP_FLAGS, |v| v.extend_from_slice(&flags.to_ne_bytes()));
        });
        self.request(RTM_SETLINK, NLM_F_ACK, &message).map_err(|error| (error, None))?;
        self.receive().map(|_| ())
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let index = u32_at(body, 4)?;
    let flags = u32_at(body, 8)?;
    let attributes = body.get(IFINFO..)?;
    let number = |kind| find(attributes, kind).and_then(|value| u32_at(value, 0));
    let info = find(attributes, IFLA_LINKINFO).unwrap_or_default();
    let kind = text(info, IFLA_INFO_KIND);
    let data = find(info, IFLA_INFO_DATA).unwrap_or_default();
    let tun_queues =
        if kind == "tun" { find(data, IFLA_TUN_NUM_QUEUES).and_then(|v| u32_at(v, 0)) } else { None };
    let xdp = find(attributes, IFLA_XDP).unwrap_or_default();
    let attached = find(xdp, IFLA_XDP_ATTACHED).and_then(|value| value.first().copied()).unwrap_or(0);
    let id = find(xdp, IFLA_XDP_PROG_ID).and_then(|value| u32_at(value, 0)).unwrap_or(0);
    // struct rtnl_link_stats64: u64 words, 1 is tx_packets and 7 is tx_dropped.
    let statistics = find(attributes, IFLA_STATS64).unwrap_or_default();
    let word = |number: usize| {
        statistics
            .get(number * 8..number * 8 + 8)
            .and_then(|v| v.try_into().ok())
            .map_or(0, u64::from_ne_bytes)
    };
    // The first is told by a delayed work, the second at once.
    let driver = find(attributes, IFLA_CARRIER).and_then(|value| value.first()).is_none_or(|&on| on != 0);
    Some(Link {
        name: text(attributes, IFLA_IFNAME),
        index,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_RUNNING != 0 && driver,
        promiscuous: flags & IFF_PROMISC != 0,
        mtu: number(IFLA_MTU)?,
        tx_queue_len: number(IFLA_TXQLEN).unwrap_or(0),
        kind,
        tun_queues,
        program: (attached != 0).then_some(AttachedProgram { id, attached }),
        tx_packets: word(1),
        tx_dropped: word(7),
    })
}

fn by_name(name: &str) -> io::Result<Vec<u8>> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::other(format!("a name has 1 to {} bytes", libc::IFNAMSIZ - 1)));
    }
    let mut message = ifinfo(0);
    attribute(&mut message, IFLA_IFNAME, |value| {
        value.extend_from_slice(name.as_bytes());
        value.push(0);
    });
    Ok(message)
}

fn ifinfo(index: u32) -> Vec<u8> {
    let mut body = vec![0; IFINFO];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

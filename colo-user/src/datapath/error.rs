//! Why a data path cannot be attached.

use std::io;
use std::path::PathBuf;

use super::config::{MAX_FRAMES, MIN_FRAMES};

/// Why a data path cannot be attached or told what to do. Each says which object, the kernel's reason and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatapathError {
    /// Too few or too many frames.
    #[error("{0} frames to park is out of range: {MIN_FRAMES} to {MAX_FRAMES} are possible (--frames)")]
    Frames(u32),
    /// An interface cannot be looked at.
    #[error("interface {interface}: {source}; see `ip link show` in this network namespace")]
    Interface {
        /// Its name.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// One interface in both places.
    #[error("{0} is given as guest interface and as uplink: they must be two interfaces")]
    SameInterface(String),
    /// An interface is down.
    #[error("interface {0} is down: `ip link set {0} up`")]
    Down(String),
    /// An interface spreads its frames over more queues than are handled.
    #[error("interface {interface} has {queues} receive queues, one is handled: {hint}")]
    Queues {
        /// Its name.
        interface: String,
        /// Its receive queues.
        queues: u32,
        /// The option to set.
        hint: String,
    },
    /// Someone else's program is there already.
    #[error(
        "interface {interface} already runs XDP program {program} (id {id}, {mode}): it is left alone. \
         Use another interface, or remove it: `ip link set dev {interface} {off} off` (a program held by a link \
         leaves with the process that owns it)"
    )]
    ForeignProgram {
        /// The interface.
        interface: String,
        /// The program's name, quoted, or `of unknown name`.
        program: String,
        /// The program's id.
        id: u32,
        /// How it is attached.
        mode: &'static str,
        /// The word `ip link` has for that.
        off: &'static str,
    },
    /// Another agent works here.
    #[error(
        "interface {interface} is in use by another colo (XDP program {program:?}, id {id}): one agent per interface; \
         stop it first, `bpftool net` and `colo status` show it"
    )]
    InUse {
        /// The interface.
        interface: String,
        /// The other agent's program.
        program: String,
        /// That program's id.
        id: u32,
    },
    /// The kernel does not take the program on this interface.
    #[error("the kernel refuses a {mode} XDP program on {interface}: {reason}; {way_out}")]
    Attach {
        /// The interface.
        interface: String,
        /// `native` or `skb`.
        mode: &'static str,
        /// The kernel's own words, or its error.
        reason: String,
        /// What to try.
        way_out: &'static str,
    },
    /// Native XDP cannot send frames to an interface.
    #[error(
        "native XDP on {from} cannot send frames to {to}: {hint}; or `--attach auto`, which goes another way"
    )]
    NoRedirect {
        /// Where the program is.
        from: String,
        /// Where its frames should go.
        to: String,
        /// The option to set.
        hint: String,
    },
    /// The programs or maps cannot be loaded.
    #[error(
        "cannot load the XDP programs: {0}; Linux 5.18 or newer and CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON are needed"
    )]
    Load(String),
    /// A map operation failed.
    #[error("map {map}: {reason}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's reason.
        reason: String,
    },
    /// There is nowhere to pin to.
    #[error(
        "no bpffs is mounted at {}, and only there programs outlive the agent: `mount -t bpf bpf {}` (`ip netns exec` hides the host's, `nsenter --net=/run/netns/NAME` does not)",
        super::pins::BPFFS,
        super::pins::BPFFS
    )]
    NoBpffs,
    /// Pins cannot be made, read or removed.
    #[error("pinned programs in {}: {source}; `colo detach` removes those whose agent is gone", path.display())]
    Pins {
        /// Their directory, or one of them.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Pins that this program must not adopt.
    #[error(
        "interface {interface} has programs pinned by another version of colo ({}): stop the traffic it carries, then \
         `colo detach --guest {interface} --uplink {uplink}` removes them",
        path.display()
    )]
    OtherVersion {
        /// The guest's interface.
        interface: String,
        /// The uplink that was asked for.
        uplink: String,
        /// Their directory.
        path: PathBuf,
    },
    /// Pins that join the guest's interface with another uplink.
    #[error(
        "interface {guest} has pinned programs that join it with {pinned}, not with {uplink}: give --uplink {pinned}, or \
         remove them with `colo detach --guest {guest} --uplink {pinned}`"
    )]
    PinnedElsewhere {
        /// The guest's interface.
        guest: String,
        /// The uplink that was asked for.
        uplink: String,
        /// The uplink that the programs are on.
        pinned: String,
    },
    /// Pinned maps that the backend cannot work with.
    #[error(
        "interface {0} has pinned programs whose ring buffer is too small for --hold ringbuf: take the backend they were \
         pinned with (--hold afxdp), or remove them with `colo detach`"
    )]
    PinnedBackend(String),
    /// An AF_XDP socket cannot be had.
    #[error("AF_XDP socket on {interface}: {step}: {source}; `--hold ringbuf` does without AF_XDP")]
    Socket {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A packet socket cannot be had.
    #[error("packet socket on {interface}: {step}: {source}; CAP_NET_RAW is needed")]
    Packet {
        /// The interface.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl DatapathError {
    /// True if the kernel or the driver has no AF_XDP, or not for us.
    pub(super) fn is_missing_support(&self) -> bool {
        let Self::Socket { source, .. } = self else { return false };
        matches!(
            source.raw_os_error(),
            Some(
                libc::EAFNOSUPPORT
                    | libc::EOPNOTSUPP
                    | libc::ENOPROTOOPT
                    | libc::EINVAL
                    | libc::EPERM
                    | libc::ENOBUFS
            )
        )
    }
}

//! The ABI shared by the XDP programs and the agent: modes, map names, settings, record layouts and counters.
//!
//! [`ABI_VERSION`] rises with every change of a layout or a meaning here; programs and agents of two versions
//! never share a map. All integers are in the byte order of the host.
#![no_std]

mod counter;
pub mod liveness;
pub mod tags;
pub mod translation;

pub use counter::Counter;
pub use translation::{MAP_TRANSLATING, MAP_TRANSLATIONS};

/// Version of everything in this crate. Part of the path under which maps are pinned.
pub const ABI_VERSION: u32 = 4;

/// Name of the program on the guest's interface: it sees what the guest says.
pub const GUEST_PROGRAM: &str = "colo_guest";
/// Name of the program on the uplink: it sees what clients say.
pub const UPLINK_PROGRAM: &str = "colo_uplink";

/// Array of one [`Mode`] word. Reads as [`Mode::Closed`] before the agent has written it.
pub const MAP_MODE: &str = "MODE";
/// Array of one [`Settings`].
pub const MAP_SETTINGS: &str = "SETTINGS";
/// Per-CPU array of [`Counter::COUNT`] 64-bit counters.
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Array of two 64-bit numbers: the next index of a captured and of a mirrored frame.
pub const MAP_INDICES: &str = "INDICES";
/// Device map of the two interfaces, see [`PORT_GUEST`] and [`PORT_UPLINK`].
pub const MAP_PORTS: &str = "PORTS";
/// AF_XDP sockets by receive queue of the guest's interface.
pub const MAP_HOLD_SOCKETS: &str = "HOLD_SOCKETS";
/// Ring buffer of guest output, for [`Hold::Ring`]. Records start with a [`RecordHeader`].
pub const MAP_HOLD_RING: &str = "HOLD_RING";
/// Ring buffer of copies of guest input. Records start with a [`RecordHeader`].
pub const MAP_MIRROR_RING: &str = "MIRROR_RING";
/// Array of one [`Deadman`], memory that the agent maps.
pub const MAP_DEADMAN: &str = "DEADMAN";

/// The maps that live on beyond an agent once they are pinned, all but scratch memory. Pinned under their names.
pub const PINNED_MAPS: [&str; 11] = [
    MAP_DEADMAN,
    MAP_MODE,
    MAP_SETTINGS,
    MAP_COUNTERS,
    MAP_INDICES,
    MAP_PORTS,
    MAP_HOLD_SOCKETS,
    MAP_HOLD_RING,
    MAP_MIRROR_RING,
    MAP_TRANSLATIONS,
    MAP_TRANSLATING,
];

/// Index of the guest's interface in [`MAP_PORTS`].
pub const PORT_GUEST: u32 = 0;
/// Index of the uplink in [`MAP_PORTS`].
pub const PORT_UPLINK: u32 = 1;
/// Index in [`MAP_INDICES`] of the number of guest frames that the programs tried to capture.
pub const INDEX_CAPTURED: u32 = 0;
/// Index in [`MAP_INDICES`] of the number of frames that the programs sent to the guest in protect mode.
pub const INDEX_MIRRORED: u32 = 1;

/// Receive queues per interface that are handled.
pub const QUEUES: u32 = 1;

/// What the programs do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Both directions are dropped.
    Closed = 0,
    /// Both directions go straight through.
    Pass = 1,
    /// Guest output is held for the agent; guest input goes on and is mirrored to the agent.
    Protect = 2,
    /// Guest output is held for the agent; the client network is shut out.
    Secondary = 3,
}

impl Mode {
    /// The mode of a word in [`MAP_MODE`], `None` for a word that means nothing.
    #[must_use]
    pub const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::Closed),
            1 => Some(Self::Pass),
            2 => Some(Self::Protect),
            3 => Some(Self::Secondary),
            _ => None,
        }
    }
}

/// Two deadlines that the programs apply by themselves, in the modes that let anything out: an agent that is frozen or gone
/// cannot. Each word is written by itself; all zero: no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Deadman {
    /// When the agent was last alive: `CLOCK_MONOTONIC`, in nanoseconds.
    pub stamp_ns: u64,
    /// In mode protect an agent whose stamp is older than this is overdue, and the policy holds. Nanoseconds; 0: never.
    pub limit_ns: u64,
    /// A [`DeadmanPolicy`] word.
    pub policy: u64,
    /// From then on both directions are dropped, whatever the policy, in the modes protect and pass: `CLOCK_BOOTTIME` (a
    /// lease runs on while its host sleeps), in nanoseconds; 0: never.
    pub lease_end_ns: u64,
}

/// What becomes of frames while the agent is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum DeadmanPolicy {
    /// Both directions are dropped.
    Closed = 0,
    /// Guest output goes straight through, uncompared: the secondary lacks it. Guest input is mirrored as ever.
    Open = 1,
}

/// Where held frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hold {
    /// To an AF_XDP socket: the frame itself, with a [`CaptureMeta`].
    Socket = 0,
    /// To a BPF ring buffer: a copy; the frame itself is dropped.
    Ring = 1,
}

/// What the programs need to know of the interfaces. Lengths are of whole frames without VLAN tag, Ethernet header
/// included, in bytes; one tag may come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// [`ABI_VERSION`] of the writer.
    pub abi: u32,
    /// A [`Hold`] word.
    pub hold: u32,
    /// Longest guest frame that can be held and released.
    pub hold_limit: u32,
    /// Longest frame that the uplink sends.
    pub uplink_limit: u32,
    /// Longest frame that the guest's interface takes.
    pub guest_limit: u32,
    /// 1: the uplink takes only frames for `guest_mac`, broadcast and multicast, and leaves the rest to the host.
    pub filter: u32,
    /// The guest's address.
    pub guest_mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 2],
}

/// First word of a [`CaptureMeta`]; the agent clears it in every buffer it gives to the kernel, so that only the
/// program can have put it there.
pub const CAPTURE_MAGIC: u32 = 0x434f_4c4f;

/// What the program says about a held frame. It lies directly below the frame, in the metadata area, or, where the
/// driver has none (tap before Linux 6.15), at the head of the frame itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CaptureMeta {
    /// `CLOCK_MONOTONIC` at capture, in nanoseconds.
    pub stamp_ns: u64,
    /// Low half of the capture's index: a gap is a frame lost after the program's verdict.
    pub index: u32,
    /// [`CAPTURE_MAGIC`].
    pub magic: u32,
}

/// Bytes of a [`CaptureMeta`].
pub const CAPTURE_META_LEN: usize = size_of::<CaptureMeta>();

/// Head of a record in [`MAP_MIRROR_RING`] or [`MAP_HOLD_RING`]; the frame follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC` at capture, in nanoseconds.
    pub stamp_ns: u64,
    /// Index of the frame in its direction; a gap is a copy that found no room.
    pub index: u64,
    /// Bytes of the frame. The record may be longer: records come in the [`RECORD_CLASSES`].
    pub len: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bytes of a [`RecordHeader`].
pub const RECORD_HEADER_LEN: usize = size_of::<RecordHeader>();

/// Frame bytes that a record has room for: `bpf_ringbuf_reserve` takes constants only.
pub const RECORD_CLASSES: [usize; 5] = [128, 512, 1536, 9216, 65_536];

/// Longest frame that any path here carries.
pub const MAX_FRAME: usize = 65_535;

#[cfg(test)]
mod tests;

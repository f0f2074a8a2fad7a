//! What the data path is told when it is attached.

use std::str::FromStr;

use super::deadman::AgentLimit;

/// Fewest frames that can be parked: enough for one burst of a guest.
pub const MIN_FRAMES: u32 = 256;
/// Most frames that can be parked: 2 GiB of 2 KiB buffers.
pub const MAX_FRAMES: u32 = 1 << 20;
/// Frames that can be parked unless told otherwise: 32 MiB of 2 KiB buffers.
pub const DEFAULT_FRAMES: u32 = 16_384;

/// Which replica runs on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that clients hear. Starts in mode protect: from the first frame on nothing slips by.
    Primary,
    /// The other one. Starts in mode secondary.
    Secondary,
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native; generic where the driver refuses, with a warning that carries the kernel's reason.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the generic path, on any interface.
    Skb,
}

impl FromStr for AttachMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "skb" => Ok(Self::Skb),
            _ => Err(format!("{word:?} is not an attach mode: auto, native or skb")),
        }
    }
}

/// Where held frames are parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldBackend {
    /// AF_XDP; a ring buffer where the kernel has none, with a warning that carries its reason.
    #[default]
    Auto,
    /// The frames of an AF_XDP socket, or nothing.
    Afxdp,
    /// Copies from a BPF ring buffer, released through a packet socket.
    Ringbuf,
}

impl FromStr for HoldBackend {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "afxdp" => Ok(Self::Afxdp),
            "ringbuf" => Ok(Self::Ringbuf),
            _ => Err(format!("{word:?} is not a hold backend: auto, afxdp or ringbuf")),
        }
    }
}

/// What the data path is told when it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The tap, or the host's end of the veth pair, behind which the guest lives.
    pub guest: String,
    /// The interface toward the client network.
    pub uplink: String,
    /// Which replica runs here.
    pub role: Role,
    /// How the programs are attached.
    pub attach: AttachMode,
    /// Where held frames are parked.
    pub hold: HoldBackend,
    /// Frames that can be parked, [`MIN_FRAMES`] to [`MAX_FRAMES`].
    pub frames: u32,
    /// With an address, the uplink takes frames for it, broadcast and multicast only, and leaves the rest to the host.
    /// Without one the uplink is the guest's alone.
    pub guest_mac: Option<[u8; 6]>,
    /// Real-time priority of the thread that attaches, which owns the data path from then on, while no streams pass: 1 to
    /// [`MAX_REALTIME`](super::MAX_REALTIME), or 0 for none.
    pub realtime: u8,
    /// What the programs do when the agent shows no sign of life. Without it they hold for an agent for ever.
    pub overdue: Option<AgentLimit>,
    /// Nothing leaves or enters but during a lease, which is set by [`Datapath::lease`](super::Datapath::lease).
    pub leased: bool,
}

impl Config {
    /// Configuration for two interfaces, all else as it is by default.
    #[must_use]
    pub fn new(role: Role, guest: &str, uplink: &str) -> Self {
        Self {
            guest: guest.to_owned(),
            uplink: uplink.to_owned(),
            role,
            attach: AttachMode::Auto,
            hold: HoldBackend::Auto,
            frames: DEFAULT_FRAMES,
            guest_mac: None,
            realtime: 0,
            overdue: None,
            leased: false,
        }
    }
}

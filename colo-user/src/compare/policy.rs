//! Waits, bounds and rules that an operator may choose.

use crate::wire::Vlans;
use std::net::IpAddr;
use std::time::Duration;

/// Named bounds. Reaching one asks for a checkpoint; none of them loses guest output.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most flows in the table.
    pub flows: usize,
    /// Frames of the primary held, or datagrams of the secondary unmatched, in one flow: beyond it a checkpoint is
    /// asked for, and nothing is dropped.
    pub queue: usize,
    /// Bytes of the secondary that the primary has not said yet, in one flow: beyond it a checkpoint is asked for
    /// and further bytes of the secondary are forgotten.
    pub ahead_bytes: usize,
    /// Bytes kept in one flow: beyond it those that both have said are forgotten although the client has not
    /// acknowledged them. A retransmission of them is compared anew.
    pub said_bytes: usize,
    /// Bytes kept over all flows: beyond it a flow keeps nothing that both have said, a checkpoint is asked for, and
    /// further bytes of the secondary are forgotten. Bytes of the primary are always kept: their frames are held.
    pub kept_bytes: usize,
    /// Datagrams of the secondary searched for an equal of one of the primary's.
    pub reorder_window: usize,
    /// Incomplete datagrams in reassembly, per side.
    pub reassemblies: usize,
    /// Bytes in reassembly, per side.
    pub reassembly_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 1 << 20,
            queue: 1024,
            ahead_bytes: 16 << 20,
            said_bytes: 4 << 20,
            kept_bytes: 512 << 20,
            reorder_window: 64,
            reassemblies: 1024,
            reassembly_bytes: 16 << 20,
        }
    }
}

/// Half of the client's SYNs that wait for the guest's answer and are remembered ([`Coverage::NewFlows`]), see
/// [`crate::recent`]. A SYN-ACK to one that was forgotten is taken for one of an older flow.
pub const OPENING: usize = 4096;

/// Which TCP flows are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All, also those first seen in mid-stream.
    All,
    /// Those whose SYN the guest says from now on, or its SYN-ACK to a client's SYN that comes from now on. The secondary cannot
    /// know older ones before a checkpoint has copied them to it: they are released and counted as unprotected.
    NewFlows,
}

/// What to wait for, and how long.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Shortest wait for a secondary that has not said what is held.
    pub wait_min: Duration,
    /// Longest such wait. Between the two it is what a checkpoint has lately cost.
    pub wait_max: Duration,
    /// Wait at least this long for an acknowledgement alone: a delayed ACK (RFC 9293 section 3.8.6.3 allows 500 ms,
    /// Linux takes up to 200).
    pub wait_ack: Duration,
    /// Wait at most this long when both sides of a flow have datagrams that do not match.
    pub wait_mismatch: Duration,
    /// How long a secondary may be ahead before that asks for a checkpoint; `None`: for ever. A FIN or RST that only
    /// the secondary says always asks, after the wait.
    pub late_primary: Option<Duration>,
    /// A flow that holds nothing and has said nothing for this long leaves the table.
    pub idle: Duration,
    /// The same once it is closed.
    pub closed: Duration,
    /// Fragments of the secondary that have waited this long for the rest are forgotten.
    pub reassembly: Duration,
    /// Let ARP requests and solicitations of the secondary out through the primary.
    pub emit_solicitations: bool,
    /// Most of them per second.
    pub emit_per_second: u32,
    /// Let the secondary's bare acknowledgements out while the primary's are held because they acknowledge more, and what
    /// it repeats of a segment that the primary said in one with more. Else a
    /// secondary that missed input which the primary has would never get it again: the client would have to hear where
    /// the secondary stands before it says it once more.
    pub emit_acknowledgements: bool,
    /// Let segments out with the receive window that both guests take.
    pub narrow_windows: bool,
    /// Which TCP flows are compared.
    pub coverage: Coverage,
    /// Frames released at once.
    pub bypass: Vec<Bypass>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            wait_min: Duration::from_millis(20),
            wait_max: Duration::from_millis(3000),
            wait_ack: Duration::from_millis(250),
            wait_mismatch: Duration::from_millis(500),
            late_primary: None,
            idle: Duration::from_secs(300),
            closed: Duration::from_secs(5),
            reassembly: Duration::from_secs(5),
            emit_solicitations: false,
            emit_per_second: 50,
            emit_acknowledgements: false,
            narrow_windows: false,
            coverage: Coverage::All,
            bypass: Vec::new(),
        }
    }
}

/// A rule for frames that are released without comparison. All that is set must match; ports and addresses match on
/// either end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Address of either end.
    pub address: Option<IpAddr>,
    /// Port of either end.
    pub port: Option<u16>,
    /// One of the frame's VLAN ids.
    pub vlan: Option<u16>,
}

impl Bypass {
    /// Whether a frame with these properties is to be let through.
    #[must_use]
    pub fn matches(&self, protocol: u8, ends: [(IpAddr, u16); 2], vlans: Vlans) -> bool {
        self.protocol.is_none_or(|p| p == protocol)
            && self.vlan.is_none_or(|id| vlans.ids().any(|v| v == id))
            && ends.iter().any(|&(address, port)| {
                self.address.is_none_or(|a| a == address) && self.port.is_none_or(|p| p == port)
            })
    }
}

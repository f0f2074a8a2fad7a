//! Probes of a host's liveness, answered by XDP on the interface that they come in by: the kernel says when the agent was
//! last alive, also while the agent itself says nothing.
//!
//! A probe is a UDP datagram, IPv4 without options or IPv6 without extension headers, untagged, to a port that an agent has put into
//! [`MAP_STAMPS`], with a [`Probe`] as its payload. It is turned around in place: addresses and ports swapped, [`ANSWER`], age and
//! boot filled in, checksums made anew. Everything else on the interface goes on as if there were no program.

/// Name of the program.
pub const PROGRAM: &str = "colo_answer";
/// Hash map from a UDP port, in network byte order, to a [`Stamp`].
pub const MAP_STAMPS: &str = "STAMPS";
/// Most ports: agents on one host that share the interface.
pub const MAX_STAMPS: u32 = 256;
/// First bytes of a probe.
pub const MAGIC: [u8; 4] = *b"COLP";
/// Version of the layout.
pub const VERSION: u8 = 1;
/// A question.
pub const QUESTION: u8 = 0;
/// Its answer.
pub const ANSWER: u8 = 1;

/// What an agent writes while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub stamp_ns: u64,
    /// Drawn when the agent started.
    pub boot: u64,
}

/// The payload, numbers in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Probe {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: u8,
    /// [`QUESTION`] or [`ANSWER`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Chosen by who asks, and given back.
    pub nonce: [u8; 8],
    /// Nanoseconds since the agent's stamp; zero in a question.
    pub age: [u8; 8],
    /// Boot of the agent; zero in a question.
    pub boot: [u8; 8],
}

/// Bytes of a [`Probe`].
pub const LEN: usize = size_of::<Probe>();

//! The translation map: what must be added to the numbers of a flow, and what the programs remember of it.
//!
//! The agent's state machine (`translate`, in user space) writes it; the programs apply it in the modes pass and
//! protect, finish a handshake whose other end is gone, and note how far a close has come. They never remove an entry: the
//! agent does. Without a lock each word has one writer: `colo_guest` those of the guest's side, `colo_uplink` those of the
//! peer's. The exceptions are written when the other side is silent: [`FlowEntry::drift`] with
//! [`FlowEntry::handshake`] by the acknowledgement that the guest waits for, and everything by a SYN of the guest with
//! another initial number.

use crate::tags::MAX_TAGS;

/// Hash map from [`FlowKey`] to [`FlowEntry`], at most [`MAX_FLOWS`], nobody evicted.
pub const MAP_TRANSLATIONS: &str = "TRANSLATIONS";
/// Array of one [`Translating`].
pub const MAP_TRANSLATING: &str = "TRANSLATING";

/// Most flows in [`MAP_TRANSLATIONS`]: as many as the agent's own table holds.
pub const MAX_FLOWS: u32 = 262_144;

/// Bytes of a frame that the programs look at for a TCP header or the quote of one. A frame whose IPv6 extension headers
/// reach beyond cannot be translated.
pub const WINDOW: usize = 512;

/// [`FlowKey::family`] of IPv4.
pub const FAMILY_V4: u16 = 4;
/// [`FlowKey::family`] of IPv6.
pub const FAMILY_V6: u16 = 6;

/// Name of a flow. Ports and tags are numbers, addresses bytes as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey {
    /// The guest's address; IPv4 in the first 4 bytes, the rest zero.
    pub guest: [u8; 16],
    /// The other side's address, likewise.
    pub peer: [u8; 16],
    /// The guest's port.
    pub guest_port: u16,
    /// The other side's port.
    pub peer_port: u16,
    /// Words of the tags, outermost first, see [`crate::tags`].
    pub vlans: [u16; MAX_TAGS],
    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    pub family: u16,
    /// Zero.
    pub reserved: u16,
}

/// The difference between two number spaces, modulo 2^32: what to *subtract* from the guest's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NumberDelta {
    /// Of sequence numbers.
    pub seq: u32,
    /// Of timestamps.
    pub ts: u32,
}

/// In [`FlowEntry::handshake`]: the drift is known.
pub const KNOWN: u32 = 0;
/// In [`FlowEntry::handshake`]: the guest has said its initial numbers; the first acknowledgement will tell the peer's idea
/// of them.
pub const PENDING: u32 = 1;
/// In [`FlowEntry::handshake`]: the primary's guest had said initial numbers, this guest has not. The drift is the former
/// connection's.
pub const TOLD: u32 = 2;

/// Bits of [`FlowEntry::guest_flags`]: which words of the guest's side say something, and how far the flow is.
pub mod guest {
    /// `own_isn`.
    pub const OWN: u32 = 1;
    /// `own_tsval`.
    pub const OWN_TSVAL: u32 = 1 << 1;
    /// `expects`.
    pub const EXPECTS: u32 = 1 << 2;
    /// The guest's SYN carried data.
    pub const OWN_DATA: u32 = 1 << 3;
    /// `last_tsval`.
    pub const LAST: u32 = 1 << 4;
    /// `said`.
    pub const SAID: u32 = 1 << 5;
    /// `again_from` and `again_tsval`.
    pub const AGAIN: u32 = 1 << 6;
    /// `guest_floor`.
    pub const FLOOR: u32 = 1 << 7;
    /// The guest has spoken after its handshake.
    pub const ESTABLISHED: u32 = 1 << 8;
    /// `guest_fin`.
    pub const FIN: u32 = 1 << 9;
    /// The guest has acknowledged exactly the peer's FIN.
    pub const PEER_CLOSED: u32 = 1 << 10;
    /// The guest has reset the connection or begun another one: frames pass as if there were no entry.
    pub const GONE: u32 = 1 << 11;
    /// `told_tsval`.
    pub const TOLD_TSVAL: u32 = 1 << 12;
}

/// Bits of [`FlowEntry::peer_flags`]: likewise, of the peer's side.
pub mod peer {
    /// `peer_floor`.
    pub const FLOOR: u32 = 1;
    /// The peer has acknowledged the handshake.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// `peer_fin`.
    pub const FIN: u32 = 1 << 2;
    /// The peer has acknowledged exactly the guest's FIN.
    pub const GUEST_CLOSED: u32 = 1 << 3;
}

/// One flow's translation. A word without its bit in the flags of its side says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowEntry {
    /// When the guest last said something, `CLOCK_MONOTONIC`, nanoseconds.
    pub guest_seen_ns: u64,
    /// When the peer last acknowledged something.
    pub peer_seen_ns: u64,
    /// Guest to wire.
    pub base: NumberDelta,
    /// Secondary to primary.
    pub drift: NumberDelta,
    /// [`KNOWN`], [`PENDING`] or [`TOLD`].
    pub handshake: u32,
    /// Bits of [`guest`].
    pub guest_flags: u32,
    /// Bits of [`peer`].
    pub peer_flags: u32,
    /// The guest's initial number, guest space.
    pub own_isn: u32,
    /// TSval of the same segment.
    pub own_tsval: u32,
    /// What the guest's SYN-ACK acknowledged: where the peer's first acknowledgement begins.
    pub expects: u32,
    /// The primary's initial number, wire space.
    pub told_isn: u32,
    /// TSval of the same segment.
    pub told_tsval: u32,
    /// The last TSval that the guest said, guest space.
    pub last_tsval: u32,
    /// The last TSval let out, wire space.
    pub guest_floor: u32,
    /// The last TSval that the peer echoed, wire space.
    pub peer_floor: u32,
    /// The end of what the guest has said, guest space.
    pub said: u32,
    /// Where the guest last said something again, guest space.
    pub again_from: u32,
    /// TSval of the same segment, guest space.
    pub again_tsval: u32,
    /// End of the guest's FIN, guest space.
    pub guest_fin: u32,
    /// End of the peer's FIN.
    pub peer_fin: u32,
}

/// Whether there is anything to translate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Translating {
    /// Until when a handshake that the guest begins may be one that the peer already has from the primary, so that
    /// its first acknowledgement is to be believed; `CLOCK_MONOTONIC`, nanoseconds.
    pub grace_end_ns: u64,
    /// 0: the map is empty and no frame is looked at.
    pub active: u32,
    /// Zero.
    pub reserved: u32,
}

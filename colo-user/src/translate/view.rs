//! One flow's translation as others see it, and as the BPF map of the data path holds it.

use super::entry::Delta;
use super::flow::Flow;

/// How far a flow's handshake is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The drift is known.
    Known,
    /// This guest has said its initial numbers, guest space; the primary's are not known.
    Pending {
        /// Initial sequence number.
        isn: u32,
        /// TSval, 0 if there is none.
        tsval: u32,
    },
    /// The primary has said initial numbers, wire space; this guest has not. The drift is the former connection's.
    Told {
        /// Initial sequence number.
        isn: u32,
        /// TSval, 0 if there is none.
        tsval: u32,
    },
}

/// One flow's translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// The key.
    pub flow: Flow,
    /// Guest to wire.
    pub base: Delta,
    /// Secondary to primary.
    pub drift: Delta,
    /// What is known of the handshake.
    pub handshake: Handshake,
    /// What was seen of the connection so far.
    pub progress: Progress,
}

/// The initial numbers of this guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnInitial {
    /// Initial sequence number.
    pub isn: u32,
    /// TSval of the same segment.
    pub tsval: Option<u32>,
    /// For a SYN-ACK: what it acknowledges, which is where the client's first acknowledgement begins.
    pub expects: Option<u32>,
    /// The SYN carried data (RFC 7413): its acknowledgement does not tell the initial number.
    pub data: bool,
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// This guest's initial numbers.
    pub own: Option<OwnInitial>,
    /// The last TSval that the guest said, guest space.
    pub last_tsval: Option<u32>,
    /// The last TSval that the client is known to have got, wire space.
    pub floor: Option<u32>,
    /// The end of what the guest has said, guest space.
    pub said: Option<u32>,
    /// The last time that the guest said something again: where that began, and its TSval; guest space.
    pub again: Option<(u32, u32)>,
    /// The handshake is over.
    pub established: bool,
    /// End of the guest's FIN, guest space.
    pub guest_fin: Option<u32>,
    /// The client has acknowledged exactly that.
    pub guest_closed: bool,
    /// End of the peer's FIN.
    pub peer_fin: Option<u32>,
    /// The guest has acknowledged exactly that.
    pub peer_closed: bool,
}

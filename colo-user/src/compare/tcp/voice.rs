//! What one guest has said in one incarnation, apart from the bytes themselves.

use super::ranges::RangeSet;
use crate::wire::Seq;

/// Which guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The primary's.
    Primary,
    /// The secondary's.
    Secondary,
}

impl Side {
    /// The other guest.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

/// What one guest has said.
#[derive(Clone, Default)]
pub struct Voice {
    /// The initial number of its SYN or SYN-ACK.
    pub initial: Option<Seq>,
    /// Payload bytes, in the version that is kept in [`bytes`](super::incarnation::Incarnation::bytes).
    pub said: RangeSet,
    /// Whether it has sent an RST.
    pub rst: bool,
    /// The highest acknowledgement number it has sent.
    pub ack: Option<Seq>,
    /// The same, as the distance from [`acks_from`](super::incarnation::Incarnation::acks_from).
    pub acked: Option<i64>,
    /// The anchor from which its sequence numbers are unwrapped: its highest offset.
    pub recent: i64,
    /// The lowest offset at which it has sent anything but a SYN or RST.
    pub low: Option<i64>,
    /// The end of the highest byte it has said.
    pub high: Option<i64>,
}

impl Voice {
    /// Whether this guest has said anything in this incarnation.
    #[must_use]
    pub const fn spoke(&self) -> bool {
        self.initial.is_some() || self.low.is_some() || self.rst
    }

    /// Whether this guest has acknowledged as much.
    #[must_use]
    pub fn owns(&self, ack: Seq) -> bool {
        self.ack.is_some_and(|owned| !ack.after(owned))
    }
}

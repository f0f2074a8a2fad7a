//! The comparator: holds what the primary's guest says until the secondary's has said it too.
//!
//! A frame of the primary's guest comes in with a [`Token`] that stands for the frame wherever it is parked. The
//! comparator reads it once, keeps what it must remember, and later hands the token back in an [`Action`]: released,
//! or dropped. Frames of the secondary's guest are only read. Nothing here owns a socket, a clock or a thread:
//! input and `now` go in, actions come out, and [`Comparator::next_deadline`] says when to call
//! [`Comparator::tick`] at the latest.
//!
//! The life of a frame, by file: [`classify`] says what it is and which flow ([`key`]) it belongs to, [`fragments`] puts
//! datagrams together, then one of `tcp` (two byte streams in the client's sequence space) or `datagram`
//! (everything that comes in units) decides. `flows` is the table they live in, [`policy`] the limits and waits,
//! [`divergence`] what is reported, [`counters`] what is counted. [`gaps`] and [`lacking`] are for captures that cut
//! frames short.
//!
//! States of a held frame: *held* until everything it says has been said by the secondary, then *released* in the
//! order in which its flow was captured. A *divergence* asks for a checkpoint and leaves the frame held;
//! [`Comparator::checkpoint`], called once the secondary owns the primary's state, releases all of it.

pub mod classify;
pub mod counters;
pub mod divergence;
pub mod fragments;
pub mod gaps;
pub mod key;
pub mod lacking;
pub mod policy;

mod comparator;
mod context;
mod datagram;
mod flows;
mod tcp;

#[cfg(test)]
mod rig;

pub use classify::{Class, FlowKey};
pub use comparator::Comparator;
pub use counters::Counters;
pub use divergence::{Cause, Divergence, DivergenceKind};
pub use policy::{Bypass, Coverage, Limits, Policy};

/// Stands for one frame of the primary's guest wherever the shell has parked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The frame, a whole TCP segment, is to leave with this window instead of its own: its release follows. Only if
    /// [`Policy::narrow_windows`] is set.
    Window(Token, u16),
    /// Let the frame out to the client.
    Release(Token),
    /// The frame must never leave (an unmatched ICMP error after its wait): return its buffer.
    Drop(Token),
    /// Ask for a checkpoint. Requests are to be coalesced while one runs.
    Checkpoint(Box<Cause>),
    /// Let this frame of the *secondary's* guest out too: an ARP request or a solicitation, so that the answer
    /// reaches both (already limited in rate; only if [`Policy::emit_solicitations`] is set), or a bare
    /// acknowledgement (only if [`Policy::emit_acknowledgements`] is set).
    Emit(Vec<u8>),
}

//! The Advanced Watch Dog: is whoever is at the other end of a stream still alive, and if not, say so once.
//!
//! Compatible with the `advanced-watchdog` object that was proposed for QEMU (never merged), which can be the peer. Frames are
//! those of [`crate::link::chardev`], without a virtio-net header; their bodies are texts that end with a zero byte:
//!
//! | sent | body |
//! |---|---|
//! | by both sides, each interval | [`PULSE`], 24 bytes |
//! | by the side without `server`, to each frame that is no reply | [`REPLY`], 30 bytes |
//!
//! Any frame is a sign of life, whatever it says. Where the original is weak this one is not: its timer runs from the start, so
//! that a peer that never comes is missed too, it is told the monotonic time, which goes on while a VM is stopped, and
//! what it has to say to a notification node that is not there waits for it. A reply is not answered: two peers
//! without `server` would otherwise answer each other without end.
//!
//! [`machine`] is the whole of it without sockets and clocks.

pub mod machine;

pub use machine::{Action, Machine, PeerId, Settings, State};

/// What both sides say each interval.
pub const PULSE: &[u8] = b"advanced-watchdog pulse\0";

/// What the side without `server` answers.
pub const REPLY: &[u8] = b"advanced-watchdog reply pulse\0";

const _: () = assert!(PULSE.len() == 24 && REPLY.len() == 30);

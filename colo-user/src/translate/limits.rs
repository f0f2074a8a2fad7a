//! Bounds, times and counters.

use std::time::Duration;

/// Maximum segment lifetime. RFC 9293 suggests two minutes; today's stacks hold TIME-WAIT, which is 2 MSL, for 60 s
/// or less.
pub const MSL: Duration = Duration::from_secs(30);

/// How long a handshake may stand still before both guests have given it up. Linux says a SYN for the last time
/// after 63 s and gives up 64 s later.
pub const EMBRYONIC: Duration = Duration::from_secs(130);

/// How long a flow that needs no translation is remembered when idle: past its handshake it is not needed.
pub const ZERO_IDLE: Duration = Duration::from_secs(180);

/// How long after a takeover the first acknowledgement still teaches the primary's initial number: the primary may
/// have let out a SYN-ACK whose number the link lost. Later on, nobody but the guest answers for its handshakes, and
/// accepting any acknowledgement would let an off-path sender complete them.
pub const TAKEOVER_GRACE: Duration = Duration::from_secs(3);

/// How far beyond the guest's last TSval the client may echo one, because this guest lags behind the primary: ticks,
/// 17 minutes of a millisecond clock, a second of a microsecond clock.
pub const ECHO_SLACK: i32 = 1 << 20;

/// Most frames of one flow kept for its delta.
pub const KEPT_PER_FLOW: usize = 32;

/// Most bytes of a flow's entry, key included.
pub const FLOW_BYTES: usize = 232;

/// Bounds of what the translator remembers. A flow takes [`FLOW_BYTES`] besides the slack of the hash table (at most as
/// much again), 64 bytes in the queue of deadlines and the frames kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows. Beyond it a SYN or SYN-ACK does not get through until a checkpoint, which is asked for.
    pub flows: usize,
    /// Frames kept, of all flows. Beyond it the newest is dropped: its sender says it again.
    pub kept_frames: usize,
    /// Bytes of kept frames, likewise.
    pub kept_bytes: usize,
    /// Datagrams being put together from fragments. Beyond it the newest fragment is dropped.
    pub reassemblies: usize,
    /// Bytes of fragments kept, likewise.
    pub reassembly_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 262_144,
            kept_frames: 4_096,
            kept_bytes: 8 << 20,
            reassemblies: 64,
            reassembly_bytes: 4 << 20,
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since start. Frames unless said otherwise.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All of them under their interface names.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((concat!("translate_", stringify!($name)), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames of the guest translated.
    output_translated,
    /// Frames toward the guest translated.
    input_translated,
    /// ICMP errors whose quote was translated, both ways.
    quotes_translated,
    /// ICMP errors dropped because the quoted flow's delta is not known.
    quotes_dropped,
    /// TSvals raised to the last one that the client has got.
    timestamps_raised,
    /// Flows learned from what the primary's agent told.
    learned_told,
    /// Flows learned from the first acknowledgement of the handshake.
    learned_acknowledgement,
    /// Frames kept until their flow's delta is known.
    kept,
    /// Frames dropped instead: a bound was reached.
    kept_overflow,
    /// Kept frames dropped at an epoch cut, with their flow, or with the connection they belonged to.
    kept_forgotten,
    /// SYNs and SYN-ACKs dropped, and primary's initial numbers not remembered, because the table was full.
    table_full,
    /// Frames dropped because their signature forbids translation.
    refused,
    /// Fragments of TCP segments kept for the rest of their datagram.
    fragments_kept,
    /// Fragments dropped: a bound was reached, they overlap, or the rest never came.
    fragments_dropped,
    /// Flows forgotten: closed, reset by the guest, a handshake given up, or idle without a delta.
    flows_expired,
    /// Epoch cuts.
    epoch_cuts,
}

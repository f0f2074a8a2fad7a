//! What one host's agent tells the other's: the initial numbers of a connection that the primary's guest begins
//! or accepts, and the translation that a surviving host carries on.

use super::entry::Delta;
use super::flow::{DecodeError, Direction, Flow};
use super::segment::{Located, locate};
use crate::wire::TcpFlags;
use colo_ebpf::tags::MAX_TAGS;

/// The initial numbers that the primary's guest said in a SYN or SYN-ACK, in wire space.
///
/// The primary's agent makes one of *every* SYN and SYN-ACK it captures, said again or not, and tells it on the
/// link before that frame may be released: then the secondary always knows it before the first answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedInitial {
    /// The connection.
    pub flow: Flow,
    /// Initial sequence number.
    pub primary_isn: u32,
    /// TSval of the same segment (RFC 7323), if it has one.
    pub primary_tsval: Option<u32>,
}

/// The translation of one flow that a guest brings along in its state: what a host that once took over sends to
/// its new secondary with the epoch cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The connection.
    pub flow: Flow,
    /// Guest minus wire.
    pub delta: Delta,
    /// The guest's own initial number, if known: a SYN or SYN-ACK with another one begins a new connection.
    pub guest_isn: Option<u32>,
}

const FLAG_OPTIONAL: u8 = 0x02;

impl LearnedInitial {
    /// Most bytes that [`LearnedInitial::encode`] appends.
    pub const MAX_ENCODED: usize = 1 + 2 * MAX_TAGS + 32 + 4 + 8;

    /// Appends the link's form: flags, tags, addresses, ports, initial number, TSval; big-endian, 17 to 53
    /// bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.flow.encode(if self.primary_tsval.is_some() { FLAG_OPTIONAL } else { 0 }, out);
        out.extend(self.primary_isn.to_be_bytes());
        out.extend(self.primary_tsval.into_iter().flat_map(u32::to_be_bytes));
    }

    /// Reads what [`LearnedInitial::encode`] wrote; `bytes` is exactly one message.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (flow, flags, rest) = Flow::decode(bytes, FLAG_OPTIONAL, |flags| if flags == 0 { 4 } else { 8 })?;
        Ok(Self { flow, primary_isn: word(rest, 0), primary_tsval: (flags != 0).then(|| word(rest, 4)) })
    }
}

impl Base {
    /// Most bytes that [`Base::encode`] appends.
    pub const MAX_ENCODED: usize = 1 + 2 * MAX_TAGS + 32 + 4 + 12;

    /// Appends the link's form: as [`LearnedInitial::encode`], with the two deltas, then the guest's initial number.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.flow.encode(if self.guest_isn.is_some() { FLAG_OPTIONAL } else { 0 }, out);
        out.extend(self.delta.seq.to_be_bytes());
        out.extend(self.delta.ts.to_be_bytes());
        out.extend(self.guest_isn.into_iter().flat_map(u32::to_be_bytes));
    }

    /// Reads what [`Base::encode`] wrote; `bytes` is exactly one message.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (flow, flags, rest) =
            Flow::decode(bytes, FLAG_OPTIONAL, |flags| if flags == 0 { 8 } else { 12 })?;
        let delta = Delta { seq: word(rest, 0), ts: word(rest, 4) };
        Ok(Self { flow, delta, guest_isn: (flags != 0).then(|| word(rest, 8)) })
    }
}

fn word(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// The initial numbers in a frame of the primary's guest (already in wire space), if it is a SYN or a SYN-ACK.
#[must_use]
pub fn initial_of(frame: &[u8]) -> Option<LearnedInitial> {
    let Located::Tcp(segment) = locate(frame, Direction::Output) else {
        return None;
    };
    let begins = segment.flags.has(TcpFlags::SYN) && !segment.flags.has(TcpFlags::RST);
    begins.then(|| LearnedInitial {
        flow: segment.flow,
        primary_isn: segment.seq.0,
        primary_tsval: segment.timestamps.map(|t| t.value),
    })
}

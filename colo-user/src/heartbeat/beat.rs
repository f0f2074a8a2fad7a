//! One beat: what it says, and its bytes.
//!
//! A datagram, all integers big-endian, in this order: magic `COLB`, version (1 byte), flags (1), length of the pair's name (1),
//! zero (1), boot (8), sequence number (8), sent (8), echo (8), held (8), heard boot (8), term (8), the pair's name.

use thiserror::Error;

use crate::judge::{MAX_PAIR, Pair};

/// First bytes of a beat.
pub const MAGIC: [u8; 4] = *b"COLB";
/// Version of the layout: another one is refused.
pub const VERSION: u8 = 1;
/// Bytes before the pair's name.
pub const FIXED: usize = 64;
/// Longest beat.
pub const MAX_LEN: usize = FIXED + MAX_PAIR;

const PRIMARY: u8 = 1;
const PAUSED: u8 = 1 << 1;
const CLOSED: u8 = 1 << 2;
const PROMOTABLE: u8 = 1 << 3;
const CARRIER: u8 = 1 << 4;

/// What an agent says of itself with each beat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// It is the primary.
    pub primary: bool,
    /// Its guest stands still for a checkpoint.
    pub paused: bool,
    /// A primary that lets nothing out any more in this term, and has dropped what it held.
    pub closed: bool,
    /// A secondary that could take over at once.
    pub promotable: bool,
    /// Its uplink is there, up, has its program and its carrier.
    pub carrier: bool,
    /// The term of the protection; 0 for none.
    pub term: u64,
}

impl Condition {
    /// As one byte, without the term.
    #[must_use]
    pub fn flags(self) -> u8 {
        let flag = |set, bit| if set { bit } else { 0 };
        flag(self.primary, PRIMARY)
            | flag(self.paused, PAUSED)
            | flag(self.closed, CLOSED)
            | flag(self.promotable, PROMOTABLE)
            | flag(self.carrier, CARRIER)
    }

    /// Of [`Self::flags`].
    #[must_use]
    pub const fn of(flags: u8, term: u64) -> Self {
        Self {
            primary: flags & PRIMARY != 0,
            paused: flags & PAUSED != 0,
            closed: flags & CLOSED != 0,
            promotable: flags & PROMOTABLE != 0,
            carrier: flags & CARRIER != 0,
            term,
        }
    }
}

/// See the module. Times are nanoseconds of the clock of whoever set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Drawn when the agent started.
    pub boot: u64,
    /// From 1, by link.
    pub seq: u64,
    /// When it was sent.
    pub sent: u64,
    /// `sent` of the last beat that came over this link; 0 for none.
    pub echo: u64,
    /// How long ago that one came.
    pub held: u64,
    /// The boot of the agent that said it.
    pub heard_boot: u64,
    /// What the agent says of itself.
    pub condition: Condition,
}

/// Why a datagram is no beat of this pair.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Too short, too long, or another magic.
    #[error("{0} bytes that are no heartbeat")]
    Foreign(usize),
    /// Of another layout.
    #[error(
        "heartbeat of version {got}, this build speaks {VERSION}: run the same colo release on both hosts"
    )]
    Version {
        /// The version that came.
        got: u8,
    },
    /// Of another pair.
    #[error(
        "heartbeat of pair `{0}`: give both agents of a VM the same --pair, and each VM ports of its own"
    )]
    Pair(String),
}

impl Beat {
    /// Appends its bytes.
    pub fn encode(&self, pair: &Pair, out: &mut Vec<u8>) {
        let name = pair.as_str().as_bytes();
        // A name has at most MAX_PAIR bytes.
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.condition.flags(), length, 0]);
        let numbers =
            [self.boot, self.seq, self.sent, self.echo, self.held, self.heard_boot, self.condition.term];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        out.extend_from_slice(name);
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// It is no beat, or none of `pair`.
    pub fn decode(bytes: &[u8], pair: &Pair) -> Result<Self, DecodeError> {
        let foreign = || DecodeError::Foreign(bytes.len());
        let (head, rest) = bytes.split_at_checked(8).ok_or_else(foreign)?;
        let (numbers, name) = rest.split_at_checked(FIXED - 8).ok_or_else(foreign)?;
        if head[..4] != MAGIC {
            return Err(foreign());
        }
        if head[4] != VERSION {
            return Err(DecodeError::Version { got: head[4] });
        }
        if name.len() != usize::from(head[6]) {
            return Err(foreign());
        }
        if name != pair.as_str().as_bytes() {
            return Err(DecodeError::Pair(name.escape_ascii().to_string()));
        }
        let mut values = [0; (FIXED - 8) / 8];
        for (value, bytes) in values.iter_mut().zip(numbers.as_chunks::<8>().0) {
            *value = u64::from_be_bytes(*bytes);
        }
        let [boot, seq, sent, echo, held, heard_boot, term] = values;
        let condition = Condition::of(head[5], term);
        Ok(Self { boot, seq, sent, echo, held, heard_boot, condition })
    }
}

#[cfg(test)]
mod tests;

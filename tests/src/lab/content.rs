//! Content that is a function of a seed and an offset, and the check of what arrived against it.
//!
//! Both replicas, and the client that checks them, make the same bytes without ever having exchanged them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Bytes produced or consumed at a time.
pub const CHUNK: usize = 64 << 10;

/// Fills `buffer` with the bytes of stream `seed` from `offset` on: SplitMix64 (Steele, Lea, Flood 2014) over
/// the index of each 8-byte word, so that any part can be made alone.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let word = |index: u64| {
        let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let skip = (offset % 8) as usize;
    let lead = if skip == 0 { 0 } else { (8 - skip).min(buffer.len()) };
    let (head, tail) = buffer.split_at_mut(lead);
    head.copy_from_slice(&word(offset / 8)[skip..skip + lead]);
    for (index, chunk) in (offset.div_ceil(8)..).zip(tail.chunks_mut(8)) {
        chunk.copy_from_slice(&word(index)[..chunk.len()]);
    }
}

/// The first `length` bytes of stream `seed`, for what is small.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    fill(seed, 0, &mut buffer);
    buffer
}

/// The SHA-256 of the first `length` bytes of stream `seed`, in hexadecimal.
pub fn hash(seed: u64, length: u64) -> String {
    let mut check = Check::new();
    let mut buffer = vec![0; CHUNK];
    while check.length < length {
        let part = (length - check.length).min(CHUNK as u64) as usize;
        fill(seed, check.length, &mut buffer[..part]);
        check.update(&buffer[..part]);
    }
    check.hash()
}

/// What arrived is not what was asked for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    /// Too few or too many bytes.
    #[error("{got} bytes arrived where {expected} were due")]
    Length {
        /// Bytes that arrived.
        got: u64,
        /// Bytes that were due.
        expected: u64,
    },
    /// Other bytes.
    #[error("SHA-256 is {got}, not {expected}, over {length} bytes")]
    Hash {
        /// Hash of what arrived.
        got: String,
        /// Hash of what was due.
        expected: String,
        /// Bytes covered by both.
        length: u64,
    },
}

/// Hashes a stream as it arrives.
#[derive(Debug, Default)]
pub struct Check {
    hasher: Sha256,
    length: u64,
}

impl Check {
    /// A check that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes that arrived.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The hash of all that was taken, in hexadecimal.
    pub fn hash(self) -> String {
        self.hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all that is written");
            text
        })
    }

    /// Compares with the first `length` bytes of stream `seed`.
    pub fn against(self, seed: u64, length: u64) -> Result<(), Mismatch> {
        if self.length != length {
            return Err(Mismatch::Length { got: self.length, expected: length });
        }
        let (got, expected) = (self.hash(), hash(seed, length));
        if got == expected { Ok(()) } else { Err(Mismatch::Hash { got, expected, length }) }
    }
}

#[cfg(test)]
mod tests;

//! The Internet checksum: RFC 1071 sums, RFC 1624 incremental updates.
//!
//! A [`Sum`] is the running one's-complement sum of big-endian 16-bit words; the value stored in a header is its
//! complement. The two are different types of thing, so [`Sum::stored`] is the only way from one to the other.

/// A running one's-complement sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds `bytes`, which start on an even offset; an odd last byte is padded with zero (RFC 1071 section 1).
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut quads = bytes.chunks_exact(4);
        for q in &mut quads {
            self.0 += u64::from(u32::from_be_bytes([q[0], q[1], q[2], q[3]]));
        }
        let rest = quads.remainder();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_be_bytes(last));
        self
    }

    /// Adds one word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1) of a transport datagram of `len` bytes.
    /// `src` and `dst` are 4 or 16 bytes each.
    #[must_use]
    pub fn pseudo_header(self, src: &[u8], dst: &[u8], protocol: u8, len: u32) -> Self {
        let sum = self.bytes(src).bytes(dst);
        Self(sum.0 + u64::from(len) + u64::from(protocol))
    }

    /// The sum folded to 16 bits.
    #[must_use]
    pub const fn folded(self) -> u16 {
        let mut s = self.0;
        while s > 0xffff {
            s = (s & 0xffff) + (s >> 16);
        }
        // Folded above to at most 16 bits.
        s as u16
    }

    /// The value that a header carries: the complement of the folded sum.
    #[must_use]
    pub const fn stored(self) -> u16 {
        !self.folded()
    }
}

/// The stored checksum after the 16-bit word `old` that it covers became `new` (RFC 1624 equation 3).
#[must_use]
pub const fn update16(stored: u16, old: u16, new: u16) -> u16 {
    !Sum(!stored as u64 + !old as u64 + new as u64).folded()
}

/// The stored checksum after the 32-bit value `old` that it covers became `new`. `odd` says that the value starts
/// on an odd offset, as TCP options may: then each word's bytes are swapped in the sum.
#[must_use]
pub const fn update32(stored: u16, old: u32, new: u32, odd: bool) -> u16 {
    let (old, new) = if odd { (old.rotate_left(8), new.rotate_left(8)) } else { (old, new) };
    let s = update16(stored, (old >> 16) as u16, (new >> 16) as u16);
    update16(s, old as u16, new as u16)
}

#[cfg(test)]
mod tests;

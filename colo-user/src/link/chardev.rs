//! QEMU's packet framing on character devices, as its netfilters and colo-compare speak it.
//!
//! A frame is `u32` length, with `vnet_hdr_support` a second `u32` with the length of the virtio-net header, and then
//! `length` bytes: the virtio-net header, if there is one, and the Ethernet frame. Both numbers are big endian. There
//! is no magic and no checksum, so a stream that announces an impossible length cannot be brought back into step: its
//! connection is closed.

use thiserror::Error;

/// The longest frame that QEMU sends or takes, virtio-net header included: 64 KiB and one page.
pub const MAX_FRAME: usize = 69_632;

/// The longest virtio-net header there is (`virtio_net_hdr_v1_hash`).
pub const MAX_VNET_HEADER: usize = 20;

/// The most bytes one frame takes on the wire.
pub const MAX_ON_WIRE: usize = MAX_FRAME + 8;

/// The peer announced a frame longer than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a frame of {length} bytes was announced, legal are 0 to {MAX_FRAME}; check that both ends agree on vnet_hdr_support"
)]
pub struct Oversized {
    /// The length announced.
    pub length: u32,
}

/// Which of the two forms a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Frames carry the length of a virtio-net header.
    pub vnet_header: bool,
}

/// Where the parts of one frame lie in the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes on the wire, lengths included.
    pub total: usize,
    /// Where the bytes after the lengths begin.
    pub body: usize,
    /// Where the Ethernet frame begins. It ends at `total`.
    pub ethernet: usize,
}

impl Framing {
    /// Bytes in front of the body.
    #[must_use]
    pub const fn header_len(self) -> usize {
        if self.vnet_header { 8 } else { 4 }
    }

    /// Parses the frame at the start of `bytes`; `None` when it is not complete yet.
    ///
    /// A virtio-net header longer than it can be, or than the frame, is taken for none: the body is then the frame,
    /// so that it is still compared byte by byte.
    pub fn parse(self, bytes: &[u8]) -> Result<Option<Parsed>, Oversized> {
        let Some(length) = u32_at(bytes, 0) else { return Ok(None) };
        let size = length as usize;
        if size > MAX_FRAME {
            return Err(Oversized { length });
        }
        let body = self.header_len();
        let total = body + size;
        if bytes.len() < total {
            return Ok(None);
        }
        let header = if self.vnet_header { u32_at(bytes, 4).map_or(0, |n| n as usize) } else { 0 };
        let skipped = if header <= MAX_VNET_HEADER.min(size) { header } else { 0 };
        Ok(Some(Parsed { total, body, ethernet: body + skipped }))
    }
}

/// Big-endian u32 at `at`, if it is there.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
}

/// Appends `body` in the form without a virtio-net header, which is the only one that notifications have.
pub fn put(out: &mut Vec<u8>, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}

/// Takes frames out of a stream whose bytes nobody keeps.
///
/// Bytes are read straight into [`Decoder::space`]; a frame cut by the end of the buffer is moved to its start.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    buffer: Box<[u8]>,
    parsed: usize,
    filled: usize,
}

impl Decoder {
    /// A decoder that reads `size` bytes at a time, at least one longest frame.
    #[must_use]
    pub fn new(framing: Framing, size: usize) -> Self {
        let buffer = vec![0; size.max(MAX_ON_WIRE)].into_boxed_slice();
        Self { framing, buffer, parsed: 0, filled: 0 }
    }

    /// Where to read the next bytes to; never empty once [`Decoder::next_frame`] has said `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.parsed > 0 {
            self.buffer.copy_within(self.parsed..self.filled, 0);
            self.filled -= self.parsed;
            self.parsed = 0;
        }
        &mut self.buffer[self.filled..]
    }

    /// `n` bytes have been read into the space.
    pub fn filled(&mut self, n: usize) {
        self.filled = (self.filled + n).min(self.buffer.len());
    }

    /// The next complete Ethernet frame.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Oversized> {
        let rest = &self.buffer[self.parsed..self.filled];
        let Some(frame) = self.framing.parse(rest)? else { return Ok(None) };
        self.parsed += frame.total;
        Ok(Some(&rest[frame.ethernet..frame.total]))
    }

    /// Forgets what has been read of the frame the peer broke off in. True if there was any.
    pub fn reset(&mut self) -> bool {
        let partial = self.filled > self.parsed;
        (self.parsed, self.filled) = (0, 0);
        partial
    }
}

#[cfg(test)]
mod tests;

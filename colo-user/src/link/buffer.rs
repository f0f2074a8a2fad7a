//! The two sides of a link's stream in memory: [`Inbox`] makes messages of bytes, [`Outbox`] bytes of messages.
//! No I/O: [`super::stream`] moves the bytes, tests and simulators do it by hand.

use super::frame::{MAX_MESSAGE, Message, MessageError};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Most bytes that wait to be sent. Beyond it the link is declared stalled: the peer cannot keep up, and protection is
/// given up by name rather than the packet thread blocked or memory filled.
pub const MAX_OUT: usize = 64 << 20;
/// Bytes of a chunk that messages are written into; a chunk is one element of a vectored write.
const CHUNK: usize = 64 << 10;
/// Most chunks in one vectored write.
pub const MAX_VECTORS: usize = 16;
/// Chunks kept for reuse once written.
const SPARE: usize = 32;

/// Messages that wait to be sent, in order.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that are already written.
    written: usize,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    stalled: bool,
}

impl Outbox {
    /// Appends a message. Once [`MAX_OUT`] bytes wait, it and all later ones are dropped and the outbox is
    /// [stalled](Self::stalled) for good: the peer would miss them, so the link has to be closed.
    pub fn push(&mut self, message: &Message<'_>) {
        if self.bytes >= MAX_OUT || self.stalled {
            self.stalled = true;
            return;
        }
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK) {
            let chunk = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK + 2048));
            self.chunks.push_back(chunk);
        }
        if let Some(chunk) = self.chunks.back_mut() {
            let before = chunk.len();
            message.encode(chunk);
            self.bytes += chunk.len() - before;
        }
    }

    /// Whether a message had to be dropped.
    #[must_use]
    pub const fn stalled(&self) -> bool {
        self.stalled
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What to write next, at most [`MAX_VECTORS`] slices.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let skips = std::iter::once(self.written).chain(std::iter::repeat(0));
        self.chunks
            .iter()
            .zip(skips)
            .take(MAX_VECTORS)
            .map(|(chunk, skip)| IoSlice::new(&chunk[skip..]))
            .collect()
    }

    /// Forgets the first `n` bytes: they are written.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.bytes);
        self.bytes -= n;
        self.written += n;
        while let Some(first) = self.chunks.front_mut() {
            if self.written < first.len() {
                break;
            }
            self.written -= first.len();
            first.clear();
            if let Some(chunk) = self.chunks.pop_front().filter(|_| self.spare.len() < SPARE) {
                self.spare.push(chunk);
            }
        }
    }
}

/// Received bytes that are not yet taken as messages. Holds at most one message and what one read brought after it,
/// since [`Self::space`] offers room only up to [`Inbox::CAPACITY`].
#[derive(Clone, Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: vec![0; Self::CAPACITY], start: 0, end: 0 }
    }
}

impl Inbox {
    /// Its size: the longest message fits, and a read is worth its system call.
    pub const CAPACITY: usize = 4 * (MAX_MESSAGE + 4);

    /// Where the next bytes go. Never empty once all complete messages have been taken.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() - self.end < Self::CAPACITY / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// The first `n` bytes of [`Self::space`] have been filled.
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }

    /// The next complete message, if there is one.
    ///
    /// # Errors
    /// The stream cannot be read on.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, MessageError> {
        let Some((message, taken)) = Message::decode(&self.bytes[self.start..self.end])? else {
            return Ok(None);
        };
        self.start += taken;
        Ok(Some(message))
    }

    /// Whether bytes of an incomplete message are left.
    #[must_use]
    pub const fn partial(&self) -> bool {
        self.start != self.end
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Where the primary's frames wait: in the memory they were read into.
//!
//! Input is read into *chunks*. A held frame is a range of its chunk, lengths in front included, because that is
//! just what `out` will be sent; frames released one after the other that lie side by side become one *span*, so in
//! the common case thousands of frames leave in one piece without having been copied. A chunk is free again when
//! nothing in it is held or queued. Frames that stay behind in chunks that are otherwise empty are moved together,
//! so memory stays within a constant factor of what is held.
//!
//! States of a frame: *unparsed* in the current chunk, *held* under a [`Token`], *queued* in a span, gone. The bound
//! of [`Bound`] counts held and queued frames; when it is reached, input is no longer parsed nor read. Nothing is
//! ever dropped for lack of room.

use std::{collections::VecDeque, io::IoSlice};

use slab::Slab;

use crate::{
    compare::Token,
    link::chardev::{Framing, MAX_ON_WIRE, Oversized, Parsed},
};

/// Bytes of one chunk.
const CHUNK: usize = 128 * 1024;

/// Bytes read at a time: much for a system call, little for a cache, so that what is read is still there when it is
/// compared and written.
pub const READ: usize = 64 * 1024;

/// Empty chunks kept for reuse.
const SPARE: usize = 32;

/// Chunks below which nothing is ever moved together.
const COMPACT_FROM: usize = 64;

/// Most spans handed to one write.
const GATHER: usize = 256;

/// How much may be held and queued.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Frames.
    pub frames: usize,
    /// Their bytes on the wire.
    pub bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    data: Box<[u8]>,
    /// Bytes in it that are held or queued.
    live: usize,
}

/// Where a held frame lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    start: usize,
    length: usize,
}

/// Released frames that lie side by side.
#[derive(Clone, Copy, Debug)]
struct Span {
    chunk: usize,
    start: usize,
    end: usize,
    frames: usize,
}

/// The frames of the primary that have not left yet.
#[derive(Debug)]
pub struct Hold {
    framing: Framing,
    bound: Bound,
    chunks: Slab<Chunk>,
    spare: Vec<Box<[u8]>>,
    /// The chunk that input is read into, parsed and filled so far.
    current: usize,
    parsed: usize,
    filled: usize,
    held: Slab<Place>,
    queue: VecDeque<Span>,
    /// Bytes of the first span that the peer on `out` has been sent.
    sent: usize,
    queued_frames: usize,
    live_bytes: usize,
}

impl Hold {
    /// An empty hold for frames in this framing.
    pub fn new(framing: Framing, bound: Bound) -> Self {
        let mut chunks = Slab::new();
        let current = chunks.insert(Chunk { data: vec![0; CHUNK].into_boxed_slice(), live: 0 });
        Self {
            framing,
            bound,
            chunks,
            spare: Vec::new(),
            current,
            parsed: 0,
            filled: 0,
            held: Slab::new(),
            queue: VecDeque::new(),
            sent: 0,
            queued_frames: 0,
            live_bytes: 0,
        }
    }

    /// False when the bound is reached: then no more input is to be read or parsed.
    pub fn has_room(&self) -> bool {
        self.frames() < self.bound.frames && self.live_bytes < self.bound.bytes
    }

    /// True when an eighth of the bound is free: input that was stopped goes on from there, not frame by frame.
    pub fn has_ample_room(&self) -> bool {
        let Bound { frames, bytes } = self.bound;
        self.frames() < frames - frames / 8 && self.live_bytes < bytes - bytes / 8
    }

    /// Frames held and queued.
    pub fn frames(&self) -> usize {
        self.held.len() + self.queued_frames
    }

    /// Bytes held and queued, as they are on the wire.
    pub fn bytes(&self) -> usize {
        self.live_bytes
    }

    /// Memory behind all of it.
    pub fn memory(&self) -> usize {
        (self.chunks.len() + self.spare.len()) * CHUNK
            + self.held.capacity() * size_of::<Place>()
            + self.queue.capacity() * size_of::<Span>()
    }

    /// Where to read the next input to, about [`READ`] bytes. All complete frames have to be parsed.
    pub fn space(&mut self) -> &mut [u8] {
        let partial = self.parsed..self.filled;
        if partial.is_empty() && self.chunks[self.current].live == 0 {
            (self.parsed, self.filled) = (0, 0);
        } else if self.parsed > 0 && CHUNK - self.filled < READ.max(MAX_ON_WIRE - partial.len()) {
            let old = self.current;
            let new = add_chunk(&mut self.chunks, &mut self.spare);
            if let Some((from, to)) = self.chunks.get2_mut(old, new) {
                to.data[..partial.len()].copy_from_slice(&from.data[partial.clone()]);
            }
            (self.current, self.parsed, self.filled) = (new, 0, partial.len());
            self.free_if_empty(old);
            self.compact_if_sparse();
        }
        &mut self.chunks[self.current].data[self.filled..(self.filled + READ).min(CHUNK)]
    }

    /// `n` bytes have been read into the space.
    pub fn filled(&mut self, n: usize) {
        self.filled = (self.filled + n).min(CHUNK);
    }

    /// Parses the next frame and holds it; `None` when there is no complete one or no room. The bytes given are the
    /// Ethernet frame.
    pub fn next_frame(&mut self) -> Result<Option<(Token, &[u8])>, Oversized> {
        if !self.has_room() {
            return Ok(None);
        }
        let chunk = &mut self.chunks[self.current];
        let rest = &chunk.data[self.parsed..self.filled];
        let Some(Parsed { total, ethernet, .. }) = self.framing.parse(rest)? else { return Ok(None) };
        let place = Place { chunk: self.current, start: self.parsed, length: total };
        self.parsed += total;
        self.live_bytes += total;
        chunk.live += total;
        let token = Token(self.held.insert(place) as u64);
        Ok(Some((token, &chunk.data[place.start + ethernet..place.start + total])))
    }

    /// Forgets what is not parsed. True if there was any: the peer broke off within a frame.
    pub fn reset_input(&mut self) -> bool {
        let partial = self.filled > self.parsed;
        self.filled = self.parsed;
        partial
    }

    /// Queues a held frame for `out`.
    pub fn release(&mut self, token: Token) {
        let Some(place) = self.take(token) else { return };
        self.queued_frames += 1;
        let end = place.start + place.length;
        match self.queue.back_mut() {
            Some(last) if last.chunk == place.chunk && last.end == place.start => {
                last.end = end;
                last.frames += 1;
            }
            _ => self.queue.push_back(Span { chunk: place.chunk, start: place.start, end, frames: 1 }),
        }
    }

    /// Forgets a held frame.
    pub fn discard(&mut self, token: Token) {
        if let Some(place) = self.take(token) {
            self.retire(place.chunk, place.length);
        }
    }

    fn take(&mut self, token: Token) -> Option<Place> {
        let place = usize::try_from(token.0).ok().and_then(|key| self.held.try_remove(key));
        debug_assert!(place.is_some(), "{token:?} is not held");
        place
    }

    /// True when something waits to be written.
    pub fn has_output(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What to write next, in one go.
    pub fn output(&self) -> Vec<IoSlice<'_>> {
        let skip = std::iter::once(self.sent).chain(std::iter::repeat(0));
        let spans = self.queue.iter().zip(skip).take(GATHER);
        spans
            .map(|(span, skip)| IoSlice::new(&self.chunks[span.chunk].data[span.start + skip..span.end]))
            .collect()
    }

    /// `n` bytes of the output have been written. Returns the frames that have left completely.
    pub fn written(&mut self, n: usize) -> usize {
        self.sent += n;
        let mut left = 0;
        while let Some(&span) = self.queue.front() {
            let length = span.end - span.start;
            if self.sent < length {
                break;
            }
            self.sent -= length;
            self.queue.pop_front();
            left += span.frames;
            self.retire(span.chunk, length);
        }
        self.queued_frames -= left;
        left
    }

    /// The peer on `out` has gone: a frame half written is written again from its start, the ones before are not.
    pub fn rewind(&mut self) {
        let Some(span) = self.queue.front_mut() else { return };
        let (chunk, mut sent, mut frames) = (span.chunk, 0, 0);
        let data = &self.chunks[chunk].data;
        while let Ok(Some(frame)) = self.framing.parse(&data[span.start + sent..span.end]) {
            if sent + frame.total > self.sent {
                break;
            }
            sent += frame.total;
            frames += 1;
        }
        span.start += sent;
        span.frames -= frames;
        self.sent = 0;
        self.queued_frames -= frames;
        self.retire(chunk, sent);
    }

    fn retire(&mut self, chunk: usize, bytes: usize) {
        self.live_bytes -= bytes;
        self.chunks[chunk].live -= bytes;
        self.free_if_empty(chunk);
    }

    fn free_if_empty(&mut self, key: usize) {
        if key != self.current && self.chunks[key].live == 0 {
            let chunk = self.chunks.remove(key);
            if self.spare.len() < SPARE {
                self.spare.push(chunk.data);
            }
        }
    }

    /// Moves what is left in sparse chunks together once more than half of the memory holds nothing. Each such pass
    /// gives back at least as much as it copies, so its cost is a constant per byte read.
    fn compact_if_sparse(&mut self) {
        if self.chunks.len() < COMPACT_FROM || self.live_bytes * 3 > self.chunks.len() * CHUNK {
            return;
        }
        let being_written = self.queue.front().map(|span| span.chunk);
        let sparse: Vec<bool> = (0..self.chunks.capacity())
            .map(|key| {
                let fixed = key == self.current || Some(key) == being_written;
                !fixed && self.chunks.get(key).is_some_and(|chunk| chunk.live * 2 < CHUNK)
            })
            .collect();

        let mut target = add_chunk(&mut self.chunks, &mut self.spare);
        let mut end = 0;
        let held =
            self.held.iter_mut().map(|(_, place)| (&mut place.chunk, &mut place.start, None, place.length));
        let queued = self.queue.iter_mut().map(|span| {
            let length = span.end - span.start;
            (&mut span.chunk, &mut span.start, Some(&mut span.end), length)
        });
        for (chunk, start, stop, length) in held.chain(queued) {
            if sparse.get(*chunk) != Some(&true) {
                continue;
            }
            if CHUNK - end < length {
                (target, end) = (add_chunk(&mut self.chunks, &mut self.spare), 0);
            }
            if let Some((from, to)) = self.chunks.get2_mut(*chunk, target) {
                to.data[end..end + length].copy_from_slice(&from.data[*start..*start + length]);
                from.live -= length;
                to.live += length;
            }
            (*chunk, *start) = (target, end);
            end += length;
            if let Some(stop) = stop {
                *stop = end;
            }
        }
        for key in sparse.iter().enumerate().filter_map(|(key, &sparse)| sparse.then_some(key)) {
            self.free_if_empty(key);
        }
        self.free_if_empty(target);
    }
}

fn add_chunk(chunks: &mut Slab<Chunk>, spare: &mut Vec<Box<[u8]>>) -> usize {
    let data = spare.pop().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
    chunks.insert(Chunk { data, live: 0 })
}

#[cfg(test)]
mod tests;

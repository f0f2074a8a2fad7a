//! The notification protocol of colo-compare: how a checkpoint is asked for, and how it is said to have come.
//!
//! Texts without a terminating zero, framed as in [`chardev`]:
//!
//! | from the peer | answer |
//! |---|---|
//! | `COLO_USERSPACE_PROXY_INIT` | `COLO_COMPARE_GET_XEN_INIT` |
//! | `COLO_CHECKPOINT` | none: the checkpoint has come |
//!
//! `DO_CHECKPOINT` is sent once when a checkpoint is wanted, again every scan cycle until it has come, and to each
//! peer that connects while it is wanted. It needs no introduction by the peer.
//!
//! What is sent never has a virtio-net header length. What is received has one when the packet streams have, but
//! peers that leave it out are understood too: no text begins with a zero byte, and that length does.

use std::{borrow::Cow, time::Duration};

use crate::{
    link::chardev::{self, Framing, MAX_FRAME, MAX_ON_WIRE, MAX_VNET_HEADER, Oversized},
    mono::Mono,
};

const INIT: &[u8] = b"COLO_USERSPACE_PROXY_INIT";
const INIT_ANSWER: &[u8] = b"COLO_COMPARE_GET_XEN_INIT";
const ASK: &[u8] = b"DO_CHECKPOINT";
const CHECKPOINT: &[u8] = b"COLO_CHECKPOINT";

/// Bytes that wait for a peer that does not read; while there are more, nothing is added.
const OUTPUT_LIMIT: usize = 4096;

/// What the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It introduced itself, and has been answered.
    Init,
    /// The checkpoint has come.
    Checkpoint,
    /// Something that is not understood.
    Unknown,
}

/// The state of the notification channel.
#[derive(Debug)]
pub struct Notify {
    framing: Framing,
    cycle: Duration,
    connected: bool,
    /// When to ask next; `None` when no checkpoint is wanted.
    ask: Option<Mono>,
    input: Vec<u8>,
    output: Vec<u8>,
    asked: u64,
}

impl Notify {
    /// A channel without a peer.
    pub fn new(framing: Framing, cycle: Duration) -> Self {
        Self { framing, cycle, connected: false, ask: None, input: Vec::new(), output: Vec::new(), asked: 0 }
    }

    /// A checkpoint is wanted: asks at once, unless one is wanted already.
    pub fn want(&mut self, now: Mono) {
        if self.ask.is_none() {
            self.ask = Some(now);
            self.tick(now);
        }
    }

    /// True while a checkpoint is wanted and has not come.
    pub fn wanted(&self) -> bool {
        self.ask.is_some()
    }

    /// Requests sent.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// When [`Notify::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.ask.filter(|_| self.connected)
    }

    /// Asks again if it is time.
    pub fn tick(&mut self, now: Mono) {
        let due = self.ask.is_some_and(|ask| ask <= now);
        if due && self.connected {
            self.ask = Some(now + self.cycle);
            self.say(ASK);
            self.asked += 1;
        }
    }

    /// A peer is there. It is asked at once for what is wanted.
    pub fn connected(&mut self, now: Mono) {
        self.connected = true;
        if self.ask.is_some() {
            self.ask = Some(now);
            self.tick(now);
        }
    }

    /// The peer has gone. What it has not read and what it has half said is forgotten. True if the latter was so.
    pub fn gone(&mut self) -> bool {
        self.connected = false;
        self.output.clear();
        let partial = !self.input.is_empty();
        self.input.clear();
        partial
    }

    /// Takes what the peer has sent; `said` hears each text.
    pub fn received(
        &mut self,
        bytes: &[u8],
        mut said: impl FnMut(Said, Cow<'_, str>),
    ) -> Result<(), Oversized> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((text, total)) = self.next_text(rest)? {
            let meaning = match text {
                INIT => {
                    self.say(INIT_ANSWER);
                    Said::Init
                }
                CHECKPOINT => {
                    self.ask = None;
                    Said::Checkpoint
                }
                _ => Said::Unknown,
            };
            said(meaning, String::from_utf8_lossy(&text[..text.len().min(80)]));
            rest = &rest[total..];
        }
        debug_assert!(rest.len() <= MAX_ON_WIRE);
        self.input = rest.to_vec();
        Ok(())
    }

    /// The text at the start of `bytes` and what it takes with its frame.
    fn next_text<'a>(&self, bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, Oversized> {
        let plain = Framing { vnet_header: false };
        let length_follows = self.framing.vnet_header
            && match bytes.get(4..8) {
                Some(&[0, 0, 0, n]) => usize::from(n) <= MAX_VNET_HEADER,
                // Not all there yet: a zero can only be the length's.
                _ => bytes.get(4) == Some(&0),
            };
        let framing = if length_follows { self.framing } else { plain };
        let frame = framing.parse(bytes)?;
        Ok(frame.map(|frame| (&bytes[frame.ethernet..frame.total], frame.total)))
    }

    fn say(&mut self, text: &[u8]) {
        if self.connected && self.output.len() < OUTPUT_LIMIT {
            chardev::put(&mut self.output, text);
        }
    }

    /// What to write to the peer.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// `n` bytes of the output have been written.
    pub fn written(&mut self, n: usize) {
        self.output.drain(..n.min(self.output.len()));
    }
}

const _: () = assert!(OUTPUT_LIMIT < MAX_FRAME);

#[cfg(test)]
mod tests;

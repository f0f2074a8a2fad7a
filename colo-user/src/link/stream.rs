//! A connected link on a packet thread: bytes in batches, never blocking.
//!
//! The owner polls [`Link::as_fd`] for reading, and for writing while [`Link::wants_write`], calls [`Link::fill`] and
//! takes messages with [`Link::next_message`] until there is none, pushes what it has to say into [`Link::outbox`] and ends each
//! turn with [`Link::flush`].
//!
//! Reading alone says that the link is lost, and why: what the peer said before it closed, its goodbye with it, lies in the
//! socket when writing has failed already, and is read first.

use super::buffer::{Inbox, Outbox};
use super::endpoint::Stream;
use super::frame::{Hello, Message, MessageError};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{Shutdown, shutdown};
use std::io::{self, Read as _, Write as _};

/// What [`Link::fill`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Bytes came; messages may be complete. There may be `more` at once if they filled the room there was.
    Some {
        /// Whether another read is worth its call.
        more: bool,
    },
    /// Nothing is there now.
    Empty,
    /// The peer has closed its side; in the middle of a message if `partial`.
    Closed {
        /// Whether a message was cut.
        partial: bool,
    },
}

/// One connection to the peer after its hello was accepted.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    inbox: Inbox,
    outbox: Outbox,
    peer: Hello,
    /// A write found the socket full.
    blocked: bool,
    /// Why nothing is written any more. Reading tells it at the end of what was received.
    broken: Option<io::Error>,
}

impl Link {
    /// Takes a non-blocking stream whose hellos are done.
    #[must_use]
    pub fn new(stream: Stream, peer: Hello) -> Self {
        Self {
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            peer,
            blocked: false,
            broken: None,
        }
    }

    /// What the peer said first.
    #[must_use]
    pub const fn peer(&self) -> &Hello {
        &self.peer
    }

    /// Where messages are put.
    pub const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Whether the descriptor is to be polled for writing.
    #[must_use]
    pub const fn wants_write(&self) -> bool {
        self.blocked && !self.outbox.is_empty()
    }

    /// Reads once.
    ///
    /// # Errors
    /// The connection is broken, as reading found, or writing before.
    pub fn fill(&mut self) -> io::Result<Fill> {
        let space = self.inbox.space();
        let room = space.len();
        if room == 0 {
            return Ok(Fill::Some { more: true });
        }
        loop {
            match self.stream.read(space) {
                Ok(0) => {
                    let closed = Fill::Closed { partial: self.inbox.partial() };
                    return self.broken.take().map_or(Ok(closed), Err);
                }
                Ok(n) => {
                    self.inbox.filled(n);
                    return Ok(Fill::Some { more: n == room });
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Fill::Empty),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next complete message and the outbox to answer into.
    ///
    /// # Errors
    /// The stream cannot be read on.
    pub fn next_message(&mut self) -> Result<Option<(Message<'_>, &mut Outbox)>, MessageError> {
        let outbox = &mut self.outbox;
        Ok(self.inbox.next_message()?.map(|message| (message, outbox)))
    }

    /// Writes what waits, as much as the socket takes. If it cannot, what waits is dropped, now and later, and the descriptor
    /// polls readable until [`Self::fill`] says why.
    pub fn flush(&mut self) {
        self.blocked = false;
        while !self.outbox.is_empty() {
            match self.stream.write_vectored(&self.outbox.slices()) {
                Ok(0) => return self.give_up(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.outbox.consume(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.give_up(e),
            }
        }
    }

    fn give_up(&mut self, error: io::Error) {
        self.outbox = Outbox::default();
        self.broken.get_or_insert(error);
        // What is in the socket stays there; behind it reading finds an end, whatever the peer does. A connection that is gone
        // already has its end.
        let _ = shutdown(&self.stream, Shutdown::Both);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests;

//! How a link comes to be, again and again: connect or accept, exchange hellos, hand the stream over.
//!
//! Runs on the control plane (tokio). The side that listens takes peers at any time and refuses a second one while the
//! first is there; the side that connects tries again with [`BACKOFF`], which grows to [`BACKOFF_MAX`] and starts
//! anew after a connection that held; where both are no pair any more ([`Slot::rest`]), only after [`BACKOFF_REST`]. A refused hello costs that connection only. Dropping the future of
//! [`Connector::run`] closes the listener and any connection that has not been handed over.

use super::async_stream::{AsyncListener, AsyncStream};
use super::endpoint::{Endpoint, EndpointError, Listener, Stream};
use super::frame::{ByeReason, Hello, HelloError, Message, Role};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info, warn};

/// First pause between two attempts to connect.
pub const BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Pause where one side has said that it goes on alone: somebody has to protect it again first.
pub const BACKOFF_REST: Duration = Duration::from_secs(10);
/// A connection and both hellos must be done in this time.
pub const HELLO_TIME: Duration = Duration::from_secs(5);
/// Most connections in their hello at one time; further ones wait in the listener's queue.
pub const MAX_HANDSHAKES: usize = 16;

/// A link whose hellos are done.
#[derive(Debug)]
pub struct Connected {
    /// Non-blocking.
    pub stream: Stream,
    /// What the peer said.
    pub hello: Hello,
}

/// What is shared between the connector and whoever has the link.
#[derive(Debug, Default)]
pub struct Slot {
    taken: AtomicBool,
    freed: Notify,
    rest: AtomicBool,
    refused: AtomicU64,
}

impl Slot {
    /// The link that was handed over is gone: the next one may come.
    pub fn free(&self) {
        self.taken.store(false, Ordering::Release);
        self.freed.notify_one();
    }

    /// One side of the link goes on alone: once it is gone, the next one may take its time.
    pub fn rest(&self) {
        self.rest.store(true, Ordering::Release);
    }

    /// Peers refused so far: bad hello, or a second one.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }
}

/// The pause between two attempts to connect.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    /// A link was there for so long; `rest`: it ended because there is no pair.
    fn linked(&mut self, held: Duration, rest: bool) {
        if rest {
            self.0 = BACKOFF_REST;
        } else if held >= BACKOFF_MAX {
            // One that was closed at once says no more than one that was refused.
            self.0 = BACKOFF;
        }
    }

    /// The pause before the next attempt.
    fn next(&mut self) -> Duration {
        let next = (self.0 * 2).min(BACKOFF_MAX);
        std::mem::replace(&mut self.0, next)
    }
}

/// Why no link came of a connection.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("another {0} is connected already: stop it, or wait until its link is declared lost")]
    Taken(Role),
    #[error("no complete hello within {} s", HELLO_TIME.as_secs())]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes links to one peer.
#[derive(Debug)]
pub struct Connector {
    endpoint: Endpoint,
    hello: Hello,
    slot: Arc<Slot>,
    links: mpsc::Sender<Connected>,
    listener: Option<Listener>,
}

impl Connector {
    /// Listens at once if the endpoint is a server, so that a taken address is an error at start. Links that are made
    /// go to `links`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn new(
        endpoint: Endpoint,
        hello: Hello,
        slot: Arc<Slot>,
        links: mpsc::Sender<Connected>,
    ) -> Result<Self, EndpointError> {
        let listener = if endpoint.server { Some(endpoint.listen()?) } else { None };
        Ok(Self { endpoint, hello, slot, links, listener })
    }

    /// Makes links until `links` is closed.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn run(mut self) -> io::Result<()> {
        match self.listener.take() {
            Some(listener) => {
                warn!("the link listens on {}; it is plain text until TLS exists", self.endpoint.address);
                self.serve(listener).await
            }
            None => {
                info!("the link connects to {}; it is plain text until TLS exists", self.endpoint.address);
                self.dial().await;
                Ok(())
            }
        }
    }

    async fn serve(self, listener: Listener) -> io::Result<()> {
        let shared = Arc::new(self);
        let running = Arc::new(tokio::sync::Semaphore::new(MAX_HANDSHAKES));
        let listener = AsyncListener::new(listener)?;
        while !shared.links.is_closed() {
            let Ok(permit) = Arc::clone(&running).acquire_owned().await else { return Ok(()) };
            let stream = match listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    // A connection that died in the queue, or no descriptors left: neither is a reason to stop.
                    warn!("the link cannot accept: {error}");
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                shared.greet(stream).await;
                drop(permit);
            });
        }
        Ok(())
    }

    async fn dial(self) {
        let mut backoff = Backoff(BACKOFF);
        while !self.links.is_closed() {
            match AsyncStream::connect(&self.endpoint, HELLO_TIME).await {
                Ok(stream) => {
                    if self.greet(stream).await {
                        let begun = tokio::time::Instant::now();
                        self.slot.freed.notified().await;
                        backoff.linked(begun.elapsed(), self.slot.rest.swap(false, Ordering::AcqRel));
                    }
                }
                Err(error) => debug!("{error}; next attempt in {:?}", backoff.0),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Exchanges hellos and hands the link over; false if it was refused.
    async fn greet(&self, mut stream: AsyncStream) -> bool {
        let name = stream.peer();
        let hello = match self.handshake(&mut stream).await {
            Ok(hello) => hello,
            Err(refusal) => {
                warn!("{name} refused: {refusal}");
                return false;
            }
        };
        let handed = match stream.into_std() {
            Ok(stream) => self.links.send(Connected { stream, hello }).await.is_ok(),
            Err(error) => {
                warn!("{name} is lost: {error}");
                false
            }
        };
        if handed {
            info!("link to the {} at {name} is up", self.hello.role.peer());
        } else {
            self.slot.free();
        }
        handed
    }

    async fn handshake(&self, stream: &mut AsyncStream) -> Result<Hello, Refusal> {
        // Ours goes out first: a peer that refuses it can say what it got.
        let exchange = async {
            stream.write_all(&self.hello.encode()).await?;
            self.read_hello(stream).await
        };
        let outcome = tokio::time::timeout(HELLO_TIME, exchange).await.unwrap_or(Err(Refusal::Silent));
        let outcome = outcome.and_then(|hello| {
            self.hello.agrees(&hello)?;
            if self.slot.take() { Ok(hello) } else { Err(Refusal::Taken(self.hello.role.peer())) }
        });
        if let Err(refusal) = &outcome {
            self.slot.refused.fetch_add(1, Ordering::Relaxed);
            let text = refusal.to_string();
            let mut bye = Vec::new();
            Message::Bye { reason: ByeReason::Refused, text: &text }.encode(&mut bye);
            // The peer may be gone, or not read: it was refused either way.
            let _ = tokio::time::timeout(BACKOFF, stream.write_all(&bye)).await;
        }
        outcome
    }

    /// Reads exactly one hello: what follows it belongs to the packet thread.
    async fn read_hello(&self, stream: &mut AsyncStream) -> Result<Hello, Refusal> {
        let mut bytes = Vec::new();
        loop {
            if let Some((hello, _)) = Hello::decode(&bytes, self.hello.role.peer())? {
                return Ok(hello);
            }
            let before = bytes.len();
            let missing = u64::try_from(Hello::missing(&bytes)).unwrap_or(u64::MAX);
            (&mut *stream).take(missing).read_buf(&mut bytes).await?;
            if bytes.len() == before {
                return Err(HelloError::Truncated { got: before }.into());
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The streams of a watchdog, each connection a task of its own.
//!
//! A node that listens takes several peers, a node that connects has one and tries again with a pause that grows from
//! [`BACKOFF`] to [`BACKOFF_MAX`]. A connection tells its begin, what comes on it, and its end, in this order. It ends when
//! the shell drops the sender it was given, or the peer goes: a TCP peer also when its host has acknowledged nothing for [`DEAD`], so
//! that a host that died, or a network that was cut, does not keep a dead connection in the place of a new one. Dropping a
//! node's future ends all its connections.
//!
//! A script is written when all of it has reached the notification node's socket: over TCP, when its kernel has acknowledged it. One
//! that was only in this side's socket when the connection ended is owed still.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::datapath::untaken;
use crate::link::async_stream::{AsyncListener, AsyncStream};
use crate::link::chardev::{self, Decoder, Framing};
use crate::link::connect::BACKOFF;
use crate::link::endpoint::Endpoint;
use crate::watchdog::machine::MAX_PEERS;
use crate::watchdog::{PeerId, REPLY};

/// Longest pause between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Limit of one attempt.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a TCP peer's host may acknowledge nothing.
const DEAD: Duration = Duration::from_secs(8);
/// How often it is looked at whether the notification node's kernel has the script.
const TAKEN: Duration = Duration::from_millis(10);
/// Frames that wait for a peer that does not read; further ones are dropped, counted. So many that none is for a peer that does, if
/// it sends in bursts.
const OUTGOING: usize = 1024;
/// Most frames written at once.
const AT_ONCE: usize = 256;

/// Why a connection ends that the shell has no more use for.
const NEWER: &str = "closed for a newer one";

/// What a connection tells the shell.
#[derive(Debug)]
pub enum Event {
    /// A peer is there; what is sent to it goes in here.
    PeerUp(PeerId, mpsc::Sender<&'static [u8]>, String),
    /// A frame has come. As much of it as tells a reply from anything else.
    Frame(PeerId, Bytes),
    /// The connection has ended.
    PeerDown(PeerId, String),
    /// A notification node is there; scripts go in here, one after the other is written.
    NotificationUp(u64, mpsc::Sender<Bytes>, String),
    /// The script has wholly reached its socket.
    ScriptWritten(u64),
    /// The connection has ended.
    NotificationDown(u64, String),
}

/// Where connections come from.
#[derive(Debug)]
pub enum Node {
    /// This side listens.
    Listen(Box<AsyncListener>),
    /// This side connects.
    Connect(Endpoint),
}

impl Node {
    /// Listens at once, where it is to. The second is the address that the kernel gave a TCP port.
    pub fn open(endpoint: &Endpoint) -> anyhow::Result<(Self, Option<String>)> {
        if !endpoint.server {
            return Ok((Self::Connect(endpoint.clone()), None));
        }
        let listener = endpoint.listen()?;
        let address =
            listener.local_addr().map_or_else(|| endpoint.address.to_string(), |a| format!("tcp:{a}"));
        Ok((Self::Listen(Box::new(AsyncListener::new(listener)?)), Some(address)))
    }

    /// Has `serve` talk on each connection, for ever.
    pub async fn run<F>(self, serve: impl Fn(AsyncStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Listen(listener) => listen(*listener, serve).await,
            Self::Connect(endpoint) => connect(endpoint, serve).await,
        }
    }
}

async fn listen<F: Future<Output = ()> + Send + 'static>(
    listener: AsyncListener,
    serve: impl Fn(AsyncStream) -> F,
) {
    // One more than the machine keeps: that one makes the machine close another. The rest wait in the listener's queue.
    let room = Arc::new(Semaphore::new(MAX_PEERS + 1));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                end_when_dead(&stream);
                let talk = serve(stream);
                connections.spawn(async move {
                    talk.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!("a peer could not be accepted: {error}");
                sleep(BACKOFF).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connect<F: Future<Output = ()>>(endpoint: Endpoint, serve: impl Fn(AsyncStream) -> F) {
    let mut pause = BACKOFF;
    loop {
        match AsyncStream::connect(&endpoint, CONNECT).await {
            Ok(stream) => {
                end_when_dead(&stream);
                let begin = Instant::now();
                serve(stream).await;
                if begin.elapsed() > BACKOFF_MAX {
                    pause = BACKOFF;
                }
            }
            Err(error) => debug!("{error:#}; next attempt in {pause:?}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

fn end_when_dead(stream: &AsyncStream) {
    if let Err(error) = stream.end_unanswered_after(DEAD) {
        warn!("a dead connection of {} may stay for long: {error}", stream.peer());
    }
}

/// Numbers connections.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A connection of the peer.
pub async fn peer(stream: AsyncStream, numbers: Numbers, events: mpsc::Sender<Event>) {
    let id = PeerId(numbers.next());
    let (sender, bodies) = mpsc::channel(OUTGOING);
    if events.send(Event::PeerUp(id, sender, stream.peer())).await.is_err() {
        return;
    }
    let (reader, writer) = tokio::io::split(stream);
    let reason = tokio::select! {
        reason = hear(reader, id, &events) => reason,
        reason = speak(writer, bodies) => reason,
    };
    // The shell that is gone has no more use for it.
    let _ = events.send(Event::PeerDown(id, reason)).await;
}

async fn hear(mut reader: ReadHalf<AsyncStream>, id: PeerId, events: &mpsc::Sender<Event>) -> String {
    let mut decoder = Decoder::new(Framing { vnet_header: false }, 0);
    loop {
        match reader.read(decoder.space()).await {
            Ok(0) if decoder.reset() => return "it closed in the middle of a frame".to_owned(),
            Ok(0) => return "it closed".to_owned(),
            Ok(n) => decoder.filled(n),
            Err(error) => return error.to_string(),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let head = Bytes::copy_from_slice(&frame[..frame.len().min(REPLY.len() + 1)]);
                    if events.send(Event::Frame(id, head)).await.is_err() {
                        return "the watchdog has ended".to_owned();
                    }
                }
                Ok(None) => break,
                Err(oversized) => return format!("a bad frame: {oversized}"),
            }
        }
    }
}

async fn speak(mut writer: WriteHalf<AsyncStream>, mut bodies: mpsc::Receiver<&'static [u8]>) -> String {
    let (mut batch, mut frames) = (Vec::new(), Vec::new());
    while bodies.recv_many(&mut batch, AT_ONCE).await > 0 {
        frames.clear();
        batch.drain(..).for_each(|body| chardev::put(&mut frames, body));
        if let Err(error) = writer.write_all(&frames).await {
            return error.to_string();
        }
    }
    NEWER.to_owned()
}

/// A connection of the notification node. What it says is read and not used.
pub async fn notification(stream: AsyncStream, numbers: Numbers, events: mpsc::Sender<Event>) {
    let id = numbers.next();
    let (sender, mut scripts) = mpsc::channel(1);
    if events.send(Event::NotificationUp(id, sender, stream.peer())).await.is_err() {
        return;
    }
    let reason = match on_other_host(&stream) {
        Ok(socket) => notify(stream, socket.as_ref(), &mut scripts, id, &events).await,
        Err(error) => error.to_string(),
    };
    // As above.
    let _ = events.send(Event::NotificationDown(id, reason)).await;
}

/// A second handle to a stream whose other end takes what is written later than it is written.
fn on_other_host(stream: &AsyncStream) -> io::Result<Option<OwnedFd>> {
    matches!(stream, AsyncStream::Tcp(_)).then(|| stream.as_fd().try_clone_to_owned()).transpose()
}

/// Until the connection ends, and why it does.
async fn notify(
    stream: AsyncStream,
    socket: Option<&OwnedFd>,
    scripts: &mut mpsc::Receiver<Bytes>,
    id: u64,
    events: &mpsc::Sender<Event>,
) -> String {
    let left = || socket.map_or(Ok(0), untaken);
    let (mut reader, mut writer) = tokio::io::split(stream);
    loop {
        // Reading first: a node that has gone gets no script, which would be lost in its socket.
        let script = tokio::select! {
            biased;
            reason = discard(&mut reader) => return reason,
            script = scripts.recv() => script,
        };
        let Some(script) = script else { return NEWER.to_owned() };
        let mut whole = false;
        let given = async {
            writer.write_all(&script).await?;
            whole = true;
            while left()? > 0 {
                sleep(TAKEN).await;
            }
            io::Result::Ok(())
        };
        let ended = tokio::select! {
            biased;
            outcome = given => outcome.err().map(|error| error.to_string()),
            reason = discard(&mut reader) => Some(reason),
            _ = scripts.recv() => Some(NEWER.to_owned()),
        };
        // Nothing that was taken whole is ever taken for cut, whatever came after it.
        let taken = whole && left().is_ok_and(|bytes| bytes == 0);
        if taken && events.send(Event::ScriptWritten(id)).await.is_err() {
            return "the watchdog has ended".to_owned();
        }
        match ended {
            None => {}
            Some(reason) if taken => return reason,
            Some(reason) => return format!("{reason}, in the middle of the script"),
        }
    }
}

/// Reads until the end. A monitor that nobody listens to would stop listening itself.
async fn discard(reader: &mut ReadHalf<AsyncStream>) -> String {
    let mut bytes = [0; 4096];
    loop {
        match reader.read(&mut bytes).await {
            Ok(0) => return "it closed".to_owned(),
            Ok(n) => debug!("the notification node says {:?}", String::from_utf8_lossy(&bytes[..n])),
            Err(error) => return error.to_string(),
        }
    }
}

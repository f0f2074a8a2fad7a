//! Endpoints on the control plane: the streams and listeners of [`super::endpoint`] under tokio.

use super::endpoint::{Endpoint, Listener, SocketFile, Stream};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A connected stream of either kind.
#[derive(Debug)]
pub enum AsyncStream {
    /// Through TCP.
    Tcp(TcpStream),
    /// Through the file system.
    Unix(UnixStream),
}

impl AsyncStream {
    /// Takes a stream over.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn new(stream: Stream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(match stream {
            Stream::Tcp(s) => Self::Tcp(TcpStream::from_std(s)?),
            Stream::Unix(s) => Self::Unix(UnixStream::from_std(s)?),
        })
    }

    /// Connects. Dropping the future abandons the attempt, which ends by itself within `limit`.
    ///
    /// # Errors
    /// The endpoint and the reason.
    pub async fn connect(endpoint: &Endpoint, limit: Duration) -> anyhow::Result<Self> {
        let endpoint = endpoint.clone();
        let stream = tokio::task::spawn_blocking(move || endpoint.connect(limit)).await??;
        Ok(Self::new(stream)?)
    }

    /// The stream without the runtime, non-blocking.
    ///
    /// # Errors
    /// The runtime does not let go of it.
    pub fn into_std(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(s) => Stream::Tcp(s.into_std()?),
            Self::Unix(s) => Stream::Unix(s.into_std()?),
        })
    }

    /// Has the connection end with an error when the other host's kernel has acknowledged nothing for about `limit`, neither what
    /// was sent nor, where nothing is, a question each quarter of it. A socket in the file system ends with its other end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_unanswered_after(&self, limit: Duration) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        let socket = SockRef::from(stream);
        let questions = TcpKeepalive::new().with_time(limit / 2).with_interval(limit / 4);
        socket.set_tcp_keepalive(&questions)?;
        socket.set_tcp_user_timeout(Some(limit))
    }

    /// Who is at the other end, for the log.
    #[must_use]
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(s) => s.peer_addr().map_or_else(|_| "a peer that left".into(), |a| format!("tcp:{a}")),
            Self::Unix(_) => "the unix socket's peer".into(),
        }
    }
}

impl AsFd for AsyncStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }
}

impl AsyncRead for AsyncStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for AsyncStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A listener of either kind.
#[derive(Debug)]
pub struct AsyncListener {
    kind: Kind,
    /// Unlinked on drop.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsyncListener {
    /// Takes a listener over.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(l) => Self { kind: Kind::Tcp(TcpListener::from_std(l)?), _file: None },
            Listener::Unix { listener, file } => {
                Self { kind: Kind::Unix(UnixListener::from_std(listener)?), _file: Some(file) }
            }
        })
    }

    /// The next peer. Dropping the future loses none.
    ///
    /// # Errors
    /// What accept(2) says: a connection that died in the queue, or no descriptor left.
    pub async fn accept(&self) -> io::Result<AsyncStream> {
        match &self.kind {
            Kind::Tcp(l) => {
                let (stream, _) = l.accept().await?;
                stream.set_nodelay(true)?;
                Ok(AsyncStream::Tcp(stream))
            }
            Kind::Unix(l) => l.accept().await.map(|(stream, _)| AsyncStream::Unix(stream)),
        }
    }
}

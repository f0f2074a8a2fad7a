//! Where a byte stream is reached, written as QEMU operators write it:
//! `unix:PATH[,server=on]` or `tcp:HOST:PORT[,server=on]`.
//!
//! With `server=on` this side listens, otherwise it connects. An IPv6 address stands in brackets
//! (`tcp:[2001:db8::1]:9000`), an empty host of a server means every address, and a comma in a path is doubled, as
//! QEMU's option parser has it. `wait=off` is taken and means nothing: nothing here ever waits for a peer to start.
//!
//! All sockets made here are non-blocking except those of [`Endpoint::connect`].

use std::{
    fmt,
    fs::{self, Metadata},
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// One end of a stream: an address, and who listens there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// True when this side listens and the other connects.
    pub server: bool,
}

/// The address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A TCP port. The host is a name or an address without brackets; empty means every address.
    Tcp {
        /// Name or address.
        host: String,
        /// Port, 0 only for a server: the kernel picks one.
        port: u16,
    },
}

/// What is wrong with an endpoint, or with what was found there.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// The text is not an endpoint.
    #[error("endpoint `{text}`: {reason}; write unix:PATH[,server=on] or tcp:HOST:PORT[,server=on]")]
    Syntax {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The path of a server is taken by something that is no socket; it is left as it is.
    #[error("{path}: exists and is not a socket; remove it or give another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another program listens on the path.
    #[error("{path}: another program listens there; stop it or give another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused to listen.
    #[error("cannot listen on {endpoint}: {source}")]
    Listen {
        /// The endpoint.
        endpoint: Endpoint,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The host has no address.
    #[error("cannot resolve {endpoint}: {source}")]
    Resolve {
        /// The endpoint.
        endpoint: Endpoint,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The peer could not be reached.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: Endpoint,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = |reason| EndpointError::Syntax { text: text.to_owned(), reason };
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong("no `unix:` or `tcp:` in front"))?;
        let (place, options) = split_options(rest);
        let mut server = false;
        for option in options {
            match option.as_str() {
                "server" | "server=on" => server = true,
                "server=off" => server = false,
                "wait=off" | "nowait" => {}
                "wait" | "wait=on" => {
                    return Err(wrong("wait=on is not supported: peers come and go at any time"));
                }
                _ => return Err(wrong("an option that is neither server=on|off nor wait=off")),
            }
        }
        let address = match kind {
            "unix" if place.is_empty() => return Err(wrong("the path is empty")),
            "unix" => Address::Unix(PathBuf::from(place)),
            "tcp" => {
                let (host, port) = place.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
                let bracketed = host.strip_prefix('[').map(|h| h.strip_suffix(']'));
                let host = match bracketed {
                    Some(Some(inner)) => inner,
                    Some(None) => return Err(wrong("`[` without `]`")),
                    None if host.contains(':') => return Err(wrong("an IPv6 address stands in brackets")),
                    None => host,
                };
                let port = port.parse().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
                if !server && port == 0 {
                    return Err(wrong("port 0 is only for a server"));
                }
                if !server && host.is_empty() {
                    return Err(wrong("an empty host is only for a server"));
                }
                Address::Tcp { host: host.to_owned(), port }
            }
            _ => return Err(wrong("neither `unix:` nor `tcp:`")),
        };
        Ok(Self { address, server })
    }
}

/// Splits at single commas; a doubled one stands for itself.
fn split_options(text: &str) -> (String, Vec<String>) {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let place = parts.remove(0);
    (place, parts)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display().to_string().replace(',', ",,")),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, if self.server { ",server=on" } else { "" })
    }
}

impl Endpoint {
    /// Listens here, at once. A socket file that nobody listens on any more is replaced; anything else in its place
    /// is an error and stays.
    pub fn listen(&self) -> Result<Listener, EndpointError> {
        let failed = |source| EndpointError::Listen { endpoint: self.clone(), source };
        match &self.address {
            Address::Unix(path) => {
                let mut bound = UnixListener::bind(path);
                if bound.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
                    self.remove_stale(path)?;
                    bound = UnixListener::bind(path);
                }
                let listener = bound.map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let file = fs::symlink_metadata(path).map_err(failed)?;
                Ok(Listener::Unix { listener, file: SocketFile { path: path.clone(), file } })
            }
            Address::Tcp { host, port } => {
                // The unspecified IPv6 address takes IPv4 peers as well, unless the system has no IPv6.
                let hosts: &[&str] = if host.is_empty() { &["::", "0.0.0.0"] } else { &[host.as_str()] };
                let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
                for host in hosts {
                    outcome = TcpListener::bind((*host, *port));
                    if outcome.is_ok() {
                        break;
                    }
                }
                let listener = outcome.map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Listener::Tcp(listener))
            }
        }
    }

    /// Unlinks the file of a server that is no more.
    fn remove_stale(&self, path: &Path) -> Result<(), EndpointError> {
        let failed = |source| EndpointError::Listen { endpoint: self.clone(), source };
        let found = fs::symlink_metadata(path).map_err(failed)?;
        if !found.file_type().is_socket() {
            return Err(EndpointError::NotASocket { path: path.to_owned() });
        }
        let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
        match probe.connect(&SockAddr::unix(path).map_err(failed)?) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
            // A full backlog is a living server too.
            Ok(()) => Err(EndpointError::InUse { path: path.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Err(EndpointError::InUse { path: path.to_owned() })
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Where to connect to. Names are looked up here, which may block: call it before packets move.
    pub fn resolve(&self) -> Result<Targets, EndpointError> {
        let failed = |source| EndpointError::Resolve { endpoint: self.clone(), source };
        let list = match &self.address {
            Address::Unix(path) => vec![SockAddr::unix(path).map_err(failed)?],
            Address::Tcp { host, port } => {
                let found = (host.as_str(), *port).to_socket_addrs().map_err(failed)?;
                found.map(SockAddr::from).collect()
            }
        };
        if list.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(Targets { list, next: 0 })
    }

    /// Connects and returns a blocking stream, trying each address of the host until `timeout` has passed.
    pub fn connect(&self, timeout: Duration) -> Result<Stream, EndpointError> {
        let failed = |source| EndpointError::Connect { endpoint: self.clone(), source };
        let targets = self.resolve()?;
        let end = Instant::now() + timeout;
        let mut outcome = Err(io::ErrorKind::TimedOut.into());
        for target in &targets.list {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            outcome = Socket::new(target.domain(), Type::STREAM, None)
                .and_then(|socket| socket.connect_timeout(target, left).map(|()| socket))
                .and_then(|socket| Stream::from_socket(socket, target.domain()));
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map_err(failed)
    }
}

/// The addresses of a peer, tried in turn.
#[derive(Debug)]
pub struct Targets {
    list: Vec<SockAddr>,
    next: usize,
}

impl Targets {
    /// Starts to connect to the next address without waiting. The stream is there when it polls writable and
    /// [`Stream::finish_connect`] says so.
    pub fn begin_connect(&mut self) -> io::Result<Stream> {
        let target = &self.list[self.next % self.list.len()];
        self.next = self.next.wrapping_add(1);
        let socket = Socket::new(target.domain(), Type::STREAM.nonblocking(), None)?;
        match socket.connect(target) {
            Err(e) if e.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(e),
            _ => Stream::from_socket(socket, target.domain()),
        }
    }
}

/// A socket file made here, unlinked on drop if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    file: Metadata,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (self.file.dev(), self.file.ino()));
        if ours {
            // A file that cannot be removed is replaced by the next server, see `Endpoint::listen`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listening socket, non-blocking.
#[derive(Debug)]
pub enum Listener {
    /// On a path.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file.
        file: SocketFile,
    },
    /// On a TCP port.
    Tcp(TcpListener),
}

impl Listener {
    /// Takes one waiting peer; `WouldBlock` when there is none. The stream is non-blocking.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// The address it got, where that is one of TCP: with port 0 the kernel chose.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix { listener, .. } => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A connected stream of either kind. TCP ones send without delay (no Nagle).
#[derive(Debug)]
pub enum Stream {
    /// Through the file system.
    Unix(UnixStream),
    /// Through TCP.
    Tcp(TcpStream),
}

impl Stream {
    fn from_socket(socket: Socket, domain: Domain) -> io::Result<Self> {
        if domain == Domain::UNIX {
            return Ok(Self::Unix(socket.into()));
        }
        socket.set_tcp_nodelay(true)?;
        Ok(Self::Tcp(socket.into()))
    }

    /// How a connection begun by [`Targets::begin_connect`] ended, once the stream polls writable.
    pub fn finish_connect(&self) -> io::Result<()> {
        match rustix::net::sockopt::socket_error(self)? {
            Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Blocking or not, for the reading and the writing side together.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(on),
            Self::Tcp(stream) => stream.set_nonblocking(on),
        }
    }

    /// A second handle to the same stream.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(buffer),
            Self::Tcp(stream) => stream.write(buffer),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write_vectored(buffers),
            Self::Tcp(stream) => stream.write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests;

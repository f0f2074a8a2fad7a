//! A TCP connection whose waits are bounded by a patience and end at once when the lab is stopped. It knows its longest.

use std::{
    cell::Cell,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

/// How often a wait looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// A time in which a connection wanted to go on and could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When it began.
    pub begun: Instant,
    /// How long it was.
    pub length: Duration,
}

impl Wait {
    /// The longer of the two.
    pub fn longer(self, other: Self) -> Self {
        if other.length > self.length { other } else { self }
    }
}

/// A connection and what ends a wait on it.
#[derive(Debug)]
pub struct Patient<'a> {
    stream: TcpStream,
    patience: Duration,
    stop: &'a AtomicBool,
    longest: Cell<Wait>,
}

impl<'a> Patient<'a> {
    /// Connects from `port` (0: any) within `patience`, which holds for each later read and write too.
    pub fn connect(
        port: u16,
        server: SocketAddr,
        patience: Duration,
        stop: &'a AtomicBool,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        if port != 0 {
            socket.bind(&SocketAddr::from((unspecified(server), port)).into())?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            other => other?,
        }
        let stream = Self::new(socket.into(), patience, stop);
        stream.wait(PollFlags::OUT)?;
        stream.stream.take_error()?.map_or(Ok(()), Err)?;
        Ok(stream)
    }

    /// Accepts a connection that the other side opens.
    pub fn accept(listener: &TcpListener, patience: Duration, stop: &'a AtomicBool) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        wait(listener, PollFlags::IN, patience, stop)?;
        let stream = listener.accept()?.0;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream, patience, stop))
    }

    fn new(stream: TcpStream, patience: Duration, stop: &'a AtomicBool) -> Self {
        let longest = Cell::new(Wait { begun: Instant::now(), length: Duration::ZERO });
        Self { stream, patience, stop, longest }
    }

    /// The longest it ever waited for the other side: to come, to take bytes or to say some.
    pub fn longest_wait(&self) -> Wait {
        self.longest.get()
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    fn wait(&self, what: PollFlags) -> io::Result<()> {
        let begun = Instant::now();
        let outcome = wait(&self.stream, what, self.patience, self.stop);
        self.longest.set(self.longest.get().longer(Wait { begun, length: begun.elapsed() }));
        outcome
    }
}

/// Waits until a socket can do `what`.
fn wait(socket: &impl AsFd, what: PollFlags, patience: Duration, stop: &AtomicBool) -> io::Result<()> {
    let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
    let end = Instant::now() + patience;
    while poll(&mut [PollFd::new(socket, what)], Some(&look))? == 0 {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(ErrorKind::ConnectionAborted, "the lab was stopped"));
        }
        if Instant::now() > end {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("nothing for {patience:?}")));
        }
    }
    Ok(())
}

/// The address that means any, of the version of `server`.
pub fn unspecified(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::IN)?,
                other => return other,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

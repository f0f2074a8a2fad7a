//! The sockets of `colo compare`: one thread, one `poll`, large reads and gathered writes.
//!
//! It sleeps when nothing is to be done, or with `--busy-poll` looks again for some time first.
//!
//! Each of the four ports is down, connecting or up, and takes one peer at a time. Servers listen from the start;
//! a client that finds nobody tries again. A port that goes down loses no more than the frame its peer broke off.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{debug, info, warn};

use super::proxy::Proxy;
use crate::{
    link::endpoint::{Endpoint, EndpointError, Listener, Stream, Targets},
    mono::Mono,
};

/// Pause between two attempts of a client.
const RETRY: Duration = Duration::from_millis(200);

/// How long to go on writing after a signal.
const FAREWELL: Duration = Duration::from_secs(2);

/// Bytes of notifications read at a time.
const NOTIFY_READ: usize = 4096;

/// Bytes of each input read before a checkpoint is taken: what its sender wrote before is part of it.
const BEFORE_CHECKPOINT: usize = 64 << 20;

/// The four streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Primary,
    Secondary,
    Out,
    Notify,
}

/// The state of one stream.
#[derive(Debug)]
enum Link {
    /// No peer; a client tries again at this time.
    Down(Mono),
    Connecting(Stream),
    Up(Stream),
}

#[derive(Debug)]
enum Way {
    Server(Listener),
    Client(Targets),
}

/// One stream and how its peer is reached.
#[derive(Debug)]
struct Port {
    role: Role,
    endpoint: Endpoint,
    way: Way,
    link: Link,
    /// The kernel takes no more for now.
    blocked: bool,
    /// The peer will say nothing more but may still read.
    half_closed: bool,
    connections: u64,
}

impl Port {
    fn new(role: Role, endpoint: Endpoint, now: Mono) -> Result<Self, EndpointError> {
        let way =
            if endpoint.server { Way::Server(endpoint.listen()?) } else { Way::Client(endpoint.resolve()?) };
        if let Way::Server(listener) = &way {
            match listener.local_addr() {
                Some(address) => info!("{}: listening on tcp:{address}", role.name()),
                None => info!("{}: listening on {endpoint}", role.name()),
            }
        }
        let link = Link::Down(now);
        Ok(Self { role, endpoint, way, link, blocked: false, half_closed: false, connections: 0 })
    }

    /// What to wait for, `None` when there is nothing.
    fn interest(&self, proxy: &Proxy) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.link, &self.way) {
            (Link::Down(_), Way::Server(listener)) => Some((listener.as_fd(), PollFlags::IN)),
            (Link::Down(_), Way::Client(_)) => None,
            (Link::Connecting(stream), _) => Some((stream.as_fd(), PollFlags::OUT)),
            (Link::Up(stream), _) => {
                // A TCP peer that closed is told from one that only stopped writing by nothing; a local one hangs up.
                let tcp_close = match stream {
                    Stream::Tcp(_) => PollFlags::RDHUP,
                    Stream::Unix(_) => PollFlags::empty(),
                };
                let flags = match self.role {
                    // Not even its end is heard of while it is paused: what it sent before comes first.
                    Role::Primary if !proxy.wants_primary() => return None,
                    Role::Primary | Role::Secondary => PollFlags::IN,
                    Role::Out => tcp_close | if self.blocked { PollFlags::OUT } else { PollFlags::empty() },
                    Role::Notify => {
                        let read = if self.half_closed { PollFlags::empty() } else { PollFlags::IN };
                        read | if self.blocked { PollFlags::OUT } else { PollFlags::empty() }
                    }
                };
                Some((stream.as_fd(), flags))
            }
        }
    }

    fn retry_at(&self) -> Option<Mono> {
        match (&self.link, &self.way) {
            (Link::Down(at), Way::Client(_)) => Some(*at),
            _ => None,
        }
    }

    /// True when the stream has become usable.
    fn advance(&mut self, events: PollFlags, now: Mono) -> bool {
        let down = Link::Down(now + RETRY);
        let stream = match (std::mem::replace(&mut self.link, down), &mut self.way) {
            (Link::Down(_), Way::Server(listener)) if !events.is_empty() => listener.accept(),
            (Link::Down(at), Way::Client(targets)) if at <= now => match targets.begin_connect() {
                Ok(stream) => {
                    self.link = Link::Connecting(stream);
                    return false;
                }
                Err(e) => Err(e),
            },
            (Link::Connecting(stream), _) if !events.is_empty() => stream.finish_connect().map(|()| stream),
            (link, _) => {
                self.link = link;
                return false;
            }
        };
        match stream {
            Ok(stream) => {
                self.link = Link::Up(stream);
                (self.blocked, self.half_closed) = (false, false);
                self.connections += 1;
                info!("{}: peer connected", self.role.name());
                true
            }
            Err(e) => {
                debug!("{}: {}: {e}", self.role.name(), self.endpoint);
                false
            }
        }
    }

    fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.link {
            Link::Up(stream) => Some(stream),
            _ => None,
        }
    }
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary-in",
            Self::Secondary => "secondary-in",
            Self::Out => "out",
            Self::Notify => "notify",
        }
    }
}

/// Where the streams are found.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The primary's guest output.
    pub primary_in: Endpoint,
    /// The secondary's.
    pub secondary_in: Endpoint,
    /// Where released frames go.
    pub out: Endpoint,
    /// Where checkpoints are asked for.
    pub notify: Option<Endpoint>,
}

/// What one read or write came to.
enum Step {
    /// Bytes moved.
    Moved(usize),
    /// Not now.
    Later,
    /// The peer has gone, for this reason.
    Gone(Option<String>),
}

fn step(result: io::Result<usize>) -> Step {
    match result {
        Ok(0) => Step::Gone(None),
        Ok(n) => Step::Moved(n),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Step::Later,
        Err(e) => Step::Gone(Some(e.to_string())),
    }
}

/// The proxy with its sockets.
pub struct Shell {
    proxy: Proxy,
    ports: Vec<Port>,
    stop: OwnedFd,
    /// How long to look again after something was done, before sleeping.
    busy_poll: Duration,
    /// When something was done last.
    busy: Mono,
}

impl Shell {
    /// Listens on every server's endpoint, at once. `stop` becomes readable when it is time to end.
    pub fn new(
        proxy: Proxy,
        endpoints: Endpoints,
        stop: OwnedFd,
        busy_poll: Duration,
    ) -> Result<Self, EndpointError> {
        let now = Mono::now();
        let mut ports = vec![
            Port::new(Role::Primary, endpoints.primary_in, now)?,
            Port::new(Role::Secondary, endpoints.secondary_in, now)?,
            Port::new(Role::Out, endpoints.out, now)?,
        ];
        if let Some(endpoint) = endpoints.notify {
            ports.push(Port::new(Role::Notify, endpoint, now)?);
        }
        Ok(Self { proxy, ports, stop, busy_poll, busy: now })
    }

    /// Runs until told to stop, and returns all counters.
    pub fn run(mut self) -> io::Result<Vec<(String, u64)>> {
        while !self.turn(None)? {}
        info!("stopping: writing what may leave");
        let end = Mono::now() + FAREWELL;
        while self.proxy.has_output() && self.is_up(Role::Out) && Mono::now() < end {
            self.turn(Some(end))?;
        }
        let mut counted = self.proxy.counted();
        counted.extend(
            self.ports
                .iter()
                .map(|p| (format!("connections_{}", p.role.name().replace('-', "_")), p.connections)),
        );
        Ok(counted)
    }

    fn is_up(&self, role: Role) -> bool {
        self.ports.iter().any(|p| p.role == role && matches!(p.link, Link::Up(_)))
    }

    /// Waits for something to do and does it. With an end, only writes. True when told to stop.
    fn turn(&mut self, farewell: Option<Mono>) -> io::Result<bool> {
        let mut events = [PollFlags::empty(); 4];
        let stop = {
            let mut fds = Vec::with_capacity(5);
            let mut owners = Vec::with_capacity(4);
            for (index, port) in self.ports.iter().enumerate() {
                if farewell.is_some() && port.role != Role::Out {
                    continue;
                }
                if let Some((fd, flags)) = port.interest(&self.proxy) {
                    fds.push(PollFd::from_borrowed_fd(fd, flags));
                    owners.push(index);
                }
            }
            if farewell.is_none() {
                fds.push(PollFd::new(&self.stop, PollFlags::IN));
            }
            let now = Mono::now();
            let deadlines = self.ports.iter().filter_map(Port::retry_at).chain(self.proxy.next_deadline());
            let deadline = farewell.or_else(|| deadlines.min());
            let awake = now.saturating_since(self.busy) < self.busy_poll;
            let wait = if awake { Some(Duration::ZERO) } else { deadline.map(|at| at.saturating_since(now)) };
            match poll(&mut fds, wait.map(timespec).as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => self.busy = now,
                Err(e) => return Err(e.into()),
            }
            for (fd, &owner) in fds.iter().zip(&owners) {
                events[owner] = fd.revents();
            }
            farewell.is_none() && fds.last().is_some_and(|fd| !fd.revents().is_empty())
        };
        let now = Mono::now();
        if farewell.is_none() {
            for (index, &events) in events.iter().enumerate().take(self.ports.len()) {
                self.serve(index, events, now);
            }
            if self.proxy.next_deadline().is_some_and(|at| at <= now) {
                self.proxy.tick(now);
            }
        }
        self.write_notify();
        self.write_out(events[Role::Out as usize], now);
        loop {
            match self.proxy.resume(now) {
                Ok(false) => break,
                Ok(true) => self.write_out(PollFlags::empty(), now),
                Err(oversized) => self.drop_peer(Role::Primary as usize, Some(&oversized.to_string()), now),
            }
        }
        Ok(stop)
    }

    fn serve(&mut self, index: usize, events: PollFlags, now: Mono) {
        let port = &mut self.ports[index];
        if !matches!(port.link, Link::Up(_)) {
            if port.advance(events, now) && port.role == Role::Notify {
                self.proxy.notify_connected(now);
            }
            return;
        }
        if events.is_empty() {
            return;
        }
        match port.role {
            Role::Primary | Role::Secondary => {
                self.read_packets(index, now);
            }
            Role::Notify => self.read_notify(index, events, now),
            Role::Out => {}
        }
    }

    /// Reads one input once. Returns the bytes read.
    fn read_packets(&mut self, index: usize, now: Mono) -> usize {
        let port = &mut self.ports[index];
        let role = port.role;
        let Some(stream) = port.stream() else { return 0 };
        let primary = role == Role::Primary;
        let space = if primary { self.proxy.primary_space() } else { self.proxy.secondary_space() };
        match step(stream.read(space)) {
            Step::Moved(n) => {
                let outcome =
                    if primary { self.proxy.primary_read(n, now) } else { self.proxy.secondary_read(n, now) };
                if let Err(oversized) = outcome {
                    self.drop_peer(index, Some(&oversized.to_string()), now);
                }
                n
            }
            Step::Later => 0,
            Step::Gone(reason) => {
                self.drop_peer(index, reason.as_deref(), now);
                0
            }
        }
    }

    fn read_notify(&mut self, index: usize, events: PollFlags, now: Mono) {
        let Some(stream) = self.ports[index].stream() else { return };
        let local = matches!(stream, Stream::Unix(_));
        let mut buffer = [0; NOTIFY_READ];
        match step(stream.read(&mut buffer)) {
            Step::Moved(n) => {
                // The packets that were sent before a checkpoint was announced belong to it.
                for input in 0..2 {
                    self.drain(input, now);
                }
                if let Err(oversized) = self.proxy.notify_read(&buffer[..n], now) {
                    self.drop_peer(index, Some(&oversized.to_string()), now);
                }
            }
            Step::Later => {}
            Step::Gone(None) if local && !events.contains(PollFlags::HUP) => {
                self.ports[index].half_closed = true;
            }
            Step::Gone(reason) => self.drop_peer(index, reason.as_deref(), now),
        }
    }

    /// Reads an input until it is empty, within a bound.
    fn drain(&mut self, index: usize, now: Mono) {
        let mut budget = BEFORE_CHECKPOINT;
        while self.ports[index].role == Role::Secondary || self.proxy.wants_primary() {
            let n = self.read_packets(index, now);
            if n == 0 || budget < n {
                break;
            }
            budget -= n;
        }
    }

    fn write_notify(&mut self) {
        let Some(index) = self.ports.iter().position(|p| p.role == Role::Notify) else { return };
        while !self.proxy.notify_output().is_empty() {
            let port = &mut self.ports[index];
            let Some(stream) = port.stream() else { return };
            match step(stream.write(self.proxy.notify_output())) {
                Step::Moved(n) => self.proxy.notify_written(n),
                Step::Later => {
                    port.blocked = true;
                    return;
                }
                Step::Gone(reason) => {
                    self.drop_peer(index, reason.as_deref(), Mono::now());
                    return;
                }
            }
        }
        self.ports[index].blocked = false;
    }

    /// Writes until nothing is left or the kernel takes no more.
    fn write_out(&mut self, events: PollFlags, now: Mono) {
        let index = Role::Out as usize;
        if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP)
            && matches!(self.ports[index].link, Link::Up(_))
        {
            self.drop_peer(index, None, now);
            return;
        }
        if self.ports[index].blocked && !events.contains(PollFlags::OUT) {
            return;
        }
        self.ports[index].blocked = false;
        while self.proxy.has_output() {
            let Some(stream) = self.ports[index].stream() else { return };
            match step(stream.write_vectored(&self.proxy.output())) {
                Step::Moved(n) => self.proxy.output_written(n),
                Step::Later => {
                    self.ports[index].blocked = true;
                    return;
                }
                Step::Gone(reason) => {
                    self.drop_peer(index, reason.as_deref(), now);
                    return;
                }
            }
        }
    }

    fn drop_peer(&mut self, index: usize, reason: Option<&str>, now: Mono) {
        let port = &mut self.ports[index];
        port.link = Link::Down(now + RETRY);
        let name = port.role.name();
        match reason {
            Some(reason) => warn!("{name}: connection closed: {reason}"),
            None => info!("{name}: peer disconnected"),
        }
        match port.role {
            Role::Primary => self.proxy.primary_gone(),
            Role::Secondary => self.proxy.secondary_gone(),
            Role::Out => self.proxy.output_gone(),
            Role::Notify => self.proxy.notify_gone(),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

//! Sleeping until there is something to do.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use smallvec::SmallVec;

use super::Datapath;
use super::pace::{Frames, Pace};
use super::realtime;
use crate::path::Side;

/// Longest sleep while the uplink has not taken all that was released, or has not said which buffers it is done with
/// while those are scarce: neither wakes anyone.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep at all, and least time between two looks at the kernel's counters of lost frames.
const LOOK: Duration = Duration::from_millis(100);

/// What one of the caller's own file descriptors is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// It can be read, or has been closed by the other side.
    pub readable: bool,
    /// It can be written to.
    pub writable: bool,
    /// It was closed or has an error; reading says which.
    pub closed: bool,
}

/// Why [`Datapath::wait`] returned. With nothing set, time has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// [`Datapath::next_captured`] may have a frame.
    pub captured: bool,
    /// [`Datapath::next_mirrored`] may have a copy.
    pub mirrored: bool,
    /// The caller's own descriptors, in the order given.
    pub others: SmallVec<[Ready; 8]>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The uplink has not taken all yet.
    pub backlog: bool,
    /// The socket of captured frames is broken: its interface is gone, which will be told.
    pub deaf: bool,
    /// For a real-time thread: its priority, and when it has it.
    realtime: Option<(u8, Pace)>,
    last_look: Option<Instant>,
}

impl Waiting {
    /// For a thread with a real-time priority, or without.
    pub fn new(realtime: Option<(u8, Pace)>) -> Self {
        Self { realtime, ..Self::default() }
    }
}

impl Datapath {
    /// Sleeps until a frame may have come, one of `others` can be read (or written, where `want_write` says so), or
    /// `timeout` has passed. It may return earlier with nothing set, for its own upkeep.
    ///
    /// # Errors
    /// What poll(2) says; an interruption by a signal is none.
    pub fn wait(
        &mut self,
        others: &[BorrowedFd<'_>],
        want_write: &[bool],
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        let pressure = self.pressure();
        let takes = self.paths.of(Side::Uplink).is_whole();
        let upkeep = if takes && (self.waiting.backlog || pressure.scarce && pressure.sending != 0) {
            BACKLOG_PAUSE
        } else {
            LOOK
        };
        let upkeep = self.signs.pause.map_or(upkeep, |pause| upkeep.min(pause));
        let timeout = timeout.unwrap_or(upkeep).min(upkeep);
        let frames = Frames { input: self.own.mirrored + self.injector.sent(), output: self.own.captured };
        if let Some((priority, pace)) = &mut self.waiting.realtime
            && let Some(first) = pace.change(Instant::now(), frames)
        {
            // It was allowed once; a thread that stays in its class is late at worst.
            let _ = realtime::set(if first { *priority } else { 0 });
        }
        let until = Instant::now() + timeout;
        let wake = loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            // News of an interface that change nothing are no reason to wake anyone.
            if let Some(wake) = self.poll(others, want_write, timeout)? {
                break wake;
            }
        };
        self.signs.alive();
        let now = Instant::now();
        if self.waiting.last_look.is_none_or(|last| now.duration_since(last) >= LOOK) {
            self.waiting.last_look = Some(now);
            self.read_losses();
            self.check_ports();
        }
        Ok(wake)
    }

    fn poll(
        &mut self,
        others: &[BorrowedFd<'_>],
        want_write: &[bool],
        timeout: Timespec,
    ) -> io::Result<Option<Wake>> {
        let mut fds: SmallVec<[PollFd<'_>; 8]> = SmallVec::new();
        fds.push(PollFd::from_borrowed_fd(self.mirror.as_fd(), PollFlags::IN));
        let wants = want_write.iter().copied().chain(std::iter::repeat(false));
        fds.extend(others.iter().zip(wants).map(|(&fd, write)| {
            let write = if write { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::from_borrowed_fd(fd, PollFlags::IN | write)
        }));
        fds.push(PollFd::from_borrowed_fd(self.watch.ready(), PollFlags::IN));
        let held = self.hold.readable().filter(|_| !self.waiting.deaf);
        fds.extend(held.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let closed = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let told = readable(&fds[1 + others.len()]);
        let deaf = held.is_some() && fds.last().is_some_and(|fd| fd.revents().intersects(closed));
        let wake = Wake {
            mirrored: readable(&fds[0]),
            captured: held.is_some() && fds.last().is_some_and(readable),
            others: fds[1..=others.len()]
                .iter()
                .map(|fd| Ready {
                    readable: fd.revents().intersects(PollFlags::IN | PollFlags::HUP),
                    writable: fd.revents().contains(PollFlags::OUT),
                    closed: fd.revents().intersects(closed),
                })
                .collect(),
        };
        drop(fds);
        // It would wake this thread for ever.
        self.waiting.deaf |= deaf;
        let news = told && self.tend();
        let idle = !wake.mirrored
            && !wake.captured
            && !deaf
            && wake.others.iter().all(|other| !other.readable && !other.writable && !other.closed);
        Ok((!told || news || !idle).then_some(wake))
    }
}

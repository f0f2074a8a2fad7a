//! A thread that looks after the two interfaces: what the kernel tells of them makes it look at once, and it looks by itself each
//! [`PAUSE`], because the kernel tells nobody of a program that leaves with its link. It asks what may wait for a lock of the
//! kernel's, so that the packet thread does not. When the kernel had more to tell than the socket has room for, it looks at everything.
//!
//! What is found waits in one place for each side, the latest in place of the one before.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::netlink::{Netlink, News};
use super::realtime;
use crate::mono::Mono;
use crate::path::{Gone, Look, Side};

/// Longest time between two looks.
pub const PAUSE: Duration = Duration::from_millis(250);

/// The packet thread's end. The thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// As the operator gave them.
    names: [String; 2],
    /// Of the interfaces that are attached; 0 for none.
    index: [AtomicU32; 2],
    /// Of those that are or were last.
    last: [AtomicU32; 2],
    found: Mutex<[Option<Look>; 2]>,
    /// Something was found.
    ready: OwnedFd,
    /// A look is wanted now.
    nudge: OwnedFd,
    stop: AtomicBool,
    missed: AtomicU64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        raise(&self.0.nudge);
    }
}

impl Watch {
    /// Watches interfaces that have these names and indices, in the calling thread's network namespace.
    pub fn start(names: [String; 2], index: [u32; 2]) -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            names,
            index: index.map(AtomicU32::new),
            last: index.map(AtomicU32::new),
            found: Mutex::new([None, None]),
            ready: event()?,
            nudge: event()?,
            stop: AtomicBool::new(false),
            missed: AtomicU64::new(0),
        });
        let watcher = Watcher {
            shared: Arc::clone(&shared),
            news: News::open()?,
            netlink: Netlink::open()?,
            gone: [None, None],
            failed: false,
        };
        thread::Builder::new().name("interfaces".into()).spawn(move || watcher.run())?;
        Ok(Self(shared))
    }

    /// Readable when there is something for [`Self::take`].
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.0.ready.as_fd()
    }

    /// What was found of a side since the last call.
    pub fn take(&self) -> [Option<Look>; 2] {
        lower(&self.0.ready);
        std::mem::take(&mut *self.0.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on the interface of `side` is this one; it is looked at now.
    pub fn aim(&self, side: Side, index: u32) {
        if index != 0 {
            self.0.last[side as usize].store(index, Ordering::Release);
        }
        self.0.index[side as usize].store(index, Ordering::Release);
        raise(&self.0.nudge);
    }

    /// Times that the kernel had more to tell than there was room for.
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }
}

struct Watcher {
    shared: Arc<Shared>,
    news: News,
    netlink: Netlink,
    /// What the kernel told since the last look: which interface went, and how.
    gone: [Option<(u32, Gone)>; 2],
    /// The last look failed, and the log says so.
    failed: bool,
}

impl Watcher {
    fn run(mut self) {
        // Inherited from the packet thread, which comes first; this one need not.
        let _ = realtime::set(0);
        let mut next = Mono::now();
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Mono::now();
            match self.wait(next.saturating_since(now)).and_then(|nudged| Ok(nudged | self.listen()?)) {
                Ok(wanted) if wanted || Mono::now() >= next => {
                    self.look();
                    next = Mono::now() + PAUSE;
                }
                Ok(_) => {}
                Err(error) => {
                    self.complain(&error);
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// True if a look is wanted.
    fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut fds = [self.news.as_fd(), self.shared.nudge.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(lower(&self.shared.nudge)),
            Err(error) => Err(error.into()),
        }
    }

    /// Hears what the kernel has told; true if it is of one of ours, or something was missed.
    fn listen(&mut self) -> io::Result<bool> {
        let (shared, gone, mut ours) = (&self.shared, &mut self.gone, false);
        let missed = self.news.take(|told| {
            for side in Side::ALL {
                // It may be known to be gone before it is known how.
                let index = shared.last[side as usize].load(Ordering::Acquire);
                if told.index == index {
                    gone[side as usize] = told.gone.map(|how| (index, how)).or(gone[side as usize]);
                    ours = true;
                }
                ours |= told.name == shared.names[side as usize];
            }
        })?;
        self.shared.missed.fetch_add(u64::from(missed), Ordering::Relaxed);
        Ok(ours || missed)
    }

    fn look(&mut self) {
        for side in Side::ALL {
            match self.look_for(side) {
                Ok(look) => self.publish(side, look),
                // The next look may be luckier.
                Err(error) => return self.complain(&error),
            }
        }
        self.failed = false;
        raise(&self.shared.ready);
    }

    fn look_for(&mut self, side: Side) -> io::Result<Look> {
        let at = Mono::now();
        let index = self.shared.index[side as usize].load(Ordering::Acquire);
        let there = if index == 0 { None } else { self.netlink.seen_by_index(index)? };
        let given = &self.shared.names[side as usize];
        let named = match &there {
            Some(seen) if seen.name == *given => there.clone(),
            _ => self.netlink.seen(given)?,
        };
        let gone = self.gone[side as usize].take();
        let gone = gone.and_then(|(of, how)| (index == 0 || of == index).then_some(how));
        Ok(Look { at, index, gone, there, named })
    }

    fn publish(&self, side: Side, mut look: Look) {
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut found[side as usize];
        // What went is gone, however it looks now.
        look.gone = look.gone.or_else(|| place.as_ref().filter(|last| last.index == look.index)?.gone);
        *place = Some(look);
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!("the interfaces cannot be looked at: {error}; it is tried again");
        }
    }
}

fn raise(event: &OwnedFd) {
    // The counter cannot be full: who waits for it reads it.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

/// Whether it was raised.
fn lower(event: &OwnedFd) -> bool {
    rustix::io::read(event, &mut [0; 8]).is_ok()
}

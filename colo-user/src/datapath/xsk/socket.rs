//! AF_XDP sockets: one receives from the guest's interface and owns the memory, one transmits on the uplink out of
//! the same memory.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};

use super::super::error::DatapathError;
use super::super::interface::Interface;
use super::super::sys;
use super::ring::{Consumer, Producer};
use super::umem::Umem;

/// A queue whose socket was just closed stays busy for up to a second (seen on 6.18): who has nothing else to do tries this long.
pub(in super::super) const BUSY_LIMIT: Duration = Duration::from_secs(3);
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Smallest ring: the kernel takes any power of two, and unused rings are made this small.
const SMALLEST: u32 = 64;

/// Receives what the guest's interface captures.
#[derive(Debug)]
pub(in super::super) struct Receiver {
    pub received: Consumer<libc::xdp_desc>,
    pub fill: Producer<u64>,
    fd: OwnedFd,
}

/// Transmits on the uplink.
#[derive(Debug)]
pub(in super::super) struct Transmitter {
    pub transmit: Producer<libc::xdp_desc>,
    pub completed: Consumer<u64>,
    refused: u64,
    fd: OwnedFd,
}

impl Receiver {
    /// Binds to queue 0 of `interface`, which may be busy for `patience`. Memory that `sharer` has is shared with it, else it is
    /// registered.
    pub fn bind(
        interface: &Interface,
        umem: &Umem,
        sharer: Option<&Transmitter>,
        patience: Duration,
    ) -> Result<Self, DatapathError> {
        let size = ring_size(umem);
        let sizes = Sizes { receive: size, transmit: 0, fill: size, completion: SMALLEST };
        let socket = Socket::open(interface, umem, sharer.map(|sharer| sharer.fd.as_fd()), sizes)?;
        let (fd, at) = (&socket.fd, &socket.at);
        let failed = |source| socket_error(interface, "ring", source);
        let received = Consumer::map(fd, libc::XDP_PGOFF_RX_RING, &at.rx, size).map_err(failed)?;
        let page = libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed();
        let fill = Producer::map(fd, page, &at.fr, size).map_err(failed)?;
        Ok(Self { received, fill, fd: socket.bind(patience)? })
    }

    /// Counters that the kernel keeps per socket.
    pub fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        statistics(&self.fd)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Transmitter {
    /// As [`Receiver::bind`].
    pub fn bind(
        interface: &Interface,
        umem: &Umem,
        sharer: Option<&Receiver>,
        patience: Duration,
    ) -> Result<Self, DatapathError> {
        let size = ring_size(umem);
        // A socket on another interface needs a fill and a completion ring of its own, used or not.
        let sizes = Sizes { receive: 0, transmit: size, fill: SMALLEST, completion: size };
        let socket = Socket::open(interface, umem, sharer.map(|sharer| sharer.fd.as_fd()), sizes)?;
        let (fd, at) = (&socket.fd, &socket.at);
        let failed = |source| socket_error(interface, "ring", source);
        let transmit = Producer::map(fd, libc::XDP_PGOFF_TX_RING, &at.tx, size).map_err(failed)?;
        let page = libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed();
        let completed = Consumer::map(fd, page, &at.cr, size).map_err(failed)?;
        Ok(Self { transmit, completed, refused: 0, fd: socket.bind(patience)? })
    }

    /// Makes the kernel send what is in the transmit ring. Returns whether all of it was taken; what was not stays
    /// there in order, for the next call.
    pub fn kick(&mut self) -> io::Result<bool> {
        let mut waiting = self.transmit.waiting();
        while waiting != 0 && self.transmit.needs_wakeup() {
            let result = send(&self.fd, &[], SendFlags::DONTWAIT);
            let left = self.transmit.waiting();
            match result {
                // EAGAIN after a batch: there is more. Without progress: no memory for now.
                Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) if left < waiting => {}
                Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => break,
                // The device took a frame and dropped it, or its queue is stopped: going on would lose more. An
                // interface that is down may come back, and another in the place of one that is gone.
                Err(Errno::BUSY | Errno::NETDOWN | Errno::NXIO | Errno::NODEV) => {
                    self.refused += 1;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            waiting = left;
        }
        Ok(self.transmit.waiting() == 0)
    }

    /// Times the device would take no more.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Counters that the kernel keeps per socket.
    pub fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        statistics(&self.fd)
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    receive: u32,
    transmit: u32,
    fill: u32,
    completion: u32,
}

/// One that is not bound yet.
struct Socket<'a> {
    fd: OwnedFd,
    at: libc::xdp_mmap_offsets,
    interface: &'a Interface,
    sharer: Option<BorrowedFd<'a>>,
}

impl<'a> Socket<'a> {
    fn open(
        interface: &'a Interface,
        umem: &Umem,
        sharer: Option<BorrowedFd<'a>>,
        sizes: Sizes,
    ) -> Result<Self, DatapathError> {
        let failed = |step| move |source| socket_error(interface, step, source);
        let fd = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(|error| failed("socket")(error.into()))?;
        if sharer.is_none() {
            sys::set_option(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem.registration())
                .map_err(failed("registering the frame memory (is RLIMIT_MEMLOCK too low?)"))?;
        }
        let at = make_rings(&fd, sizes).map_err(failed("ring sizes"))?;
        Ok(Self { fd, at, interface, sharer })
    }

    fn bind(self, patience: Duration) -> Result<OwnedFd, DatapathError> {
        let (flags, owner) = match self.sharer {
            // What the other has is what this one gets.
            Some(sharer) => (libc::XDP_SHARED_UMEM, sharer.as_raw_fd().cast_unsigned()),
            None => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, 0),
        };
        bind(&self.fd, self.interface, flags, owner, patience)
            .map_err(|source| socket_error(self.interface, "bind to queue 0", source))?;
        Ok(self.fd)
    }
}

/// Room for every frame.
fn ring_size(umem: &Umem) -> u32 {
    umem.frames().next_power_of_two()
}

fn make_rings(fd: &OwnedFd, sizes: Sizes) -> io::Result<libc::xdp_mmap_offsets> {
    for (option, size) in [
        (libc::XDP_RX_RING, sizes.receive),
        (libc::XDP_TX_RING, sizes.transmit),
        (libc::XDP_UMEM_FILL_RING, sizes.fill),
        (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
    ] {
        if size != 0 {
            sys::set_option(fd, libc::SOL_XDP, option, &size)?;
        }
    }
    // SAFETY: a structure of integers, for which all bytes are valid.
    unsafe { sys::get_option(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS) }
}

fn bind(fd: &OwnedFd, interface: &Interface, flags: u16, owner: u32, patience: Duration) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface.index,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: owner,
    };
    let deadline = Instant::now() + patience;
    loop {
        // SAFETY: sockaddr_xdp is the address type of AF_XDP.
        match unsafe { sys::bind(fd, &address) } {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

fn statistics(fd: &OwnedFd) -> io::Result<libc::xdp_statistics> {
    // SAFETY: a structure of integers, for which all bytes are valid.
    unsafe { sys::get_option(fd, libc::SOL_XDP, libc::XDP_STATISTICS) }
}

fn socket_error(interface: &Interface, step: &'static str, source: io::Error) -> DatapathError {
    DatapathError::Socket { interface: interface.name.clone(), step, source }
}

//! A tap whose guest side is this process: what is written to it is the guest's output, what is read from it is
//! the guest's input, one frame per call, as with a QEMU without vhost.

#![allow(unsafe_code, reason = "TUNSETIFF has no safe wrapper in libc or rustix")]

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};

use crate::netns::Netns;

/// Longest frame that [`Tap::read`] takes, in bytes.
pub const MAX_FRAME: usize = 65_536;

/// The guest's end of a tap. The interface goes when this is dropped.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes the tap `name` (single queue, no packet information, no vnet header) in `namespace`, up.
    pub fn new(namespace: &Netns, name: &str) -> Result<Self> {
        let file = namespace.enter(|| open(name)).with_context(|| format!("tap {name}"))?;
        namespace.run(&format!("ip link set {name} up"))?;
        Ok(Self { file })
    }

    /// The guest says one frame.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        let written = (&self.file).write(frame)?;
        if written == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next frame of the guest's input, or `None` when none comes within `timeout`.
    pub fn read(&self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        let timeout = rustix::event::Timespec::try_from(timeout).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout))? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; MAX_FRAME];
        let length = (&self.file).read(&mut frame)?;
        frame.truncate(length);
        Ok(Some(frame))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::other(format!("interface name {name:?} is not 1 to 15 bytes long")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives across the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

//! A socket that says and hears whole frames on an interface: the far end of a veth pair.

#![allow(unsafe_code, reason = "packet socket addresses and options have no safe wrapper in libc or rustix")]

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::netns::Netns;

/// Not in libc: `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// See the module.
#[derive(Debug)]
pub struct RawSocket {
    file: File,
}

impl RawSocket {
    /// A socket on `interface` of `namespace` that hears all frames but its own.
    pub fn new(namespace: &Netns, interface: &str) -> Result<Self> {
        let index = namespace.run(&format!("cat /sys/class/net/{interface}/ifindex"))?.trim().parse()?;
        let file =
            namespace.enter(|| open(index)).with_context(|| format!("packet socket on {interface}"))?;
        Ok(Self { file })
    }

    /// Says one frame.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        match (&self.file).write(frame) {
            // Told once, of an interface that was down.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => (&self.file).write(frame).map(drop),
            written => written.map(drop),
        }
    }

    /// The next frame heard, or `None` when none comes within `timeout`.
    pub fn read(&self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout))? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; crate::tap::MAX_FRAME];
        let length = match (&self.file).read(&mut frame) {
            // Told once, of an interface that was down.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return Ok(None),
            length => length?,
        };
        frame.truncate(length);
        Ok(Some(frame))
    }
}

fn open(index: i32) -> io::Result<File> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    let on = 1_i32;
    // SAFETY: the kernel reads one int, which lives across the call.
    let set = unsafe {
        libc::setsockopt(
            file.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<i32>() as u32,
        )
    };
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    // SAFETY: the kernel reads one sockaddr_ll, which lives across the call.
    let bound = unsafe {
        libc::bind(file.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if set < 0 || bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

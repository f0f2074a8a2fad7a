//! What the kernel tells of interfaces without being asked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use super::link::Told;
use super::{ANSWER, HEADER, u16_at, u32_at};
use crate::datapath::sys;

/// A socket in the group of links.
#[derive(Debug)]
pub(in super::super) struct News {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl News {
    /// In the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        // SAFETY: an all-zero sockaddr_nl is a valid value of this plain C structure.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        // SAFETY: sockaddr_nl is the address type of AF_NETLINK.
        unsafe { sys::bind(&socket, &address) }?;
        Ok(Self { socket, buffer: vec![0; ANSWER] })
    }

    /// Hands out all that has come. True if the kernel had more to tell than there was room for: that is lost.
    pub fn take(&mut self, mut each: impl FnMut(Told)) -> io::Result<bool> {
        let mut missed = false;
        loop {
            match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => messages(&self.buffer[..length], &mut each),
                Err(Errno::NOBUFS) => missed = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(missed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Hands out what the messages in `bytes` say of interfaces; a malformed one ends them.
pub(super) fn messages(mut bytes: &[u8], each: &mut impl FnMut(Told)) {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else { return };
        if let Some(told) = Told::of(kind, body) {
            each(told);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

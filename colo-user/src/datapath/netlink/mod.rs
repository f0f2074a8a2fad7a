//! Questions to the kernel about interfaces. Unlike `/sys`, the answers are always about the namespace in which the
//! socket was opened, whichever thread asks later.

mod features;
mod link;
mod news;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

pub(super) use features::takes_redirects;
pub(super) use link::{AttachedProgram, Link, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};
pub(super) use news::News;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// Longest answer about one interface. Links with many virtual functions exceed a page.
const ANSWER: usize = 64 * 1024;

/// A netlink socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    answer: Vec<u8>,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// An rtnetlink socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Self::with_protocol(None)
    }

    fn with_protocol(protocol: Option<NonZeroU32>) -> io::Result<Self> {
        let protocol = protocol.map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // Without the text an error says less; older kernels have none.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = super::sys::set_option(&socket, libc::SOL_NETLINK, option, &1_i32);
        }
        Ok(Self { socket, sequence: 0, answer: vec![0; ANSWER] })
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// The body of the answer to the last request, empty for an acknowledgement.
    fn receive(&mut self) -> Result<&[u8], (io::Error, Option<String>)> {
        loop {
            let (_, length) = recv(&self.socket, self.answer.as_mut_slice(), RecvFlags::empty())
                .map_err(|error| (error.into(), None))?;
            let answer = &self.answer[..length];
            let (Some(kind), Some(flags), Some(sequence)) =
                (u16_at(answer, 4), u16_at(answer, 6), u32_at(answer, 8))
            else {
                continue;
            };
            if sequence != self.sequence {
                continue;
            }
            if kind != NLMSG_ERROR {
                return Ok(&self.answer[HEADER..length]);
            }
            let code = u32_at(answer, HEADER).map_or(0, u32::cast_signed);
            if code == 0 {
                return Ok(&[]);
            }
            return Err((io::Error::from_raw_os_error(-code), error_text(answer, flags)));
        }
    }
}

/// The extended acknowledgement: attributes after the error code and the request, which is cut to its header if capped.
fn error_text(answer: &[u8], flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = HEADER + 4;
    let length = if flags & NLM_F_CAPPED != 0 { HEADER } else { u32_at(answer, request)? as usize };
    let text = find(answer.get(request + length.next_multiple_of(4)..)?, NLMSGERR_ATTR_MSG)?;
    Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    let start = message.len();
    message.extend_from_slice(&[0; 4]);
    value(message);
    // All attributes here are tens of bytes.
    let length = (message.len() - start) as u16;
    message[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    message[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of `kind`, or `None`; malformed attributes end the search.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? & TYPE_MASK == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;

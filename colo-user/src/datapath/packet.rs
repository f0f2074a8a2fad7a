//! A packet socket that only sends: into the guest's interface, or onto the uplink where AF_XDP is not to be had.
//!
//! It bypasses the queueing discipline, so that a full device is told at once and the frame is still ours.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};

use super::error::DatapathError;
use super::interface::Interface;
use super::sys;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The device has it.
    Yes,
    /// No room now, or no interface; the frame is still ours.
    NotNow,
    /// It can never be sent: too short for a header or longer than the MTU allows.
    Never,
}

/// A sending packet socket.
#[derive(Debug)]
pub(super) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// A socket on `interface`. With `promiscuous` the interface hears every address for as long as the socket lives;
    /// the kernel counts such wishes and restores the interface by itself.
    pub fn open(interface: &Interface, promiscuous: bool) -> Result<Self, DatapathError> {
        let failed =
            |step| move |source| DatapathError::Packet { interface: interface.name.clone(), step, source };
        // Protocol 0 receives nothing.
        let fd = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|error| failed("socket")(error.into()))?;
        let index = interface.index.cast_signed();
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: sockaddr_ll is the address type of AF_PACKET.
        unsafe { sys::bind(&fd, &address) }.map_err(failed("bind"))?;
        sys::set_option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)
            .map_err(failed("queue bypass"))?;
        if promiscuous {
            let wish = libc::packet_mreq {
                mr_ifindex: index,
                mr_type: libc::PACKET_MR_PROMISC as u16,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            sys::set_option(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &wish)
                .map_err(failed("promiscuous mode"))?;
        }
        Ok(Self { fd })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<Sent> {
        match send(&self.fd, frame, SendFlags::DONTWAIT) {
            Ok(_) => Ok(Sent::Yes),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NETDOWN | Errno::BUSY | Errno::NXIO | Errno::NODEV) => {
                Ok(Sent::NotNow)
            }
            Err(Errno::MSGSIZE | Errno::INVAL) => Ok(Sent::Never),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

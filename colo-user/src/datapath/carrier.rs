//! Whether an interface has carrier, asked without a lock that another may hold for long (rtnetlink takes one).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::sys;

/// A watch on one interface. The kernel tells of lost carrier within a second.
#[derive(Debug)]
pub struct Carrier {
    socket: OwnedFd,
    interface: String,
}

impl Carrier {
    /// Of `interface` in the network namespace of this thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(interface: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, interface: interface.to_owned() })
    }

    /// Whether it is up and its driver sees the other end; an interface that is gone has none.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        sys::interface_flags(&self.socket, &self.interface).is_ok_and(|flags| flags & wanted == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_carrier_and_what_is_not_there_has_none() {
        assert!(Carrier::new("lo").unwrap().is_up());
        assert!(!Carrier::new("colo-nothing").unwrap().is_up());
        assert!(!Carrier::new("a-name-longer-than-any-interface-has").unwrap().is_up());
    }
}

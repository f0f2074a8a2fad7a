//! What the sample guest 192.0.2.1 says to its client 192.0.2.9, for tests that need frames and no network.

use std::net::SocketAddr;

use colo_user::wire::build::{Tcp, Wrap, udp_frame};

/// A socket address.
///
/// # Panics
/// If the text is none.
#[must_use]
pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A segment of the guest's web server.
#[must_use]
pub fn tcp() -> Tcp {
    Tcp::new(address("192.0.2.1:80"), address("192.0.2.9:40000")).ack(7)
}

/// A datagram of the guest's name server, in a frame.
#[must_use]
pub fn datagram(payload: &[u8]) -> Vec<u8> {
    udp_frame(address("192.0.2.1:53"), address("192.0.2.9:5000"), payload, &Wrap::default())
}

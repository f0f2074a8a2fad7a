//! Asks the peer's host whether it lives, beside the beats: its kernel answers, the agent need not.
//!
//! Questions go to the ports that the peer's beats come from, out of sockets of their own: connected, so that the kernel's word that
//! nobody listens there comes back as an error.

use super::BeatLink;
use crate::heartbeat::Host;
use crate::mono::Mono;
use colo_ebpf::liveness::{ANSWER, LEN, MAGIC, QUESTION, VERSION};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Most answers taken from one socket in one turn.
const BATCH: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Prober {
    /// Each with its peer, and whether it is connected yet.
    sockets: Vec<(UdpSocket, SocketAddr, bool)>,
    host: Host,
    nonce: u64,
}

impl Prober {
    /// Asks over each link; a host that answers over none for `limit` is silent.
    ///
    /// # Errors
    /// No socket is to be had.
    pub fn new(links: &[BeatLink], limit: Duration) -> io::Result<Self> {
        let open = |link: &BeatLink| {
            let socket = UdpSocket::bind(SocketAddr::new(link.local.ip(), 0))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok((socket, link.peer, false))
        };
        let sockets = links.iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self { sockets, host: Host::new(limit), nonce: 0 })
    }

    /// What is known of the host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Takes answers, and asks once more if that is `due`.
    pub fn turn(&mut self, now: Mono, due: bool) {
        self.nonce += u64::from(due);
        for (socket, peer, connected) in &mut self.sockets {
            // Not before there is a way to it.
            *connected = *connected || socket.connect(*peer).is_ok();
            if *connected {
                read(socket, now, &mut self.host);
                if due
                    && ask(socket, self.nonce)
                        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
                {
                    self.host.refused(now);
                }
            }
        }
    }
}

fn read(socket: &UdpSocket, now: Mono, host: &mut Host) {
    for _ in 0..BATCH {
        let mut bytes = [0; LEN + 1];
        match socket.recv(&mut bytes) {
            Ok(LEN) if bytes[..4] == MAGIC && bytes[4] == VERSION && bytes[5] == ANSWER => {
                let age = bytes[16..24].first_chunk().map_or(0, |age| u64::from_be_bytes(*age));
                host.answered(now, Duration::from_nanos(age));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => host.refused(now),
            Err(_) => return,
        }
    }
}

fn ask(socket: &UdpSocket, nonce: u64) -> io::Result<usize> {
    let mut question = [0; LEN];
    question[..4].copy_from_slice(&MAGIC);
    (question[4], question[5]) = (VERSION, QUESTION);
    question[8..16].copy_from_slice(&nonce.to_be_bytes());
    socket.send(&question)
}

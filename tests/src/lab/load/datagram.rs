//! Datagrams there and back: UDP echo, and ICMP echo on the kernel's ping sockets.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    super::content::{self, CHUNK, Check},
    patient::unspecified,
};

/// After this long without an answer a datagram is sent again, as resolvers do.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// How often a datagram is sent before its request has failed.
pub const SENDS: u32 = 6;

/// Sends the first `length` bytes of stream `seed` to an echo service; how often it was sent. Answers to the
/// streams `earlier` may come again, to a port that is this socket's now: they are passed over.
pub fn udp(server: SocketAddr, seed: u64, length: usize, earlier: &[u64], stop: &AtomicBool) -> Result<u32> {
    let socket = UdpSocket::bind((unspecified(server), 0))?;
    socket.connect(server)?;
    let datagram = content::bytes(seed, length);
    let again = |answer: &[u8]| {
        answer != datagram && earlier.iter().any(|&seed| content::bytes(seed, answer.len()) == answer)
    };
    let (sends, answer) = exchange(&socket, &datagram, again, stop)?;
    check(&answer, seed, length)?;
    Ok(sends)
}

/// The same as data of an ICMP or ICMPv6 echo request.
pub fn ping(server: IpAddr, seed: u64, length: usize, stop: &AtomicBool) -> Result<u32> {
    let server = SocketAddr::from((server, 0));
    // Types of request and reply: RFC 792, RFC 4443 section 4. The kernel fills in identifier and checksum.
    let (domain, protocol, request, reply) = if server.is_ipv4() {
        (Domain::IPV4, Protocol::ICMPV4, 8, 0)
    } else {
        (Domain::IPV6, Protocol::ICMPV6, 128, 129)
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol)).context("a ping socket")?;
    socket.connect(&server.into())?;
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 1];
    message.extend(content::bytes(seed, length));
    let (sends, answer) = exchange(&socket.into(), &message, |_| false, stop)?;
    ensure!(answer.len() >= 8 && answer[0] == reply, "no echo reply: {:?}", &answer[..answer.len().min(8)]);
    check(&answer[8..], seed, length)?;
    Ok(sends)
}

/// Sends on a connected socket until there is an answer that is not one of before.
fn exchange(
    socket: &UdpSocket,
    datagram: &[u8],
    again: impl Fn(&[u8]) -> bool,
    stop: &AtomicBool,
) -> Result<(u32, Vec<u8>)> {
    socket.set_read_timeout(Some(RESEND_AFTER))?;
    let mut answer = vec![0; CHUNK];
    for sends in 1..=SENDS {
        socket.send(datagram)?;
        loop {
            match socket.recv(&mut answer) {
                Ok(got) if again(&answer[..got]) => {}
                Ok(got) => {
                    answer.truncate(got);
                    return Ok((sends, answer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => break,
                Err(error) => return Err(error).context("waiting for a datagram"),
            }
        }
    }
    bail!("no answer to {SENDS} datagrams of {} bytes", datagram.len())
}

fn check(answer: &[u8], seed: u64, length: usize) -> Result<()> {
    let mut check = Check::new();
    check.update(answer);
    Ok(check.against(seed, length as u64)?)
}

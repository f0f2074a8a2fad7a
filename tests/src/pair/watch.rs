//! The witness on the client's switch: what the guest's address said on which uplink, in one order.
//!
//! One packet socket hears both of the switch's ports, so that frames of either side stand in the order in which the
//! switch got them. Three things are shown by what it has heard:
//!
//! - *Never two sides on the wire*: in the order of the wire, one side's frames end before the other's begin. Each change of
//!   side is listed; a pair that was never taken over has none, and a takeover makes one.
//! - *Nothing is taken back*: of every TCP segment the first bytes are kept by their place in the stream, and no later
//!   segment says another byte for the same place.
//! - *In order*: no segment leaves before all bytes that precede it.
//!
//! The kernel's filter passes only frames of the guest's address and their first [`SNAP`] bytes. Frames that the socket
//! had no room for would prove nothing: they are an error.

#![allow(unsafe_code, reason = "packet socket filters and statistics have no safe wrapper in libc or rustix")]

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    lab::topology::{CAPTURE, CAPTURE_SECONDARY, GUEST_MAC},
    netns::Netns,
};

mod said;

use said::{Fault, Said};

/// Bytes kept of a frame: all headers, and what is said first.
const SNAP: usize = 160;
/// Room for frames that wait to be read, bytes as the kernel counts them.
const ROOM: i32 = 256 << 20;
/// How often it looks whether it shall end.
const LOOK: Duration = Duration::from_millis(20);
/// Contradictions whose text is kept.
const KEPT: usize = 4;
/// Not in libc: `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Which uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host where the VM booted.
    First,
    /// The other one.
    Second,
}

/// A frame that came from another side than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The side from here on.
    pub to: Side,
    /// The last frame of the side before, none at the beginning.
    pub last: Option<Instant>,
    /// The first frame of this one.
    pub first: Instant,
}

/// What was heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Changes of side, beginning with the first frame of all.
    pub changes: Vec<Change>,
    /// Frames of the guest's address, on either side.
    pub frames: u64,
    /// Segments that said for a place in a stream what had been said otherwise before.
    pub taken_back: u64,
    /// Segments that left before bytes that precede them had: frames of the guest's own order that were overtaken, or lost.
    pub overtaken: u64,
    /// The first of both.
    pub examples: Vec<String>,
}

impl Heard {
    /// The sides in the order in which they spoke.
    pub fn sides(&self) -> Vec<Side> {
        self.changes.iter().map(|change| change.to).collect()
    }
}

/// A witness at work.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Heard>>>,
}

impl Watch {
    /// Begins to listen on both ports of the client's switch.
    pub fn start(client: &Netns) -> Result<Self> {
        let index = |port: &str| -> Result<u32> {
            Ok(client.run(&format!("cat /sys/class/net/{port}/ifindex"))?.trim().parse()?)
        };
        let (first, second) = (index(CAPTURE)?, index(CAPTURE_SECONDARY)?);
        let socket = client.enter(|| open(first, second)).context("the witness's packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || listen(&socket, first, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends, and says what was heard.
    pub fn finish(mut self) -> Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a witness ends once")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nobody asks any more what it heard.
            let _ = thread.join();
        }
    }
}

fn listen(socket: &OwnedFd, first: u32, stop: &AtomicBool) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut said = HashMap::new();
    let mut last: Option<(Side, Instant)> = None;
    let look = Timespec::try_from(LOOK)?;
    let mut buffer = [0; SNAP];
    loop {
        let Some((length, index)) = receive(socket, &mut buffer)? else {
            // What is there when it is told to stop is still read.
            if stop.load(Ordering::Relaxed) {
                break;
            }
            poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&look))?;
            continue;
        };
        let now = Instant::now();
        let side = if index == first { Side::First } else { Side::Second };
        heard.frames += 1;
        if last.is_none_or(|(before, _)| before != side) {
            heard.changes.push(Change { to: side, last: last.map(|(_, at)| at), first: now });
        }
        last = Some((side, now));
        if let Some((flow, fault)) = remember(&mut said, &buffer[..length]) {
            match fault {
                Fault::TakenBack(_) => heard.taken_back += 1,
                Fault::Overtaken(_) => heard.overtaken += 1,
            }
            if heard.examples.len() < KEPT {
                heard.examples.push(example(flow, fault));
            }
        }
    }
    let lost = dropped(socket)?;
    ensure!(lost == 0, "the witness lost {lost} frames, and proves nothing");
    Ok(heard)
}

/// A connection, as the guest's segments name it: guest, its port, client, its port.
type Flow = (IpAddr, u16, IpAddr, u16);

/// Keeps what a segment says, if it is one, and says what is wrong about it.
fn remember(said: &mut HashMap<Flow, Said>, frame: &[u8]) -> Option<(Flow, Fault)> {
    let segment = said::Segment::read(frame)?;
    let fault = said.entry(segment.flow).or_default().say(&segment).err()?;
    Some((segment.flow, fault))
}

fn example((guest, port, client, client_port): Flow, fault: Fault) -> String {
    let what = match fault {
        Fault::TakenBack(place) => format!("says another byte at {place}"),
        Fault::Overtaken(bytes) => format!("leaves {bytes} bytes ahead"),
    };
    format!("{guest} port {port} to {client} port {client_port} {what}")
}

fn open(first: u32, second: u32) -> io::Result<OwnedFd> {
    // Protocol 0 hears nothing until the filter is in place.
    // SAFETY: takes no pointer.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut filter = filter(first, second);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &ROOM)?;
    option(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C structure; index 0 is every interface.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the kernel reads one sockaddr_ll, which lives across the call.
    let bound = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Classic BPF: frames on one of the two interfaces whose source is the guest, cut to [`SNAP`].
fn filter(first: u32, second: u32) -> [libc::sock_filter; 9] {
    const LD_W_ABS: u16 = 0x20;
    const LD_H_ABS: u16 = 0x28;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_IFINDEX`, `linux/filter.h`.
    const IFINDEX: u32 = (-0x1000_i32 + 8).cast_unsigned();
    let [a, b, c, d, e, f] = GUEST_MAC;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LD_W_ABS, 0, 0, IFINDEX),
        step(JEQ, 1, 0, first),
        step(JEQ, 0, 5, second),
        // The source address follows the destination's six bytes.
        step(LD_H_ABS, 0, 0, 6),
        step(JEQ, 0, 3, u32::from(u16::from_be_bytes([a, b]))),
        step(LD_W_ABS, 0, 0, 8),
        step(JEQ, 0, 1, u32::from_be_bytes([c, d, e, f])),
        step(RET, 0, 0, SNAP as u32),
        step(RET, 0, 0, 0),
    ]
}

fn option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads one T, which lives across the call; the filter that a T may point to lives in the caller.
    let set = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), size_of::<T>() as u32)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One frame: how many of its bytes are in `buffer`, and the interface.
fn receive(fd: &OwnedFd, buffer: &mut [u8; SNAP]) -> io::Result<Option<(usize, u32)>> {
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the kernel writes at most SNAP bytes into the buffer and one address with its length, all of which live
    // across the call.
    let got = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            SNAP,
            0,
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    match usize::try_from(got) {
        Ok(got) => Ok(Some((got, address.sll_ifindex.cast_unsigned()))),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // An interface of the host that is cut off: the others are still heard.
            error if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            error => Err(error),
        },
    }
}

/// Frames that found no room.
fn dropped(fd: &OwnedFd) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as u32;
    // SAFETY: the kernel writes one tpacket_stats and its length, which live across the call.
    let got = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops) }
}

#[cfg(test)]
mod tests;

//! The captures in `tests/captures`, and what may happen to a guest's output on its way that changes nothing.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use colo_user::{
    compare::classify::{Class, Classified, FlowKey, Subject, classify},
    pcap::Capture,
    wire::{
        Ether, Ip, TcpFlags, TcpSegment,
        build::{Tcp, Wrap},
        ether::ethertype,
        ip::address,
        tcp::option,
    },
};

/// The guest in all captures.
pub const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// All captures, by name.
pub const ALL: [&str; 10] = [
    "http-v4",
    "http-v6",
    "chat-v4",
    "chat-v6",
    "dns-v4",
    "dns-v6",
    "fragments-v4",
    "fragments-v6",
    "ping-v4",
    "ping-v6",
];

/// The file of a capture.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name).with_extension("pcap")
}

/// All frames of a capture.
pub fn load(name: &str) -> Result<Vec<Vec<u8>>> {
    let mut capture = Capture::open(&path(name))?;
    let mut frames = Vec::new();
    while let Some(captured) = capture.next_frame()? {
        frames.push(captured.frame.to_vec());
    }
    Ok(frames)
}

/// What the guest said in a capture.
pub fn load_guest(name: &str) -> Result<Vec<Vec<u8>>> {
    let mut frames = load(name)?;
    frames.retain(|frame| frame[6..12] == GUEST);
    Ok(frames)
}

/// What the guest said in each capture, read once.
///
/// # Panics
/// If one of the files that come with the tests cannot be read.
#[must_use]
pub fn shipped() -> &'static [Vec<Vec<u8>>] {
    static SHIPPED: std::sync::LazyLock<Vec<Vec<Vec<u8>>>> = std::sync::LazyLock::new(|| {
        ALL.iter().map(|name| load_guest(name).expect("the captures come with the tests")).collect()
    });
    &SHIPPED
}

/// Writes frames as a pcap file of microsecond timestamps, in this machine's byte order.
pub fn save(path: &Path, frames: &[Vec<u8>]) -> Result<()> {
    fs::write(path, pcap(frames)).with_context(|| format!("cannot write {}", path.display()))
}

/// The bytes of a pcap file.
#[must_use]
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4]);
    file.extend(2_u16.to_ne_bytes());
    file.extend(4_u16.to_ne_bytes());
    file.extend(words(&[0, 0, 262_144, 1]));
    for (number, frame) in frames.iter().enumerate() {
        let (time, length) = (u32::try_from(number).unwrap_or(0), u32::try_from(frame.len()).unwrap_or(0));
        file.extend(words(&[time, 0, length, length]));
        file.extend_from_slice(frame);
    }
    file
}

/// The bytes of a pcapng file, big endian.
#[must_use]
pub fn pcapng(frames: &[Vec<u8>]) -> Vec<u8> {
    fn block(file: &mut Vec<u8>, kind: u32, words: &[u32], data: &[u8]) {
        let length = u32::try_from(12 + words.len() * 4 + data.len().next_multiple_of(4)).unwrap_or(0);
        let head = [&[kind, length], words].concat();
        file.extend(head.iter().flat_map(|w| w.to_be_bytes()));
        file.extend_from_slice(data);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(length.to_be_bytes());
    }
    let mut file = Vec::new();
    block(&mut file, 0x0a0d_0d0a, &[0x1a2b_3c4d, 0x0001_0000, u32::MAX, u32::MAX], &[]);
    block(&mut file, 1, &[0x0001_0000, 0], &[]);
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap_or(0);
        block(&mut file, 6, &[0, 0, 0, length, length], frame);
    }
    file
}

/// A small generator of numbers, the same for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The TCP segment in a frame and its flow.
#[must_use]
pub fn tcp(frame: &[u8]) -> Option<(FlowKey, TcpSegment<'_>)> {
    let Classified { key, subject, .. } = classify(frame);
    match subject {
        Subject::Tcp(segment) => Some((key, segment)),
        _ => None,
    }
}

/// Where the payload that is compared begins in a frame, if it has any. Of an ICMP error only the quoted flow is.
#[must_use]
pub fn payload_start(frame: &[u8]) -> Option<usize> {
    let Classified { class, subject, .. } = classify(frame);
    let payload = match &subject {
        _ if class == Class::IcmpError => return None,
        Subject::Tcp(segment) => segment.payload,
        Subject::Unit(unit) => unit.body,
        _ => return None,
    };
    // A subslice of the frame: where it starts is a difference of addresses.
    (!payload.is_empty()).then(|| payload.as_ptr().addr() - frame.as_ptr().addr())
}

fn headers(frame: &[u8]) -> Option<(Ether, Ip)> {
    let ether = Ether::parse(frame).ok()?;
    let carries_ip = matches!(ether.ethertype, ethertype::IPV4 | ethertype::IPV6);
    let ip = carries_ip.then(|| Ip::parse(frame, ether.payload, ether.ethertype).ok())??;
    Some((ether, ip))
}

/// The segment in `frame` as something that can be changed and made a frame again.
#[must_use]
pub fn rebuild(frame: &[u8]) -> Option<(Tcp, Wrap)> {
    let (_, segment) = tcp(frame)?;
    let (ether, ip) = headers(frame)?;
    let end = |bytes: &[u8; 16], port| SocketAddr::new(address(ip.family, bytes), port);
    let mut made = Tcp::new(end(&ip.src, segment.src_port), end(&ip.dst, segment.dst_port))
        .seq(segment.seq.0)
        .options(segment.options)
        .data(segment.payload);
    made.flags = segment.flags;
    if segment.flags.has(TcpFlags::ACK) {
        made = made.ack(segment.ack.0);
    }
    let wrap = Wrap { dst_mac: ether.dst, src_mac: ether.src, vlans: ether.vlans, id: 1, ttl: 64 };
    Some((made, wrap))
}

/// Cuts data segments in other places, and joins neighbours of one flow.
#[must_use]
pub fn resegmented(frames: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let mut frames = frames.iter().peekable();
    while let Some(frame) = frames.next() {
        let Some((mut whole, wrap)) = rebuild(frame).filter(|(t, _)| !t.payload.is_empty()) else {
            made.push(frame.clone());
            continue;
        };
        // The next one is joined if it goes on where this one ends.
        while whole.payload.len() < 6000
            && let Some((next, _)) = frames.peek().and_then(|next| rebuild(next))
            && (next.src, next.dst) == (whole.src, whole.dst)
            && next.seq == whole.seq + u32::try_from(whole.payload.len()).unwrap_or(0)
            && !whole.flags.has(TcpFlags::FIN)
            && !next.payload.is_empty()
            && random.one_in(2)
        {
            whole.payload.extend(&next.payload);
            whole.flags.0 |= next.flags.0;
            whole.ack = next.ack;
            frames.next();
        }
        let mut at = 0;
        while at < whole.payload.len() {
            let left = whole.payload.len() - at;
            let length = (1 + random.below(1448)).min(left);
            let mut piece = whole.clone();
            piece.seq = whole.seq + u32::try_from(at).unwrap_or(0);
            piece.payload = whole.payload[at..at + length].to_vec();
            if length < left {
                piece.flags.0 &= !TcpFlags::FIN.0;
            }
            made.push(piece.frame_in(&wrap));
            at += length;
        }
    }
    made
}

/// Says some segments again, later.
#[must_use]
pub fn retransmitted(frames: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut made: Vec<Vec<u8>> = Vec::new();
    let mut later: Vec<(usize, Vec<u8>)> = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        made.push(frame.clone());
        let data = tcp(frame).is_some_and(|(_, segment)| !segment.payload.is_empty());
        if data && random.one_in(4) {
            later.push((number + random.below(6), frame.clone()));
        }
        let due = later.iter().filter(|(at, _)| *at <= number).map(|(_, f)| f.clone()).collect::<Vec<_>>();
        later.retain(|(at, _)| *at > number);
        made.extend(due);
    }
    made.extend(later.into_iter().map(|(_, frame)| frame));
    made
}

/// Lets some frames be overtaken by their followers, unless that would change what a flow says: the frames that open and
/// close a connection stay.
#[must_use]
pub fn reordered(frames: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut made = frames.to_vec();
    let fixed = |frame: &[u8]| {
        tcp(frame).is_some_and(|(_, segment)| {
            [TcpFlags::SYN, TcpFlags::FIN, TcpFlags::RST].iter().any(|flag| segment.flags.has(*flag))
        })
    };
    let mut at = 0;
    while at + 1 < made.len() {
        if random.one_in(3) && !fixed(&made[at]) && !fixed(&made[at + 1]) {
            made.swap(at, at + 1);
            at += 1;
        }
        at += 1;
    }
    made
}

/// Changes what routers, NICs and other stacks change: identification, TTL, type of service, checksums, window,
/// TCP timestamps, PSH, and padding at the end.
#[must_use]
pub fn disguised(frames: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut made = frames.to_vec();
    for frame in &mut made {
        let Some((ether, ip)) = headers(frame) else { continue };
        let mut byte = |random: &mut Random, at: usize| frame[at] = random.below(256) as u8;
        if ether.ethertype == ethertype::IPV4 {
            let at = ether.payload;
            // Fragments of one datagram share an identification: it is left to them.
            let same = if ip.fragment.is_some() { &[1, 8][..] } else { &[1, 4, 5, 8, 10, 11] };
            same.iter().for_each(|offset| byte(random, at + offset));
        } else {
            byte(random, ether.payload + 7);
        }
        if let Some((_, segment)) = tcp(frame) {
            let stamps: Vec<usize> = segment
                .options()
                .filter(|option| option.kind == option::TIMESTAMPS)
                .flat_map(|option| (0..option.data.len()).map(move |at| 20 + option.at + 2 + at))
                .collect();
            let at = ip.payload;
            for offset in [14, 15, 16, 17] {
                frame[at + offset] = random.below(256) as u8;
            }
            frame[at + 13] ^= TcpFlags::PSH.0;
            for stamp in stamps {
                frame[at + stamp] = random.below(256) as u8;
            }
        }
        // A packet without a length goes to the end of its frame.
        let field = ether.payload + if ether.ethertype == ethertype::IPV4 { 2 } else { 4 };
        if frame[field..field + 2] == [0, 0] {
            continue;
        }
        let padding = if random.one_in(2) { 60_usize.saturating_sub(frame.len()) } else { random.below(9) };
        frame.extend((0..padding).map(|_| random.below(256) as u8));
    }
    made
}

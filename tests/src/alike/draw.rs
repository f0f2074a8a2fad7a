//! A sequence of what one guest says: a few speakers at a time, each of its own kind, most of them odd.

use crate::captures;
use crate::random::Random;
use colo_ebpf::tags::{MAX_TAGS, TAG_TYPES};
use colo_user::wire::build::{Tcp, Wrap, ether, fragments, icmp_frame, ip, udp_frame};
use colo_user::wire::{TcpFlags, Vlans, proto};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Frames of a sequence, with the speaker of each. A speaker's frames keep their order; two speakers have nothing to do with
/// each other.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Speaker and frame.
    pub frames: Vec<(usize, Vec<u8>)>,
}

/// Most speakers of a sequence.
const SPEAKERS: u64 = 4;

/// Most frames of a speaker. Far fewer than any bound of the comparator: what a bound does has tests of its own.
const FRAMES: u64 = 24;

/// Draws a sequence.
#[must_use]
pub fn sequence(random: &mut Random) -> Drawn {
    let mut speakers: Vec<(usize, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
    // A capture has addresses of its own: one speaker has it at most.
    let mut captured_too = true;
    for speaker in 0..=random.below(SPEAKERS) as usize {
        let said = speaks(speaker, &mut captured_too, random);
        speakers.push((speaker, said.into_iter()));
    }
    let mut frames = Vec::new();
    while !speakers.is_empty() {
        let at = random.below(speakers.len() as u64) as usize;
        let (speaker, said) = &mut speakers[at];
        match said.next() {
            Some(frame) => frames.push((*speaker, frame)),
            None => drop(speakers.swap_remove(at)),
        }
    }
    Drawn { frames }
}

/// What one speaker says.
fn speaks(speaker: usize, captured_too: &mut bool, random: &mut Random) -> Vec<Vec<u8>> {
    let ends = Ends::draw(speaker, random);
    match random.below(12) {
        0..=5 => segments(&ends, random),
        6 | 7 => datagrams(&ends, random),
        8 => pieces(&ends, random),
        9 => frames_of_other_kinds(&ends, random),
        _ if std::mem::take(captured_too) => captured(random),
        _ => segments(&ends, random),
    }
}

/// Who speaks to whom.
struct Ends {
    guest: IpAddr,
    client: IpAddr,
    wrap: Wrap,
}

impl Ends {
    fn draw(speaker: usize, random: &mut Random) -> Self {
        // No two speakers share an address.
        let host = 1 + speaker as u16;
        let (guest, client) = if random.one_in(3) {
            let address = |net: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, net, host));
            (address(1), address(2))
        } else {
            let address = |net: u8| IpAddr::V4(Ipv4Addr::new(192, 0, net, host as u8));
            (address(2), address(3))
        };
        let depth = [0, 0, 0, 0, 1, 2, 3, MAX_TAGS as u16][random.below(8) as usize];
        let tags: Vec<(u16, u16)> =
            (0..depth).map(|n| (TAG_TYPES[random.below(TAG_TYPES.len() as u64) as usize], 100 + n)).collect();
        let vlans = Vlans::of(&tags);
        let vlans = if tags.len() < MAX_TAGS && random.one_in(8) { vlans.in_snap() } else { vlans };
        let wrap = Wrap {
            dst_mac: [2, 0, 0, 0, 1, speaker as u8],
            src_mac: [2, 0, 0, 0, 2, speaker as u8],
            vlans,
            id: 1 + random.below(9000) as u32,
            ttl: 64,
        };
        Self { guest, client, wrap }
    }

    fn socket(&self, client: bool, port: u16) -> SocketAddr {
        SocketAddr::new(if client { self.client } else { self.guest }, port)
    }
}

fn bytes(random: &mut Random, longest: u64, letters: u64) -> Vec<u8> {
    (0..random.below(longest + 1)).map(|_| b'a' + random.below(letters) as u8).collect()
}

/// TCP that contradicts itself in every way: few places, few letters, all control bits.
fn segments(ends: &Ends, random: &mut Random) -> Vec<Vec<u8>> {
    const OPTIONS: [&[u8]; 6] = [
        &[],
        &[2, 4, 5, 180],
        &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
        &[2, 4, 5, 120, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 4],
        &[3, 3, 7, 4, 2, 2, 200],
    ];
    let origin = random.next() as u32;
    let odd = random.below(4);
    let spread = [8, 40, 3000][random.below(3) as usize];
    let longest = [1, 6, 6, 1448][random.below(4) as usize];
    let letters = 1 + random.below(4);
    let mut said = Vec::new();
    let mut next = origin;
    let mut ack = random.next() as u32;
    for _ in 0..1 + random.below(FRAMES) {
        let again: Option<&Tcp> =
            (!said.is_empty() && random.one_in(8)).then(|| &said[random.below(said.len() as u64) as usize]);
        if let Some(again) = again {
            let again = again.clone();
            said.push(again);
            continue;
        }
        let seq = if random.below(4) < odd {
            match random.below(12) {
                0 => random.next() as u32,
                1 => next.wrapping_add(0x7000_0000),
                2 => next.wrapping_sub(1),
                _ => origin.wrapping_add(random.below(spread) as u32),
            }
        } else {
            next
        };
        ack = match random.below(8) {
            0 => ack.wrapping_add(random.below(2000) as u32),
            1 if odd > 2 => random.next() as u32,
            _ => ack,
        };
        let mut segment = Tcp::new(ends.socket(false, 80), ends.socket(true, 4000)).seq(seq);
        if !random.one_in(12) {
            segment = segment.ack(ack);
        }
        let ends_too = odd > 0;
        for (bit, share) in [
            (TcpFlags::SYN, 8),
            (TcpFlags::FIN, 8),
            (TcpFlags::RST, 16),
            (TcpFlags(0x20), 16),
            (TcpFlags::PSH, 2),
        ] {
            if random.one_in(share) && (ends_too || share != 8) {
                segment = segment.flag(bit);
            }
        }
        segment = segment.options(OPTIONS[random.below(OPTIONS.len() as u64) as usize]);
        segment.window = random.next() as u16;
        if !random.one_in(5) {
            segment = segment.data(&bytes(random, longest, letters));
        }
        next = segment.seq.0.wrapping_add(segment.payload.len() as u32);
        said.push(segment);
    }
    said.iter().map(|segment| segment.frame_in(&ends.wrap)).collect()
}

/// Datagrams, echoes, errors, other protocols.
fn datagrams(ends: &Ends, random: &mut Random) -> Vec<Vec<u8>> {
    let six = ends.guest.is_ipv6();
    (0..1 + random.below(FRAMES))
        .map(|_| {
            let data = bytes(random, 12, 2);
            match random.below(8) {
                0..=3 => {
                    let port = 50 + random.below(3) as u16;
                    udp_frame(ends.socket(false, port), ends.socket(true, 9), &data, &ends.wrap)
                }
                4 => {
                    let kind = if six { 129 } else { 0 };
                    icmp_frame(
                        ends.guest,
                        ends.client,
                        kind,
                        0,
                        [0, 7, 0, random.below(3) as u8],
                        &data,
                        &ends.wrap,
                    )
                }
                5 => {
                    let kind = if six { [1, 2, 3, 4] } else { [3, 5, 11, 12] }[random.below(4) as usize];
                    let quoted =
                        udp_frame(ends.socket(true, 9), ends.socket(false, 50), &data, &Wrap::default());
                    let code = random.below(3) as u8;
                    let rest = [0, 0, random.below(2) as u8, 0];
                    icmp_frame(ends.guest, ends.client, kind, code, rest, &quoted[14..], &ends.wrap)
                }
                _ => ip(
                    ends.guest,
                    ends.client,
                    [proto::AH + 1, 47, 132][random.below(3) as usize],
                    &data,
                    &ends.wrap,
                ),
            }
        })
        .collect()
}

/// Fragments: whole datagrams and broken ones, in any order, overlapping, said again.
fn pieces(ends: &Ends, random: &mut Random) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    for n in 0..1 + random.below(4) {
        let wrap = Wrap { id: ends.wrap.id + n as u32, ..ends.wrap.clone() };
        let datagram =
            colo_user::wire::build::udp(ends.socket(false, 53), ends.socket(true, 9), &bytes(random, 60, 2));
        let mut of =
            fragments(ends.guest, ends.client, proto::UDP, &datagram, 8 + random.below(24) as usize, &wrap);
        for at in (1..of.len()).rev() {
            of.swap(at, random.below(at as u64 + 1) as usize);
        }
        match random.below(6) {
            0 => drop(of.pop()),
            1 => of.push(of[random.below(of.len() as u64) as usize].clone()),
            2 => {
                let mut other = of[random.below(of.len() as u64) as usize].clone();
                *other.last_mut().expect("a frame has bytes") ^= 1;
                of.push(other);
            }
            _ => {}
        }
        said.extend(of);
    }
    said
}

/// What is not IP, and what is nothing at all.
fn frames_of_other_kinds(ends: &Ends, random: &mut Random) -> Vec<Vec<u8>> {
    (0..1 + random.below(FRAMES))
        .map(|_| {
            let data = bytes(random, 50, 2);
            match random.below(7) {
                // ARP: a request or an answer.
                0 => {
                    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8];
                    arp.extend(ends.wrap.src_mac);
                    arp.extend([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9]);
                    ether(0x0806, &arp, &ends.wrap)
                }
                // 802.3: a length, then LLC.
                1 => {
                    let mut llc = vec![0xaa, 0xaa, 3];
                    llc.extend(&data);
                    ether(llc.len() as u16, &llc, &ends.wrap)
                }
                2 => ether(0x88cc, &data, &ends.wrap),
                3 => ether(0x8899 + random.below(3) as u16, &data, &ends.wrap),
                // Runts, and frames that claim to be what they are not.
                4 => data[..data.len().min(13)].to_vec(),
                5 => ether(0x0800, &data, &ends.wrap),
                _ => {
                    let mut frame = udp_frame(ends.socket(false, 1), ends.socket(true, 2), &data, &ends.wrap);
                    frame.truncate(random.below(frame.len() as u64) as usize);
                    frame
                }
            }
        })
        .collect()
}

/// A piece of a real capture, with frames mutated, said again, left out and exchanged.
fn captured(random: &mut Random) -> Vec<Vec<u8>> {
    let shipped = captures::shipped();
    let capture = &shipped[random.below(shipped.len() as u64) as usize];
    let from = random.below(capture.len() as u64) as usize;
    let mut said: Vec<Vec<u8>> = capture.iter().skip(from).take(FRAMES as usize).cloned().collect();
    for _ in 0..random.below(8) {
        let at = random.below(said.len() as u64) as usize;
        match random.below(6) {
            0 => said.insert(at, said[random.below(said.len() as u64) as usize].clone()),
            1 if said.len() > 1 => drop(said.remove(at)),
            2 if at > 0 => said.swap(at - 1, at),
            3 => {
                let length = random.below(said[at].len() as u64 + 1) as usize;
                said[at].truncate(length);
            }
            _ => {
                // Mostly in the headers.
                let reach = if random.one_in(3) { said[at].len() } else { said[at].len().min(60) };
                if reach > 0 {
                    let place = random.below(reach as u64) as usize;
                    said[at][place] ^= 1 << random.below(8);
                }
            }
        }
    }
    said
}

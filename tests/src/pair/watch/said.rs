//! What a guest has said on one TCP connection, by place: the first bytes of each segment.
//!
//! Frames are cut short by the capture, so they are read here, without the checks of length that [`colo_user::wire`] makes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Flow;

/// Bytes of each segment that are kept.
const KEPT: usize = 48;
/// Segments kept of one connection; the oldest go, whose bytes the client has long acknowledged.
const SEGMENTS: usize = 1 << 14;

/// A TCP segment as far as it was captured.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) flow: Flow,
    sequence: u32,
    syn: bool,
    fin: bool,
    data: &'a [u8],
    /// Bytes of data that the whole segment has.
    length: usize,
}

impl<'a> Segment<'a> {
    /// Reads an untagged frame; nothing if it is no TCP segment that begins its datagram.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let be16 =
            |bytes: &[u8], at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let ip = frame.get(14..)?;
        let (source, to, total, header) = match be16(frame, 12)? {
            0x0800 if *ip.get(9)? == TCP && be16(ip, 6)? & 0x3fff == 0 => {
                let address =
                    |at| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?)));
                let header = usize::from(ip[0] & 0x0f) * 4;
                (address(12)?, address(16)?, usize::from(be16(ip, 2)?), header)
            }
            0x86dd if *ip.get(6)? == TCP => {
                let address =
                    |at| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?)));
                (address(8)?, address(24)?, usize::from(be16(ip, 4)?) + 40, 40)
            }
            _ => return None,
        };
        let tcp = ip.get(header..)?;
        let begin = usize::from(*tcp.get(12)? >> 4) * 4;
        // Padding is no data, and neither is what was cut off.
        let whole = total.checked_sub(header)?;
        let end = whole.min(tcp.len());
        Some(Self {
            flow: (source, be16(tcp, 0)?, to, be16(tcp, 2)?),
            sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
            syn: *tcp.get(13)? & 0x02 != 0,
            fin: *tcp.get(13)? & 0x01 != 0,
            length: whole.checked_sub(begin)?,
            data: tcp.get(begin..end).unwrap_or_default(),
        })
    }
}

/// What is wrong about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It says another byte than was said before at this place.
    TakenBack(i64),
    /// So many bytes before it have not been said yet.
    Overtaken(i64),
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Said {
    initial: Option<u32>,
    /// The first bytes of segments, by their place after the first number that was seen.
    segments: BTreeMap<i64, Vec<u8>>,
    /// The highest place so far: numbers wrap.
    highest: i64,
    /// The place behind all that was said.
    end: Option<i64>,
}

impl Said {
    /// Takes a segment; the error is what is wrong about it.
    pub(super) fn say(&mut self, segment: &Segment<'_>) -> Result<(), Fault> {
        if segment.syn && self.initial != Some(segment.sequence) {
            *self = Self { initial: Some(segment.sequence), ..Self::default() };
        }
        let initial = *self.initial.get_or_insert(segment.sequence);
        let nearest = initial.wrapping_add(self.highest as u32);
        let place = self.highest + i64::from(segment.sequence.wrapping_sub(nearest).cast_signed());
        self.highest = self.highest.max(place);
        self.contradicts(place + i64::from(segment.syn), segment.data)
            .map_or(Ok(()), |at| Err(Fault::TakenBack(at)))?;
        let length = segment.length as i64 + i64::from(segment.syn) + i64::from(segment.fin);
        if length == 0 {
            return Ok(());
        }
        let before = *self.end.get_or_insert(place);
        self.end = Some(before.max(place + length));
        if place > before { Err(Fault::Overtaken(place - before)) } else { Ok(()) }
    }

    /// Keeps what is said; the first place where another byte was said before.
    fn contradicts(&mut self, place: i64, data: &[u8]) -> Option<i64> {
        let data = &data[..data.len().min(KEPT)];
        if data.is_empty() {
            return None;
        }
        let end = place + data.len() as i64;
        let kept = KEPT as i64;
        for (&other, before) in self.segments.range(place - kept + 1..end) {
            let (from, to) = (place.max(other), end.min(other + before.len() as i64));
            for at in from..to {
                if data[(at - place) as usize] != before[(at - other) as usize] {
                    return Some(at);
                }
            }
        }
        let longer = |before: &Vec<u8>| before.len() >= data.len();
        if !self.segments.get(&place).is_some_and(longer) {
            self.segments.insert(place, data.to_vec());
        }
        if self.segments.len() > SEGMENTS {
            self.segments.pop_first();
        }
        None
    }
}

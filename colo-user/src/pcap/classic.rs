//! The pcap format: a header, then records.
//!
//! Read here rather than by the parser of the other format: that one takes one of the two byte orders of the format with longer record
//! headers, and no file of before 1998 whose two lengths stand the other way round.

use std::io::{BufReader, Read};

use super::{Format, MAX_RECORD, Place, Reason, ethernet, fill};

/// Bytes of the file's header.
const HEADER: usize = 24;
/// Bytes of a record's: seconds, fraction, bytes captured, bytes there were.
const RECORD: usize = 16;
/// What follows them in a patched format that once was in use: interface, protocol, packet type, padding.
const PATCHED_RECORD: usize = 24;

/// Magic numbers: microseconds, nanoseconds, and the patched format.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const PATCHED: u32 = 0xa1b2_cd34;

/// The present version; before 2.3 the lengths changed places, and in 2.3 some writers had not noticed.
const MAJOR: u16 = 2;
const MINOR_SWAPPED: u16 = 3;
/// DG/UX wrote this, with the lengths as before 2.3.
const DG_UX: (u16, u16) = (543, 0);

/// Bits of the link type that name it; above them is what is said of check sequences.
const LINK: u32 = 0x03ff_ffff;
/// The number of 16-bit words in the upper four bits is that of the check sequence.
const CHECK_PRESENT: u32 = 0x0400_0000;
/// An earlier draft had this bit for it, and three above it for the words.
const CHECK_PRESENT_ONCE: u32 = 0x1000_0000;

/// In which order two lengths stand.
#[derive(Clone, Copy, PartialEq)]
enum Lengths {
    AsTheyAre,
    Swapped,
    /// The larger one is what there was.
    ByTheirSize,
}

struct Classic<R> {
    source: BufReader<R>,
    big_endian: bool,
    /// Bytes of a record's header.
    record: usize,
    lengths: Lengths,
    link: u32,
    /// Bytes of each frame's check sequence.
    check: usize,
    offset: usize,
    /// Bytes of the record read last.
    last: usize,
    frame: Vec<u8>,
}

/// Reads the header of a file.
pub(super) fn open(source: impl Read + Send + 'static) -> Result<Box<dyn Format>, Reason> {
    let mut source = BufReader::with_capacity(256 * 1024, source);
    let mut header = [0; HEADER];
    let there = fill(&mut source, &mut header).map_err(Reason::Io)?;
    let magic = [header[0], header[1], header[2], header[3]];
    let known = |magic: &u32| matches!(*magic, MICROSECONDS | NANOSECONDS | PATCHED);
    let orders = [(u32::from_le_bytes(magic), false), (u32::from_be_bytes(magic), true)];
    let Some((magic, big_endian)) = orders.into_iter().find(|(magic, _)| known(magic)) else {
        return Err(Reason::Unknown);
    };
    if there < HEADER {
        return Err(Reason::Truncated);
    }
    let short = |at: usize| {
        let bytes = [header[at], header[at + 1]];
        if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    };
    let lengths = match (short(4), short(6)) {
        DG_UX => Lengths::Swapped,
        (MAJOR, minor) if minor < MINOR_SWAPPED => Lengths::Swapped,
        (MAJOR, MINOR_SWAPPED) => Lengths::ByTheirSize,
        (MAJOR, _) => Lengths::AsTheyAre,
        (major, minor) => return Err(Reason::Version(major, minor)),
    };
    let link = long(&header[20..], big_endian);
    Ok(Box::new(Classic {
        source,
        big_endian,
        record: if magic == PATCHED { PATCHED_RECORD } else { RECORD },
        lengths,
        link: link & LINK,
        check: check_length(link),
        offset: HEADER,
        last: 0,
        frame: Vec::new(),
    }))
}

/// Bytes of the check sequence that a link type declares.
const fn check_length(link: u32) -> usize {
    let words = if link & CHECK_PRESENT != 0 {
        link >> 28
    } else if link & CHECK_PRESENT_ONCE != 0 {
        link >> 29
    } else {
        0
    };
    2 * words as usize
}

fn long(bytes: &[u8], big_endian: bool) -> u32 {
    let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

impl<R: Read + Send> Format for Classic<R> {
    fn step(&mut self) -> Result<Option<Place>, Reason> {
        self.offset += std::mem::take(&mut self.last);
        let mut header = [0; PATCHED_RECORD];
        let header = &mut header[..self.record];
        match fill(&mut self.source, header).map_err(Reason::Io)? {
            0 => return Ok(None),
            there if there < self.record => return Err(Reason::Truncated),
            _ => {}
        }
        // A file without frames may be of any kind.
        ethernet(self.link)?;
        let (captured, original) =
            (long(&header[8..], self.big_endian), long(&header[12..], self.big_endian));
        let swap = match self.lengths {
            Lengths::AsTheyAre => false,
            Lengths::Swapped => true,
            Lengths::ByTheirSize => captured > original,
        };
        let (captured, original) = if swap { (original, captured) } else { (captured, original) };
        let captured =
            usize::try_from(captured).ok().filter(|&n| n <= MAX_RECORD).ok_or(Reason::Malformed)?;
        self.frame.resize(captured, 0);
        if fill(&mut self.source, &mut self.frame).map_err(Reason::Io)? < captured {
            return Err(Reason::Truncated);
        }
        self.last = self.record + captured;
        Ok(Some(Place::new(0, captured, original as usize, self.check)))
    }

    fn data(&self) -> &[u8] {
        &self.frame
    }

    fn offset(&self) -> usize {
        self.offset
    }
}

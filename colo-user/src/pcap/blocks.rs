//! The pcapng format: sections of blocks, with interfaces and the frames that came through them.
//!
//! The parser finds the blocks and their fields. What it leaves to its caller is done here: which interface a block names, how long a
//! simple packet is, what a frame's check sequence is, and the obsolete packet block, which it does not know.

use std::io::{self, Read};

use pcap_parser::{
    Block, PcapBlockOwned, PcapError, PcapNGOption, PcapNGReader,
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

use super::{Format, MAX_RECORD, Place, Reason, ethernet, fill};

/// First bytes of a file: the type of a section header, the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// Block type of the obsolete packet block, and bytes before its frame.
const OBSOLETE_PACKET: u32 = 2;
const OBSOLETE_HEADER: usize = 28;
/// Bytes of a block before the frame in an enhanced and in a simple packet block.
const ENHANCED_HEADER: usize = 28;
const SIMPLE_HEADER: usize = 12;
/// Bytes of a block around its body.
const BLOCK_HEADER: usize = 8;

/// Option of an interface: length of its frames' check sequences.
const IF_FCSLEN: u16 = 13;
/// Option of a packet: flags, of which bits 5 to 8 are the length of its check sequence, or 0.
const FLAGS: u16 = 2;
const END_OF_OPTIONS: u16 = 0;

/// One interface of the present section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    /// Most bytes captured of a frame; 0: all.
    snap: usize,
    /// Bytes of each frame's check sequence.
    check: usize,
}

struct Blocks<R: Read> {
    reader: PcapNGReader<Whole<R>>,
    /// Size of the parser's buffer, which grows for large records.
    capacity: usize,
    section: Section,
    /// Bytes of the record given out last, to be passed over at the next call.
    last: usize,
}

/// What the blocks of a section refer to.
#[derive(Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// Reads the header of a file.
pub(super) fn open(source: impl Read + Send + 'static) -> Result<Box<dyn Format>, Reason> {
    let reader = PcapNGReader::new(BUFFER, Whole(source)).map_err(|e| match e {
        PcapError::ReadError => Reason::Io(io::ErrorKind::Other.into()),
        PcapError::Incomplete(_) | PcapError::UnexpectedEof => Reason::Truncated,
        _ => Reason::Malformed,
    })?;
    Ok(Box::new(Blocks { reader, capacity: BUFFER, section: Section::default(), last: 0 }))
}

impl<R: Read + Send> Format for Blocks<R> {
    /// Steps to the next record with a frame. Where the frame lies is told relative to the record's start, as the record itself is
    /// borrowed from the parser's buffer.
    fn step(&mut self) -> Result<Option<Place>, Reason> {
        loop {
            self.reader.consume(std::mem::take(&mut self.last));
            let trouble = match self.reader.next() {
                Ok((size, PcapBlockOwned::NG(block))) => {
                    self.last = size;
                    match self.section.examine(&block)? {
                        Some(place) if place.start + place.length <= size => return Ok(Some(place)),
                        Some(_) => return Err(Reason::Malformed),
                        None => continue,
                    }
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => Trouble::Short,
                Err(PcapError::BufferTooSmall) => Trouble::Small,
                Err(PcapError::UnexpectedEof) => return Err(Reason::Truncated),
                Err(PcapError::ReadError) => return Err(Reason::Io(io::ErrorKind::Other.into())),
                Ok(_) | Err(_) => return Err(Reason::Malformed),
            };
            match trouble {
                Trouble::Short => {}
                Trouble::Small if self.capacity < MAX_RECORD => {
                    self.capacity *= 2;
                    self.reader.grow(self.capacity);
                }
                Trouble::Small => return Err(Reason::Malformed),
            }
            self.reader.refill().map_err(|_| Reason::Io(io::ErrorKind::Other.into()))?;
        }
    }

    fn data(&self) -> &[u8] {
        self.reader.data()
    }

    fn offset(&self) -> usize {
        self.reader.consumed()
    }
}

/// What the parser lacks.
enum Trouble {
    /// Bytes.
    Short,
    /// Room for them.
    Small,
}

impl Section {
    /// What a block means: a frame, or something that describes frames.
    fn examine(&mut self, block: &Block<'_>) -> Result<Option<Place>, Reason> {
        match block {
            Block::SectionHeader(header) => {
                *self = Self { big_endian: header.big_endian(), interfaces: Vec::new() };
                Ok(None)
            }
            Block::InterfaceDescription(interface) => {
                let check = interface.options.iter().find(|option| option.code.0 == IF_FCSLEN);
                self.interfaces.push(Interface {
                    link: interface.linktype.0.cast_unsigned(),
                    snap: interface.snaplen as usize,
                    check: check.and_then(|o| o.value.first()).map_or(0, |&length| check_length(length)),
                });
                Ok(None)
            }
            Block::EnhancedPacket(packet) => {
                let interface = self.interface(packet.if_id)?;
                let flags = packet.options.iter().find(|option| option.code.0 == FLAGS).and_then(word_of);
                let check = self.check(flags).unwrap_or(interface.check);
                let (captured, original) = (packet.caplen as usize, packet.origlen as usize);
                Ok(Some(Place::new(ENHANCED_HEADER, captured, original, check)))
            }
            Block::SimplePacket(packet) => {
                let interface = self.interface(0)?;
                let original = packet.origlen as usize;
                let captured = if interface.snap == 0 { original } else { original.min(interface.snap) };
                // The rest of the block is padding, less than a word.
                if !(captured..captured + 4).contains(&packet.raw_packet_data().len()) {
                    return Err(Reason::Malformed);
                }
                Ok(Some(Place::new(SIMPLE_HEADER, captured, original, interface.check)))
            }
            Block::Unknown(block) if self.native(block.block_type) == OBSOLETE_PACKET => {
                self.obsolete(block.data).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn interface(&self, number: u32) -> Result<Interface, Reason> {
        let interface = *self.interfaces.get(number as usize).ok_or(Reason::Malformed)?;
        ethernet(interface.link)?;
        Ok(interface)
    }

    /// The obsolete packet block: interface and drops of 16 bits each, time, two lengths, the frame, options.
    fn obsolete(&self, body: &[u8]) -> Result<Place, Reason> {
        let header = body.first_chunk::<{ OBSOLETE_HEADER - BLOCK_HEADER }>().ok_or(Reason::Malformed)?;
        let interface = self.interface(self.short([header[0], header[1]]).into())?;
        let length = |at| self.word([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (captured, original) = (length(12), length(16));
        let mut options = body
            .get(header.len()..)
            .and_then(|rest| rest.get(captured.checked_next_multiple_of(4)?..))
            .ok_or(Reason::Malformed)?;
        let mut check = interface.check;
        while let [a, b, c, d, rest @ ..] = options {
            let (code, length) = (self.short([*a, *b]), usize::from(self.short([*c, *d])));
            if code == END_OF_OPTIONS {
                break;
            }
            let flags = rest.get(..length).and_then(<[u8]>::first_chunk::<4>).filter(|_| code == FLAGS);
            check = self.check(flags.copied()).unwrap_or(check);
            options = rest.get(length.next_multiple_of(4)..).ok_or(Reason::Malformed)?;
        }
        Ok(Place::new(OBSOLETE_HEADER, captured, original, check))
    }

    /// The length of a check sequence that a packet's own flags name.
    fn check(&self, flags: Option<[u8; 4]>) -> Option<usize> {
        let length = self.word(flags?) >> 5 & 0x0f;
        (length != 0).then_some(length as usize)
    }

    /// A number that the parser has read as little endian.
    const fn native(&self, word: u32) -> u32 {
        if self.big_endian { word.swap_bytes() } else { word }
    }

    const fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    const fn short(&self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

fn word_of(option: &PcapNGOption<'_>) -> Option<[u8; 4]> {
    option.as_bytes().ok()?.first_chunk().copied()
}

/// Bytes of a check sequence by an interface's option. It is defined in bits, its example is in bytes, and so are files.
const fn check_length(length: u8) -> usize {
    if length >= 16 { length.div_ceil(8) as usize } else { length as usize }
}

/// Fills the buffer as far as the source goes: the parser takes a short read at the start for the whole file.
struct Whole<R>(R);

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        fill(&mut self.0, buffer)
    }
}

//! Capture files, pcap and pcapng, as a stream of Ethernet frames.
//!
//! Both byte orders, both timestamp resolutions and every section and interface of a pcapng file are read.
//! Timestamps are not: what two guests said is compared, not when. A file that ends within a record, or whose
//! records contradict themselves, is an error that says after which frame; nothing is skipped.

use std::{fmt, fs::File, io, path::Path};

use pcap_parser::{
    Block, Linktype, PcapBlockOwned, PcapError, create_reader,
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};
use thiserror::Error;

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// The largest record that is read. Real ones end at libpcap's largest snap length, 256 KiB.
const MAX_RECORD: usize = 16 * 1024 * 1024;

/// `pcapng` block type of the obsolete packet block.
const OBSOLETE_PACKET_BLOCK: u32 = 2;

/// Why a capture cannot be used. [`CaptureError::reason`] says what, the rest where.
#[derive(Debug, Error)]
#[error("{file}: {reason} (after {frames} frames, at byte {offset})")]
pub struct CaptureError {
    /// The file's name.
    pub file: String,
    /// What is wrong.
    pub reason: Reason,
    /// Frames read before.
    pub frames: u64,
    /// Bytes read before.
    pub offset: usize,
}

impl CaptureError {
    /// A file of which nothing could be read.
    #[must_use]
    pub const fn unreadable(file: String, error: io::Error) -> Self {
        Self { file, reason: Reason::Io(error), frames: 0, offset: 0 }
    }
}

/// What is wrong with a capture.
#[derive(Debug, Error)]
pub enum Reason {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Neither magic number.
    #[error("is neither pcap nor pcapng")]
    Unknown,
    /// The file ends within its header or within a record.
    #[error("ends in the middle of a record: the capture is truncated or damaged")]
    Truncated,
    /// A record contradicts itself.
    #[error("has a malformed record: the capture is damaged")]
    Malformed,
    /// Frames of another kind than Ethernet.
    #[error(
        "has link type {0}, only Ethernet is compared; capture on the guest's own interface (not on `any`)"
    )]
    LinkType(LinkType),
    /// A pcapng block that is no longer written and carries frames.
    #[error("has obsolete packet blocks; rewrite it with `editcap -F pcapng`")]
    Obsolete,
}

/// A link type by number and, where it has one, name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(i32);

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, Linktype(self.0))
    }
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The bytes captured.
    pub frame: &'a [u8],
    /// True when the capture kept fewer bytes than the frame had (a snap length).
    pub cut: bool,
}

/// A capture being read.
pub struct Capture {
    file: String,
    reader: Box<dyn PcapReaderIterator + Send>,
    /// Size of the parser's buffer, which grows for large records.
    capacity: usize,
    /// Link types by interface; a pcap file has one.
    interfaces: Vec<Linktype>,
    frames: u64,
    /// Bytes of the record given out last, to be passed over at the next call.
    last: usize,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("file", &self.file)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl Capture {
    /// Opens a capture file and reads its header.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = path.display().to_string();
        let opened = File::open(path).and_then(|source| match source.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(source),
        });
        let source = opened.map_err(|e| CaptureError::unreadable(file.clone(), e))?;
        Self::new(file, source)
    }

    /// Reads a capture from anything; `name` is for messages.
    pub fn new(name: String, source: impl io::Read + Send + 'static) -> Result<Self, CaptureError> {
        let reader = create_reader(BUFFER, Whole(source)).map_err(|e| CaptureError {
            file: name.clone(),
            reason: match e {
                PcapError::ReadError => Reason::Io(io::ErrorKind::Other.into()),
                PcapError::Incomplete(_) | PcapError::UnexpectedEof => Reason::Truncated,
                _ => Reason::Unknown,
            },
            frames: 0,
            offset: 0,
        })?;
        Ok(Self { file: name, reader, capacity: BUFFER, interfaces: Vec::new(), frames: 0, last: 0 })
    }

    /// The next frame, `None` at the end of the file. After an error there is nothing more to read.
    pub fn next_frame(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        self.find(|_| true)
    }

    /// The next frame that is `wanted`; the others are passed over.
    pub fn find(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Captured<'_>>, CaptureError> {
        let place = loop {
            match self.step() {
                Ok(None) => return Ok(None),
                Ok(Some(place)) => {
                    self.frames += 1;
                    if wanted(&self.reader.data()[place.start..place.start + place.length]) {
                        break place;
                    }
                }
                Err(reason) => {
                    let (file, offset) = (self.file.clone(), self.reader.consumed());
                    return Err(CaptureError { file, reason, frames: self.frames, offset });
                }
            }
        };
        let frame = &self.reader.data()[place.start..place.start + place.length];
        Ok(Some(Captured { frame, cut: place.cut }))
    }

    /// Steps to the next record with a frame. Where the frame lies is told relative to the record's start, as the
    /// record itself is borrowed from the parser's buffer.
    fn step(&mut self) -> Result<Option<Place>, Reason> {
        loop {
            self.reader.consume(std::mem::take(&mut self.last));
            let trouble = match self.reader.next() {
                Ok((size, block)) => {
                    self.last = size;
                    match examine(&block, &mut self.interfaces)? {
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
                Err(_) => return Err(Reason::Malformed),
            };
            match trouble {
                Trouble::Short => {
                    self.reader.refill().map_err(|_| Reason::Io(io::ErrorKind::Other.into()))?;
                }
                Trouble::Small if self.capacity < MAX_RECORD => {
                    self.capacity *= 2;
                    self.reader.grow(self.capacity);
                    self.reader.refill().map_err(|_| Reason::Io(io::ErrorKind::Other.into()))?;
                }
                Trouble::Small => return Err(Reason::Malformed),
            }
        }
    }
}

/// What the parser lacks.
enum Trouble {
    /// Bytes.
    Short,
    /// Room for them.
    Small,
}

/// Where a frame lies in its record.
struct Place {
    start: usize,
    length: usize,
    cut: bool,
}

/// What a record means: a frame, or something that describes frames.
fn examine(block: &PcapBlockOwned<'_>, interfaces: &mut Vec<Linktype>) -> Result<Option<Place>, Reason> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            // The upper bits tell about frame check sequences.
            interfaces.push(Linktype(header.network.0 & 0x03ff_ffff));
            Ok(None)
        }
        PcapBlockOwned::Legacy(record) => {
            ethernet(interfaces.first())?;
            let start = 16;
            Ok(Some(Place { start, length: record.data.len(), cut: record.caplen < record.origlen }))
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            Ok(None)
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            interfaces.push(interface.linktype);
            Ok(None)
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            ethernet(interfaces.get(packet.if_id as usize))?;
            let cut = packet.caplen < packet.origlen;
            Ok(Some(Place { start: 28, length: packet.caplen as usize, cut }))
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            ethernet(interfaces.first())?;
            let length = packet.packet_data().len();
            Ok(Some(Place { start: 12, length, cut: length < packet.origlen as usize }))
        }
        PcapBlockOwned::NG(Block::Unknown(block)) if block.block_type == OBSOLETE_PACKET_BLOCK => {
            Err(Reason::Obsolete)
        }
        PcapBlockOwned::NG(_) => Ok(None),
    }
}

fn ethernet(interface: Option<&Linktype>) -> Result<(), Reason> {
    match interface {
        Some(&Linktype::ETHERNET) => Ok(()),
        Some(other) => Err(Reason::LinkType(LinkType(other.0))),
        None => Err(Reason::Malformed),
    }
}

/// Fills the buffer as far as the source goes: the parser takes a short read at the start for the whole file.
struct Whole<R>(R);

impl<R: io::Read> io::Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests;

//! Capture files as a stream of Ethernet frames: pcap ([`classic`]) and pcapng ([`blocks`]).
//!
//! Both byte orders, both timestamp resolutions, longer record headers, and every section and interface of a pcapng file are
//! read. Timestamps are not: what two guests said is compared, not when. A declared frame check sequence is cut off: it is no content.
//! A file that ends within a record, or whose records contradict themselves, is an error that says after which frame; nothing is
//! skipped.

mod blocks;
mod classic;

use std::{
    fmt,
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use pcap_parser::Linktype;
use thiserror::Error;

/// The largest record that is read. Real ones end at libpcap's largest snap length, 256 KiB.
const MAX_RECORD: usize = 16 * 1024 * 1024;

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
    /// There is nothing in the file.
    #[error("is empty: not even a capture without frames")]
    Empty,
    /// No magic number of a capture.
    #[error("is neither pcap nor pcapng")]
    Unknown,
    /// A file format that is older or newer than any that is known.
    #[error("is pcap of version {0}.{1}, known is 2; rewrite it with `editcap -F pcap`")]
    Version(u16, u16),
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
}

/// A link type by number and, where it has one, name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(u32);

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, Linktype(self.0.cast_signed()))
    }
}

/// One captured frame, without its check sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The bytes captured.
    pub frame: &'a [u8],
    /// How many more the frame had: the capture was told to keep the first ones (a snap length).
    pub missing: usize,
}

/// Where a frame lies in what was read last.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    length: usize,
    missing: usize,
}

impl Place {
    /// Of a frame that was `original` bytes long, the `captured` ones from `start` on, less a check sequence of `check` bytes at the
    /// frame's end.
    const fn new(start: usize, captured: usize, original: usize, check: usize) -> Self {
        // A record that has more than there was is taken at its word about what it has.
        let whole = if original < captured { captured } else { original };
        let content = whole.saturating_sub(check);
        let length = if content < captured { content } else { captured };
        Self { start, length, missing: content - length }
    }
}

/// One of the file formats.
trait Format: Send {
    /// Reads up to the next frame; `None` at the end of the file.
    fn step(&mut self) -> Result<Option<Place>, Reason>;
    /// What the place lies in.
    fn data(&self) -> &[u8];
    /// Bytes read before the record at hand.
    fn offset(&self) -> usize;
}

/// A capture being read.
pub struct Capture {
    file: String,
    format: Box<dyn Format>,
    frames: u64,
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
    pub fn new(name: String, mut source: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        let format = (|| {
            let mut magic = [0; 4];
            match fill(&mut source, &mut magic).map_err(Reason::Io)? {
                0 => return Err(Reason::Empty),
                4 => {}
                _ => return Err(Reason::Truncated),
            }
            let whole = Cursor::new(magic).chain(source);
            match magic {
                blocks::MAGIC => blocks::open(whole),
                _ => classic::open(whole),
            }
        })();
        match format {
            Ok(format) => Ok(Self { file: name, format, frames: 0 }),
            Err(reason) => Err(CaptureError { file: name, reason, frames: 0, offset: 0 }),
        }
    }

    /// The next frame, `None` at the end of the file. After an error there is nothing more to read.
    pub fn next_frame(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        self.find(|_| true)
    }

    /// The next frame that is `wanted`; the others are passed over.
    pub fn find(
        &mut self,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Captured<'_>>, CaptureError> {
        let place = loop {
            match self.format.step() {
                Ok(None) => return Ok(None),
                Ok(Some(place)) => {
                    self.frames += 1;
                    if wanted(&self.format.data()[place.start..place.start + place.length]) {
                        break place;
                    }
                }
                Err(reason) => {
                    let (file, offset) = (self.file.clone(), self.format.offset());
                    return Err(CaptureError { file, reason, frames: self.frames, offset });
                }
            }
        };
        let frame = &self.format.data()[place.start..place.start + place.length];
        Ok(Some(Captured { frame, missing: place.missing }))
    }
}

/// Only Ethernet is compared.
const fn ethernet(link: u32) -> Result<(), Reason> {
    if link == Linktype::ETHERNET.0.cast_unsigned() { Ok(()) } else { Err(Reason::LinkType(LinkType(link))) }
}

/// Reads until `buffer` is full or the source ends: how much there was.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;

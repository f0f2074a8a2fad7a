//! The captures: read as often as is needed, and with `--guest-mac` only one sender's frames.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::pcap::{Capture, CaptureError, Captured};

/// Most senders that an error names.
const MAX_NAMED: usize = 8;

/// Most senders that are told apart.
const MAX_SENDERS: usize = 4096;

/// Why captures cannot be compared.
#[derive(Debug, Error)]
pub enum Unusable {
    /// One cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The guest says nothing in it.
    #[error("{file}: no frame is sent by {} (--guest-mac); {senders}", Mac(*.guest))]
    NoGuest {
        /// The file's name.
        file: String,
        /// The address that was asked for.
        guest: [u8; 6],
        /// Who else says something.
        senders: Senders,
    },
}

/// A capture that can be read several times. What is no regular file (a pipe) is kept in memory.
pub struct Source {
    name: String,
    path: PathBuf,
    kept: Option<Arc<[u8]>>,
}

impl Source {
    /// The capture in a file.
    pub fn new(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        let piped = fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
        let kept = piped.then(|| {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map(|_| Arc::from(bytes))
        });
        let kept = kept.transpose().map_err(|e| CaptureError::unreadable(name.clone(), e))?;
        Ok(Self { name, path: path.to_owned(), kept })
    }

    fn open(&self) -> Result<Capture, CaptureError> {
        match &self.kept {
            Some(bytes) => Capture::new(self.name.clone(), Cursor::new(Arc::clone(bytes))),
            None => Capture::open(&self.path),
        }
    }
}

/// The guest's frames in a capture, read once.
pub struct Frames {
    capture: Capture,
    file: String,
    guest: Option<[u8; 6]>,
    heard: bool,
    senders: Senders,
}

impl Frames {
    /// Of all senders, or of one.
    pub fn new(source: &Source, guest: Option<[u8; 6]>) -> Result<Self, CaptureError> {
        let capture = source.open()?;
        Ok(Self { capture, file: source.name.clone(), guest, heard: false, senders: Senders::default() })
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        let Self { capture, guest, heard, senders, .. } = self;
        capture.find(|frame| {
            let Some(guest) = *guest else { return true };
            let sender = frame.get(6..12).and_then(<[u8]>::first_chunk::<6>);
            let is_guest = sender == Some(&guest);
            *heard |= is_guest;
            if !*heard {
                senders.note(sender);
            }
            is_guest
        })
    }

    /// At the end: an error if there is a guest that has said nothing.
    pub fn ensure_heard(self) -> Result<(), Unusable> {
        match self.guest {
            Some(guest) if !self.heard => {
                Err(Unusable::NoGuest { file: self.file, guest, senders: self.senders })
            }
            _ => Ok(()),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// Who sends the frames of a capture.
#[derive(Debug, Default)]
pub struct Senders {
    frames: BTreeMap<[u8; 6], u64>,
    /// Frames too short to have a sender.
    runts: u64,
    /// Frames of senders beyond [`MAX_SENDERS`].
    others: u64,
}

impl Senders {
    fn note(&mut self, sender: Option<&[u8; 6]>) {
        let full = self.frames.len() >= MAX_SENDERS;
        match sender {
            None => self.runts += 1,
            Some(sender) if full && !self.frames.contains_key(sender) => self.others += 1,
            Some(sender) => *self.frames.entry(*sender).or_default() += 1,
        }
    }
}

/// Those who send most, first.
impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frames.is_empty() {
            return match self.runts {
                0 => write!(f, "there is no frame in it"),
                runts => write!(f, "its {runts} frames are too short to have a sender"),
            };
        }
        let mut senders: Vec<_> = self.frames.iter().collect();
        senders.sort_by_key(|&(mac, &frames)| (std::cmp::Reverse(frames), *mac));
        write!(f, "its senders are ")?;
        for (number, (mac, frames)) in senders.iter().take(MAX_NAMED).enumerate() {
            write!(f, "{}{} ({frames} frames)", if number > 0 { ", " } else { "" }, Mac(**mac))?;
        }
        match senders.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }?;
        if self.others > 0 {
            write!(f, ", and {} frames of others", self.others)?;
        }
        Ok(())
    }
}

/// An Ethernet address as people write it.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

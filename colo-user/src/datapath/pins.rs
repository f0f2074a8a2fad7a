//! Programs and maps that outlive their agent: pinned in a bpffs, found there again by the next one.
//!
//! ```text
//! /sys/fs/bpf/colo/v4/            the ABI's version
//!     1a-7/                       network namespace (its cookie) and index of the guest's interface
//!         MODE, SETTINGS, ...     the maps
//!         link_uplink, link_guest the programs where they are attached; written last
//!         promiscuous/            the uplink was made to take frames for any address, as long as the pins live
//! ```
//!
//! The directory is locked (`flock`) by the agent that works with it, so a lock that can be had means that its agent is gone.
//! Whoever has the lock may adopt the pins or remove them. Pins whose interfaces are gone, or that were never finished, are
//! removed by the next agent that starts on this host, in whichever namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use colo_ebpf::{ABI_VERSION, PINNED_MAPS};
use rustix::fs::{FlockOperation, flock, statfs};

use super::bpf::{LinkInfo, XdpLink, pin};
use super::error::DatapathError;
use super::programs::map_error;
use super::sys;
use crate::path::Side;

/// Where the bpffs is expected.
pub const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: u32 = 0xcafe_4a11;
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Beside the pins: the uplink was made promiscuous for them.
const PROMISCUOUS: &str = "promiscuous";

/// How the pins of one pair of interfaces are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// For the guest's interface `index` in the network namespace of `socket`. Neither number is used twice while the host
    /// runs.
    pub fn new(socket: &impl AsFd, index: u32) -> io::Result<Self> {
        // SAFETY: the option is a 64-bit number, of which any bytes are one.
        let cookie: u64 = unsafe { sys::get_option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)? };
        Ok(Self(format!("{cookie:x}-{index}")))
    }
}

/// The locked pins of one pair of interfaces.
#[derive(Debug)]
pub(super) struct Pins {
    path: PathBuf,
    /// Locked for as long as it is open.
    lock: File,
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Closing alone would leave it to a process that is being started, until that runs its own program.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// What was found under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Another agent works with them.
    Busy,
    /// Pins whose agent is gone, in the directory of this version of the ABI.
    Left(Pins),
    /// Likewise, of another version.
    OtherVersion(Pins),
}

/// Whether this process sees a bpffs at [`BPFFS`].
pub(super) fn can_be_made() -> bool {
    statfs(BPFFS).is_ok_and(|about| about.f_type as u32 == BPFFS_MAGIC)
}

impl Pins {
    /// Makes an empty directory for the pins called `name`.
    pub fn create(name: &Name) -> Result<Self, DatapathError> {
        if !can_be_made() {
            return Err(DatapathError::NoBpffs);
        }
        let path = current().join(&name.0);
        let failed = |source| error(&path, source);
        // A directory that was just made has no lock yet, and someone who tidies up may take it away.
        for _ in 0..8 {
            fs::create_dir_all(&path).map_err(failed)?;
            let Some(pins) = Self::lock(&path).map_err(failed)? else {
                return Err(failed(io::Error::other("another agent works with it")));
            };
            if pins.is_current() {
                empty(&path).map_err(failed)?;
                return Ok(pins);
            }
        }
        Err(failed(io::Error::other("it is removed again and again")))
    }

    /// What there is under `name`.
    pub fn find(name: &Name) -> Result<Found, DatapathError> {
        for version in versions() {
            let path = version.join(&name.0);
            if !path.is_dir() {
                continue;
            }
            return match Self::lock(&path).map_err(|source| error(&path, source))? {
                None => Ok(Found::Busy),
                Some(pins) if version == current() => Ok(Found::Left(pins)),
                Some(pins) => Ok(Found::OtherVersion(pins)),
            };
        }
        Ok(Found::Nothing)
    }

    /// `None` if another process has the lock.
    fn lock(path: &Path) -> io::Result<Option<Self>> {
        let lock = File::open(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the locked directory is still the one under its name.
    fn is_current(&self) -> bool {
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        matches!((self.lock.metadata(), fs::metadata(&self.path)), (Ok(a), Ok(b)) if same(&a, &b))
    }

    /// Where map `name` is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives `object` a name here.
    pub fn add(&self, name: &str, object: BorrowedFd<'_>) -> Result<(), DatapathError> {
        let path = self.path.join(name);
        pin(object, &path).map_err(|source| error(&path, source))
    }

    /// Gives the link of `side` its name here.
    pub fn add_link(&self, side: Side, link: &XdpLink) -> Result<(), DatapathError> {
        self.add(link_name(side), link.as_fd())
    }

    /// Puts `link` in the place of the one that `side` had.
    pub fn renew_link(&self, side: Side, link: &XdpLink) -> Result<(), DatapathError> {
        let path = self.path.join(link_name(side));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error(&path, source)),
            _ => self.add_link(side, link),
        }
    }

    /// From here on they are found under `name`.
    pub fn rename(&mut self, name: &Name) -> Result<(), DatapathError> {
        let path = current().join(&name.0);
        if path != self.path {
            fs::rename(&self.path, &path).map_err(|source| error(&path, source))?;
            self.path = path;
        }
        Ok(())
    }

    /// Notes nothing of the uplink any more: there is another.
    pub fn unmark_promiscuous(&self) -> Result<(), DatapathError> {
        let path = self.path.join(PROMISCUOUS);
        match fs::remove_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(error(&path, source)),
            _ => Ok(()),
        }
    }

    /// The link of `side`, where it is attached; `None` if there is none, or its interface is gone.
    pub fn link(&self, side: Side) -> Option<(XdpLink, LinkInfo)> {
        let link = XdpLink::pinned(&self.path.join(link_name(side))).ok()?;
        let info = link.info().ok().filter(|info| info.interface != 0)?;
        Some((link, info))
    }

    /// Whether all of it is there and both interfaces are.
    pub fn is_whole(&self) -> bool {
        self.link(Side::Guest).is_some()
            && self.link(Side::Uplink).is_some()
            && PINNED_MAPS.iter().all(|name| self.path.join(name).exists())
    }

    /// Their directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of a pinned map.
    pub fn entries(&self, name: &'static str) -> Result<u32, DatapathError> {
        let info = MapData::from_pin(self.map(name)).and_then(|map| map.info());
        info.map(|info| info.max_entries()).map_err(|error| map_error(name, &error))
    }

    /// The error for pins that were whole a moment ago.
    pub fn broken(&self) -> DatapathError {
        error(&self.path, io::Error::other("an interface has gone just now"))
    }

    /// Notes that the uplink was made promiscuous for these programs: a directory, for a bpffs has no other files.
    pub fn mark_promiscuous(&self) -> Result<(), DatapathError> {
        let path = self.path.join(PROMISCUOUS);
        fs::create_dir(&path).map_err(|source| error(&path, source))
    }

    /// Whether that was noted.
    pub fn is_promiscuous(&self) -> bool {
        self.path.join(PROMISCUOUS).is_dir()
    }

    /// Takes the programs off and removes the pins.
    pub fn remove(self) -> Result<(), DatapathError> {
        for side in [Side::Guest, Side::Uplink] {
            if let Some((mut link, _)) = self.link(side) {
                link.keep(false);
            }
        }
        self.discard()
    }

    /// Removes the names; what they stand for stays for as long as someone uses it.
    pub fn discard(self) -> Result<(), DatapathError> {
        let failed = |source| error(&self.path, source);
        empty(&self.path).map_err(failed)?;
        fs::remove_dir(&self.path).map_err(failed)
    }
}

/// Removes what no interface is left for, and what was never finished. What another agent works with stays, and so does
/// what cannot be removed: the next one tries again.
pub(super) fn tidy() {
    for directory in versions() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Ok(Some(pins)) = Pins::lock(&entry.path())
                && (pins.link(Side::Guest).is_none() || pins.link(Side::Uplink).is_none())
            {
                tracing::info!("removing {}: its interfaces are gone", entry.path().display());
                if let Err(error) = pins.remove() {
                    tracing::warn!("{error}");
                }
            }
        }
    }
}

/// Removes what is in a directory of pins.
fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn link_name(side: Side) -> &'static str {
    match side {
        Side::Guest => "link_guest",
        Side::Uplink => "link_uplink",
    }
}

fn root() -> PathBuf {
    Path::new(BPFFS).join("colo")
}

fn current() -> PathBuf {
    root().join(format!("v{ABI_VERSION}"))
}

/// The directories of all versions.
fn versions() -> Vec<PathBuf> {
    fs::read_dir(root()).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn error(path: &Path, source: io::Error) -> DatapathError {
    DatapathError::Pins { path: path.to_owned(), source }
}

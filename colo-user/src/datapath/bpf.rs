//! The commands of `bpf(2)` that aya has no public function for: links that can be pinned, found and given another program,
//! and reading a hash map in pieces.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_XDP: u32 = 37;

/// A program on an interface: for as long as this lives, or for longer once it is kept.
#[derive(Debug)]
pub(super) struct XdpLink {
    fd: OwnedFd,
    kept: bool,
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The program's id.
    pub program: u32,
    /// The interface's index; 0 if it is gone.
    pub interface: u32,
}

impl XdpLink {
    /// Attaches `program` to interface `index`; `flags` are `XDP_FLAGS_*`. An interface that has a program is refused.
    pub fn create(program: BorrowedFd<'_>, index: u32, flags: u32) -> io::Result<Self> {
        let attributes = [program.as_raw_fd().cast_unsigned(), index, BPF_XDP, flags];
        let fd = descriptor(BPF_LINK_CREATE, &attributes)?;
        Ok(Self { fd, kept: false })
    }

    /// The link that is pinned at `path`. It is kept.
    pub fn pinned(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: get(path)?, kept: true })
    }

    /// Runs `program` in place of the one that the link has, without a frame in between that meets none.
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let attributes = [self.fd.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned(), 0, 0];
        call(BPF_LINK_UPDATE, &attributes).map(|_| ())
    }

    /// Where it is.
    pub fn info(&self) -> io::Result<LinkInfo> {
        /// `struct bpf_link_info` as far as the first word of its union.
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            program: u32,
            pad: u32,
            interface: u32,
            rest: [u32; 27],
        }
        #[repr(C)]
        struct Attributes {
            fd: u32,
            length: u32,
            info: u64,
        }
        let mut info = Info::default();
        let attributes = Attributes {
            fd: self.fd.as_raw_fd().cast_unsigned(),
            length: size_of::<Info>() as u32,
            info: ptr::from_mut(&mut info) as u64,
        };
        // The kernel writes at most `length` bytes to `info`, which lives across the call.
        call(BPF_OBJ_GET_INFO_BY_FD, &attributes)?;
        Ok(LinkInfo { program: info.program, interface: info.interface })
    }

    /// Stays on its interface when this is gone, or no longer.
    pub fn keep(&mut self, keep: bool) {
        self.kept = keep;
    }
}

impl AsFd for XdpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for XdpLink {
    fn drop(&mut self) {
        if !self.kept {
            // Closing alone would not do: a child between fork and exec may still have the descriptor. It fails if the
            // interface is gone, and then nothing is left to do.
            let _ = call(BPF_LINK_DETACH, &[self.fd.as_raw_fd().cast_unsigned()]);
        }
    }
}

/// Takes entry `key` out of a map whose keys are words; nothing happens if it is not there.
pub(super) fn remove(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        pad: u32,
        key: u64,
    }
    let attributes =
        Attributes { map: map.as_raw_fd().cast_unsigned(), pad: 0, key: ptr::from_ref(&key) as u64 };
    // The kernel reads the key, which lives across the call.
    match call(BPF_MAP_DELETE_ELEM, &attributes) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a map or link the name `path` in a bpffs.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    named(BPF_OBJ_PIN, path, object.as_raw_fd()).map(|_| ())
}

/// The map or link that is pinned at `path`.
fn get(path: &Path) -> io::Result<OwnedFd> {
    let fd = named(BPF_OBJ_GET, path, 0)?;
    // SAFETY: the command returns a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn named(command: libc::c_long, path: &Path, fd: RawFd) -> io::Result<RawFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    call(command, &Attributes { path: path.as_ptr() as u64, fd: fd.cast_unsigned(), flags: 0 })
}

/// Reads as many entries of a hash map as there is room for in `keys` and `values`, which are of one length, from the
/// place `from` on, where an earlier call stopped. Returns how many, and where to go on; `None` at the end. Entries that
/// come or go meanwhile may be missed.
///
/// # Safety
/// `K` and `V` have the sizes of the map's keys and values, and any bytes are valid ones.
pub(super) unsafe fn read_batch<K, V>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<u32>)> {
    #[repr(C)]
    struct Attributes {
        from: u64,
        to: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut to = 0_u32;
    let mut attributes = Attributes {
        from: from.as_ref().map_or(0, |from| ptr::from_ref(from) as u64),
        to: ptr::from_mut(&mut to) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?,
        map: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads and writes `attributes`, `from`, `to` and `count` elements of both slices, all of which live
    // across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_LOOKUP_BATCH,
            ptr::from_mut(&mut attributes),
            size_of::<Attributes>(),
        )
    };
    let read = attributes.count as usize;
    if result >= 0 {
        return Ok((read, Some(to)));
    }
    match io::Error::last_os_error() {
        end if end.raw_os_error() == Some(libc::ENOENT) => Ok((read, None)),
        error => Err(error),
    }
}

fn descriptor<A>(command: libc::c_long, attributes: &A) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the commands that come here return a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A command whose attributes the kernel only reads; it takes what lies beyond them as zero. Addresses among them are of
/// memory that lives across the call.
fn call<A>(command: libc::c_long, attributes: &A) -> io::Result<RawFd> {
    // SAFETY: the kernel reads the attributes, which live across the call; what their addresses point to, too.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), size_of_val(attributes)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

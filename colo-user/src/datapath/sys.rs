//! The system calls that neither `rustix` nor the standard library wraps.

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::{self, NonNull};

/// `setsockopt` with a plain C value.
pub(super) fn set_option<T: Copy>(
    socket: &impl AsFd,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which lives across the call.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, ptr::from_ref(value).cast(), length)
    };
    check(result)
}

/// `getsockopt` into a plain C value of integers. Fields that an older kernel does not know stay zero.
///
/// # Safety
/// All-zero bytes, and any bytes the kernel writes, are a valid `T`.
pub(super) unsafe fn get_option<T: Copy>(socket: &impl AsFd, level: c_int, name: c_int) -> io::Result<T> {
    // SAFETY: the caller vouches that zero is a valid T.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which lives across the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    check(result).map(|()| value)
}

/// `bind` to an address given as a C structure.
///
/// # Safety
/// `T` is the `sockaddr` type of the socket's family.
pub(super) unsafe fn bind<T: Copy>(socket: &impl AsFd, address: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which lives across the call.
    check(unsafe { libc::bind(socket.as_fd().as_raw_fd(), ptr::from_ref(address).cast(), length) })
}

/// Asks the driver of interface `name` one ethtool question. `request` starts with the command word and is answered
/// in place.
pub(super) fn ethtool<const WORDS: usize>(
    socket: &impl AsFd,
    name: &str,
    request: &mut [u32; WORDS],
) -> io::Result<()> {
    let mut ifreq = about(name)?;
    ifreq.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
    // SAFETY: the ioctl reads one ifreq and reads and writes the structure it points to; every caller's array has the
    // size of the structure that belongs to its command.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCETHTOOL, &raw mut ifreq) })
}

/// Bytes written to a TCP socket that the other side's kernel has not acknowledged.
pub(crate) fn untaken(socket: &impl AsFd) -> io::Result<c_int> {
    let mut bytes: c_int = 0;
    // SAFETY: the ioctl writes one int.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes)
}

/// A request about interface `name`.
fn about(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= ifreq.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(ifreq)
}

/// Shared or private memory from `mmap`, unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is owned memory; who may touch which part of it is the business of its users, all of which need
// `&mut` for what is not shared with the kernel through atomics.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `length` zeroed bytes, present from the start, so that the packet path takes no page fault.
    pub fn anonymous(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    /// `length` bytes of `file` from `offset` on, shared with the kernel.
    pub fn shared(file: &impl AsFd, length: usize, offset: i64) -> io::Result<Self> {
        Self::map(length, libc::MAP_SHARED | libc::MAP_POPULATE, file.as_fd().as_raw_fd(), offset)
    }

    fn map(length: usize, flags: c_int, fd: c_int, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Self { start, length })
            .ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// First byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly the range that mmap returned, and no reference into it outlives its owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

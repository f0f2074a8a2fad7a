//! A single-producer single-consumer ring shared with the kernel. We are one side, the kernel is the other.

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::sys::Mapping;

/// The mapped ring: indices run freely and wrap; an entry's place is its index modulo the size, a power of two.
#[derive(Debug)]
struct Shared<T> {
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
}

// SAFETY: the pointers go into the owned mapping; the fields are used by one owner at a time.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn map(socket: &impl AsFd, page: i64, at: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        assert!(size.is_power_of_two(), "rings are made with a power of two");
        let bytes = |offset: u64| usize::try_from(offset).map_err(io::Error::other);
        let entries = bytes(at.desc)?;
        let mapping = Mapping::shared(socket, entries + size as usize * size_of::<T>(), page)?;
        let start = mapping.start();
        // SAFETY: the kernel gave the offsets for this ring: indices and flags are aligned 32-bit words before the
        // entries, and the entries fill the rest of the mapping.
        unsafe {
            Ok(Self {
                producer: start.add(bytes(at.producer)?).cast(),
                consumer: start.add(bytes(at.consumer)?).cast(),
                flags: start.add(bytes(at.flags)?).cast(),
                entries: start.add(entries).cast(),
                size,
                _mapping: mapping,
            })
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: points into the mapping, which lives as long as self; the kernel touches it atomically too.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for the producer.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the masked index is below the size, and the mapping has room for that many entries.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

/// The ring of which we are the producer: fill or transmit.
#[derive(Debug)]
pub(in super::super) struct Producer<T> {
    shared: Shared<T>,
    next: u32,
}

impl<T: Copy> Producer<T> {
    /// Maps the ring at `page` of `socket`, made with `size` entries.
    pub fn map(socket: &impl AsFd, page: i64, at: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let shared = Shared::map(socket, page, at, size)?;
        let next = shared.producer().load(Ordering::Relaxed);
        Ok(Self { shared, next })
    }

    /// Puts an entry at the end; the kernel sees it at the next [`Self::submit`].
    ///
    /// # Panics
    /// If the ring is full: it has room for every frame there is, so a frame was entered twice.
    pub fn push(&mut self, value: T) {
        let used = self.next.wrapping_sub(self.shared.consumer().load(Ordering::Acquire));
        assert!(used < self.shared.size, "a ring with room for every frame is full");
        // SAFETY: the entry lies between producer and consumer index, where the kernel does not read.
        unsafe { self.shared.entry(self.next).write(value) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel what was pushed.
    pub fn submit(&mut self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Entries submitted and not yet taken by the kernel.
    pub fn waiting(&self) -> u32 {
        let submitted = self.shared.producer().load(Ordering::Relaxed);
        submitted.wrapping_sub(self.shared.consumer().load(Ordering::Acquire))
    }

    /// Entries that can be pushed.
    pub fn room(&self) -> u32 {
        self.shared.size - self.next.wrapping_sub(self.shared.consumer().load(Ordering::Acquire))
    }

    /// Hands out what was pushed and is not taken by the kernel, in order.
    pub fn untaken(&self, mut each: impl FnMut(T)) {
        let mut at = self.shared.consumer().load(Ordering::Acquire);
        while at != self.next {
            // SAFETY: an entry of the ring that was written here before; the kernel at most reads it.
            each(unsafe { self.shared.entry(at).read() });
            at = at.wrapping_add(1);
        }
    }

    /// True if the kernel wants a system call before it looks at the ring.
    pub fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The ring of which we are the consumer: receive or completion.
#[derive(Debug)]
pub(in super::super) struct Consumer<T> {
    shared: Shared<T>,
    next: u32,
}

impl<T: Copy> Consumer<T> {
    /// Maps the ring at `page` of `socket`, made with `size` entries.
    pub fn map(socket: &impl AsFd, page: i64, at: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let shared = Shared::map(socket, page, at, size)?;
        let next = shared.consumer().load(Ordering::Relaxed);
        Ok(Self { shared, next })
    }

    /// The next entry, which the kernel may then overwrite.
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.shared.producer().load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the entry lies between consumer and producer index: the kernel has written it and does not touch it.
        let value = unsafe { self.shared.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        self.shared.consumer().store(self.next, Ordering::Release);
        Some(value)
    }
}

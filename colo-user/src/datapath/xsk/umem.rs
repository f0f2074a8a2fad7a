//! The memory that frames live in, and where each frame is.
//!
//! A buffer is in exactly one state: free (ours, empty), filling (the kernel may put a captured frame there), held
//! (ours, with a frame) or sending (the kernel is to transmit it). The four counts always add up to the number of
//! buffers. Only free and held buffers are ours to touch.

use std::io;

use colo_ebpf::{CAPTURE_MAGIC, CAPTURE_META_LEN, CaptureMeta};

use super::super::sys::Mapping;

/// What the kernel leaves below a received frame (`XDP_PACKET_HEADROOM`); the metadata area is at its end.
pub(in super::super) const HEADROOM: u32 = 256;
/// Offset of [`CaptureMeta::magic`] from the end of the metadata.
const MAGIC_BELOW: usize = 4;

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum State {
    Free,
    Filling,
    Held,
    Sending,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    offset: u32,
    len: u32,
}

/// How many buffers are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Occupancy {
    pub free: u32,
    pub filling: u32,
    pub held: u32,
    pub sending: u32,
}

impl Occupancy {
    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Free => &mut self.free,
            State::Filling => &mut self.filling,
            State::Held => &mut self.held,
            State::Sending => &mut self.sending,
        }
    }
}

/// The memory and its book-keeping.
#[derive(Debug)]
pub(in super::super) struct Umem {
    memory: Mapping,
    chunk: u32,
    slots: Vec<Slot>,
    occupancy: Occupancy,
}

impl Umem {
    /// `frames` free buffers of `chunk` bytes.
    pub fn new(frames: u32, chunk: u32) -> io::Result<Self> {
        let memory = Mapping::anonymous(frames as usize * chunk as usize)?;
        let slots = vec![Slot { state: State::Free, offset: HEADROOM, len: 0 }; frames as usize];
        Ok(Self { memory, chunk, slots, occupancy: Occupancy { free: frames, ..Occupancy::default() } })
    }

    /// What `XDP_UMEM_REG` is told.
    pub fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.memory.start().as_ptr().expose_provenance() as u64,
            len: self.memory.len() as u64,
            chunk_size: self.chunk,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// Number of buffers.
    pub fn frames(&self) -> u32 {
        // Made from a u32.
        self.slots.len() as u32
    }

    /// How many buffers are where.
    pub fn occupancy(&self) -> Occupancy {
        self.occupancy
    }

    /// The buffer that contains the byte at `address`, an offset into the memory.
    pub fn index_of(&self, address: u64) -> Option<u32> {
        u32::try_from(address / u64::from(self.chunk)).ok().filter(|&index| index < self.frames())
    }

    /// True if buffer `index` exists and is in `state`.
    pub fn is(&self, index: u32, state: State) -> bool {
        self.slots.get(index as usize).is_some_and(|slot| slot.state == state)
    }

    /// Moves a buffer between two states; false if it is not in the first.
    pub fn transfer(&mut self, index: u32, from: State, to: State) -> bool {
        if !self.is(index, from) {
            return false;
        }
        self.slots[index as usize].state = to;
        *self.occupancy.of(from) -= 1;
        *self.occupancy.of(to) += 1;
        debug_assert!(self.balanced(), "a buffer was lost or found: {:?}", self.occupancy);
        true
    }

    fn balanced(&self) -> bool {
        let Occupancy { free, filling, held, sending } = self.occupancy;
        free + filling + held + sending == self.frames()
    }

    /// Empties the metadata of a free buffer and gives its address for the fill ring. Whatever magic is found in it
    /// later was put there by the program.
    pub fn clear(&mut self, index: u32) -> u64 {
        debug_assert!(self.is(index, State::Free));
        let meta = &mut self.chunk_mut(index)[..HEADROOM as usize];
        meta[HEADROOM as usize - MAGIC_BELOW..].fill(0);
        self.address(index)
    }

    /// Sets where in its buffer a frame lies that the kernel just returned, and takes the program's stamp off it.
    /// `None` if it bears no stamp; the frame is then as the kernel gave it.
    pub fn receive(&mut self, index: u32, address: u64, len: u32) -> Option<CaptureMeta> {
        debug_assert!(self.is(index, State::Held));
        // Within the chunk by the division in `index_of`.
        let offset = (address % u64::from(self.chunk)) as u32;
        let len = len.min(self.chunk - offset);
        self.slots[index as usize] = Slot { state: State::Held, offset, len };
        let start = offset as usize;
        let bytes = self.chunk_mut(index);
        if let Some(below) = start.checked_sub(CAPTURE_META_LEN)
            && let Some(meta) = read_meta(&bytes[below..start])
        {
            return Some(meta);
        }
        let meta = read_meta(bytes.get(start..start + CAPTURE_META_LEN)?)?;
        if (len as usize) < CAPTURE_META_LEN {
            return None;
        }
        let stamp = CAPTURE_META_LEN as u32;
        self.slots[index as usize] = Slot { state: State::Held, offset: offset + stamp, len: len - stamp };
        Some(meta)
    }

    /// Copies `frame` into a free buffer; false if it is longer than one carries.
    pub fn write(&mut self, index: u32, frame: &[u8]) -> bool {
        debug_assert!(self.is(index, State::Free));
        let room = (self.chunk - HEADROOM) as usize;
        if frame.len() > room {
            return false;
        }
        self.chunk_mut(index)[HEADROOM as usize..HEADROOM as usize + frame.len()].copy_from_slice(frame);
        // Not longer than a chunk.
        let slot = &mut self.slots[index as usize];
        (slot.offset, slot.len) = (HEADROOM, frame.len() as u32);
        true
    }

    /// Where the frame in `index` lies in the memory, as a descriptor of a ring.
    pub fn descriptor(&self, index: u32) -> libc::xdp_desc {
        let slot = self.slots[index as usize];
        libc::xdp_desc { addr: self.address(index) + u64::from(slot.offset), len: slot.len, options: 0 }
    }

    /// The held frame in `index`; empty if there is none.
    pub fn frame(&self, index: u32) -> &[u8] {
        self.bytes(index, State::Held)
    }

    /// The frame in `index` that is to be sent; empty if there is none.
    pub fn outgoing(&self, index: u32) -> &[u8] {
        self.bytes(index, State::Sending)
    }

    fn bytes(&self, index: u32, state: State) -> &[u8] {
        let Some(slot) = self.slots.get(index as usize).filter(|slot| slot.state == state) else {
            return &[];
        };
        // SAFETY: the buffer is not filling (no caller asks for that state), so the kernel at most reads it; offset
        // and length lie within its chunk, and chunks do not overlap. `&self` excludes `chunk_mut`.
        unsafe {
            let start = self.memory.start().add(index as usize * self.chunk as usize + slot.offset as usize);
            std::slice::from_raw_parts(start.as_ptr(), slot.len as usize)
        }
    }

    /// The held frame in `index`, to be changed; empty if there is none.
    pub fn frame_mut(&mut self, index: u32) -> &mut [u8] {
        let Some(slot) = self.held(index) else { return &mut [] };
        let start = slot.offset as usize;
        &mut self.chunk_mut(index)[start..start + slot.len as usize]
    }

    fn held(&self, index: u32) -> Option<Slot> {
        self.slots.get(index as usize).copied().filter(|slot| slot.state == State::Held)
    }

    /// All bytes of a buffer that is ours.
    fn chunk_mut(&mut self, index: u32) -> &mut [u8] {
        assert!(matches!(self.slots[index as usize].state, State::Free | State::Held));
        // SAFETY: the buffer is free or held, so the kernel does not touch it; the index was checked by the line
        // above, chunks do not overlap, and `&mut self` excludes any other slice.
        unsafe {
            let start = self.memory.start().add(index as usize * self.chunk as usize);
            std::slice::from_raw_parts_mut(start.as_ptr(), self.chunk as usize)
        }
    }

    fn address(&self, index: u32) -> u64 {
        u64::from(index) * u64::from(self.chunk)
    }
}

fn read_meta(bytes: &[u8]) -> Option<CaptureMeta> {
    let stamp_ns = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    let index = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let magic = u32::from_ne_bytes(bytes.get(12..16)?.try_into().ok()?);
    (magic == CAPTURE_MAGIC).then_some(CaptureMeta { stamp_ns, index, magic })
}

#[cfg(test)]
mod tests;

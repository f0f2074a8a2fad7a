//! Capture files as other programs write them: every variant of pcap and pcapng.

/// A byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    fn long(self, n: u32) -> [u8; 4] {
        if self == Self::Little { n.to_le_bytes() } else { n.to_be_bytes() }
    }

    fn short(self, n: u16) -> [u8; 2] {
        if self == Self::Little { n.to_le_bytes() } else { n.to_be_bytes() }
    }
}

/// A frame as a capture has it, and how long it was.
pub type Kept = (Vec<u8>, usize);

/// The whole of each frame.
#[must_use]
pub fn whole(frames: &[Vec<u8>]) -> Vec<Kept> {
    frames.iter().map(|frame| (frame.clone(), frame.len())).collect()
}

/// The first bytes of each frame, at most so many.
#[must_use]
pub fn snapped(frames: &[Vec<u8>], snap: usize) -> Vec<Kept> {
    frames.iter().map(|frame| (frame[..snap.min(frame.len())].to_vec(), frame.len())).collect()
}

/// A variant of the pcap format.
#[derive(Clone, Copy, Debug)]
pub struct Pcap {
    /// Of all numbers in it.
    pub order: Order,
    /// First number.
    pub magic: u32,
    /// Minor version; the major one is 2.
    pub minor: u16,
    /// Link type, with what its upper bits say.
    pub link: u32,
}

impl Default for Pcap {
    fn default() -> Self {
        Self { order: Order::Little, magic: 0xa1b2_c3d4, minor: 4, link: 1 }
    }
}

impl Pcap {
    /// Magic of files with longer record headers.
    pub const PATCHED: u32 = 0xa1b2_cd34;
    /// Magic of files with nanoseconds.
    pub const NANOSECONDS: u32 = 0xa1b2_3c4d;

    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, frames: &[Kept]) -> Vec<u8> {
        let longs = |words: &[u32]| words.iter().flat_map(|word| self.order.long(*word)).collect::<Vec<u8>>();
        let mut file = longs(&[self.magic]);
        file.extend([self.order.short(2), self.order.short(self.minor)].concat());
        file.extend(longs(&[0, 0, 262_144, self.link]));
        for (number, (frame, length)) in frames.iter().enumerate() {
            let (kept, length) = (frame.len() as u32, *length as u32);
            let lengths = if self.minor < 3 { [length, kept] } else { [kept, length] };
            file.extend(longs(&[number as u32, 0, lengths[0], lengths[1]]));
            if self.magic == Self::PATCHED {
                file.extend(longs(&[1, 0x0800_0000]));
            }
            file.extend_from_slice(frame);
        }
        file
    }
}

/// Which block a frame of a pcapng file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The usual one.
    Enhanced,
    /// The one with nothing but a length.
    Simple,
    /// The one that is no longer written.
    Obsolete,
}

/// A pcapng file that is put together.
#[derive(Clone, Debug)]
pub struct Blocks {
    order: Order,
    bytes: Vec<u8>,
    interfaces: u32,
    snap: usize,
}

impl Blocks {
    /// A file with one section.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self { order, bytes: Vec::new(), interfaces: 0, snap: 0 }.section(order)
    }

    /// A section more, in which interfaces begin anew.
    #[must_use]
    pub fn section(mut self, order: Order) -> Self {
        (self.order, self.interfaces) = (order, 0);
        let body = [&self.longs(&[0x1a2b_3c4d])[..], &order.short(1), &order.short(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body);
        self
    }

    /// An interface more, with its snap length and options.
    #[must_use]
    pub fn interface(mut self, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Self {
        let mut body = [&self.order.short(link)[..], &[0, 0], &self.order.long(snap)].concat();
        body.extend(self.options(options));
        self.block(1, &body);
        (self.interfaces, self.snap) = (self.interfaces + 1, snap as usize);
        self
    }

    /// A frame of the last interface, with options; a simple packet has none, and is of the first one.
    #[must_use]
    pub fn frame(mut self, block: Block, (frame, length): &Kept, options: &[(u16, &[u8])]) -> Self {
        let (interface, kept, length) = (self.interfaces - 1, frame.len() as u32, *length as u32);
        let head = match block {
            Block::Enhanced => self.longs(&[interface, 0, 0, kept, length]),
            Block::Simple => self.longs(&[length]),
            Block::Obsolete => {
                let drops = self.order.short(9);
                let time = self.longs(&[0, 0, kept, length]);
                [&self.order.short(interface as u16)[..], &drops, &time].concat()
            }
        };
        let mut body = [&head[..], frame].concat();
        if block != Block::Simple {
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend(self.options(options));
        }
        let kind = match block {
            Block::Enhanced => 6,
            Block::Simple => 3,
            Block::Obsolete => 2,
        };
        self.block(kind, &body);
        self
    }

    /// Frames of the last interface.
    #[must_use]
    pub fn frames(self, block: Block, frames: &[Kept]) -> Self {
        frames.iter().fold(self, |file, frame| file.frame(block, frame, &[]))
    }

    /// The flags of a packet that say how long its check sequence is.
    #[must_use]
    pub fn flags(&self, check: u32) -> [u8; 4] {
        self.order.long(check << 5)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn file(self) -> Vec<u8> {
        self.bytes
    }

    fn longs(&self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| self.order.long(*word)).collect()
    }

    fn options(&self, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, value) in options {
            bytes.extend([self.order.short(*code), self.order.short(value.len() as u16)].concat());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            bytes.extend([0; 4]);
        }
        bytes
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let length = 12 + body.len().next_multiple_of(4) as u32;
        self.bytes.extend([self.order.long(kind), self.order.long(length)].concat());
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend(self.order.long(length));
    }
}

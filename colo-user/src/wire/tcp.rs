//! TCP segments (RFC 9293) and their options.

use super::checksum::update16;
use super::{Ether, Ip, Malformed, Seq, be16, be32, proto};
use std::fmt;

/// Offsets of the fields of a TCP header, from its start.
pub mod field {
    /// Sequence number, 4 bytes.
    pub const SEQ: usize = 4;
    /// Acknowledgement number, 4 bytes.
    pub const ACK: usize = 8;
    /// Window, 2 bytes.
    pub const WINDOW: usize = 14;
    /// Checksum, 2 bytes.
    pub const CHECKSUM: usize = 16;
    /// First option byte.
    pub const OPTIONS: usize = 20;
}

/// Option kinds (IANA "TCP Option Kind Numbers").
pub mod option {
    /// End of the list.
    pub const END: u8 = 0;
    /// Padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323).
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted (RFC 2018).
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK blocks (RFC 2018).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// Authentication option (RFC 5925).
    pub const AO: u8 = 29;
}

/// Control bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// PSH.
    pub const PSH: Self = Self(0x08);
    /// ACK.
    pub const ACK: Self = Self(0x10);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, name) in
            [(Self::SYN, 'S'), (Self::FIN, 'F'), (Self::RST, 'R'), (Self::PSH, 'P'), (Self::ACK, '.')]
        {
            if self.has(bit) {
                write!(f, "{name}")?;
            }
        }
        Ok(())
    }
}

/// Gives the whole TCP segment in `frame` another window and updates its checksum, which is complete. Any other frame stays
/// as it is.
pub fn set_window(frame: &mut [u8], window: u16) {
    let Ok(ether) = Ether::parse(frame) else { return };
    let Ok(ip) = Ip::parse(frame, ether.payload, ether.ethertype) else { return };
    let (at, end) = (ip.payload, ip.end);
    if ip.protocol != proto::TCP || ip.fragment.is_some() || end.saturating_sub(at) < field::OPTIONS {
        return;
    }
    let segment = &mut frame[at..end];
    let sum = update16(be16(segment, field::CHECKSUM), be16(segment, field::WINDOW), window);
    segment[field::WINDOW..field::WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    segment[field::CHECKSUM..field::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Sequence number of the first byte (of the SYN, where there is one).
    pub seq: Seq,
    /// Acknowledgement number; meaningful if [`TcpFlags::ACK`] is set.
    pub ack: Seq,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, not scaled.
    pub window: u16,
    /// The option bytes.
    pub options: &'a [u8],
    /// The data.
    pub payload: &'a [u8],
}

impl<'a> TcpSegment<'a> {
    /// Reads the segment that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Tcp`] if the header does not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_cut(bytes, bytes.len(), bytes.len())
    }

    /// The same of a segment of `total` bytes, of which a capture has the first `sure`. Ports, numbers, length of the header and
    /// flags have to be there; of options and payload comes what is, and a window that is not there is 0.
    ///
    /// # Errors
    /// As above, or [`Malformed::Cut`].
    pub fn parse_cut(bytes: &'a [u8], sure: usize, total: usize) -> Result<Self, Malformed> {
        if total < field::OPTIONS {
            return Err(Malformed::Tcp);
        }
        if sure < field::WINDOW {
            return Err(Malformed::Cut);
        }
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < field::OPTIONS || header > total {
            return Err(Malformed::Tcp);
        }
        Ok(Self {
            src_port: be16(bytes, 0),
            dst_port: be16(bytes, 2),
            seq: Seq(be32(bytes, field::SEQ)),
            ack: Seq(be32(bytes, field::ACK)),
            flags: TcpFlags(bytes[13]),
            window: if sure < field::CHECKSUM { 0 } else { be16(bytes, field::WINDOW) },
            options: bytes.get(field::OPTIONS..header.min(sure)).unwrap_or_default(),
            payload: bytes.get(header..).unwrap_or_default(),
        })
    }

    /// Bytes of the header, as the segment says.
    #[must_use]
    pub fn header(bytes: &[u8]) -> usize {
        bytes.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
    }

    /// Sequence number of the first data byte.
    #[must_use]
    pub fn payload_seq(&self) -> Seq {
        self.seq + u32::from(self.flags.has(TcpFlags::SYN))
    }

    /// The options in order.
    #[must_use]
    pub const fn options(&self) -> Options<'a> {
        Options { bytes: self.options, at: 0 }
    }
}

/// One TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Its kind, see [`option`].
    pub kind: u8,
    /// Offset of its kind byte in the option bytes.
    pub at: usize,
    /// What follows kind and length.
    pub data: &'a [u8],
}

/// Iterator over TCP options. It ends at the end-of-list option, at the last byte, and at the first option whose
/// length is impossible, as receivers do.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while *self.bytes.get(self.at)? == option::NOP {
            self.at += 1;
        }
        let at = self.at;
        let kind = self.bytes[at];
        let length = usize::from(*self.bytes.get(at + 1)?);
        if kind == option::END || length < 2 || at + length > self.bytes.len() {
            self.at = self.bytes.len();
            return None;
        }
        self.at += length;
        Some(TcpOption { kind, at, data: &self.bytes[at + 2..at + length] })
    }
}

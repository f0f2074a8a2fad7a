//! UDP datagrams (RFC 768).

use super::{Malformed, be16};

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Data, as far as it is there, with what lies between the UDP length and the IP length (RFC 9868 options).
    pub payload: &'a [u8],
    /// The length field. 0: as long as the packet, which is longer than the field can say (RFC 2675).
    pub length: u16,
}

impl<'a> UdpDatagram<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;

    /// Reads the datagram that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed::Udp`] if the header does not fit or its length field names more than there is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_cut(bytes, bytes.len(), bytes.len())
    }

    /// The same of a datagram of `total` bytes, of which a capture has the first `sure`.
    ///
    /// # Errors
    /// As above, or [`Malformed::Cut`] if the header is not there.
    pub fn parse_cut(bytes: &'a [u8], sure: usize, total: usize) -> Result<Self, Malformed> {
        if total < Self::HEADER {
            return Err(Malformed::Udp);
        }
        if sure < Self::HEADER {
            return Err(Malformed::Cut);
        }
        let length = be16(bytes, 4);
        if length != 0 && !(Self::HEADER..=total).contains(&length.into()) {
            return Err(Malformed::Udp);
        }
        Ok(Self {
            src_port: be16(bytes, 0),
            dst_port: be16(bytes, 2),
            payload: &bytes[Self::HEADER..],
            length,
        })
    }
}

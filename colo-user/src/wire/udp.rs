//! UDP datagrams (RFC 768).

use super::{Malformed, be16};

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// Data, with what lies between the UDP length and the IP length (RFC 9868 options).
    pub payload: &'a [u8],
    /// The length field.
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
        if bytes.len() < Self::HEADER {
            return Err(Malformed::Udp);
        }
        let length = be16(bytes, 4);
        if usize::from(length) < Self::HEADER || usize::from(length) > bytes.len() {
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

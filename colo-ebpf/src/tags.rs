//! What may stand between the addresses of a frame and its packet, the same for both halves: VLAN tags, and the SNAP
//! header of an 802.3 frame.

/// Types of VLAN tags in use: 802.1Q, 802.1ad, and those that stacked tags had before it.
pub const TAG_TYPES: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];
/// Most tags that are read, of any types in any order; a SNAP header counts as one. A frame with more is no IP to anybody here.
pub const MAX_TAGS: usize = 4;
/// Bytes of a tag.
pub const TAG_LEN: usize = 4;

/// A tag in one word: the place of its type in [`TAG_TYPES`] in the upper four bits, its id in the lower twelve. This one
/// is none.
pub const NO_TAG: u16 = 0xffff;
/// The word of a SNAP header, with the last byte of its organisation.
pub const SNAP_TAG: u16 = 0xe000;
/// Bits of a word that are the id.
pub const ID: u16 = 0x0fff;

/// Longest frame that an 802.3 length field names; above it the field is a type.
pub const MAX_802_3: u16 = 1500;
/// Bytes of an LLC and SNAP header: two service access points, control, organisation, type.
pub const SNAP_LEN: usize = 8;
/// Its first five bytes. The sixth is 0 (RFC 1042) or [`TUNNEL`].
pub const SNAP: [u8; 5] = [0xaa, 0xaa, 0x03, 0, 0];
/// Last byte of the organisation of a bridge tunnel (802.1H), the other one whose types are Ethernet's.
pub const TUNNEL: u8 = 0xf8;

/// Shortest payload of a frame on a wire: what is shorter is filled up with zeros there.
pub const MIN_PAYLOAD: usize = 46;

/// The word of a tag of this type and with this second half, its priority left out; `None` if the type is of no tag.
#[must_use]
#[inline(always)]
pub const fn tag(ethertype: u16, control: u16) -> Option<u16> {
    let mut at = 0;
    while at < TAG_TYPES.len() {
        if TAG_TYPES[at] == ethertype {
            // Five types.
            return Some((at as u16) << 12 | control & ID);
        }
        at += 1;
    }
    None
}

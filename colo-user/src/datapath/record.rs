//! Records of the ring buffers.

use colo_ebpf::{RECORD_HEADER_LEN, RecordHeader};

/// The header and the frame of a record; `None` if it is shorter than it says.
pub(super) fn read(record: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let stamp_ns = u64::from_ne_bytes(record.get(..8)?.try_into().ok()?);
    let index = u64::from_ne_bytes(record.get(8..16)?.try_into().ok()?);
    let len = u32::from_ne_bytes(record.get(16..20)?.try_into().ok()?);
    let frame = record.get(RECORD_HEADER_LEN..)?.get(..len as usize)?;
    Some((RecordHeader { stamp_ns, index, len, reserved: 0 }, frame))
}

use super::*;

/// An Ethernet, IPv4, UDP frame with `payload` and an unfinished checksum.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0];
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&(20 + length).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend_from_slice(&[0x30, 0x39, 0, 53]);
    frame.extend_from_slice(&length.to_be_bytes());
    let pseudo = Sum::ZERO.pseudo_header(&[192, 0, 2, 1], &[192, 0, 2, 2], 17, u32::from(length));
    frame.extend_from_slice(&pseudo.folded().to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A receiver's check: the sum over pseudo header and datagram, checksum included, is all ones.
fn verifies(frame: &[u8]) -> bool {
    let datagram = &frame[34..];
    let length = datagram.len() as u32;
    let sum = Sum::ZERO.pseudo_header(&frame[26..30], &frame[30..34], 17, length).bytes(datagram);
    sum.folded() == 0xffff
}

#[test]
fn an_unfinished_checksum_is_completed() {
    for payload in [&b""[..], b"x", b"hello", b"hello!"] {
        let mut frame = frame(payload);
        assert!(!verifies(&frame) && is_needed(&frame));
        assert!(checksum(&mut frame));
        assert!(verifies(&frame) && !is_needed(&frame), "{frame:02x?}");
    }
}

#[test]
fn a_finished_checksum_is_left_alone() {
    let mut frame = frame(b"hello");
    assert!(checksum(&mut frame));
    let finished = frame.clone();
    assert!(!checksum(&mut frame));
    assert_eq!(frame, finished);
}

#[test]
fn a_wrong_checksum_is_left_alone() {
    let mut frame = frame(b"hello");
    frame[40] ^= 0x55;
    let wrong = frame.clone();
    assert!(!checksum(&mut frame));
    assert_eq!(frame, wrong);
}

#[test]
fn padding_is_not_summed() {
    let mut padded = frame(b"hi");
    padded.extend_from_slice(&[0xee; 16]);
    assert!(checksum(&mut padded));
    padded.truncate(padded.len() - 16);
    assert!(verifies(&padded));
}

#[test]
fn truncated_frames_are_left_alone() {
    let whole = frame(b"hello");
    for length in 0..whole.len() {
        let mut cut = whole[..length].to_vec();
        assert!(!checksum(&mut cut), "{length} bytes");
    }
}

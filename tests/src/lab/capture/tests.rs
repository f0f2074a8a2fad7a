use std::io::Cursor;

use super::*;

const SERVER: [u8; 4] = [192, 0, 2, 2];

fn read(file: Vec<u8>) -> Result<(Said, bool)> {
    said(pcap::Capture::new("test".into(), Cursor::new(file))?, SERVER.into())
}

/// A pcap of frames from `(source, seq, flags, payload length)`.
fn pcap(segments: &[([u8; 4], u32, u8, usize)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for &(source, seq, flags, payload) in segments {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((40 + payload as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(source);
        frame.extend([192, 0, 2, 1]);
        frame.extend([0x1f, 0x90, 0xc0, 0]);
        frame.extend(seq.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(vec![0; payload]);
        file.extend([0; 8]);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    file
}

#[test]
fn the_furthest_byte_counts_across_the_wrap_and_after_a_retransmission() {
    let isn = u32::MAX - 100;
    let file = pcap(&[
        ([192, 0, 2, 1], 5, 0x02, 0),
        (SERVER, isn, 0x12, 0),
        ([192, 0, 2, 1], 6, 0x18, 900),
        (SERVER, isn.wrapping_add(1), 0x10, 1000),
        (SERVER, isn.wrapping_add(1001), 0x10, 500),
        (SERVER, isn.wrapping_add(1), 0x10, 1000),
    ]);
    assert_eq!(read(file).unwrap(), (Said { segments: 3, end: 1500 }, false));
}

#[test]
fn only_the_client_ends_it() {
    let begin = (SERVER, 1, 0x12, 0);
    assert!(!read(pcap(&[begin, (SERVER, 2, 0x11, 0)])).unwrap().1);
    assert!(read(pcap(&[begin, ([192, 0, 2, 1], 2, 0x11, 0)])).unwrap().1);
    assert!(read(pcap(&[begin, ([192, 0, 2, 1], 2, 0x14, 0)])).unwrap().1);
}

#[test]
fn what_proves_nothing_is_an_error() {
    assert!(read(pcap(&[])).is_err());
    assert!(read(pcap(&[(SERVER, 1, 0x10, 10)])).is_err());
    assert!(read(vec![0; 24]).is_err());
    let mut cut = pcap(&[(SERVER, 1, 0x12, 0)]);
    cut.pop();
    assert!(read(cut).is_err());
}

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// A byte order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Little,
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

fn pcap(order: Order, magic: u32, link: u32, frames: &[&[u8]]) -> Vec<u8> {
    let mut file = order.long(magic).to_vec();
    file.extend([order.short(2), order.short(4)].concat());
    for word in [0, 0, 262_144, link] {
        file.extend(order.long(word));
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).expect("short");
        for word in [1, 2, length, length] {
            file.extend(order.long(word));
        }
        file.extend_from_slice(frame);
    }
    file
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = body.len().next_multiple_of(4) - body.len();
    let length = u32::try_from(body.len() + padding + 12).expect("short");
    let mut block = [order.long(kind), order.long(length)].concat();
    block.extend_from_slice(body);
    block.extend(vec![0; padding]);
    block.extend(order.long(length));
    block
}

fn section(order: Order, links: &[u16]) -> Vec<u8> {
    let mut body = order.long(0x1a2b_3c4d).to_vec();
    body.extend([order.short(1), order.short(0)].concat());
    body.extend([0xff; 8]);
    let mut file = block(order, 0x0a0d_0d0a, &body);
    for link in links {
        file.extend(block(order, 1, &[order.short(*link).as_slice(), &[0, 0], &order.long(0)].concat()));
    }
    file
}

fn enhanced(order: Order, interface: u32, frame: &[u8], length: u32) -> Vec<u8> {
    let captured = u32::try_from(frame.len()).expect("short");
    let words = [interface, 0, 0, captured, length].map(|w| order.long(w)).concat();
    block(order, 6, &[&words, frame].concat())
}

fn read(file: Vec<u8>) -> Result<Vec<(Vec<u8>, bool)>, CaptureError> {
    let mut capture = Capture::new("test".to_owned(), Cursor::new(file))?;
    let mut frames = Vec::new();
    while let Some(captured) = capture.next_frame()? {
        frames.push((captured.frame.to_vec(), captured.cut));
    }
    Ok(frames)
}

#[test]
fn every_kind_of_pcap_is_read() {
    for order in [Order::Little, Order::Big] {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
            let file = pcap(order, magic, 1, &[b"first", b"", &[9; 1514]]);
            let frames = read(file).expect("readable");
            assert_eq!(frames, [(b"first".to_vec(), false), (vec![], false), (vec![9; 1514], false)]);
        }
    }
}

#[test]
fn a_pcapng_with_two_sections_of_either_order_is_read() {
    let mut file = section(Order::Little, &[1]);
    file.extend(enhanced(Order::Little, 0, b"one", 3));
    file.extend(block(Order::Little, 5, &[0; 12]));
    file.extend(section(Order::Big, &[113, 1]));
    file.extend(enhanced(Order::Big, 1, b"two..", 99));
    file.extend(block(Order::Big, 4, &[0; 4]));
    assert_eq!(read(file).expect("readable"), [(b"one".to_vec(), false), (b"two..".to_vec(), true)]);
}

#[test]
fn simple_packets_have_no_padding() {
    let mut file = section(Order::Little, &[1]);
    file.extend(block(Order::Little, 3, &[&5_u32.to_le_bytes()[..], b"three"].concat()));
    assert_eq!(read(file).expect("readable"), [(b"three".to_vec(), false)]);
}

#[test]
fn a_record_larger_than_the_buffer_is_read() {
    let frame = vec![5; 3 * BUFFER];
    let file = pcap(Order::Little, 0xa1b2_c3d4, 1, &[b"x", &frame, b"y"]);
    assert_eq!(read(file).expect("readable")[1].0, frame);
}

#[test]
fn many_records_are_read_across_the_buffer() {
    let frame = [3; 1000];
    let file = pcap(Order::Little, 0xa1b2_c3d4, 1, &[frame.as_slice(); 1000]);
    assert_eq!(read(file).expect("readable").len(), 1000);
}

#[test]
fn a_file_cut_anywhere_but_between_records_is_an_error() {
    let plain = pcap(Order::Little, 0xa1b2_c3d4, 1, &[b"first", b"second"]);
    let mut blocks = section(Order::Little, &[1]);
    let ends_of_blocks = [28, 48, 48 + 36, 48 + 36 + 36];
    blocks.extend(enhanced(Order::Little, 0, b"one", 3));
    blocks.extend(enhanced(Order::Little, 0, b"two", 3));
    assert_eq!(blocks.len(), ends_of_blocks[3]);
    for (file, whole) in [(plain, vec![24, 24 + 21, 24 + 21 + 22]), (blocks, ends_of_blocks.to_vec())] {
        for end in 0..=file.len() {
            let outcome = read(file[..end].to_vec());
            assert_eq!(outcome.is_ok(), whole.contains(&end), "cut at {end}: {outcome:?}");
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let message = |file: Vec<u8>| read(file).expect_err("unusable").to_string();
    assert!(message(b"GIF89a and then some more bytes".to_vec()).contains("neither pcap nor pcapng"));
    assert!(message(pcap(Order::Little, 0xa1b2_c3d4, 113, &[b"x"])).contains("link type 113"));
    let mut cut = pcap(Order::Big, 0xa1b2_c3d4, 1, &[b"first", b"second"]);
    cut.pop();
    let text = message(cut);
    assert!(
        text.contains("truncated") && text.contains("after 1 frames") && text.contains("byte 45"),
        "{text}"
    );
    let mut nowhere = section(Order::Little, &[1]);
    nowhere.extend(enhanced(Order::Little, 7, b"x", 1));
    assert!(message(nowhere).contains("malformed"));
    let mut obsolete = section(Order::Little, &[1]);
    obsolete.extend(block(Order::Little, 2, &[0; 24]));
    assert!(message(obsolete).contains("obsolete"));
    let mut huge = pcap(Order::Little, 0xa1b2_c3d4, 1, &[&[0; 100]]);
    huge[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(read(huge).is_err());
}

#[test]
fn a_link_type_without_frames_disturbs_nobody() {
    let mut file = section(Order::Little, &[1, 113]);
    file.extend(enhanced(Order::Little, 0, b"one", 3));
    assert_eq!(read(file).expect("readable").len(), 1);
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0_usize..400, byte in any::<u8>(), ng in any::<bool>()) {
        let mut file = if ng {
            let mut file = section(Order::Little, &[1]);
            file.extend(enhanced(Order::Little, 0, &[1; 120], 120));
            file.extend(block(Order::Little, 3, &[7; 60]));
            file
        } else {
            pcap(Order::Little, 0xa1b2_c3d4, 1, &[&[1; 100], &[2; 100]])
        };
        let at = at % file.len();
        file[at] = byte;
        let _ = read(file);
    }
}

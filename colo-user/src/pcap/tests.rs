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

/// Each frame, and how many bytes of it are missing.
fn read(file: Vec<u8>) -> Result<Vec<(Vec<u8>, usize)>, CaptureError> {
    let mut capture = Capture::new("test".to_owned(), Cursor::new(file))?;
    let mut frames = Vec::new();
    while let Some(captured) = capture.next_frame()? {
        frames.push((captured.frame.to_vec(), captured.missing));
    }
    Ok(frames)
}

#[test]
fn every_kind_of_pcap_is_read() {
    for order in [Order::Little, Order::Big] {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
            let file = pcap(order, magic, 1, &[b"first", b"", &[9; 1514]]);
            let frames = read(file).expect("readable");
            assert_eq!(frames, [(b"first".to_vec(), 0), (vec![], 0), (vec![9; 1514], 0)]);
        }
    }
}

#[test]
fn longer_record_headers_are_read_in_either_order() {
    for order in [Order::Little, Order::Big] {
        let mut file = pcap(order, 0xa1b2_cd34, 1, &[]);
        for (frame, length) in [(&b"first"[..], 5), (b"second", 99)] {
            let captured = u32::try_from(frame.len()).expect("short");
            for word in [1, 2, captured, length, 7, 0x0800_0000] {
                file.extend(order.long(word));
            }
            file.extend_from_slice(frame);
        }
        assert_eq!(read(file.clone()).expect("readable"), [(b"first".to_vec(), 0), (b"second".to_vec(), 93)]);
        file.truncate(24 + 24 + 5 + 20);
        assert!(read(file).expect_err("cut").to_string().contains("after 1 frames, at byte 53"));
    }
}

#[test]
fn lengths_of_old_files_stand_the_other_way_round() {
    for ((major, minor), swapped) in [((2, 2), true), ((2, 3), true), ((543, 0), true), ((2, 4), false)] {
        let mut file = pcap(Order::Little, 0xa1b2_c3d4, 1, &[b"first"]);
        file[4..6].copy_from_slice(&u16::to_le_bytes(major));
        file[6..8].copy_from_slice(&u16::to_le_bytes(minor));
        let (captured, original) = if swapped { (36..40, 32..36) } else { (32..36, 36..40) };
        file[captured].copy_from_slice(&5_u32.to_le_bytes());
        file[original].copy_from_slice(&60_u32.to_le_bytes());
        assert_eq!(read(file).expect("readable"), [(b"first".to_vec(), 55)], "{major}.{minor}");
    }
    let mut same = pcap(Order::Little, 0xa1b2_c3d4, 1, &[b"first"]);
    same[6..8].copy_from_slice(&3_u16.to_le_bytes());
    assert_eq!(read(same).expect("readable"), [(b"first".to_vec(), 0)], "not every 2.3 has them swapped");
}

#[test]
fn a_declared_check_sequence_is_no_content() {
    // The upper bits of the link type: of the file format, of its draft, of neither.
    for (link, check) in
        [(0x2400_0001, 4), (0x5000_0001, 4), (0x1400_0001, 2), (0x0400_0001, 0), (0x2000_0001, 0)]
    {
        let frames = read(pcap(Order::Big, 0xa1b2_c3d4, link, &[b"frameFCS!", b"x"])).expect("readable");
        let end = 9 - check;
        assert_eq!(frames[0], (b"frameFCS!"[..end].to_vec(), 0), "{link:#x}");
        assert_eq!(frames[1].0.len(), 1_usize.saturating_sub(check), "{link:#x}");
    }
    let mut cut = pcap(Order::Little, 0xa1b2_c3d4, 0x2400_0001, &[b"frameFC"]);
    for (length, kept, missing) in [(9_u32, 5, 0), (11, 7, 0), (60, 7, 49)] {
        cut[36..40].copy_from_slice(&length.to_le_bytes());
        let frames = read(cut.clone()).expect("readable");
        assert_eq!((frames[0].0.len(), frames[0].1), (kept, missing), "of {length}");
    }
}

/// An interface with this option, and its section.
fn section_with(order: Order, snap: u32, code: u16, value: &[u8]) -> Vec<u8> {
    let mut file = section(order, &[]);
    let mut body = [order.short(1).as_slice(), &[0, 0], &order.long(snap)].concat();
    body.extend([order.short(code), order.short(u16::try_from(value.len()).expect("short"))].concat());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend([0; 4]);
    file.extend(block(order, 1, &body));
    file
}

/// Options with the flags of a packet, which have its check sequence in bits 5 to 8.
fn flags(order: Order, check: u32) -> Vec<u8> {
    [order.short(2).as_slice(), &order.short(4), &order.long(check << 5), &[0; 4]].concat()
}

#[test]
fn interfaces_and_packets_declare_check_sequences() {
    for order in [Order::Little, Order::Big] {
        for (value, check) in [(4, 4), (32, 4), (0, 0), (2, 2), (16, 2)] {
            let mut file = section_with(order, 0, 13, &[value]);
            file.extend(enhanced(order, 0, b"frameFCS", 8));
            file.extend(block(order, 3, &[&order.long(8), b"frameFCS".as_slice()].concat()));
            let frames = read(file).expect("readable");
            assert_eq!(frames, vec![(b"frameFCS"[..8 - check].to_vec(), 0); 2], "{value}");
        }
        // A packet's own word counts more.
        let mut file = section_with(order, 0, 13, &[4]);
        let words = [0, 0, 0, 8, 8].map(|w| order.long(w)).concat();
        file.extend(block(order, 6, &[&words, b"frameFCS".as_slice(), &flags(order, 2)].concat()));
        file.extend(block(order, 6, &[&words, b"frameFCS".as_slice(), &flags(order, 0)].concat()));
        let frames = read(file).expect("readable");
        assert_eq!(frames, [(b"frameF".to_vec(), 0), (b"fram".to_vec(), 0)]);
    }
}

#[test]
fn obsolete_packet_blocks_are_read() {
    for order in [Order::Little, Order::Big] {
        let mut file = section(order, &[113, 1]);
        let obsolete = |frame: &[u8], length: u32, options: &[u8]| {
            let captured = u32::try_from(frame.len()).expect("short");
            let mut body = [order.short(1), order.short(7)].concat();
            body.extend([0, 0, captured, length].map(|w| order.long(w)).concat());
            body.extend_from_slice(frame);
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend_from_slice(options);
            block(order, 2, &body)
        };
        file.extend(obsolete(b"first", 5, &[]));
        file.extend(obsolete(b"cut", 60, &[]));
        file.extend(obsolete(b"frameFCS", 8, &flags(order, 4)));
        let frames = read(file).expect("readable");
        assert_eq!(frames, [(b"first".to_vec(), 0), (b"cut".to_vec(), 57), (b"fram".to_vec(), 0)]);
    }
}

#[test]
fn a_simple_packet_is_as_long_as_the_snap_length_allows() {
    for order in [Order::Little, Order::Big] {
        let simple = |length: u32, data: &[u8]| block(order, 3, &[&order.long(length), data].concat());
        let mut file = section_with(order, 5, 1, b"");
        file.extend(simple(99, b"frame"));
        file.extend(simple(3, b"abc"));
        assert_eq!(read(file).expect("readable"), [(b"frame".to_vec(), 94), (b"abc".to_vec(), 0)]);
        let mut wrong = section_with(order, 0, 1, b"");
        wrong.extend(simple(99, b"frame"));
        assert!(read(wrong).expect_err("too short").to_string().contains("malformed"));
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
    assert_eq!(read(file).expect("readable"), [(b"one".to_vec(), 0), (b"two..".to_vec(), 94)]);
}

#[test]
fn simple_packets_have_no_padding() {
    let mut file = section(Order::Little, &[1]);
    file.extend(block(Order::Little, 3, &[&5_u32.to_le_bytes()[..], b"three"].concat()));
    assert_eq!(read(file).expect("readable"), [(b"three".to_vec(), 0)]);
}

#[test]
fn a_record_larger_than_the_buffer_is_read() {
    let frame = vec![5; 800_000];
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
    obsolete.extend(block(Order::Little, 2, &[0; 16]));
    assert!(message(obsolete).contains("malformed"));
    assert!(message(Vec::new()).contains("is empty"));
    let mut old = pcap(Order::Big, 0xa1b2_c3d4, 1, &[]);
    old[4..6].copy_from_slice(&[0, 1]);
    assert!(message(old).contains("pcap of version 1.4"));
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

extern crate std;

use super::*;
use std::vec::Vec;

#[test]
fn a_mode_survives_its_word() {
    for mode in [Mode::Closed, Mode::Pass, Mode::Protect, Mode::Secondary] {
        assert_eq!(Mode::from_word(mode as u32), Some(mode));
    }
    assert_eq!(Mode::from_word(4), None);
    assert_eq!(Mode::from_word(u32::MAX), None);
}

#[test]
fn counters_are_told_apart() {
    for (index, counter) in Counter::ALL.into_iter().enumerate() {
        assert_eq!(counter as usize, index);
        assert!(counter.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        assert!(counter.help().ends_with('.'));
        assert!(Counter::ALL[..index].iter().all(|other| other.name() != counter.name()));
    }
}

#[test]
fn layouts_have_no_padding() {
    assert_eq!(CAPTURE_META_LEN, 16);
    assert_eq!(RECORD_HEADER_LEN, 24);
    assert_eq!(size_of::<Settings>(), 32);
    assert_eq!(size_of::<Deadman>(), 4 * 8);
}

#[test]
fn a_probe_has_no_padding() {
    assert_eq!((liveness::LEN, size_of::<liveness::Stamp>()), (32, 16));
}

#[test]
fn records_have_room_for_every_frame() {
    assert!(RECORD_CLASSES.is_sorted());
    assert!(RECORD_CLASSES[4] >= MAX_FRAME);
    assert!(RECORD_CLASSES.iter().all(|room| room % 8 == 0));
}

#[test]
fn translation_layouts_have_no_padding() {
    use translation::{FlowEntry, FlowKey, Translating};
    assert_eq!(size_of::<FlowKey>(), 16 + 16 + 7 * 2 + 2);
    assert_eq!(size_of::<FlowEntry>(), 2 * 8 + 2 * 8 + 16 * 4);
    assert_eq!(size_of::<Translating>(), 16);
}

#[test]
fn every_tag_has_a_word_of_its_own() {
    use tags::{ID, NO_TAG, SNAP_TAG, TAG_TYPES, TUNNEL, tag};
    let words: Vec<u16> =
        TAG_TYPES.iter().flat_map(|kind| [0, 1, ID].map(|id| tag(*kind, 0xe000 | id).unwrap())).collect();
    for (at, word) in words.iter().enumerate() {
        assert!(!words[..at].contains(word));
        assert!(![NO_TAG, SNAP_TAG, SNAP_TAG | u16::from(TUNNEL)].contains(word));
    }
    assert_eq!(tag(0x0800, 1), None);
}

use super::*;

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
    assert_eq!(size_of::<FlowKey>(), 16 + 16 + 5 * 2 + 2);
    assert_eq!(size_of::<FlowEntry>(), 2 * 8 + 2 * 8 + 16 * 4);
    assert_eq!(size_of::<Translating>(), 16);
}

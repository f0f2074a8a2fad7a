use super::*;

fn lost(numbers: &[u32]) -> u64 {
    let mut gaps = Gaps::default();
    numbers.iter().for_each(|&number| gaps.arrived(number));
    gaps.lost()
}

#[test]
fn a_series_without_gaps_has_lost_nothing() {
    assert_eq!(lost(&[0, 1, 2, 3]), 0);
}

#[test]
fn the_first_frames_count_too() {
    assert_eq!(lost(&[2, 3]), 2);
}

#[test]
fn a_late_number_is_no_loss() {
    assert_eq!(lost(&[0, 2, 1, 3]), 0);
}

#[test]
fn numbers_wrap() {
    let mut gaps = Gaps { next: u32::MAX, ..Gaps::default() };
    gaps.arrived(u32::MAX);
    gaps.arrived(1);
    assert_eq!(gaps.lost(), 1);
}

#[test]
fn a_series_that_was_read_before_begins_anywhere() {
    let mut gaps = Gaps::anywhere();
    for (number, lost) in [(700, 0), (701, 0), (703, 1)] {
        gaps.arrived(number);
        assert_eq!(gaps.lost(), lost);
    }
}

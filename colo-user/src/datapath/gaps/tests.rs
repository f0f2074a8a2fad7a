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
    let mut gaps = Gaps { next: u32::MAX, lost: 0 };
    gaps.arrived(u32::MAX);
    gaps.arrived(1);
    assert_eq!(gaps.lost(), 1);
}

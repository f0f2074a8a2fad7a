use super::*;

/// Whether there is a pause after some time with a frame every so many microseconds.
fn pauses_at(micros: u64) -> bool {
    let begin = Instant::now();
    let mut pace = Pace::new(begin);
    (0..1000).map(|n| pace.pause(begin + Duration::from_micros(n * micros), n)).last().flatten().is_some()
}

#[test]
fn a_stream_pauses_and_single_frames_do_not() {
    assert!(pauses_at(10) && pauses_at(80));
    assert!(!pauses_at(90) && !pauses_at(1000) && !pauses_at(100_000));
}

#[test]
fn a_stream_that_ends_pauses_no_more() {
    let begin = Instant::now();
    let at = |micros| begin + Duration::from_micros(micros);
    let mut pace = Pace::new(begin);
    assert_eq!(pace.pause(at(500), 50), None, "too short to be known as one");
    assert_eq!(pace.pause(at(1000), 100), Some(PAUSE));
    assert_eq!(pace.pause(at(1100), 100), Some(PAUSE));
    assert_eq!(pace.pause(at(2000), 105), None);
}

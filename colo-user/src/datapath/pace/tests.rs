use super::*;

/// Whether a thread comes first at the end of 50 ms in which a frame comes every so many microseconds, and each is input if
/// `input` says so of its number.
fn is_first(micros: u64, input: impl Fn(u64) -> bool) -> bool {
    let begin = Instant::now();
    let mut pace = Pace::new(begin);
    let (mut frames, mut first) = (Frames::default(), true);
    for n in 0..50_000 / micros {
        if input(n) {
            frames.input += 1;
        } else {
            frames.output += 1;
        }
        first = pace.change(begin + Duration::from_micros(n * micros), frames).unwrap_or(first);
    }
    first
}

#[test]
fn a_request_and_its_answer_come_first_and_a_stream_does_not() {
    let turns = |n| n % 2 == 0;
    assert!(is_first(100, turns) && is_first(250, turns) && is_first(5000, turns));
    assert!(!is_first(40, turns), "so many are a stream");
    assert!(!is_first(100, |n| n % 3 == 0), "two of one side for each of the other");
    assert!(!is_first(250, |n| n % 4 < 2), "two at a time");
    assert!(is_first(1000, |n| n % 4 < 2), "too few to matter");
    assert!(!is_first(200, |_| false));
}

#[test]
fn batches_in_which_as_many_go_each_way_are_turns() {
    let begin = Instant::now();
    let at = |micros| begin + Duration::from_micros(micros);
    let mut pace = Pace::new(begin);
    assert_eq!(pace.change(at(500), Frames { input: 8, output: 1 }), None, "too short to be known");
    assert_eq!(pace.change(at(2000), Frames { input: 9, output: 3 }), Some(false));
    assert_eq!(pace.change(at(3000), Frames { input: 12, output: 6 }), None);
    let mut changes = (1..=u64::from(CALM))
        .map(|n| pace.change(at(2000 * (n + 1)), Frames { input: 12 + 2 * n, output: 6 + 2 * n }));
    assert!(changes.by_ref().take(CALM as usize - 1).all(|change| change.is_none()), "a gap in a stream");
    assert_eq!(changes.next(), Some(Some(true)));
    drop(changes);
    assert_eq!(pace.change(at(100_000), Frames { input: 50, output: 40 }), None, "nothing new");
}

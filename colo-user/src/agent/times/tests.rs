use super::*;

#[test]
fn a_bucket_holds_what_is_counted_in_it_and_is_no_wider_than_an_eighth() {
    for nanos in (0..4096).chain([1 << 20, (1 << 20) + 1, 1_000_000_007, u64::MAX / 3, u64::MAX]) {
        let end = upper(bucket(nanos));
        assert!(end >= nanos && end - nanos <= nanos / 8, "{nanos} is counted up to {end}");
    }
    assert!(bucket(u64::MAX) < BUCKETS);
}

#[test]
fn buckets_do_not_overlap() {
    for index in 1..BUCKETS {
        assert_eq!(bucket(upper(index - 1) + 1), index);
        assert_eq!(bucket(upper(index)), index);
    }
}

#[test]
fn percentiles_are_of_all_that_was_counted() {
    let mut times = Times::default();
    assert_eq!(times.summary(), Summary::default());
    for millis in 1..=100 {
        times.record(Duration::from_millis(millis));
    }
    let near = |got: Duration, millis| {
        let exact = Duration::from_millis(millis);
        assert!(got >= exact && got <= exact + exact / 8, "{got:?} for {exact:?}");
    };
    near(times.percentile(50), 50);
    near(times.percentile(99), 99);
    assert_eq!(times.percentile(100), Duration::from_millis(100));
    assert_eq!((times.summary().count, times.summary().max_us), (100, 100_000));
}

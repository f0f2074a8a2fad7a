use super::*;

#[test]
fn a_deadline_of_a_host_is_not_met_early_and_hardly_late() {
    for ppm in [-MAX_DRIFT_PPM, -7, 0, 13, MAX_DRIFT_PPM] {
        let mut clock = Clock::new(Duration::from_secs(5), ppm);
        clock.sleeps(Mono::from_millis(500), Mono::from_millis(700));
        clock.sleeps(Mono::from_millis(600), Mono::from_millis(998));
        for millis in [0, 1, 999, 12_345, 3_600_000] {
            let local = clock.local(Mono::from_millis(millis));
            let again = clock.local(clock.global(local));
            assert!(again >= local, "{ppm} {millis}");
            assert!(again.saturating_since(local) < Duration::from_millis(1), "{ppm} {millis}");
        }
    }
}

#[test]
fn only_one_of_the_clocks_goes_on_while_the_host_is_suspended() {
    let mut clock = Clock::new(Duration::ZERO, 0);
    clock.sleeps(Mono::from_millis(10), Mono::from_millis(30));
    for (at, awake) in [(5, 5), (10, 10), (20, 10), (30, 10), (31, 11)] {
        assert_eq!(clock.local(Mono::from_millis(at)), Mono::from_millis(awake));
        assert_eq!(clock.boot(Mono::from_millis(at)).as_nanos(), at * 1_000_000);
    }
}

use super::*;

#[test]
fn a_deadline_of_a_host_is_not_met_early_and_hardly_late() {
    for ppm in [-MAX_DRIFT_PPM, -7, 0, 13, MAX_DRIFT_PPM] {
        let clock = Clock::new(Duration::from_secs(5), ppm);
        for millis in [0, 1, 999, 12_345, 3_600_000] {
            let local = clock.local(Mono::from_millis(millis));
            let again = clock.local(clock.global(local));
            assert!(again >= local, "{ppm} {millis}");
            assert!(again.saturating_since(local) < Duration::from_millis(1), "{ppm} {millis}");
        }
    }
}

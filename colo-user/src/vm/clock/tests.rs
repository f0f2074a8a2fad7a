use super::*;

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn moment(after: u64, before: u64, said: u64) -> Moment {
    Moment { after: at(after), before: at(before), at: Some(at(said)) }
}

#[test]
fn wall_time_maps_both_ways_around_the_reading() {
    let clocks = Clocks { mono: at(5000), wall: Duration::from_secs(1_700_000_000) };
    assert_eq!(clocks.mono(Duration::from_millis(1_700_000_000_250)), at(5250));
    assert_eq!(clocks.mono(Duration::from_millis(1_699_999_999_000)), at(4000));
    assert_eq!(clocks.mono(Duration::ZERO), Mono::ZERO, "older than the clock");
}

#[test]
fn the_middle_of_the_silence_parts_the_epochs() {
    let silence = Silence::between(moment(90, 120, 100), moment(90, 120, 110));
    assert!(silence.sure());
    assert_eq!(silence.length(), Duration::from_millis(10));
    assert_eq!(
        [99, 104, 105, 111].map(|ms| silence.side(at(ms))),
        [Side::Before, Side::Before, Side::After, Side::After]
    );
}

#[test]
fn a_clock_that_was_stepped_leaves_what_lies_between_the_looks_open() {
    for (stop, resume) in [
        (moment(90, 120, 10_000), moment(90, 120, 10_010)),
        (moment(90, 120, 5), moment(90, 120, 15)),
        (moment(90, 120, 110), moment(90, 120, 100)),
        (Moment { at: None, ..moment(90, 120, 0) }, moment(90, 120, 110)),
    ] {
        let silence = Silence::between(stop, resume);
        assert!(!silence.sure());
        assert_eq!(
            [89, 90, 105, 120, 121].map(|ms| silence.side(at(ms))),
            [Side::Before, Side::Unsure, Side::Unsure, Side::Unsure, Side::After]
        );
    }
}

use super::*;

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn counts(wants: &Wants) -> Vec<u64> {
    wants.counters().map(|(_, n)| n).collect()
}

#[test]
fn a_want_is_asked_for_at_once_and_again_until_a_stop() {
    let mut wants = Wants::default();
    assert_eq!(wants.next(at(1000), true), None);
    wants.want();
    wants.want();
    assert_eq!(wants.next(at(1000), true), Some(Question::Delay));
    assert_eq!(wants.next(at(1000), true), None);
    wants.delay(Duration::from_secs(20));
    assert_eq!(wants.next(at(1001), true), Some(Question::Checkpoint(Duration::from_secs(20))));
    assert_eq!(wants.next_deadline(true), Some(at(1100)), "swallowed by a checkpoint that ran");
    assert_eq!(wants.next(at(1100), true), Some(Question::Delay));
    wants.satisfied();
    assert_eq!((wants.next(at(5000), true), wants.next_deadline(true)), (None, None));
    assert_eq!(counts(&wants), [1, 1, 1, 0]);
}

#[test]
fn nothing_is_asked_of_a_guest_that_is_not_in_colo() {
    let mut wants = Wants::default();
    wants.want();
    assert_eq!((wants.next(at(1000), false), wants.next_deadline(false)), (None, None));
    assert_eq!(wants.next(at(1000), true), Some(Question::Delay), "kept until it is");
}

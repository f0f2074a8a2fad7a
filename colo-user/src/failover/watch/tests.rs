use super::*;

const LIMIT: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

/// A watch that is called as often as it wants until `end`, with answers after `delay` while they come.
fn run(watch: &mut Watch, from: u64, end: u64, delay: Option<u64>, stopped: bool) -> Vec<(u64, Do)> {
    let (mut done, mut answer) = (Vec::new(), None);
    for now in from..end {
        if answer == Some(now) {
            watch.answered(at(now));
        }
        if watch.next_deadline().is_some_and(|deadline| deadline <= at(now)) {
            let what = watch.tick(at(now), stopped);
            if what == Some(Do::Ask) {
                answer = delay.map(|delay| now + delay);
            }
            done.extend(what.map(|what| (now, what)));
        }
    }
    done
}

#[test]
fn a_qemu_that_answers_is_asked_again_and_again() {
    let mut watch = Watch::new(LIMIT);
    assert_eq!((watch.next_deadline(), watch.frozen(at(9000))), (None, false), "no monitor, no question");
    watch.monitor(at(10), true);
    let asked = run(&mut watch, 10, 3000, Some(400), true);
    let times: Vec<_> = asked.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [10, 510, 1010, 1510, 2010, 2510]);
    assert_eq!(watch.worst(), Duration::from_millis(400));
    assert!(!watch.frozen(at(3000)) && !watch.waits());
    run(&mut watch, 3000, 3100, Some(400), true);
    assert!(watch.waits() && !watch.frozen(at(3100)), "not known before it answers");
}

#[test]
fn one_that_does_not_answer_is_frozen_at_the_limit_and_yanked_before_in_a_checkpoint() {
    for stopped in [false, true] {
        let mut watch = Watch::new(LIMIT);
        watch.monitor(at(0), true);
        let done = run(&mut watch, 0, 1999, None, stopped);
        let yanks = done.iter().filter(|(_, what)| *what == Do::Yank).count();
        assert_eq!(yanks, usize::from(stopped), "{done:?}");
        assert!(!watch.frozen(at(1999)) && watch.frozen(at(2000)));
        watch.answered(at(2001));
        assert!(!watch.frozen(at(5000)), "its caller remembers");
    }
}

#[test]
fn an_agent_that_slept_accuses_nobody() {
    let mut watch = Watch::new(LIMIT);
    watch.monitor(at(0), true);
    assert_eq!(watch.tick(at(0), false), Some(Do::Ask));
    // Both were frozen together for a minute.
    assert!(!watch.frozen(at(60_000)), "not before it has looked, either");
    assert_eq!(watch.tick(at(60_000), false), None);
    run(&mut watch, 60_001, 62_000, None, false);
    assert!(!watch.frozen(at(61_999)) && watch.frozen(at(62_000)));
}

#[test]
fn a_guest_that_speaks_is_not_frozen() {
    let mut watch = Watch::new(LIMIT);
    watch.monitor(at(0), true);
    assert_eq!(watch.tick(at(0), false), Some(Do::Ask));
    run(&mut watch, 1, 1900, None, false);
    watch.spoke(at(1900));
    run(&mut watch, 1900, 3899, None, false);
    assert!(!watch.frozen(at(3899)) && watch.frozen(at(3900)));
}

#[test]
fn a_monitor_that_is_lost_is_not_asked() {
    let mut watch = Watch::new(LIMIT);
    watch.monitor(at(0), true);
    assert_eq!(watch.tick(at(0), false), Some(Do::Ask));
    watch.monitor(at(5), false);
    assert!(!watch.frozen(at(9000)) && watch.tick(at(9000), false).is_none());
}

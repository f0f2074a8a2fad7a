use std::collections::BTreeSet;
use std::num::NonZeroU8;

use proptest::prelude::*;

use super::super::Condition;
use super::*;

const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(20), multiplier: NonZeroU8::new(3).unwrap() };

fn at(ms: u64) -> Mono {
    Mono::from_millis(1000 + ms)
}

fn beat(seq: u64) -> Beat {
    Beat { boot: 1, seq, sent: seq, echo: 0, held: 0, heard_boot: 0, condition: Condition::default() }
}

fn watch() -> Watch {
    Watch::new(at(0), "udp".into())
}

#[test]
fn a_link_is_late_and_then_lost_at_its_own_times() {
    let mut link = watch();
    link.sign(at(10));
    for (ms, state) in [
        (39, LinkState::Alive),
        (40, LinkState::Late),
        (69, LinkState::Late),
        (70, LinkState::Lost),
        (900, LinkState::Lost),
    ] {
        link.tick(at(ms), &SETTINGS);
        assert_eq!(link.state(), state, "{ms} ms");
    }
    let report = link.report();
    assert_eq!((report.late, report.lost, report.false_alarms), (1, 1, 0));
    assert!(link.sign(at(1000)));
    let report = link.report();
    assert_eq!((report.lost, report.false_alarms, report.worst_gap_us), (1, 1, 990_000));
    assert_eq!(report.state, "alive");
}

#[test]
fn a_link_over_which_nobody_ever_spoke_is_lost_too_and_its_first_word_is_no_false_alarm() {
    let mut link = watch();
    link.tick(at(59), &SETTINGS);
    assert_eq!(link.state(), LinkState::Waiting);
    link.tick(at(60), &SETTINGS);
    assert_eq!(link.state(), LinkState::Lost);
    link.sign(at(500));
    assert_eq!(link.report().false_alarms, 0);
}

#[test]
fn a_look_that_comes_late_counts_what_lay_between() {
    let mut link = watch();
    link.sign(at(0));
    link.tick(at(100), &SETTINGS);
    let report = link.report();
    assert_eq!((report.state, report.late, report.lost), ("lost", 1, 1));
}

#[test]
fn deadlines_are_when_something_changes() {
    let mut link = watch();
    assert_eq!(link.next_deadline(&SETTINGS), Some(at(60)));
    link.sign(at(10));
    assert_eq!(link.next_deadline(&SETTINGS), Some(at(40)));
    link.tick(at(40), &SETTINGS);
    assert_eq!(link.next_deadline(&SETTINGS), Some(at(70)));
    link.broken();
    assert_eq!(link.next_deadline(&SETTINGS), None);
}

#[test]
fn the_way_there_and_back_is_measured_by_the_echo() {
    let mut link = watch();
    let sent = at(100).as_nanos();
    let held = Duration::from_millis(7).as_nanos() as u64;
    let answer = Beat { echo: sent, held, heard_boot: 5, ..beat(1) };
    assert!(link.beat(at(110), 5, &answer));
    link.tick(at(110), &SETTINGS);
    assert_eq!((link.report().round_trip_us, link.report().heard_by_peer), (3000, true));
    link.tick(at(160), &SETTINGS);
    assert!(!link.report().heard_by_peer, "it speaks, and hears nothing of us for the limit");
    let to_another = Beat { echo: at(150).as_nanos(), heard_boot: 4, ..beat(2) };
    assert!(link.beat(at(161), 5, &to_another));
    link.tick(at(161), &SETTINGS);
    assert!(!link.report().heard_by_peer, "that was an agent before this one");
}

proptest! {
    /// Against a set: whatever the order, each beat within the window counts once, and each gap is known.
    #[test]
    fn order_and_number_do_not_matter(seqs in proptest::collection::vec(1..60_u64, 1..200)) {
        let mut link = watch();
        let (mut seen, mut duplicated) = (BTreeSet::new(), 0);
        let first = seqs[0];
        for seq in seqs {
            // What was said before the first is of no interest.
            if seq < first {
                continue;
            }
            let fresh = link.beat(at(seq), 9, &beat(seq));
            prop_assert_eq!(fresh, seen.insert(seq));
            duplicated += u64::from(!fresh);
        }
        let report = link.report();
        let highest = seen.last().copied().unwrap();
        prop_assert_eq!(report.duplicated, duplicated);
        prop_assert_eq!(report.missing, highest - first + 1 - seen.len() as u64);
    }
}

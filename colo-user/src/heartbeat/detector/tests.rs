use std::num::NonZeroU8;

use proptest::prelude::*;

use super::*;

const SETTINGS: Settings =
    Settings { interval: Duration::from_millis(20), multiplier: NonZeroU8::new(3).unwrap() };
const LIMIT_MS: u64 = 60;

fn at(ms: u64) -> Mono {
    Mono::from_millis(1000 + ms)
}

fn detector(now: Mono, boot: u64) -> Detector {
    Detector::new(SETTINGS, boot, ["data", "udp:1", "udp:2"].map(str::to_owned), now)
}

fn beat(boot: u64, seq: u64) -> Beat {
    Beat {
        boot,
        seq,
        sent: seq,
        echo: 0,
        held: 0,
        heard_boot: 0,
        condition: Condition { term: seq, ..Condition::default() },
    }
}

/// Ticks as often as it wants to be ticked, up to `to`, from `from`.
fn run(detector: &mut Detector, from: u64, to: u64, out: &mut Vec<Event>) {
    for ms in from..=to {
        if at(ms) >= detector.next_deadline() {
            detector.tick(at(ms), out);
            detector.due(at(ms), Condition::default());
        }
    }
    detector.tick(at(to), out);
}

fn peer_states(out: &[Event]) -> Vec<PeerState> {
    let states = out.iter().filter_map(|event| match event {
        Event::Peer { to, .. } => Some(*to),
        Event::Link { .. } | Event::Restarted { .. } => None,
    });
    states.collect()
}

#[test]
fn the_peer_is_lost_when_the_last_link_is() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    d.sign(at(0), 0, at(0), &mut out);
    d.heard(at(0), 1, &beat(7, 1), &mut out);
    d.heard(at(0), 2, &beat(7, 1), &mut out);
    run(&mut d, 1, 20, &mut out);
    d.heard(at(20), 2, &beat(7, 2), &mut out);
    run(&mut d, 21, 65, &mut out);
    // Links 0 and 1 are silent, link 2 is late: nobody is lost.
    assert_eq!(d.verdict().state, PeerState::Late);
    assert_eq!(d.report(at(65)).reason, "beats overdue");
    d.heard(at(66), 2, &beat(7, 3), &mut out);
    assert_eq!((d.verdict().state, d.report(at(66)).reason), (PeerState::Alive, "link lost"));
    run(&mut d, 67, 66 + LIMIT_MS, &mut out);
    assert_eq!(d.verdict().state, PeerState::Lost);
    let report = d.report(at(66 + LIMIT_MS));
    assert_eq!((report.reason, report.lost, report.silent_ms), ("all links silent", 1, LIMIT_MS));
    let wanted = [PeerState::Alive, PeerState::Late, PeerState::Alive, PeerState::Late, PeerState::Lost];
    assert_eq!(peer_states(&out), wanted);
}

#[test]
fn a_data_link_that_breaks_is_a_lost_link_and_no_lost_peer() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    d.sign(at(0), 0, at(0), &mut out);
    d.heard(at(0), 1, &beat(7, 1), &mut out);
    d.broken(at(5), 0, &mut out);
    assert_eq!((d.verdict().state, d.report(at(5)).reason), (PeerState::Alive, "link lost"));
    assert_eq!(out.last(), Some(&Event::Link { link: 0, to: LinkState::Lost }));
    assert_eq!(d.report(at(5)).links[0].lost, 1);
}

#[test]
fn a_peer_that_never_appears_is_lost_and_never_was_heard() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    run(&mut d, 0, LIMIT_MS - 1, &mut out);
    assert_eq!((d.verdict().state, d.report(at(0)).reason), (PeerState::Waiting, "never heard"));
    run(&mut d, LIMIT_MS, LIMIT_MS, &mut out);
    assert_eq!((d.verdict().state, d.report(at(60)).reason), (PeerState::Lost, "never heard"));
    // Its first beat is no false alarm.
    d.heard(at(70), 1, &beat(7, 1), &mut out);
    assert_eq!(d.report(at(70)).false_alarms, 0);
}

#[test]
fn a_peer_that_answers_later_was_a_false_alarm_and_one_that_was_started_anew_was_not() {
    for (boot, false_alarms, restarts) in [(7, 1, 0), (8, 0, 1)] {
        let (mut d, mut out) = (detector(at(0), 1), Vec::new());
        d.heard(at(0), 1, &beat(7, 1), &mut out);
        run(&mut d, 1, 100, &mut out);
        assert_eq!(d.verdict().state, PeerState::Lost);
        // The data link alone does not prove who is there.
        d.sign(at(100), 0, at(100), &mut out);
        assert_eq!(d.report(at(100)).false_alarms, 0);
        d.heard(at(101), 1, &beat(boot, 2), &mut out);
        let report = d.report(at(101));
        assert_eq!((report.false_alarms, report.restarts), (false_alarms, restarts), "boot {boot}");
        assert_eq!(out.contains(&Event::Restarted { boot: 8 }), restarts == 1);
        assert_eq!(d.verdict().state, PeerState::Alive);
        assert_eq!(d.verdict().replaced, (restarts == 1).then_some(7));
    }
}

#[test]
fn false_alarms_are_reported_for_each_hour() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    for alarm in 0..3 {
        d.heard(at(alarm * 100), 1, &beat(7, alarm + 1), &mut out);
        run(&mut d, alarm * 100 + 1, alarm * 100 + 99, &mut out);
    }
    let report = d.report(at(30 * 60 * 1000));
    assert_eq!((report.lost, report.false_alarms, report.false_alarms_per_hour), (3, 2, 4.0));
}

#[test]
fn a_guest_in_a_checkpoint_is_no_lost_peer() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    let says = |seq, paused| {
        let condition = Condition { paused, ..Condition::default() };
        Beat { condition, ..beat(7, seq) }
    };
    d.heard(at(0), 1, &says(1, true), &mut out);
    assert_eq!((d.verdict().state, d.report(at(0)).reason), (PeerState::Paused, "guest in a checkpoint"));
    d.heard(at(20), 1, &says(2, false), &mut out);
    assert_eq!(d.verdict().state, PeerState::Alive);
    // A late one changes nothing.
    d.heard(at(21), 2, &says(2, false), &mut out);
    d.heard(at(22), 1, &says(3, true), &mut out);
    run(&mut d, 23, 200, &mut out);
    assert_eq!(d.verdict().state, PeerState::Lost, "a dead agent is dead, whatever its guest did");
}

#[test]
fn an_agent_that_hears_itself_hears_nobody() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    d.heard(at(0), 1, &beat(1, 1), &mut out);
    assert_eq!((d.verdict().state, d.verdict().condition), (PeerState::Waiting, None));
    assert_eq!((d.report(at(0)).stale, out.len()), (1, 0));
}

#[test]
fn who_did_not_run_accuses_nobody() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    d.heard(at(0), 1, &beat(7, 1), &mut out);
    run(&mut d, 1, 10, &mut out);
    d.tick(at(500), &mut out);
    assert_eq!(d.verdict().state, PeerState::Alive);
    let report = d.report(at(500));
    assert_eq!((report.own_pauses, report.worst_own_pause_us), (1, 490_000));
    run(&mut d, 501, 500 + LIMIT_MS, &mut out);
    assert_eq!(d.verdict().state, PeerState::Lost);
}

#[test]
fn beats_leave_on_time_and_are_not_made_up_for() {
    let mut d = detector(at(0), 1);
    let sent = |d: &mut Detector, ms| d.due(at(ms), Condition::default()).len();
    assert_eq!([0, 1, 19, 20, 39, 40].map(|ms| sent(&mut d, ms)), [2, 0, 0, 2, 0, 2]);
    assert_eq!([205, 206, 224, 225].map(|ms| sent(&mut d, ms)), [2, 0, 0, 2]);
    d.hurry(at(226));
    assert_eq!(sent(&mut d, 226), 2);
    assert_eq!(d.report(at(226)).sent, 12);
}

#[test]
fn the_newest_word_counts_whatever_link_it_came_by() {
    let (mut d, mut out) = (detector(at(0), 1), Vec::new());
    d.heard(at(0), 1, &beat(7, 5), &mut out);
    d.heard(at(1), 2, &beat(7, 4), &mut out);
    assert_eq!(d.verdict().condition.unwrap().term, 5);
    d.heard(at(2), 2, &beat(8, 1), &mut out);
    assert_eq!(d.verdict().condition.unwrap().term, 1, "another agent's first word is newer");
    d.heard(at(3), 1, &beat(7, 6), &mut out);
    assert_eq!(d.verdict().condition.unwrap().term, 1);
    assert_eq!(d.report(at(3)).stale, 1);
}

/// One step of the world between two agents.
#[derive(Clone, Debug)]
enum Step {
    /// Time goes on, in parts that are no own pause, and both beat.
    Pass(u64),
    /// Of the beats under way to the first agent this one comes, or all of them in order.
    Deliver(usize),
    DeliverAll,
    /// It comes, and will come again.
    Duplicate(usize),
    /// It never comes.
    Drop(usize),
    /// The second agent is started anew.
    Restart,
    /// The second agent's beats of this link do not leave from here on, or do again.
    Cut(usize),
    /// The data link says something, or breaks.
    Data(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..30_u64).prop_map(Step::Pass),
        4 => Just(Step::DeliverAll),
        3 => any::<usize>().prop_map(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Duplicate),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Restart),
        1 => (1..3_usize).prop_map(Step::Cut),
        1 => any::<bool>().prop_map(Step::Data),
    ]
}

/// What is true of the links of `d`, by hand: when each had its last sign of the agent that is heard.
#[derive(Default)]
struct Truth {
    signs: [Option<u64>; 3],
    broken: bool,
    boots: Vec<u64>,
    taken: u64,
}

proptest! {
    /// Two agents and a network that reorders, repeats, loses and cuts: nobody is lost who was heard within the limit over any link,
    /// and whoever was heard over none is.
    #[test]
    fn lost_is_exactly_who_is_silent_on_every_link(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut now, mut boot) = (0, 100);
        let (mut d, mut peer) = (detector(at(0), 1), detector(at(0), boot));
        let (mut wire, mut cut) = (Vec::<(usize, Beat)>::new(), [false; 3]);
        let (mut truth, mut out) = (Truth::default(), Vec::new());
        let mut delivered = 0;
        for step in steps {
            let mut deliver = |d: &mut Detector, link: usize, beat: &Beat, out: &mut Vec<Event>| {
                delivered += 1;
                let before = d.report(at(now));
                d.heard(at(now), link, beat, out);
                let after = d.report(at(now));
                if after.links[link].heard > before.links[link].heard || after.restarts > before.restarts {
                    if truth.boots.last() != Some(&beat.boot) {
                        truth.boots.push(beat.boot);
                        truth.signs[1..].fill(None);
                    }
                    truth.signs[link] = Some(now);
                    truth.taken += 1;
                }
            };
            match step {
                Step::Pass(ms) => {
                    for _ in 0..ms {
                        now += 1;
                        d.tick(at(now), &mut out);
                        let sent = peer.due(at(now), Condition::default());
                        wire.extend(sent.into_iter().filter(|(link, _)| !cut[*link]));
                        let _ = d.due(at(now), Condition::default());
                    }
                }
                Step::Deliver(which) if !wire.is_empty() => {
                    let (link, beat) = wire.remove(which % wire.len());
                    deliver(&mut d, link, &beat, &mut out);
                }
                Step::DeliverAll => {
                    for (link, beat) in std::mem::take(&mut wire) {
                        deliver(&mut d, link, &beat, &mut out);
                    }
                }
                Step::Duplicate(which) if !wire.is_empty() => {
                    let (link, beat) = wire[which % wire.len()];
                    deliver(&mut d, link, &beat, &mut out);
                }
                Step::Drop(which) if !wire.is_empty() => {
                    wire.remove(which % wire.len());
                }
                Step::Restart => {
                    boot += 1;
                    peer = detector(at(now), boot);
                }
                Step::Cut(link) => cut[link] ^= true,
                Step::Data(true) => {
                    d.sign(at(now), 0, at(now), &mut out);
                    (truth.signs[0], truth.broken) = (Some(now), false);
                }
                Step::Data(false) => {
                    d.broken(at(now), 0, &mut out);
                    truth.broken = true;
                }
                Step::Deliver(_) | Step::Duplicate(_) | Step::Drop(_) => {}
            }
            d.tick(at(now), &mut out);
            // The time of a link that an agent before was heard over goes on from there.
            let lost = d.verdict().state == PeerState::Lost;
            let fresh = |link: usize| truth.signs[link].is_some_and(|at| now < at + LIMIT_MS);
            let heard = fresh(1) || fresh(2) || (fresh(0) && !truth.broken);
            prop_assert!(!(lost && heard), "lost at {now}: {:?}", d.report(at(now)));
        }
        // Nothing comes any more.
        for _ in 0..=LIMIT_MS {
            now += 1;
            d.tick(at(now), &mut out);
        }
        prop_assert_eq!(d.verdict().state, PeerState::Lost);
        let report = d.report(at(now));
        let udp = &report.links[1..];
        let heard: u64 = udp.iter().map(|link| link.heard).sum();
        let again: u64 = udp.iter().map(|link| link.duplicated).sum();
        prop_assert_eq!(heard + again + report.stale, delivered);
        prop_assert_eq!(report.restarts, truth.boots.len().saturating_sub(1) as u64);
        prop_assert!(report.false_alarms <= report.lost);
        prop_assert!(report.lost >= 1 && heard >= truth.taken);
    }
}

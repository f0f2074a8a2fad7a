use super::*;
use proptest::prelude::*;

const PEER: PeerId = PeerId(1);

fn settings(pulse: u32, timeout: u32) -> Settings {
    Settings {
        server: true,
        pulse_interval: NonZeroU32::new(pulse).unwrap(),
        timeout: NonZeroU32::new(timeout).unwrap(),
        debounce: 0,
    }
}

/// A machine with one peer and a notification node, and what it said.
struct Rig {
    machine: Machine,
    out: Vec<Action>,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let mut rig = Self { machine: Machine::new(settings, Mono::ZERO), out: Vec::new() };
        rig.machine.peer_up(PEER, Mono::ZERO, &mut rig.out);
        rig.machine.notification_up(&mut rig.out);
        assert_eq!(rig.out, [], "nothing is sent on connect");
        rig
    }

    fn tick(&mut self, ms: u64) -> Vec<Action> {
        self.machine.tick(Mono::from_millis(ms), &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn frame(&mut self, ms: u64, body: &[u8]) -> Vec<Action> {
        self.machine.frame(PEER, body, Mono::from_millis(ms), &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn written(&mut self) -> Vec<Action> {
        self.machine.script_written(&mut self.out);
        std::mem::take(&mut self.out)
    }

    fn notification_up(&mut self) -> Vec<Action> {
        self.machine.notification_up(&mut self.out);
        std::mem::take(&mut self.out)
    }
}

fn changed(from: State, to: State, ms: u64) -> Action {
    Action::Changed { from, to, silent: Duration::from_millis(ms) }
}

#[test]
fn pulses_leave_each_interval_and_none_before() {
    let mut rig = Rig::new(settings(100, 10_000));
    assert_eq!(rig.tick(99), []);
    assert_eq!(rig.tick(100), [Action::Send(PEER, PULSE)]);
    assert_eq!(rig.tick(199), []);
    assert_eq!(rig.tick(205), [Action::Send(PEER, PULSE)]);
    assert_eq!(rig.machine.next_deadline(), Mono::from_millis(300), "lateness does not add up");
    assert_eq!(rig.tick(950), [Action::Send(PEER, PULSE)], "one, however many were due");
    assert_eq!(rig.machine.next_deadline(), Mono::from_millis(1050));
}

#[test]
fn a_peer_that_never_comes_is_missed() {
    let mut machine = Machine::new(settings(10_000, 300), Mono::ZERO);
    let mut out = Vec::new();
    machine.notification_up(&mut out);
    machine.tick(Mono::from_millis(299), &mut out);
    assert_eq!(out, []);
    machine.tick(Mono::from_millis(300), &mut out);
    assert_eq!(out, [changed(State::NeverSeen, State::TimedOut, 300), Action::Script]);
}

#[test]
fn a_connection_alone_is_no_sign_of_life() {
    let mut rig = Rig::new(settings(10_000, 300));
    rig.machine.peer_down(PEER);
    rig.machine.peer_up(PEER, Mono::from_millis(290), &mut rig.out);
    assert_eq!(rig.tick(300).len(), 2);
}

#[test]
fn any_frame_is_answered_without_server_except_a_reply() {
    let mut rig = Rig::new(Settings { server: false, ..settings(10_000, 300) });
    for body in [PULSE, b"", b"anything", b"advanced-watchdog reply pulse"] {
        assert!(rig.frame(1, body).contains(&Action::Send(PEER, REPLY)), "{body:?}");
    }
    assert_eq!(rig.frame(2, REPLY), [], "a reply is heard and not answered");
    assert_eq!(rig.machine.next_deadline(), Mono::from_millis(302));
}

#[test]
fn a_server_answers_nothing() {
    let mut rig = Rig::new(settings(10_000, 300));
    assert_eq!(rig.frame(7, PULSE), [changed(State::NeverSeen, State::Alive, 7)]);
    assert_eq!(rig.frame(8, PULSE), []);
}

#[test]
fn each_timeout_says_its_script_once() {
    let mut rig = Rig::new(settings(10_000, 300));
    rig.frame(100, b"");
    assert_eq!(rig.tick(399), []);
    assert_eq!(rig.tick(400), [changed(State::Alive, State::TimedOut, 300), Action::Script]);
    assert_eq!(rig.written(), []);
    assert_eq!(rig.written(), [], "said twice means nothing");
    assert_eq!(rig.tick(9_999), []);
    assert_eq!(rig.frame(20_000, b""), [changed(State::TimedOut, State::Alive, 19_900)]);
    assert!(rig.tick(20_300).contains(&Action::Script));
}

#[test]
fn an_owed_script_waits_for_the_notification_node() {
    let mut rig = Rig::new(settings(10_000, 300));
    rig.machine.notification_down();
    assert_eq!(rig.tick(300), [changed(State::NeverSeen, State::TimedOut, 300)]);
    assert_eq!(rig.notification_up(), [Action::Script]);
    rig.machine.notification_down();
    assert_eq!(rig.notification_up(), [Action::Script], "it broke off in the middle");
    assert_eq!(rig.written(), []);
    rig.machine.notification_down();
    assert_eq!(rig.notification_up(), [], "it was written");
}

#[test]
fn each_of_several_timeouts_owes_one_up_to_the_bound() {
    let mut rig = Rig::new(settings(1_000_000, 10));
    rig.machine.notification_down();
    for round in 0..u64::from(MAX_OWED) + 3 {
        rig.frame(round * 100, b"");
        rig.tick(round * 100 + 10);
    }
    assert_eq!(rig.machine.not_owed(), 3);
    assert_eq!(rig.notification_up(), [Action::Script]);
    for _ in 1..MAX_OWED {
        assert_eq!(rig.written(), [Action::Script]);
    }
    assert_eq!(rig.written(), []);
}

#[test]
fn debounce_lets_timeouts_pass() {
    let mut rig = Rig::new(Settings { debounce: 2, ..settings(1_000_000, 100) });
    rig.frame(0, b"");
    assert_eq!(rig.tick(100), [changed(State::Alive, State::Late, 100)]);
    assert_eq!(rig.tick(200), []);
    assert_eq!(rig.frame(250, b""), [changed(State::Late, State::Alive, 250)]);
    assert_eq!(rig.tick(350), [changed(State::Alive, State::Late, 100)]);
    assert_eq!(rig.tick(450), []);
    assert_eq!(rig.tick(550), [changed(State::Late, State::TimedOut, 300), Action::Script]);
}

#[test]
fn a_stall_of_ones_own_counts_as_one_timeout() {
    let mut rig = Rig::new(Settings { debounce: 2, ..settings(1_000_000, 100) });
    assert_eq!(rig.tick(5_000), [changed(State::NeverSeen, State::Late, 5_000)]);
    assert_eq!(rig.machine.next_deadline(), Mono::from_millis(5_100));
}

#[test]
fn a_frame_told_before_the_tick_saves_the_peer() {
    let mut rig = Rig::new(settings(1_000_000, 100));
    rig.frame(700, b"");
    assert_eq!(rig.tick(700), []);
}

#[test]
fn the_connection_silent_for_longest_gives_way() {
    let mut rig = Rig::new(settings(1_000_000, 1_000_000));
    for id in 2..=MAX_PEERS as u64 {
        rig.machine.peer_up(PeerId(id), Mono::from_millis(id), &mut rig.out);
    }
    rig.frame(50, b"");
    rig.machine.peer_up(PeerId(99), Mono::from_millis(60), &mut rig.out);
    assert_eq!(rig.out, [Action::Close(PeerId(2))]);
    rig.out.clear();
    let pulsed = rig.tick(1_000_000);
    assert_eq!(pulsed.iter().filter(|a| matches!(a, Action::Send(_, PULSE))).count(), MAX_PEERS);
    assert!(!pulsed.contains(&Action::Send(PeerId(2), PULSE)));
}

/// What can happen to a machine.
#[derive(Clone, Debug)]
enum Step {
    Frame,
    Tick,
    NotificationUp,
    NotificationDown,
    Written,
    PeerUp,
    PeerDown,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        Just(Step::Frame),
        Just(Step::Tick),
        Just(Step::NotificationUp),
        Just(Step::NotificationDown),
        Just(Step::Written),
        Just(Step::PeerUp),
        Just(Step::PeerDown),
    ];
    prop::collection::vec((0..400u64, step), 0..200)
}

proptest! {
    /// Whatever happens in whatever order: the timeout is found when and only when as much time has passed without a frame,
    /// each one owes one script, none is said twice at a time, and pulses keep their distance.
    #[test]
    fn time_keeps_its_promises(steps in steps(), pulse in 1..1000u32, timeout in 1..1000u32, debounce in 0..4u32) {
        let settings = Settings { debounce, ..settings(pulse, timeout) };
        let mut rig = Rig::new(settings);
        let (mut now, mut heard, mut pulses) = (0, 0, 0);
        let (mut timeouts, mut written, mut node, mut writing) = (0, 0, true, false);
        for (passed, step) in steps {
            now += passed;
            let at = Mono::from_millis(now);
            let before = rig.machine.state();
            let is_frame = matches!(step, Step::Frame);
            let is_tick = matches!(step, Step::Tick);
            let due = rig.machine.next_deadline() <= at;
            let out = match step {
                Step::Frame => { heard = now; rig.frame(now, PULSE) }
                Step::Tick => rig.tick(now),
                Step::NotificationUp => { (node, writing) = (true, false); rig.notification_up() }
                Step::NotificationDown => { rig.machine.notification_down(); (node, writing) = (false, false); vec![] }
                Step::Written => { written += u32::from(writing); writing = false; rig.written() }
                Step::PeerUp => {
                    rig.machine.peer_down(PEER);
                    rig.machine.peer_up(PEER, at, &mut rig.out);
                    std::mem::take(&mut rig.out)
                }
                Step::PeerDown => { rig.machine.peer_down(PEER); vec![] }
            };
            if is_tick {
                prop_assert!(due || out.is_empty(), "before its deadline: {:?}", out);
                prop_assert!(rig.machine.next_deadline() > at, "a tick leaves nothing that is due");
            }
            for action in &out {
                match action {
                    Action::Changed { from, to, .. } => {
                        prop_assert_eq!(*from, before);
                        if *to == State::TimedOut {
                            timeouts += 1;
                            prop_assert!(now - heard >= u64::from(timeout) * u64::from(debounce + 1));
                        }
                    }
                    Action::Script => {
                        prop_assert!(node && !writing && written < timeouts.min(written + MAX_OWED));
                        writing = true;
                    }
                    Action::Send(PEER, PULSE) => {
                        pulses += 1;
                        prop_assert!(pulses <= now / u64::from(pulse));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert!(!is_frame || rig.machine.state() == State::Alive);
        }
        let mut rest = rig.notification_up();
        let mut left = 0;
        while rest.contains(&Action::Script) {
            left += 1;
            rest = rig.written();
        }
        prop_assert_eq!(u64::from(written + left) + rig.machine.not_owed(), u64::from(timeouts));
    }

    /// Ticked at its deadlines only, as the shell does, a machine finds the timeout at the very moment.
    #[test]
    fn a_timeout_is_found_when_it_is_due(pulse in 1..200u32, timeout in 1..2000u32, frames in prop::collection::vec(0..1000u64, 0..20)) {
        let mut rig = Rig::new(settings(pulse, timeout));
        let mut heard = 0;
        let mut frames: Vec<u64> = frames.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        frames.reverse();
        loop {
            let deadline = rig.machine.next_deadline().as_nanos() / 1_000_000;
            if let Some(at) = frames.pop_if(|at| *at <= deadline) {
                heard = at;
                rig.frame(at, b"x");
                continue;
            }
            let out = rig.tick(deadline);
            let lost = out.iter().any(|a| matches!(a, Action::Changed { to: State::TimedOut, .. }));
            prop_assert_eq!(lost, deadline == heard + u64::from(timeout));
            if lost && frames.is_empty() {
                break;
            }
        }
    }
}

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::qmp::state::RunState;

const LIMIT: Duration = Duration::from_millis(100);
const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
const STOP: &str = r#"{"event": "STOP"}"#;
const RESUME: &str = r#"{"event": "RESUME"}"#;

/// A session and the lines it wrote.
struct Rig {
    session: Session,
    now: Mono,
    written: VecDeque<Value>,
    notices: Vec<Notice>,
    replies: Vec<(Ticket, Result<Value, Failure>)>,
    closed: Option<String>,
}

impl Rig {
    fn new() -> Self {
        Self {
            session: Session::new(),
            now: Mono::from_millis(1000),
            written: VecDeque::new(),
            notices: Vec::new(),
            replies: Vec::new(),
            closed: None,
        }
    }

    fn up() -> Self {
        let mut rig = Self::new();
        rig.connect(&json!({"running": true, "status": "running"}), &json!({"status": "colo"}), "primary");
        rig
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Write(line) => {
                    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
                    self.written.push_back(serde_json::from_slice(&line).unwrap());
                }
                Output::Reply { ticket, outcome } => self.replies.push((ticket, outcome)),
                Output::Notice(notice) => self.notices.push(notice),
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
    }

    fn line(&mut self, line: &str) {
        let mut out = Vec::new();
        self.session.input(self.now, format!("{line}\r\n").as_bytes(), &mut out);
        self.take(out);
    }

    fn answer(&mut self, to: &Value, with: &Value) {
        self.line(&json!({"return": with, "id": to["id"]}).to_string());
    }

    fn greet(&mut self) {
        self.session.connected(self.now);
        self.line(GREETING);
        let negotiation = self.written.pop_front().unwrap();
        assert_eq!(negotiation["execute"], "qmp_capabilities");
        assert_eq!(negotiation["arguments"], json!({"enable": ["oob"]}));
        self.answer(&negotiation, &json!({}));
    }

    fn connect(&mut self, status: &Value, migration: &Value, mode: &str) {
        self.greet();
        for answer in [status, migration, &json!({"mode": mode, "last-mode": "none", "reason": "none"})] {
            let question = self.written.pop_front().unwrap();
            self.answer(&question, answer);
        }
        assert!(self.session.is_up());
    }

    fn disconnect(&mut self) {
        let mut out = Vec::new();
        self.session.disconnected(self.now, "cut", &mut out);
        self.take(out);
    }

    fn give(&mut self, call: Call) -> Ticket {
        let mut out = Vec::new();
        let ticket = self.session.command(self.now, call, &mut out);
        self.take(out);
        ticket
    }

    fn stop_command(&mut self) -> Ticket {
        self.give(command::stop().within(LIMIT).call)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut out = Vec::new();
        self.session.tick(self.now, &mut out);
        self.take(out);
    }

    fn gap(&self) -> Option<Gap> {
        match self.notices.last() {
            Some(Notice::Up { gap, .. }) => *gap,
            other => panic!("{other:?}"),
        }
    }
}

fn event(kind: EventKind) -> Notice {
    Notice::Event(Event { kind, at: None })
}

#[test]
fn the_handshake_ends_with_where_the_vm_is() {
    let rig = Rig::up();
    let Notice::Up { snapshot, gap: None } = rig.notices[0] else { panic!("{:?}", rig.notices) };
    assert_eq!(snapshot.status, Status { running: true, status: RunState::Running });
    assert!(snapshot.in_colo());
    assert_eq!(rig.notices.len(), 1);
    assert_eq!(rig.session.next_deadline(), None);
}

/// The snapshot contains what came before the answer of query-status, and nothing that came after.
#[test]
fn events_keep_their_place_around_the_snapshot() {
    let mut rig = Rig::new();
    rig.greet();
    rig.line(STOP);
    let questions: Vec<Value> = rig.written.drain(..).collect();
    rig.answer(&questions[0], &json!({"running": false, "status": "colo"}));
    rig.line(RESUME);
    assert_eq!(rig.notices, [event(EventKind::Stop)]);
    rig.answer(&questions[1], &json!({}));
    rig.answer(&questions[2], &json!({"mode": "secondary"}));
    assert!(matches!(rig.notices[1], Notice::Up { snapshot, .. } if !snapshot.status.running));
    assert_eq!(rig.notices[2], event(EventKind::Resume));
    assert!(rig.session.known().unwrap().status.running);
}

#[test]
fn a_flood_before_the_look_is_done_ends_the_connection() {
    let mut rig = Rig::new();
    rig.greet();
    let status = rig.written.pop_front().unwrap();
    rig.answer(&status, &json!({"running": true}));
    for _ in 0..MAX_KEPT {
        rig.line(STOP);
    }
    assert_eq!(rig.closed, None);
    rig.line(STOP);
    assert!(rig.closed.is_some());
}

#[test]
fn no_greeting_names_the_way_out() {
    let mut rig = Rig::new();
    rig.session.connected(rig.now);
    assert_eq!(rig.session.next_deadline(), Some(rig.now + HANDSHAKE));
    rig.pass(HANDSHAKE - Duration::from_nanos(1));
    assert_eq!(rig.closed, None);
    rig.pass(Duration::from_nanos(1));
    assert!(rig.closed.as_ref().unwrap().contains("-qmp of its own"), "{:?}", rig.closed);
    assert_eq!(rig.notices, [], "who never heard of it as up is not told that it is down");
}

#[test]
fn a_qemu_without_colo_is_followed_too() {
    let mut rig = Rig::new();
    rig.greet();
    let questions: Vec<Value> = rig.written.drain(..).collect();
    rig.answer(&questions[0], &json!({"running": true, "status": "running"}));
    rig.answer(&questions[1], &json!({}));
    rig.line(
        &json!({"error": {"class": "CommandNotFound", "desc": ""}, "id": questions[2]["id"]}).to_string(),
    );
    assert!(rig.session.is_up());
    assert!(!rig.session.known().unwrap().in_colo());
}

#[test]
fn replies_are_matched_by_id_in_any_order() {
    let mut rig = Rig::up();
    let (first, second) = (rig.stop_command(), rig.give(command::cont().within(LIMIT).call));
    let lines: Vec<Value> = rig.written.drain(..).collect();
    rig.line(r#"{"return": {}, "id": "libvirt-3"}"#);
    rig.line(r#"{"return": {}, "id": 1}"#);
    rig.line(r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#);
    rig.line(STOP);
    rig.answer(&lines[1], &json!(2));
    rig.line(&json!({"error": {"class": "GenericError", "desc": "no"}, "id": lines[0]["id"]}).to_string());
    let refused = ErrorReply { class: "GenericError".to_owned(), desc: "no".to_owned() };
    assert_eq!(rig.replies, [(second, Ok(json!(2))), (first, Err(Failure::Refused(refused)))]);
    assert_eq!(rig.session.counters().foreign_replies, 3);
    assert_eq!(rig.notices.last(), Some(&event(EventKind::Stop)));
}

#[test]
fn a_command_past_its_limit_is_over() {
    let mut rig = Rig::up();
    let ticket = rig.stop_command();
    assert_eq!(rig.session.next_deadline(), Some(rig.now + LIMIT));
    rig.pass(LIMIT);
    assert_eq!(rig.replies, [(ticket, Err(Failure::TimedOut { limit: LIMIT, sent: true }))]);
    assert_eq!(rig.session.next_deadline(), None);
    let line = rig.written.pop_front().unwrap();
    rig.answer(&line, &json!({}));
    assert_eq!(rig.replies.len(), 1);
    assert_eq!(rig.session.counters().late_replies, 1);
}

#[test]
fn a_silent_qemu_gets_no_more_than_the_window_and_never_what_is_over() {
    let mut rig = Rig::up();
    for _ in 0..IN_BAND_WINDOW + 2 {
        rig.stop_command();
    }
    assert_eq!(rig.written.len(), IN_BAND_WINDOW);
    // Out-of-band commands are not held up by it.
    rig.give(command::yank_migration().call);
    assert_eq!(rig.written.pop_back().unwrap()["exec-oob"], "yank");
    rig.pass(LIMIT);
    let sent = |sent| Err(Failure::TimedOut { limit: LIMIT, sent });
    let outcomes: Vec<_> = rig.replies.iter().map(|(_, outcome)| outcome.clone()).collect();
    assert_eq!(outcomes[..IN_BAND_WINDOW], vec![sent(true); IN_BAND_WINDOW]);
    assert_eq!(outcomes[IN_BAND_WINDOW..], [sent(false), sent(false)]);
    // What is over keeps the window shut until QEMU has answered it.
    let late = rig.give(command::cont().call);
    assert_eq!(rig.written.len(), IN_BAND_WINDOW);
    let first = rig.written.pop_front().unwrap();
    rig.answer(&first, &json!({}));
    let line = rig.written.pop_back().unwrap();
    assert_eq!(line["execute"], "cont");
    rig.answer(&line, &json!({}));
    assert_eq!(rig.replies.last(), Some(&(late, Ok(json!({})))));
}

#[test]
fn queues_are_bounded() {
    let mut rig = Rig::up();
    for _ in 0..IN_BAND_WINDOW + MAX_WAITING {
        rig.stop_command();
    }
    assert_eq!(rig.replies, []);
    let ticket = rig.stop_command();
    assert_eq!(rig.replies, [(ticket, Err(Failure::Full))]);
    for _ in 0..MAX_OOB {
        rig.give(command::yank_migration().call);
    }
    let ticket = rig.give(command::yank_migration().call);
    assert_eq!(rig.replies.last(), Some(&(ticket, Err(Failure::Full))));
}

#[test]
fn a_monitor_without_oob_refuses_a_yank_by_name() {
    let mut rig = Rig::new();
    rig.session.connected(rig.now);
    rig.line(r#"{"QMP": {"version": {}, "capabilities": []}}"#);
    let negotiation = rig.written.pop_front().unwrap();
    assert_eq!(negotiation["arguments"], json!({"enable": []}));
    rig.answer(&negotiation, &json!({}));
    for answer in [json!({"running": true}), json!({}), json!({})] {
        let question = rig.written.pop_front().unwrap();
        rig.answer(&question, &answer);
    }
    let ticket = rig.give(command::yank_migration().call);
    assert_eq!(rig.replies, [(ticket, Err(Failure::NoOob))]);
}

#[test]
fn a_lost_connection_ends_every_command_and_is_a_gap() {
    let mut rig = Rig::up();
    let sent = rig.stop_command();
    rig.disconnect();
    let down = |sent| Err(Failure::Down { reason: "cut".to_owned(), sent });
    assert_eq!(rig.replies.pop(), Some((sent, down(true))));
    assert_eq!(rig.notices.last(), Some(&Notice::Down { reason: "cut".to_owned() }));
    let unsent = rig.stop_command();
    assert_eq!(rig.replies.pop(), Some((unsent, down(false))));

    let since = rig.now;
    rig.pass(Duration::from_secs(1));
    rig.written.clear();
    rig.connect(&json!({"running": true, "status": "running"}), &json!({"status": "colo"}), "primary");
    let gap = rig.gap().unwrap();
    assert_eq!((gap.since, gap.until), (since, rig.now));
    assert!(gap.epochs_in_doubt);
}

/// A gap is one of the VM, however many attempts it took to end it.
#[test]
fn an_attempt_that_fails_leaves_the_gap_open() {
    let mut rig = Rig::up();
    let since = rig.now;
    rig.disconnect();
    let notices = rig.notices.len();
    rig.greet();
    rig.disconnect();
    assert_eq!(rig.notices.len(), notices);
    rig.written.clear();
    rig.connect(&json!({"running": true}), &json!({"status": "completed"}), "none");
    assert_eq!(rig.gap().unwrap().since, since);
}

#[test]
fn epochs_are_in_doubt_only_around_colo() {
    for (before, after, mode, doubt) in [
        (json!({}), json!({}), "none", false),
        (json!({}), json!({"status": "none"}), "none", false),
        (json!({}), json!({"status": "colo"}), "secondary", true),
        (json!({"status": "colo"}), json!({"status": "completed"}), "none", true),
        (json!({"status": "active"}), json!({"status": "completed"}), "none", true),
        (json!({}), json!({}), "primary", true),
    ] {
        let mut rig = Rig::new();
        rig.connect(&json!({"running": true}), &before, "none");
        assert_eq!(rig.gap(), None);
        rig.disconnect();
        rig.connect(&json!({"running": true}), &after, mode);
        assert_eq!(rig.gap().unwrap().epochs_in_doubt, doubt, "{before} {after} {mode}");
    }
}

#[test]
fn what_an_event_told_counts_as_known_when_the_connection_is_lost() {
    let mut rig = Rig::new();
    rig.connect(&json!({"running": true}), &json!({}), "none");
    rig.line(r#"{"event": "MIGRATION", "data": {"status": "colo"}}"#);
    rig.line(STOP);
    rig.disconnect();
    rig.connect(&json!({"running": true}), &json!({}), "none");
    let gap = rig.gap().unwrap();
    assert!(gap.epochs_in_doubt);
    assert!(!gap.before.status.running);
}

#[test]
fn garbage_closes_the_connection_and_tells_everybody() {
    let mut rig = Rig::up();
    let ticket = rig.stop_command();
    rig.line("QEMU 7.2.22 monitor - type 'help' for more information");
    assert!(rig.closed.as_ref().unwrap().contains("no QMP monitor"), "{:?}", rig.closed);
    assert!(matches!(&rig.replies[..], [(t, Err(Failure::Down { sent: true, .. }))] if *t == ticket));
    assert!(matches!(rig.notices.last(), Some(Notice::Down { .. })));
    let notices = rig.notices.len();
    rig.line(STOP);
    rig.disconnect();
    assert_eq!(rig.notices.len(), notices);
}

#[derive(Clone, Debug)]
enum Step {
    Give(bool),
    Answer(prop::sample::Index),
    Foreign,
    Event(bool),
    Pass(u64),
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Give),
        4 => any::<prop::sample::Index>().prop_map(Step::Answer),
        1 => Just(Step::Foreign),
        3 => any::<bool>().prop_map(Step::Event),
        3 => (0..80_u64).prop_map(Step::Pass),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// Every command ends exactly once, every event comes out in its place, nothing is ever over a bound.
    #[test]
    fn every_command_ends_once_and_no_event_is_lost(steps in prop::collection::vec(step(), 0..200)) {
        let mut rig = Rig::up();
        let (mut given, mut said, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Give(true) => given.push(rig.give(command::yank_migration().within(LIMIT).call)),
                Step::Give(false) => given.push(rig.stop_command()),
                Step::Answer(index) if !open.is_empty() => {
                    let line: Value = open.remove(index.index(open.len()));
                    rig.answer(&line, &json!({}));
                }
                Step::Answer(_) | Step::Foreign => rig.line(r#"{"return": 1, "id": "x"}"#),
                Step::Event(stop) => {
                    rig.line(if stop { STOP } else { RESUME });
                    said.push(event(if stop { EventKind::Stop } else { EventKind::Resume }));
                }
                Step::Pass(millis) => rig.pass(Duration::from_millis(millis)),
                Step::Reconnect => {
                    rig.disconnect();
                    open.clear();
                    rig.written.clear();
                    rig.connect(&json!({"running": true}), &json!({}), "none");
                }
            }
            open.extend(rig.written.drain(..));
            let in_band = open.iter().filter(|line| line.get("execute").is_some()).count();
            prop_assert!(in_band <= IN_BAND_WINDOW);
            prop_assert!(open.len() - in_band <= MAX_OOB);
        }
        rig.disconnect();
        let mut ended: Vec<Ticket> = rig.replies.iter().map(|(ticket, _)| *ticket).collect();
        ended.sort_unstable();
        prop_assert_eq!(ended, given);
        let heard: Vec<Notice> =
            rig.notices.iter().filter(|notice| matches!(notice, Notice::Event(_))).cloned().collect();
        prop_assert_eq!(heard, said);
        prop_assert_eq!(rig.session.next_deadline(), None);
    }
}

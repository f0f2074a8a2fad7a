use super::*;
use crate::qmp::{ColoStatus, Gap, Snapshot};

const PASS: EventKind = EventKind::MigrationPass(3);
const STOP: EventKind = EventKind::Stop;
const RESUME: EventKind = EventKind::Resume;
const COLO: EventKind = EventKind::Migration(MigrationStatus::Colo);
const COMPLETED: EventKind = EventKind::Migration(MigrationStatus::Completed);

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

fn snapshot(status: RunState, mode: ColoMode) -> Snapshot {
    Snapshot {
        status: Status { running: status == RunState::Running, status },
        migration: (mode != ColoMode::None).then_some(MigrationStatus::Colo),
        colo: ColoStatus { mode, last_mode: ColoMode::None },
    }
}

fn up(snapshot: Snapshot, in_doubt: Option<bool>) -> Notice {
    let gap = in_doubt.map(|epochs_in_doubt| Gap {
        before: snapshot,
        since: Mono::ZERO,
        until: Mono::ZERO,
        epochs_in_doubt,
    });
    Notice::Up { snapshot, gap }
}

/// A follower and the time.
struct Rig {
    vm: Follower,
    now: u64,
}

impl Rig {
    fn new(side: Role, status: RunState, mode: ColoMode) -> Self {
        let mut rig = Self { vm: Follower::new(side), now: 1000 };
        rig.notice(&up(snapshot(status, mode), None));
        assert_eq!(rig.vm.next_question(at(1000)), Some(Question::Capabilities));
        rig
    }

    fn primary() -> Self {
        Self::new(Role::Primary, RunState::Running, ColoMode::Primary)
    }

    fn secondary() -> Self {
        Self::new(Role::Secondary, RunState::Running, ColoMode::Secondary)
    }

    fn notice(&mut self, notice: &Notice) -> Vec<Told> {
        self.now += 10;
        let moment = Moment { after: at(self.now - 10), before: at(self.now), at: Some(at(self.now - 5)) };
        let mut told = VecDeque::new();
        self.vm.notice(notice, moment, &mut told);
        told.into()
    }

    /// By name, as the times do not matter here.
    fn hear(&mut self, kinds: &[EventKind]) -> Vec<&'static str> {
        let mut names = Vec::new();
        for kind in kinds {
            let told = self.notice(&Notice::Event(Event { kind: kind.clone(), at: None }));
            names.extend(told.into_iter().map(name));
        }
        names
    }

    fn status(&mut self, status: &str) {
        while self.vm.next_question(at(self.now)).is_some_and(|asked| asked != Question::Status) {}
        self.vm.answer(Question::Status, Ok(serde_json::json!({ "running": false, "status": status })));
    }
}

fn name(told: Told) -> &'static str {
    match told {
        Told::Placed { .. } => "placed",
        Told::Unheard => "unheard",
        Told::Stopped => "stopped",
        Told::Copied { entry: false } => "copied",
        Told::Copied { entry: true } => "entry",
        Told::Ran(_) => "ran",
        Told::Continued => "continued",
        Told::Doubtful { .. } => "doubtful",
        Told::TookOver => "took over",
        Told::Left => "left",
    }
}

fn exit(mode: ColoMode) -> EventKind {
    EventKind::ColoExit { mode, reason: "error".to_owned() }
}

#[test]
fn a_primarys_checkpoint_is_a_stop_that_is_copied() {
    let mut rig = Rig::primary();
    for _ in 0..3 {
        assert_eq!(rig.hear(&[STOP, PASS, RESUME]), ["stopped", "copied", "ran"]);
    }
    assert_eq!(rig.hear(&[STOP, RESUME]), ["stopped", "continued"], "an operator's");
}

#[test]
fn a_checkpoint_of_a_guest_that_an_operator_stopped_is_one_too() {
    let mut rig = Rig::primary();
    rig.hear(&[STOP]);
    assert!(rig.vm.in_checkpoint(), "for all that is known");
    rig.status("paused");
    assert!(rig.vm.stopped() && !rig.vm.in_checkpoint());
    assert_eq!(rig.hear(&[PASS]), ["copied"]);
    assert!(rig.vm.in_checkpoint());
    assert_eq!(rig.hear(&[RESUME]), ["ran"]);
}

#[test]
fn colo_is_entered_by_a_stop_and_the_word_or_on_the_secondary_by_the_word_alone() {
    let mut rig = Rig::new(Role::Primary, RunState::Running, ColoMode::None);
    assert_eq!(rig.hear(&[PASS, PASS, STOP, PASS, COLO, RESUME]), ["stopped", "entry", "ran"]);
    let mut rig = Rig::new(Role::Secondary, RunState::Inmigrate, ColoMode::None);
    assert_eq!(rig.hear(&[COLO, RESUME]), ["ran"]);
}

#[test]
fn what_a_secondarys_resume_means_is_said_by_its_state_while_it_stood() {
    for (status, expected) in [("colo", "ran"), ("paused", "doubtful"), ("running", "doubtful")] {
        let mut rig = Rig::secondary();
        assert_eq!(rig.hear(&[STOP]), ["stopped"]);
        rig.status(status);
        assert_eq!(rig.hear(&[RESUME]), [expected], "{status}");
    }
    assert_eq!(Rig::secondary().hear(&[STOP, RESUME]), ["stopped", "doubtful"], "asked too late");
}

/// Takes over while idle, and while it stood in a checkpoint.
#[test]
fn a_takeover_loads_nothing_in_whatever_order_it_is_told() {
    let gone = exit(ColoMode::Secondary);
    for kinds in [
        vec![gone.clone(), STOP, COMPLETED, RESUME],
        vec![STOP, gone.clone(), COMPLETED, RESUME],
        vec![STOP, COMPLETED, gone.clone(), RESUME],
        vec![STOP, COMPLETED, RESUME],
    ] {
        let mut rig = Rig::secondary();
        let told = rig.hear(&kinds);
        assert_eq!(told.last(), Some(&"took over"), "{kinds:?}: {told:?}");
        assert_eq!(told.iter().filter(|told| **told == "left").count(), 1, "{kinds:?}: {told:?}");
    }
}

#[test]
fn a_load_that_has_begun_comes_to_its_end_after_colo_too() {
    let mut rig = Rig::secondary();
    let exit = exit(ColoMode::Secondary);
    assert_eq!(rig.hear(&[STOP, exit, RESUME]), ["stopped", "left", "doubtful"]);
    assert_eq!(rig.hear(&[STOP, COMPLETED, RESUME]), ["stopped", "took over"]);
    assert_eq!(rig.hear(&[STOP, RESUME]), ["stopped", "continued"]);
}

#[test]
fn a_primary_that_leaves_during_a_checkpoint_has_given_nothing() {
    for kinds in
        [[STOP, PASS, exit(ColoMode::Primary), RESUME], [STOP, exit(ColoMode::Primary), PASS, RESUME]]
    {
        let told = Rig::primary().hear(&kinds);
        assert_eq!(told.last(), Some(&"continued"), "{kinds:?}: {told:?}");
        assert!(told.contains(&"left"));
    }
}

#[test]
fn a_monitor_that_was_lost_is_in_doubt_by_what_it_finds() {
    let mut rig = Rig::primary();
    assert_eq!(rig.notice(&Notice::Down { reason: "closed".into() }), [Told::Unheard]);
    let again = snapshot(RunState::Running, ColoMode::Primary);
    assert_eq!(
        rig.notice(&up(again, Some(true))),
        [Told::Placed { colo: true, stopped: false, missed: true }]
    );
    assert_eq!(rig.hear(&[STOP, PASS, RESUME]), ["stopped", "copied", "ran"]);

    rig.notice(&Notice::Down { reason: "closed".into() });
    let standing = snapshot(RunState::Colo, ColoMode::Primary);
    assert_eq!(
        rig.notice(&up(standing, Some(true))),
        [Told::Placed { colo: true, stopped: true, missed: true }]
    );
    assert_eq!(rig.hear(&[PASS, RESUME]), ["continued"], "not seen from its beginning");

    rig.notice(&Notice::Down { reason: "closed".into() });
    assert_eq!(
        rig.notice(&up(snapshot(RunState::Running, ColoMode::None), Some(true))).last(),
        Some(&Told::Left)
    );
}

#[test]
fn a_want_is_carried_to_qemu_while_its_guest_runs_in_colo() {
    let mut rig = Rig::primary();
    rig.vm.want();
    assert_eq!(rig.vm.next_question(at(2000)), Some(Question::Delay));
    rig.vm
        .answer(Question::Delay, Ok(serde_json::json!({ "x-checkpoint-delay": 20_000, "max-bandwidth": 1 })));
    let order = Question::Checkpoint(Duration::from_secs(20));
    assert_eq!(rig.vm.next_question(at(2000)), Some(order));
    assert_eq!(rig.vm.next_question(at(2000)), None);
    rig.hear(&[STOP]);
    rig.status("colo");
    assert_eq!(rig.vm.next_question(at(9000)), None, "a STOP came");
    rig.vm.want();
    rig.hear(&[RESUME]);
    assert_eq!(rig.vm.next_question(at(9000)), Some(Question::Delay), "it was an operator's");
    rig.hear(&[STOP, PASS]);
    rig.vm.want();
    rig.hear(&[RESUME]);
    while let Some(question) = rig.vm.next_question(at(9500)) {
        assert_eq!(question, Question::Status, "all was said before that STOP");
    }
}

#[test]
fn what_is_wrong_is_found_with_its_time() {
    let limit = Duration::from_secs(3);
    let find = |rig: &Rig, now| rig.vm.finding(at(now), limit);
    let mut rig = Rig::primary();
    rig.hear(&[STOP]);
    let since = at(rig.now);
    assert_eq!((find(&rig, 3000), find(&rig, 6000)), (None, Some(Finding::StuckStopped(since))));
    rig.status("paused");
    assert_eq!(find(&rig, 6000), None, "an operator's");
    rig.hear(&[RESUME, exit(ColoMode::Primary)]);
    assert_eq!(find(&rig, 1100), Some(Finding::LeftColo));
    rig.hear(&[STOP]);
    assert_eq!(find(&rig, 9000), Some(Finding::LeftColo), "stopped by somebody since");
    let mut rig = Rig::new(Role::Primary, RunState::Running, ColoMode::None);
    rig.hear(&[STOP]);
    let since = at(rig.now);
    rig.hear(&[COLO, exit(ColoMode::Primary)]);
    let found = (find(&rig, 3000), find(&rig, 6000));
    assert_eq!(found, (Some(Finding::LeftColo), Some(Finding::Stranded(since))));
    rig.hear(&[RESUME]);
    assert_eq!(find(&rig, 6000), Some(Finding::LeftColo));
    let mut rig = Rig::secondary();
    rig.notice(&Notice::Down { reason: "closed".into() });
    assert_eq!((find(&rig, 3000), find(&rig, 6000)), (None, Some(Finding::Unheard(at(rig.now)))));
    let mut rig = Rig::secondary();
    rig.hear(&[EventKind::Shutdown { guest: true, reason: String::new() }]);
    assert_eq!(find(&rig, 1100), Some(Finding::Gone));
}

#[test]
fn a_write_that_the_secondarys_disk_has_missed_ends_the_protection() {
    let bad =
        |node: &str| EventKind::QuorumBad { node: node.to_owned(), error: "Input/output error".to_owned() };
    let mut rig = Rig::primary();
    assert!(rig.hear(&[bad("#block111")]).is_empty(), "its own disk");
    assert_eq!(rig.hear(&[bad("colo-nbd0"), bad("colo-nbd0")]), ["left"]);
    assert_eq!(rig.vm.finding(at(rig.now), Duration::from_secs(1)), Some(Finding::LeftColo));
    // QEMU does not know: these are no checkpoints any more.
    assert_eq!(rig.hear(&[STOP, PASS, RESUME]), ["stopped", "continued"]);
    // Nor does a monitor that comes back.
    rig.notice(&Notice::Down { reason: "closed".into() });
    rig.notice(&up(snapshot(RunState::Running, ColoMode::Primary), None));
    assert_eq!(rig.hear(&[STOP, PASS, RESUME]), ["stopped", "continued"]);
    assert!(Rig::secondary().hear(&[bad("colo-nbd0")]).is_empty());
}

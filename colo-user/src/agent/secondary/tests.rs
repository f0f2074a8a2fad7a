use super::*;
use crate::failover::Parting;
use crate::link::buffer::tests::said;
use crate::link::frame::Heartbeat;
use crate::vm::Told;

const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Rig {
    pub core: Secondary,
    pub now: Mono,
    pub outbox: Outbox,
    pub effects: Vec<Effect>,
    pub guest: Vec<Vec<u8>>,
}

impl Rig {
    fn new() -> Self {
        let now = Mono::from_millis(10_000);
        let core = Secondary::new(Limits::default(), LIMIT);
        Self { core, now, outbox: Outbox::default(), effects: Vec::new(), guest: Vec::new() }
    }

    /// Beside a QEMU that it follows.
    pub fn following() -> Self {
        let mut rig = Self::new();
        rig.core = rig.core.following();
        rig
    }

    /// A session in epoch 5 over a link that works both ways.
    pub fn meet(&mut self) {
        self.core.connected(self.now);
        self.hear(&Message::Heartbeat(Heartbeat { sent: 1, echo: 0, frames: 0, lost: 0 })).unwrap();
        self.hear(&Message::Session { epoch: Epoch(5), term: 0, lease: Duration::from_secs(5) }).unwrap();
        assert_eq!(self.core.protection(), Protection::Not(Reason::Syncing), "not answered yet");
        let answer = Heartbeat { sent: 2, echo: self.now.as_nanos(), frames: 0, lost: 0 };
        self.hear(&Message::Heartbeat(answer)).unwrap();
    }

    pub fn told(&mut self, told: Told, unread: u64) {
        self.core.told(self.now, told, Some((unread, true)), Some(&mut self.outbox));
    }

    pub fn settle(&mut self) -> bool {
        self.core.settle(self.now, Some(&mut self.outbox))
    }

    pub fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.core.tick(self.now, Some(&mut self.outbox), &mut self.effects);
    }

    fn in_sync() -> Self {
        let mut rig = Self::new();
        rig.meet();
        assert_eq!(rig.core.protection(), Protection::Protected);
        rig
    }

    pub fn hear(&mut self, message: &Message<'_>) -> Result<(), Violation> {
        self.core.message(self.now, message, &mut self.outbox, &mut self.effects)?;
        if self.core.take_offer().is_some() {
            self.core.join(Some(&mut self.outbox));
        }
        Ok(())
    }

    pub fn input(&mut self, index: u64) {
        self.hear(&Message::Input { epoch: Epoch(5), index, frame: &[index.to_le_bytes()[0]; 60] }).unwrap();
    }

    pub fn inject(&mut self, outcome: Injection) -> bool {
        let guest = &mut self.guest;
        self.core.inject(self.now, 64, Some(&mut self.outbox), |frame| {
            if outcome == Injection::Sent {
                guest.push(frame.to_vec());
            }
            outcome
        })
    }

    /// First bytes of the frames that the guest got.
    pub fn got(&self) -> Vec<u8> {
        self.guest.iter().map(|frame| frame[0]).collect()
    }

    pub fn count(&self, name: &str) -> u64 {
        self.core.counters().find(|(n, _)| n == name).map(|(_, n)| n).expect(name)
    }

    /// What was said to the primary so far.
    pub fn said(&mut self) -> Vec<String> {
        said(&mut self.outbox)
    }
}

#[test]
fn a_session_that_this_side_does_not_join_is_not_answered() {
    let mut rig = Rig::following();
    rig.told(Told::Placed { colo: false, stopped: false, missed: false }, 0);
    rig.core.connected(rig.now);
    let session = Message::Session { epoch: Epoch(5), term: 3, lease: LIMIT };
    rig.core.message(rig.now, &session, &mut rig.outbox, &mut rig.effects).unwrap();
    assert_eq!(rig.core.take_offer(), Some((3, LIMIT)));
    assert!(!rig.said().iter().any(|message| message.starts_with("Begin")));
    rig.core.join(Some(&mut rig.outbox));
    assert_eq!(rig.said(), ["Begin(Epoch(5))"]);
}

#[test]
fn input_waits_for_credit_in_order_and_what_can_never_go_in_is_lost_by_count() {
    let mut rig = Rig::in_sync();
    (0..3).for_each(|index| rig.input(index));
    assert!(!rig.inject(Injection::Later), "nothing more goes in now");
    assert_eq!(rig.core.waiting(), 3);
    rig.inject(Injection::Sent);
    assert_eq!(rig.got(), [0, 1, 2]);
    rig.input(3);
    rig.inject(Injection::Never);
    assert_eq!((rig.core.lost_input(), rig.core.waiting()), (1, 0));
}

#[test]
fn beyond_its_bound_input_is_dropped_and_told_as_lost() {
    let mut rig = Rig::in_sync();
    for index in 0..QUEUE_FRAMES as u64 + 7 {
        rig.input(index);
    }
    assert_eq!((rig.core.waiting(), rig.core.lost_input()), (QUEUE_FRAMES, 7));
    rig.now = rig.now + Duration::from_secs(1);
    rig.core.tick(rig.now, Some(&mut rig.outbox), &mut rig.effects);
    let said = rig.said();
    assert!(said.iter().any(|m| m.starts_with("Heartbeat") && m.contains("lost: 7")), "{said:?}");
}

#[test]
fn a_cut_withholds_input_until_its_index_is_known_and_drops_what_the_state_contains() {
    let mut rig = Rig::in_sync();
    (0..4).for_each(|index| rig.input(index));
    // The front is translated already when the cut comes.
    rig.inject(Injection::Later);
    rig.hear(&Message::Cut(Epoch(5))).unwrap();
    assert_eq!(rig.effects, [Effect::Drain]);
    rig.core.captured(rig.now, &mut [9; 60], Some(&mut rig.outbox));
    rig.core.drained(rig.now, Some(&mut rig.outbox));
    assert!(!rig.inject(Injection::Sent));
    assert_eq!(rig.guest.len(), 0);
    rig.hear(&Message::InputCut { epoch: Epoch(5), first: 2 }).unwrap();
    rig.inject(Injection::Sent);
    assert_eq!((rig.got(), rig.count("input_stale")), (vec![2, 3], 2));
    rig.core.captured(rig.now, &mut [9; 60], Some(&mut rig.outbox));
    let said = rig.said();
    let order: Vec<_> = said.iter().map(|m| m.split(", frame").next().unwrap_or(m).to_owned()).collect();
    assert_eq!(
        order,
        ["Output { epoch: Epoch(5)", "End(Epoch(5))", "Begin(Epoch(6))", "Output { epoch: Epoch(6)"]
    );
}

#[test]
fn what_a_primary_cannot_say_is_refused() {
    for message in [
        Message::Output { epoch: Epoch(5), frame: b"x" },
        Message::End(Epoch(5)),
        Message::Begin(Epoch(6)),
        Message::Bases { epoch: Epoch(5), bases: vec![] },
        Message::Ask(AskReason::CaptureLost),
        Message::Input { epoch: Epoch(6), index: 0, frame: b"x" },
        Message::Cut(Epoch(4)),
        Message::InputCut { epoch: Epoch(5), first: 0 },
    ] {
        assert!(Rig::in_sync().hear(&message).is_err(), "{message:?}");
    }
}

#[test]
fn a_silent_primary_is_lost_and_output_is_no_longer_sent() {
    let mut rig = Rig::in_sync();
    rig.now = rig.now + LIMIT;
    rig.core.tick(rig.now, Some(&mut rig.outbox), &mut rig.effects);
    assert_eq!(rig.core.protection(), Protection::Not(Reason::PeerSilent));
    assert_eq!(rig.effects, [Effect::CloseLink(None)]);
    rig.core.captured(rig.now, &mut [9; 60], None);
    assert_eq!(rig.count("output_not_sent"), 1);
}

#[test]
fn a_primary_that_begins_no_session_does_not_count_as_heard() {
    let mut rig = Rig::in_sync();
    rig.core.lost(Reason::PeerLost, &mut rig.effects);
    let (_, heard) = rig.core.take_loss().unwrap();
    rig.now = rig.now + Duration::from_secs(60);
    rig.core.connected(rig.now);
    rig.hear(&Message::Bye { reason: ByeReason::Exit, text: "not now" }).unwrap();
    assert_eq!(rig.core.take_loss(), Some((Loss::Bye(Parting::Left), heard)));
}

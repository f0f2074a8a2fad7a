use super::*;
use crate::agent::place::Place;
use crate::link::buffer::tests::said;
use crate::link::frame::{AskReason, Heartbeat};
use crate::path::Carrying;
use crate::vm::Told;
use crate::wire::build::Tcp;

const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Rig {
    pub core: Primary,
    pub now: Mono,
    pub outbox: Outbox,
    pub effects: Vec<Effect>,
}

impl Rig {
    fn new(on_loss: OnPeerLoss) -> Self {
        let now = Mono::from_millis(10_000);
        let core = Primary::new(Policy::default(), Limits::default(), on_loss, LIMIT, now);
        Self { core, now, outbox: Outbox::default(), effects: Vec::new() }
    }

    /// Beside a QEMU that it follows.
    pub fn following() -> Self {
        let mut rig = Self::new(OnPeerLoss::Hold);
        rig.core = rig.core.following(1);
        rig
    }

    /// A link, and both directions of it work.
    pub fn connect(&mut self) {
        self.core.connected(self.now, &mut self.outbox);
        let heartbeat = Heartbeat { sent: 1, echo: self.now.as_nanos(), frames: 0, lost: 0 };
        self.hear(&Message::Heartbeat(heartbeat)).unwrap();
    }

    pub fn told(&mut self, told: Told) {
        self.core.told(self.now, told, Some(&mut self.outbox));
    }

    /// What was said to the secondary since the last call.
    pub fn said(&mut self) -> Vec<String> {
        said(&mut self.outbox)
    }

    fn in_sync() -> Self {
        let mut rig = Self::new(OnPeerLoss::Pass);
        rig.connect();
        assert_eq!(rig.core.protection(), Protection::Protected);
        rig.effects.clear();
        rig
    }

    pub fn hear(&mut self, message: &Message<'_>) -> Result<(), Violation> {
        self.core.message(self.now, message, &mut self.outbox, &mut self.effects)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.core.tick(self.now, Some(&mut self.outbox), &mut self.effects);
    }

    pub fn say(&mut self, token: u64) {
        let ends = ["192.0.2.2:80", "198.51.100.1:4000"].map(|end| end.parse().unwrap());
        let frame = Tcp::new(ends[0], ends[1]).seq(7).flag(crate::wire::TcpFlags::SYN).frame();
        let outbox = Some(&mut self.outbox);
        self.core.captured(self.now, Token(token), &frame, outbox, &mut self.effects);
    }

    pub fn asked(&self) -> Vec<&'static str> {
        let kind = |effect: &Effect| match effect {
            Effect::Ask(request) => Some(request.kind),
            _ => None,
        };
        self.effects.iter().filter_map(kind).collect()
    }
}

#[test]
fn before_the_first_sync_everything_passes_whatever_the_policy() {
    for policy in [OnPeerLoss::Pass, OnPeerLoss::Hold, OnPeerLoss::Close] {
        let mut rig = Rig::new(policy);
        rig.say(1);
        rig.core.connected(rig.now, &mut rig.outbox);
        rig.say(2);
        assert_eq!(rig.effects, [Effect::Release(Token(1)), Effect::Release(Token(2))]);
        assert_eq!(rig.core.protection(), Protection::Not(Reason::Syncing));
    }
}

#[test]
fn sync_needs_an_answer_of_this_session() {
    let mut rig = Rig::new(OnPeerLoss::Pass);
    rig.core.connected(rig.now, &mut rig.outbox);
    for echo in [0, rig.now.as_nanos() - 1] {
        rig.hear(&Message::Heartbeat(Heartbeat { sent: 1, echo, frames: 0, lost: 0 })).unwrap();
        assert_eq!(rig.core.protection(), Protection::Not(Reason::Syncing), "echo {echo}");
    }
    rig.hear(&Message::Heartbeat(Heartbeat { sent: 1, echo: rig.now.as_nanos(), frames: 0, lost: 0 }))
        .unwrap();
    assert_eq!(rig.core.protection(), Protection::Protected);
}

#[test]
fn every_loss_asks_by_name_and_a_lasting_one_once_a_second() {
    let mut rig = Rig::in_sync();
    let losses = Losses { captured: 5, oversized: 3, mirrored: 3, restored: 1, scarce: true };
    rig.core.losses(rig.now, losses, &mut rig.effects);
    rig.core.losses(rig.now, losses, &mut rig.effects);
    rig.hear(&Message::Heartbeat(Heartbeat { sent: 2, echo: 1, frames: 0, lost: 4 })).unwrap();
    rig.hear(&Message::Heartbeat(Heartbeat { sent: 3, echo: 1, frames: 0, lost: 4 })).unwrap();
    rig.hear(&Message::Ask(AskReason::TranslationFull)).unwrap();
    rig.hear(&Message::Ask(AskReason::CaptureLost)).unwrap();
    for guest in [true, false, true, true] {
        rig.hear(&Message::Path(Carrying { guest, uplink: true })).unwrap();
        assert_eq!(rig.core.peer_reaches(), Some(guest));
    }
    let once = [
        "oversized-frame",
        "capture-lost",
        "mirror-input-lost",
        "path-restored",
        "pressure",
        "input-lost",
        "translation-full",
        "secondary-capture-lost",
        "secondary-path-restored",
    ];
    assert_eq!(rig.asked(), once);
    rig.now = rig.now + ASK_PAUSE;
    rig.core.losses(rig.now, losses, &mut rig.effects);
    assert_eq!(rig.asked()[once.len()..], ["pressure"], "only what goes on");
    assert_eq!(rig.core.asked().values().sum::<u64>(), 10);
}

#[test]
fn what_a_secondary_cannot_say_is_refused() {
    let epoch = Epoch::FIRST;
    for message in [
        Message::Input { epoch, index: 0, frame: b"x" },
        Message::Cut(epoch),
        Message::InputCut { epoch, first: 0 },
        Message::End(epoch),
        Message::Begin(epoch.next()),
        Message::Session { epoch, term: 0, lease: Duration::from_secs(5) },
        Message::Bases { epoch, bases: vec![] },
        Message::Output { epoch: epoch.next(), frame: b"x" },
    ] {
        assert!(Rig::in_sync().hear(&message).is_err(), "{message:?}");
    }
}

#[test]
fn a_cut_that_nobody_answers_is_a_lost_peer() {
    let mut rig = Rig::in_sync();
    rig.core.cut(rig.now, Some(&mut rig.outbox));
    assert_eq!(rig.core.place(rig.now), Place::Wait);
    for _ in 0..CUT_LIMIT.as_secs() * 2 {
        assert_eq!(rig.core.protection(), Protection::Protected);
        rig.hear(&Message::Heartbeat(Heartbeat::default())).unwrap();
        rig.pass(Duration::from_millis(500));
    }
    assert_eq!(rig.core.protection(), Protection::Not(Reason::CutUnanswered));
    assert_eq!(rig.core.place(rig.now), Place::Now);
}

#[test]
fn output_of_the_next_epoch_waits_for_its_begin_within_a_bound() {
    let mut rig = Rig::in_sync();
    let epoch = rig.core.epoch();
    rig.core.cut(rig.now, Some(&mut rig.outbox));
    rig.hear(&Message::End(epoch)).unwrap();
    // It begins before its own guest runs: a primary that follows its QEMU.
    rig.core.epochs.begin(epoch.next()).unwrap();
    let frame = vec![0; 60_000];
    let fit = WITHHELD_BYTES / frame.len();
    for _ in 0..fit {
        rig.hear(&Message::Output { epoch: epoch.next(), frame: &frame }).unwrap();
    }
    assert_eq!(rig.hear(&Message::Output { epoch: epoch.next(), frame: &frame }), Err(Violation::Withheld));
}

#[test]
fn a_stalled_link_is_closed_by_name_and_nothing_stays_held() {
    let mut rig = Rig::in_sync();
    rig.say(5);
    assert_eq!((rig.core.held(), rig.effects.len()), (1, 0));
    rig.core.stalled(rig.now, &mut rig.effects);
    assert_eq!(rig.core.protection(), Protection::Not(Reason::LinkStalled));
    assert!(matches!(&rig.effects[0], Effect::CloseLink(Some((ByeReason::Stalled, _)))));
    assert_eq!(rig.effects[1..], [Effect::Release(Token(5))]);
}

#[test]
fn at_the_end_what_is_held_leaves_or_is_dropped() {
    for release in [true, false] {
        let mut rig = Rig::in_sync();
        rig.say(5);
        rig.core.exit(rig.now, release, &mut rig.effects);
        let last = if release { Effect::Release(Token(5)) } else { Effect::Drop(Token(5)) };
        assert_eq!(rig.effects.last(), Some(&last));
        assert_eq!(rig.core.held(), 0);
    }
}

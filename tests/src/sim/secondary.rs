//! The secondary's agent: the real translator, epochs and failover machine in a turn like that of the packet thread.

use super::eye::{Eye, runs};
use super::host::{Io, Mode, Out, Said};
use super::primary::{config, want};
use super::vm::{Call, Tag};
use super::{Broken, PEER_LIMIT, VM_LIMIT};
use colo_user::agent::place::Place;
use colo_user::agent::protection::Reason;
use colo_user::agent::secondary::{Effect, Injection, Secondary};
use colo_user::failover::verbs::{Commanded as _, Context, Reply, Verb};
use colo_user::failover::{self, Order, Parting, Standing, Why};
use colo_user::judge::Claimant;
use colo_user::judge::etcd::keeper::Want;
use colo_user::link::frame::{Message, Role};
use colo_user::mono::Mono;
use colo_user::translate::Limits;
use colo_user::vm::Told;
use std::collections::VecDeque;

/// Most frames that lie unread in the guest's interface.
const CREDIT: usize = 64;
/// Most frames put into it in one turn.
const INJECT_BATCH: usize = 256;

/// See the module.
pub(super) struct SecondaryAgent {
    core: Secondary,
    machine: failover::Secondary,
    eye: Eye,
    orders: Vec<Order>,
    joined: bool,
    commits: u64,
    told: VecDeque<Told>,
    taken: VecDeque<(Mono, Vec<u8>)>,
    effects: Vec<Effect>,
    adopted: bool,
    /// Input waits for the guest to read what lies there.
    later: bool,
    wanted: Option<(Want, Claimant)>,
    broken: Option<Broken>,
}

impl SecondaryAgent {
    /// Starts on its host.
    pub fn start(now: Mono, claimant: Claimant, broken: Option<Broken>, io: &mut Io) -> Self {
        let adopted = std::mem::take(&mut io.datapath.pinned);
        if !adopted {
            io.datapath.mode = Mode::Secondary;
        }
        io.vm.open_monitor();
        Self {
            core: Secondary::new(Limits::default(), PEER_LIMIT).following(),
            machine: failover::Secondary::new(config(), claimant, io.kept),
            eye: Eye::new(now, Role::Secondary, VM_LIMIT),
            orders: Vec::new(),
            joined: false,
            commits: 0,
            told: VecDeque::new(),
            taken: VecDeque::new(),
            effects: Vec::new(),
            adopted,
            later: false,
            wanted: None,
            broken,
        }
    }

    pub fn standing(&self) -> (Standing, Why) {
        (self.machine.standing(), self.machine.why())
    }

    pub const fn term(&self) -> Option<u64> {
        self.machine.term()
    }

    pub fn joined(&self) -> bool {
        self.core.joined()
    }

    pub fn next_deadline(&self, io: &Io) -> Option<Mono> {
        let fits = io.vm.tap.len() < CREDIT;
        if self.core.settles() || !io.vm.notices.is_empty() || self.later && fits || !self.effects.is_empty()
        {
            return Some(Mono::ZERO);
        }
        let all = [self.core.next_deadline(), self.eye.next_deadline(), self.machine.next_deadline()];
        all.into_iter().flatten().min()
    }

    pub fn turn(&mut self, now: Mono, io: &mut Io) {
        if let Some(end) = io.incoming.take() {
            io.end = Some(end);
            self.connect(now, io);
        }
        while let Some(said) = io.answers.pop_front() {
            match said {
                Said::Answer(term, answer) => self.machine.answer(now, term, &answer, &mut self.orders),
                Said::Tenure(tenure) => self.machine.tenure(&tenure, &mut self.orders),
            }
            self.obey(now, io);
        }
        self.captured(now, io);
        self.core.tick(now, io.outbox(), &mut self.effects);
        self.fail_over(now, io);
        self.messages(now, io);
        self.fail_over(now, io);
        self.inject(now, io);
        self.apply(io);
        if io.end.as_ref().is_some_and(|end| end.outbox.stalled()) {
            self.core.lost(Reason::LinkStalled, &mut self.effects);
            self.apply(io);
        }
    }

    /// An operator orders something.
    pub fn ordered(&mut self, now: Mono, verb: Verb, context: &Context, io: &mut Io) -> Reply {
        let reply = self.machine.order(now, verb, context, &mut self.orders);
        self.obey(now, io);
        self.apply(io);
        reply
    }

    fn connect(&mut self, now: Mono, io: &mut Io) {
        self.joined = false;
        let part = !matches!(self.machine.standing(), Standing::TakingOver | Standing::Alone);
        if !part {
            self.orders.push(Order::Bye(Parting::TookOver));
        }
        self.obey(now, io);
        self.apply(io);
        if part {
            self.core.connected(now);
        }
    }

    fn captured(&mut self, now: Mono, io: &mut Io) {
        if !io.datapath.ring.is_empty() {
            self.eye.spoke(now);
        }
        self.taken.append(&mut io.datapath.ring);
        self.look(now, io);
        loop {
            while let Some((stamp, _)) = self.taken.front() {
                let place = self.core.place(*stamp);
                if place == Place::Wait {
                    break;
                }
                let Some((_, mut frame)) = self.taken.pop_front() else { break };
                match place {
                    Place::Now => self.core.captured(now, &mut frame, io.outbox()),
                    _ => self.core.unsure(),
                }
            }
            if !self.core.settle(now, io.outbox()) {
                break;
            }
        }
    }

    fn look(&mut self, now: Mono, io: &mut Io) {
        self.eye.look(now, &mut io.vm, &mut self.told);
        while let Some(mut told) = self.told.pop_front() {
            let unread = matches!(told, Told::Stopped)
                .then(|| (io.vm.tap.len() as u64, !runs(&self.told) && !io.vm.runs));
            if self.broken == Some(Broken::FailoverResets) && told == Told::TookOver {
                // Broken on purpose: every RESUME is taken for that of a loaded state.
                let moment = colo_user::vm::Moment { after: now, before: now, at: Some(now) };
                told = Told::Ran(colo_user::vm::Silence::between(moment, moment));
            }
            self.core.told(now, told, unread, io.outbox());
        }
    }

    fn messages(&mut self, now: Mono, io: &mut Io) {
        let Some(end) = &mut io.end else { return };
        let inbox = std::mem::take(&mut end.inbox);
        if inbox.is_empty() {
            if end.eof {
                self.core.lost(Reason::PeerLost, &mut self.effects);
            }
            return;
        }
        if self.core.overdue(now) {
            return self.core.lost(Reason::PeerSilent, &mut self.effects);
        }
        let mut rest = &inbox[..];
        while let Ok(Some((message, taken))) = Message::decode(rest) {
            let Some(outbox) = io.outbox() else { return };
            if self.core.message(now, &message, outbox, &mut self.effects).is_err() {
                return self.core.lost(Reason::ProtocolBroken, &mut self.effects);
            }
            rest = &rest[taken..];
            if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                return;
            }
            if let Some((term, lease)) = self.core.take_offer() {
                // Broken on purpose: the primary stops by itself later than this side believes.
                let lease = if self.broken == Some(Broken::LongLease) { lease / 10 } else { lease };
                self.joined = false;
                let joins = self.machine.session(term, lease, &mut self.orders);
                self.obey(now, io);
                if !joins {
                    return;
                }
                self.core.join(io.outbox());
            }
        }
        assert!(rest.is_empty(), "messages are delivered whole");
    }

    fn inject(&mut self, now: Mono, io: &mut Io) {
        let tap = &mut io.vm.tap;
        let mut later = false;
        let outbox = io.end.as_mut().map(|end| &mut end.outbox);
        let more = self.core.inject(now, INJECT_BATCH, outbox, |frame| {
            if tap.len() >= CREDIT {
                later = true;
                return Injection::Later;
            }
            tap.push_back(frame.to_vec());
            Injection::Sent
        });
        self.later = later || more;
    }

    fn apply(&mut self, io: &mut Io) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Drain => unreachable!("both follow their QEMUs"),
                Effect::CloseLink(bye) => io.close(bye),
            }
        }
    }

    fn fail_over(&mut self, now: Mono, io: &mut Io) {
        if let Some(past) = self.eye.take_past() {
            self.machine.placed(past, self.adopted, &mut self.orders);
            if self.adopted && self.machine.standing() != Standing::Alone {
                self.adopted = false;
                io.datapath.mode = Mode::Secondary;
            }
        }
        if self.eye.take_ran() {
            self.machine.ran(&mut self.orders);
        }
        if let Some(trouble) = self.eye.trouble(now) {
            self.machine.trouble(trouble, &mut self.orders);
        }
        if self.core.joined() && !std::mem::replace(&mut self.joined, true) {
            self.machine.in_sync();
        }
        let commits = self.core.commits();
        if std::mem::replace(&mut self.commits, commits) != commits {
            self.machine.loaded(&mut self.orders);
        }
        if let Some((loss, heard)) = self.core.take_loss() {
            self.joined = false;
            self.machine.lost(loss, heard, &mut self.orders);
        }
        for (step, value) in self.eye.take_done() {
            self.machine.done(now, step, &Ok(value), &mut self.orders);
        }
        self.machine.tick(now, &mut self.orders);
        self.obey(now, io);
        self.speak(io);
    }

    fn obey(&mut self, now: Mono, io: &mut Io) {
        for order in std::mem::take(&mut self.orders) {
            match order {
                Order::Ask { term, claimant, .. } => io.out.push(Out::Ask(term, claimant)),
                Order::Command(step, call) => {
                    io.vm.calls.push_back((Tag::Step(step), Call::named(&call.name)));
                }
                Order::Bye(parting) => {
                    let (reason, text) = parting.bye();
                    self.core.part(reason, text, &mut self.effects);
                }
                Order::Remember(memory) => io.kept = Some(memory),
                Order::Shut => io.datapath.mode = Mode::Closed,
                Order::TakeOver => {
                    self.core.take_over(now, &mut self.effects);
                    if !std::mem::take(&mut self.adopted) {
                        io.datapath.translator = Some(self.core.translator().clone());
                    }
                    io.datapath.mode = Mode::Pass;
                    io.datapath.pinned = true;
                    io.out.push(Out::Serves);
                    self.captured(now, io);
                    self.speak(io);
                }
                Order::Hold
                | Order::Resume
                | Order::Flush
                | Order::Open
                | Order::Guard
                | Order::Checkpoint
                | Order::Pause
                | Order::Anew(_) => {
                    unreachable!("a secondary holds nothing")
                }
            }
        }
        let (stands, claimant) = (self.standing(), self.machine.claimant());
        want(&mut self.wanted, Role::Secondary, stands, claimant, io);
    }

    fn speak(&mut self, io: &mut Io) {
        if io.is_over() {
            return;
        }
        while let Some(frame) = self.core.next_unreleased() {
            io.out.push(Out::Emit(frame));
        }
    }
}

//! The primary's agent: the real comparator, epochs and failover machine in a turn like that of the packet thread. It decides
//! nothing: what the cores say is carried out on a simulated host.

use super::eye::{Eye, runs};
use super::host::{Io, Mode, Out, Said};
use super::vm::{Call, Tag};
use super::{Broken, PEER_LIMIT, VM_LIMIT};
use colo_user::agent::place::Place;
use colo_user::agent::primary::{Effect, OnPeerLoss, Primary};
use colo_user::agent::protection::Reason;
use colo_user::compare::{Limits, Policy, Token};
use colo_user::failover::verbs::{Commanded as _, Context, Reply, Verb};
use colo_user::failover::{self, Config, Order, Parting, Past, Standing, Why};
use colo_user::judge::Claimant;
use colo_user::judge::etcd::keeper::{Me, Want};
use colo_user::link::frame::{Message, Role};
use colo_user::mono::Mono;
use colo_user::translate::Translator;
use colo_user::vm::Told;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What becomes of what the core lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Held,
    Shut,
}

/// See the module.
pub(super) struct PrimaryAgent {
    core: Primary,
    machine: failover::Primary,
    eye: Eye,
    orders: Vec<Order>,
    joined: bool,
    commits: u64,
    gate: Gate,
    gated: VecDeque<Effect>,
    told: VecDeque<Told>,
    taken: VecDeque<(Mono, Vec<u8>)>,
    parked: BTreeMap<u64, Vec<u8>>,
    tokens: u64,
    effects: Vec<Effect>,
    adopted: bool,
    wanted: Option<(Want, Claimant)>,
    broken: Option<Broken>,
}

/// What a failover machine is told.
pub(super) fn config() -> Config {
    Config { judged: true, vm_limit: VM_LIMIT, lease: PEER_LIMIT, before: Vec::new() }
}

/// Tells the judge what a side is about, if that is something else than before.
pub(super) fn want(
    wanted: &mut Option<(Want, Claimant)>,
    role: Role,
    stands: (Standing, Why),
    claimant: Claimant,
    io: &mut Io,
) {
    let want = failover::wants(role, stands);
    if wanted.replace((want, claimant)) != Some((want, claimant)) {
        io.out.push(Out::Want(want, Me { claimant, role }));
    }
}

impl PrimaryAgent {
    /// Starts on its host. `kept` is what one before it remembered.
    pub fn start(now: Mono, seed: u64, claimant: Claimant, broken: Option<Broken>, io: &mut Io) -> Self {
        let policy = Policy { wait_max: Duration::from_millis(400), ..Policy::default() };
        let core = Primary::new(policy, Limits::default(), OnPeerLoss::Hold, PEER_LIMIT, now).following(seed);
        let mut orders = Vec::new();
        let machine = failover::Primary::new(config(), claimant, io.kept, &mut orders);
        let adopted = std::mem::take(&mut io.datapath.pinned);
        if !adopted {
            io.datapath.mode = Mode::Protect;
        }
        io.vm.open_monitor();
        Self {
            core,
            machine,
            eye: Eye::new(now, Role::Primary, VM_LIMIT),
            orders,
            joined: false,
            commits: 0,
            gate: Gate::Open,
            gated: VecDeque::new(),
            told: VecDeque::new(),
            taken: VecDeque::new(),
            parked: BTreeMap::new(),
            tokens: 0,
            effects: Vec::new(),
            adopted,
            wanted: None,
            broken,
        }
    }

    pub fn standing(&self) -> (Standing, Why) {
        (self.machine.standing(), self.machine.why())
    }

    pub fn held(&self) -> usize {
        self.core.held() + self.gated.len() + self.taken.len()
    }

    pub const fn term(&self) -> Option<u64> {
        self.machine.term()
    }

    pub fn joined(&self) -> bool {
        self.core.joined()
    }

    pub fn next_deadline(&self, io: &Io) -> Option<Mono> {
        let busy = self.taken.front().is_some_and(|(stamp, _)| self.core.place(*stamp) != Place::Wait);
        if busy || !io.vm.notices.is_empty() || !self.effects.is_empty() {
            return Some(Mono::ZERO);
        }
        let all = [self.core.next_deadline(), self.eye.next_deadline(), self.machine.next_deadline()];
        all.into_iter().flatten().min()
    }

    pub fn turn(&mut self, now: Mono, io: &mut Io) {
        // Before anything that came meanwhile is believed.
        if self.core.overdue(now) {
            self.core.lost(now, Reason::PeerSilent, &mut self.effects);
        }
        self.fail_over(now, io);
        if let Some(end) = io.incoming.take() {
            io.end = Some(end);
            self.connect(now, io);
        }
        while let Some(said) = io.answers.pop_front() {
            match said {
                Said::Answer(term, answer) => self.machine.answer(now, term, &answer, &mut self.orders),
                Said::Tenure(tenure) => self.machine.tenure(now, &tenure, &mut self.orders),
            }
            self.obey(now, io);
        }
        self.mirrored(now, io);
        self.captured(now, io);
        self.core.tick(now, io.outbox(), &mut self.effects);
        self.messages(now, io);
        self.fail_over(now, io);
        self.apply(io);
        if io.end.as_ref().is_some_and(|end| end.outbox.stalled()) {
            self.core.stalled(now, &mut self.effects);
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
        let fresh = io.fresh.next();
        let term = self.machine.session(fresh, &mut self.orders);
        if let Some(term) = term {
            self.core.set_term(term);
        }
        self.obey(now, io);
        self.apply(io);
        if let (Some(_), Some(outbox)) = (term, io.outbox()) {
            self.core.connected(now, outbox);
        }
    }

    fn mirrored(&mut self, now: Mono, io: &mut Io) {
        while let Some((index, frame)) = io.datapath.mirror.pop_front() {
            self.core.mirrored(now, index, &frame, io.end.as_mut().map(|end| &mut end.outbox));
        }
    }

    fn captured(&mut self, now: Mono, io: &mut Io) {
        if !io.datapath.ring.is_empty() {
            self.eye.spoke(now);
        }
        self.taken.append(&mut io.datapath.ring);
        // What the guest answers came before, and is known before.
        self.mirrored(now, io);
        self.look(now, io);
        loop {
            while let Some((stamp, _)) = self.taken.front() {
                let place = self.core.place(*stamp);
                if place == Place::Wait {
                    break;
                }
                let Some((_, frame)) = self.taken.pop_front() else { break };
                if place == Place::Now {
                    self.tokens += 1;
                    self.core.captured(now, Token(self.tokens), &frame, io.outbox(), &mut self.effects);
                    self.parked.insert(self.tokens, frame);
                }
            }
            if !self.core.drained(now, io.outbox(), &mut self.effects) {
                break;
            }
        }
    }

    fn look(&mut self, now: Mono, io: &mut Io) {
        self.eye.look(now, &mut io.vm, &mut self.told);
        while let Some(told) = self.told.pop_front() {
            if self.broken == Some(Broken::EarlyRelease) && told == Told::Stopped {
                self.release_all_parked(io);
            }
            let Told::Copied { entry } = told else {
                self.core.told(now, told, io.outbox());
                continue;
            };
            self.cuts(io);
            self.mirrored(now, io);
            // What came straight through before has no number.
            let first = io.datapath.next_index.saturating_sub(io.vm.tap.len() as u64);
            let exact = !runs(&self.told) && !io.vm.runs;
            let bases = io.datapath.translator.iter().flat_map(Translator::bases).collect();
            self.core.copied(entry, (first, exact), bases, io.outbox());
        }
        self.core.settle_session(now, io.outbox());
    }

    /// Broken on purpose: what is held leaves as soon as the guest stands still to be copied.
    fn release_all_parked(&mut self, io: &mut Io) {
        if self.gate == Gate::Open && !io.is_over() {
            io.out.extend(self.parked.values().cloned().map(Out::Emit));
        }
    }

    fn messages(&mut self, now: Mono, io: &mut Io) {
        let Some(end) = &mut io.end else { return };
        let inbox = std::mem::take(&mut end.inbox);
        if inbox.is_empty() {
            if end.eof {
                self.core.lost(now, Reason::PeerLost, &mut self.effects);
            }
            return;
        }
        if self.core.overdue(now) {
            return self.core.lost(now, Reason::PeerSilent, &mut self.effects);
        }
        self.look(now, io);
        let mut rest = &inbox[..];
        while let Ok(Some((message, taken))) = Message::decode(rest) {
            let Some(outbox) = io.outbox() else { return };
            if self.core.message(now, &message, outbox, &mut self.effects).is_err() {
                return self.core.lost(now, Reason::ProtocolBroken, &mut self.effects);
            }
            rest = &rest[taken..];
            if matches!(self.effects.last(), Some(Effect::CloseLink(_))) {
                return;
            }
        }
        assert!(rest.is_empty(), "messages are delivered whole");
    }

    fn apply(&mut self, io: &mut Io) {
        let over = io.is_over();
        if self.gate == Gate::Open && !over {
            // What waited for the lease.
            self.effects.splice(0..0, self.gated.drain(..));
        }
        for effect in std::mem::take(&mut self.effects) {
            let leaves = matches!(effect, Effect::Window(..) | Effect::Release(_) | Effect::Emit(_));
            match effect {
                effect if leaves && (self.gate == Gate::Held || self.gate == Gate::Open && over) => {
                    self.gated.push_back(effect);
                }
                Effect::Emit(_) | Effect::Window(..) if self.gate == Gate::Shut => {}
                Effect::Release(token) if self.gate == Gate::Shut => {
                    self.parked.remove(&token.0).expect("released once");
                }
                Effect::Window(token, window) => {
                    if let Some(frame) = self.parked.get_mut(&token.0) {
                        colo_user::wire::tcp::set_window(frame, window);
                    }
                }
                Effect::Release(token) => {
                    io.out.push(Out::Emit(self.parked.remove(&token.0).expect("released once")));
                }
                Effect::Drop(token) => {
                    self.parked.remove(&token.0).expect("dropped once");
                }
                Effect::Emit(frame) => io.out.push(Out::Emit(frame)),
                Effect::Ask(_) => self.eye.vm.want(),
                Effect::Settle(_) => {}
                Effect::CloseLink(bye) => io.close(bye),
            }
        }
    }

    fn fail_over(&mut self, now: Mono, io: &mut Io) {
        self.joins();
        let past = self.eye.take_past();
        if let Some(past) = past {
            self.machine.placed(now, past, &mut self.orders);
        }
        if self.eye.take_ran() {
            self.machine.ran(&mut self.orders);
        }
        if let Some(trouble) = self.eye.trouble(now).or_else(|| self.core.no_checkpoint(now, VM_LIMIT)) {
            self.machine.trouble(now, trouble, &mut self.orders);
        }
        if let Some(loss) = self.core.take_loss() {
            self.joined = false;
            self.machine.lost(now, loss, &mut self.orders);
        }
        let commits = self.core.commits();
        if std::mem::replace(&mut self.commits, commits) != commits {
            self.machine.owned(&mut self.orders);
        }
        for (step, value) in self.eye.take_done() {
            self.machine.done(now, step, &Ok(value), &mut self.orders);
        }
        self.machine.tick(now, &mut self.orders);
        if matches!(self.machine.standing(), Standing::Passing | Standing::Alone) && self.core.has_left_colo()
        {
            // No pair came of it: what is held for one leaves, and the agents meet anew.
            self.core.go_on_alone(now, &mut self.effects);
            self.orders.push(Order::Bye(Parting::Left));
        } else if self.machine.standing() == Standing::Alone {
            self.core.let_out(now, &mut self.effects);
        }
        if past.is_some() && std::mem::take(&mut self.adopted) && self.machine.standing() != Standing::Alone {
            io.datapath.mode = Mode::Protect;
            if past == Some(Past::Fresh) {
                io.datapath.translator = None;
            }
        }
        self.obey(now, io);
    }

    fn cuts(&mut self, io: &mut Io) {
        self.joins();
        self.machine.cut(&mut self.orders);
        // Known after a restart before the secondary hears of the cut.
        self.orders.retain(|order| match order {
            Order::Remember(memory) => {
                io.kept = Some(*memory);
                false
            }
            _ => true,
        });
    }

    fn joins(&mut self) {
        let joined = self.core.joined();
        if joined && !std::mem::replace(&mut self.joined, joined) {
            self.machine.in_sync(&mut self.orders);
        }
    }

    fn obey(&mut self, now: Mono, io: &mut Io) {
        for order in std::mem::take(&mut self.orders) {
            match order {
                Order::Hold if self.gate == Gate::Open => self.gate = Gate::Held,
                Order::Hold => {}
                Order::Resume => self.open(),
                Order::Shut => {
                    self.gate = Gate::Shut;
                    self.effects.splice(0..0, self.gated.drain(..));
                    self.core.drop_all(now, &mut self.effects);
                    io.datapath.mode = Mode::Closed;
                    self.apply(io);
                }
                Order::Open => {
                    self.open();
                    self.core.go_on_alone(now, &mut self.effects);
                    self.apply(io);
                    io.datapath.mode = Mode::Pass;
                    io.datapath.pinned = true;
                    io.out.push(Out::Serves);
                }
                Order::Guard => io.datapath.mode = Mode::Protect,
                Order::Ask { term, claimant, .. } => io.out.push(Out::Ask(term, claimant)),
                Order::Command(step, call) => {
                    io.vm.calls.push_back((Tag::Step(step), Call::named(&call.name)));
                }
                Order::Bye(parting) => {
                    let (reason, text) = parting.bye();
                    self.core.part(now, reason, text, &mut self.effects);
                }
                Order::Remember(memory) => io.kept = Some(memory),
                Order::TakeOver => unreachable!("a primary does not take over"),
                Order::Flush => self.apply(io),
                Order::Checkpoint => self.eye.vm.want(),
                Order::Pause => {
                    self.open();
                    self.core.pause(now, &mut self.effects);
                }
                Order::Anew(term) => {
                    self.joined = false;
                    self.core.set_term(term);
                    self.core.unpause(now, io.outbox());
                }
            }
        }
        let (stands, claimant) = (self.standing(), self.machine.claimant());
        want(&mut self.wanted, Role::Primary, stands, claimant, io);
    }

    fn open(&mut self) {
        if self.gate == Gate::Held {
            self.gate = Gate::Open;
            self.effects.splice(0..0, self.gated.drain(..));
        }
    }
}

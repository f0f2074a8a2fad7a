//! Time, and all that happens in it: a queue of events, two hosts, and what lies between them.

use super::client::Client;
use super::clock::{Clock, MAX_DRIFT_PPM};
use super::colo::{self, Word};
use super::etcd::{Etcd, MEMBERS};
use super::fault::{self, Fault};
use super::host::{Agent, Datapath, Host, Io, Lease, Mode, Said};
use super::judge::Judge;
use super::keeping::{Answered, Asked};
use super::orders;
use super::primary::PrimaryAgent;
use super::secondary::SecondaryAgent;
use super::verdict::Violation;
use super::vm::Vm;
use super::{Broken, JudgeKind, Plan};
use crate::random::Random;
use colo_user::judge::{Answer, Claimant};
use colo_user::mono::{Boot, Mono};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// An agent has its turn, if that is still what it waits for.
    Turn(usize),
    /// A VM goes on: it reads its interface, its monitor, its timers.
    Vm(usize),
    Client,
    /// A frame comes to the hosts, or to the client.
    ToHosts(Vec<u8>),
    ToClient(Vec<u8>),
    /// Bytes of a connection come to one end; none is its end.
    Bytes {
        to: usize,
        number: u64,
        bytes: Option<Vec<u8>>,
    },
    /// The side that dials tries again.
    Dial,
    /// Hellos are done at one end.
    Linked {
        side: usize,
        number: u64,
    },
    /// A question is at the judge.
    Ask {
        side: usize,
        term: u64,
        claimant: Claimant,
    },
    /// The judge's answer is there.
    Answered {
        side: usize,
        term: u64,
        answer: Answer,
    },
    /// An agent's thread for etcd goes on.
    Keeper {
        side: usize,
        number: u64,
    },
    /// A request comes to a member of etcd, and its answer to the host.
    ToMember(Asked),
    FromMember(Answered),
    /// The time is over in which a member was to answer.
    Unanswered {
        side: usize,
        number: u64,
        call: u64,
    },
    /// Time passes for etcd.
    Etcd,
    Fault(Fault),
    /// An agent that was killed is started again.
    AgentStarts(usize),
    /// The operator tries to enter COLO.
    Enter,
    Entered(u64),
    /// The operator gives the service a new secondary.
    Again(usize),
    /// The operator looks at a side that has lost its translation.
    Promote(usize),
    Checkpoint,
    Word {
        to: usize,
        generation: u64,
        word: Word,
    },
    Loaded {
        side: usize,
        generation: u64,
    },
}

/// An event in the queue: the earliest first, in the order they were made.
#[derive(Debug)]
struct Due(Mono, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// See the module.
pub(super) struct World {
    pub now: Mono,
    queue: BinaryHeap<Reverse<Due>>,
    made: u64,
    pub random: Random,
    pub hosts: [Host; 2],
    /// Which host's VM is the primary of the pair.
    pub primary: usize,
    /// Which host may speak to the client.
    pub service: usize,
    pub client: Client,
    /// When the client does something next.
    pub client_at: Option<Mono>,
    pub judge: Judge,
    /// The judge in place of the above.
    pub etcd: Option<Etcd>,
    /// Longest time that a request to it is on its way, in milliseconds.
    pub etcd_takes: u64,
    /// Threads that ask it, and their calls, so far.
    pub threads: u64,
    pub calls: u64,
    /// A host that is paused is suspended.
    pub suspends: bool,
    /// When the last fault has ended.
    pub calm: Mono,
    /// What a host says does not reach the other until then.
    pub blocked_until: [Mono; 2],
    /// Questions of a host to the judge, and answers to it.
    pub cut_questions: [Mono; 2],
    pub cut_answers: [Mono; 2],
    /// Either, between a host and a member of etcd.
    pub cut_members: [[Mono; MEMBERS]; 2],
    pub judge_away: Mono,
    pub judge_takes: u64,
    /// Extra time over the link until then.
    pub slow: (Mono, Duration),
    /// Numbers of connections between the agents, and when each direction delivered last.
    pub connection: u64,
    pub delivered: [Mono; 2],
    /// Connections between the QEMUs.
    pub generation: u64,
    pub checkpoints: u64,
    /// The secondary owns a state of this protection, and did before the primary was harmed.
    pub protected: bool,
    pub protected_unharmed: bool,
    /// How often the operator still gives the service a new secondary.
    pub again: u64,
    /// This side takes over without the connections of the pair, as the operator wants it.
    pub forsaken: Option<usize>,
    /// Yeses of the judge before this protection.
    pub rights: usize,
    pub broken: Option<Broken>,
    /// How late an agent may have its turn, in microseconds.
    lateness: u64,
    pub loss: u64,
    pub violation: Option<Violation>,
    pub trace: Option<Vec<String>>,
    pub marks: Vec<&'static str>,
}

impl World {
    pub fn new(seed: u64, faults: &[(Mono, Fault)], plan: Plan) -> Self {
        let Plan { judge, broken, trace, .. } = plan;
        let mut random = Random::new(seed ^ 0x636f_6c6f);
        let now = Mono::from_millis(1);
        let calm = faults.iter().map(|(at, fault)| *at + fault.lasts()).max().unwrap_or(now);
        let calm = calm.max(Mono::from_millis(2500));
        let hosts = [0, 1].map(|side| {
            let drift = random.below(2 * MAX_DRIFT_PPM as u64 + 1) as i64 - MAX_DRIFT_PPM;
            Host {
                clock: Clock::new(random.millis(1000, 1_000_000), drift),
                up: true,
                asleep_until: Mono::ZERO,
                agent_asleep_until: Mono::ZERO,
                agent: None,
                keeping: None,
                io: Io {
                    vm: Vm::new(now, side == 0),
                    datapath: Datapath::new(),
                    end: None,
                    incoming: None,
                    closed: Vec::new(),
                    answers: VecDeque::new(),
                    kept: None,
                    out: Vec::new(),
                    fresh: Random::new(random.next()),
                    boot: Boot::ZERO,
                },
                turn_at: None,
                vm_at: None,
                entropy: Random::new(random.next()),
                harmed: false,
            }
        });
        let quiet = calm + Duration::from_millis(500);
        let connections = 1 + random.below(3) as u16;
        let by_chance = [0, 50, 300][random.below(3) as usize];
        let client = Client::new(Random::new(random.next()), connections, quiet, by_chance);
        let mut world = Self {
            now,
            queue: BinaryHeap::new(),
            made: 0,
            hosts,
            primary: 0,
            service: 0,
            client,
            client_at: None,
            judge: Judge::new(broken == Some(Broken::NoFencing)),
            etcd: None,
            etcd_takes: 0,
            threads: 0,
            calls: 0,
            suspends: false,
            calm,
            blocked_until: [Mono::ZERO; 2],
            cut_questions: [Mono::ZERO; 2],
            cut_answers: [Mono::ZERO; 2],
            cut_members: [[Mono::ZERO; MEMBERS]; 2],
            judge_away: Mono::ZERO,
            judge_takes: [5, 50, 1200][random.below(3) as usize],
            slow: (Mono::ZERO, Duration::ZERO),
            connection: 0,
            delivered: [Mono::ZERO; 2],
            generation: 0,
            checkpoints: 0,
            protected: false,
            protected_unharmed: false,
            again: random.below(3),
            forsaken: None,
            rights: 0,
            broken,
            lateness: [100, 2_000, 30_000][random.below(3) as usize],
            loss: [0, 5, 50][random.below(3) as usize],
            random,
            violation: None,
            trace: trace.then(Vec::new),
            marks: Vec::new(),
        };
        if judge == JudgeKind::Etcd {
            let mut chance = Random::new(seed ^ 0x6574_6364);
            world.etcd_takes = [1, 10, 120][chance.below(3) as usize];
            world.suspends = chance.one_in(2);
            world.etcd = Some(Etcd::new(chance, broken == Some(Broken::NoFencing)));
            world.after(super::etcd::TICK, Event::Etcd);
        }
        for (at, fault) in faults {
            world.at(*at, Event::Fault(*fault));
        }
        for side in [0, 1] {
            world.start_agent(side);
        }
        let first = colo::first_period(&mut world.random);
        world.at(first, Event::Checkpoint);
        world.after(Duration::from_millis(1), Event::Dial);
        world.after(Duration::from_millis(100), Event::Enter);
        world.client_turns();
        world
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.6} {}", self.now.as_nanos() as f64 / 1e9, text()));
        }
    }

    pub fn mark(&mut self, mark: &'static str) {
        if !self.marks.contains(&mark) {
            self.marks.push(mark);
        }
    }

    pub fn at(&mut self, at: Mono, event: Event) {
        self.made += 1;
        self.queue.push(Reverse(Due(at.max(self.now), self.made, event)));
    }

    pub fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// What a host's clock says now.
    pub fn local(&self, side: usize) -> Mono {
        self.hosts[side].clock.local(self.now)
    }

    /// When a VM that stands still because of its host or a signal goes on.
    pub fn vm_later(&self, side: usize) -> Option<Mono> {
        Some(self.hosts[side].vm_ready()).filter(|&at| at > self.now)
    }

    /// Until when nothing that this host says reaches the other.
    pub fn blocked(&self, from: usize) -> Option<Mono> {
        Some(self.blocked_until[from]).filter(|&at| at > self.now)
    }

    pub fn cut_off(&self, side: usize) -> bool {
        self.blocked(side).is_some()
    }

    /// Whether both agents have met, in their roles.
    pub fn met(&self) -> bool {
        let joined = |side: usize| match &self.hosts[side].agent {
            Some(Agent::Primary(agent)) => agent.joined(),
            Some(Agent::Secondary(agent)) => agent.joined(),
            None => false,
        };
        joined(0) && joined(1)
    }

    /// The agent of a side is to have a turn soon.
    pub fn wake(&mut self, side: usize) {
        let late = self.random.per_mille(20);
        let delay =
            if late { self.random.micros(10, 10 + self.lateness) } else { self.random.micros(10, 60) };
        self.turn_by(side, self.now + delay);
    }

    fn turn_by(&mut self, side: usize, at: Mono) {
        let host = &mut self.hosts[side];
        if host.agent.is_none() || !host.up {
            return;
        }
        let at = at.max(host.agent_ready());
        if host.turn_at.is_none_or(|due| at < due || due < self.now) {
            host.turn_at = Some(at);
            self.at(at, Event::Turn(side));
        }
    }

    /// A VM has something to do, soon.
    pub fn vm_turns(&mut self, side: usize) {
        let delay = self.random.micros(20, 120);
        self.vm_by(side, self.now + delay);
    }

    fn vm_by(&mut self, side: usize, at: Mono) {
        let at = at.max(self.hosts[side].vm_ready());
        if self.hosts[side].vm_at.is_none_or(|due| at < due) {
            self.hosts[side].vm_at = Some(at);
            self.at(at, Event::Vm(side));
        }
    }

    pub fn client_turns(&mut self) {
        let Some(at) = self.client.next_deadline().map(|at| at.max(self.now)) else { return };
        if self.client_at.is_none_or(|due| at < due) {
            self.client_at = Some(at);
            self.at(at, Event::Client);
        }
    }

    pub fn start_agent(&mut self, side: usize) {
        let now = self.local(side);
        let seed = self.random.next();
        let claimant = Claimant((u128::from(seed) << 64 | u128::from(self.random.next())).to_be_bytes());
        let (primary, broken) = (self.primary, self.broken);
        self.keep(side);
        let leased = self.etcd.is_some();
        let host = &mut self.hosts[side];
        let io = &mut host.io;
        if leased && (!io.datapath.pinned || io.datapath.lease.is_none()) {
            io.datapath.lease = Some(Lease { end: Boot::ZERO, of: claimant });
        }
        host.agent = Some(if side == primary {
            Agent::Primary(Box::new(PrimaryAgent::start(now, seed, claimant, broken, io)))
        } else {
            Agent::Secondary(Box::new(SecondaryAgent::start(now, claimant, broken, io)))
        });
        host.turn_at = None;
        self.wake(side);
        self.vm_turns(side);
    }

    /// Runs one event. False when there is none left before `end`.
    pub fn step(&mut self, end: Mono) -> bool {
        let Some(Reverse(Due(at, _, event))) = self.queue.pop() else { return false };
        if at > end {
            return false;
        }
        self.now = at;
        match event {
            Event::Turn(side) => self.turn(side),
            Event::Vm(side) => self.vm(side),
            Event::Client => self.client_turn(),
            Event::ToHosts(frame) => self.hosts_hear(frame),
            Event::ToClient(frame) => self.client_hears(&frame),
            Event::Bytes { to, number, bytes } => self.bytes(to, number, bytes),
            Event::Dial => self.dial(),
            Event::Linked { side, number } => self.linked(side, number),
            Event::Ask { side, term, claimant } => self.asked(side, term, claimant),
            Event::Answered { side, term, answer } => {
                self.note(|| format!("the judge answers {side} in {term:016x}: {answer:?}"));
                self.hosts[side].io.answers.push_back(Said::Answer(term, answer));
                self.wake(side);
            }
            Event::Keeper { side, number } => self.keeper_turns(side, number),
            Event::ToMember(asked) => self.member_hears(asked),
            Event::FromMember(answered) => self.member_says(answered),
            Event::Unanswered { side, number, call } => self.unanswered(side, number, call),
            Event::Etcd => self.etcd_ticks(),
            Event::Fault(fault) => self.fault(fault),
            Event::AgentStarts(side) => {
                if self.hosts[side].up && self.hosts[side].agent.is_none() {
                    self.note(|| format!("agent {side} starts"));
                    self.start_agent(side);
                }
            }
            Event::Enter => self.enter(),
            Event::Entered(generation) => self.entered(generation),
            Event::Again(side) => self.protect_again(side),
            Event::Promote(side) => self.promote(side),
            Event::Checkpoint => self.checkpoint(),
            Event::Word { to, generation, word } => self.word(to, generation, word),
            Event::Loaded { side, generation } => self.loaded(side, generation),
        }
        true
    }

    fn turn(&mut self, side: usize) {
        let now = self.now;
        let host = &mut self.hosts[side];
        if host.turn_at != Some(now) || !host.up {
            return;
        }
        host.turn_at = None;
        if host.agent_ready() > now {
            let later = host.agent_ready();
            return self.turn_by(side, later);
        }
        let local = host.clock.local(now);
        let Some(agent) = &mut host.agent else { return };
        let before = agent.standing();
        host.io.boot = host.clock.boot(now);
        agent.turn(local, &mut host.io);
        let after = agent.standing();
        let deadline = agent.next_deadline(&host.io);
        let deadline = deadline.map(|at| host.clock.global(at.max(local)));
        if before != after {
            self.note(|| format!("{side} stands {} ({})", after.0, after.1));
            self.stands(side, after.1);
        }
        self.carry_out(side);
        self.flush(side);
        if !self.hosts[side].io.vm.calls.is_empty() || !self.hosts[side].io.vm.tap.is_empty() {
            self.vm_turns(side);
        }
        if let Some(at) = deadline {
            // Nobody has a turn in less than no time.
            self.turn_by(side, at.max(self.now + Duration::from_micros(20)));
        }
    }

    /// A VM does what it has to do.
    fn vm(&mut self, side: usize) {
        if self.hosts[side].vm_at != Some(self.now) {
            return;
        }
        self.hosts[side].vm_at = None;
        if !self.hosts[side].up || !self.hosts[side].io.vm.there {
            return;
        }
        if let Some(later) = self.vm_later(side) {
            return self.vm_by(side, later);
        }
        let (now, local) = (self.now, self.local(side));
        let host = &mut self.hosts[side];
        let vm = &mut host.io.vm;
        let mut closes = false;
        let called = !vm.calls.is_empty() || vm.opening;
        if std::mem::take(&mut vm.opening) {
            vm.monitored();
        }
        while let Some((tag, call)) = vm.calls.pop_front() {
            closes |= vm.answer(local, tag, call);
        }
        let wanted = vm.wanted;
        let mut said = Vec::new();
        if vm.runs {
            while let Some(frame) = vm.tap.pop_front() {
                super::switch::to_guest(&mut vm.guest, now, &frame, &mut host.entropy, &mut said);
            }
            vm.guest.tick(now, &mut said);
            let next = vm.guest.next_deadline();
            self.vm_by(side, next.max(now + Duration::from_micros(50)));
        }
        if closes {
            self.close_qemu(side);
        }
        if wanted {
            self.begin_checkpoint(side);
        }
        if called {
            self.wake(side);
        }
        self.guest_says(side, said);
    }

    /// What a guest says meets its data path.
    fn guest_says(&mut self, side: usize, frames: Vec<Vec<u8>>) {
        let (local, boot) = (self.local(side), self.hosts[side].clock.boot(self.now));
        for frame in frames {
            self.note(|| format!("guest {side}: {}", super::switch::shown(&frame)));
            let datapath = &mut self.hosts[side].io.datapath;
            match datapath.mode {
                Mode::Protect | Mode::Pass if datapath.is_over(boot) => {}
                Mode::Off | Mode::Closed => {}
                Mode::Pass => {
                    for frame in datapath.output(local, frame) {
                        self.emit(side, frame);
                    }
                }
                Mode::Protect => {
                    for frame in datapath.output(local, frame) {
                        self.hosts[side].io.datapath.ring.push_back((local, frame));
                    }
                    self.wake(side);
                }
                Mode::Secondary => {
                    datapath.ring.push_back((local, frame));
                    self.wake(side);
                }
            }
        }
    }

    /// A frame that may be lost or said twice on its way.
    pub fn on_the_way(&mut self, mut event: impl FnMut() -> Event) {
        if self.random.per_mille(self.loss) {
            return;
        }
        let copies = 1 + u64::from(self.random.per_mille(self.loss));
        for _ in 0..copies {
            let delay = self.random.micros(30, 200);
            self.after(delay, event());
        }
    }
}

/// What goes wrong in the schedule of this seed, and what an operator orders where that is planned.
pub(super) fn faults(seed: u64, plan: Plan) -> Vec<(Mono, Fault)> {
    let mut faults = fault::draw(&mut Random::new(seed));
    if plan.orders {
        faults.extend(orders::draw(&mut Random::new(seed ^ 0x6f72_6465), &faults));
        faults.sort_by_key(|(at, _)| *at);
    }
    if plan.judge == JudgeKind::Etcd {
        fault::draw_members(&mut Random::new(seed ^ 0x6d65_6d62), &mut faults);
    }
    faults
}

//! Both machines, one judge, and a world that fails: seeded runs of two hosts with a link between them, in steps of 5 ms.
//!
//! The agents around the machines are modelled as the real ones are: heartbeats with echoes make lease and silence, a
//! checkpoint is cut, load and begin, a host that is frozen does nothing and finds its messages when it wakes. What must
//! hold in every step is in [`World::check`], what must come in the end in [`World::settled`].

use super::super::verbs::{Commanded, Context, Reply, Verb};
use super::super::*;
use crate::judge::{Answer, Claimant, Prospect};
use crate::qmp::{Failure, command};
use crate::random::Random;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};

const STEP: Duration = Duration::from_millis(5);
const LEASE: Duration = Duration::from_secs(2);
const BEAT: Duration = Duration::from_millis(250);
/// The secondary gives a silent primary up long before it may ask.
const SILENCE: Duration = Duration::from_millis(800);
/// What a host needs to see that a connection is gone.
const RECONNECT: Duration = Duration::from_millis(100);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    PrimaryHost,
    SecondaryHost,
    PrimaryVm,
    SecondaryVm,
    PrimaryVmFrozen,
    SecondaryVmFrozen,
    PrimaryAgent,
    SecondaryAgent,
    /// The primary's host does nothing for a while and then goes on.
    PrimaryPause(Duration),
    SecondaryPause(Duration),
    /// Connections break and can be made again.
    Reset,
    /// Nothing gets through for a while, in the directions given.
    Partition {
        to_secondary: bool,
        to_primary: bool,
        lasts: Duration,
    },
    /// The judge gives no answer for a while.
    JudgeAway(Duration),
    /// A checkpoint begins and the secondary does not finish it.
    Stuck,
    /// A write misses the secondary's disk; only with [`World::disk`].
    DiskMiss,
    /// An operator orders something of a side.
    Order {
        primary: bool,
        verb: Verb,
    },
}

/// The secondary's disk, which the primary's QEMU writes to.
#[derive(Debug, Default)]
struct Disk {
    /// It has missed a write.
    missed: bool,
    /// The state that the secondary has loaded contains the write.
    stale: bool,
}

#[derive(Clone, Debug)]
enum Message {
    Session(u64),
    Beat {
        sent: Mono,
        echo: Mono,
    },
    /// Of the session with this number, and when.
    Cut(u64, Mono),
    /// The secondary has loaded and owns it.
    Begin(u64),
    Bye(Parting),
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    started: Mono,
    heard: Mono,
    /// Of the last heartbeat of the peer.
    echo: Mono,
    /// Sent time of the last own heartbeat that the peer echoed.
    echoed: Mono,
    next: Mono,
    answered: bool,
    /// Secondary: the primary has said its first message.
    begun: bool,
}

impl End {
    fn new(now: Mono) -> Self {
        Self {
            started: now,
            heard: now,
            echo: Mono::ZERO,
            echoed: now,
            next: now,
            answered: false,
            begun: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vm {
    Runs,
    Frozen,
    Gone,
}

struct Side<M> {
    machine: M,
    up: bool,
    asleep_until: Mono,
    vm: Vm,
    end: Option<End>,
    inbox: VecDeque<(Mono, u64, Message)>,
    kept: Option<Memory>,
    /// Outcomes of commands, by when they are there.
    outcomes: Vec<(Mono, Step, Result<serde_json::Value, Failure>)>,
    /// QEMU is out of COLO since.
    left: Option<Mono>,
    said: Option<(Mono, Trouble)>,
}

pub(super) struct World {
    pub now: Mono,
    random: Random,
    p: Side<Primary>,
    s: Side<Secondary>,
    gate: bool,
    p_passes: bool,
    p_shut: bool,
    s_passes: bool,
    /// Connections so far: what is in flight of an old one is lost.
    connection: u64,
    next_connection: Mono,
    blocked: [Mono; 2],
    judge_away: Mono,
    /// Longest time to an answer of the judge.
    pub judge_takes: u64,
    claims: BTreeMap<u64, Claimant>,
    asked: Vec<(Mono, bool, u64, Claimant)>,
    terms: u64,
    entered: bool,
    next_checkpoint: Mono,
    stuck: Option<Mono>,
    /// The term under which the primary let output out last.
    released: Option<u64>,
    /// When it let out last what the secondary does not own.
    unowned: Option<Mono>,
    /// Sessions so far, over the same connection or not.
    session: u64,
    /// Orders that came to what was ordered.
    pub done: u32,
    pub log: Vec<String>,
    faults: Vec<(Mono, Fault)>,
    disk: Option<Disk>,
}

fn config(disk: bool) -> Config {
    let before = if disk { vec![command::nbd_server_stop().call] } else { Vec::new() };
    Config { judged: true, vm_limit: Duration::from_secs(1), lease: LEASE, before }
}

impl World {
    /// Without a disk.
    pub fn new(seed: u64, faults: Vec<(Mono, Fault)>) -> Self {
        Self::with(seed, faults, None)
    }

    /// With a replicated one.
    pub fn disk(seed: u64, faults: Vec<(Mono, Fault)>) -> Self {
        Self::with(seed, faults, Some(Disk::default()))
    }

    fn with(seed: u64, mut faults: Vec<(Mono, Fault)>, disk: Option<Disk>) -> Self {
        faults.sort_by_key(|(at, _)| *at);
        let mut orders = Vec::new();
        let config = || config(disk.is_some());
        let primary = Primary::new(config(), Claimant([1; 16]), None, &mut orders);
        let secondary = Secondary::new(config(), Claimant([2; 16]), None);
        fn side<M>(machine: M) -> Side<M> {
            Side {
                machine,
                up: true,
                asleep_until: Mono::ZERO,
                vm: Vm::Runs,
                end: None,
                inbox: VecDeque::new(),
                kept: None,
                outcomes: Vec::new(),
                left: None,
                said: None,
            }
        }
        let mut world = Self {
            now: Mono::from_millis(1000),
            random: Random(seed),
            p: side(primary),
            s: side(secondary),
            gate: false,
            p_passes: false,
            p_shut: false,
            s_passes: false,
            connection: 0,
            next_connection: Mono::ZERO,
            blocked: [Mono::ZERO; 2],
            judge_away: Mono::ZERO,
            judge_takes: 300,
            claims: BTreeMap::new(),
            asked: Vec::new(),
            terms: 0,
            entered: false,
            next_checkpoint: Mono::ZERO,
            stuck: None,
            released: None,
            unowned: None,
            session: 0,
            done: 0,
            log: Vec::new(),
            faults,
            disk,
        };
        let mut orders = Vec::new();
        world.p.machine.placed(world.now, Past::Fresh, &mut orders);
        world.primary(orders);
        let mut orders = Vec::new();
        world.s.machine.placed(Past::Fresh, false, &mut orders);
        world.secondary(orders);
        world
    }

    /// What is to go wrong, for whoever reports.
    pub fn faults(&self) -> String {
        format!("{:?}", self.faults)
    }

    fn note(&mut self, text: String) {
        self.log.push(format!("{:7.3} {text}", self.now.as_nanos() as f64 / 1e9));
    }

    fn send(&mut self, to_secondary: bool, message: Message) {
        let blocked = self.blocked[usize::from(to_secondary)] > self.now;
        let lost = if to_secondary { self.p.end.is_none() } else { self.s.end.is_none() };
        if blocked || lost {
            return;
        }
        let at = self.now + self.random.millis(0, 40);
        let connection = self.connection;
        let inbox = if to_secondary { &mut self.s.inbox } else { &mut self.p.inbox };
        let at = inbox.back().map_or(at, |(last, ..)| at.max(*last));
        inbox.push_back((at, connection, message));
    }

    fn primary(&mut self, orders: Vec<Order>) {
        for order in orders {
            self.note(format!("P {:?} ({}): {order:?}", self.p.machine.standing(), self.p.machine.why()));
            match order {
                Order::Hold => self.gate = false,
                Order::Resume => self.gate = true,
                Order::Shut => (self.gate, self.p_passes, self.p_shut) = (false, false, true),
                Order::Open => (self.gate, self.p_passes) = (true, true),
                Order::Guard => self.p_passes = false,
                Order::Ask { term, claimant, .. } => self.ask(true, term, claimant),
                Order::Command(step, _) => {
                    let at = self.now + self.random.millis(1, 30);
                    let left = self.p.left.is_some_and(|left| left <= self.now);
                    self.p.outcomes.push((at, step, outcome(step, left)));
                    if step == Step::LostHeartbeat && self.p.vm == Vm::Runs {
                        self.p.left.get_or_insert(at + Duration::from_millis(30));
                    }
                }
                Order::Bye(parting) => {
                    self.send(true, Message::Bye(parting));
                    self.close(true);
                }
                Order::Remember(memory) => self.p.kept = Some(memory),
                Order::Flush => {}
                Order::Checkpoint => self.next_checkpoint = self.now,
                Order::Pause => self.gate = true,
                Order::Anew(term) => {
                    self.session += 1;
                    if let Some(end) = &mut self.p.end {
                        (end.started, end.answered) = (self.now, false);
                    }
                    self.send(true, Message::Session(term));
                }
                Order::TakeOver => panic!("a primary does not take over"),
            }
        }
    }

    fn secondary(&mut self, orders: Vec<Order>) {
        for order in orders {
            self.note(format!("S {:?} ({}): {order:?}", self.s.machine.standing(), self.s.machine.why()));
            match order {
                Order::Ask { term, claimant, .. } => self.ask(false, term, claimant),
                Order::Command(step, _) => {
                    let at = self.now + self.random.millis(1, 30);
                    let left = self.s.left.is_some_and(|left| left <= self.now);
                    self.s.outcomes.push((at, step, outcome(step, left)));
                    if let (Step::Before(_), Some(disk)) = (step, &mut self.disk) {
                        // It is not written to any more.
                        disk.missed = true;
                    }
                    if step == Step::LostHeartbeat && self.s.vm == Vm::Runs {
                        self.s.left.get_or_insert(at + Duration::from_millis(30));
                    }
                }
                Order::Bye(parting) => {
                    self.send(false, Message::Bye(parting));
                    self.close(false);
                }
                Order::Remember(memory) => self.s.kept = Some(memory),
                Order::Shut => self.s_passes = false,
                Order::TakeOver => {
                    let term = self.s.machine.term();
                    // Terms are counted here: it may own a newer state than the primary knows of.
                    let (term, under) = (term.expect("loaded"), self.released);
                    assert!(
                        under <= Some(term),
                        "took over term {term}, the primary let out under {under:?}"
                    );
                    assert!(
                        self.disk.as_ref().is_none_or(|disk| !disk.stale),
                        "took over beside a stale disk"
                    );
                    assert!(self.unowned.is_none(), "took over in a state older than what clients were told");
                    self.s_passes = true;
                }
                other => panic!("not for a secondary: {other:?}"),
            }
        }
    }

    fn ask(&mut self, primary: bool, term: u64, claimant: Claimant) {
        // The claim may be made although its answer is lost.
        let at = self.now + self.random.millis(1, self.judge_takes);
        self.asked.push((at, primary, term, claimant));
    }

    /// One end closes the connection; the other sees it, unless nothing gets through.
    fn close(&mut self, primary: bool) {
        let end = if primary { &mut self.p.end } else { &mut self.s.end };
        if end.take().is_none() {
            return;
        }
        self.next_connection = self.now + RECONNECT;
    }

    /// What an agent notices when its link is gone.
    fn lost(&mut self, primary: bool, loss: Loss) {
        let end = if primary { self.p.end.take() } else { self.s.end.take() };
        let Some(end) = end else { return };
        self.next_connection = self.next_connection.max(self.now + RECONNECT);
        let mut orders = Vec::new();
        if primary {
            self.p.machine.lost(self.now, loss, &mut orders);
            self.primary(orders);
        } else {
            self.s.machine.lost(loss, end.heard, &mut orders);
            self.secondary(orders);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.note(format!("fault {fault:?}"));
        let later = |lasts: Duration| self.now + lasts;
        match fault {
            Fault::PrimaryHost => {
                (self.p.up, self.p.vm, self.gate, self.p_passes) = (false, Vm::Gone, false, false);
                self.p.end = None;
                // No end of the connection says so: the host is gone.
            }
            Fault::SecondaryHost => {
                (self.s.up, self.s.vm, self.s_passes) = (false, Vm::Gone, false);
                self.s.end = None;
            }
            Fault::PrimaryVm => self.p.vm = Vm::Gone,
            Fault::SecondaryVm => self.s.vm = Vm::Gone,
            Fault::PrimaryVmFrozen if self.p.vm == Vm::Runs => self.p.vm = Vm::Frozen,
            Fault::SecondaryVmFrozen if self.s.vm == Vm::Runs => self.s.vm = Vm::Frozen,
            Fault::PrimaryVmFrozen | Fault::SecondaryVmFrozen => {}
            Fault::PrimaryAgent if self.p.up => {
                let mut orders = Vec::new();
                // What is attached goes with the agent, or holds for nobody.
                (self.gate, self.p_passes) = (false, false);
                let kept = self.p.kept;
                self.p.machine = Primary::new(
                    config(self.disk.is_some()),
                    Claimant([self.random.below(200) as u8 + 3; 16]),
                    kept,
                    &mut orders,
                );
                self.p.outcomes.clear();
                self.asked.retain(|(_, primary, ..)| !primary);
                self.p.end = None;
                self.lost(false, Loss::Link);
                self.primary(orders);
                if self.p.vm == Vm::Runs {
                    let past = match (self.entered, self.p.left) {
                        (false, _) => Past::Fresh,
                        (true, None) => Past::Primary,
                        (true, Some(_)) => Past::Was,
                    };
                    let mut orders = Vec::new();
                    self.p.machine.placed(self.now, past, &mut orders);
                    self.primary(orders);
                }
                self.p.said = None;
            }
            Fault::SecondaryAgent if self.s.up => {
                self.s_passes = false;
                let kept = self.s.kept;
                self.s.machine = Secondary::new(
                    config(self.disk.is_some()),
                    Claimant([self.random.below(200) as u8 + 3; 16]),
                    kept,
                );
                self.s.outcomes.clear();
                self.asked.retain(|(_, primary, ..)| *primary);
                self.s.end = None;
                self.lost(true, Loss::Link);
                if self.s.vm == Vm::Runs {
                    let past = match (self.entered, self.s.left) {
                        (false, _) => Past::Fresh,
                        (true, None) => Past::Secondary,
                        (true, Some(_)) => Past::Was,
                    };
                    let mut orders = Vec::new();
                    let pinned = kept.is_some_and(|kept| kept.standing == Standing::Alone);
                    self.s.machine.placed(past, pinned, &mut orders);
                    self.secondary(orders);
                }
                self.s.said = None;
            }
            Fault::PrimaryAgent | Fault::SecondaryAgent => {}
            Fault::PrimaryPause(lasts) => self.p.asleep_until = later(lasts),
            Fault::SecondaryPause(lasts) => self.s.asleep_until = later(lasts),
            Fault::Reset => {
                self.connection += 1;
                let order = self.random.below(2) == 0;
                for primary in [order, !order] {
                    self.lost(primary, Loss::Link);
                }
            }
            Fault::Partition { to_secondary, to_primary, lasts } => {
                let until = later(lasts);
                if to_secondary {
                    self.blocked[1] = until;
                }
                if to_primary {
                    self.blocked[0] = until;
                }
            }
            Fault::JudgeAway(lasts) => self.judge_away = later(lasts),
            Fault::Order { primary, verb } => self.order(primary, verb),
            Fault::Stuck if self.entered => self.stuck = Some(self.now),
            Fault::Stuck => {}
            Fault::DiskMiss => {
                if let Some(disk) = self.disk.as_mut().filter(|_| self.entered) {
                    disk.missed = true;
                }
            }
        }
    }

    fn order(&mut self, primary: bool, verb: Verb) {
        let (up, asleep) =
            if primary { (self.p.up, self.p.asleep_until) } else { (self.s.up, self.s.asleep_until) };
        if !up || asleep > self.now {
            return;
        }
        self.terms += 1;
        let context = Context { judge: Prospect::Reachable, fresh: self.terms, path: true };
        let mut orders = Vec::new();
        let reply = if primary {
            self.p.machine.order(self.now, verb, &context, &mut orders)
        } else {
            self.s.machine.order(self.now, verb, &context, &mut orders)
        };
        self.note(format!("{verb}: {reply:?}"));
        self.done += u32::from(!matches!(reply, Reply::Refused(_)));
        if primary { self.primary(orders) } else { self.secondary(orders) }
    }

    pub fn step(&mut self) {
        self.now = self.now + STEP;
        while self.faults.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, fault) = self.faults.remove(0);
            self.fault(fault);
        }
        self.judge();
        self.uncut_checkpoint();
        self.connect();
        let (p_runs, s_runs) =
            (self.p.up && self.p.asleep_until <= self.now, self.s.up && self.s.asleep_until <= self.now);
        if p_runs {
            self.primary_turn();
        }
        if s_runs {
            self.secondary_turn();
        }
        self.check(p_runs);
    }

    fn judge(&mut self) {
        let due: Vec<_> = {
            let (due, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.asked).into_iter().partition(|(at, ..)| *at <= self.now);
            self.asked = rest;
            due
        };
        for (_, primary, term, claimant) in due {
            // Away: half of the time only its answer is lost.
            let away = self.judge_away > self.now;
            let claimed = !away || self.random.below(2) == 0;
            let holder = claimed.then(|| *self.claims.entry(term).or_insert(claimant));
            let answer = match holder {
                _ if away => Answer::None("away".into()),
                Some(holder) if holder == claimant => Answer::Yes,
                _ => Answer::No("the other".into()),
            };
            let text = format!("judge to {}, term {term}: {answer:?}", if primary { "P" } else { "S" });
            self.note(text);
            let mut orders = Vec::new();
            if primary && self.p.up {
                self.p.machine.answer(self.now, term, &answer, &mut orders);
                self.primary(orders);
            } else if !primary && self.s.up {
                self.s.machine.answer(self.now, term, &answer, &mut orders);
                self.secondary(orders);
            }
        }
    }

    /// QEMU makes checkpoints by itself, also where the primary's agent does not cut them.
    fn uncut_checkpoint(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let runs = self.p.vm == Vm::Runs && self.s.vm == Vm::Runs;
        let awake = self.p.up && self.p.asleep_until <= self.now;
        let cut = awake && !disk.missed
            || self.s.inbox.iter().any(|(.., message)| matches!(message, Message::Cut(..)));
        // A failover that comes while a state is loaded waits for that.
        let left = self.p.left.or(self.s.left).is_some_and(|left| left <= self.now);
        if self.entered && runs && !cut && !left && self.stuck.is_none() && self.random.below(100) == 0 {
            disk.stale = disk.missed;
            self.s.machine.confirmed(false);
            self.note("an uncut checkpoint".into());
        }
    }

    fn connect(&mut self) {
        let free = self.p.end.is_none() && self.s.end.is_none();
        let open = self.blocked.iter().all(|until| *until <= self.now);
        let awake =
            self.p.up && self.s.up && self.p.asleep_until <= self.now && self.s.asleep_until <= self.now;
        if !(free && open && awake && self.now >= self.next_connection) {
            return;
        }
        self.connection += 1;
        self.session += 1;
        self.next_connection = self.now + RECONNECT;
        self.p.end = Some(End::new(self.now));
        self.s.end = Some(End::new(self.now));
        self.terms += 1;
        let mut orders = Vec::new();
        let term = self.p.machine.session(self.terms, &mut orders);
        self.note(format!("connected, term {term:?}"));
        if let Some(term) = term {
            self.send(true, Message::Session(term));
        }
        self.primary(orders);
    }

    fn primary_turn(&mut self) {
        // The lease counts before anything that came meanwhile.
        let expired = self.p.end.as_ref().is_some_and(|end| self.now.saturating_since(end.echoed) >= LEASE);
        if expired {
            self.lost(true, Loss::Silent);
        }
        let mut orders = Vec::new();
        self.p.machine.tick(self.now, &mut orders);
        self.primary(orders);
        while let Some((at, connection, message)) = self.p.inbox.front().cloned() {
            if at > self.now {
                break;
            }
            self.p.inbox.pop_front();
            if connection != self.connection || self.p.end.is_none() {
                continue;
            }
            self.primary_hears(message);
        }
        // The peer's end is gone, and this is heard if anything is.
        let gone = self.s.end.is_none() && self.blocked[0] <= self.now && self.s.up;
        if gone && self.p.inbox.is_empty() {
            self.lost(true, Loss::Link);
        }
        self.primary_vm();
        if let Some(end) = &mut self.p.end
            && self.now >= end.next
        {
            end.next = self.now + BEAT;
            let message = Message::Beat { sent: self.now, echo: end.echo };
            self.send(true, message);
        }
        let missed = self.disk.as_ref().is_some_and(|disk| disk.missed);
        let joined = self.p.end.as_ref().is_some_and(|end| end.answered) && !missed;
        if joined && self.p.vm == Vm::Runs && self.p.left.is_none() && self.now >= self.next_checkpoint {
            self.next_checkpoint = self.now + self.random.millis(200, 1500);
            if self.stuck.is_none() {
                let mut orders = Vec::new();
                self.p.machine.cut(&mut orders);
                self.entered = true;
                self.primary(orders);
                self.send(true, Message::Cut(self.session, self.now));
            }
        }
    }

    fn primary_hears(&mut self, message: Message) {
        let Some(end) = &mut self.p.end else { return };
        end.heard = self.now;
        let mut orders = Vec::new();
        match message {
            Message::Beat { sent, echo } => {
                end.echo = sent;
                end.echoed = end.echoed.max(echo);
                if echo >= end.started && !std::mem::replace(&mut end.answered, true) {
                    self.p.machine.in_sync(&mut orders);
                }
            }
            // Of a session that was begun anew since.
            Message::Begin(session) if session != self.session => {}
            Message::Begin(_) => self.p.machine.owned(&mut orders),
            Message::Bye(parting) => return self.lost(true, Loss::Bye(parting)),
            Message::Session(_) | Message::Cut(..) => panic!("not for a primary"),
        }
        self.primary(orders);
    }

    fn primary_vm(&mut self) {
        let mut orders = Vec::new();
        let (ready, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.p.outcomes).into_iter().partition(|(at, ..)| *at <= self.now);
        self.p.outcomes = rest;
        for (_, step, outcome) in ready {
            if self.p.vm == Vm::Runs {
                self.p.machine.done(self.now, step, &outcome, &mut orders);
            }
        }
        let stuck = self.stuck.is_some_and(|since| self.now.saturating_since(since) > Duration::from_secs(1));
        // QEMU says it of every write that misses: an agent that was started since hears it too.
        if self.disk.as_ref().is_some_and(|disk| disk.missed) && self.p.vm == Vm::Runs {
            self.p.machine.trouble(self.now, Trouble::LeftColo, &mut orders);
        }
        let trouble = match self.p.vm {
            Vm::Gone => Some((Duration::from_millis(5), Trouble::Gone)),
            Vm::Frozen => Some((Duration::from_secs(1), Trouble::Frozen)),
            Vm::Runs if stuck && self.p.left.is_none() => Some((Duration::ZERO, Trouble::Stuck)),
            Vm::Runs => None,
        };
        match (trouble, self.p.said) {
            (Some((delay, trouble)), None) => self.p.said = Some((self.now + delay, trouble)),
            (Some((delay, trouble)), Some((_, said))) if said != trouble => {
                self.p.said = Some((self.now + delay, trouble));
            }
            (Some(_), Some((at, trouble))) if self.now >= at => {
                self.p.machine.trouble(self.now, trouble, &mut orders);
            }
            (None, _) => self.p.said = None,
            _ => {}
        }
        self.primary(orders);
    }

    fn secondary_turn(&mut self) {
        let mut orders = Vec::new();
        self.s.machine.tick(self.now, &mut orders);
        self.secondary(orders);
        while let Some((at, connection, message)) = self.s.inbox.front().cloned() {
            if at > self.now {
                break;
            }
            self.s.inbox.pop_front();
            if connection != self.connection || self.s.end.is_none() {
                continue;
            }
            self.secondary_hears(message);
        }
        let silent = self.s.end.as_ref().is_some_and(|end| self.now.saturating_since(end.heard) >= SILENCE);
        let gone = self.p.end.is_none() && self.blocked[1] <= self.now && self.p.up;
        if silent {
            self.lost(false, Loss::Silent);
        } else if gone && self.s.inbox.is_empty() {
            self.lost(false, Loss::Link);
        }
        self.secondary_vm();
        if let Some(end) = &mut self.s.end
            && self.now >= end.next
        {
            end.next = self.now + BEAT;
            let message = Message::Beat { sent: self.now, echo: end.echo };
            self.send(false, message);
        }
    }

    fn secondary_hears(&mut self, message: Message) {
        let Some(end) = &mut self.s.end else { return };
        end.heard = self.now;
        let mut orders = Vec::new();
        match message {
            Message::Session(term) => {
                end.begun = self.s.machine.session(term, LEASE, &mut orders);
            }
            Message::Beat { sent, echo } => {
                end.echo = sent;
                if end.begun && echo >= end.started && !std::mem::replace(&mut end.answered, true) {
                    self.s.machine.in_sync();
                }
            }
            Message::Cut(session, copied) => {
                if self.s.vm == Vm::Runs && self.s.left.is_none() {
                    self.s.machine.confirmed(true);
                    self.unowned = self.unowned.filter(|said| *said >= copied);
                    self.s.machine.loaded(&mut orders);
                    self.secondary(orders);
                    return self.send(false, Message::Begin(session));
                }
            }
            Message::Bye(parting) => return self.lost(false, Loss::Bye(parting)),
            Message::Begin(_) => panic!("not for a secondary"),
        }
        self.secondary(orders);
    }

    fn secondary_vm(&mut self) {
        let mut orders = Vec::new();
        let (ready, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.s.outcomes).into_iter().partition(|(at, ..)| *at <= self.now);
        self.s.outcomes = rest;
        for (_, step, outcome) in ready {
            if self.s.vm == Vm::Runs {
                self.s.machine.done(self.now, step, &outcome, &mut orders);
            }
        }
        let trouble = match self.s.vm {
            Vm::Gone => Some((Duration::from_millis(5), Trouble::Gone)),
            Vm::Frozen => Some((Duration::from_secs(1), Trouble::Frozen)),
            Vm::Runs => None,
        };
        match (trouble, self.s.said) {
            (Some((delay, trouble)), None) => self.s.said = Some((self.now + delay, trouble)),
            (Some((delay, trouble)), Some((_, said))) if said != trouble => {
                self.s.said = Some((self.now + delay, trouble));
            }
            (Some(_), Some((at, trouble))) if self.now >= at => {
                self.s.machine.trouble(trouble, &mut orders);
            }
            _ => {}
        }
        self.secondary(orders);
    }

    fn check(&mut self, p_runs: bool) {
        let serves = p_runs && self.gate && !self.p_shut && self.p.vm == Vm::Runs;
        assert!(!(serves && self.s_passes), "both sides speak");
        let protected = self.p.machine.standing() == Standing::Protected;
        if serves && protected && self.p.machine.why() == Why::InSync {
            self.released = self.p.machine.term();
        }
        if serves && self.p.machine.standing() == Standing::Paused {
            self.unowned = Some(self.now);
        }
        // Passing before a pair, or without one again.
        if serves && self.p.machine.standing() == Standing::Passing {
            assert!(!self.entered || self.p.left.is_some(), "a VM in COLO passes");
        }
    }

    /// Whether one side is the service now.
    pub fn settled(&self) -> Result<(), String> {
        let p = self.gate && !self.p_shut && self.p.vm == Vm::Runs && self.p.up;
        let s = self.s_passes && self.s.vm == Vm::Runs;
        if p || s {
            return Ok(());
        }
        Err(format!(
            "nobody serves: primary {} ({}), secondary {} ({})",
            self.p.machine.standing(),
            self.p.machine.why(),
            self.s.machine.standing(),
            self.s.machine.why()
        ))
    }

    /// Whether the secondary did not go on because of what its disk lacks.
    pub fn refused_stale(&self) -> bool {
        self.s.machine.why() == Why::Unconfirmed && self.disk.as_ref().is_some_and(|disk| disk.stale)
    }

    pub fn protected(&self) -> bool {
        self.p.machine.standing() == Standing::Protected
            && self.p.machine.why() == Why::InSync
            && self.s.machine.standing() == Standing::Protected
    }
}

/// What QEMU answers.
fn outcome(step: Step, left: bool) -> Result<serde_json::Value, Failure> {
    Ok(match step {
        Step::Mode => json!({ "mode": if left { "none" } else { "secondary" }, "last-mode": "none" }),
        Step::Runs => json!({ "running": true, "status": "running" }),
        _ => json!({}),
    })
}

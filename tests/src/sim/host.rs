//! One host: its VM, its data path, its end of the link and its agent; what an agent reaches of it is [`Io`].

use super::clock::Clock;
use super::keeping::Keeping;
use super::primary::PrimaryAgent;
use super::secondary::SecondaryAgent;
use super::vm::Vm;
use crate::random::Random;
use colo_user::failover::{Memory, Standing, Why};
use colo_user::judge::etcd::keeper::{Me, Tenure, Want};
use colo_user::judge::{Answer, Claimant};
use colo_user::link::buffer::Outbox;
use colo_user::link::frame::{ByeReason, Message};
use colo_user::mono::{Boot, Mono};
use colo_user::translate::{Event, Translator};
use std::collections::VecDeque;

/// What the data path does with frames: the mode word of the real one, and nothing at all where no program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Off,
    Protect,
    Secondary,
    Pass,
    Closed,
}

/// The end of a side's lease, as the kernel has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub end: Boot,
    /// Whose it is.
    pub of: Claimant,
}

/// What is in the kernel.
#[derive(Debug)]
pub(super) struct Datapath {
    pub mode: Mode,
    /// It stays when the agent goes.
    pub pinned: bool,
    /// The translation of the direct path.
    pub translator: Option<Translator>,
    /// What the guest said, with the host's time.
    pub ring: VecDeque<(Mono, Vec<u8>)>,
    /// Copies of input.
    pub mirror: VecDeque<(u64, Vec<u8>)>,
    pub next_index: u64,
    /// Where the judge gives one: nothing leaves or enters when it has ended.
    pub lease: Option<Lease>,
}

impl Datapath {
    pub const fn new() -> Self {
        Self {
            mode: Mode::Off,
            pinned: false,
            translator: None,
            ring: VecDeque::new(),
            mirror: VecDeque::new(),
            next_index: 0,
            lease: None,
        }
    }

    /// Whether there is a lease, and it has ended.
    pub fn is_over(&self, now: Boot) -> bool {
        self.lease.is_some_and(|lease| now >= lease.end)
    }

    /// A frame of the guest on the direct path; several where one was kept.
    pub fn output(&mut self, now: Mono, mut frame: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(translator) = &mut self.translator else { return vec![frame] };
        let goes = translator.output(now, &mut frame).forward();
        translated(translator, goes.then_some(frame))
    }

    /// A frame toward the guest, on any path.
    pub fn input(&mut self, now: Mono, mut frame: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(translator) = &mut self.translator else { return vec![frame] };
        let goes = translator.input(now, &mut frame).forward();
        translated(translator, goes.then_some(frame))
    }
}

fn translated(translator: &mut Translator, frame: Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = frame.into_iter().collect();
    while let Some(event) = translator.next_event() {
        if let Event::Forward(_, frame) = event {
            frames.push(frame);
        }
    }
    frames
}

/// One end of a connection between the agents.
#[derive(Debug)]
pub(super) struct End {
    /// Which connection.
    pub number: u64,
    pub outbox: Outbox,
    pub inbox: Vec<u8>,
    /// Nothing more will come.
    pub eof: bool,
}

/// What an agent does to the world.
#[derive(Debug)]
pub(super) enum Out {
    /// A frame leaves the uplink.
    Emit(Vec<u8>),
    Ask(u64, Claimant),
    /// What it is about, where the judge gives a lease.
    Want(Want, Me),
    /// This guest is the service from here on.
    Serves,
}

/// What the judge says to an agent.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Answer(u64, Answer),
    Tenure(Tenure),
}

/// What an agent reaches.
#[derive(Debug)]
pub(super) struct Io {
    pub vm: Vm,
    pub datapath: Datapath,
    pub end: Option<End>,
    /// A connection whose hellos are done.
    pub incoming: Option<End>,
    /// Ends that the agent has closed, with what it said last.
    pub closed: Vec<End>,
    pub answers: VecDeque<Said>,
    pub kept: Option<Memory>,
    pub out: Vec<Out>,
    /// A random number for each session that is offered.
    pub fresh: Random,
    /// The clock of the lease, at the beginning of the turn.
    pub boot: Boot,
}

impl Io {
    /// Closes the link, with a last word where there is one.
    pub fn close(&mut self, bye: Option<(ByeReason, String)>) {
        let Some(mut end) = self.end.take() else { return };
        if let Some((reason, text)) = bye {
            end.outbox.push(&Message::Bye { reason, text: &text });
        }
        self.closed.push(end);
    }

    /// Whether the lease has ended, where there is one.
    pub fn is_over(&self) -> bool {
        self.datapath.is_over(self.boot)
    }

    pub fn outbox(&mut self) -> Option<&mut Outbox> {
        self.end.as_mut().map(|end| &mut end.outbox)
    }
}

/// One of the two agents.
pub(super) enum Agent {
    Primary(Box<PrimaryAgent>),
    Secondary(Box<SecondaryAgent>),
}

impl Agent {
    pub fn turn(&mut self, now: Mono, io: &mut Io) {
        match self {
            Self::Primary(agent) => agent.turn(now, io),
            Self::Secondary(agent) => agent.turn(now, io),
        }
    }

    /// When its next turn is due, by the host's clock; at once where something is left to do.
    pub fn next_deadline(&self, io: &Io) -> Option<Mono> {
        match self {
            Self::Primary(agent) => agent.next_deadline(io),
            Self::Secondary(agent) => agent.next_deadline(io),
        }
    }

    pub fn standing(&self) -> (Standing, Why) {
        match self {
            Self::Primary(agent) => agent.standing(),
            Self::Secondary(agent) => agent.standing(),
        }
    }

    /// The term of its protection.
    pub fn term(&self) -> Option<u64> {
        match self {
            Self::Primary(agent) => agent.term(),
            Self::Secondary(agent) => agent.term(),
        }
    }

    pub fn held(&self) -> usize {
        match self {
            Self::Primary(agent) => agent.held(),
            Self::Secondary(_) => 0,
        }
    }
}

/// See the module.
pub(super) struct Host {
    pub clock: Clock,
    /// It has power.
    pub up: bool,
    /// It does nothing until then; its agent neither.
    pub asleep_until: Mono,
    pub agent_asleep_until: Mono,
    pub agent: Option<Agent>,
    /// The agent's thread for etcd.
    pub keeping: Option<Keeping>,
    pub io: Io,
    /// When the agent's next turn is due.
    pub turn_at: Option<Mono>,
    /// When its VM does something next.
    pub vm_at: Option<Mono>,
    /// What the guest takes for chance.
    pub entropy: Random,
    /// A fault has hit this side's VM, agent or host hard enough for it to be given up.
    pub harmed: bool,
}

impl Host {
    /// When its VM goes on, if ever.
    pub fn vm_ready(&self) -> Mono {
        self.asleep_until.max(self.io.vm.frozen_until)
    }

    /// When its agent goes on.
    pub fn agent_ready(&self) -> Mono {
        self.asleep_until.max(self.agent_asleep_until)
    }

    /// Whether its VM does anything at the moment.
    pub fn vm_lives(&self, now: Mono) -> bool {
        self.up && self.io.vm.there && self.vm_ready() <= now
    }
}

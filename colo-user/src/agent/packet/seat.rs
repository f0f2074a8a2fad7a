//! A failover machine's place in a packet thread: what it is told once, and what carries its questions out.

use super::{Asked, Command, Handle, Wanted};
use crate::agent::run::Alone;
use crate::agent::status::Lease;
use crate::datapath::LeaseEnd;
use crate::failover::verbs::{Commanded, Context, Ended, Refusal, Reply, Verb};
use crate::failover::{self, Config, Memory, Order, Primary, Secondary, Standing, Why};
use crate::judge::etcd::keeper::{Me, Tenure, Want};
use crate::judge::{Answer, Claim, Claimant, Judge, JudgeSpec, Pair};
use crate::link::frame::Role;
use crate::mono::{Boot, Mono};
use crate::qmp::command::Call;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{info, warn};

/// How an agent that follows its QEMU may go on alone.
#[derive(Debug)]
struct Right {
    /// Whom it asks; nobody, and it never goes on alone.
    judge: Option<Judge>,
    /// The pair's name to the judge.
    pair: Pair,
    /// Where it keeps what its next start must know.
    file: PathBuf,
}

impl Right {
    /// What an agent before this one kept.
    fn recall(&self) -> Option<Memory> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(
                    "{}: {error}: what an agent before this one was told is not known",
                    self.file.display()
                );
                return None;
            }
        };
        text.parse().inspect_err(|error| warn!("{}: {error}", self.file.display())).ok()
    }
}

/// Everything that a machine is made of, before it is known which.
pub struct Failover {
    config: Config,
    claimant: Claimant,
    right: Right,
    /// What the machine before it knew, where it was one of this agent.
    legacy: Option<Memory>,
    tenure: Tenure,
    pending: Option<(Verb, Asked)>,
}

impl Failover {
    /// Starts the judge on the current runtime; its answers go to `agent`.
    ///
    /// # Errors
    /// No randomness or no thread is to be had.
    pub fn new(alone: Alone, lease: Duration, vm_limit: Duration, agent: Handle) -> io::Result<Self> {
        let config = Config { judged: alone.judge.is_some(), vm_limit, lease, before: alone.before };
        tokio::spawn(JudgeSpec::warn(alone.judge.clone()));
        let holder = agent.clone();
        let answered = move |term, answer| {
            if !agent.send(Command::Judged(term, answer)) {
                warn!("the judge answered after the end of the packet thread");
            }
        };
        let told = move |tenure| {
            // After the end of the packet thread nobody is heard by it.
            let _ = holder.send(Command::Tenure(tenure));
        };
        let judge = alone
            .judge
            .map(|judge| Judge::start(judge, alone.fence, &alone.pair, answered, told))
            .transpose()?;
        let right = Right { judge, pair: alone.pair, file: alone.state };
        let (claimant, tenure) = (Claimant(random()?), Tenure::Over);
        Ok(Self { config, claimant, right, legacy: None, tenure, pending: None })
    }

    /// How long QEMU may take to answer.
    pub(super) const fn vm_limit(&self) -> Duration {
        self.config.vm_limit
    }

    /// Joined to the lease that lets frames out, where the judge gives one.
    pub(super) fn leased(self, end: LeaseEnd) -> Self {
        if let Some(judge) = &self.right.judge {
            judge.ends(move |at| end.set(at));
        }
        self
    }

    pub(super) fn primary(self) -> Seat<Primary> {
        let mut orders = Vec::new();
        let kept = self.legacy.or_else(|| self.right.recall());
        let machine = Primary::new(self.config, self.claimant, kept, &mut orders);
        let seat = Seat::new(machine, Role::Primary, self.right, orders);
        Seat { tenure: self.tenure, pending: self.pending, ..seat }
    }

    pub(super) fn secondary(self) -> Seat<Secondary> {
        let machine = Secondary::new(self.config, self.claimant, self.right.recall());
        Seat::new(machine, Role::Secondary, self.right, Vec::new())
    }
}

impl Seat<Secondary> {
    /// Whether an operator has this side become the primary's.
    pub fn is_to_lead(&self) -> bool {
        matches!(self.pending, Some((Verb::Reprotect, _)))
    }

    /// For the primary's machine, with the judge, its lease and whoever waits for an order; `before` is what that one tells QEMU
    /// before it goes on alone.
    pub fn succeed(self, before: Vec<Call>) -> Failover {
        let Self { machine, right, tenure, pending, .. } = self;
        let (claimant, legacy) = (machine.claimant(), machine.legacy());
        Failover {
            config: Config { before, ..machine.into_config() },
            claimant,
            right,
            legacy,
            tenure,
            pending,
        }
    }
}

/// See the module.
pub(super) struct Seat<M> {
    pub machine: M,
    /// Not carried out yet.
    pub orders: Vec<Order>,
    /// The peer has answered in this session.
    pub joined: bool,
    /// Epochs that the secondary owns, when last looked.
    pub commits: u64,
    right: Right,
    role: Role,
    told: (Standing, Why),
    /// The order that has not come to its end, and who waits for that.
    pending: Option<(Verb, Asked)>,
    wanted: Option<(Want, Claimant)>,
    tenure: Tenure,
}

impl<M: Commanded> Seat<M> {
    fn new(machine: M, role: Role, right: Right, orders: Vec<Order>) -> Self {
        let told = (Standing::Closed, Why::Unknown);
        let (wanted, tenure) = (None, Tenure::Over);
        Self { machine, orders, joined: false, commits: 0, right, role, told, pending: None, wanted, tenure }
    }

    pub fn ask(&self, term: u64, claimant: Claimant, fence: bool) {
        let Some(judge) = &self.right.judge else { return };
        if !self.waits() {
            info!("asking the judge for term {term:016x} as {claimant}");
        }
        judge.ask(Claim { pair: self.right.pair.clone(), term, role: self.role, claimant, fence });
    }

    /// The judge has answered; what it says again and again while it waits is logged once.
    pub fn judged(&self, term: u64, answer: &Answer) {
        if !(self.waits() && matches!(answer, Answer::NotYet(_))) {
            info!("the judge answers for term {term:016x}: {answer:?}");
        }
    }

    /// Whether the judge waits for the end of a lease, and is asked often.
    fn waits(&self) -> bool {
        self.told.1 == Why::OtherLease
    }

    /// Keeps it before anything else is done.
    pub fn remember(&self, memory: &Memory) {
        let file = &self.right.file;
        if let Err(error) = keep(file, memory) {
            warn!(
                "{}: {error}: an agent started after this one will not know where this one stood",
                file.display()
            );
        }
    }

    /// Keeps what was ordered to be kept, at once.
    pub fn remember_now(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        orders.retain(|order| match order {
            Order::Remember(memory) => {
                self.remember(memory);
                false
            }
            _ => true,
        });
        self.orders = orders;
    }

    /// Tells the judge what this side is about, where that takes a lease.
    pub fn want(&mut self, claimant: Claimant) {
        let want = failover::wants(self.role, self.machine.stands());
        if let Some(judge) = &self.right.judge
            && self.wanted.replace((want, claimant)) != Some((want, claimant))
        {
            judge.want(want, Me { claimant, role: self.role });
        }
    }

    /// It stands so with the lease from now on.
    pub fn keep_tenure(&mut self, tenure: &Tenure) {
        self.tenure = tenure.clone();
    }

    /// Whether this side has the lease that it needs to be heard; `end` is where it ends, if it needs one.
    pub const fn is_heard(&self, end: Option<Boot>) -> bool {
        end.is_none() || matches!(self.tenure, Tenure::Held(_))
    }

    /// What a status says of the lease, if one is needed.
    pub fn lease(&self, end: Option<Boot>) -> Option<Lease> {
        end.map(|end| Lease::new(&self.tenure, end.saturating_since(Boot::now())))
    }

    /// An operator orders something, or asks what would happen. `fresh` is a random term; `path` is whether the secondary's
    /// interfaces carry frames.
    pub fn ordered(&mut self, now: Mono, asked: Asked, fresh: u64, path: bool) {
        let context = Context { judge: asked.judge.clone(), fresh, path };
        let verb = match asked.wanted {
            Wanted::Order(verb) => verb,
            Wanted::Rehearsal => return asked.rehearsed(&self.machine, &context),
        };
        // Whoever waited for the last one may have left.
        let last = self.pending.as_ref().filter(|(_, asked)| !asked.is_left()).map(|(verb, _)| *verb);
        if let Some(last) = last {
            return asked.refuse(Refusal::Busy(last));
        }
        info!("ordered: {verb}");
        match self.machine.order(now, verb, &context, &mut self.orders) {
            Reply::Done(text) => asked.ended(self.machine.stands(), Ended::Done(text)),
            Reply::Begun => self.pending = Some((verb, asked)),
            Reply::Refused(refusal) => {
                info!("{verb} is refused: {refusal}");
                asked.refuse(refusal);
            }
        }
    }

    /// Logs a change, and answers whoever waits for it.
    pub fn tell(&mut self) {
        let now = self.machine.stands();
        if let Some((verb, asked)) = self.pending.take() {
            match self.machine.progress(verb) {
                Some(ended) => asked.ended(now, ended),
                None => self.pending = Some((verb, asked)),
            }
        }
        if std::mem::replace(&mut self.told, now) == now {
            return;
        }
        let (standing, why) = now;
        match standing {
            Standing::Passing | Standing::Protected => info!("{standing} ({why})"),
            _ => warn!("{standing} ({why})"),
        }
    }
}

fn keep(file: &Path, memory: &Memory) -> io::Result<()> {
    let draft = file.with_extension("state.new");
    File::create(&draft)?.write_all(memory.to_string().as_bytes())?;
    fs::rename(&draft, file)
}

/// Random bytes.
pub(in crate::agent) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

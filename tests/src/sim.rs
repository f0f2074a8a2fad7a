//! A simulator of two hosts, a judge and the networks between them and a client: the real cores of both agents (comparator,
//! translator, epochs, followers, failover machines) on simulated QEMUs, links and clocks, under schedules of what goes wrong.
//! A schedule is a seed.
//!
//! | part | here |
//! |---|---|
//! | [`primary`], [`secondary`] | a turn of each agent, as its packet thread has it; what the cores say is carried out |
//! | [`eye`], [`vm`], [`colo`] | an agent's eye on its QEMU, a QEMU, and two of them in COLO with their order of events |
//! | [`guest`], [`client`] | a server of which two replicas differ now and then, and who remembers what it said |
//! | [`network`], [`switch`] | the link (TCP), the client's switch that knows who spoke |
//! | [`judge`], [`keeping`], [`etcd`] | the judge `lock:`; that of etcd, with the real keeper in each agent, and its members |
//! | [`operator`] | gives a survivor a new secondary; promotes a side that has lost its translation, if nobody else is left |
//! | [`orders`] | what an operator may order at any time |
//! | [`fault`], [`world`], [`schedule`] | what goes wrong, the queue of events, one schedule from its seed to its verdict |
//!
//! Checked at every step, and at the end:
//!
//! 1. Only the service speaks: nothing leaves the other side's uplink from the moment that a side goes on alone. With etcd nobody
//!    speaks, or could by what its kernel has, who does not have the role by the members' own time.
//! 2. Nothing that the client saw is taken back: it hears no other byte, number or answer where it heard one, no reset, and
//!    whoever goes on alone has said all that it heard and owns all that it was told to have.
//! 3. Once the judge answers (of etcd's members a majority), and all that went wrong has ended or has hit one side only, one side
//!    serves within [`BOUND`], or [`BOUND_ETCD`], unless the right went to a side that was then lost, or an operator has closed
//!    it. Where that takes an operator's order, the connections of the pair are forgone, and others are served.
//! 4. Then every question of the client is answered, and nothing is held.
//!
//! What the simulator has of its own and of which nothing is decided by it: QEMU, kernel (the direct path is the translator of
//! the agents, where the real one is its twin in XDP), TCP of the link, clocks of different rates up to [`MAX_DRIFT_PPM`].

mod client;
mod clock;
mod colo;
mod etcd;
mod eye;
mod fault;
mod guest;
mod harm;
mod host;
mod judge;
mod keeping;
mod network;
mod operator;
mod orders;
mod primary;
mod schedule;
mod secondary;
pub mod soak;
mod switch;
mod verdict;
mod vm;
mod world;

pub use clock::MAX_DRIFT_PPM;
pub use schedule::{BOUND, BOUND_ETCD, Failed, Plan, run, shortest};
pub use verdict::{Outcome, Violation};

use std::time::Duration;

/// After so long without an answer the primary stops, and either side gives the other up.
const PEER_LIMIT: Duration = Duration::from_secs(1);
/// A QEMU answers in this time, and a guest runs again in it.
const VM_LIMIT: Duration = Duration::from_secs(1);

/// Whom the agents ask who goes on alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JudgeKind {
    /// `lock:`, a claim for good.
    #[default]
    Lock,
    /// `etcd:`, a claim, and a lease without which nobody is heard.
    Etcd,
}

impl JudgeKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Lock, Self::Etcd];

    /// Its name, as the agents' option has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Etcd => "etcd",
        }
    }
}

/// What is broken on purpose, outside of the cores, so that the simulator can show that it would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The judge says yes to everybody; etcd carries a transaction out whatever has changed since its keys were looked at.
    NoFencing,
    /// The secondary believes in a lease that is a tenth of the one after which the primary stops by itself; that of etcd counts here
    /// from the answer, and no drift is taken off.
    LongLease,
    /// The primary's STOP for a checkpoint releases what is held, whether the secondary ever loads or not.
    EarlyRelease,
    /// A secondary takes the RESUME of a failover for that of a loaded state, and forgets its translation.
    FailoverResets,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoFencing, Self::LongLease, Self::EarlyRelease, Self::FailoverResets];

    /// Its name, as `--broken` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFencing => "no-fencing-token",
            Self::LongLease => "lease-longer-than-self-fence",
            Self::EarlyRelease => "release-before-commit",
            Self::FailoverResets => "translation-reset-at-failover",
        }
    }
}

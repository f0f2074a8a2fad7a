//! Who goes on alone, and how: one machine per role. No I/O, no clock: what happened and `now` in, [`Order`]s out.
//!
//! A lost link and a lost host look the same from either end. So nobody goes on by its own opinion: both ask a judge
//! ([`crate::judge`]), which says yes to at most one side in a *term*, the life of one protection. Until then the primary
//! lets nothing out and loses nothing, and the secondary stays closed.
//!
//! ```text
//! primary      passing ──first cut──▶ protected ◀──checkpoint── holding ◀──▶ (link back)
//!                 ▲                       │ peer lost, COLO left,  ▲│ grace over
//!                 │                       │ checkpoint overdue     │▼
//!                 │                       └───────────▶ holding ─▶ asking ──no──▶ closed, in time
//!                 │ a new secondary                                  │yes
//!               alone ◀──the guest runs── taking-over ◀──────────────┘
//!              own VM gone or frozen, peer took over: closed, from anywhere but alone
//!
//! secondary    closed ──state loaded, in sync──▶ protected ──peer lost──▶ holding
//!                                                   │ primary is closed     │ its lease is over
//!                                                   └───────▶ asking ◀──────┘
//!              alone ◀──the guest runs── taking-over ◀──yes──┘ └──no──▶ closed
//! ```
//!
//! # Why never two
//!
//! * The primary lets output out only in *protected*, while its lease lasts: until `lease` after it said the last
//!   thing that the secondary confirms to have heard. The secondary asks only `lease` and a margin after the last thing that it
//!   heard. By then the primary has stopped by itself, be it cut off, frozen or dead. A primary that says `closed` has
//!   dropped what it held before it said so.
//! * The secondary asks only if it has loaded a state in this term. What the primary said since is either what the secondary
//!   has said as well, or was never let out.
//! * With a replicated disk the secondary goes on only in a state that the primary's agent has *cut*. A write that the disk misses is
//!   told to that agent before any later checkpoint is, and it cuts none of them: so a state that may hold what the disk lacks
//!   is never served, whoever dies when. In the state before it the secondary's guest has made the write itself.
//! * A side that has asked stays bound: an answer may be on its way, or lost. It meets its peer again only in another
//!   term, which the primary draws. The old one ends for the secondary when it loads a state of the new one: until then it may
//!   still get its yes, and takes over in the old state. It ends for the primary when it knows of that load; if the primary is alone
//!   before that, but after the cut, it needs a yes in both. So nobody gives a right up for a promise, and whoever has the old
//!   term's no is followed by a peer that has the old term or the new.
//! * A secondary whose agent was started again after it had asked may have the yes, and cannot use it: the translation of its
//!   guest's connections went with the one that knew which state is loaded. It stays closed until it loads a state of another
//!   term. So a primary that was told no lets nothing out, but holds for a while in which it can be met in one.
//!
//! Where the judge gives a lease (etcd), who is heard holds it, and XDP lets nothing out beyond its end. A primary whose lease is
//! over leaves its peer and does not meet it again before it has it back: a secondary that reaches the judge may follow. Who was
//! followed is closed.
//!
//! A secondary that is alone becomes a primary that is ([`Secondary::may_lead`]), as one that is started again on what it
//! remembers: nobody is asked, for it has the yes.
//!
//! By file: [`primary`] and [`secondary`] are the machines, [`takeover`] is what they say to their QEMU when they go on
//! alone, [`verbs`] is what an operator may order, [`watch`] tells a frozen QEMU, [`elsewhere`] is what other links say of the peer,
//! [`memory`] is what an agent must know when it is started again.

pub mod elsewhere;
pub mod memory;
pub mod primary;
pub mod secondary;
pub mod takeover;
pub mod verbs;
pub mod watch;

pub use elsewhere::Elsewhere;
pub use memory::Memory;
pub use primary::Primary;
pub use secondary::Secondary;
pub use watch::Watch;

use crate::judge::Claimant;
use crate::judge::etcd::keeper::Want;
use crate::link::frame::{ByeReason, Role};
use crate::mono::Mono;
use crate::path::{Fault, Side};
use crate::qmp::command::{self, Call};
use crate::qmp::{ColoMode, MigrationStatus, Snapshot};
use std::fmt;
use std::time::Duration;
use takeover::Step;

/// A judge that has given no answer is asked again after this time.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A judge that waits for the end of the other side's lease is asked again after this time: each client waits as long.
pub const ASK_SOON: Duration = Duration::from_millis(100);
/// A link that broke may come back in this time before the primary asks the judge.
pub const GRACE: Duration = Duration::from_secs(1);

/// What a side does: a word of `colo status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Primary: there is no pair, output leaves at once.
    Passing,
    /// The other side could go on in this one's place.
    Protected,
    /// Nothing leaves, and nothing is lost. Secondary: nothing leaves, and the primary may still be there.
    Holding,
    /// As above, and the judge was asked.
    Asking,
    /// The judge said yes, and the VM is being told.
    TakingOver,
    /// This side is the service, without a second.
    Alone,
    /// Primary: an operator has switched protection off. Output leaves at once; the secondary can never take over in the
    /// term that it was protected in.
    Paused,
    /// Nothing leaves and nothing will. Secondary: nor could it.
    Closed,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Passing,
        Self::Protected,
        Self::Holding,
        Self::Asking,
        Self::TakingOver,
        Self::Alone,
        Self::Paused,
        Self::Closed,
    ];

    /// The word, an interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Protected => "protected",
            Self::Holding => "holding",
            Self::Asking => "asking",
            Self::TakingOver => "taking-over",
            Self::Alone => "alone",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a side stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its QEMU has not said yet where the VM is.
    Unknown,
    /// The VM never was in COLO.
    Fresh,
    /// The agents have met and the secondary owns a state.
    InSync,
    /// The peer is there; the secondary does not own a state of this term, or not one since the peer came back.
    AwaitsCheckpoint,
    /// The link broke.
    PeerLost,
    /// The link stands and nothing comes.
    PeerSilent,
    /// The link is lost, and the peer is heard elsewhere.
    LinkLost,
    /// The uplink of the primary has no carrier, and the secondary was asked to go on in its place.
    UplinkDark,
    /// Likewise, and it is gone, set down, or has lost its program.
    UplinkLost,
    /// The interface of the guest carries nothing: a primary has asked the secondary to go on in its place, a secondary has left
    /// the pair.
    GuestLost,
    /// The peer's agent ended.
    PeerLeft,
    /// The peer says that its VM is gone or frozen.
    PeerVmGone,
    /// The primary says that it is closed.
    PeerClosed,
    /// The peer goes on alone.
    PeerTookOver,
    /// This side's QEMU has left COLO.
    LeftColo,
    /// The VM was stopped for a checkpoint and does not run again, or one is due and none begins.
    CheckpointOverdue,
    /// This side's QEMU is gone.
    VmGone,
    /// This side's QEMU does not answer.
    VmFrozen,
    /// The agent was started on a VM that is, or was, in COLO.
    AgentRestarted,
    /// The agent does not know which term to ask for.
    TermUnknown,
    /// There is no judge to ask.
    NoJudge,
    /// The judge gives no answer.
    JudgeSilent,
    /// The judge waits for the end of the other side's lease.
    OtherLease,
    /// The judge says that the other side goes on.
    JudgeSaidNo,
    /// The judge said yes to this side.
    JudgeSaidYes,
    /// The judge said yes, and the other side could not be shut off.
    NotFenced,
    /// The lease was not renewed in time.
    LeaseOver,
    /// Another has had the lease since.
    LeaseTaken,
    /// The VM is the other side of its pair.
    WrongRole,
    /// Secondary: its disk may lack what is in the state that it has loaded.
    Unconfirmed,
    /// Secondary: an agent before this one had asked the judge, and took with it what the guest's connections are spoken by.
    TranslationLost,
    /// An operator closed this side.
    Demoted,
    /// An operator handed the service to the other side.
    HandedOver,
    /// An operator has this side go on without a yes of the judge.
    Forced,
    /// An operator has switched protection off.
    Paused,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::Unknown,
        Self::Fresh,
        Self::InSync,
        Self::AwaitsCheckpoint,
        Self::PeerLost,
        Self::PeerSilent,
        Self::LinkLost,
        Self::UplinkDark,
        Self::UplinkLost,
        Self::GuestLost,
        Self::PeerLeft,
        Self::PeerVmGone,
        Self::PeerClosed,
        Self::PeerTookOver,
        Self::LeftColo,
        Self::CheckpointOverdue,
        Self::VmGone,
        Self::VmFrozen,
        Self::AgentRestarted,
        Self::TermUnknown,
        Self::NoJudge,
        Self::JudgeSilent,
        Self::OtherLease,
        Self::JudgeSaidNo,
        Self::JudgeSaidYes,
        Self::NotFenced,
        Self::LeaseOver,
        Self::LeaseTaken,
        Self::WrongRole,
        Self::Unconfirmed,
        Self::TranslationLost,
        Self::Demoted,
        Self::HandedOver,
        Self::Forced,
        Self::Paused,
    ];

    /// The text in status and log, an interface.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "vm not known yet",
            Self::Fresh => "never in COLO",
            Self::InSync => "in sync",
            Self::AwaitsCheckpoint => "awaits a checkpoint",
            Self::PeerLost => "peer lost",
            Self::PeerSilent => "peer silent",
            Self::LinkLost => "link lost",
            Self::UplinkDark => "uplink without carrier",
            Self::UplinkLost => "uplink lost",
            Self::GuestLost => "guest interface lost",
            Self::PeerLeft => "peer left",
            Self::PeerVmGone => "peer's vm gone",
            Self::PeerClosed => "peer closed",
            Self::PeerTookOver => "peer took over",
            Self::LeftColo => "left COLO",
            Self::CheckpointOverdue => "checkpoint overdue",
            Self::VmGone => "vm gone",
            Self::VmFrozen => "vm frozen",
            Self::AgentRestarted => "agent restarted",
            Self::TermUnknown => "term unknown",
            Self::NoJudge => "no judge",
            Self::JudgeSilent => "judge silent",
            Self::OtherLease => "other side's lease",
            Self::JudgeSaidNo => "judge said no",
            Self::JudgeSaidYes => "judge said yes",
            Self::NotFenced => "other side not fenced",
            Self::LeaseOver => "lease over",
            Self::LeaseTaken => "lease taken",
            Self::WrongRole => "vm in the other role",
            Self::Unconfirmed => "state not confirmed",
            Self::TranslationLost => "translation lost",
            Self::Demoted => "demoted",
            Self::HandedOver => "handed over",
            Self::Forced => "forced",
            Self::Paused => "paused",
        }
    }
}

impl Why {
    /// What an operator can do where a side does not go on by itself.
    #[must_use]
    pub const fn way_out(self) -> Option<&'static str> {
        match self {
            Self::TranslationLost => Some(
                "the service goes on with every connection once the primary is back and makes a checkpoint; if it is off, \
                 `colo promote --force` here has the service without the connections of the pair",
            ),
            Self::UplinkDark | Self::UplinkLost | Self::GuestLost => Some(
                "put the interface right (`colo status` says what is wrong with it), and protect the survivor again with a new VM \
                 here",
            ),
            _ => None,
        }
    }
}

impl Why {
    /// What an interface that carries nothing is to a side that leaves because of it.
    #[must_use]
    pub const fn of_path(side: Side, fault: &Fault) -> Self {
        match (side, fault) {
            (Side::Guest, _) => Self::GuestLost,
            (Side::Uplink, Fault::NoCarrier) => Self::UplinkDark,
            (Side::Uplink, _) => Self::UplinkLost,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// How the peer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The link broke, or was closed for what came over it.
    Link,
    /// The link stands and nothing came for the time limit.
    Silent,
    /// Its agent said goodbye, for this reason.
    Bye(Parting),
}

/// Why an agent closes the link, as far as it decides who may go on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// It is closed, and all that it held is dropped.
    Closed,
    /// Secondary: its VM is gone or frozen.
    VmGone,
    /// It goes on alone.
    TookOver,
    /// Secondary: it does not join a term in which it has asked the judge.
    Refused,
    /// For any other reason.
    Left,
}

impl From<ByeReason> for Parting {
    fn from(reason: ByeReason) -> Self {
        match reason {
            ByeReason::Closed => Self::Closed,
            ByeReason::VmGone => Self::VmGone,
            ByeReason::TookOver => Self::TookOver,
            ByeReason::Refused => Self::Refused,
            ByeReason::Exit | ByeReason::Protocol | ByeReason::Stalled => Self::Left,
        }
    }
}

impl Parting {
    /// What the peer is told, for the machine and for people.
    #[must_use]
    pub const fn bye(self) -> (ByeReason, &'static str) {
        match self {
            Self::Closed => (ByeReason::Closed, "this side is closed, and all that it held is dropped"),
            Self::VmGone => (ByeReason::VmGone, "the secondary's VM is gone or does not answer"),
            Self::TookOver => (ByeReason::TookOver, "this side goes on alone"),
            Self::Refused => (ByeReason::Refused, "the judge was asked in this term"),
            Self::Left => (ByeReason::Exit, "not now"),
        }
    }
}

impl Loss {
    const fn why(self) -> Why {
        match self {
            Self::Link => Why::PeerLost,
            Self::Silent => Why::PeerSilent,
            Self::Bye(Parting::Closed) => Why::PeerClosed,
            Self::Bye(Parting::VmGone) => Why::PeerVmGone,
            Self::Bye(Parting::TookOver) => Why::PeerTookOver,
            Self::Bye(_) => Why::PeerLeft,
        }
    }
}

/// What is wrong with this side's own VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its QEMU is gone, or the guest is off.
    Gone,
    /// Its QEMU does not answer.
    Frozen,
    /// It was stopped for a checkpoint and does not run again in time.
    Stuck,
    /// Primary: a checkpoint is due and none begins, though the VM runs and the secondary's agent is there.
    NoCheckpoint,
    /// QEMU has left COLO.
    LeftColo,
    /// QEMU has left COLO, and the guest stands still since.
    Stranded,
}

/// Where a VM is when an agent first looks, as far as it decides who may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It never was in COLO.
    Fresh,
    /// It is the primary of a pair.
    Primary,
    /// It is the secondary of a pair.
    Secondary,
    /// It was in COLO once, on either side, and is no more.
    Was,
}

impl Past {
    /// What a look at QEMU says.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        match (snapshot.colo.mode, snapshot.colo.last_mode) {
            (ColoMode::Primary, _) => Self::Primary,
            (ColoMode::Secondary, _) => Self::Secondary,
            _ if snapshot.migration == Some(MigrationStatus::Colo) => Self::Primary,
            (_, ColoMode::Primary | ColoMode::Secondary) => Self::Was,
            _ => Self::Fresh,
        }
    }
}

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// From here on nothing leaves, and nothing is lost.
    Hold,
    /// What was decided meanwhile is carried out, in order; from here on it leaves as the comparator says.
    Resume,
    /// What may leave by now leaves before anything that follows.
    Flush,
    /// All that is held is dropped, and nothing leaves or enters any more.
    Shut,
    /// Primary: all that is held leaves in order, then everything goes straight through.
    Open,
    /// Primary: nothing goes straight through any more, what the guest says is taken and leaves as the comparator says.
    Guard,
    /// Primary: have a checkpoint made.
    Checkpoint,
    /// Primary: all that is held leaves in order, then everything at once, with the pair kept.
    Pause,
    /// Primary: the session begins anew, in this term: at its first checkpoint protection is on again.
    Anew(u64),
    /// Secondary: the guest is the service: it gets the input withheld from it, its translation goes into the kernel and
    /// stays there, what it said and the client may lack leaves first, then everything goes straight through; announce it.
    TakeOver,
    /// Ask the judge.
    Ask {
        /// In which term.
        term: u64,
        /// As whom.
        claimant: Claimant,
        /// Whether the other side is to be shut off upon a yes: not where the pair is kept, nor where it has said that it is closed.
        fence: bool,
    },
    /// Give QEMU a command; how it ended goes to `done` with the step.
    Command(Step, Call),
    /// Close the link with this reason, if there is a link.
    Bye(Parting),
    /// Keep this over restarts of the agent, before anything that follows.
    Remember(Memory),
}

impl Order {
    /// The guest of a side that is closed for good stands still: it writes nothing any more either. A QEMU that is frozen
    /// does it when it runs again.
    fn halt() -> Self {
        Self::Command(Step::Push, command::stop().call)
    }
}

/// What both machines are told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether there is a judge, or none is needed.
    pub judged: bool,
    /// A guest must run in this time after a takeover was ordered.
    pub vm_limit: Duration,
    /// Primary: a peer that has not answered for this long is silent, and output stops.
    pub lease: Duration,
    /// What to tell QEMU before it goes on alone, in order: what the disk needs.
    pub before: Vec<Call>,
}

impl Config {
    /// How much later than the end of the primary's lease the secondary asks: clocks that run at different rates, and a
    /// start for the primary where both are alive.
    #[must_use]
    pub fn margin(lease: Duration) -> Duration {
        (lease / 4).max(Duration::from_millis(250))
    }
}

/// What a side that stands so wants of the lease, where the judge gives one.
#[must_use]
pub const fn wants(role: Role, (standing, why): (Standing, Why)) -> Want {
    match (role, standing, why) {
        (_, Standing::TakingOver | Standing::Alone, Why::Forced) => Want::Forced,
        (Role::Primary, Standing::Passing | Standing::Protected, _) => Want::Fresh,
        // What it is was not said yet.
        (Role::Primary, Standing::Holding, Why::Unknown) => Want::Nothing,
        (Role::Primary, Standing::Closed, _) => Want::Release,
        (_, Standing::TakingOver | Standing::Alone, _) | (Role::Primary, _, _) => Want::Again,
        // The claim brings it; before the VM is known it is perhaps that of an agent before this one.
        (Role::Secondary, Standing::Asking, _) | (Role::Secondary, _, Why::Unknown) => Want::Nothing,
        // What came with a yes that nobody waits for any more is in the way of the primary.
        (Role::Secondary, _, _) => Want::Release,
    }
}

/// A question to the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    /// Set once there was no answer: when to ask again.
    again: Option<Mono>,
}

#[cfg(test)]
mod tests;

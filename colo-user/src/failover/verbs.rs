//! What an operator may order of a running agent, and why it is refused: words and texts. The machines decide
//! ([`super::primary`], [`super::secondary`]); the control socket carries verb and [`Reply`].
//!
//! ```text
//!          ┌─▶ refused: nothing was changed
//!   order ─┼─▶ done
//!          └─▶ begun ──▶ done, or failed: what holds now is told
//! ```

use super::{Config, Order, Standing, Why};
use crate::judge::Prospect;
use crate::mono::Mono;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A planned failover whose checkpoint has not come by then is given up; the pair stays as it is.
pub const PLAN_LIMIT: Duration = Duration::from_secs(30);

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Go on alone, now.
    Promote {
        /// Also if the judge gives no answer, or says no.
        force: bool,
    },
    /// Close this side for good.
    Demote,
    /// Protection off, with the pair kept.
    Pause,
    /// Protection on again.
    Resume,
    /// Hand the service to the secondary, after a fresh checkpoint.
    Failover,
    /// Be the primary's agent of the next pair.
    Reprotect,
}

impl Verb {
    /// The word on command line and control socket.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::Demote => "demote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Failover => "failover",
            Self::Reprotect => "reprotect",
        }
    }

    /// The verb of a word.
    #[must_use]
    pub fn named(word: &str, force: bool) -> Option<Self> {
        Self::all(force).into_iter().find(|verb| verb.word() == word)
    }

    const fn all(force: bool) -> [Self; 6] {
        [Self::Promote { force }, Self::Demote, Self::Pause, Self::Resume, Self::Failover, Self::Reprotect]
    }

    /// What `--force` risks.
    #[must_use]
    pub const fn risk(self) -> Option<&'static str> {
        match self {
            Self::Promote { force: true } => Some(
                "nobody has ruled out that the other side speaks as well: if it does, clients hear two sides, and what it has \
                 said since is lost",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why an order is not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The agent does not follow its QEMU.
    NoQemu,
    /// Another order has not come to its end.
    Busy(Verb),
    /// The verb is for the other side's agent.
    OtherSide,
    /// Where the VM is has not been said yet.
    VmUnknown,
    /// The primary's agent is there and answers.
    PeerThere,
    /// The agents have met; the checkpoint that makes a pair of them has not come.
    AwaitsCheckpoint,
    /// This secondary owns no state of a running protection.
    NoState,
    /// The other side has gone on alone: what this one has is old.
    Stale,
    /// The disk may lack what is in the state here.
    Unconfirmed,
    /// Connections of clients would break.
    TranslationLost,
    /// This side is closed for good.
    Closed(Why),
    /// The pair is not in sync.
    NotInSync(Standing, Why),
    /// No judge was given.
    NoJudge,
    /// Nobody is asked: a yes means nothing.
    Unfenced,
    /// The judge cannot be asked now.
    JudgeUnreachable(String),
    /// The judge said that the other side goes on.
    JudgeSaidNo,
    /// The state file is lost: there is nothing to ask for.
    TermUnknown,
    /// Nothing is paused.
    NotPaused(Standing),
    /// This secondary has not taken over.
    NotAlone(Standing, Why),
    /// An interface of the secondary carries nothing.
    NoPath,
}

impl Refusal {
    /// The word for machines, an interface.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoQemu => "no-qemu",
            Self::Busy(_) => "busy",
            Self::OtherSide => "other-side",
            Self::VmUnknown => "vm-unknown",
            Self::PeerThere => "peer-there",
            Self::AwaitsCheckpoint => "awaits-checkpoint",
            Self::NoState => "no-state",
            Self::Stale => "stale",
            Self::Unconfirmed => "unconfirmed",
            Self::TranslationLost => "translation-lost",
            Self::Closed(_) => "closed",
            Self::NotInSync(..) => "not-in-sync",
            Self::NoJudge => "no-judge",
            Self::Unfenced => "unfenced",
            Self::JudgeUnreachable(_) => "judge-unreachable",
            Self::JudgeSaidNo => "judge-said-no",
            Self::TermUnknown => "term-unknown",
            Self::NotPaused(_) => "not-paused",
            Self::NotAlone(..) => "not-alone",
            Self::NoPath => "no-path",
        }
    }

    /// All words.
    pub const WORDS: [&'static str; 20] = [
        "no-qemu",
        "busy",
        "other-side",
        "vm-unknown",
        "peer-there",
        "awaits-checkpoint",
        "no-state",
        "stale",
        "unconfirmed",
        "translation-lost",
        "closed",
        "not-in-sync",
        "no-judge",
        "unfenced",
        "judge-unreachable",
        "judge-said-no",
        "term-unknown",
        "not-paused",
        "not-alone",
        "no-path",
    ];

    /// What else to do.
    #[must_use]
    pub const fn way_out(&self) -> &'static str {
        match self {
            Self::NoQemu => "start the agent with --qmp",
            Self::Busy(_) => "wait for its end: `colo status`",
            Self::OtherSide => "give the order to the other host's agent",
            Self::VmUnknown => "see whether QEMU runs and its monitor at --qmp is this agent's alone",
            Self::PeerThere => "`colo failover --planned` on the primary's host",
            Self::AwaitsCheckpoint => "wait until `colo status` says protected",
            Self::NoState => "`colo protect` makes this VM the secondary of a running one",
            Self::Stale => "start a new VM here and protect the service by it: `colo protect`",
            Self::Unconfirmed => {
                "start the primary's agent again if its VM runs: the next checkpoint that it cuts confirms the state here"
            }
            Self::TranslationLost => {
                "bring the primary back, and the next checkpoint keeps them; or `colo promote --force` if you know that it is off"
            }
            Self::Closed(_) => {
                "start `colo secondary` here on a new VM and protect the service by it: `colo protect`"
            }
            Self::NotInSync(..) => "wait until `colo status` says protected; it says what is in the way",
            Self::NoJudge => {
                "start the agents with --judge; if the other side is lost, and you know that it is off, `colo promote --force` goes on here"
            }
            Self::Unfenced => {
                "start the agents with --judge, which keeps the secondary from taking over in an old state"
            }
            Self::JudgeUnreachable(_) => "make the judge reachable",
            Self::JudgeSaidNo => "look at the other host; `colo promote --force` if you know that it is off",
            Self::TermUnknown => "`colo promote --force` if you know that the other side is off",
            Self::NotPaused(_) => {
                "`colo pause` comes before; a survivor is protected again by `colo protect`"
            }
            Self::NotAlone(..) => "`colo promote` comes before, if the primary is not there",
            Self::NoPath => "`colo status` on the secondary's host says what is wrong with it",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQemu => f.write_str("this agent does not follow its QEMU: it decides nothing"),
            Self::Busy(verb) => write!(f, "`{verb}` has not come to its end"),
            Self::OtherSide => f.write_str("this is the secondary's agent"),
            Self::VmUnknown => f.write_str("QEMU has not said yet where the VM is"),
            Self::PeerThere => f.write_str("the primary's agent is connected and answers"),
            Self::AwaitsCheckpoint => f.write_str("the agents have met, and await a checkpoint"),
            Self::NoState => f.write_str("this VM owns no state of a running protection"),
            Self::Stale => f.write_str(
                "the other side has gone on alone: the state here is older than what clients were told",
            ),
            Self::Unconfirmed => f.write_str(
                "the primary's agent has not confirmed the state here: the replicated disk may lack what is in it",
            ),
            Self::TranslationLost => f.write_str(
                "the agent was started anew after it had asked the judge: clients' connections would break",
            ),
            Self::Closed(why) => write!(f, "this side is closed for good ({why})"),
            Self::NotInSync(standing, why) => write!(f, "the pair is not in sync: {standing} ({why})"),
            Self::NoJudge => f.write_str("no judge was given: nobody can say that the other side is off"),
            Self::Unfenced => {
                f.write_str("--allow-unfenced asks nobody: the secondary could take over later")
            }
            Self::JudgeUnreachable(text) => write!(f, "the judge cannot be asked: {text}"),
            Self::JudgeSaidNo => f.write_str("the judge said that the other side goes on"),
            Self::TermUnknown => f.write_str("the state file is lost: there is no term to ask the judge for"),
            Self::NotPaused(standing) => write!(f, "nothing is paused: this side is {standing}"),
            Self::NotAlone(standing, why) => {
                write!(f, "this secondary has not taken over: {standing} ({why})")
            }
            Self::NoPath => f.write_str("an interface of the secondary carries nothing: nobody would hear it"),
        }
    }
}

/// What a machine says to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is so: what holds now.
    Done(&'static str),
    /// On its way; [`Commanded::progress`] says when it has ended.
    Begun,
    /// Nothing was changed.
    Refused(Refusal),
}

/// How an order that was begun has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What holds now.
    Done(&'static str),
    /// It came to something else: what, with the standing for the rest.
    Failed(&'static str),
}

/// What comes with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whether the judge could be asked.
    pub judge: Prospect,
    /// A random term.
    pub fresh: u64,
    /// Whether the secondary's interfaces carry frames, as far as is known.
    pub path: bool,
}

/// A machine that takes orders.
pub trait Commanded {
    /// What it does, and why.
    fn stands(&self) -> (Standing, Why);

    /// An operator orders it.
    fn order(&mut self, now: Mono, verb: Verb, context: &Context, out: &mut Vec<Order>) -> Reply;

    /// How the order has ended, once it has.
    fn progress(&self, verb: Verb) -> Option<Ended>;

    /// What would become of the service if the primary were lost now, and what speaks against it.
    fn rehearse(&self, context: &Context) -> Rehearsal;
}

/// One thing that a takeover depends on. Field names are an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `pair`, `judge`, `lease`, `disk` or `path`.
    pub name: &'static str,
    /// Whether it is as it must be; null if that is not known beforehand.
    pub ok: Option<bool>,
    /// What was found.
    pub text: String,
}

/// A takeover that is only thought through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// What would happen.
    pub would: &'static str,
    /// What it depends on.
    pub checks: Vec<Check>,
}

impl Rehearsal {
    /// As it would be, with the pair as `standing` says, and the secondary waiting for `lease`.
    #[must_use]
    pub fn new(
        (standing, why): (Standing, Why),
        lease: Duration,
        config: &Config,
        Context { judge, path, .. }: &Context,
        disk: &'static str,
    ) -> Self {
        let (ok, text) = match judge {
            Prospect::None => (Some(false), "none was given: nobody goes on alone".to_owned()),
            Prospect::Unfenced => (Some(true), "nobody is asked: both sides may speak".to_owned()),
            Prospect::Reachable => (Some(true), "it can be asked".to_owned()),
            Prospect::Unreachable(text) => (Some(false), text.clone()),
            Prospect::Unknown(text) => (None, text.clone()),
        };
        let in_sync = standing == Standing::Protected && why == Why::InSync;
        let wait = lease + Config::margin(lease);
        let calls: Vec<_> = config.before.iter().map(|call| &*call.name).collect();
        let disk_text = if calls.is_empty() {
            format!("no command for a disk comes before {disk}")
        } else {
            format!("{} before {disk}", calls.join(", "))
        };
        let checks = vec![
            Check { name: "pair", ok: Some(in_sync), text: format!("{standing} ({why})") },
            Check { name: "judge", ok, text },
            Check {
                name: "lease",
                ok: Some(true),
                text: format!(
                    "a primary that is cut off is waited for at most {wait:?}; one that says that it is closed is not waited for"
                ),
            },
            Check { name: "disk", ok: Some(true), text: disk_text },
            Check {
                name: "path",
                ok: Some(*path),
                text: if *path {
                    "the secondary's interfaces carry frames".to_owned()
                } else {
                    Refusal::NoPath.to_string()
                },
            },
        ];
        let possible = checks.iter().all(|check| check.ok != Some(false));
        let would = match (possible, ok) {
            (true, None) => "the secondary takes over if the judge says yes",
            (true, _) => "the secondary takes over",
            (false, _) => "the secondary does not take over: the service stands still",
        };
        Self { would, checks }
    }

    /// Whether nothing is known to speak against it.
    #[must_use]
    pub fn possible(&self) -> bool {
        self.checks.iter().all(|check| check.ok != Some(false))
    }
}

#[cfg(test)]
mod tests;

//! Who may go on alone: a judge says yes to at most one side in one term of protection.
//!
//! A lost link and a lost host look the same from either end, so neither side goes on by its own opinion. The judge is
//! something that both hosts reach and that neither of them is:
//!
//! | option | judge |
//! |---|---|
//! | `lock:DIRECTORY` | a claim, made as a file in a directory that both hosts have mounted ([`lock`]) |
//! | `exec:COMMAND` | a command; its exit status is the answer ([`exec`]) |
//! | `etcd:URL,…` | a claim in etcd, and a lease without which nobody is heard ([`etcd`]) |
//!
//! After a yes the other side may have to be shut off before it counts ([`fence`]).
//!
//! An answer is final: a yes is a yes again for whoever got it, a no never becomes a yes. [`Answer::None`] is no answer:
//! the asker goes on holding and asks again. [`Answer::NotYet`] is one that will not last: the other side's lease is not over.
//!
//! [`Judge::start`] runs on the control plane (tokio), and asks one thing at a time. A claim that replaces one of another
//! term cancels it: that answer is dropped, and may have been yes. A term that was asked for is therefore never used
//! again by its asker unless it has the answer (see [`crate::failover`]). Dropping the future kills a command that runs; a
//! claim that is being written comes to its end.

pub mod etcd;
pub mod exec;
pub mod fence;
pub mod lock;

use crate::link::frame::Role;
use crate::mono::Boot;
use etcd::Etcd;
use etcd::keeper::{Me, Tenure, Want};
use etcd::spec::EtcdSpec;
use fence::{Fence, FenceSpec};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// A judge that has not answered in this time has given none.
pub const LIMIT: Duration = Duration::from_secs(10);
/// A judge that cannot be looked at in this time cannot be asked.
pub const PROSPECT_LIMIT: Duration = Duration::from_secs(2);
/// Longest name of a pair.
pub const MAX_PAIR: usize = 64;

/// The name of a pair, the same on both hosts: letters, digits, `.`, `_`, `:` and `-`, at most [`MAX_PAIR`], and no dot at
/// the beginning, so that it is a file's name as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair(String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if text.is_empty() || text.len() > MAX_PAIR || text.starts_with('.') || !text.chars().all(legal) {
            return Err(format!(
                "`{text}` is no name of a pair: 1 to {MAX_PAIR} letters, digits, `.`, `_`, `:` or `-`, no `.` first; give \
                 both hosts the same with --pair"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Pair {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asks: drawn when a side begins to take part in a term, and remembered over restarts of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant(pub [u8; 16]);

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Claimant {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(())?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Of which pair.
    pub pair: Pair,
    /// In which term.
    pub term: u64,
    /// By which side.
    pub role: Role,
    /// By whom.
    pub claimant: Claimant,
    /// Whether the other side is to be shut off upon a yes.
    pub fence: bool,
}

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This side goes on, and the other never does in this term.
    Yes,
    /// The other side has the right; who, or why.
    No(String),
    /// No answer, and why.
    None(String),
    /// None before something else has ended, and what: to be asked again soon.
    NotYet(String),
    /// Yes, and the other side could not be shut off, or nobody knows.
    NotFenced(String),
}

/// Whether a judge could be asked now; to find out claims nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// There is none.
    None,
    /// Nobody is asked.
    Unfenced,
    /// It can be asked.
    Reachable,
    /// It cannot, and why.
    Unreachable(String),
    /// Nobody knows before it is asked, and why.
    Unknown(String),
}

/// A judge as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JudgeSpec {
    /// `lock:DIRECTORY`
    Lock(PathBuf),
    /// `exec:COMMAND`
    Exec(String),
    /// `etcd:URL,…`
    Etcd(EtcdSpec),
    /// `--allow-unfenced`: always yes, to either side.
    Unfenced,
}

impl FromStr for JudgeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("lock", directory)) if !directory.is_empty() => Ok(Self::Lock(directory.into())),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(command.to_owned())),
            Some(("etcd", cluster)) => cluster.parse().map(Self::Etcd),
            _ => {
                Err(format!("`{text}` is none of lock:DIRECTORY, exec:COMMAND and etcd:http[s]://HOST:PORT"))
            }
        }
    }
}

impl JudgeSpec {
    /// Whether it could be asked now.
    pub async fn prospect(spec: Option<&Self>) -> Prospect {
        match spec {
            None => Prospect::None,
            Some(Self::Unfenced) => Prospect::Unfenced,
            Some(Self::Exec(_)) => {
                Prospect::Unknown("a command is not run to find out: it may fence the other side".to_owned())
            }
            Some(Self::Lock(directory)) => lock::prospect(directory.clone(), PROSPECT_LIMIT).await,
            Some(Self::Etcd(spec)) => etcd::prospect(spec.clone(), PROSPECT_LIMIT).await,
        }
    }
}

impl JudgeSpec {
    /// Says to the log at the start what would else be found out when a side is lost.
    pub async fn warn(spec: Option<Self>) {
        match Self::prospect(spec.as_ref()).await {
            Prospect::None => {
                warn!("no --judge: when a side is lost nobody goes on alone, and the service stands still");
            }
            Prospect::Unfenced => warn!("--allow-unfenced: when the link is lost both sides may go on"),
            Prospect::Unreachable(why) => {
                warn!("the judge cannot be asked now ({why}): as long as that is so nobody goes on alone");
            }
            Prospect::Reachable | Prospect::Unknown(_) => {}
        }
    }
}

/// The asking end.
#[derive(Debug)]
pub struct Judge {
    claims: watch::Sender<Option<Claim>>,
    /// Set where the side that is heard needs a lease.
    etcd: Option<Etcd>,
}

impl Judge {
    /// Starts it on the current runtime; it ends with the returned value. `answered` gets each claim's term and answer, and
    /// `told` each change of the tenure, where there is one.
    ///
    /// # Errors
    /// No thread is to be had, or the judge cannot be used as it is named.
    pub fn start(
        spec: JudgeSpec,
        fence: Option<FenceSpec>,
        pair: &Pair,
        answered: impl Fn(u64, Answer) + Send + Sync + 'static,
        told: impl Fn(Tenure) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, mut claims) = watch::channel(None::<Claim>);
        let mut bench = Bench::new(spec, pair, told)?;
        let etcd = if let Bench::Etcd(etcd) = &bench { Some(etcd.clone()) } else { None };
        let mut fence = fence.map(Fence::new);
        tokio::spawn(async move {
            while claims.changed().await.is_ok() {
                loop {
                    let Some(claim) = claims.borrow_and_update().clone() else { break };
                    tokio::select! {
                        answer = bench.ask_and_fence(fence.as_mut(), &claim) => {
                            answered(claim.term, answer);
                            break;
                        }
                        // Another claim; the end of all claims is seen above.
                        changed = claims.changed() => if changed.is_err() { return },
                    }
                }
            }
        });
        Ok(Self { claims: sender, etcd })
    }

    /// Asks. Never waits.
    pub fn ask(&self, claim: Claim) {
        self.claims.send_replace(Some(claim));
    }

    /// `set` makes the lease's end known to what lets frames out. Without a lease it is never called.
    pub fn ends(&self, set: impl Fn(Boot) + Send + 'static) {
        if let Some(etcd) = &self.etcd {
            etcd.ends(set);
        }
    }

    /// What this side is about, where it needs a lease for it.
    pub fn want(&self, want: Want, me: Me) {
        if let Some(etcd) = &self.etcd {
            etcd.want(want, me);
        }
    }
}

/// One judge, asked one thing at a time.
enum Bench {
    Lock(lock::Lock),
    Exec(exec::Exec),
    Etcd(Etcd),
    Unfenced,
}

impl Bench {
    fn new(spec: JudgeSpec, pair: &Pair, told: impl Fn(Tenure) + Send + 'static) -> io::Result<Self> {
        Ok(match spec {
            JudgeSpec::Lock(directory) => Self::Lock(lock::Lock::new(directory, LIMIT)),
            JudgeSpec::Exec(command) => Self::Exec(exec::Exec::new(command, LIMIT)),
            JudgeSpec::Etcd(spec) => Self::Etcd(Etcd::start(spec, pair, told)?),
            JudgeSpec::Unfenced => Self::Unfenced,
        })
    }

    async fn ask_and_fence(&mut self, fence: Option<&mut Fence>, claim: &Claim) -> Answer {
        match (self.ask(claim).await, fence) {
            (Answer::Yes, Some(fence)) if claim.fence => fence.run(claim).await,
            (answer, _) => answer,
        }
    }

    async fn ask(&mut self, claim: &Claim) -> Answer {
        match self {
            Self::Lock(lock) => lock.ask(claim).await,
            Self::Exec(exec) => exec.ask(claim).await,
            Self::Etcd(etcd) => etcd.ask(claim).await,
            Self::Unfenced => {
                warn!("going on alone unfenced: nobody knows whether the other side does the same");
                Answer::Yes
            }
        }
    }
}

#[cfg(test)]
mod tests;

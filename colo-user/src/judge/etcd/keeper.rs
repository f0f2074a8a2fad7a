//! Who holds the role of a pair, decided by what etcd says. No I/O, no clock: replies and `now` in, requests out, one at a time.
//!
//! ```text
//!             grant                look: free            take
//!   apart ───────────▶ a lease ───────────────▶ sure ───────────▶ holds ──┐ renew, each third of the lease
//!     ▲                   ▲  │ held by another                      ▲      │
//!     │                   └──┴── again after a pause                └──────┘
//!     └──────────────────────────────── the lease is gone, or given up ◀──┘
//! ```
//!
//! Three keys of a pair. `role` is bound to the holder's lease and is there for as long as somebody holds it. `epoch` says who had
//! it last; its revision, which only rises, is the fencing token. `claim/TERM` says who goes on alone in that term, for
//! good. All are written in one transaction, which does nothing if one of them has changed since it was looked at.
//!
//! # Why never two
//!
//! The lease is counted from when its grant or renewal was *sent*, and shorter than granted by a stated drift of the clocks:
//! it ends here before etcd lets go of `role`. Nobody takes `role` while it is there, and nobody takes it back who had it before
//! another: only who was never heard (`fresh`), or gets a claim, follows another. A transaction whose reply was lost is found
//! done or not done by the next look.

use crate::judge::{Answer, Claimant};
use crate::link::frame::Role;
use crate::mono::Boot;
use std::time::Duration;

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at a role that another holds.
const HELD_AGAIN: Duration = Duration::from_secs(1);
/// Renewals in one lease.
const RENEWALS: u32 = 3;

/// How long the role is had at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The lease that is asked for.
    pub ttl: Duration,
    /// How much faster than this host's clock etcd's may run, in percent: as much shorter is the lease here.
    pub drift: u32,
}

/// What this side is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Not to hold the role by itself. What it holds it keeps.
    #[default]
    Nothing,
    /// To hold it unless another has had it since.
    Again,
    /// To hold it, whoever had it before.
    Fresh,
    /// As fresh, by an operator's order: also if another has had it since.
    Forced,
    /// To give it up.
    Release,
}

/// Who writes, as the keys' values name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// Who.
    pub claimant: Claimant,
    /// On which side.
    pub role: Role,
}

/// A key as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of its last change.
    pub revision: i64,
    /// The lease it is bound to, 0 for none.
    pub lease: i64,
    /// Whose.
    pub claimant: Claimant,
}

/// The keys as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Who holds the role.
    pub role: Option<Kept>,
    /// Who held it last.
    pub epoch: Option<Kept>,
    /// Who has the term that was looked for.
    pub claim: Option<Kept>,
}

/// What etcd is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A lease.
    Grant {
        /// For how long.
        ttl: Duration,
    },
    /// The keys.
    Look {
        /// The claim of this term, too.
        term: Option<u64>,
    },
    /// To write, if all is as it was seen.
    Take {
        /// What was seen.
        seen: Seen,
        /// Whom the keys are to name.
        me: Me,
        /// `role`, bound to this lease, and `epoch`.
        role: Option<i64>,
        /// The claim of `term`.
        claim: bool,
        /// As looked for.
        term: Option<u64>,
    },
    /// To renew the lease, and whether `role` is bound to it still.
    Renew {
        /// Which.
        lease: i64,
    },
    /// To end the lease.
    Revoke {
        /// Which.
        lease: i64,
    },
}

/// What etcd says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A lease.
    Granted {
        /// Its number.
        lease: i64,
        /// For how long.
        ttl: Duration,
    },
    /// The keys: to a look, or because they were not as seen.
    Seen(Seen),
    /// Written.
    Taken {
        /// In this revision.
        revision: i64,
    },
    /// Renewed for so long; `None`: the lease is gone, or `role` is not bound to it.
    Renewed(Option<Duration>),
    /// Ended.
    Revoked,
    /// Nobody knows what became of it, and why.
    Failed(String),
}

/// How this side stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It does not hold the role, or not for sure.
    Over,
    /// It holds it, with this fencing token.
    Held(i64),
    /// It did, and another has had it since.
    Taken(String),
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lease ends then, whatever was known before.
    End(Boot),
    /// The answer to the claim of this term.
    Answer(u64, Answer),
    /// It stands otherwise than before.
    Tenure(Tenure),
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    end: Boot,
    renew: Boot,
    /// Its end was asked for, and may come at any time: it is not used again.
    ending: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    terms: Terms,
    me: Me,
    want: Want,
    lease: Option<Lease>,
    /// `role` is bound to the lease.
    holds: bool,
    token: i64,
    /// It has held the role once: not fresh any more.
    held_once: bool,
    claim: Option<u64>,
    /// The request that is out, and since when.
    asked: Option<(Request, Boot)>,
    next: Boot,
    /// What the last look says is to be written.
    sure: Option<Request>,
    told: Tenure,
    taken: Option<String>,
}

impl Keeper {
    /// One that wants nothing yet.
    #[must_use]
    pub fn new(terms: Terms, me: Me) -> Self {
        Self {
            terms,
            me,
            want: Want::Nothing,
            lease: None,
            holds: false,
            token: 0,
            held_once: false,
            claim: None,
            asked: None,
            next: Boot::default(),
            sure: None,
            told: Tenure::Over,
            taken: None,
        }
    }

    /// What it is about from now on, and as whom.
    pub fn want(&mut self, now: Boot, want: Want, me: Me, out: &mut Vec<Outcome>) {
        self.me = me;
        if std::mem::replace(&mut self.want, want) == want {
            return;
        }
        self.next = self.next.min(now);
        if want == Want::Forced {
            (self.held_once, self.taken) = (false, None);
        }
        if want == Want::Release {
            // Before etcd hears of it.
            self.end(now, out);
        }
        self.tell(now, out);
    }

    /// Asks for the right to go on alone in `term`.
    pub fn claim(&mut self, now: Boot, term: u64, me: Me) {
        (self.me, self.claim) = (me, Some(term));
        self.next = self.next.min(now);
        self.sure = None;
    }

    /// The next request, if one is due; its reply goes to [`Self::reply`].
    pub fn next(&mut self, now: Boot) -> Option<Request> {
        if self.asked.is_some() {
            return None;
        }
        let request = self.due(now)?;
        self.asked = Some((request.clone(), now));
        Some(request)
    }

    fn due(&mut self, now: Boot) -> Option<Request> {
        if now < self.next {
            return None;
        }
        if self.want == Want::Release && self.claim.is_none() {
            self.sure = None;
            // One that has ended needs no words.
            self.lease = self.lease.filter(|lease| now < lease.end);
            let lease = self.lease.as_mut()?;
            (lease.ending, self.holds) = (true, false);
            return Some(Request::Revoke { lease: lease.id });
        }
        if let Some(lease) = self.lease.filter(|lease| self.holds && now >= lease.renew) {
            return Some(Request::Renew { lease: lease.id });
        }
        if self.claim.is_none() && !self.seeks() {
            return None;
        }
        let half = self.terms.ttl / 2;
        match self.lease {
            Some(lease) if !lease.ending && (self.holds || lease.end.saturating_since(now) > half) => {
                Some(self.sure.take().unwrap_or(Request::Look { term: self.claim }))
            }
            _ => Some(Request::Grant { ttl: self.terms.ttl }),
        }
    }

    /// Whether it goes for the role by itself.
    const fn seeks(&self) -> bool {
        matches!(self.want, Want::Again | Want::Fresh | Want::Forced) && !self.holds && self.taken.is_none()
    }

    /// What became of the request.
    pub fn reply(&mut self, now: Boot, reply: Reply, out: &mut Vec<Outcome>) {
        let Some((request, sent)) = self.asked.take() else { return };
        match (request, reply) {
            (_, Reply::Failed(why)) => {
                self.next = now + AGAIN;
                self.answer(Answer::None(why), out);
            }
            (Request::Grant { .. }, Reply::Granted { lease, ttl }) => {
                (self.holds, self.sure) = (false, None);
                self.lease = Some(self.lease_from(lease, sent, ttl));
            }
            (Request::Look { term } | Request::Take { term, .. }, Reply::Seen(seen)) => {
                // A claim that came meanwhile is looked for first.
                if term == self.claim {
                    self.seen(now, seen, out);
                }
            }
            (Request::Take { role, claim, me, term, .. }, Reply::Taken { revision }) => {
                if role.is_some() {
                    self.took(revision, out);
                }
                if claim && me == self.me && term == self.claim {
                    self.answer(Answer::Yes, out);
                }
            }
            (Request::Renew { lease }, Reply::Renewed(Some(ttl))) => {
                let renewed = self.lease_from(lease, sent, ttl);
                self.lease = Some(renewed);
                self.until(renewed.end, out);
            }
            (Request::Renew { .. }, Reply::Renewed(None)) => {
                self.lease = None;
                self.end(now, out);
            }
            (Request::Revoke { .. }, Reply::Revoked) => self.lease = None,
            (request, reply) => {
                self.next = now + AGAIN;
                self.answer(Answer::None(format!("etcd answers {request:?} with {reply:?}")), out);
            }
        }
        self.tell(now, out);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Boot, out: &mut Vec<Outcome>) {
        self.tell(now, out);
    }

    /// When [`Self::next`] or [`Self::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self, now: Boot) -> Option<Boot> {
        let lease = self.lease.as_ref();
        let end =
            lease.map(|lease| lease.end).filter(|end| *end > now && matches!(self.told, Tenure::Held(_)));
        let at = if self.want == Want::Release && self.claim.is_none() {
            lease.map(|_| self.next)
        } else if self.claim.is_some() || self.seeks() {
            Some(self.next)
        } else {
            lease.filter(|_| self.holds).map(|lease| lease.renew.max(self.next))
        };
        at.into_iter().chain(end).min()
    }

    /// What a lease is worth here.
    fn lease_from(&self, id: i64, sent: Boot, ttl: Duration) -> Lease {
        let worth = ttl.min(self.terms.ttl) * (100 - self.terms.drift.min(100)) / 100;
        Lease { id, end: sent + worth, renew: sent + worth / RENEWALS, ending: false }
    }

    /// The keys are as `seen`, with the claim that is asked for.
    fn seen(&mut self, now: Boot, seen: Seen, out: &mut Vec<Outcome>) {
        let Some(lease) = self.lease else { return };
        let mine = |kept: &Kept| kept.claimant == self.me.claimant;
        if let Some(other) = seen.claim.as_ref().filter(|kept| !mine(kept)) {
            let other = other.claimant;
            return self.answer(Answer::No(format!("{other} goes on alone in this term")), out);
        }
        let follows = seen.epoch.as_ref().filter(|kept| !mine(kept)).map(|kept| kept.claimant);
        if let Some(other) = follows.filter(|_| self.claim.is_none()) {
            if self.held_once {
                self.taken = Some(other.to_string());
                return;
            }
            if !matches!(self.want, Want::Fresh | Want::Forced) {
                self.next = now + HELD_AGAIN;
                return;
            }
        }
        let bound = seen.role.as_ref().is_some_and(|kept| kept.lease == lease.id);
        if let Some(other) = seen.role.as_ref().filter(|kept| !mine(kept)) {
            let other = other.claimant;
            self.next = now + HELD_AGAIN;
            return self
                .answer(Answer::NotYet(format!("{other} holds the role, and its lease has not ended")), out);
        }
        if bound {
            // The reply to the transaction was lost, or only the claim is to be made.
            let revision = seen.role.as_ref().map_or(0, |kept| kept.revision);
            if !self.holds {
                self.took(revision, out);
            }
            if self.claim.is_none() {
                return;
            }
            if seen.claim.is_some() {
                return self.answer(Answer::Yes, out);
            }
        }
        let claim = self.claim.is_some() && seen.claim.is_none();
        let role = (!bound).then_some(lease.id);
        // A claim of our own that is there already is answered when the role is ours, too.
        self.sure = Some(Request::Take { seen, me: self.me, role, claim, term: self.claim });
    }

    fn took(&mut self, revision: i64, out: &mut Vec<Outcome>) {
        (self.holds, self.held_once, self.token, self.taken) = (true, true, revision, None);
        if let Some(lease) = self.lease {
            self.until(lease.end, out);
        }
    }

    fn until(&self, end: Boot, out: &mut Vec<Outcome>) {
        // Given up already: it is not to be used to its end.
        if self.want != Want::Release {
            out.push(Outcome::End(end));
        }
    }

    fn end(&mut self, now: Boot, out: &mut Vec<Outcome>) {
        self.holds = false;
        out.push(Outcome::End(now));
    }

    fn answer(&mut self, answer: Answer, out: &mut Vec<Outcome>) {
        if let Some(term) = self.claim.take() {
            out.push(Outcome::Answer(term, answer));
        }
    }

    fn tell(&mut self, now: Boot, out: &mut Vec<Outcome>) {
        let lasts = self.holds && self.lease.is_some_and(|lease| now < lease.end);
        let tenure = match &self.taken {
            Some(other) => Tenure::Taken(other.clone()),
            None if lasts && self.want != Want::Release => Tenure::Held(self.token),
            None => Tenure::Over,
        };
        if tenure != self.told {
            self.told = tenure.clone();
            out.push(Outcome::Tenure(tenure));
        }
    }
}

#[cfg(test)]
mod tests;

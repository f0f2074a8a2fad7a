//! The judge `etcd:`: three members, one of which leads while a majority hears it. Keys, leases and transactions as the real one
//! has them, as far as the agents use them.
//!
//! Leases run on the leader's clock. A new leader has them begin anew, longer by the time in which one that has lost the others
//! notices: until then, or as soon as it goes on, that one answers renewals, which prolong nothing. What comes to a member while there is no majority waits, and may be done long after
//! its sender has given it up. A lease that has ended is let go of at once, or up to half a second later.

use super::clock::{Clock, MAX_DRIFT_PPM};
use crate::random::Random;
use colo_user::judge::Claimant;
use colo_user::judge::etcd::keeper::{Kept, Reply, Request, Seen};
use colo_user::mono::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many members there are, and how many of them are a majority.
pub(super) const MEMBERS: usize = 3;
const MAJORITY: usize = 2;
/// How often the members look at their leader and their leases.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Longest time between the end of a lease and the end of what is bound to it.
const LAG: u64 = 500;
const FIRST_TERM: u64 = 2;

/// Which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Leader,
    Member(usize),
}

#[derive(Debug)]
struct Member {
    clock: Clock,
    /// It is lost for good.
    gone: bool,
    paused_until: Mono,
    /// It and the others do not hear each other until then.
    isolated_until: Mono,
}

impl Member {
    fn is_heard(&self, now: Mono) -> bool {
        !self.gone && self.paused_until <= now && self.isolated_until <= now
    }
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// On the leader's clock.
    end: Mono,
    ttl: Duration,
    lag: Duration,
}

/// A leader that has lost its majority.
#[derive(Clone, Copy, Debug)]
struct Deposed {
    member: usize,
    raft_term: u64,
    /// When there is another, if there is a majority for it.
    election: Mono,
    /// When it notices by itself.
    notices: Mono,
    /// What it knows is not newer.
    revision: i64,
}

/// What becomes of a request at a member.
#[derive(Debug)]
pub(super) enum Fate {
    /// The answer, and the term of the leaders in which the member gives it.
    Answered(Result<Reply, String>, u64),
    /// The member looks at it again then.
    Waits(Mono),
    Never,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Etcd {
    random: Random,
    members: [Member; MEMBERS],
    leader: usize,
    raft_term: u64,
    deposed: Option<Deposed>,
    /// In milliseconds.
    election_timeout: u64,
    /// Leases are let go of at once.
    prompt: bool,
    revision: i64,
    role: Option<Kept>,
    epoch: Option<Kept>,
    claims: BTreeMap<u64, Kept>,
    leases: BTreeMap<i64, Lease>,
    /// What was granted and not given back, for a leader that has not heard that it was let go of.
    granted: BTreeMap<i64, Duration>,
    /// Broken on purpose: a transaction is carried out whatever has changed since.
    forgets: bool,
}

impl Etcd {
    pub fn new(mut random: Random, forgets: bool) -> Self {
        let members = [(); MEMBERS].map(|()| {
            let drift = random.below(2 * MAX_DRIFT_PPM as u64 + 1) as i64 - MAX_DRIFT_PPM;
            Member {
                clock: Clock::new(random.millis(1000, 1_000_000), drift),
                gone: false,
                paused_until: Mono::ZERO,
                isolated_until: Mono::ZERO,
            }
        });
        Self {
            members,
            leader: random.below(MEMBERS as u64) as usize,
            raft_term: FIRST_TERM,
            deposed: None,
            election_timeout: [100, 1000][random.below(2) as usize],
            prompt: random.one_in(2),
            revision: 1,
            role: None,
            epoch: None,
            claims: BTreeMap::new(),
            leases: BTreeMap::new(),
            granted: BTreeMap::new(),
            forgets,
            random,
        }
    }

    /// Who has the role.
    pub fn holder(&self) -> Option<Claimant> {
        self.role.as_ref().map(|kept| kept.claimant)
    }

    /// Which member it is now.
    pub const fn named(&self, which: Which) -> usize {
        match which {
            Which::Leader => self.leader,
            Which::Member(member) => member,
        }
    }

    /// A member is lost for good; the only one.
    pub fn loses(&mut self, member: usize) {
        if self.members.iter().all(|member| !member.gone) {
            self.members[member].gone = true;
        }
    }

    pub fn pauses(&mut self, member: usize, until: Mono) {
        let paused = &mut self.members[member].paused_until;
        *paused = until.max(*paused);
    }

    pub fn isolates(&mut self, member: usize, until: Mono) {
        let isolated = &mut self.members[member].isolated_until;
        *isolated = until.max(*isolated);
    }

    /// Whether the leader is heard by a majority.
    fn leads(&self, now: Mono) -> bool {
        self.members[self.leader].is_heard(now) && self.is_majority(now)
    }

    fn is_majority(&self, now: Mono) -> bool {
        self.members.iter().filter(|member| member.is_heard(now)).count() >= MAJORITY
    }

    /// Which one a host asks first.
    pub const fn any_member(&mut self) -> usize {
        self.random.below(MEMBERS as u64) as usize
    }

    /// Whether the first leader is not the last.
    pub const fn has_elected(&self) -> bool {
        self.raft_term > FIRST_TERM
    }

    /// Time passes.
    pub fn tick(&mut self, now: Mono) {
        if self.leads(now) {
            let over = |deposed: &Deposed| {
                let member = &self.members[deposed.member];
                // One that stood still answers what waits for it before it hears of anything.
                let heard = member.is_heard(now) && now >= member.paused_until + TICK;
                deposed.member == self.leader || now >= deposed.notices || heard
            };
            self.deposed = self.deposed.filter(|deposed| !over(deposed));
            let local = self.members[self.leader].clock.local(now);
            self.leases.retain(|_, lease| local < lease.end + lease.lag);
            self.role = self.role.take().filter(|kept| self.leases.contains_key(&kept.lease));
            return;
        }
        let deposed = match self.deposed.filter(|deposed| deposed.member == self.leader) {
            Some(deposed) => deposed,
            None => {
                let timeout = self.election_timeout;
                let election = now + self.random.millis(timeout, 2 * timeout);
                let notices = now + self.random.millis(timeout, 2 * timeout);
                let (member, raft_term, revision) = (self.leader, self.raft_term, self.revision);
                Deposed { member, raft_term, election, notices, revision }
            }
        };
        self.deposed = Some(deposed);
        if now < deposed.election || !self.is_majority(now) {
            return;
        }
        let heard: Vec<usize> = (0..MEMBERS).filter(|&member| self.members[member].is_heard(now)).collect();
        self.leader = heard[self.random.below(heard.len() as u64) as usize];
        self.raft_term += 1;
        let local = self.members[self.leader].clock.local(now);
        for lease in self.leases.values_mut() {
            lease.end = local + lease.ttl + Duration::from_millis(self.election_timeout);
        }
        // Who did nothing meanwhile has not noticed either.
        let paused = self.members[deposed.member].paused_until;
        if let Some(deposed) = self.deposed.as_mut().filter(|_| paused > now) {
            deposed.notices = paused + TICK;
        }
    }

    /// A request is at a member.
    pub fn asked(&mut self, now: Mono, member: usize, request: &Request) -> Fate {
        self.tick(now);
        let at = &self.members[member];
        if at.gone {
            return Fate::Never;
        }
        if at.paused_until > now {
            return Fate::Waits(at.paused_until);
        }
        if let Request::Renew { lease } = request
            && let Some(deposed) = self.deposed.filter(|deposed| deposed.member == member)
            && now < deposed.notices
            && *lease <= deposed.revision
            && let Some(&ttl) = self.granted.get(lease)
        {
            if self.leader == member
                && let Some(lease) = self.leases.get_mut(lease)
            {
                lease.end = lease.end.max(self.members[member].clock.local(now) + ttl);
            }
            return Fate::Answered(Ok(Reply::Renewed(Some(ttl))), deposed.raft_term);
        }
        if !at.is_heard(now) || !self.leads(now) {
            return Fate::Waits(now + self.random.millis(10, 60));
        }
        Fate::Answered(self.done(now, request), self.raft_term)
    }

    fn seen(&self, term: Option<u64>) -> Seen {
        let claim = term.and_then(|term| self.claims.get(&term).cloned());
        Seen { role: self.role.clone(), epoch: self.epoch.clone(), claim }
    }

    fn done(&mut self, now: Mono, request: &Request) -> Result<Reply, String> {
        let local = self.members[self.leader].clock.local(now);
        Ok(match request {
            Request::Grant { ttl } => {
                self.revision += 1;
                let lag = if self.prompt { Duration::ZERO } else { self.random.millis(0, LAG) };
                self.leases.insert(self.revision, Lease { end: local + *ttl, ttl: *ttl, lag });
                self.granted.insert(self.revision, *ttl);
                Reply::Granted { lease: self.revision, ttl: *ttl }
            }
            Request::Look { term } => Reply::Seen(self.seen(*term)),
            Request::Take { seen, me, role, claim, term } => {
                if self.seen(*term) != *seen && !self.forgets {
                    return Ok(Reply::Seen(self.seen(*term)));
                }
                if role.is_some_and(|lease| !self.leases.contains_key(&lease)) {
                    return Err("requested lease not found".into());
                }
                self.revision += 1;
                let kept = |lease| Kept { revision: self.revision, lease, claimant: me.claimant };
                if let Some(lease) = role {
                    (self.role, self.epoch) = (Some(kept(*lease)), Some(kept(0)));
                }
                if let Some(term) = term.filter(|_| *claim) {
                    self.claims.insert(term, kept(0));
                }
                Reply::Taken { revision: self.revision }
            }
            // As long as it is not let go of, one that has ended is not renewed either.
            Request::Renew { lease } => match self.leases.get_mut(lease).filter(|lease| local < lease.end) {
                None => Reply::Renewed(None),
                Some(lease) => {
                    lease.end = local + lease.ttl;
                    Reply::Renewed(Some(lease.ttl))
                }
            },
            Request::Revoke { lease } => {
                self.leases.remove(lease);
                self.granted.remove(lease);
                self.role = self.role.take().filter(|kept| kept.lease != *lease);
                Reply::Revoked
            }
        })
    }
}

#[cfg(test)]
mod tests;

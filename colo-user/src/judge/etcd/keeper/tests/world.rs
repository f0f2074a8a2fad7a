//! An etcd, three hosts that want one role, and a network that fails: seeded runs in steps of 5 ms.
//!
//! Requests and replies are late, lost, or carried out long after their sender has given up; hosts are frozen, and start anew;
//! their clocks are slower or faster than etcd's; etcd lets go of a lease late, and a new leader extends all. The end of a
//! lease is what XDP has: it counts on a frozen host as well.

use super::super::*;
use crate::random::Random;
use std::collections::BTreeMap;

const STEP: u64 = 5_000_000;
const MILLI: u64 = 1_000_000;
/// A client gives a request up after this time.
const LIMIT: u64 = 600 * MILLI;
const TERMS: u64 = 3;

/// What is wrong with the keepers: each must be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Broken {
    #[default]
    Not,
    /// The lease counts from its reply.
    CountsFromReply,
    /// The clocks' drift is not taken off.
    NoDrift,
    /// Whoever finds the role free gets its claim, whoever had the term before.
    NoClaim,
}

#[derive(Default)]
struct Etcd {
    revision: i64,
    role: Option<Kept>,
    epoch: Option<Kept>,
    claims: BTreeMap<u64, Kept>,
    /// By number: its end, its length, how late it is let go of.
    leases: BTreeMap<i64, (u64, u64, u64)>,
}

impl Etcd {
    fn seen(&self, term: Option<u64>) -> Seen {
        let claim = term.and_then(|term| self.claims.get(&term).cloned());
        Seen { role: self.role.clone(), epoch: self.epoch.clone(), claim }
    }

    fn expire(&mut self, now: u64) {
        self.leases.retain(|_, (end, _, lag)| now < *end + *lag);
        self.role = self.role.take().filter(|kept| self.leases.contains_key(&kept.lease));
    }

    fn perform(&mut self, now: u64, lag: u64, request: &Request) -> Reply {
        match request {
            Request::Grant { ttl } => {
                self.revision += 1;
                let length = ttl.as_nanos() as u64;
                self.leases.insert(self.revision, (now + length, length, lag));
                Reply::Granted { lease: self.revision, ttl: *ttl }
            }
            Request::Look { term } => Reply::Seen(self.seen(*term)),
            Request::Take { seen, me, role, claim, term } => {
                if self.seen(*term) != *seen {
                    return Reply::Seen(self.seen(*term));
                }
                if role.is_some_and(|lease| !self.leases.contains_key(&lease)) {
                    return Reply::Failed("no such lease".into());
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
            Request::Renew { lease } => {
                let Some((end, length, _)) = self.leases.get_mut(lease) else { return Reply::Renewed(None) };
                *end = now + *length;
                let ttl = Duration::from_nanos(*length);
                let bound = self.role.as_ref().is_some_and(|kept| kept.lease == *lease);
                Reply::Renewed(bound.then_some(ttl))
            }
            Request::Revoke { lease } => {
                self.leases.remove(lease);
                self.expire(now);
                Reply::Revoked
            }
        }
    }
}

struct Host {
    keeper: Keeper,
    me: Me,
    /// Thousandths that its clock goes for each thousand of etcd's.
    rate: u64,
    offset: u64,
    frozen: u64,
    /// As XDP has it, in the host's own time.
    end: Boot,
    /// The request that is out: when it is sent, arrives, and is answered.
    out: Option<(Request, u64, u64, u64, Option<Reply>)>,
}

impl Host {
    fn clock(&self, now: u64) -> Boot {
        Boot::from_nanos(self.offset + now / 1000 * self.rate)
    }
}

pub struct World {
    pub random: Random,
    broken: Broken,
    now: u64,
    etcd: Etcd,
    hosts: Vec<Host>,
    /// Sent, given up, and not yet arrived: when, and what.
    strays: Vec<(u64, Request)>,
    yes: BTreeMap<u64, usize>,
    pub tenures: u64,
    pub claims: u64,
    calm: bool,
}

fn terms(broken: Broken) -> Terms {
    Terms { ttl: Duration::from_secs(2), drift: if broken == Broken::NoDrift { 0 } else { 10 } }
}

impl World {
    pub fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random(seed);
        let hosts = (0..3).map(|n| {
            let role = if n == 0 { Role::Primary } else { Role::Secondary };
            let me = Me { claimant: Claimant([n + 1; 16]), role };
            Host {
                keeper: Keeper::new(terms(broken), me),
                me,
                rate: 900 + random.below(200),
                offset: random.below(1 << 40),
                frozen: 0,
                end: Boot::default(),
                out: None,
            }
        });
        let hosts = hosts.collect();
        let (etcd, strays, yes) = (Etcd::default(), Vec::new(), BTreeMap::new());
        Self { random, broken, now: 0, etcd, hosts, strays, yes, tenures: 0, claims: 0, calm: false }
    }

    /// Runs for so many steps and says what was wrong.
    pub fn run(&mut self, steps: u32) -> Result<(), String> {
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    /// Nothing fails any more, and one host wants the role: it has it in time.
    pub fn settle(&mut self) -> Result<(), String> {
        self.calm = true;
        let heir = self.random.below(3) as usize;
        for (n, host) in self.hosts.iter_mut().enumerate() {
            let now = host.clock(self.now);
            host.frozen = 0;
            let want = if n == heir { Want::Fresh } else { Want::Release };
            if n == heir {
                host.keeper = Keeper::new(terms(self.broken), host.me);
                host.out = None;
            }
            let mut out = Vec::new();
            host.keeper.want(now, want, host.me, &mut out);
            host.obey(out, 0, &mut self.tenures);
        }
        self.run((5_000 * MILLI / STEP) as u32)?;
        let host = &self.hosts[heir];
        if host.end > host.clock(self.now) {
            Ok(())
        } else {
            Err(format!("host {heir} does not have the role"))
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += STEP;
        let now = self.now;
        self.etcd.expire(now);
        if !self.calm && self.random.one_in(2000) {
            // A new leader: all leases begin anew.
            for (end, length, _) in self.etcd.leases.values_mut() {
                *end = now + *length;
            }
        }
        for n in 0..self.hosts.len() {
            if !self.calm {
                self.disturb(n);
            }
            self.turn(n)?;
        }
        let due: Vec<Request> =
            self.strays.extract_if(.., |(at, _)| *at <= now).map(|(_, request)| request).collect();
        for request in due {
            let lag = self.lag();
            self.etcd.perform(now, lag, &request);
        }
        let heard: Vec<usize> =
            (0..self.hosts.len()).filter(|&n| self.hosts[n].end > self.hosts[n].clock(now)).collect();
        if heard.len() > 1 { Err(format!("{heard:?} have the role at {} ms", now / MILLI)) } else { Ok(()) }
    }

    fn lag(&mut self) -> u64 {
        // At its strictest every other time.
        if self.random.one_in(2) { 0 } else { self.random.below(700) * MILLI }
    }

    fn disturb(&mut self, n: usize) {
        let now = self.now;
        if self.random.one_in(1500) {
            self.hosts[n].frozen = now + self.random.below(6000) * MILLI;
        }
        let what = self.random.below(800);
        let host = &mut self.hosts[n];
        if host.frozen > now {
            return;
        }
        let clock = host.clock(now);
        let mut out = Vec::new();
        match what {
            0 | 1 => host.keeper.want(clock, Want::Fresh, host.me, &mut out),
            2 | 3 => host.keeper.want(clock, Want::Again, host.me, &mut out),
            4 => host.keeper.want(clock, Want::Nothing, host.me, &mut out),
            5 => host.keeper.want(clock, Want::Release, host.me, &mut out),
            6 | 7 => {
                let term = self.random.below(TERMS);
                host.keeper.claim(clock, term, host.me);
            }
            8 => {
                // The agent is started anew; XDP goes on.
                host.keeper = Keeper::new(terms(self.broken), host.me);
                if let Some((request, _, arrives, _, None)) = host.out.take() {
                    self.strays.push((arrives, request));
                }
            }
            _ => {}
        }
        host.obey(out, 0, &mut self.tenures);
    }

    fn turn(&mut self, n: usize) -> Result<(), String> {
        let now = self.now;
        let lag = self.lag();
        // What is on its way arrives, frozen or not.
        if let Some((request, _, arrives, _, reply @ None)) = &mut self.hosts[n].out
            && *arrives <= now
        {
            if self.broken == Broken::NoClaim
                && let Request::Take { seen, term, .. } = request
            {
                seen.claim = term.and_then(|term| self.etcd.claims.get(&term).cloned());
            }
            let mut answer = self.etcd.perform(now, lag, request);
            if self.broken == Broken::NoClaim
                && let Reply::Seen(seen) = &mut answer
            {
                seen.claim = None;
            }
            *reply = Some(answer);
        }
        if self.hosts[n].frozen > now {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut late = 0;
        let host = &mut self.hosts[n];
        let clock = host.clock(now);
        host.keeper.tick(clock, &mut out);
        if let Some((request, sent, arrives, answered, reply)) = host.out.take() {
            if now >= answered
                && let Some(reply) = reply
            {
                late = if self.broken == Broken::CountsFromReply { now - sent } else { 0 };
                host.keeper.reply(clock, reply, &mut out);
            } else if now >= sent + LIMIT {
                if reply.is_none() {
                    self.strays.push((arrives, request));
                }
                host.keeper.reply(clock, Reply::Failed("no answer".into()), &mut out);
            } else {
                host.out = Some((request, sent, arrives, answered, reply));
            }
        }
        if host.out.is_none()
            && let Some(request) = host.keeper.next(clock)
        {
            let slow = !self.calm && self.random.one_in(6);
            let (longest, never) = if slow { (3000, self.random.one_in(3)) } else { (40, false) };
            let arrives = now + self.random.below(longest) * MILLI;
            let arrives = if never { u64::MAX } else { arrives };
            let answered = arrives.saturating_add(self.random.below(longest) * MILLI);
            host.out = Some((request, now, arrives, answered, None));
        }
        let answers = host.obey(out, late, &mut self.tenures);
        for (term, answer) in answers {
            self.claims += 1;
            if answer == Answer::Yes && *self.yes.entry(term).or_insert(n) != n {
                return Err(format!("{n} and {} have a yes in term {term}", self.yes[&term]));
            }
        }
        Ok(())
    }
}

impl Host {
    fn obey(&mut self, out: Vec<Outcome>, late: u64, tenures: &mut u64) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        for outcome in out {
            match outcome {
                Outcome::End(end) => self.end = end + Duration::from_nanos(late),
                Outcome::Answer(term, answer) => answers.push((term, answer)),
                Outcome::Tenure(tenure) => *tenures += u64::from(matches!(tenure, Tenure::Held(_))),
            }
        }
        answers
    }
}

//! An agent's thread of the judge `etcd:`: the real keeper, and the requests that it is blocked in, one at a time: each member in
//! turn has a while to answer. What the keeper says becomes the lease's end in the kernel, and what the packet thread is told.

use super::Broken;
use super::clock::MAX_DRIFT_PPM;
use super::etcd::{Fate, MEMBERS};
use super::host::{Lease, Mode, Said};
use super::verdict::Violation;
use super::world::{Event, World};
use colo_user::judge::Claimant;
use colo_user::judge::etcd::keeper::{Keeper, Me, Outcome, Reply, Request, Terms, Want};
use colo_user::link::frame::Role;
use colo_user::mono::{Boot, Mono};
use std::collections::VecDeque;
use std::time::Duration;

/// The lease.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// How much faster than a host's clock etcd's may run, in percent: both drift.
const DRIFT: u32 = 2 * MAX_DRIFT_PPM as u32 / 10_000;
/// A member that has not answered in this time is left for the next.
const LIMIT: Duration = Duration::from_millis(250);
/// A member gives up what it could not do in this time.
const GIVES_UP: Duration = Duration::from_secs(5);
/// Longest time that a request, or an answer, is on its way while nothing is in it.
const SLOW: u64 = 3000;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Word {
    Want(Want, Me),
    Claim(u64, Me),
}

/// A request that the thread is blocked in.
#[derive(Debug)]
struct Blocked {
    request: Request,
    since: Boot,
    /// Of the one that is out.
    call: u64,
    /// How many members did not answer.
    failed: usize,
    /// A renewal's first half: for how long, and in which leader's term.
    renewed: Option<(Duration, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Which of all such threads.
    number: u64,
    keeper: Keeper,
    me: Me,
    words: VecDeque<Word>,
    claim: Option<u64>,
    blocked: Option<Blocked>,
    /// The member that answered last.
    first: usize,
    out: Vec<Outcome>,
}

/// A request on its way to a member.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub side: usize,
    call: u64,
    member: usize,
    request: Request,
    sent: Mono,
}

/// What a member says to it.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub side: usize,
    call: u64,
    reply: Result<Reply, String>,
    raft_term: u64,
}

impl World {
    /// An agent's thread for etcd starts, where that is the judge.
    pub(super) fn keep(&mut self, side: usize) {
        let Some(etcd) = &mut self.etcd else { return };
        self.threads += 1;
        let terms = Terms { ttl: TTL, drift: if self.broken == Some(Broken::LongLease) { 0 } else { DRIFT } };
        let me = Me { claimant: Claimant([0; 16]), role: Role::Secondary };
        let first = etcd.any_member();
        self.hosts[side].keeping = Some(Keeping {
            number: self.threads,
            keeper: Keeper::new(terms, me),
            me,
            words: VecDeque::new(),
            claim: None,
            blocked: None,
            first,
            out: Vec::new(),
        });
    }

    /// The thread is told something.
    pub(super) fn tell_keeper(&mut self, side: usize, word: Word) {
        let Some(keeping) = &mut self.hosts[side].keeping else { return };
        keeping.words.push_back(word);
        let number = keeping.number;
        let delay = self.random.micros(10, 60);
        self.after(delay, Event::Keeper { side, number });
    }

    /// The thread goes on, if it is not blocked.
    pub(super) fn keeper_turns(&mut self, side: usize, number: u64) {
        let now = self.now;
        let host = &mut self.hosts[side];
        let ready = host.agent_ready();
        if !host.up || host.agent.is_none() {
            return;
        }
        let Some(keeping) = host.keeping.as_mut().filter(|keeping| keeping.number == number) else { return };
        if ready > now {
            return self.at(ready, Event::Keeper { side, number });
        }
        if keeping.blocked.is_some() {
            return;
        }
        let boot = host.clock.boot(now);
        for word in std::mem::take(&mut keeping.words) {
            match word {
                Word::Want(want, me) => {
                    keeping.me = me;
                    keeping.keeper.want(boot, want, me, &mut keeping.out);
                }
                Word::Claim(term, me) => {
                    (keeping.me, keeping.claim) = (me, Some(term));
                    keeping.keeper.claim(boot, term, me);
                }
            }
        }
        keeping.keeper.tick(boot, &mut keeping.out);
        let request = keeping.keeper.next(boot);
        let wait = keeping.keeper.next_deadline(boot).map(|at| at.saturating_since(boot));
        if let Some(request) = request {
            let blocked = Blocked { request, since: boot, call: 0, failed: 0, renewed: None };
            keeping.blocked = Some(blocked);
            self.obey_keeper(side, Duration::ZERO);
            return self.call(side);
        }
        if let Some(wait) = wait {
            // A sleep is not over earlier because the host was suspended.
            let at = host.clock.global(host.clock.local(now) + wait);
            self.at(at.max(now + Duration::from_micros(20)), Event::Keeper { side, number });
        }
        self.obey_keeper(side, Duration::ZERO);
    }

    /// Asks the member whose turn it is.
    fn call(&mut self, side: usize) {
        self.calls += 1;
        let (call, now) = (self.calls, self.now);
        let host = &mut self.hosts[side];
        let Some(keeping) = &mut host.keeping else { return };
        let Some(blocked) = &mut keeping.blocked else { return };
        blocked.call = call;
        let request = match blocked.renewed {
            Some(_) => Request::Look { term: None },
            None => blocked.request.clone(),
        };
        let (number, member) = (keeping.number, keeping.first);
        let over = host.clock.global(host.clock.local(now) + LIMIT);
        self.note(|| format!("{side} asks etcd {member}: {request:?}"));
        self.at(over, Event::Unanswered { side, number, call });
        let cut = self.cut_questions[side].max(self.cut_members[side][member]);
        self.carry(cut, || {
            Event::ToMember(Asked { side, call, member, request: request.clone(), sent: now })
        });
    }

    /// What is on its way between a host and a member may be late, lost or there twice.
    fn carry(&mut self, cut: Mono, mut event: impl FnMut() -> Event) {
        let rough = self.now < self.calm;
        if rough && self.random.per_mille(self.loss) {
            return;
        }
        if cut > self.now {
            // What was on its way may come when there is a way again.
            if self.random.below(2) == 0 {
                let at = cut + self.random.millis(1, 250);
                self.at(at, event());
            }
            return;
        }
        let copies = 1 + u64::from(rough && self.random.per_mille(self.loss));
        for _ in 0..copies {
            let longest = if rough && self.random.per_mille(20) { SLOW } else { self.etcd_takes };
            let delay = self.random.micros(100, 100 + longest * 1000);
            self.after(delay, event());
        }
    }

    pub(super) fn member_hears(&mut self, asked: Asked) {
        let now = self.now;
        let Some(etcd) = &mut self.etcd else { return };
        let fate = etcd.asked(now, asked.member, &asked.request);
        match fate {
            Fate::Waits(_) if now.saturating_since(asked.sent) > GIVES_UP => {}
            Fate::Waits(until) => self.at(until, Event::ToMember(asked)),
            Fate::Never => {}
            Fate::Answered(reply, raft_term) => {
                self.note(|| format!("etcd {} to {}: {reply:?}", asked.member, asked.side));
                if let (Request::Take { claim: true, term: Some(term), .. }, Ok(Reply::Taken { .. })) =
                    (&asked.request, &reply)
                {
                    self.judge.said_yes.push((asked.side, *term));
                }
                let (side, call, member) = (asked.side, asked.call, asked.member);
                let cut = self.cut_answers[side].max(self.cut_members[side][member]);
                self.carry(cut, || {
                    Event::FromMember(Answered { side, call, reply: reply.clone(), raft_term })
                });
            }
        }
        self.only_the_holder_may_speak();
    }

    pub(super) fn member_says(&mut self, answered: Answered) {
        let side = answered.side;
        let host = &mut self.hosts[side];
        let ready = host.agent_ready();
        if !host.up || host.agent.is_none() {
            return;
        }
        if ready > self.now {
            return self.at(ready, Event::FromMember(answered));
        }
        let Some(keeping) = &mut host.keeping else { return };
        let Some(blocked) = keeping.blocked.as_mut().filter(|blocked| blocked.call == answered.call) else {
            return;
        };
        let renewal = matches!(blocked.request, Request::Renew { .. });
        let reply = match (answered.reply, blocked.renewed) {
            (Err(_), _) => return self.next_member(side),
            (Ok(Reply::Renewed(Some(ttl))), None) => {
                blocked.renewed = Some((ttl, answered.raft_term));
                return self.call(side);
            }
            // One that has lost the others does not know that its leader is none any more.
            (Ok(_), Some((_, term))) if term != answered.raft_term => return self.next_member(side),
            (Ok(Reply::Seen(seen)), Some((ttl, _))) => {
                let Request::Renew { lease } = blocked.request else { return };
                let bound = seen.role.is_some_and(|kept| kept.lease == lease);
                Reply::Renewed(bound.then_some(ttl))
            }
            (Ok(reply), _) => reply,
        };
        let late = if renewal && self.broken == Some(Broken::LongLease) {
            host.clock.boot(self.now).saturating_since(blocked.since)
        } else {
            Duration::ZERO
        };
        self.replied(side, reply, late);
    }

    /// The member that was asked has not answered in time.
    pub(super) fn unanswered(&mut self, side: usize, number: u64, call: u64) {
        let host = &mut self.hosts[side];
        let ready = host.agent_ready();
        if !host.up || host.agent.is_none() {
            return;
        }
        let keeping = host.keeping.as_ref().filter(|keeping| keeping.number == number);
        if keeping.and_then(|keeping| keeping.blocked.as_ref()).is_none_or(|blocked| blocked.call != call) {
            return;
        }
        if ready > self.now {
            return self.at(ready, Event::Unanswered { side, number, call });
        }
        self.next_member(side);
    }

    fn next_member(&mut self, side: usize) {
        let Some(keeping) = &mut self.hosts[side].keeping else { return };
        let Some(blocked) = &mut keeping.blocked else { return };
        keeping.first = (keeping.first + 1) % MEMBERS;
        (blocked.failed, blocked.renewed) = (blocked.failed + 1, None);
        if blocked.failed < MEMBERS {
            return self.call(side);
        }
        self.mark("etcd silent");
        self.replied(side, Reply::Failed("no answer".into()), Duration::ZERO);
    }

    fn replied(&mut self, side: usize, reply: Reply, late: Duration) {
        let host = &mut self.hosts[side];
        let boot = host.clock.boot(self.now);
        let Some(keeping) = &mut host.keeping else { return };
        keeping.blocked = None;
        keeping.keeper.reply(boot, reply, &mut keeping.out);
        let number = keeping.number;
        self.obey_keeper(side, late);
        self.keeper_turns(side, number);
    }

    /// What the keeper says is carried out; `late`: broken on purpose, the lease ends so much later here.
    fn obey_keeper(&mut self, side: usize, late: Duration) {
        let host = &mut self.hosts[side];
        let Some(keeping) = &mut host.keeping else { return };
        let me = keeping.me.claimant;
        for outcome in std::mem::take(&mut keeping.out) {
            match outcome {
                Outcome::End(end) => host.io.datapath.lease = Some(Lease { end: end + late, of: me }),
                Outcome::Answer(term, answer) => {
                    if keeping.claim.take_if(|claimed| *claimed == term).is_some() {
                        host.io.answers.push_back(Said::Answer(term, answer));
                    }
                }
                Outcome::Tenure(tenure) => host.io.answers.push_back(Said::Tenure(tenure)),
            }
        }
        if !self.hosts[side].io.answers.is_empty() {
            self.wake(side);
        }
        self.only_the_holder_may_speak();
    }

    /// Time passes for the members.
    pub(super) fn etcd_ticks(&mut self) {
        let now = self.now;
        let Some(etcd) = &mut self.etcd else { return };
        etcd.tick(now);
        if etcd.has_elected() {
            self.mark("another leader");
        }
        self.after(super::etcd::TICK, Event::Etcd);
        self.only_the_holder_may_speak();
    }

    /// A side that its kernel lets speak has the role, by etcd's own time.
    fn only_the_holder_may_speak(&mut self) {
        let Some(etcd) = &mut self.etcd else { return };
        etcd.tick(self.now);
        let holder = etcd.holder();
        for (side, host) in self.hosts.iter().enumerate() {
            let datapath = &host.io.datapath;
            let speaks = matches!(datapath.mode, Mode::Protect | Mode::Pass) && host.up;
            if let Some(lease) =
                datapath.lease.filter(|lease| speaks && host.clock.boot(self.now) < lease.end)
                && holder != Some(lease.of)
            {
                let text = format!("{side} may speak and does not have the role");
                self.violation.get_or_insert(Violation::BothSpeak(text));
            }
        }
    }

    /// A side says something: it has the role.
    pub(super) fn holds_the_role(&mut self, side: usize) {
        let Some(etcd) = &mut self.etcd else { return };
        etcd.tick(self.now);
        let host = &self.hosts[side];
        let lease = host.io.datapath.lease.filter(|lease| host.clock.boot(self.now) < lease.end);
        if lease.is_none_or(|lease| etcd.holder() != Some(lease.of)) {
            let text = format!("{side} speaks and does not have the role");
            self.violation.get_or_insert(Violation::BothSpeak(text));
        }
    }
}

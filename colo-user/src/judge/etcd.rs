//! The judge `etcd:URL[,URL…][;option…]`: the role of a pair is a key that is bound to a lease, and what is not renewed is
//! over, here before there.
//!
//! Besides a claim's answer (as of every judge) it gives the *tenure*: the side that is heard holds the role all the time, from
//! before its first word, and its lease's end is what XDP and the agent go by. So a primary that is frozen, cut off from etcd or
//! forgotten is silent before anybody else can have its role.
//!
//! [`spec`] is how the command line names it. [`keeper`] decides, [`client`] asks, over [`http`], with what [`tls`] reads;
//! here is the thread in which they meet. It blocks in one request at a time and ends with its handle.

pub mod cause;
pub mod client;
pub mod http;
pub mod keeper;
pub mod spec;
pub mod tls;

use super::{Answer, Claim, Pair, Prospect};
use crate::mono::Boot;
use client::Client;
use keeper::{Keeper, Me, Outcome, Reply, Request, Tenure, Terms, Want};
use spec::EtcdSpec;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Longest sleep of the thread.
const IDLE: Duration = Duration::from_secs(3600);

/// Whether a majority of the cluster answers now, as any one member says within `limit`.
pub async fn prospect(spec: EtcdSpec, limit: Duration) -> Prospect {
    let each = limit / u32::try_from(spec.access.endpoints.len()).unwrap_or(u32::MAX);
    let look = tokio::task::spawn_blocking(move || match Client::new(spec.access, spec.prefix, each) {
        Ok(mut client) => client.perform(&Request::Look { term: None }),
        Err(why) => Reply::Failed(why),
    });
    match look.await {
        Ok(Reply::Failed(why)) => Prospect::Unreachable(format!("etcd: {why}")),
        Ok(_) => Prospect::Reachable,
        Err(error) => Prospect::Unreachable(format!("etcd: {error}")),
    }
}

/// What the thread is told.
enum Order {
    Ends(Box<dyn Fn(Boot) + Send>),
    Want(Want, Me),
    Claim(Claim, oneshot::Sender<Answer>),
}

/// The asking end. Clones are of one judge.
#[derive(Clone, Debug)]
pub struct Etcd(Sender<Order>);

impl Etcd {
    /// Starts the thread, which asks nothing before [`Self::ends`] and ends with the last handle. `told` gets each change of
    /// the tenure; it begins with [`Tenure::Over`].
    ///
    /// # Errors
    /// No thread is to be had, or a file that `spec` names cannot be used.
    pub fn start(spec: EtcdSpec, pair: &Pair, told: impl Fn(Tenure) + Send + 'static) -> io::Result<Self> {
        let (sender, orders) = channel();
        // The lease survives one endpoint that does not answer at all, and a second one.
        let limit = (spec.terms.ttl / 8).clamp(Duration::from_millis(250), Duration::from_secs(2));
        let client = Client::new(spec.access, format!("{}{pair}/", spec.prefix), limit)
            .map_err(|why| io::Error::other(format!("etcd: {why}")))?;
        thread::Builder::new().name("etcd".into()).spawn(move || run(spec.terms, client, &orders, &told))?;
        Ok(Self(sender))
    }

    /// `set` makes known to whom it concerns when the lease ends, over which nothing leaves.
    pub fn ends(&self, set: impl Fn(Boot) + Send + 'static) {
        self.order(Order::Ends(Box::new(set)));
    }

    /// What this side is about.
    pub fn want(&self, want: Want, me: Me) {
        self.order(Order::Want(want, me));
    }

    /// Asks once.
    pub async fn ask(&self, claim: &Claim) -> Answer {
        let (reply, answered) = oneshot::channel();
        self.order(Order::Claim(claim.clone(), reply));
        answered.await.unwrap_or_else(|_| Answer::None("another question came first".into()))
    }

    fn order(&self, order: Order) {
        // The thread lives as long as its handles.
        let _ = self.0.send(order);
    }
}

fn run(terms: Terms, mut client: Client, orders: &Receiver<Order>, told: &dyn Fn(Tenure)) {
    // Nothing is asked before the lease's end can be set, and then it is known whose it is.
    let mut waiting = Vec::new();
    let ends = loop {
        match orders.recv() {
            Ok(Order::Ends(ends)) => break ends,
            Ok(order) => waiting.push(order),
            Err(_) => return,
        }
    };
    let nobody = Me { claimant: super::Claimant([0; 16]), role: crate::link::frame::Role::Secondary };
    let mut asker =
        Asker { keeper: Keeper::new(terms, nobody), ends, claim: None, failing: false, out: Vec::new() };
    for order in waiting {
        asker.obey(order, told);
    }
    loop {
        let now = Boot::now();
        asker.keeper.tick(now, &mut asker.out);
        asker.carry_out(told);
        while let Some(request) = asker.keeper.next(Boot::now()) {
            let reply = client.perform(&request);
            asker.note(&reply);
            asker.keeper.reply(Boot::now(), reply, &mut asker.out);
            asker.carry_out(told);
            while let Ok(order) = orders.try_recv() {
                asker.obey(order, told);
            }
        }
        let now = Boot::now();
        let wait = asker.keeper.next_deadline(now).map_or(IDLE, |at| at.saturating_since(now));
        match orders.recv_timeout(wait) {
            Ok(order) => asker.obey(order, told),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The keeper and those it speaks to.
struct Asker {
    keeper: Keeper,
    ends: Box<dyn Fn(Boot) + Send>,
    claim: Option<(u64, oneshot::Sender<Answer>)>,
    /// The last request got no answer.
    failing: bool,
    out: Vec<Outcome>,
}

impl Asker {
    fn obey(&mut self, order: Order, told: &dyn Fn(Tenure)) {
        let now = Boot::now();
        match order {
            Order::Ends(ends) => self.ends = ends,
            Order::Want(want, me) => self.keeper.want(now, want, me, &mut self.out),
            Order::Claim(claim, reply) => {
                self.claim = Some((claim.term, reply));
                self.keeper.claim(now, claim.term, Me { claimant: claim.claimant, role: claim.role });
            }
        }
        self.carry_out(told);
    }

    fn carry_out(&mut self, told: &dyn Fn(Tenure)) {
        for outcome in self.out.drain(..) {
            match outcome {
                Outcome::End(end) => (self.ends)(end),
                Outcome::Answer(term, answer) => {
                    if let Some((_, reply)) = self.claim.take_if(|(claimed, _)| *claimed == term) {
                        // Whoever asked may have another question by now.
                        let _ = reply.send(answer);
                    }
                }
                Outcome::Tenure(tenure) => {
                    match &tenure {
                        Tenure::Held(token) => info!("etcd: the role is held, fencing token {token}"),
                        Tenure::Over => warn!("etcd: the role is not held"),
                        Tenure::Taken(other) => warn!("etcd: {other} has had the role since"),
                    }
                    told(tenure);
                }
            }
        }
    }

    /// One line for each time that etcd is lost and found.
    fn note(&mut self, reply: &Reply) {
        let failed = matches!(reply, Reply::Failed(_));
        if std::mem::replace(&mut self.failing, failed) != failed {
            match reply {
                Reply::Failed(why) => warn!("etcd: {why}"),
                _ => info!("etcd answers again"),
            }
        }
    }
}

#[cfg(test)]
mod tests;

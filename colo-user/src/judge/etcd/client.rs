//! etcd over its JSON gateway (`/v3/…`, etcd 3.4 and later): requests of the [`super::keeper`] carried out, each within a time
//! limit at each endpoint. What one endpoint does not answer the next one is asked, and asked first from then on.
//!
//! Nothing is believed of a member that has lost the others: transactions are linearizable, and a renewal counts only with a
//! linearizable look at the key afterwards, in the term of the same leader: one that stood still answers renewals with a lease
//! that it does not keep any more.

use super::http::Http;
use super::keeper::{Kept, Me, Reply, Request, Seen};
use super::spec::Access;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Client {
    http: Http,
    endpoints: Vec<String>,
    /// The one that answered last.
    first: usize,
    /// What the keys of the pair begin with.
    prefix: String,
}

impl Client {
    /// Talks to a cluster about the keys below `prefix`, with each endpoint for at most `limit` about each request.
    ///
    /// # Errors
    /// A file of `access` cannot be used.
    pub fn new(access: Access, prefix: String, limit: Duration) -> Result<Self, String> {
        let http = Http::new(&access, limit)?;
        Ok(Self { http, endpoints: access.endpoints, first: 0, prefix })
    }

    /// Carries one out.
    pub fn perform(&mut self, request: &Request) -> Reply {
        let mut failed = Vec::new();
        for _ in 0..self.endpoints.len() {
            let endpoint = self.endpoints[self.first].clone();
            match self.ask(&endpoint, request) {
                Ok(reply) => return reply,
                Err(error) => failed.push(format!("{endpoint}: {error}")),
            }
            self.first = (self.first + 1) % self.endpoints.len();
        }
        Reply::Failed(failed.join("; "))
    }

    fn ask(&mut self, endpoint: &str, request: &Request) -> Result<Reply, String> {
        match request {
            Request::Grant { ttl } => {
                let granted = self.http.post(endpoint, "lease/grant", &json!({ "TTL": ttl.as_secs() }))?;
                let lease = number(&granted["ID"]).filter(|&id| id != 0);
                let ttl = seconds(&granted["TTL"]);
                let (lease, ttl) = lease.zip(ttl).ok_or_else(|| format!("no lease: {granted}"))?;
                Ok(Reply::Granted { lease, ttl })
            }
            Request::Look { term } => self.look(endpoint, *term).map(Reply::Seen),
            Request::Take { seen, me, role, claim, term } => {
                let compare: Vec<Value> = self
                    .keys(*term)
                    .zip([&seen.role, &seen.epoch, &seen.claim])
                    .map(|(key, kept)| {
                        let revision = kept.as_ref().map_or(0, |kept| kept.revision).to_string();
                        json!({ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision })
                    })
                    .collect();
                let value = BASE64_STANDARD.encode(text(me));
                let put = |name: &str, lease: i64| {
                    let (key, lease) = (self.key(name), lease.to_string());
                    json!({ "request_put": { "key": key, "value": value, "lease": lease } })
                };
                let mut puts = Vec::new();
                if let Some(lease) = role {
                    puts.extend([put("role", *lease), put("epoch", 0)]);
                }
                if let Some(term) = term.filter(|_| *claim) {
                    puts.push(put(&claim_name(term), 0));
                }
                let body = json!({ "compare": compare, "success": puts, "failure": self.ranges(*term) });
                let answer = self.http.post(endpoint, "kv/txn", &body)?;
                if answer["succeeded"] == true {
                    let revision = number(&answer["header"]["revision"]);
                    return Ok(Reply::Taken { revision: revision.ok_or("an answer without a revision")? });
                }
                seen_in(&answer).map(Reply::Seen)
            }
            Request::Renew { lease } => {
                let body = json!({ "ID": lease.to_string() });
                let answer = self.http.post(endpoint, "lease/keepalive", &body)?;
                let Some(ttl) = seconds(&answer["result"]["TTL"]) else { return Ok(Reply::Renewed(None)) };
                let body = json!({ "success": self.ranges(None) });
                let looked = self.http.post(endpoint, "kv/txn", &body)?;
                if !is_same_leader(&answer["result"], &looked) {
                    return Err("there was another leader before the renewal, or since".to_owned());
                }
                let bound = seen_in(&looked)?.role.is_some_and(|kept| kept.lease == *lease);
                Ok(Reply::Renewed(bound.then_some(ttl)))
            }
            Request::Revoke { lease } => {
                match self.http.post(endpoint, "lease/revoke", &json!({ "ID": lease.to_string() })) {
                    Err(error) if error.contains("lease not found") => Ok(Reply::Revoked),
                    answer => answer.map(|_| Reply::Revoked),
                }
            }
        }
    }

    fn look(&mut self, endpoint: &str, term: Option<u64>) -> Result<Seen, String> {
        let body = json!({ "success": self.ranges(term) });
        seen_in(&self.http.post(endpoint, "kv/txn", &body)?)
    }

    /// `role`, `epoch` and the claim, in this order.
    fn keys(&self, term: Option<u64>) -> impl Iterator<Item = String> {
        let claim = term.map(|term| self.key(&claim_name(term)));
        [self.key("role"), self.key("epoch")].into_iter().chain(claim)
    }

    fn key(&self, name: &str) -> String {
        BASE64_STANDARD.encode(format!("{}{name}", self.prefix))
    }

    fn ranges(&self, term: Option<u64>) -> Value {
        self.keys(term).map(|key| json!({ "request_range": { "key": key } })).collect()
    }
}

/// Whether a member gave both answers in one term of its leader.
fn is_same_leader(one: &Value, other: &Value) -> bool {
    let term = |answer: &Value| number(&answer["header"]["raft_term"]);
    term(one).is_some() && term(one) == term(other)
}

fn claim_name(term: u64) -> String {
    format!("claim/{term:016x}")
}

/// A key's value: who, and on which side, for people.
fn text(me: &Me) -> String {
    format!("{} {}", me.claimant, me.role)
}

/// A 64-bit number of the gateway, which writes them as strings.
fn number(value: &Value) -> Option<i64> {
    value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok())
}

fn seconds(value: &Value) -> Option<Duration> {
    number(value).and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0).map(Duration::from_secs)
}

/// What the ranges of a transaction's answer say.
fn seen_in(answer: &Value) -> Result<Seen, String> {
    let mut kept = answer["responses"].as_array().into_iter().flatten().map(|response| {
        match response["response_range"]["kvs"].get(0) {
            None => Ok(None),
            Some(pair) => read(pair).map(Some),
        }
    });
    let mut next = || kept.next().transpose().map(Option::flatten);
    Ok(Seen { role: next()?, epoch: next()?, claim: next()? })
}

fn read(pair: &Value) -> Result<Kept, String> {
    let value = pair["value"].as_str().and_then(|value| BASE64_STANDARD.decode(value).ok());
    let words = value.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let claimant = words.split_whitespace().next().and_then(|word| word.parse().ok());
    let revision = number(&pair["mod_revision"]);
    let (claimant, revision) =
        claimant.zip(revision).ok_or_else(|| format!("a key of the pair is no key of colo's: {words:?}"))?;
    Ok(Kept { revision, lease: number(&pair["lease"]).unwrap_or(0), claimant })
}

#[cfg(test)]
mod tests;

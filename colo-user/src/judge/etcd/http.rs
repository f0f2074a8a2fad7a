//! etcd's JSON gateway over HTTP, in the clear or over TLS: one request at a time, each within a time limit that holds
//! from the name's look-up to the last byte, TLS's handshake among it.
//!
//! Where there is a user, its token is had with the first request and again when etcd does not know it any more; the password
//! is read each time.

use super::cause;
use super::spec::{Access, Login};
use super::tls::Tls;
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::TlsConfig;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// What etcd says to a token that it knows no more, or that is older than the last change of its users.
const STALE: [&str; 2] = ["invalid auth token", "revision of auth store is old"];

/// See the module.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
    limit: Duration,
    tls: Option<Tls>,
    login: Option<Login>,
    token: Option<Token>,
}

/// What etcd knows a user by, for some minutes.
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Http {
    /// Each request gets at most `limit`.
    ///
    /// # Errors
    /// A file of `access` cannot be used.
    pub fn new(access: &Access, limit: Duration) -> Result<Self, String> {
        let (tls, config) = access.tls.clone().map(Tls::read).transpose()?.unzip();
        Ok(Self { agent: agent(limit, config), limit, tls, login: access.login.clone(), token: None })
    }

    /// Asks `endpoint` for `/v3/path`.
    ///
    /// # Errors
    /// Nobody knows what became of it, or etcd refuses; why, and what to do.
    pub fn post(&mut self, endpoint: &str, path: &str, body: &Value) -> Result<Value, String> {
        if let Some(config) = self.tls.as_mut().and_then(Tls::changed) {
            self.agent = agent(self.limit, Some(config));
        }
        if self.login.is_none() {
            return self.once(endpoint, path, body);
        }
        let had = self.token.is_some();
        self.log_in(endpoint)?;
        let answer = self.once(endpoint, path, body);
        let stale = answer.as_ref().is_err_and(|why| STALE.iter().any(|said| why.contains(said)));
        if !stale {
            return answer;
        }
        self.token = None;
        if !had {
            return answer;
        }
        self.log_in(endpoint)?;
        self.once(endpoint, path, body)
    }

    fn log_in(&mut self, endpoint: &str) -> Result<(), String> {
        let Some(Login { user, password: path }) = self.login.as_ref().filter(|_| self.token.is_none())
        else {
            return Ok(());
        };
        let password = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let body = json!({ "name": user, "password": password.trim_end_matches(['\r', '\n']) });
        let answer = self.once(endpoint, "auth/authenticate", &body)?;
        let token = answer["token"].as_str().ok_or("an authentication without a token")?;
        self.token = Some(Token(token.to_owned()));
        Ok(())
    }

    fn once(&self, endpoint: &str, path: &str, body: &Value) -> Result<Value, String> {
        let lost =
            |error: ureq::Error| cause::of_connection(&error, self.tls.as_ref().map(Tls::files), self.limit);
        let mut request = self.agent.post(format!("{endpoint}/v3/{path}")).content_type("application/json");
        if let Some(Token(token)) = &self.token {
            request = request.header("Authorization", token);
        }
        let mut answer = request.send(body.to_string()).map_err(lost)?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(lost)?;
        let refused = |why: String| Err(cause::of_answer(&why, self.login.as_ref()));
        if !status.is_success() {
            return refused(format!("{status}: {}", text.trim()));
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if value["error"].is_null() { Ok(value) } else { refused(value["error"].to_string()) }
    }
}

/// Another one has other connections.
fn agent(limit: Duration, tls: Option<TlsConfig>) -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(limit))
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0);
    match tls {
        Some(tls) => config.tls_config(tls).https_only(true),
        None => config,
    }
    .build()
    .into()
}

#[cfg(test)]
mod tests;

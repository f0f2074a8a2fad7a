//! What an operator orders of a running agent: `colo promote`, `demote`, `pause`, `resume`, `failover`,
//! `reprotect` and `test-failover`. The agent decides ([`crate::failover::verbs`]); here are arguments, words and exit statuses.

use super::status::socket;
use crate::control::{MAX_ORDER_LIMIT, ORDER_LIMIT, TEST, ask};
use crate::failover::verbs::Verb;
use crate::judge::PROSPECT_LIMIT;
use crate::output;
use clap::{Args, value_parser};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// No agent answers, or the command line is wrong.
const NO_AGENT: u8 = 2;
/// It was begun and has not come to what was ordered.
const FAILED: u8 = 3;

/// Which agent, and how it is shown.
#[derive(Args, Debug)]
struct To {
    /// The agent's control socket [default: the only one in /run/colo]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print one JSON object: verb, outcome (done, refused, failed, unfinished), text; as they apply refusal, `way_out`, risk,
    /// standing, reason, checks [{name, ok, text}]
    #[arg(long)]
    json: bool,
    /// Wait for its end for so many seconds; the agent goes on with it after that
    #[arg(long, value_name = "S", default_value_t = ORDER_LIMIT.as_secs(),
          value_parser = value_parser!(u64).range(1..=MAX_ORDER_LIMIT.as_secs()))]
    timeout: u64,
}

/// Have this side go on alone as the service
///
/// On the secondary's host: it takes over now, if the primary is not there. As without an operator it waits until a primary that is
/// cut off has stopped by itself, and asks the judge. A primary that holds because nobody can be asked goes on alone likewise.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Exit status 0: this side is the service. 1: refused, nothing was changed. 2: no agent answers there,
or the command line is wrong. 3: begun, and it came to something else or has not ended in time.")]
pub struct Promote {
    /// Also if the judge gives no answer or says no, or there is none: only if you know that the other side is off
    ///
    /// If it is not, clients hear two sides, and what it has said since is lost.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    to: To,
}

/// Close this side for good
///
/// Nothing passes its uplink any more, what it held is dropped, and the other side is told: a secondary takes over. The host
/// can then take a new secondary (`colo secondary` with a new VM, and `colo protect`).
#[derive(Args, Debug)]
#[command(
    after_long_help = "Exit status 0: it is closed. 1: refused. 2: no agent answers there, or the command line is wrong."
)]
pub struct Demote {
    #[command(flatten)]
    to: To,
}

/// Switch protection off, and keep the pair
///
/// On the primary's host. What is held leaves in order, and then everything at once. The judge is asked first, so that the
/// secondary, whose state grows old, can never take over with it: if it is lost meanwhile this side goes on alone, and if this
/// side is lost the service stands still.
#[derive(Args, Debug)]
#[command(after_long_help = "Exit status as of `colo promote`; 0: protection is off.")]
pub struct Pause {
    #[command(flatten)]
    to: To,
}

/// Switch protection on again after `colo pause`
///
/// On the primary's host. It waits for the checkpoint that the secondary then owns.
#[derive(Args, Debug)]
#[command(after_long_help = "Exit status as of `colo promote`; 0: the pair is protected.")]
pub struct Resume {
    #[command(flatten)]
    to: To,
}

/// Hand the service to the secondary
///
/// On the primary's host: a fresh checkpoint is made, this side closes for good and says so, and the secondary takes over at once,
/// with every connection. This host can then take a new secondary.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Exit status as of `colo promote`; 0: this side is closed, and the secondary was told. What is not planned
the agents do by themselves, or `colo promote` on the secondary's host.")]
pub struct Failover {
    /// With both sides there
    #[arg(long)]
    planned: bool,
    #[command(flatten)]
    to: To,
}

/// Make a survivor ready for a new secondary
///
/// On the host of a secondary that has taken over: its agent goes on as a primary's, in place, and no client notices. It takes a new
/// secondary then: `colo secondary` on the other host, and `colo protect`. With `colo secondary --reprotect` nobody needs to order it.
#[derive(Args, Debug)]
#[command(after_long_help = "Exit status as of `colo promote`; 0: this side's agent is a primary's.")]
pub struct Reprotect {
    #[command(flatten)]
    to: To,
}

/// Say what would happen if the primary were lost now, and change nothing
#[derive(Args, Debug)]
#[command(after_long_help = "\
Exit status 0: the secondary would take over, as far as that is known. 1: it would not, the check that
failed says why. 2: no agent answers there, or the command line is wrong.")]
pub struct TestFailover {
    #[command(flatten)]
    to: To,
}

impl Promote {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let verb = Verb::Promote { force: self.force };
        if let Some(risk) = verb.risk() {
            output::say(format_args!("colo: --force: {risk}"));
        }
        Ok(self.to.order(verb))
    }
}

impl Demote {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(self.to.order(Verb::Demote))
    }
}

impl Pause {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(self.to.order(Verb::Pause))
    }
}

impl Resume {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(self.to.order(Verb::Resume))
    }
}

impl Failover {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if !self.planned {
            output::say(format_args!(
                "colo: failover: give --planned; a side that is lost is replaced without an order, or by `colo promote` on the \
                 other host"
            ));
            return Ok(ExitCode::from(NO_AGENT));
        }
        Ok(self.to.order(Verb::Failover))
    }
}

impl Reprotect {
    /// Orders it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(self.to.order(Verb::Reprotect))
    }
}

impl TestFailover {
    /// Asks.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(match self.to.ask(&json!({ "command": TEST })) {
            Some(answer) if answer["outcome"] == "done" => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::from(NO_AGENT),
        })
    }
}

impl To {
    fn order(self, verb: Verb) -> ExitCode {
        let force = verb == Verb::Promote { force: true };
        let timeout_ms = self.timeout * 1000;
        let request = json!({ "command": verb.word(), "force": force, "timeout_ms": timeout_ms });
        let Some(answer) = self.ask(&request) else { return ExitCode::from(NO_AGENT) };
        match answer["outcome"].as_str() {
            Some("done") => ExitCode::SUCCESS,
            Some("refused") => ExitCode::FAILURE,
            _ => ExitCode::from(FAILED),
        }
    }

    /// Asks the agent and prints its answer.
    fn ask(self, request: &Value) -> Option<Value> {
        let limit = Duration::from_secs(self.timeout) + PROSPECT_LIMIT;
        let asked = socket(self.control).and_then(|path| ask(&path, request, limit));
        let answer = asked.inspect_err(|error| output::say(format_args!("colo: {error:#}"))).ok()?;
        if self.json {
            output::print(&format!("{answer}\n"));
        } else {
            output::print(&lines(&answer));
        }
        Some(answer)
    }
}

/// For people: what happened first, then what it rests on.
fn lines(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default();
    let mut lines = vec![format!("{} {}: {}", text("verb"), text("outcome"), text("text"))];
    for check in answer["checks"].as_array().into_iter().flatten() {
        let ok = match check["ok"].as_bool() {
            Some(true) => "ok",
            Some(false) => "not ok",
            None => "not known",
        };
        let [name, found] = ["name", "text"].map(|field| check[field].as_str().unwrap_or_default());
        lines.push(format!("  {name:<8} {ok:<10} {found}"));
    }
    for (field, name) in [("way_out", "instead"), ("risk", "risk")] {
        if !text(field).is_empty() {
            lines.push(format!("  {name}: {}", text(field)));
        }
    }
    if !text("standing").is_empty() {
        lines.push(format!("  this side: {} ({})", text("standing"), text("reason")));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;

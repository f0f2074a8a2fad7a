//! `colo status`: what an agent says about itself.

use crate::control::{DIRECTORY, ask_status};
use crate::output;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// No agent answers.
const NO_AGENT: u8 = 2;

/// Show whether a guest is protected, and what its agent has counted
///
/// Without --control the only agent on this host is asked.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  colo status --control /run/colo/tap0.sock

Exit status 0: protected. 1: not protected, the reason is shown. 2: no agent answers there.
With --json one object is printed: role, state (protected or not-protected), reason, epoch, peer, attach {guest, uplink},
interfaces {guest, uplink {given, name, index, state, way_out}}, hold, held, held_time and pauses {count, p50_us, p99_us, max_us}, counters {NAME: N}, checkpoints {asked, by {KIND: N}}, failover {standing, reason, term, way_out}, heartbeat (see the README), lease {state, token, ends_in_ms}, divergences [the last 16, newest last].")]
pub struct Status {
    /// The agent's control socket [default: the only one in /run/colo]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Asks once and prints the answer.
    pub fn run(self) -> Result<ExitCode> {
        let asked = socket(self.control).and_then(|p| ask_status(&p));
        let status = match asked {
            Ok(status) => status,
            Err(error) => {
                output::say(format_args!("colo: {error:#}"));
                return Ok(ExitCode::from(NO_AGENT));
            }
        };
        if self.json {
            output::print(&format!("{status}\n"));
        } else {
            output::print(&table(&status));
        }
        Ok(if status["state"] == "protected" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The control socket given, or the only one on this host.
pub(super) fn socket(given: Option<PathBuf>) -> Result<PathBuf> {
    given.map_or_else(|| only_socket(Path::new(DIRECTORY)), Ok)
}

fn only_socket(directory: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("no agent runs here: {}", directory.display()))?;
    let mut sockets: Vec<_> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|x| x == "sock"))
        .collect();
    sockets.sort();
    match sockets.as_slice() {
        [] => bail!("no agent runs here: {} has no control socket", directory.display()),
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|p| p.display().to_string()).collect();
            bail!("several agents run here, name one with --control: {}", names.join(", "))
        }
    }
}

/// For people: the state first, then what is not zero.
fn table(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<28} {value}");
    };
    line("role", text(&status["role"]));
    line("state", format!("{} ({})", text(&status["state"]), text(&status["reason"])));
    line("epoch", text(&status["epoch"]));
    line("link", text(&status["peer"]));
    line(
        "attached",
        format!("guest {}, uplink {}", text(&status["attach"]["guest"]), text(&status["attach"]["uplink"])),
    );
    for side in ["guest", "uplink"] {
        let interface = &status["interfaces"][side];
        let [given, name, state] = ["given", "name", "state"].map(|field| text(&interface[field]));
        let renamed = if name == given { String::new() } else { format!(", given as {given}") };
        line(side, format!("{name} ({state}{renamed})"));
        if let Some(way_out) = interface["way_out"].as_str() {
            line("  way out", way_out.to_owned());
        }
    }
    let failover = &status["failover"];
    if !failover.is_null() {
        line("stands", format!("{} ({})", text(&failover["standing"]), text(&failover["reason"])));
        if let Some(way_out) = failover["way_out"].as_str() {
            line("way out", way_out.to_owned());
        }
    }
    let lease = &status["lease"];
    if !lease.is_null() {
        line("lease", format!("{}, ends in {} ms", text(&lease["state"]), text(&lease["ends_in_ms"])));
    }
    let heartbeat = &status["heartbeat"];
    if !heartbeat.is_null() {
        line("peer", format!("{} ({})", text(&heartbeat["peer"]), text(&heartbeat["reason"])));
        for link in heartbeat["links"].as_array().into_iter().flatten() {
            line(&format!("  {}", text(&link["link"])), text(&link["state"]));
        }
        let rate = text(&heartbeat["false_alarms_per_hour"]);
        line("false alarms", format!("{} ({rate} per hour)", text(&heartbeat["false_alarms"])));
    }
    line("held by", text(&status["hold"]));
    line("held", text(&status["held"]));
    line("held time", times(&status["held_time"]));
    line("checkpoint pauses", times(&status["pauses"]));
    line("checkpoints asked", text(&status["checkpoints"]["asked"]));
    for (kind, n) in status["checkpoints"]["by"].as_object().into_iter().flatten() {
        line(&format!("  {kind}"), n.to_string());
    }
    for (name, n) in status["counters"].as_object().into_iter().flatten() {
        if n.as_u64() != Some(0) {
            line(name, n.to_string());
        }
    }
    for divergence in status["divergences"].as_array().into_iter().flatten() {
        let at = [("seq", &divergence["seq"]), ("offset", &divergence["offset"])];
        let at: String = at.iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| format!(" {n} {v}")).collect();
        let sides = format!(
            "primary [{}] secondary [{}]",
            text(&divergence["primary"]),
            text(&divergence["secondary"])
        );
        line(
            "divergence",
            format!("{}: {}{at} {sides}", text(&divergence["flow"]), text(&divergence["kind"])),
        );
    }
    out
}

/// `50 % within 70 us, 99 % within 900 us, longest 1000 us of 9`.
fn times(summary: &Value) -> String {
    let [count, p50, p99, max] = ["count", "p50_us", "p99_us", "max_us"].map(|name| &summary[name]);
    format!("50 % within {p50} us, 99 % within {p99} us, longest {max} us of {count}")
}

#[cfg(test)]
mod tests;

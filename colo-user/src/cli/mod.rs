//! The command line: one file per command, each with its arguments and its way to run.

pub mod as_primary;
pub mod common;
pub mod compare;
pub mod detach;
pub mod diff;
pub mod primary;
pub mod protect;
pub mod secondary;
pub mod signals;
pub mod status;
pub mod verbs;
pub mod watchdog;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

/// Options of which each is right, and which do not fit together. As with one that is wrong by itself the exit status is [`USAGE`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// Whether options fit together, or what is wrong with them.
fn fit(holds: bool, what: impl FnOnce() -> String) -> Result<(), Misuse> {
    if holds { Ok(()) } else { Err(Misuse(what())) }
}

/// An error with its causes, but those that are in what was said already.
#[must_use]
pub fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

/// Exit status of a wrong command line, as clap has it.
pub const USAGE: u8 = 2;

/// COLO fault tolerance for virtual machines: compare what two replicas say, and let out what they agree on
#[derive(Debug, Parser)]
#[command(name = "colo", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. Their help is the documentation of their arguments.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a comment here would stand in for the help of the command")]
pub enum Command {
    Primary(primary::Primary),
    Secondary(secondary::Secondary),
    Protect(protect::Protect),
    Status(status::Status),
    Promote(verbs::Promote),
    Demote(verbs::Demote),
    Pause(verbs::Pause),
    Resume(verbs::Resume),
    Failover(verbs::Failover),
    Reprotect(verbs::Reprotect),
    TestFailover(verbs::TestFailover),
    Detach(detach::Detach),
    Compare(compare::Compare),
    Diff(diff::Diff),
    Watchdog(watchdog::Watchdog),
}

impl Command {
    /// Runs the command. An error is printed by the caller and means exit status 1, [`USAGE`] if it is a [`Misuse`].
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Primary(primary) => primary.run(),
            Self::Secondary(secondary) => secondary.run(),
            Self::Protect(protect) => protect.run(),
            Self::Status(status) => status.run(),
            Self::Promote(promote) => promote.run(),
            Self::Demote(demote) => demote.run(),
            Self::Pause(pause) => pause.run(),
            Self::Resume(resume) => resume.run(),
            Self::Failover(failover) => failover.run(),
            Self::Reprotect(reprotect) => reprotect.run(),
            Self::TestFailover(test) => test.run(),
            Self::Detach(detach) => detach.run(),
            Self::Compare(compare) => compare.run(),
            Self::Diff(diff) => diff.run(),
            Self::Watchdog(watchdog) => watchdog.run(),
        }
    }
}

#[cfg(test)]
mod tests;

//! The command line: one file per command, each with its arguments and its way to run.

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
    TestFailover(verbs::TestFailover),
    Detach(detach::Detach),
    Compare(compare::Compare),
    Diff(diff::Diff),
    Watchdog(watchdog::Watchdog),
}

impl Command {
    /// Runs the command. An error is printed by the caller and means exit status 1.
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
            Self::TestFailover(test) => test.run(),
            Self::Detach(detach) => detach.run(),
            Self::Compare(compare) => compare.run(),
            Self::Diff(diff) => diff.run(),
            Self::Watchdog(watchdog) => watchdog.run(),
        }
    }
}

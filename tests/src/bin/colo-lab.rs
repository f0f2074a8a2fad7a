//! `colo-lab`: the light lab on this machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use colo_tests::lab;

/// Two replicas of a server in network namespaces, the agents between them, and clients.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as one replica until standard input ends
    #[command(hide = true)]
    Serve,
    /// Become PROGRAM, ended when the parent ends
    #[command(hide = true)]
    Tether {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Serve => lab::replica::serve(),
        Command::Tether { program } => lab::child::tether(&program).map(|()| ExitCode::FAILURE),
    }
}

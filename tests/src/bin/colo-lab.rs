//! `colo-lab`: the light lab on this machine.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use colo_tests::lab::{self, child::Programs, run::Plan};

/// Two replicas of a server in network namespaces, the agents between them, and clients.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the lab: traffic, a divergence, a verdict; exit code 0 if all is as it must be
    Run {
        /// What the replicas are
        #[arg(long, value_enum, default_value_t = Replicas::Namespaces)]
        replicas: Replicas,
        /// How long each of the two phases sends
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// The agent's binary [default: `colo` beside this program]
        #[arg(long, value_name = "PATH")]
        release_binary: Option<PathBuf>,
        /// Arguments for both agents, such as `-- --hold ringbuf`
        #[arg(last = true)]
        agent_arguments: Vec<String>,
    },
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

/// What the replicas are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Replicas {
    /// A server on the Linux TCP stack of a network namespace
    Namespaces,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { replicas: Replicas::Namespaces, seconds, release_binary, agent_arguments } => {
            let mut programs = Programs::beside(&std::env::current_exe()?);
            if let Some(path) = release_binary {
                programs.colo = path;
            }
            lab::run::run(&Plan { seconds, programs, agent_arguments })
        }
        Command::Serve => lab::replica::serve(std::io::stdin().lock()),
        Command::Tether { program } => lab::child::tether(&program).map(|()| ExitCode::FAILURE),
    }
}

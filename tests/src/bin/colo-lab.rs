//! `colo-lab`: the lab on this machine: two VMs, or the light one of network namespaces.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use colo_tests::{
    alike,
    lab::{self, child::Programs},
    pair::{self, stage::target},
    sim::{self, Broken, JudgeKind},
};

/// Two replicas of a server, the agents between them, and clients.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the lab: traffic, a divergence, the end of the primary, a verdict; exit code 0 if all is as it must be
    Run {
        /// What the replicas are
        #[arg(long, value_enum, default_value_t = Replicas::Vms)]
        replicas: Replicas,
        /// How long each phase lasts
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// The agent's binary [default: `colo` beside this program]
        #[arg(long, value_name = "PATH")]
        release_binary: Option<PathBuf>,
        /// VMs: where the picture of the run goes [default: colo-lab.svg in cargo's target directory]
        #[arg(long, value_name = "PATH")]
        svg: Option<PathBuf>,
        /// VMs: what the traffic's content is made from
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Arguments for both agents, such as `-- --hold ringbuf`
        #[arg(last = true)]
        agent_arguments: Vec<String>,
    },
    /// Repeat what takes time: lose one side of a pair of VMs, or open many connections; exit code 0 if all went well
    Soak {
        #[command(subcommand)]
        what: Soak,
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

/// What is repeated.
#[derive(Debug, Subcommand)]
enum Soak {
    /// Lose one side under all traffic at once, in every case or one
    Failover {
        /// Runs of each case
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        runs: u64,
        /// Only this case, as in `primary-vm:steady`, or all with `primary-vm` or `handshakes` in their names
        #[arg(long, value_name = "CASE")]
        only: Option<String>,
        /// The first run's seed; each further run has the next
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Kill the primary's host under all traffic at once, and measure how long a client waits for the secondary's first answer, beside
    /// the time that is set to find out
    Takeover {
        /// Runs of each setting
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        runs: u64,
        /// Only this setting, as in `lock` or `etcd-3-short`
        #[arg(long, value_name = "SETTING")]
        only: Option<String>,
        /// The first run's seed; each further run has the next
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print one JSON object in place of the table; what each run came to goes to standard error
        #[arg(long)]
        json: bool,
    },
    /// Open short HTTP connections on guests that agree, and count the checkpoints that they cost
    Short {
        /// How many
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
        connections: u64,
    },
    /// Draw what two guests say, alike and otherwise, and give it to the comparator; needs no root
    Compare {
        /// How many sequences, each said alike and otherwise
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        sequences: u64,
        /// The first seed; each further one is the next
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print one JSON object in place of the text
        #[arg(long)]
        json: bool,
    },
    /// Simulate two hosts, a judge and a network under schedules of what goes wrong; needs no root
    Sim {
        /// How many schedules
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        schedules: u64,
        /// The first seed; each further one is the next
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only with this judge, `lock` or `etcd` [default: each seed with both]
        #[arg(long, value_name = "KIND", value_parser = judge)]
        judge: Option<JudgeKind>,
        /// Break this on purpose, to see it found
        #[arg(long, value_name = "WHAT", value_parser = broken)]
        broken: Option<Broken>,
        /// Let an operator order this and that meanwhile
        #[arg(long)]
        orders: bool,
        /// Show every event of the first schedule that fails, or of the only one
        #[arg(long)]
        trace: bool,
        /// Print one JSON object in place of the table
        #[arg(long)]
        json: bool,
    },
}

/// Whom simulated agents may ask.
fn judge(name: &str) -> Result<JudgeKind, String> {
    let found = JudgeKind::ALL.into_iter().find(|judge| judge.name() == name);
    found.ok_or_else(|| format!("`{name}` is none of {}", JudgeKind::ALL.map(JudgeKind::name).join(", ")))
}

/// What can be broken on purpose.
fn broken(name: &str) -> Result<Broken, String> {
    Broken::ALL
        .into_iter()
        .find(|broken| broken.name() == name)
        .ok_or_else(|| format!("`{name}` cannot be broken: {}", Broken::ALL.map(Broken::name).join(", ")))
}

/// What the replicas are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Replicas {
    /// QEMU VMs in COLO, of which one is killed
    Vms,
    /// A server on the Linux TCP stack of a network namespace
    Namespaces,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { replicas, seconds, release_binary, svg, seed, agent_arguments } => {
            let mut programs = Programs::beside(&std::env::current_exe()?);
            if let Some(path) = release_binary {
                programs.colo = path;
            }
            match replicas {
                Replicas::Namespaces => lab::run::run(&lab::run::Plan { seconds, programs, agent_arguments }),
                Replicas::Vms => {
                    let svg = svg.unwrap_or_else(|| target(&programs.lab).join("colo-lab.svg"));
                    pair::run::run(&pair::run::Plan { seconds, programs, agent_arguments, seed, svg })
                }
            }
        }
        Command::Soak { what } => {
            let programs = Programs::beside(&std::env::current_exe()?);
            match what {
                Soak::Failover { runs, only, seed } => {
                    pair::soak::failover(&programs, runs, only.as_deref(), seed)
                }
                Soak::Takeover { runs, only, seed, json } => {
                    pair::soak::takeover(&programs, runs, only.as_deref(), seed, json)
                }
                Soak::Short { connections } => pair::soak::short(&programs, connections),
                Soak::Compare { sequences, seed, json } => {
                    alike::soak::soak(&alike::soak::Soak { sequences, seed, json })
                }
                Soak::Sim { schedules, seed, judge, broken, orders, trace, json } => {
                    sim::soak::soak(&sim::soak::Soak { schedules, seed, judge, broken, orders, trace, json })
                }
            }
        }
        Command::Serve => lab::replica::serve(std::io::stdin().lock()),
        Command::Tether { program } => lab::child::tether(&program).map(|()| ExitCode::FAILURE),
    }
}

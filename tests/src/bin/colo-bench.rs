//! `colo-bench`: the comparator, `colo compare` beside stock colo-compare, and the hold path beside a kernel bridge. See
//! `--help`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use colo_tests::{
    bench::{Effort, Report, engine, generator::Case, hold, proxy},
    lab::child::Programs,
    oracle::{Options, Program},
};

/// Measure colo beside its peers, in one run
///
/// Rounds alternate between colo and the peer; shown are the medians and how many times better colo is. The peer is
/// QEMU's colo-compare, without which the benchmark fails, and a kernel bridge for the hold path (as root).
#[derive(Debug, Parser)]
#[command(max_term_width = 110)]
struct Args {
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Rounds of each case and side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Milliseconds of one round of throughput
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// Packets of one round of latency
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(100..))]
    samples: u64,
    /// Only these groups
    #[arg(long, value_name = "GROUP", value_parser = GROUPS)]
    only: Vec<String>,
}

/// The groups of rows.
const GROUPS: [&str; 4] = ["engine", "throughput", "latency", "hold"];

fn main() -> Result<()> {
    let args = Args::parse();
    let effort = Effort {
        rounds: usize::try_from(args.rounds)?,
        millis: args.millis,
        samples: usize::try_from(args.samples)?,
    };
    let wanted = |group: &str| args.only.is_empty() || args.only.iter().any(|only| only == group);
    let colo = Programs::beside(&std::env::current_exe()?).colo;
    ensure!(
        colo.is_file(),
        "{} is missing; build it with `cargo build --release -p colo-user`",
        colo.display()
    );
    let ours = Program::Colo(colo);

    let cases = |payloads: &[u32], flows: &[u32]| -> Vec<Case> {
        let of = |&payload: &u32| flows.iter().map(move |&flows| Case { flows, payload });
        payloads.iter().flat_map(of).collect()
    };
    let all = cases(&[64, 1448], &[1, 1000, 15_000, 100_000]);
    let directory = PathBuf::from("DIR");
    let shown = |program: &Program| program.command_line(&directory, &Options::default()).join(" ");
    let mut report = Report {
        about: vec![
            (
                "kernel",
                fs::read_to_string("/proc/sys/kernel/osrelease").context("no /proc")?.trim().to_owned(),
            ),
            ("effort", format!("{} rounds of {} ms, {} samples", args.rounds, args.millis, args.samples)),
            ("colo", shown(&ours)),
            ("peer", Program::stock_version()?),
            ("peer's command line", shown(&Program::Stock)),
        ],
        rows: Vec::new(),
    };
    if wanted("engine") {
        engine::run(&mut report, &all, effort)?;
    }
    if wanted("throughput") {
        proxy::throughput(&mut report, &ours, &all, effort)?;
    }
    if wanted("latency") {
        proxy::latency(&mut report, &ours, &cases(&[64, 1448], &[1, 1000, 15_000]), effort)?;
    }
    if wanted("hold") {
        hold::run(&mut report, effort)?;
    }
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}

//! `colo-bench`: the comparator, `colo compare` beside stock colo-compare, and the hold path beside a kernel bridge; with `pair`
//! two VMs in COLO beside stock COLO. See `--help`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, value_parser};
use colo_tests::{
    bench::{
        Effort, Report, engine,
        generator::Case,
        hold,
        pair::{
            self, Plan,
            case::{Amount, Case as PairCase},
            side::{PERIOD, Side},
            table::Table,
        },
        proxy,
    },
    lab::child::Programs,
    oracle::{Options, Program},
};

/// Measure colo beside its peers, in one run
///
/// Rounds alternate between colo and the peer; shown are the medians and how many times better colo is. The peer is
/// QEMU's colo-compare, without which the benchmark fails, and a kernel bridge for the hold path (as root).
#[derive(Debug, Parser)]
#[command(max_term_width = 110, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    task: Option<Task>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Rounds of each case and side
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
    rounds: u64,
    /// Milliseconds of one round of throughput
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u64).range(1..))]
    millis: u64,
    /// Packets of one round of latency
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u64).range(100..))]
    samples: u64,
    /// Only these groups
    #[arg(long, value_name = "GROUP", value_parser = GROUPS)]
    only: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure two VMs in COLO: with our agents, with QEMU's own proxy, and what they could do at most (root)
    ///
    /// Each side is booted anew in each round, by an unmodified QEMU under TCG: the ratios count, not the numbers.
    Pair(Pair),
}

#[derive(Debug, clap::Args)]
struct Pair {
    /// Rounds of all sides [default: 5, or 1 with --connections]
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Seconds of each kind of traffic in a round
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Count checkpoints over so many short HTTP connections instead, with stock and with colo
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..))]
    connections: Option<u64>,
    /// Only these sides
    #[arg(long, value_name = "SIDE", value_delimiter = ',', value_parser = Side::ALL.map(Side::name))]
    only: Vec<String>,
    /// Write the measurements to FILE, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The groups of rows.
const GROUPS: [&str; 4] = ["engine", "throughput", "latency", "hold"];

fn main() -> Result<()> {
    let args = Args::parse();
    let programs = Programs::beside(&std::env::current_exe()?);
    ensure!(
        programs.colo.is_file(),
        "{} is missing; build it with `cargo xtask build --release`",
        programs.colo.display()
    );
    match &args.task {
        Some(Task::Pair(pair)) => measure_pair(pair, programs),
        None => measure_parts(&args, programs),
    }
}

fn kernel() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease").context("no /proc")?.trim().to_owned())
}

fn measure_pair(args: &Pair, mut programs: Programs) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces and XDP need root; try sudo");
    // The tether and the guest's init are beside this program.
    programs.lab = programs.lab.with_file_name("colo-lab");
    let counting = args.connections.is_some();
    let wanted = |side: &Side| match args.only.as_slice() {
        [] => !counting || matches!(side, Side::Stock | Side::Colo),
        only => only.iter().any(|only| only == side.name()),
    };
    let sides: Vec<Side> = Side::ALL.into_iter().filter(wanted).collect();
    let rounds = args.rounds.unwrap_or(if counting { 1 } else { 5 });
    let (cases, amount, effort) = match args.connections {
        Some(n) => (vec![PairCase::Http], Amount::Requests(n), format!("{n} connections")),
        None => {
            let amount = Amount::For(Duration::from_secs(args.seconds));
            (PairCase::ALL.to_vec(), amount, format!("{} s of each kind of traffic", args.seconds))
        }
    };
    let effort = format!("{rounds} rounds of {effort}");
    let period = format!("{} s between periodic checkpoints", PERIOD.as_secs());
    let about = vec![
        ("kernel", kernel()?),
        ("peer", Program::stock_version()?),
        ("effort", format!("{effort}, {period}")),
    ];
    let mut table = Table::new(about, sides.clone());
    let outcome = pair::run(&Plan { programs, sides, cases, rounds, amount }, &mut table);
    // What was measured before an error is shown too.
    print!("{table}");
    if let Some(path) = &args.json {
        write_json(path, &table)?;
    }
    outcome
}

fn write_json(path: &Path, table: &Table) -> Result<()> {
    fs::write(path, format!("{:#}\n", table.json()))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn measure_parts(args: &Args, programs: Programs) -> Result<()> {
    let effort = Effort {
        rounds: usize::try_from(args.rounds)?,
        millis: args.millis,
        samples: usize::try_from(args.samples)?,
    };
    let wanted = |group: &str| args.only.is_empty() || args.only.iter().any(|only| only == group);
    let ours = Program::Colo(programs.colo);

    let cases = |payloads: &[u32], flows: &[u32]| -> Vec<Case> {
        let of = |&payload: &u32| flows.iter().map(move |&flows| Case { flows, payload });
        payloads.iter().flat_map(of).collect()
    };
    let all = cases(&[64, 1448], &[1, 1000, 15_000, 100_000]);
    let directory = PathBuf::from("DIR");
    let shown = |program: &Program| program.command_line(&directory, &Options::default()).join(" ");
    let mut report = Report {
        about: vec![
            ("kernel", kernel()?),
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

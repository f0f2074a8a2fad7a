//! `cargo xtask`: set-up, build, lab, tests, benchmarks and CI of colo, one file per task.
//!
//! Every task does the set-up it needs first ([`setup`]); with nothing to do that costs a fraction of a second.
//! Progress goes to stderr, so that what a task runs owns stdout.

mod bench;
mod build;
mod ci;
mod command;
mod run;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and checks colo. Each task first installs what it lacks, and says what and why.
///
/// Toolchain: a nightly that has the rust-src component is used as it is (as in the aya template); otherwise Debian's
/// rustc-web with its library sources is linked into rustup as `debian` and builds the eBPF object. The user side is
/// always built by the active toolchain. bpf-linker 0.13 or newer is needed either way: it is
/// built against Debian's LLVM, or left to you beside a nightly, whose LLVM it must be able to read.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install everything that building, testing and measuring need
    Setup,
    /// Build the agent, the eBPF object, the lab and the benchmark
    Build {
        /// Optimised: target/release/colo in place of target/debug/colo
        #[arg(long)]
        release: bool,
    },
    /// Run the lab (no argument), or the agent: `cargo xtask run -- primary --guest tap0 ...`
    ///
    /// Arguments that begin with a dash go to the lab: `cargo xtask run -- --replicas namespaces`. Both are built
    /// optimised and run as root, through sudo if need be.
    Run {
        /// `SUBCOMMAND ...` of colo, or `--flags` of the lab
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every test of the workspace (root: they make network namespaces)
    Test {
        /// Passed on to `cargo test`, as in `cargo xtask test -p colo-user -- --nocapture`
        #[arg(allow_hyphen_values = true)]
        args: Vec<String>,
        /// Passed on to the test programs
        #[arg(last = true)]
        test_args: Vec<String>,
    },
    /// Measure the engine, `colo compare` beside QEMU's colo-compare, and the hold path beside a bridge (root)
    ///
    /// `cargo xtask bench pair` measures two VMs in COLO beside stock COLO.
    Bench {
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Repeat what the tests do once: `cargo xtask soak failover --runs 3`, `cargo xtask soak short` (root)
    ///
    /// `cargo xtask soak takeover` measures how long clients wait when the primary's host is killed.
    /// `cargo xtask soak sim` runs schedules of what goes wrong on two simulated hosts, without root.
    Soak {
        /// `failover [--runs N] [--only CASE] [--seed S]`, `takeover [--runs N] [--only SETTING] [--seed S] [--json]`,
        /// `short [--connections N]` or
        /// `sim [--schedules N] [--seed S] [--broken WHAT] [--trace] [--json]`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What continuous integration runs: set-up, formatting, lints, house rules, licences, packages, README, tests
    Ci {
        /// Only these steps, by their names in the table at the end
        steps: Vec<String>,
        /// This process has a mount namespace of its own, and was started in this one
        #[arg(long, hide = true)]
        own_mounts_beside: Option<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Build { release } => build::run(release),
        Task::Run { args } => run::run(&args),
        Task::Test { args, test_args } => test::run(&args, &test_args),
        Task::Bench { args } => bench::run(&args),
        Task::Soak { args } => soak::run(&args),
        Task::Ci { steps, own_mounts_beside } => ci::run(&steps, own_mounts_beside.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The `colo` binary. Logs go to standard error (`RUST_LOG`, default `info`); standard output is for results.

use std::{io, io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use colo_user::cli::{Cli, Misuse, USAGE, said};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    cli.command.run().unwrap_or_else(|error| {
        eprintln!("colo: {}", said(&error));
        if error.is::<Misuse>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

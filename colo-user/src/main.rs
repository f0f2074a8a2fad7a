//! The `colo` binary. Logs go to standard error (`RUST_LOG`, default `info`); standard output is for results.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::{io, io::IsTerminal as _, panic, process::ExitCode};

use clap::Parser as _;
use colo_user::cli::{Cli, Misuse, USAGE, said};
use colo_user::{output, process};
use tracing_subscriber::EnvFilter;

/// Exit status after a panic, as Rust has it.
const PANICKED: u8 = 101;

fn main() -> ExitCode {
    output::start();
    let code = panic::catch_unwind(run).unwrap_or_else(|_| ExitCode::from(PANICKED));
    process::end_all();
    output::finish();
    code
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // A person reads it, or it is a result.
        Err(error) if !error.use_stderr() || io::stderr().is_terminal() => error.exit(),
        Err(error) => {
            output::pass_on(error.to_string().as_bytes());
            return ExitCode::from(USAGE);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::Log)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    cli.command.run().unwrap_or_else(|error| {
        output::make_room();
        output::say(format_args!("colo: {}", said(&error)));
        if error.is::<Misuse>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

//! `cargo xtask ci`: what continuous integration runs. Every step runs even if an earlier one failed, except that
//! nothing runs without the set-up; a table at the end says what took how long and what failed. All of it runs in a mount
//! namespace of its own ([`mounts`]).

mod empty;
mod licences;
mod mounts;
mod programs;
mod readme;
mod rules;
mod source;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::setup::{self, Purpose, bpffs};
use crate::{build, command};

/// A step: what it is called in the table, and what it does.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// Cheap steps first, so that a slip is known within seconds.
const STEPS: &[Step] = &[
    Step { name: "format", run: format },
    Step { name: "rules", run: rules::check },
    Step { name: "licences", run: licences::check },
    Step { name: "packages", run: empty::check },
    Step { name: "clippy", run: clippy },
    Step { name: "docs", run: documentation },
    Step { name: "build", run: || build::build(false) },
    Step { name: "readme", run: readme::check },
    Step { name: "btf", run: btf },
    Step { name: "tests", run: readme_tests },
];

/// The test that shows the kernel the object's BTF, and the file that has it.
const BTF_TEST: &str = "the_kernel_takes_the_types_of_the_object";
const BTF_TEST_FILE: &str = "xdp_programs";

/// Every link must lead somewhere; those to private items do, since these are documented too.
const RUSTDOC_FLAGS: &str = "-D warnings -A rustdoc::private_intra_doc_links";

/// A step's fate.
struct Outcome {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// Runs the steps named, or all, and fails if one did. It becomes itself in a mount namespace of its own first, and is told
/// then `beside` which one.
pub fn run(names: &[String], beside: Option<&str>) -> Result<()> {
    let steps = chosen(names)?;
    command::require_root("ci", names, "it runs the tests, which make network namespaces")?;
    let Some(beside) = beside else { return mounts::enter(names) };
    mounts::prepare(beside)?;
    let started = Instant::now();
    setup::ensure(Purpose::Test)?;
    ensure!(bpffs::is_mounted(), "the set-up has left {} without a bpffs", bpffs::PLACE);
    ensure_components()?;
    let mut outcomes = vec![Outcome { name: "set-up", took: started.elapsed(), passed: true }];
    for step in steps {
        let started = Instant::now();
        let result = (step.run)();
        if let Err(error) = &result {
            eprintln!("error: {}: {error:#}", step.name);
        }
        outcomes.push(Outcome { name: step.name, took: started.elapsed(), passed: result.is_ok() });
    }
    eprint!("{}", table(&outcomes));
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The steps named, in the order in which they run; all of them where none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    let known = |name: &str| STEPS.iter().any(|step| step.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step {unknown}; there are {}", all.join(", "));
    }
    Ok(STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect())
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = format!("\n{:<14}{:>8}  result\n", "step", "seconds");
    for Outcome { name, took, passed } in outcomes {
        let result = if *passed { "ok" } else { "FAILED" };
        let _ = writeln!(table, "{name:<14}{:>8.1}  {result}", took.as_secs_f64());
    }
    table
}

/// rustfmt and clippy come with most toolchains; where they are missing rustup can add them.
fn ensure_components() -> Result<()> {
    for component in ["fmt", "clippy"] {
        let mut probe = command::cargo();
        probe.args([component, "--version"]);
        if probe.output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        let name = if component == "fmt" { "rustfmt" } else { component };
        let mut add = command::program("rustup");
        add.args(["component", "add", name]);
        command::run(name, &mut add, "add the component to the active toolchain, or use one that has it")?;
    }
    Ok(())
}

fn format() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    command::run("format", &mut cargo, "`cargo fmt --all` mends it")
}

fn clippy() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command::run("clippy", &mut cargo, "each lint above says what it wants")
}

fn documentation() -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", RUSTDOC_FLAGS);
    command::run("documentation", &mut cargo, "most often a link to something that has been renamed")
}

/// The kernel must take the object's BTF: without it what needs a program's BTF fails, and only there.
fn btf() -> Result<()> {
    let test = || {
        let mut cargo = command::cargo();
        cargo.args(["test", "--package", "colo-tests", "--test", BTF_TEST_FILE, BTF_TEST]);
        cargo
    };
    // A filter that matches nothing would pass.
    let listed = command::output("BTF", test().args(["--", "--list"]), "it must build")?;
    if !listed.lines().any(|line| line.ends_with(": test")) {
        bail!("there is no test {BTF_TEST} in tests/tests/{BTF_TEST_FILE}.rs");
    }
    command::run(
        "BTF",
        &mut test(),
        "bpf-linker before 0.13 writes BTF that the kernel refuses: `cargo xtask setup`",
    )
}

/// What the README tells to run is what is run.
fn readme_tests() -> Result<()> {
    let line = readme::test_command()?;
    let mut cargo = command::cargo();
    cargo.args(line.split_whitespace().skip(1));
    command::run("tests", &mut cargo, "the failing tests are named above")
}

#[cfg(test)]
mod tests;

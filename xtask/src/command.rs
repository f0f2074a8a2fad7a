//! Child processes: how they are shown, run, and reported when they fail.
//!
//! Children inherit the terminal, so that their output streams and Ctrl-C reaches them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lives in the workspace")
}

/// Where cargo puts what it builds: `target`, or what `CARGO_TARGET_DIR` says.
pub fn target_dir() -> PathBuf {
    // An absolute CARGO_TARGET_DIR replaces the workspace in the join.
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// `cargo` in the workspace, without the variables that `cargo run` sets for this process: build scripts that
/// look at them would be run again on each change between `cargo build` and `cargo xtask build`.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    for (name, _) in env::vars_os() {
        if is_package_variable(&name) {
            command.env_remove(name);
        }
    }
    if let Some(path) = path_with_cargo_bin() {
        command.env("PATH", path);
    }
    command
}

fn is_package_variable(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Where `cargo install` puts programs.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).map(|home| home.join("bin"))
}

/// `PATH` with cargo's own directory appended, or nothing when it is there already.
fn path_with_cargo_bin() -> Option<OsString> {
    let bin = cargo_bin()?;
    let mut entries: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    if entries.contains(&bin) {
        return None;
    }
    entries.push(bin);
    env::join_paths(entries).ok()
}

/// The first executable of that name in `PATH` or cargo's own directory.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = path_with_cargo_bin().or_else(|| env::var_os("PATH")).unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| {
        use std::os::unix::fs::PermissionsExt as _;
        candidate.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// A program by its bare name, wherever [`find_program`] sees it.
pub fn program(name: &str) -> Command {
    Command::new(find_program(name).unwrap_or_else(|| name.into()))
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = Vec::new();
    for (name, value) in command.get_envs() {
        // PATH is plumbing, and a removed variable is nothing to type.
        if let Some(value) = value.filter(|_| name != "PATH") {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    let program = Path::new(command.get_program());
    // A toolchain's cargo has a long path; what one types is its name.
    let bare = |name: &&OsStr| ["cargo", "rustup", "rustc"].iter().any(|tool| name == tool);
    let name = program.file_name().filter(bare).unwrap_or(program.as_os_str());
    words.push(quoted(name));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command to its end, streaming its output. `step` says what it is for, `way_out` what to do if it fails.
pub fn run(step: &str, command: &mut Command, way_out: &str) -> Result<()> {
    let line = shown(command);
    eprintln!("==> {step}\n    {line}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("{step}: cannot start `{line}`; {way_out}"))?;
    if !status.success() {
        bail!("{step}: `{line}` ended with {status}; {way_out}");
    }
    eprintln!("    {step}: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// What a command says on stdout, or an error with what it says on stderr.
pub fn output(step: &str, command: &mut Command, way_out: &str) -> Result<String> {
    let line = shown(command);
    let output = command.output().with_context(|| format!("{step}: cannot start `{line}`; {way_out}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{step}: `{line}` ended with {}: {}; {way_out}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{step}: `{line}` does not speak UTF-8"))
}

/// Becomes a program that cargo has built: signals reach it and its exit code is ours.
pub fn become_program(program: &Path, args: &[String]) -> Result<()> {
    built(program)?;
    exec(Command::new(program), args)
}

/// The same, through sudo when not root.
pub fn become_as_root(program: &Path, args: &[String]) -> Result<()> {
    built(program)?;
    let command = if is_root() {
        Command::new(program)
    } else {
        if find_program("sudo").is_none() {
            bail!("{} needs root and there is no sudo; run this task as root", program.display());
        }
        let mut sudo = Command::new("sudo");
        sudo.arg("--preserve-env=RUST_LOG,RUST_BACKTRACE").arg("--").arg(program);
        sudo
    };
    exec(command, args)
}

fn built(program: &Path) -> Result<()> {
    if !program.is_file() {
        bail!(
            "{} is missing although the build succeeded; is CARGO_TARGET_DIR as expected?",
            program.display()
        );
    }
    Ok(())
}

fn exec(mut command: Command, args: &[String]) -> Result<()> {
    command.args(args);
    eprintln!("==> {}", shown(&command));
    Err(command.exec()).with_context(|| format!("cannot start `{}`", shown(&command)))
}

/// Refuses to go on without root: prints the command that has it.
pub fn require_root(task: &str, args: &[String], why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let mut words = vec![task.to_owned()];
    words.extend(args.iter().map(|arg| quoted(OsStr::new(arg))));
    bail!(
        "`cargo xtask {task}` needs root: {why}. Run\n    sudo -E env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask {}",
        words.join(" ")
    )
}

#[cfg(test)]
mod tests;

//! bpf-linker: which version is there, does it run, and how it is built.

use std::fmt;
use std::process::Command;

use crate::command;

/// The version that is installed when there is none that will do.
const VERSION: &str = "0.13.0";

/// Older ones write BTF that the kernel refuses, so that what needs a program's BTF fails to load.
const OLDEST: (u32, u32) = (0, 13);

/// Where Debian keeps the LLVM that bpf-linker is built against.
const LLVM: &str = "/usr/lib/llvm-22";

/// What to do when it cannot be built.
pub const WAY_OUT: &str =
    "it is built from source against LLVM 22 (llvm-22-dev) and wants some 150 s and the registry";

/// What was found.
#[derive(Debug, PartialEq)]
pub enum Linker {
    /// Not in `PATH`.
    Absent,
    /// Found, but it does not start, with what it said: its LLVM may have been removed.
    Broken(String),
    /// It says this version.
    Version(u32, u32, u32),
}

impl Linker {
    /// New enough, and it runs.
    pub fn usable(&self) -> bool {
        matches!(self, Linker::Version(major, minor, _) if (*major, *minor) >= OLDEST)
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Linker::Absent => f.write_str("there is none"),
            Linker::Broken(said) => write!(f, "the one installed does not run: {said}"),
            Linker::Version(major, minor, patch) => {
                write!(
                    f,
                    "{major}.{minor}.{patch} is installed, {}.{} is the oldest that will do",
                    OLDEST.0, OLDEST.1
                )
            }
        }
    }
}

/// Asks bpf-linker for its version, which also shows that it finds its LLVM.
pub fn detect() -> Linker {
    let Some(program) = command::find_program("bpf-linker") else { return Linker::Absent };
    match Command::new(program).arg("--version").output() {
        Err(error) => Linker::Broken(error.to_string()),
        Ok(output) if !output.status.success() => {
            Linker::Broken(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
        Ok(output) => parse(&String::from_utf8_lossy(&output.stdout)),
    }
}

fn parse(said: &str) -> Linker {
    let version = || {
        let mut parts = said.trim().strip_prefix("bpf-linker ")?.split(['.', '-', '+', ' ']).map(str::parse);
        Some(Linker::Version(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
    };
    version().unwrap_or_else(|| Linker::Broken(format!("it says {said:?} for its version")))
}

/// What an operator does where it is not built against Debian's LLVM: it must be able to read what the nightly's
/// LLVM writes, and the binary release carries the newest.
pub const BY_HAND: &str =
    "cargo binstall bpf-linker    # 0.13 or newer; cargo install cargo-binstall brings binstall";

/// The command that builds it against Debian's LLVM, which is also that of Debian's compiler.
pub fn install() -> Command {
    // Not in the workspace, whose configuration is not bpf-linker's.
    let mut install = command::cargo();
    install.current_dir("/").args(["install", "--locked", "--force", &format!("bpf-linker@{VERSION}")]);
    install.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM);
    install
}

#[cfg(test)]
mod tests;

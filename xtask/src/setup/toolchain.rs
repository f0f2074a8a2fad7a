//! Which compiler builds the eBPF object: one whose library sources are at hand and fit it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's nightly with the rust-src component: used as in the aya template.
    Nightly,
    /// Debian's compiler, known to rustup as `debian`.
    Linked,
    /// rustup, but none of the two above.
    Unlinked,
    /// No rustup: cargo and rustc in `PATH` are Debian's and build everything.
    NoRustup,
}

/// The name under which Debian's compiler is linked.
const NAME: &str = "debian";

/// Where a toolchain keeps the library's sources; cargo wants the lock file for `build-std`.
const SOURCES: &str = "lib/rustlib/src/rust/library/Cargo.lock";

/// Asks rustup what it has.
pub fn detect() -> Result<Toolchain> {
    if command::find_program("rustup").is_none() {
        return Ok(Toolchain::NoRustup);
    }
    let mut list = command::program("rustup");
    list.args(["toolchain", "list", "--verbose"]);
    let listing = command::output("toolchain", &mut list, "is rustup installed in full?")?;
    Ok(choose(&listing, |path| path.join(SOURCES).exists()))
}

/// A line is `NAME (active, default) PATH` with or without the parentheses.
fn choose(listing: &str, has_sources: impl Fn(&Path) -> bool) -> Toolchain {
    let toolchains = || {
        listing.lines().filter_map(|line| {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            let path = rest.find('/').map(|at| &rest[at..])?;
            Some((name, Path::new(path)))
        })
    };
    // aya-build asks rustup for `nightly`, not for a dated one.
    let is_nightly =
        |name: &str| name == "nightly" || name.starts_with("nightly-x") || name.starts_with("nightly-a");
    if toolchains().any(|(name, path)| is_nightly(name) && has_sources(path)) {
        Toolchain::Nightly
    } else if toolchains().any(|(name, _)| name == NAME) {
        Toolchain::Linked
    } else {
        Toolchain::Unlinked
    }
}

/// The command that makes Debian's compiler known to rustup.
pub fn link() -> Command {
    let mut link = command::program("rustup");
    link.args(["toolchain", "link", NAME, "/usr"]);
    link
}

#[cfg(test)]
mod tests;

//! Licences of everything that is linked in: each dependency must be usable under one of the allowed ones.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::command;

/// Permissive licences, as SPDX names them. Copyleft of any strength is not among them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Asks cargo for all packages of this platform and refuses those that are not allowed.
pub fn check() -> Result<()> {
    let host = command::output(
        "licences",
        command::program("rustc").args(["--print", "host-tuple"]),
        "is rustc there?",
    )?;
    let mut cargo = command::cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host.trim()]);
    let metadata =
        command::output("licences", &mut cargo, "Cargo.lock must be up to date: `cargo build` mends it")?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata is not what it was")?;
    let refused: Vec<String> = metadata.packages.iter().filter_map(refusal).collect();
    if !refused.is_empty() {
        bail!("\n  {}", refused.join("\n  "));
    }
    eprintln!("==> licences: {} packages are permissive", metadata.packages.len());
    Ok(())
}

fn refusal(package: &Package) -> Option<String> {
    let Package { name, version, license } = package;
    match license {
        Some(license) if is_allowed(license) => None,
        Some(license) => Some(format!("{name} {version}: {license} is not on the list in {}", file!())),
        None => Some(format!("{name} {version}: it names no licence")),
    }
}

/// Evaluates an SPDX expression: true if the allowed licences satisfy it. The old `MIT/Apache-2.0` means OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let allowed = any_of(&mut tokens);
    allowed == Some(true) && tokens.next().is_none()
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `A OR B`; nothing if the expression is malformed.
fn any_of(tokens: &mut Tokens) -> Option<bool> {
    let mut allowed = all_of(tokens)?;
    while tokens.next_if_eq(&"OR").is_some() {
        allowed |= all_of(tokens)?;
    }
    Some(allowed)
}

/// `A AND B`, which binds closer.
fn all_of(tokens: &mut Tokens) -> Option<bool> {
    let mut allowed = one(tokens)?;
    while tokens.next_if_eq(&"AND").is_some() {
        allowed &= one(tokens)?;
    }
    Some(allowed)
}

fn one(tokens: &mut Tokens) -> Option<bool> {
    let first = tokens.next()?;
    if first == "(" {
        let allowed = any_of(tokens)?;
        return (tokens.next()? == ")").then_some(allowed);
    }
    if tokens.next_if_eq(&"WITH").is_some() {
        return Some(ALLOWED.contains(&format!("{first} WITH {}", tokens.next()?).as_str()));
    }
    Some(ALLOWED.contains(&first))
}

#[cfg(test)]
mod tests;

//! House rules that no lint knows: where unsafe code may be, what the core may not touch, how long a file gets,
//! and that no test is switched off.

use std::path::Path;

use anyhow::{Result, bail};

use super::source::{self, Source};

/// The longest file, tests apart.
const MAX_LINES: usize = 600;

/// Where unsafe code may be: what talks to the kernel by shared memory, what runs in it, and the harness, whose taps
/// and packet sockets have no safe wrapper. In each of them the lint wants a reason beside the opt-in.
const UNSAFE_ALLOWED: &[&str] = &["colo-user/src/datapath", "colo-ebpf", "tests/src"];

/// The core: input and `now` in, actions out.
const CORE: &[&str] = &[
    "colo-user/src/wire",
    "colo-user/src/compare",
    "colo-user/src/translate",
    "colo-user/src/announce",
    "colo-user/src/failover",
    "colo-user/src/judge/etcd/keeper",
    "colo-user/src/watchdog",
    "colo-user/src/heartbeat",
    "colo-user/src/epoch",
    "colo-user/src/path",
];

/// What the core may not use, by path: I/O, threads, clocks, an executor.
const OUTSIDE_WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "rustix",
    "libc",
    "socket2",
    "aya",
];

/// As above, by name: types that appear however their path is written.
const OUTSIDE_NAMES: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
];

/// Checks every file against every rule, and names all that break one.
pub fn check() -> Result<()> {
    let sources = source::all()?;
    let mut found: Vec<String> = sources.iter().flat_map(broken_rules).collect();
    found.extend(super::programs::check(&sources)?);
    if !found.is_empty() {
        bail!("\n  {}", found.join("\n  "));
    }
    eprintln!("==> house rules: {} files keep them", sources.len());
    Ok(())
}

fn broken_rules(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(unsafe_outside(source));
    found.extend(outside_world(source));
    found.extend(too_long(source));
    found.extend(switched_off(source));
    found.into_iter().map(|what| format!("{}: {what}", source.path.display())).collect()
}

fn is_under(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place) || path.with_extension("") == Path::new(place))
}

fn unsafe_outside(source: &Source) -> Option<String> {
    if is_under(&source.path, UNSAFE_ALLOWED) {
        return None;
    }
    let line = source::line_of_word(&source.code, "unsafe")?;
    Some(format!(
        "line {line}: unsafe code belongs in colo-user/src/datapath, colo-ebpf or the harness in tests/src"
    ))
}

fn outside_world(source: &Source) -> Option<String> {
    if !is_under(&source.path, CORE) || source.is_test() {
        return None;
    }
    let uses = source::used_paths(&source.code);
    let begins = |path: &str, module: &str| {
        path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let forbidden = OUTSIDE_WORLD
        .iter()
        .find(|module| {
            uses.iter().any(|path| begins(path, module))
                || source::line_of_word(&source.code, module).is_some()
        })
        .or_else(|| OUTSIDE_NAMES.iter().find(|name| source::line_of_word(&source.code, name).is_some()))?;
    Some(format!("the core owns no socket, file, thread or clock, and this uses {forbidden}"))
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES && !source.is_test())
        .then(|| format!("{lines} lines, more than {MAX_LINES}: one subject a file"))
}

fn switched_off(source: &Source) -> Option<String> {
    ["#[ignore", "allow(dead_code", "expect(dead_code"]
        .into_iter()
        .find(|attribute| source.code.contains(attribute))
        .map(|attribute| format!("{attribute} hides what should run or leave"))
}

#[cfg(test)]
mod tests;

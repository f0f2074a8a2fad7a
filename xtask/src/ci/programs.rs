//! Every external program that the code calls is in the set-up's table, for the purpose for which it is called first; and nothing
//! is in the table that nobody calls.
//!
//! Calls are looked for in the Rust sources ([`rust`]), in the scripts of shells ([`shell`]) and of Python. What a program
//! calls that is called here is its Debian package's business, whose dependencies bring it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::source::Source;
use crate::command;
use crate::setup::Purpose;
use crate::setup::programs::{PROGRAMS, Program};
use rust::{Call, Named};

mod rust;
mod shell;

/// For which purpose what is in a place runs first; of two places the longer counts.
const PLACES: &[(&str, Purpose)] = &[
    ("", Purpose::Test),
    ("colo-user/build.rs", Purpose::Build),
    ("colo-user/src", Purpose::Lab),
    ("tests/src", Purpose::Compare),
    ("tests/src/etcd.rs", Purpose::Judge),
    ("tests/src/lab", Purpose::Lab),
    ("tests/src/netns.rs", Purpose::Lab),
    ("tests/src/pair/cluster.rs", Purpose::Test),
    ("tests/src/raw.rs", Purpose::Lab),
    ("tests/src/tap.rs", Purpose::Lab),
    ("xtask/src", Purpose::Build),
    ("xtask/src/ci", Purpose::Test),
    ("xtask/src/setup/bpffs.rs", Purpose::Lab),
];

/// Calls that do not tell the program by a literal, or tell one that is not there, each with what it calls.
const ELSEWHERE: &[(&str, &str)] = &[
    // The caller's program: its calls are looked at.
    ("tests/src/pair/image.rs", "program"),
    ("xtask/src/command.rs", "name"),
    ("xtask/src/setup/packages.rs", "program"),
    // The command line of `colo-lab tether`, which Tethered::start makes.
    ("tests/src/lab/child.rs", "name"),
    // What the workspace builds, or a copy of it; of a build script, itself.
    ("colo-user/build.rs", "this"),
    ("tests/tests/cmd_unread.rs", "colo()"),
    ("tests/tests/cmd_watchdog.rs", "copy"),
    ("xtask/src/command.rs", "program"),
    // colo, or QEMU as the peer.
    ("tests/src/oracle.rs", "&line[0]"),
    ("tests/tests/cmd_compare.rs", "&line[0]"),
    // What cargo says of itself, else `cargo`.
    ("xtask/src/command.rs", "env::var_os(\"CARGO\").unwrap_or_else(|| \"cargo\".into())"),
    // bpf-linker, where it was found.
    ("xtask/src/setup/linker.rs", "program"),
    // What the test says where it uses it.
    ("colo-user/src/judge/tests.rs", "{then}"),
    // The test's own line above it: `yes` and `head`.
    ("tests/tests/e2e_heartbeat.rs", "{flood}"),
    ("tests/tests/pair_judges.rs", "{flood}"),
    // What the test says where it uses it: `ip`.
    ("tests/tests/e2e_interfaces.rs", "line"),
    ("tests/tests/pair_interfaces.rs", "line"),
    // An operator's command.
    ("colo-user/src/process.rs", "command"),
    // The binary that the resource has as a parameter.
    ("colo-user/ocf/colo", "${OCF_RESKEY_binary}"),
    ("colo-user/ocf/colo", "$PROGRAM"),
    // What there is not, on purpose.
    ("colo-user/src/judge/exec/tests.rs", "program"),
    ("xtask/src/command/tests.rs", "program"),
    ("xtask/src/command/tests.rs", "surely-no-such-program"),
];

/// Programs that run another one, which they are told as an argument, and where they may: what they run there is told by a form
/// of its own, or is named in the list.
const RUNNERS: &[(&str, &[&str])] = &[
    // QEMU, with a library loaded first.
    ("env", &["tests/src/pair/vm.rs"]),
    // The shell of a node, and what a node is asked.
    ("nsenter", &["tests/src/netns.rs", "tests/src/pair/cluster.rs"]),
    ("unshare", &["tests/src/pair/cluster.rs", "xtask/src/ci/mounts.rs"]),
    // colo.
    ("sudo", &["xtask/src/command.rs"]),
    ("timeout", &["tests/tests/xdp_deadman.rs"]),
];

/// The programs of the workspace.
const OWN: &[&str] = &["colo", "colo-bench", "colo-lab"];

/// The scripts of the repository.
const SCRIPTS: &[&str] = &[".ci/run", "colo-user/ocf/colo", "tests/captures/record.py"];

/// What an OCF resource agent gets from the functions that it reads first.
const OCF_FUNCTIONS: &[&str] = &["check_binary", "have_binary", "ocf_"];

/// Checks all sources and scripts.
pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut all: Vec<(PathBuf, Call)> = Vec::new();
    // The rule's own files are full of calls that nobody makes.
    for source in sources.iter().filter(|source| !source.path.starts_with("xtask/src/ci/programs")) {
        all.extend(rust::calls(source).into_iter().map(|call| (source.path.clone(), call)));
    }
    for path in SCRIPTS {
        let text = fs::read_to_string(command::workspace().join(path))
            .with_context(|| format!("cannot read {path}"))?;
        all.extend(script(&text).into_iter().map(|call| (path.into(), call)));
    }
    Ok(problems(&all, PROGRAMS, ELSEWHERE))
}

/// The calls of a script, by its first line.
fn script(text: &str) -> Vec<Call> {
    let first = text.lines().next().unwrap_or_default();
    let line = first.strip_prefix("#!").unwrap_or_default();
    let mut named = rust::in_script(line);
    if line.contains("python") {
        named.extend(python(text).into_iter().map(Named::Program));
    } else {
        named.extend(rust::in_script(text));
    }
    named.retain(|named| match named {
        Named::Program(name) => !OCF_FUNCTIONS.iter().any(|function| name.starts_with(function)),
        Named::Unknown(_) => true,
    });
    named.into_iter().map(|named| Call { line: 1, named, in_script: true }).collect()
}

/// The programs of a Python script: the first word of each list of words, and the one that `inside` is told after its namespace;
/// without the script's own functions.
fn python(text: &str) -> Vec<String> {
    let literal = |text: &str| text.strip_prefix('"')?.split('"').next().map(str::to_owned);
    let lists = text.match_indices("[\"").filter_map(|(at, _)| literal(&text[at + 1..]));
    let inside = text.match_indices("inside(").filter_map(|(at, _)| literal(text[at..].split_once(", ")?.1));
    lists.chain(inside).filter(|name| !text.contains(&format!("def {name}("))).collect()
}

fn problems(all: &[(PathBuf, Call)], programs: &[Program], elsewhere: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let (mut called, mut used) = (HashSet::new(), HashSet::new());
    for (path, Call { line, named, in_script }) in all {
        let (Named::Program(name) | Named::Unknown(name)) = named;
        let place = format!("{}: line {line}", path.display());
        if let Some(entry) = elsewhere.iter().find(|(file, what)| path == Path::new(file) && what == name) {
            used.insert(entry);
            continue;
        }
        if matches!(named, Named::Unknown(_)) {
            found.push(format!("{place}: which program `{name}` is cannot be seen: name it by a literal"));
            continue;
        }
        if OWN.contains(&name.as_str()) {
            continue;
        }
        called.insert(name.as_str());
        let purpose = purpose_of(path);
        match programs.iter().find(|program| program.name == name) {
            None => found.push(format!("{place}: {name} is not in the table in xtask/src/setup/programs.rs")),
            Some(program) if program.from > purpose => found.push(format!(
                "{place}: {name} is called for {purpose:?} already, the table has it for {:?}",
                program.from
            )),
            Some(_) => {}
        }
        let runs = |(runner, places): &(&str, &[&str])| {
            runner == name && !in_script && !places.iter().any(|place| path == Path::new(place))
        };
        if RUNNERS.iter().any(runs) {
            found.push(format!("{place}: {name} runs another program: say in {} which", file!()));
        }
    }
    for program in programs.iter().filter(|program| !called.contains(program.name)) {
        found.push(format!("nobody calls {}, which is in the set-up's table of programs", program.name));
    }
    for (path, what) in elsewhere.iter().filter(|entry| !used.contains(entry)) {
        found.push(format!("{path} calls no `{what}`, which {} says it does", file!()));
    }
    found
}

fn purpose_of(path: &Path) -> Purpose {
    if path.file_stem().is_some_and(|stem| stem == "tests") {
        return Purpose::Test;
    }
    let places = PLACES.iter().filter(|(place, _)| path.starts_with(place));
    places.max_by_key(|(place, _)| place.len()).map_or(Purpose::Test, |(_, purpose)| *purpose)
}

#[cfg(test)]
mod tests;

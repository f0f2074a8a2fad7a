//! The set-up on a machine that has nothing.
//!
//! On the machine of CI everything is installed, so that a set-up that forgets a package is not noticed there. Here apt resolves
//! the set-up's packages against an empty dpkg status, without recommendations, beside what is on every Debian system
//! (essential packages and apt) and what README asks for. Each program of the table must be owned by a package of that, for each
//! purpose for which it is called, and not by one that only another's dependency brings. Whether a package owns a program its
//! list of files says, which is dpkg's: here all of them are installed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command;
use crate::setup::Purpose;
use crate::setup::packages::{self, wanted};
use crate::setup::programs::{Origin, PROGRAMS, Program};
use crate::setup::toolchain::Toolchain;

/// What is on every Debian system, as apt's patterns have it.
const DEBIAN: &[&str] = &["?essential", "apt"];
/// What README asks for before anything else, up to the end of the command.
const ASKED_FOR: &str = "`apt-get install ";
/// Where a shell looks for programs, and the kernel for what loads them.
const PLACES: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/lib64"];

/// The machine that has nothing, as dpkg writes it down.
const STATUS: &str = "status";

/// What to do when apt fails.
const WAY_OUT: &str =
    "apt must know the packages by these names: `apt-get update`, and look at /etc/apt/sources.list";

/// What a purpose has on a machine that had nothing.
#[derive(Debug)]
struct Machine {
    purpose: Purpose,
    /// What the set-up installs.
    listed: HashSet<String>,
    /// That, and all that apt installs with it.
    resolved: HashSet<String>,
}

/// Files by package.
type Files = HashMap<String, Vec<String>>;

/// Resolves the packages and looks for each program.
pub fn check() -> Result<()> {
    ensure!(packages::on_debian(), "only on Debian it can be said what an empty Debian would have");
    let readme =
        fs::read_to_string(command::workspace().join("README.md")).context("cannot read README.md")?;
    let asked_for = asked_for(&readme)?;
    let base: Vec<&str> = DEBIAN.iter().copied().chain(asked_for).collect();
    let place = command::target_dir().join("empty-machine");
    fs::create_dir_all(&place)
        .and_then(|()| fs::write(place.join(STATUS), ""))
        .with_context(|| format!("cannot write below {}", place.display()))?;
    let system = match resolve(&place, &base) {
        Ok(system) => system,
        // The lists of packages may be missing, or older than the archive.
        Err(_) => {
            command::run("packages", Command::new("apt-get").arg("update"), packages::WAY_OUT)?;
            resolve(&place, &base)?
        }
    };
    let mut machines = Vec::new();
    for purpose in Purpose::ALL {
        let list: Vec<&str> =
            wanted(purpose, Toolchain::Unlinked).iter().map(|package| package.name).collect();
        // All of it beside the system, to see that both fit; what a part brings is seen without, in half the time.
        let beside = if purpose == Purpose::Test { &base[..] } else { &[] };
        let words: Vec<&str> = list.iter().chain(beside).copied().collect();
        let resolved = resolve(&place, &words).with_context(|| format!("for {purpose:?}"))?;
        machines.push(Machine { purpose, listed: list.into_iter().map(str::to_owned).collect(), resolved });
    }
    let mut found = problems(PROGRAMS, &system, &machines, &files(PROGRAMS)?);
    found.extend(alternatives(PROGRAMS)?);
    if !found.is_empty() {
        bail!("a machine that has nothing would lack\n  {}", found.join("\n  "));
    }
    let most = machines.iter().map(|machine| machine.resolved.len()).max().unwrap_or(0);
    eprintln!(
        "==> packages: {} programs are owned by {most} packages from an empty machine on",
        PROGRAMS.len()
    );
    Ok(())
}

/// The packages that README tells to install.
fn asked_for(readme: &str) -> Result<Vec<&str>> {
    let command = readme.split_once(ASKED_FOR).and_then(|(_, rest)| rest.split_once('`'));
    let words = command.map(|(words, _)| words.split_whitespace().collect());
    words.with_context(|| format!("README.md does not say {ASKED_FOR}...`"))
}

/// What apt installs for these words where nothing is. What it reads of this machine are the lists of packages alone; its caches,
/// which know a machine, are in `place`.
fn resolve(place: &Path, words: &[&str]) -> Result<HashSet<String>> {
    let mut apt = Command::new("apt-get");
    for (option, file) in [
        ("Dir::State::status", STATUS),
        ("Dir::State::extended_states", "extended_states"),
        ("Dir::Cache::pkgcache", "pkgcache.bin"),
        ("Dir::Cache::srcpkgcache", "srcpkgcache.bin"),
    ] {
        apt.arg("--option").arg(format!("{option}={}", place.join(file).display()));
    }
    apt.args(["--no-install-recommends", "--simulate", "install"]).args(words);
    let said = command::output("packages", &mut apt, WAY_OUT)?;
    let resolved = installed(&said);
    ensure!(!resolved.is_empty(), "packages: apt installs nothing: {said}");
    Ok(resolved)
}

/// The packages that a simulation of apt says it would install: lines such as `Inst NAME (VERSION ...)`.
fn installed(said: &str) -> HashSet<String> {
    let names = said.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    names.map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect()
}

/// The files of the packages that own a program, as far as they are installed here.
fn files(programs: &[Program]) -> Result<Files> {
    let owners: HashSet<&str> = programs.iter().filter_map(|program| Some(program.file()?.0)).collect();
    // Ends with 1 when a package is unknown: what counts is what it lists.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package}\n${db-fsys:Files}"])
        .args(owners)
        .output()
        .context("cannot start dpkg-query")?;
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// A package's name, and below it its files, each behind a blank.
fn listed(listing: &str) -> Files {
    let mut files = Files::new();
    let mut package = "";
    for line in listing.lines() {
        match line.strip_prefix(' ') {
            Some(path) => files.entry(package.to_owned()).or_default().push(path.to_owned()),
            None => package = line,
        }
    }
    files
}

fn problems(
    programs: &[Program],
    system: &HashSet<String>,
    machines: &[Machine],
    files: &Files,
) -> Vec<String> {
    let mut found = Vec::new();
    for program in programs {
        let Some((owner, file)) = program.file() else { continue };
        let name = program.name;
        let own = files.get(owner).map_or(&[][..], Vec::as_slice);
        if own.is_empty() {
            found.push(format!(
                "{name}: {owner} is not installed here, so that nobody knows whether it has it"
            ));
        } else if !own.iter().any(|path| is_program(path, file)) {
            found.push(format!("{name}: {owner} has no program {file}"));
        }
        for machine in machines.iter().filter(|machine| machine.purpose >= program.from) {
            let why = if system.contains(owner) {
                continue;
            } else if !machine.resolved.contains(owner) {
                "is neither on the set-up's list nor on every Debian system"
            } else if !machine.listed.contains(owner) {
                "is on the set-up's list only by the dependency of another package"
            } else {
                continue;
            };
            found.push(format!("{name}: {owner} {why}, for {:?}", machine.purpose));
            break;
        }
    }
    found
}

fn is_program(path: &str, name: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(place, file)| file == name && PLACES.contains(&place))
}

/// Which alternatives are not those that the table says.
fn alternatives(programs: &[Program]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for program in programs {
        let Origin::Alternative(owner, file) = program.origin else { continue };
        let output = Command::new("update-alternatives")
            .args(["--list", program.name])
            .output()
            .context("cannot start update-alternatives")?;
        let listing = String::from_utf8_lossy(&output.stdout);
        if !listing.lines().any(|path| is_program(path, file)) {
            found.push(format!("{}: {file} of {owner} is no alternative for it: {listing:?}", program.name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

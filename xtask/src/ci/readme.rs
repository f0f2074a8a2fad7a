//! The README's commands: each task, subcommand and option in its code blocks must exist.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;

use crate::build::program;
use crate::{Cli, command};

/// Checks every command line of the README against what the programs say of themselves.
pub fn check() -> Result<()> {
    let readme = read()?;
    let lines = commands(&readme);
    let mut help = Help::default();
    let mut found = Vec::new();
    for line in &lines {
        if let Some(problem) = problem(line, &mut |arguments| help.of_colo(arguments))? {
            found.push(format!("`{line}`: {problem}"));
        }
    }
    if !found.is_empty() {
        bail!("README.md has commands that do not exist:\n  {}", found.join("\n  "));
    }
    if lines.is_empty() {
        bail!("README.md shows no command");
    }
    eprintln!("==> README: {} commands exist", lines.len());
    Ok(())
}

/// The line by which the README runs the tests.
pub fn test_command() -> Result<String> {
    let lines = commands(&read()?);
    lines
        .into_iter()
        .find(|line| line.starts_with("cargo xtask test"))
        .context("README.md does not say how to test")
}

fn read() -> Result<String> {
    fs::read_to_string(command::workspace().join("README.md")).context("cannot read README.md")
}

/// The lines of shell code blocks that run something of ours, without prompt, `sudo` and comment, continued lines
/// joined.
fn commands(readme: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut in_block, mut in_shell) = (false, false);
    let mut pending = String::new();
    for line in readme.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            in_block = !in_block;
            in_shell = in_block && matches!(language.trim(), "sh" | "bash" | "shell" | "console" | "");
            continue;
        }
        if !in_shell {
            continue;
        }
        if let Some(continued) = line.strip_suffix('\\') {
            pending.push_str(continued);
            continue;
        }
        pending.push_str(line);
        let whole = std::mem::take(&mut pending);
        let line = whole.split(" #").next().unwrap_or(&whole).trim();
        let line = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).unwrap_or(line).trim();
        let line = line.strip_prefix("sudo ").unwrap_or(line).trim();
        if line.starts_with("cargo xtask ") || colo_arguments(line).is_some() {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// What follows `colo`, under any path, or `cargo xtask run --` with a subcommand.
fn colo_arguments(line: &str) -> Option<Vec<&str>> {
    if let Some(rest) = line.strip_prefix("cargo xtask run -- ") {
        return Some(rest.split_whitespace().collect())
            .filter(|words: &Vec<&str>| !words[0].starts_with('-'));
    }
    let mut words = line.split_whitespace();
    let program = words.next()?;
    (program == "colo" || program.ends_with("/colo")).then(|| words.collect())
}

/// What is wrong with a line, if anything. `help` gives what `colo ARGUMENTS --help` prints, or nothing if it fails.
fn problem(line: &str, help: &mut dyn FnMut(&str) -> Result<Option<String>>) -> Result<Option<String>> {
    let task = line.strip_prefix("cargo xtask ").and_then(|rest| rest.split_whitespace().next());
    let exists = |task: &str| task.starts_with('-') || Cli::command().find_subcommand(task).is_some();
    if let Some(task) = task.filter(|task| !exists(task)) {
        return Ok(Some(format!("there is no task {task}")));
    }
    let Some(arguments) = colo_arguments(line) else { return Ok(None) };
    let subcommand = arguments.first().filter(|word| !word.starts_with('-')).copied().unwrap_or("");
    let Some(text) = help(subcommand)? else {
        return Ok(Some(format!("there is no subcommand {subcommand}")));
    };
    let known = |option: &str| {
        text.match_indices(option)
            .any(|(at, _)| !text[at + option.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-'))
    };
    let options = arguments.iter().map(|word| word.trim_matches(|c| "[]|".contains(c)));
    let mut options = options.filter(|word| word.starts_with("--") && word.len() > 2);
    Ok(options.find_map(|word| {
        let option = word.split('=').next().unwrap_or(word);
        (!known(option)).then(|| format!("there is no option {option}"))
    }))
}

/// Help texts of the built agent, each asked for once.
#[derive(Default)]
struct Help {
    texts: HashMap<String, Option<String>>,
}

impl Help {
    fn of_colo(&mut self, subcommand: &str) -> Result<Option<String>> {
        if let Some(text) = self.texts.get(subcommand) {
            return Ok(text.clone());
        }
        let mut colo = Command::new(program("colo", false));
        colo.args(Some(subcommand).filter(|word| !word.is_empty())).arg("--help");
        let output = colo.output().with_context(|| format!("cannot start `{}`", command::shown(&colo)))?;
        let text = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned());
        self.texts.insert(subcommand.to_owned(), text.clone());
        Ok(text)
    }
}

#[cfg(test)]
mod tests;

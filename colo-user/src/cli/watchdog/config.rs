//! What a watchdog is told, on the command line or in a file.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::iter;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::link::endpoint::{Address, Endpoint};
use crate::qmp::command::{Call, written};
use crate::watchdog::Settings;

/// Milliseconds between pulses; the original's 5000 are longer than its own timeout.
pub const PULSE_INTERVAL: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Milliseconds without a frame: five pulses of a peer with the same settings.
pub const TIMEOUT: NonZeroU32 = NonZeroU32::new(5000).unwrap();
/// The longest script, in bytes.
pub const MAX_SCRIPT: u64 = 1 << 20;

/// One watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// In logs and lines.
    pub name: String,
    /// Frames are not answered.
    #[serde(default)]
    pub server: bool,
    /// The heartbeat.
    #[serde(deserialize_with = "text")]
    pub awd_node: Endpoint,
    /// Where the script goes.
    #[serde(default, deserialize_with = "optional_text")]
    pub notification_node: Option<Endpoint>,
    /// The script's file.
    #[serde(default)]
    pub opt_script: Option<PathBuf>,
    /// Milliseconds.
    #[serde(default = "pulse_interval", deserialize_with = "period")]
    pub pulse_interval: NonZeroU32,
    /// Milliseconds.
    #[serde(default = "timeout", deserialize_with = "period")]
    pub timeout: NonZeroU32,
    /// Timeouts let pass.
    #[serde(default)]
    pub debounce: u32,
    /// What else is done.
    #[serde(default, deserialize_with = "optional_text")]
    pub on_timeout: Option<OnTimeout>,
    /// The file with the commands for a QEMU.
    #[serde(default)]
    pub qmp_script: Option<PathBuf>,
}

impl Spec {
    /// For the machine.
    pub const fn settings(&self) -> Settings {
        Settings {
            server: self.server,
            pulse_interval: self.pulse_interval,
            timeout: self.timeout,
            debounce: self.debounce,
        }
    }

    /// Whether its parts fit together.
    pub fn check(&self) -> Result<()> {
        ensure!(
            !self.name.trim().is_empty(),
            "a watchdog's name is empty; give one that its lines can be told by"
        );
        ensure!(
            self.notification_node.is_some() == self.opt_script.is_some(),
            "watchdog `{}`: notification_node and opt_script go together",
            self.name
        );
        ensure!(
            self.opt_script.is_some() || self.on_timeout.is_some(),
            "watchdog `{}`: nothing is done at a timeout; give notification_node and opt_script, or on_timeout",
            self.name
        );
        ensure!(
            self.qmp_script.is_some() == matches!(self.on_timeout, Some(OnTimeout::Qmp(_))),
            "watchdog `{}`: on_timeout = qmp:ENDPOINT and qmp_script, the file with its commands, go together",
            self.name
        );
        Ok(())
    }
}

/// A command, written `exec:COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec(pub String);

impl FromStr for Exec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("exec:")
            .filter(|command| !command.trim().is_empty())
            .map(|command| Self(command.to_owned()))
            .ok_or_else(|| format!("`{text}` is not exec:COMMAND"))
    }
}

/// What else is done at a timeout, written `exec:COMMAND` or `qmp:ENDPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// For the shell.
    Exec(Exec),
    /// For the QEMU behind a monitor.
    Qmp(Endpoint),
}

impl FromStr for OnTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(monitor) = text.strip_prefix("qmp:") else {
            return text.parse().map(Self::Exec).map_err(|error| format!("{error} or qmp:ENDPOINT"));
        };
        let monitor: Endpoint = monitor.parse().map_err(|error| format!("{error}"))?;
        if monitor.server {
            return Err(format!("`{text}`: QEMU is the one that listens; leave server=on out"));
        }
        Ok(Self::Qmp(monitor))
    }
}

/// A configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    #[serde(default)]
    watchdog: Vec<Spec>,
}

/// Reads a configuration file.
pub fn read(path: &Path) -> Result<Vec<Spec>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} cannot be used", path.display()))
}

fn parse(text: &str) -> Result<Vec<Spec>> {
    let specs = toml::from_str::<Configuration>(text)?.watchdog;
    ensure!(!specs.is_empty(), "there is no [[watchdog]] in it");
    let mut names = HashSet::new();
    for spec in &specs {
        ensure!(names.insert(&spec.name), "two watchdogs are named `{}`", spec.name);
    }
    check(&specs)?;
    Ok(specs)
}

/// Whether each of them fits together, and they beside each other.
pub fn check(specs: &[Spec]) -> Result<()> {
    let mut listening = HashSet::new();
    for spec in specs {
        spec.check()?;
        for node in iter::once(&spec.awd_node).chain(&spec.notification_node) {
            // With port 0 each gets a port of its own.
            let shared = node.server
                && !matches!(node.address, Address::Tcp { port: 0, .. })
                && !listening.insert(&node.address);
            ensure!(!shared, "watchdog `{}`: {node} is listened on twice; give each node its own", spec.name);
        }
    }
    Ok(())
}

/// Milliseconds, positive as with the original.
pub fn millis(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number of milliseconds from 1 to {}", u32::MAX))
}

/// Reads a script, whole.
pub fn script(path: &Path) -> Result<Bytes> {
    let read = || {
        let mut script = Vec::new();
        File::open(path)?.take(MAX_SCRIPT + 1).read_to_end(&mut script)?;
        anyhow::Ok(script)
    };
    let script = read().with_context(|| format!("cannot read the script {}", path.display()))?;
    ensure!(!script.is_empty(), "the script {} is empty: a timeout would say nothing", path.display());
    ensure!(
        script.len() as u64 <= MAX_SCRIPT,
        "the script {} is longer than {MAX_SCRIPT} bytes",
        path.display()
    );
    Ok(script.into())
}

/// Reads the commands for a QEMU.
pub fn commands(path: &Path) -> Result<Vec<Call>> {
    let text = String::from_utf8(script(path)?.into())
        .with_context(|| format!("the commands {} are no text", path.display()))?;
    written(&text).map_err(|error| anyhow!("the commands {} cannot be used: {error}", path.display()))
}

const fn pulse_interval() -> NonZeroU32 {
    PULSE_INTERVAL
}

const fn timeout() -> NonZeroU32 {
    TIMEOUT
}

fn period<'de, D: Deserializer<'de>>(from: D) -> Result<NonZeroU32, D::Error> {
    let value = toml::Value::deserialize(from)?;
    let text = value.as_integer().map_or_else(|| value.type_str().to_owned(), |number| number.to_string());
    millis(&text).map_err(D::Error::custom)
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn optional_text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    text(from).map(Some)
}

#[cfg(test)]
mod tests;

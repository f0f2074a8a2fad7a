//! `colo protect` as a test runs it.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use colo_user::link::endpoint::Endpoint;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::child::Programs;

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub code: i32,
    /// The object it printed.
    pub object: Value,
    /// What it said on standard error.
    pub said: String,
}

impl Ended {
    fn of(output: &Output) -> Result<Self> {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let object = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("colo protect ({}) printed no object; it said: {said}", output.status)
        })?;
        let code = output.status.code().with_context(|| format!("colo protect: {}", output.status))?;
        Ok(Self { code, object, said })
    }
}

/// One that runs; killed on drop.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Runs `colo protect --json`, with periodic checkpoints `delay` apart and further arguments.
    pub fn start(
        programs: &Programs,
        sides: &[Endpoint; 2],
        uri: &str,
        delay: Duration,
        more: &[String],
    ) -> Result<Self> {
        Self::spawn(programs, sides, uri, delay, more, Stdio::piped())
    }

    fn spawn(
        programs: &Programs,
        sides: &[Endpoint; 2],
        uri: &str,
        delay: Duration,
        more: &[String],
        lines: Stdio,
    ) -> Result<Self> {
        let [primary, secondary] = sides.each_ref().map(Endpoint::to_string);
        let child = Command::new(&programs.colo)
            .args(["protect", "--json", "--primary", &primary, "--secondary", &secondary, "--uri", uri])
            .args(["--checkpoint-delay", &delay.as_millis().to_string()])
            .args(more)
            .stdout(lines)
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(Some(child)))
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let id = self.0.as_ref().context("it runs")?.id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a pid is positive")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Runs `colo protect --watch --json`; what it prints goes to a file.
    pub fn watch(
        programs: &Programs,
        sides: &[Endpoint; 2],
        uri: &str,
        delay: Duration,
        lines: &Path,
        more: &[String],
    ) -> Result<Self> {
        let more: Vec<String> = std::iter::once("--watch".to_owned()).chain(more.iter().cloned()).collect();
        Self::spawn(programs, sides, uri, delay, &more, File::create(lines)?.into())
    }

    /// Ends one that watches: its exit status, and what it said on standard error.
    pub fn end(mut self) -> Result<(Option<i32>, String)> {
        self.terminate()?;
        let output = self.output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Ended> {
        Ended::of(&self.output()?)
    }

    fn output(&mut self) -> Result<Output> {
        Ok(self.0.take().context("it runs")?.wait_with_output()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

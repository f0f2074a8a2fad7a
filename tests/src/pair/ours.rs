//! `colo protect` as a test runs it.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use colo_user::link::endpoint::Endpoint;
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

/// Runs `colo protect --json`, with periodic checkpoints `delay` apart and further arguments.
pub fn protect(
    programs: &Programs,
    sides: &[Endpoint; 2],
    uri: &str,
    delay: Duration,
    more: &[String],
) -> Result<Ended> {
    let [primary, secondary] = sides.each_ref().map(Endpoint::to_string);
    let output = Command::new(&programs.colo)
        .args(["protect", "--json", "--primary", &primary, "--secondary", &secondary, "--uri", uri])
        .args(["--checkpoint-delay", &delay.as_millis().to_string()])
        .args(more)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let object = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("colo protect ({}) printed no object; it said: {said}", output.status))?;
    let code = output.status.code().with_context(|| format!("colo protect: {}", output.status))?;
    Ok(Ended { code, object, said })
}

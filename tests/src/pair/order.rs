//! An operator's order to an agent, as `colo promote` and its like give it.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What came of it.
#[derive(Debug)]
pub struct Answer {
    /// The exit status.
    pub code: i32,
    /// The object that was printed.
    pub object: Value,
    /// What was said on standard error.
    pub said: String,
}

/// Gives an order to the agent behind a control socket and waits for its end.
pub fn order(colo: &Path, control: &Path, words: &[&str]) -> Result<Answer> {
    let output = Command::new(colo).args(words).args(["--json", "--control"]).arg(control).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().with_context(|| format!("colo {words:?}: {}", output.status))?;
    let object = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("colo {words:?} ({code}) printed no object; it said: {said}"))?;
    Ok(Answer { code, object, said })
}

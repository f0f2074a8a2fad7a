//! `colo diff` as a process, and what holds of every report of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{captures::save, lab::child::Programs};

/// Captures in a folder of their own, and the program.
#[derive(Debug)]
pub struct Case {
    dir: TempDir,
    colo: PathBuf,
}

impl Case {
    /// `beside` is a program of the same build.
    ///
    /// # Panics
    /// Here and below: if a file cannot be written, or the program does not keep its promises.
    #[must_use]
    pub fn new(beside: &str) -> Self {
        Self {
            dir: tempfile::tempdir().expect("temporary directory"),
            colo: Programs::beside(beside.as_ref()).colo,
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes frames as a capture.
    #[must_use]
    pub fn file(&self, name: &str, frames: &[Vec<u8>]) -> PathBuf {
        let path = self.dir.path().join(name);
        save(&path, frames).expect("written");
        path
    }

    /// Writes a file.
    #[must_use]
    pub fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Compares frames and checks what holds for every outcome.
    #[must_use]
    pub fn diff(&self, primary: &[Vec<u8>], secondary: &[Vec<u8>], options: &[&str]) -> Value {
        let (p, s) = (self.file("p.pcap", primary), self.file("s.pcap", secondary));
        let report = self.json(&p, &s, options);
        assert_eq!(report["frames"]["primary"], primary.len());
        assert_eq!(report["frames"]["secondary"], secondary.len());
        report
    }

    /// Runs it.
    #[must_use]
    pub fn colo(&self, primary: &Path, secondary: &Path, options: &[&str]) -> Output {
        Command::new(&self.colo).arg("diff").args([primary, secondary]).args(options).output().unwrap_or_else(
            |e| panic!("{}: {e}; build it with `cargo build -p colo-user`", self.colo.display()),
        )
    }

    /// Runs it with `--json` and checks what holds for every outcome.
    #[must_use]
    pub fn json(&self, primary: &Path, secondary: &Path, options: &[&str]) -> Value {
        let output = self.colo(primary, secondary, &[options, &["--json"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let keys: Vec<&str> = report.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["classes", "divergences", "flows", "frames", "held", "released", "verdict"]);
        let identical = report["verdict"] == "identical";
        assert!(identical || report["verdict"] == "diverged");
        assert_eq!(output.status.code(), Some(i32::from(!identical)));
        assert_eq!(report["divergences"].as_array().expect("a list").is_empty(), identical);
        let count = |value: &Value| value.as_u64().expect("a count");
        assert_eq!(count(&report["released"]) + count(&report["held"]), count(&report["frames"]["primary"]));
        report
    }
}

/// The guests said the same, and all of it would have left.
#[track_caller]
pub fn assert_identical(report: &Value, what: &str) {
    assert_eq!(report["verdict"], "identical", "{what}: {report:#}");
    assert_eq!(report["held"], 0, "{what}: {report:#}");
}

/// The only divergence of a report.
#[track_caller]
#[must_use]
pub fn divergence<'a>(report: &'a Value, what: &str) -> &'a Value {
    assert_eq!(report["verdict"], "diverged", "{what}: {report:#}");
    let list = report["divergences"].as_array().expect("a list");
    assert_eq!(list.len(), 1, "{what}: {report:#}");
    for key in ["flow", "kind", "seq", "offset"] {
        assert!(list[0].get(key).is_some(), "{what}: no {key} in {report:#}");
    }
    &list[0]
}

/// It was refused with this reason.
#[track_caller]
pub fn assert_unusable(output: &Output, reason: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(told.contains(reason), "no {reason:?} in: {told}");
}

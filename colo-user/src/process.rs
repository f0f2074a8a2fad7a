//! A shell command in a process group of its own. Dropping it kills the whole group while the command has not been
//! reaped, so that neither a time limit nor the agent's end leaves one behind.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// See the module.
#[derive(Debug)]
pub struct Group(Child);

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Status(ExitStatus),
    /// It ran longer than it may and was killed.
    TimedOut,
    /// Its end could not be learned.
    Lost(io::Error),
}

impl Group {
    /// Starts `sh -c command` with these variables besides the agent's own. Its standard input is empty, its output goes to the
    /// agent's standard error.
    ///
    /// # Errors
    /// There is no shell, or no process is left.
    pub fn spawn(
        command: &str,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> io::Result<Self> {
        Command::new("sh")
            .args(["-c", command])
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .process_group(0)
            .spawn()
            .map(Self)
    }

    /// Waits for the end, at most `limit`.
    pub async fn wait(mut self, limit: Duration) -> Ended {
        match tokio::time::timeout(limit, self.0.wait()).await {
            Ok(Ok(status)) => Ended::Status(status),
            Ok(Err(error)) => Ended::Lost(error),
            Err(_) => Ended::TimedOut,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may end at this very moment; the runtime reaps it either way.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

//! Child processes that do not outlive the lab.
//!
//! A child is started through `colo-lab tether`, which asks the kernel for a SIGTERM on its parent's death and
//! then becomes the program: also a lab that is killed leaves no process. A child has a process group of its own, so
//! that Ctrl-C on a terminal reaches the lab alone, which then ends its children in order.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::{netns::Netns, unread::Unread};

/// How long a child may take to end by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The programs the lab starts.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `colo-lab`.
    pub lab: PathBuf,
    /// `colo`.
    pub colo: PathBuf,
}

impl Programs {
    /// `colo` is where cargo puts it: beside `colo-lab`.
    pub fn beside(lab: &Path) -> Self {
        Self { lab: lab.to_owned(), colo: lab.with_file_name("colo") }
    }
}

/// A process inside a namespace, ended on drop.
#[derive(Debug)]
pub struct Tethered {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where nobody reads what it says.
    unread: Option<Unread>,
}

impl Tethered {
    /// Starts `program` with `arguments` in `namespace`; what it writes goes to `log`.
    /// With `talk` its standard input stays open for [`Tethered::stdin`], otherwise it is empty.
    pub fn start(
        programs: &Programs,
        namespace: &Netns,
        program: &Path,
        arguments: &[String],
        log: &Path,
        talk: bool,
    ) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("the log {} cannot be written", log.display()))?;
        let stdin = if talk { Stdio::piped() } else { Stdio::null() };
        let streams = [stdin, output.try_clone()?.into(), output.into()];
        let (name, child) = spawn(programs, namespace, program, arguments, streams)?;
        Ok(Self { name, child, log: log.to_owned(), unread: None })
    }

    /// The same, and nobody reads what it says: both of its streams are full from the start.
    pub fn unread(
        programs: &Programs,
        namespace: &Netns,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let unread = Unread::new()?;
        let streams = [Stdio::null(), unread.stdio()?, unread.stdio()?];
        let (name, child) = spawn(programs, namespace, program, arguments, streams)?;
        Ok(Self { name, child, log: PathBuf::new(), unread: Some(unread) })
    }

    /// What was [`unread`](Tethered::unread), to be read or closed.
    pub fn take_unread(&mut self) -> Option<Unread> {
        self.unread.take()
    }

    /// Whether it was [`unread`](Tethered::unread) and still is.
    pub fn is_unread(&self) -> Result<bool> {
        self.unread.as_ref().map_or(Ok(false), Unread::is_full)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if it was started to be talked to.
    pub fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// All it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a pid is positive")?;
        kill_process(pid, signal).with_context(|| format!("{} (pid {}) is gone", self.name, self.child.id()))
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, waits, and kills it if it does not; true if it ended by itself.
    pub fn stop(&mut self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        // A stopped process handles no SIGTERM.
        let _ = self.signal(Signal::TERM).and_then(|()| self.signal(Signal::CONT));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.ended().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        false
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Standard input, output and error are `streams`; with it comes its name.
fn spawn(
    programs: &Programs,
    namespace: &Netns,
    program: &Path,
    arguments: &[String],
    [stdin, stdout, stderr]: [Stdio; 3],
) -> Result<(String, Child)> {
    let child = Command::new(&programs.lab)
        // With the host's mounts: what an agent pins in the bpffs outlives it.
        .args(["tether", "nsenter", &format!("--net={}", namespace.path().display()), "--"])
        .arg(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} cannot be started", programs.lab.display()))?;
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    Ok((name, child))
}

/// `colo-lab tether PROGRAM ARGUMENTS…`: becomes the program, which the kernel will end when the thread
/// that started it does. Returns only if the program cannot be started.
pub fn tether(program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("tether needs a program")?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Err(Command::new(name).args(arguments).exec()).with_context(|| format!("{name} cannot be started"))
}

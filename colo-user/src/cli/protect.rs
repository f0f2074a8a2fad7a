//! `colo protect`: has two QEMUs enter COLO, once, or with [`watch`] whenever they can.

mod watch;

use crate::cli::fit;
use crate::cli::watchdog::Exec;
use crate::link::endpoint::{Endpoint, EndpointError};
use crate::output;
use crate::protect::{Disk, Failed, Plan, Progress, Protected, protect};
use crate::qmp::ColoMode;
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use watch::Watch;

/// Something is not as it was before.
const LEFT_OVER: u8 = 3;
/// No limit that a wire of today would notice: 10 GiB/s.
const BANDWIDTH: u64 = 10 << 30;
/// Between two lines of progress.
const LINES: Duration = Duration::from_secs(1);

/// Start COLO on a running VM and a QEMU that waits for its state
///
/// The primary is any VM that runs: one that was never protected, or the survivor of a pair that lost a side. The secondary is a
/// new QEMU with the same machine, memory and devices, started with -incoming. The agents (colo primary, colo secondary) should
/// run already, so that nothing leaves unheld; they have monitors of their own, this command needs another one of each QEMU.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example, without disks and with one:
  colo protect --primary unix:/run/vm.qmp --secondary tcp:10.9.0.3:4444 --uri tcp:10.9.0.3:9998
  colo protect --primary unix:/run/vm.qmp --secondary tcp:10.9.0.3:4444 --uri tcp:10.9.0.3:9998 \\
               --disk colo-disk0=parent0 --nbd tcp:10.9.0.3:9999

A disk is set up as QEMU's documentation of block replication has it: the primary's is a quorum over its
image, the secondary's a quorum over the replication overlays, whose lowest image is served by NBD.
Its content is copied while the guest runs, which is stopped for some milliseconds when both are equal.
From then on each write goes to both.

Exit status 0: both are in COLO and run. 1: not, and everything is as it was (a secondary that has heard a
part of the state has ended, though). 2: the command line is wrong. 3: not, and what is left is printed.
SIGINT and SIGTERM take everything back.
With --json one object is printed. On success: protected (true), survivor_of (null, primary or secondary),
qemu {primary, secondary}, disks [..], stopped_ms (null without disks), took_ms. Otherwise: protected
(false), reason, left [..].

With --watch it stays, and protects the pair again after each loss of a side, as soon as one VM runs alone and the
other QEMU is a new one that waits with -incoming:
  colo protect --watch --primary tcp:10.9.0.2:4444 --secondary tcp:10.9.0.3:4444 \\
               --uri tcp:10.9.0.3:9998 --back-uri tcp:10.9.0.2:9998 --before exec:/etc/colo/roles
The agents decide who goes on after a loss, and are ready for the next pair with `colo secondary --reprotect` and --agent. A failure is tried again after 2 s,
doubled each time up to 60 s. Exit status 0: ended by a signal. 1: --attempts failures in a row. 3: something is left.
With --json it prints a line for each protection (also primary: the monitor), failure, and state that it
waits in (protected false, waits).")]
pub struct Protect {
    /// A QMP monitor of the VM that runs: unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "QMP", value_parser = of_qemu)]
    primary: Endpoint,
    /// A QMP monitor of the QEMU that waits
    #[arg(long, value_name = "QMP", value_parser = of_qemu)]
    secondary: Endpoint,
    /// What the secondary was started with after -incoming, as the primary's host reaches it: tcp:HOST:PORT or unix:PATH
    #[arg(long, value_name = "URI")]
    uri: String,
    /// Milliseconds between periodic checkpoints (default: what QEMU has, 20000)
    #[arg(long, value_name = "MS", value_parser = value_parser!(u32).range(1..))]
    checkpoint_delay: Option<u32>,
    /// Bytes per second that memory and checkpoints may take of the wire
    #[arg(long, value_name = "BYTES", default_value_t = BANDWIDTH, value_parser = value_parser!(u64).range(1..))]
    max_bandwidth: u64,
    /// Replicate a disk: QUORUM=EXPORT, the primary's quorum and the secondary's lowest image; may be given several times
    #[arg(long, value_name = "DISK", requires = "nbd")]
    disk: Vec<Disk>,
    /// Where the secondary's QEMU shall serve the disks and the primary's finds them: tcp:HOST:PORT or unix:PATH
    #[arg(long, value_name = "ENDPOINT", requires = "disk", value_parser = of_qemu)]
    nbd: Option<Endpoint>,
    /// Give up when nothing moves for so many seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = value_parser!(u64).range(1..))]
    patience: u64,
    /// Stay, and protect the pair again whenever a side was lost and a new secondary waits
    #[arg(long)]
    watch: bool,
    /// With --watch, when the VM at --secondary has survived: what the QEMU at --primary was started with after -incoming
    #[arg(long, value_name = "URI", requires = "watch")]
    back_uri: Option<String>,
    /// As --disk, the other way round
    #[arg(long, value_name = "DISK", requires_all = ["back_uri", "back_nbd"])]
    back_disk: Vec<Disk>,
    /// As --nbd, the other way round
    #[arg(long, value_name = "ENDPOINT", requires = "back_disk", value_parser = of_qemu)]
    back_nbd: Option<Endpoint>,
    /// With --watch: run before each attempt, and only if it ends well within 60 s make it; exec:COMMAND
    ///
    /// Its environment has COLO_PRIMARY and COLO_SECONDARY, the monitors, and COLO_SURVIVOR_OF: what the VM that runs was in the
    /// last pair, `primary`, `secondary` or nothing.
    #[arg(long, value_name = "ACTION", requires = "watch")]
    before: Option<Exec>,
    /// With --watch: the control socket of the agent on this host; no attempt is made before both agents have met
    ///
    /// A `colo secondary` that has taken over is ordered to go on as a primary's agent (`colo reprotect`). One on the other host does so
    /// by itself with --reprotect.
    #[arg(long, value_name = "PATH", requires = "watch")]
    agent: Option<PathBuf>,
    /// With --watch: give up after so many failures in a row
    #[arg(long, value_name = "N", requires = "watch", default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    attempts: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Protect {
    /// Runs until both are in COLO, or it has failed and everything is taken back.
    pub fn run(self) -> Result<ExitCode> {
        fit(self.primary != self.secondary, || {
            format!("--primary and --secondary are the same monitor, {}", self.primary)
        })?;
        let disks = (self.disk.len(), self.back_disk.len());
        fit(self.back_uri.is_none() || disks.0 == disks.1, || {
            format!(
                "{} disks are given by --disk and {} by --back-disk: a disk that is replicated one way is the other way, too",
                disks.0, disks.1
            )
        })?;
        let there = self.plan(&self.uri, &self.disk, self.nbd.as_ref());
        let back = self.back_uri.as_ref().map(|uri| self.plan(uri, &self.back_disk, self.back_nbd.as_ref()));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stop = Arc::new(AtomicBool::new(false));
            on_signal(&stop)?;
            if self.watch {
                let monitors = [self.primary, self.secondary];
                let Self { agent, before, attempts, json, .. } = self;
                return Ok(Watch { monitors, there, back, agent, before, attempts, json }.run(&stop).await);
            }
            let mut shown = Shown::default();
            let monitors = [&self.primary, &self.secondary];
            match protect(monitors, &there, &stop, &mut |progress| shown.show(progress)).await {
                Ok(protected) if self.json => {
                    let disks: Vec<String> = self.disk.iter().map(Disk::to_string).collect();
                    output::line(format_args!("{}", object(&protected, &disks)));
                    Ok(ExitCode::SUCCESS)
                }
                Ok(protected) => {
                    output::line(format_args!("{}", sentence(&protected, self.disk.len())));
                    Ok(ExitCode::SUCCESS)
                }
                Err(error) => {
                    failed(&error, self.json);
                    Ok(code(&error))
                }
            }
        })
    }

    fn plan(&self, uri: &str, disks: &[Disk], nbd: Option<&Endpoint>) -> Plan {
        Plan {
            uri: uri.to_owned(),
            checkpoint_delay: self.checkpoint_delay.map(|ms| Duration::from_millis(ms.into())),
            max_bandwidth: self.max_bandwidth,
            disks: disks.to_vec(),
            nbd: nbd.map(|nbd| nbd.address.clone()),
            patience: Duration::from_secs(self.patience),
        }
    }
}

/// Says why not, and what is left.
fn failed(error: &Failed, json: bool) {
    let reason = format!("{:#}", error.reason);
    if json {
        output::line(format_args!("{}", json!({ "protected": false, "reason": reason, "left": error.left })));
    }
    output::say(format_args!("colo: not protected: {reason}"));
    for left in &error.left {
        output::say(format_args!("colo: left as it is: {left}"));
    }
}

fn code(error: &Failed) -> ExitCode {
    if error.left.is_empty() { ExitCode::FAILURE } else { ExitCode::from(LEFT_OVER) }
}

/// Reads an endpoint at which QEMU listens.
fn of_qemu(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text.parse().map_err(|error: EndpointError| error.to_string())?;
    if endpoint.server {
        return Err(format!("`{text}`: QEMU is the one that listens; leave server=on out"));
    }
    Ok(endpoint)
}

/// From the first SIGINT or SIGTERM on the flag is set.
fn on_signal(stop: &Arc<AtomicBool>) -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)?;
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            signals.recv().await;
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// What was said on standard error, so that copies say a line a second at most.
#[derive(Default)]
struct Shown(Option<Instant>);

impl Shown {
    fn show(&mut self, progress: Progress<'_>) {
        let line = match progress {
            Progress::Disks { .. } | Progress::Memory { .. }
                if self.0.is_some_and(|at| at.elapsed() < LINES) =>
            {
                return;
            }
            Progress::Disks { done, total } => format!("disks: {} of {} MiB", done >> 20, total >> 20),
            Progress::Memory { done, total } => format!("memory: {} of {} MiB", done >> 20, total >> 20),
            Progress::Equal => "disks: equal, and written to alike from here on".to_owned(),
            Progress::Colo => "the primary is in COLO".to_owned(),
            Progress::Stale(node) => format!("{node} of an earlier protection is removed"),
        };
        self.0 = Some(Instant::now());
        output::say(format_args!("colo: {line}"));
    }
}

fn object(protected: &Protected, disks: &[String]) -> serde_json::Value {
    let [primary, secondary] = &protected.versions;
    json!({
        "protected": true,
        "survivor_of": survivor_of(protected.was),
        "qemu": { "primary": primary, "secondary": secondary },
        "disks": disks,
        "stopped_ms": protected.stopped.map(|time| time.as_millis()),
        "took_ms": protected.took.as_millis(),
    })
}

fn sentence(protected: &Protected, disks: usize) -> String {
    let was =
        survivor_of(protected.was).map(|side| format!(" (it was the {side} before)")).unwrap_or_default();
    let stopped = protected
        .stopped
        .map(|time| format!("; {disks} disks are replicated, the guest was stopped for {time:.1?}"))
        .unwrap_or_default();
    format!("protected: both are in COLO and run{was}{stopped}; took {:.1?}", protected.took)
}

/// The side whose failover it lived through.
fn survivor_of(was: ColoMode) -> Option<&'static str> {
    match was {
        ColoMode::Primary => Some("primary"),
        ColoMode::Secondary => Some("secondary"),
        ColoMode::None | ColoMode::Other => None,
    }
}

//! `colo watchdog`: the Advanced Watch Dog as a program of its own.
//!
//! By file: [`action`] is what is done besides, [`config`] is what a watchdog is told, [`node`] how its streams come and come again, [`shell`] one watchdog at work,
//! [`report`] the lines for machines. [`crate::watchdog`] decides.

mod action;
mod config;
mod node;
mod report;
mod shell;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, value_parser};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::USAGE;
use crate::link::endpoint::Endpoint;
use crate::output;
pub(super) use config::Exec;
use config::{OnTimeout, Spec};
use report::Report;
use shell::Shell;

/// Watch a peer by its heartbeat, and tell a monitor when it is lost: QEMU's proposed Advanced Watch Dog, outside QEMU
///
/// Each side sends a pulse on --awd-node every --pulse-interval, the first one interval after the start. Any frame of the peer is
/// a sign of life. After --timeout without one, from the start on, the text of --opt-script is written to
/// --notification-node, once; the next frame arms it again. A side without --server answers each frame. Who listens is independent of
/// that: unix:PATH[,server=on] or tcp:HOST:PORT[,server=on]. Peers may come in any order, go and come back. No privilege is needed.
/// The original's names are taken with underscores too, and --server=on or --server=off as it has them.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples, primary and secondary of a pair, each with the monitor (HMP) of its own QEMU; the script says x_colo_lost_heartbeat:
  colo watchdog --server --awd-node tcp:0.0.0.0:9009,server=on --notification-node unix:/run/vm.monitor \\
                --opt-script /etc/colo/lost --pulse-interval 1000 --timeout 5000
  colo watchdog --awd-node tcp:10.9.0.2:9009 --notification-node unix:/run/vm.monitor \\
                --opt-script /etc/colo/takeover --pulse-interval 1000 --timeout 10000

For a QMP monitor the script's first line is {\"execute\":\"qmp_capabilities\"}. A script that found no notification node is owed: it
leaves when one is there, also if the peer is heard again meanwhile. At most 16 are. One that broke off, or that a node's host over
TCP had not acknowledged when the connection ended, is written whole again. A TCP host that acknowledges nothing for 8 s is gone.
A watchdog alone cannot tell a lost peer from a lost network: without fencing both sides may go on.

Frames are a big-endian u32 length and 0 to 69632 bytes; a longer one costs its connection. The original's defaults were a pulse of
5000 and a timeout of 2000 ms, which gives up a healthy peer between two pulses. Its timers stood still with the VM; these do not.
A reply is not answered: two sides without --server would answer each other without end.

With --config, several watchdogs from a TOML file, with the original's names:
  [[watchdog]]
  name = \"vm1\"
  server = true
  awd_node = \"tcp:0.0.0.0:9009,server=on\"
  notification_node = \"unix:/run/vm1.monitor\"
  opt_script = \"/etc/colo/vm1.lost\"
  pulse_interval = 1000
  timeout = 5000
debounce, on_timeout and qmp_script as the options. If one of them cannot run none does. SIGHUP reads the scripts again, not the file.

With --json a line on standard output for each of: state (was, state, silent_ms, not_owed), listening (node, address), connected and
disconnected (node, peer; reason, unsent frames), script_written (bytes), script_read again (bytes or error), command (outcome; execute, for QMP), commands_read again (commands or error). Each has
watchdog, event and uptime_ms, and lost if lines before it were dropped because nobody read them. States are never-seen, alive, late
(debounce lets it pass) and timed-out. There is none for a pulse.

Exit status 0: ended by SIGTERM or SIGINT. 1: could not start, or failed; the reason is on standard error. 2: the command line or the
configuration file is wrong. A timeout ends nothing.")]
pub struct Watchdog {
    /// Run the watchdogs of this TOML file instead of one from the options
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "server", "awd_node", "notification_node", "opt_script",
          "pulse_interval", "timeout", "debounce", "on_timeout", "qmp_script"])]
    config: Option<PathBuf>,
    /// Its name in logs and lines
    #[arg(long, default_value = "watchdog")]
    name: String,
    /// Do not answer the peer's frames: it is the one that does
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on", default_value = "off",
          hide_default_value = true, hide_possible_values = true, action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    server: bool,
    /// The heartbeat's stream
    #[arg(long, alias = "awd_node", value_name = "ENDPOINT", required_unless_present = "config")]
    awd_node: Option<Endpoint>,
    /// Where the script goes, usually the monitor of a QEMU
    #[arg(long, alias = "notification_node", value_name = "ENDPOINT", required_unless_present_any = ["config", "on_timeout"],
          requires = "opt_script")]
    notification_node: Option<Endpoint>,
    /// The file with what to say at a timeout; read at the start and on SIGHUP
    #[arg(long, alias = "opt_script", value_name = "FILE", required_unless_present_any = ["config", "on_timeout"],
          requires = "notification_node")]
    opt_script: Option<PathBuf>,
    /// Milliseconds between two pulses
    #[arg(long, alias = "pulse_interval", value_name = "MS", default_value_t = config::PULSE_INTERVAL, value_parser = config::millis,
          allow_negative_numbers = true)]
    pulse_interval: NonZeroU32,
    /// Milliseconds without a frame after which the peer is lost
    #[arg(long, value_name = "MS", default_value_t = config::TIMEOUT, value_parser = config::millis, allow_negative_numbers = true)]
    timeout: NonZeroU32,
    /// Timeouts in a row that are let pass before the peer is lost
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u32).range(0..), allow_negative_numbers = true)]
    debounce: u32,
    /// At each timeout run a command, as exec:COMMAND, with COLO_WATCHDOG and COLO_SILENT_MS set; it has 60 s. Or say the commands
    /// of --qmp-script to a QMP monitor, as qmp:ENDPOINT
    ///
    /// At most one runs at a time; a timeout while it runs starts none. A monitor is connected to at the timeout, waited for up to 60 s,
    /// and let go of afterwards.
    #[arg(long, value_name = "ACTION")]
    on_timeout: Option<OnTimeout>,
    /// The QMP commands, each an object on a line, such as {"execute": "x-colo-lost-heartbeat"}; one that is refused does not keep
    /// the next from being given. At most 64; read at the start and on SIGHUP
    #[arg(long, value_name = "FILE", requires = "on_timeout")]
    qmp_script: Option<PathBuf>,
    /// Say what happens in lines of JSON on standard output
    #[arg(long)]
    json: bool,
}

impl Watchdog {
    /// Runs until SIGTERM or SIGINT.
    pub fn run(self) -> Result<ExitCode> {
        let specs = match (self.config, self.awd_node) {
            (Some(file), _) => config::read(&file),
            (None, Some(awd_node)) => Ok(vec![Spec {
                name: self.name,
                server: self.server,
                awd_node,
                notification_node: self.notification_node,
                opt_script: self.opt_script,
                pulse_interval: self.pulse_interval,
                timeout: self.timeout,
                debounce: self.debounce,
                on_timeout: self.on_timeout,
                qmp_script: self.qmp_script,
            }])
            .and_then(|specs| config::check(&specs).map(|()| specs)),
            (None, None) => bail!("neither --config nor --awd-node is given"),
        };
        let specs = match specs {
            Ok(specs) => specs,
            Err(error) => {
                output::say(format_args!("colo: {error:#}"));
                return Ok(ExitCode::from(USAGE));
            }
        };
        let report = Report::new(self.json);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(watch_all(specs, report));
        // An attempt to connect may be left on the blocking pool; it ends by itself.
        runtime.shutdown_background();
        outcome.map(|()| ExitCode::SUCCESS)
    }
}

async fn watch_all(specs: Vec<Spec>, report: Report) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (reload, _) = watch::channel(());
    // All of them listen, or none runs.
    let mut shells = Vec::new();
    for spec in specs {
        let (name, report) = (spec.name.clone(), report.of(&spec.name));
        let shell = Shell::open(spec, report, reload.subscribe());
        shells.push(shell.with_context(|| format!("watchdog `{name}`"))?);
    }
    let mut running = JoinSet::new();
    for shell in shells {
        running.spawn(shell.run());
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload.send_replace(()),
            Some(ended) = running.join_next() => bail!("a watchdog has ended: {ended:?}"),
        }
    }
    running.shutdown().await;
    Ok(())
}

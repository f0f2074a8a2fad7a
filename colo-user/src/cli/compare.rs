//! `colo compare`: stands where QEMU's colo-compare object stands.
//!
//! By file: [`hold`] is where the primary's frames wait, [`proxy`] the whole without sockets, [`shell`] the sockets;
//! [`crate::checkpoint::notify_dev`] is the protocol by which checkpoints are asked for.

mod hold;
mod proxy;
mod shell;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, value_parser};

use super::{common::bypass, signals::stop_descriptor};
use crate::{
    compare::Bypass,
    link::{chardev::Framing, endpoint::Endpoint},
    mono::Mono,
    output,
};
use hold::Bound;
use proxy::{Proxy, Settings};
use shell::{Endpoints, Shell};

/// Compare the packet streams of two guests over sockets, as QEMU's colo-compare object does
///
/// Frames of the primary's guest come in on --primary-in and leave on --out, in order, once the secondary's guest has
/// said the same on --secondary-in. When the two differ, or one stays alone for too long, a checkpoint is asked for
/// on --notify, and again every scan cycle, until COLO_CHECKPOINT comes back: then everything held leaves.
///
/// Endpoints are QEMU's: unix:PATH[,server=on] or tcp:HOST:PORT[,server=on]. Peers may come in any order, go and come
/// back. Framing is QEMU's too: a big-endian u32 length, with --vnet-hdr another u32 with the length of the virtio-net
/// header, and the frame; up to 69632 bytes. No privilege is needed.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example, beside the filter-mirror and filter-redirector objects of QEMU's COLO set-up:
  colo compare --primary-in tcp:127.0.0.1:9001,server=on --secondary-in tcp:0.0.0.0:9004,server=on \\
               --out tcp:127.0.0.1:9005,server=on --notify unix:/run/colo-notify,server=on

On SIGTERM or SIGINT what may leave is written, counters are printed, and the exit status is 0.
Frames that are still held then were never said by the secondary and do not leave.")]
pub struct Compare {
    /// Guest output of the primary
    #[arg(long, value_name = "ENDPOINT")]
    primary_in: Endpoint,
    /// Guest output of the secondary
    #[arg(long, value_name = "ENDPOINT")]
    secondary_in: Endpoint,
    /// Where released frames go
    #[arg(long, value_name = "ENDPOINT")]
    out: Endpoint,
    /// Where checkpoints are asked for (QEMU's notify_dev protocol); without it they are only logged
    #[arg(long, value_name = "ENDPOINT")]
    notify: Option<Endpoint>,
    /// Frames carry the length of a virtio-net header, as with vnet_hdr_support=on
    #[arg(long)]
    vnet_hdr: bool,
    /// How long a frame of either side may stay alone before a checkpoint is asked for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = value_parser!(u32).range(1..))]
    compare_timeout: u32,
    /// How often a request is sent again until the checkpoint has come, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    expired_scan_cycle: u32,
    /// Frames held in one flow from which on a checkpoint is asked for; nothing is dropped
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..))]
    max_queue_size: u32,
    /// After a packet look for the next one for so long before sleeping, in microseconds: less latency for more CPU time
    #[arg(long, value_name = "US", default_value_t = 0)]
    busy_poll: u32,
    /// Let out without comparison what matches this rule: tcp:22, udp:192.0.2.7:53, icmp, vlan:100 or addr:192.0.2.7
    #[arg(long, value_name = "RULE", value_parser = bypass)]
    bypass: Vec<Bypass>,
    /// Bytes held or waiting for --out from which on --primary-in is paused
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, value_parser = value_parser!(u64).range(1..))]
    max_held_bytes: u64,
    /// Frames held or waiting for --out from which on --primary-in is paused
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = value_parser!(u64).range(1..))]
    max_held_frames: u64,
}

impl Compare {
    /// Runs until SIGTERM or SIGINT.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let stop = stop_descriptor().context("cannot catch signals")?;
        let settings = Settings {
            framing: Framing { vnet_header: self.vnet_hdr },
            compare_timeout: Duration::from_millis(self.compare_timeout.into()),
            scan_cycle: Duration::from_millis(self.expired_scan_cycle.into()),
            max_queue_size: self.max_queue_size as usize,
            bypass: self.bypass,
            bound: Bound {
                frames: usize::try_from(self.max_held_frames).unwrap_or(usize::MAX),
                bytes: usize::try_from(self.max_held_bytes).unwrap_or(usize::MAX),
            },
        };
        let endpoints = Endpoints {
            primary_in: self.primary_in,
            secondary_in: self.secondary_in,
            out: self.out,
            notify: self.notify,
        };
        let busy_poll = Duration::from_micros(self.busy_poll.into());
        let proxy = Proxy::new(&settings, Mono::now());
        let mut counted =
            Shell::new(proxy, endpoints, stop, busy_poll)?.run().context("cannot wait for the streams")?;
        counted.push((output::MISSING.to_owned(), output::log_missing()));
        for (name, value) in counted.into_iter().filter(|&(_, value)| value > 0) {
            output::line(format_args!("{name:<32} {value}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

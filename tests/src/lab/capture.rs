//! What left toward the client, seen on the client's side of the primary's uplink: by tcpdump, whose filter runs in
//! the kernel and which says how many frames it lost.

use std::{
    net::IpAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use colo_user::{
    pcap,
    wire::{Ether, Ip, Seq, TcpFlags, TcpSegment, proto},
};
use rustix::process::Signal;

use super::{child::Tethered, stage::Stage, topology::CAPTURE};

/// How long tcpdump may take to begin, and to write what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Tethered,
    file: PathBuf,
}

/// What a capture shows of one direction of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Segments with data.
    pub segments: u64,
    /// How far into the stream the furthest byte is: 0 is the first byte after the SYN.
    pub end: u64,
}

impl Capture {
    /// Begins to capture the TCP packets of one client port.
    pub fn start(stage: &Stage, name: &str, client_port: u16) -> Result<Self> {
        let file = stage.path(&format!("{name}.pcap"));
        let filter = ["tcp", "port", &client_port.to_string()].map(str::to_owned);
        let mut arguments: Vec<String> =
            ["-i", CAPTURE, "-n", "-U", "-s", "0", "-B", "65536", "-Z", "root", "-w"]
                .map(str::to_owned)
                .to_vec();
        arguments.push(file.to_string_lossy().into_owned());
        arguments.extend(filter);
        let log = stage.path(&format!("{name}.log"));
        let programs = &stage.programs;
        let tcpdump =
            Tethered::start(programs, &stage.topology.client, "tcpdump".as_ref(), &arguments, &log, false)?;
        let mut capture = Self { tcpdump, file };
        capture.wait_until_listening()?;
        Ok(capture)
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.tcpdump.log().contains("listening on") {
            if self.tcpdump.ended().is_some() || Instant::now() > deadline {
                bail!("tcpdump did not begin to listen: {}", self.tcpdump.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Reads what `server` said to the client until the client's own end of the connection, which must have been
    /// written before, shows that nothing of it is still on its way here. Frames that tcpdump lost are an error: they
    /// would prove nothing.
    pub fn finish(mut self, server: IpAddr) -> Result<Said> {
        let deadline = Instant::now() + PATIENCE;
        let said = loop {
            // While tcpdump writes, the last frame of the file may be half there.
            let said = pcap::Capture::open(&self.file)
                .map_err(anyhow::Error::from)
                .and_then(|file| said(file, server));
            match said {
                Ok((said, true)) => break said,
                other if Instant::now() > deadline => {
                    bail!("the capture does not show the client's end of the connection: {other:?}");
                }
                _ => thread::sleep(Duration::from_millis(50)),
            }
        };
        self.tcpdump.signal(Signal::INT)?;
        while self.tcpdump.ended().is_none() {
            ensure!(Instant::now() < deadline, "tcpdump does not end");
            thread::sleep(Duration::from_millis(10));
        }
        let log = self.tcpdump.log();
        ensure!(log.contains("\n0 packets dropped by kernel"), "tcpdump lost frames: {log}");
        Ok(said)
    }
}

/// How far `server` came in the TCP stream to its client in a capture of one connection, and whether the client
/// ended it.
fn said(mut capture: pcap::Capture, server: IpAddr) -> Result<(Said, bool)> {
    let mut first = None;
    let mut said = Said { segments: 0, end: 0 };
    let mut ended = false;
    while let Some(pcap::Captured { frame, .. }) = capture.next_frame()? {
        let ether = Ether::parse(frame)?;
        let ip = Ip::parse(frame, ether.payload, ether.ethertype)?;
        if ip.protocol != proto::TCP {
            continue;
        }
        let segment = TcpSegment::parse(&frame[ip.payload..ip.end])?;
        if ip.source() != server {
            ended |= segment.flags.has(TcpFlags::FIN) || segment.flags.has(TcpFlags::RST);
            continue;
        }
        if segment.flags.has(TcpFlags::SYN) {
            first = Some(segment.payload_seq());
        }
        if !segment.payload.is_empty() {
            let first: Seq = first.context("the capture does not begin with the handshake")?;
            let end = i64::from(segment.payload_seq().distance_from(first)) + segment.payload.len() as i64;
            said.segments += 1;
            said.end = said.end.max(u64::try_from(end).context("a segment before the handshake")?);
        }
    }
    ensure!(first.is_some(), "the capture shows no handshake");
    Ok((said, ended))
}

#[cfg(test)]
mod tests;

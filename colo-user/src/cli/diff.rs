//! `colo diff`: what two guests said, from two captures.
//!
//! Each capture is read twice: once to count its frames and, with `--align`, to find where its TCP flows begin
//! ([`align`]), and once to be compared. The two are interleaved by position, never by time; the clock stands still, so
//! nothing is ever late, and at the end what only one side has said is a divergence. Captures that are equal frame by
//! frame are identical even where a guest contradicts itself (repeats a segment with other bytes, which is a divergence
//! otherwise). [`report`] is what is printed.

mod align;
mod report;

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;

use super::common::{bypass, mac};
use crate::{
    compare::{Action, Bypass, Cause, Comparator, Limits, Policy, Token},
    mono::Mono,
    output,
    pcap::{Capture, CaptureError},
};
use align::{Alignment, Starts};
use report::Report;

/// Exit status for captures that differ.
const DIVERGED: u8 = 1;

/// Exit status for input that cannot be used.
const UNUSABLE: u8 = 2;

/// Datagrams of one flow that may change places. Captures are no live traffic: more than the agents allow.
const REORDER_WINDOW: usize = 4096;

/// Bytes that both sides said and that are kept in each flow for retransmissions: more than any window.
const SAID_BYTES: usize = 64 << 20;

/// Compare what two guests said, from two captures of their output
///
/// Both files are pcap or pcapng, with Ethernet frames, and every frame in them counts as guest output (see
/// --guest-mac). TCP is compared as byte streams at the same sequence numbers, UDP and ICMP by datagram, everything else
/// by what a router would not change; segmentation, retransmission, order, padding, IP identification, TTL, window and
/// checksums do not matter. ARP, neighbour discovery, IGMP and MLD never differ. Times are ignored.
///
/// Frames that a capture cut short (tcpdump -s) are compared by the bytes that are there, and a warning says so.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Exit status: 0 identical, 1 diverged, 2 unusable input.

With --json one object is printed:
  verdict      \"identical\" or \"diverged\"
  frames       {\"primary\": N, \"secondary\": N}
  released     frames of the primary that the secondary said too
  held         frames of the primary that never became releasable
  flows        flows compared
  classes      frames by class, of each side
  divergences  [{flow, kind, seq, offset, primary, secondary}]
kind is payload, length, flags, missing (only the primary said it) or extra (only the secondary did). The first
differing byte is at seq + offset for TCP and at offset in the payload for the rest; primary and secondary quote
both sides from there, in hexadecimal.")]
pub struct Diff {
    /// Capture of the primary's guest
    #[arg(value_name = "PRIMARY")]
    primary: PathBuf,
    /// Capture of the secondary's guest
    #[arg(value_name = "SECONDARY")]
    secondary: PathBuf,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
    /// Compare only frames sent by this Ethernet address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    guest_mac: Option<[u8; 6]>,
    /// Do not compare what matches this rule: tcp:22, udp:192.0.2.7:53, icmp, vlan:100 or addr:192.0.2.7
    #[arg(long, value_name = "RULE", value_parser = bypass)]
    bypass: Vec<Bypass>,
    /// Shift each TCP flow of the secondary to the primary's initial sequence number: for captures taken behind the
    /// guests' own interfaces, where each guest has picked its own
    #[arg(long)]
    align: bool,
}

impl Diff {
    /// Compares and prints. Errors are printed too: their exit status is not that of other commands.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let report = match self.compare() {
            Ok(report) => report,
            Err(error) => {
                output::say(format_args!("colo diff: {error}"));
                return Ok(ExitCode::from(UNUSABLE));
            }
        };
        for side in [&report.primary, &report.secondary].into_iter().filter(|side| side.cut > 0) {
            output::say(format_args!(
                "colo diff: {}: {} frames are cut short by the capture and compared only as far as they go; capture \
                 whole frames (tcpdump -s 0)",
                side.file, side.cut
            ));
        }
        let mut out = io::stdout().lock();
        let printed = if self.json { writeln!(out, "{}", report.json()) } else { write!(out, "{report}") };
        // A reader that has seen enough (`| head`) changes nothing about the verdict.
        printed.and_then(|()| out.flush()).or_else(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(e),
        })?;
        Ok(if report.is_identical() { ExitCode::SUCCESS } else { ExitCode::from(DIVERGED) })
    }

    fn compare(&self) -> Result<Report, CaptureError> {
        let primary = Source::new(&self.primary)?;
        let secondary = Source::new(&self.secondary)?;
        let (primary_frames, primary_starts) = self.survey(&primary)?;
        let (secondary_frames, secondary_starts) = self.survey(&secondary)?;
        let mut alignment = self.align.then(|| Alignment::new(primary_starts, secondary_starts));

        let mut comparison = Comparison::new(&self.bypass);
        let mut twins = Twins::new(primary_frames == secondary_frames);
        let mut primary = self.frames(&primary)?;
        let mut secondary = self.frames(&secondary)?;
        // Both reach their ends together.
        let (mut p, mut s) = (0_u64, 0_u64);
        while p < primary_frames || s < secondary_frames {
            let behind =
                u128::from(p) * u128::from(secondary_frames) <= u128::from(s) * u128::from(primary_frames);
            if p < primary_frames && (behind || s == secondary_frames) {
                p += 1;
                if let Some(frame) = primary.next()? {
                    twins.primary(frame);
                    comparison.primary(frame);
                }
            } else {
                s += 1;
                let Some(frame) = secondary.next()? else { continue };
                twins.secondary(frame);
                match &mut alignment {
                    Some(alignment) => comparison.secondary(&alignment.aligned(frame)),
                    None => comparison.secondary(frame),
                }
            }
        }
        Ok(comparison.finish(twins.equal, primary.side(p), secondary.side(s)))
    }

    /// Counts the frames of a capture and notes where its TCP flows begin, if that is asked for.
    fn survey(&self, source: &Source) -> Result<(u64, Starts), CaptureError> {
        let mut frames = self.frames(source)?;
        let mut starts = Starts::default();
        let mut count = 0;
        while let Some(frame) = frames.next()? {
            count += 1;
            if self.align {
                starts.note(frame);
            }
        }
        Ok((count, starts))
    }

    fn frames(&self, source: &Source) -> Result<Frames, CaptureError> {
        Ok(Frames { capture: source.open()?, file: source.name.clone(), only: self.guest_mac, cut: 0 })
    }
}

/// A capture that can be read twice. What is no regular file (a pipe) is kept in memory.
struct Source {
    name: String,
    path: PathBuf,
    kept: Option<Arc<[u8]>>,
}

impl Source {
    fn new(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        let piped = fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
        let kept = piped.then(|| {
            let mut bytes = Vec::new();
            File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map(|_| Arc::from(bytes))
        });
        let kept = kept.transpose().map_err(|e| CaptureError::unreadable(name.clone(), e))?;
        Ok(Self { name, path: path.to_owned(), kept })
    }

    fn open(&self) -> Result<Capture, CaptureError> {
        match &self.kept {
            Some(bytes) => Capture::new(self.name.clone(), Cursor::new(Arc::clone(bytes))),
            None => Capture::open(&self.path),
        }
    }
}

/// The guest's frames in a capture.
struct Frames {
    capture: Capture,
    file: String,
    only: Option<[u8; 6]>,
    cut: u64,
}

impl Frames {
    fn next(&mut self) -> Result<Option<&[u8]>, CaptureError> {
        let only = self.only;
        let found = self.capture.find(|frame| only.is_none_or(|mac| frame.get(6..12) == Some(&mac)))?;
        Ok(found.map(|captured| {
            self.cut += u64::from(captured.cut);
            captured.frame
        }))
    }

    fn side(self, frames: u64) -> report::Side {
        report::Side { file: self.file, frames, cut: self.cut }
    }
}

/// Whether two captures are equal frame by frame. With equal numbers of frames they are read in turns.
struct Twins {
    equal: bool,
    last: Vec<u8>,
}

impl Twins {
    const fn new(equal: bool) -> Self {
        Self { equal, last: Vec::new() }
    }

    fn primary(&mut self, frame: &[u8]) {
        if self.equal {
            self.last.clear();
            self.last.extend_from_slice(frame);
        }
    }

    fn secondary(&mut self, frame: &[u8]) {
        self.equal &= self.last == frame;
    }
}

/// A comparator whose clock stands still.
struct Comparison {
    comparator: Comparator,
    actions: Vec<Action>,
    next: u64,
    released: u64,
    causes: Vec<Cause>,
}

impl Comparison {
    fn new(bypass: &[Bypass]) -> Self {
        let policy = Policy { bypass: bypass.to_vec(), ..Policy::default() };
        let limits = Limits {
            flows: usize::MAX,
            queue: usize::MAX,
            ahead_bytes: usize::MAX,
            said_bytes: SAID_BYTES,
            kept_bytes: usize::MAX,
            reorder_window: REORDER_WINDOW,
            reassemblies: usize::MAX,
            reassembly_bytes: usize::MAX,
        };
        Self {
            comparator: Comparator::new(policy, limits, Mono::ZERO),
            actions: Vec::new(),
            next: 0,
            released: 0,
            causes: Vec::new(),
        }
    }

    fn primary(&mut self, frame: &[u8]) {
        self.comparator.primary(Mono::ZERO, Token(self.next), frame, &mut self.actions);
        self.next += 1;
        self.act();
    }

    fn secondary(&mut self, frame: &[u8]) {
        self.comparator.secondary(Mono::ZERO, frame, &mut self.actions);
        self.act();
    }

    fn act(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                Action::Release(_) => self.released += 1,
                Action::Checkpoint(cause) => self.causes.push(*cause),
                // An ICMP error that the secondary did not send counts as held: it did not become releasable.
                Action::Drop(_) | Action::Emit(_) | Action::Window(..) => {}
            }
        }
    }

    fn finish(mut self, equal: bool, primary: report::Side, secondary: report::Side) -> Report {
        self.comparator.finish(Mono::ZERO, &mut self.actions);
        self.act();
        if equal {
            self.causes.clear();
            self.released = self.next;
        }
        Report {
            held: self.next - self.released,
            released: self.released,
            flows: self.comparator.flows(),
            counters: self.comparator.counters().clone(),
            causes: self.causes,
            primary,
            secondary,
        }
    }
}

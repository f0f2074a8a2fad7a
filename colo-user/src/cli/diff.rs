//! `colo diff`: what two guests said, from two captures.
//!
//! Each capture ([`source`]) is read twice: once to count its frames and, with `--align`, to find where its TCP flows begin
//! ([`align`]), and once to be compared. If frames are cut short it is read once more between, to learn what is not known
//! ([`crate::compare::lacking`]). The two are interleaved by position, never by time; the clock stands still, so nothing is ever
//! late, and at the end what only one side has said is a divergence. Captures that are equal frame by frame are identical whatever
//! they hold. [`report`] is what is printed.

mod align;
mod report;
mod source;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::common::{bypass, mac};
use crate::{
    compare::lacking::{Lacking, Survey},
    compare::{Action, Bypass, Cause, Comparator, Limits, Policy, Token},
    mono::Mono,
    output,
    pcap::{CaptureError, Captured},
};
use align::{Alignment, Starts};
use report::Report;
use source::{Frames, Source, Unusable};

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
/// Frames that a capture cut short (tcpdump -s) are compared as far as they go, and a warning says so: what one capture lacks of them is
/// neither missing nor extra, whatever the other has there. Where a frame ends within its headers nothing of its flow is compared.
/// Packets without a length, as a sender that leaves segmentation to its card captures them, go to the end of their frames. A frame
/// check sequence that the file declares is no content.
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
        if report.headless > 0 {
            output::say(format_args!(
                "colo diff: frames of {} flows end within their headers: nothing of these flows is compared",
                report.headless
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

    fn compare(&self) -> Result<Report, Unusable> {
        let primary = Source::new(&self.primary)?;
        let secondary = Source::new(&self.secondary)?;
        let (of_primary, primary_starts) = self.survey(&primary)?;
        let (of_secondary, secondary_starts) = self.survey(&secondary)?;
        let alignment = self.align.then(|| Alignment::new(primary_starts, secondary_starts));

        let mut comparison = Comparison::new(&self.bypass);
        if of_primary.cut + of_secondary.cut > 0 {
            let mut survey = Survey::new();
            let mut frames = self.frames(&primary)?;
            while let Some(captured) = frames.next()? {
                survey.note(captured.frame, captured.missing);
            }
            survey.end();
            let mut frames = self.frames(&secondary)?;
            let mut alignment = alignment.clone();
            while let Some(captured) = frames.next()? {
                let frame = align::aligned(&mut alignment, captured);
                survey.note(&frame, captured.missing);
            }
            comparison.lacks(survey.finish());
        }
        let mut alignment = alignment;
        let mut twins = Twins::new(of_primary.frames == of_secondary.frames);
        let mut primary = self.frames(&primary)?;
        let mut secondary = self.frames(&secondary)?;
        // Both reach their ends together.
        let (mut p, mut s) = (0_u64, 0_u64);
        while p < of_primary.frames || s < of_secondary.frames {
            let behind = u128::from(p) * u128::from(of_secondary.frames)
                <= u128::from(s) * u128::from(of_primary.frames);
            if p < of_primary.frames && (behind || s == of_secondary.frames) {
                p += 1;
                if let Some(captured) = primary.next()? {
                    twins.primary(captured);
                    comparison.primary(captured);
                }
            } else {
                s += 1;
                let Some(captured) = secondary.next()? else { continue };
                twins.secondary(captured);
                let frame = align::aligned(&mut alignment, captured);
                comparison.secondary(Captured { frame: &frame, ..captured });
            }
        }
        let side = |frames: Frames, of: &Seen| report::Side {
            file: frames.file().to_owned(),
            frames: of.frames,
            cut: of.cut,
        };
        let (primary, secondary) = (side(primary, &of_primary), side(secondary, &of_secondary));
        Ok(comparison.finish(twins.equal, primary, secondary))
    }

    /// Counts the frames of a capture and notes where its TCP flows begin, if that is asked for.
    fn survey(&self, source: &Source) -> Result<(Seen, Starts), Unusable> {
        let mut frames = self.frames(source)?;
        let mut starts = Starts::default();
        let mut seen = Seen { frames: 0, cut: 0 };
        while let Some(captured) = frames.next()? {
            seen.frames += 1;
            seen.cut += u64::from(captured.missing > 0);
            if self.align {
                starts.note(captured);
            }
        }
        frames.ensure_heard()?;
        Ok((seen, starts))
    }

    fn frames(&self, source: &Source) -> Result<Frames, CaptureError> {
        Frames::new(source, self.guest_mac)
    }
}

/// What the first pass saw.
struct Seen {
    frames: u64,
    /// Frames that the capture cut short.
    cut: u64,
}

/// Whether two captures are equal frame by frame. With equal numbers of frames they are read in turns.
struct Twins {
    equal: bool,
    last: Vec<u8>,
    missing: usize,
}

impl Twins {
    const fn new(equal: bool) -> Self {
        Self { equal, last: Vec::new(), missing: 0 }
    }

    fn primary(&mut self, captured: Captured<'_>) {
        if self.equal {
            self.last.clear();
            self.last.extend_from_slice(captured.frame);
            self.missing = captured.missing;
        }
    }

    fn secondary(&mut self, captured: Captured<'_>) {
        self.equal &= self.last == captured.frame && self.missing == captured.missing;
    }
}

/// A comparator whose clock stands still.
struct Comparison {
    comparator: Comparator,
    actions: Vec<Action>,
    next: u64,
    released: u64,
    /// Flows of which nothing is compared.
    headless: usize,
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
            headless: 0,
            causes: Vec::new(),
        }
    }

    /// Takes note of what the captures lack.
    fn lacks(&mut self, lacking: Lacking) {
        self.headless = lacking.headless();
        self.comparator.set_lacking(lacking);
    }

    fn primary(&mut self, Captured { frame, missing }: Captured<'_>) {
        self.comparator.primary_cut(Mono::ZERO, Token(self.next), frame, missing, &mut self.actions);
        self.next += 1;
        self.act();
    }

    fn secondary(&mut self, Captured { frame, missing }: Captured<'_>) {
        self.comparator.secondary_cut(Mono::ZERO, frame, missing, &mut self.actions);
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
            headless: self.headless,
            primary,
            secondary,
        }
    }
}

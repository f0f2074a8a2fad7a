//! `colo compare` beside stock colo-compare: the same packets through the same sockets, in alternating rounds.
//!
//! The comparator has one CPU, the generator and the reader the other. Throughput is with a window of packets under way
//! that stays below stock's queue of one flow; a packet that does not come out is lost and counted. Latency is from the
//! secondary's write to the packet at `out`, one packet at a time; once more with `--busy-poll`.

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Better, Effort, Report, Row,
    generator::{Case, Generator},
    process,
};
use crate::oracle::{Options, Program, Running};

/// Packets under way.
const WINDOW: u64 = 512;

/// Bytes of one write of the generator, about.
const WRITE: usize = 8 * 1024;

/// With nothing coming out for so long, what is under way is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// `--busy-poll` of the rows that have it, in microseconds.
const BUSY_POLL: u32 = 50;

/// The CPUs of the comparator and of the generator.
const CPUS: [usize; 2] = [0, 1];

/// Adds the rows of throughput and CPU time.
pub fn throughput(report: &mut Report, ours: &Program, cases: &[Case], effort: Effort) -> Result<()> {
    for &case in cases {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..effort.rounds {
            for (program, rounds) in [ours, &Program::Stock].into_iter().zip(&mut rounds) {
                rounds.push(flood(program, case, Duration::from_millis(effort.millis))?);
            }
        }
        let mut row = |quantity, better, of: fn(&Flood) -> f64| {
            let [ours, peer] = rounds.each_ref().map(|rounds| rounds.iter().map(of).collect());
            report.rows.push(Row { group: "colo compare", case: case.name(), quantity, better, ours, peer });
        };
        row("packets/s", Better::Higher, |flood| flood.rate);
        row("CPU us/packet", Better::Lower, |flood| flood.cpu_micros);
        if rounds.iter().flatten().any(|flood| flood.lost > 0) {
            row("packets lost", Better::Lower, |flood| flood.lost as f64);
        }
    }
    Ok(())
}

/// Adds the rows of latency.
pub fn latency(report: &mut Report, ours: &Program, cases: &[Case], effort: Effort) -> Result<()> {
    let plain = Options::default();
    let awake = Options { more: vec!["--busy-poll".to_owned(), BUSY_POLL.to_string()], ..Options::default() };
    for &case in cases {
        let mut rounds = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..effort.rounds {
            let runs = [(ours, &plain), (&Program::Stock, &plain), (ours, &awake)];
            for ((program, options), rounds) in runs.into_iter().zip(&mut rounds) {
                rounds.push(one_at_a_time(program, options, case, effort.samples)?);
            }
        }
        for (ours, note) in [(0, ""), (2, ", busy-poll")] {
            for (quantity, percent) in [("release us p50", 50), ("release us p99", 99)] {
                let of = |rounds: &[Vec<f64>]| -> Vec<f64> {
                    rounds.iter().map(|sorted| sorted[(sorted.len() - 1) * percent / 100]).collect()
                };
                report.rows.push(Row {
                    group: "colo compare",
                    case: case.name() + note,
                    quantity,
                    better: Better::Lower,
                    ours: of(&rounds[ours]),
                    peer: of(&rounds[1]),
                });
            }
        }
    }
    Ok(())
}

/// One round of throughput.
struct Flood {
    rate: f64,
    cpu_micros: f64,
    lost: u64,
}

fn start(program: &Program, options: &Options) -> Result<Running> {
    let running = Running::start(program, options)?;
    process::pin(Some(running.pid()), [CPUS[0]])?;
    process::pin(None, [CPUS[1]])?;
    Ok(running)
}

fn flood(program: &Program, case: Case, duration: Duration) -> Result<Flood> {
    let mut running = start(program, &Options::default())?;
    let mut generator = Generator::new(case);
    let on_wire = (generator.frame_len() + 4) as u64;
    let batch = (WRITE as u64 / on_wire).clamp(1, WINDOW / 4);
    let (arrived, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut out = running.out.try_clone()?;
    out.set_read_timeout(Some(Duration::from_millis(50)))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 20];
            let mut bytes = 0;
            while !done.load(Ordering::Relaxed) {
                if let Ok(n) = out.read(&mut buffer) {
                    bytes += n as u64;
                    arrived.store(bytes / on_wire, Ordering::Release);
                }
            }
        });
        let outcome = (|| {
            let mut buffer = Vec::new();
            let (mut said, mut lost) = (0, 0);
            // Flows are begun before the clock starts.
            let warm = u64::from(case.flows);
            let mut begun = None;
            loop {
                buffer.clear();
                (0..batch).for_each(|_| generator.append_framed(&mut buffer));
                running.primary.write_all(&buffer).context("primary_in")?;
                running.secondary.write_all(&buffer).context("secondary_in")?;
                said += batch;
                lost += wait_for(&arrived, said - lost, WINDOW);
                let left = arrived.load(Ordering::Acquire);
                match begun {
                    None if left >= warm.saturating_sub(WINDOW) => {
                        begun = Some((Instant::now(), process::cpu_time(running.pid())?, left));
                    }
                    Some((begin, cpu, from)) if begin.elapsed() >= duration => {
                        let packets = (left - from) as f64;
                        let cpu = process::cpu_time(running.pid())?.saturating_sub(cpu);
                        let rate = packets / begin.elapsed().as_secs_f64();
                        lost += wait_for(&arrived, said - lost, 0);
                        return Ok(Flood {
                            rate,
                            cpu_micros: cpu.as_secs_f64() * 1e6 / packets.max(1.0),
                            lost,
                        });
                    }
                    None if lost > 100 * WINDOW => bail!("nothing comes out; log: {}", running.log()),
                    _ => {}
                }
            }
        })();
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Waits until all but `window` of `expected` packets have arrived. Returns how many have to be given up for that.
fn wait_for(arrived: &AtomicU64, expected: u64, window: u64) -> u64 {
    let mut last = (arrived.load(Ordering::Acquire), Instant::now());
    loop {
        let now = arrived.load(Ordering::Acquire);
        let missing = expected.saturating_sub(now);
        if missing <= window {
            return 0;
        }
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > LOST_AFTER {
            return missing;
        }
        thread::yield_now();
    }
}

/// Microseconds of each packet, sorted.
fn one_at_a_time(program: &Program, options: &Options, case: Case, samples: usize) -> Result<Vec<f64>> {
    let mut running = start(program, options)?;
    running.out.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut generator = Generator::new(case);
    let mut packet = Vec::new();
    let mut left = vec![0; generator.frame_len() + 4];
    let mut taken = Vec::with_capacity(samples);
    let warm = samples / 10;
    for number in 0..samples + warm {
        packet.clear();
        generator.append_framed(&mut packet);
        running.primary.write_all(&packet)?;
        let begin = Instant::now();
        running.secondary.write_all(&packet)?;
        running.out.read_exact(&mut left).context("a packet did not come out")?;
        if number >= warm {
            taken.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        if left != packet {
            bail!("another packet came out than the one said");
        }
    }
    taken.sort_by(f64::total_cmp);
    Ok(taken)
}

//! The hold path beside a plain kernel bridge: from a write to the guest's tap, as QEMU makes one for each frame, to the
//! client's end of the uplink. Nothing is compared: each frame is captured, parked and released at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use colo_user::datapath::{AttachMode, Datapath, HoldBackend, Role};

use super::{Better, Effort, Report, Row, process};
use crate::ends::{End, Ends, GUEST, Joint, SOON, UPLINK, numbered};

/// Frames written and not yet released: what a guest with full TCP windows has on its way, well within the buffers.
const WINDOW: u64 = 512;

/// One round's values.
struct Round {
    frames_per_second: f64,
    micros_per_frame: f64,
}

/// Adds the rows of both hold backends.
pub fn run(report: &mut Report, effort: Effort) -> Result<()> {
    let duration = Duration::from_millis(effort.millis);
    for (backend, name) in [(HoldBackend::Afxdp, "afxdp"), (HoldBackend::Ringbuf, "ringbuf")] {
        for length in [64, 1514] {
            let (mut ours, mut peer) = (Vec::new(), Vec::new());
            for _ in 0..effort.rounds {
                ours.push(held(backend, length, duration)?);
                peer.push(bridged(length, duration)?);
            }
            let mut row = |quantity, better, value: fn(&Round) -> f64| {
                report.rows.push(Row {
                    group: "hold and release beside a kernel bridge",
                    case: format!("{name}, frames of {length} B"),
                    quantity,
                    better,
                    ours: ours.iter().map(value).collect(),
                    peer: peer.iter().map(value).collect(),
                });
            };
            row("frames/s", Better::Higher, |round| round.frames_per_second);
            row("CPU us/frame", Better::Lower, |round| round.micros_per_frame);
        }
    }
    Ok(())
}

/// Through the data path.
fn held(backend: HoldBackend, length: usize, duration: Duration) -> Result<Round> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    let mut config = ends.config(Role::Primary, AttachMode::Auto, backend);
    config.frames = 4096;
    let mut datapath = ends.attach(&config)?;
    let (released, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let agent = scope.spawn(|| turn(&mut datapath, &released, &done));
        let round = send(&ends, length, duration, || released.load(Ordering::Acquire));
        done.store(true, Ordering::Release);
        agent.join().map_err(|_| anyhow::anyhow!("the packet thread panicked"))??;
        round
    })
}

fn turn(datapath: &mut Datapath, released: &AtomicU64, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Acquire) {
        datapath.wait(&[], &[], Some(Duration::from_millis(20)))?;
        let mut taken = 0;
        while let Some(captured) = datapath.next_captured() {
            datapath.release(captured.id);
            taken += 1;
        }
        datapath.flush()?;
        released.fetch_add(taken, Ordering::Release);
    }
    let lost = datapath.pressure().lost;
    ensure!(lost == 0, "{lost} frames were lost before they were captured");
    Ok(())
}

/// Through a bridge of the kernel's.
fn bridged(length: usize, duration: Duration) -> Result<Round> {
    let ends = Ends::new(Joint::Tap, Joint::Veth)?;
    ends.host.run("ip link add bridge0 type bridge mcast_snooping 0")?;
    ends.host.run("ip link set bridge0 up")?;
    for port in [GUEST, UPLINK] {
        ends.host.run(&format!("ip link set {port} master bridge0"))?;
    }
    send(&ends, length, duration, || u64::MAX - WINDOW)
}

/// Writes frames while `released` keeps up, and counts what arrives.
fn send(ends: &Ends, length: usize, duration: Duration, released: impl Fn() -> u64) -> Result<Round> {
    let End::Veth(_, client) = &ends.client else { unreachable!("the client is behind a veth pair") };
    let arrived = || -> Result<u64> {
        let text = client.run("cat /sys/class/net/far0/statistics/rx_packets")?;
        text.trim().parse().context("rx_packets")
    };
    let frame = numbered(0, length);
    let before = arrived()?;
    let cpu = process::cpu_time(std::process::id())?;
    let begin = Instant::now();
    let mut written = 0;
    while begin.elapsed() < duration {
        if written < released() + WINDOW {
            ends.guest.say(&frame)?;
            written += 1;
        } else {
            thread::yield_now();
        }
    }
    let deadline = Instant::now() + SOON;
    while arrived()? < before + written {
        ensure!(Instant::now() < deadline, "{written} frames written, {} arrived", arrived()? - before);
    }
    let cpu = process::cpu_time(std::process::id())? - cpu;
    Ok(Round {
        frames_per_second: written as f64 / begin.elapsed().as_secs_f64(),
        micros_per_frame: cpu.as_secs_f64() * 1e6 / written as f64,
    })
}

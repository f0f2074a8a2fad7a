//! Deadlines that hold without an agent: the programs by themselves, agents that are frozen, and pinned programs whose agent
//! is gone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions};
use colo_ebpf::{Counter, Deadman, DeadmanPolicy, Hold, Mode};
use colo_tests::ends::{Ends, GUEST, Joint, QUIET, SOON, UPLINK, capture, numbered};
use colo_tests::lab::child::{Programs as Binaries, Tethered};
use colo_tests::loaded::{load, settings};
use colo_user::datapath::programs::{Programs, Side};
use colo_user::datapath::{AttachMode, Config, HoldBackend, Role, detach_pinned};
use colo_user::mono::{Boot, Mono};
use rustix::process::Signal;
use serde_json::Value;

const DROP: u32 = 1;
const REDIRECT: u32 = 4;
const MINUTE: u64 = 60_000_000_000;
/// How long an agent may be frozen here, which is longer than it waits for a processor, and how long it is.
const LIMIT: Duration = Duration::from_millis(1000);
const FROZEN: Duration = Duration::from_millis(2500);

/// The verdict on one frame, and whether it raised `counter`.
fn judge(programs: &mut Programs, side: Side, counter: Counter) -> Result<(u32, bool)> {
    let frame = numbered(1, 100);
    let before = programs.counter(counter)?;
    let options = TestRunOptions { data_in: Some(&frame), repeat: 1, ..TestRunOptions::default() };
    let verdict = programs.program(side)?.test_run(options)?.return_value;
    Ok((verdict, programs.counter(counter)? == before + 1))
}

#[test]
fn every_deadline_has_its_verdicts_and_counters() -> Result<()> {
    use Counter::*;
    use DeadmanPolicy::{Closed, Open};
    use Mode::{Pass, Protect, Secondary};
    use Side::{Guest, Uplink};
    let (_namespace, mut programs) = load(settings(Hold::Ring, 1514), 0)?;
    let (now, boot) = (Mono::now().as_nanos(), Boot::now().as_nanos());
    ensure!(now > 1_000_000 && boot >= now, "{now} {boot}");
    let stale = |policy: DeadmanPolicy, lease_end_ns| Deadman {
        stamp_ns: now - 1_000_000,
        limit_ns: 1,
        policy: policy as u64,
        lease_end_ns,
    };
    let fresh = Deadman { stamp_ns: now, limit_ns: MINUTE, policy: Closed as u64, lease_end_ns: 0 };
    let (over, lasts) = (boot - 1, boot + MINUTE);
    for (deadman, mode, side, verdict, counter) in [
        (fresh, Protect, Guest, DROP, GuestHeld),
        (fresh, Protect, Uplink, REDIRECT, UplinkForwarded),
        // A stamp from after the frame.
        (Deadman { stamp_ns: now + MINUTE, ..fresh }, Protect, Guest, DROP, GuestHeld),
        // No limit.
        (Deadman { limit_ns: 0, ..stale(Closed, 0) }, Protect, Guest, DROP, GuestHeld),
        (stale(Closed, 0), Protect, Guest, DROP, GuestDeadmanClosed),
        (stale(Closed, 0), Protect, Uplink, DROP, UplinkDeadmanClosed),
        (stale(Open, 0), Protect, Guest, REDIRECT, GuestDeadmanOpened),
        (stale(Open, 0), Protect, Uplink, REDIRECT, UplinkForwarded),
        // Who is the service needs no agent, and who is not lets nothing out.
        (stale(Closed, 0), Pass, Guest, REDIRECT, GuestPassed),
        (stale(Closed, 0), Pass, Uplink, REDIRECT, UplinkPassed),
        (stale(Open, 0), Secondary, Guest, DROP, GuestHeld),
        (stale(Open, 0), Secondary, Uplink, DROP, UplinkSecondary),
        (stale(Open, 0), Mode::Closed, Guest, DROP, GuestClosed),
        // A lease.
        (Deadman { lease_end_ns: lasts, ..fresh }, Protect, Guest, DROP, GuestHeld),
        (Deadman { lease_end_ns: lasts, ..fresh }, Pass, Guest, REDIRECT, GuestPassed),
        (Deadman { lease_end_ns: over, ..fresh }, Protect, Guest, DROP, GuestLeaseOver),
        (Deadman { lease_end_ns: over, ..fresh }, Protect, Uplink, DROP, UplinkLeaseOver),
        (Deadman { lease_end_ns: over, ..fresh }, Pass, Guest, DROP, GuestLeaseOver),
        (Deadman { lease_end_ns: over, ..fresh }, Pass, Uplink, DROP, UplinkLeaseOver),
        (Deadman { lease_end_ns: over, ..fresh }, Secondary, Guest, DROP, GuestHeld),
        // The lease comes first, whatever the policy.
        (stale(Open, over), Protect, Guest, DROP, GuestLeaseOver),
        (stale(Open, lasts), Protect, Guest, REDIRECT, GuestDeadmanOpened),
    ] {
        programs.set_mode(mode)?;
        programs.set_deadman(deadman)?;
        let judged = judge(&mut programs, side, counter)?;
        ensure!(judged == (verdict, true), "{deadman:?} {mode:?} {side:?} {counter:?}: {judged:?}");
    }
    Ok(())
}

/// A primary's agent without a peer, which lets everything out.
struct Agent {
    ends: Ends,
    process: Tethered,
    colo: std::path::PathBuf,
    directory: tempfile::TempDir,
}

impl Agent {
    fn start(more: &[&str]) -> Result<Self> {
        let ends = Ends::new(Joint::Tap, Joint::Veth)?;
        let binaries = Binaries::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (peer, control) = (format!("unix:{}", path("peer")), path("control"));
        let fixed = ["primary", "--guest", GUEST, "--uplink", UPLINK, "--peer", &peer, "--control", &control];
        let arguments: Vec<String> = fixed.iter().chain(more).map(|&word| word.to_owned()).collect();
        let log = directory.path().join("log");
        let process = Tethered::start(&binaries, &ends.host, &binaries.colo, &arguments, &log, false)?;
        let mut agent = Self { ends, process, colo: binaries.colo, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while agent.status().is_err() {
            ensure!(agent.process.ended().is_none() && Instant::now() < deadline, "{}", agent.process.log());
            sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    fn status(&self) -> Result<Value> {
        let control = self.directory.path().join("control");
        let asked = self
            .ends
            .host
            .command("timeout")
            .arg("5")
            .arg(&self.colo)
            .args(["status", "--json", "--control"])
            .arg(control)
            .output()?;
        serde_json::from_slice(&asked.stdout).context("no status")
    }

    fn counter(&self, name: &str) -> Result<u64> {
        self.status()?["counters"][name].as_u64().with_context(|| format!("no counter {name}"))
    }

    fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)?;
        sleep(FROZEN);
        Ok(())
    }

    fn says(&self, number: u32) -> Result<()> {
        self.ends.guest.say(&numbered(number, 200))
    }

    fn heard(&self, numbers: &[u32]) -> Result<()> {
        let heard = self.ends.client.hear_exactly(numbers.len())?;
        ensure!(heard == numbers.iter().map(|&n| numbered(n, 200)).collect::<Vec<_>>(), "not {numbers:?}");
        Ok(())
    }
}

#[test]
fn without_a_deadline_a_frozen_agents_guest_is_heard_when_it_goes_on() -> Result<()> {
    let agent = Agent::start(&[])?;
    agent.says(1)?;
    agent.heard(&[1])?;
    agent.freeze()?;
    agent.says(2)?;
    ensure!(agent.ends.client.hear(QUIET)?.is_none(), "nobody has released it");
    agent.process.signal(Signal::CONT)?;
    agent.heard(&[2])
}

#[test]
fn closed_drops_both_ways_while_the_agent_is_frozen() -> Result<()> {
    let limit = LIMIT.as_millis().to_string();
    let agent = Agent::start(&["--deadman", "closed", "--deadman-limit", &limit])?;
    agent.says(1)?;
    agent.heard(&[1])?;
    // An idle agent shows signs of life as well.
    sleep(FROZEN);
    agent.says(2)?;
    agent.heard(&[2])?;
    agent.freeze()?;
    agent.says(3)?;
    agent.ends.client.say(&numbered(4, 300))?;
    ensure!(agent.ends.client.hear(QUIET)?.is_none() && agent.ends.guest.hear(QUIET)?.is_none());
    agent.process.signal(Signal::CONT)?;
    ensure!(agent.ends.client.hear(QUIET)?.is_none(), "it was said too late");
    ensure!(agent.counter("guest_deadman_closed")? == 1 && agent.counter("uplink_deadman_closed")? == 1);
    agent.says(5)?;
    agent.heard(&[5])
}

#[test]
fn open_passes_while_the_agent_is_frozen_or_gone() -> Result<()> {
    let limit = LIMIT.as_millis().to_string();
    let agent = Agent::start(&["--deadman", "open", "--deadman-limit", &limit])?;
    agent.says(1)?;
    agent.heard(&[1])?;
    agent.freeze()?;
    agent.says(2)?;
    agent.heard(&[2])?;
    agent.ends.client.say(&numbered(3, 300))?;
    ensure!(agent.ends.guest.hear(SOON)?.as_deref() == Some(&numbered(3, 300)[..]));
    agent.process.signal(Signal::CONT)?;
    // It answers, so it has given its sign.
    agent.status()?;
    agent.says(4)?;
    agent.heard(&[4])?;
    ensure!(agent.counter("guest_deadman_opened")? == 1, "{:?}", agent.status());
    Ok(())
}

#[test]
fn open_is_refused_where_the_secondary_may_take_over() -> Result<()> {
    let colo = Binaries::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo;
    let etcd = "etcd:http://127.0.0.1:1";
    for (with, refused_for_it) in [
        (["--judge", etcd].as_slice(), true),
        (&["--judge", "exec:true"], true),
        (&["--allow-unfenced"], true),
        (&["--judge", "none"], false),
    ] {
        let refused = std::process::Command::new(&colo)
            .args(["primary", "--guest", "a", "--uplink", "b", "--peer", "unix:/nowhere", "--control"])
            .args(["/nowhere/c", "--qmp", "unix:/nowhere", "--deadman", "open"])
            .args(with)
            .output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        let for_it = refused.status.code() == Some(2) && said.contains("--deadman open with");
        ensure!(
            !refused.status.success() && for_it == refused_for_it,
            "{with:?}: {:?} {said}",
            refused.status
        );
    }
    Ok(())
}

#[test]
fn a_lease_ends_without_its_agent_and_outlives_it() -> Result<()> {
    let says = |ends: &Ends, number: u32| -> Result<()> {
        ends.guest.say(&numbered(number, 200))?;
        ends.client.say(&numbered(number, 300))
    };
    // Both ways, or neither.
    let passes = |ends: &Ends, number: u32| -> Result<bool> {
        says(ends, number)?;
        let heard = (ends.client.hear(SOON)?, ends.guest.hear(SOON)?);
        Ok(heard == (Some(numbered(number, 200)), Some(numbered(number, 300))))
    };
    let is_shut = |ends: &Ends, number: u32| -> Result<bool> {
        says(ends, number)?;
        Ok((ends.client.hear(QUIET)?, ends.guest.hear(QUIET)?) == (None, None))
    };
    for (attach, hold) in [(AttachMode::Native, HoldBackend::Afxdp), (AttachMode::Skb, HoldBackend::Ringbuf)]
    {
        let ends = Ends::new(Joint::Veth, Joint::Veth)?;
        let config = Config { leased: true, ..ends.config(Role::Primary, attach, hold) };
        let mut first = ends.attach(&config)?;
        let lease = first.lease();
        first.set_mode(Mode::Pass)?;
        ensure!(lease.is_over() && is_shut(&ends, 1)?, "a lease that was never had");
        // Longer than anything here takes on a busy machine.
        lease.set(Boot::now() + Duration::from_secs(60));
        ensure!(!lease.is_over() && passes(&ends, 2)?);
        first.pin()?;
        // As when the agent is killed.
        drop(first);
        ensure!(passes(&ends, 3)?, "the lease has not ended yet");
        let second = ends.attach(&config)?;
        ensure!(second.is_adopted() && !second.lease().is_over() && passes(&ends, 4)?);
        second.lease().set(Boot::now() + Duration::from_millis(500));
        drop(second);
        sleep(Duration::from_millis(500));
        ensure!(is_shut(&ends, 5)?, "it has ended, with nobody there");
        let mut second = ends.attach(&config)?;
        ensure!(second.is_adopted() && second.lease().is_over());
        second.lease().set(Boot::now() + Duration::from_secs(60));
        ensure!(passes(&ends, 6)?, "it was had again");
        ensure!(second.counters().get("guest_lease_over").unwrap() >= 2);
        second.lease().set(Boot::default());
        drop(second);
        ensure!(is_shut(&ends, 7)?, "no end of a lease means none");
        let third = ends.attach(&Config { leased: false, ..config })?;
        ensure!(!third.lease().is_over() && passes(&ends, 8)?, "without a lease");
        drop(third);
        ends.host.enter(|| detach_pinned(GUEST, UPLINK))?;
    }
    Ok(())
}

#[test]
fn what_was_released_stays_when_the_lease_has_ended_before_it_was_sent() -> Result<()> {
    for (attach, hold) in [(AttachMode::Native, HoldBackend::Afxdp), (AttachMode::Skb, HoldBackend::Ringbuf)]
    {
        let ends = Ends::new(Joint::Veth, Joint::Veth)?;
        let mut datapath =
            ends.attach(&Config { leased: true, ..ends.config(Role::Primary, attach, hold) })?;
        let lease = datapath.lease();
        lease.set(Boot::now() + Duration::from_secs(60));
        ends.guest.say(&numbered(1, 200))?;
        let captured = capture(&mut datapath, 1)?;
        datapath.release(captured[0].id);
        lease.set(Boot::now());
        datapath.flush()?;
        ensure!(ends.client.hear(QUIET)?.is_none(), "the lease has ended");
        lease.set(Boot::now() + Duration::from_secs(60));
        datapath.flush()?;
        ensure!(ends.client.hear_exactly(1)? == [numbered(1, 200)], "it was had again");
    }
    Ok(())
}

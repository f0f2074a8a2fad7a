//! `colo-lab run`: the main job on two real VMs. All traffic at once; a divergence and its checkpoint; the primary is
//! killed; every connection goes on.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::geteuid;

use super::{
    probe,
    protected::{Options, Protected},
    stage::cache,
    watch::{Heard, Side, Watch},
};
use crate::lab::{
    agents::Status,
    child::Programs,
    load::{self, Load, Work},
    picture::{Mark, Picture},
    report::{Live, Verdict, say},
    stop::{self, STOP},
    topology::SERVER_V4,
    traffic::{self, Control, Report},
};

/// What `colo-lab run` was asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long the pair serves before the divergence, and again before the primary dies, and after that.
    pub seconds: u64,
    /// The programs.
    pub programs: Programs,
    /// Arguments for both agents.
    pub agent_arguments: Vec<String>,
    /// What the traffic's content is made from.
    pub seed: u64,
    /// Where the picture goes.
    pub svg: PathBuf,
}

/// Time between periodic checkpoints.
const CHECKPOINTS: Duration = Duration::from_secs(4);
/// How long all connections may take to go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests after which a connection goes on.
const GOES_ON: u64 = 3;
/// Bytes of the answer that will differ, at the first try; each further one is a byte longer, and so another request.
const REPLY: u64 = 1 << 20;
/// A periodic checkpoint may take the difference away before it is said: so often it is tried.
const TRIES: u64 = 5;

/// Runs the lab. Whatever happens, nothing is left when this returns.
pub fn run(plan: &Plan) -> Result<ExitCode> {
    ensure!(geteuid().is_root(), "network namespaces and XDP need root; try sudo");
    let colo = &plan.programs.colo;
    ensure!(colo.exists(), "there is no {}; build it, or name another with --release-binary", colo.display());
    stop::on_signals()?;
    let accel = probe::accelerator(&plan.programs, &cache(&plan.programs.lab))?;
    say!("\nTwo VMs on two hosts, one guest; an agent on each host, nothing of QEMU's own proxy.");
    let begun = Instant::now();
    let mut options = Options { accel, delay: CHECKPOINTS, ..Options::default() };
    options.both.clone_from(&plan.agent_arguments);
    let mut pair = match Protected::start(&plan.programs, options, &STOP) {
        Err(_) if stop::wanted() => return Ok(stopped()),
        pair => pair?,
    };
    say!("Booted, in COLO and protected after {:.1} s.", begun.elapsed().as_secs_f64());
    let mut verdict = Verdict::default();
    let played = play(&mut pair, plan, &mut verdict);
    if stop::wanted() {
        return Ok(stopped());
    }
    if played.is_ok() && verdict.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}", pair.logs());
    played.map(|()| ExitCode::FAILURE)
}

fn stopped() -> ExitCode {
    say!("\nStopped.");
    ExitCode::from(stop::STOPPED)
}

/// What the acts leave for the summary.
#[derive(Debug, Default)]
struct Story {
    marks: Vec<Mark>,
    /// The primary's agent, last asked before the primary was killed.
    before: Option<Status>,
    /// From the request that differed to its answer.
    differed: Option<Duration>,
    /// From the kill until every connection had gone on.
    took_over: Option<Duration>,
}

fn play(pair: &mut Protected, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let client = Arc::clone(&pair.pair.topology.client);
    let watch = Watch::start(&client)?;
    let mut story = Story::default();
    let begun = Instant::now();
    let all = traffic::Plan::all(plan.seed);
    let (outcome, report) =
        traffic::run(&client, &all, &STOP, |control| acts(pair, control, plan, &mut story));
    let heard = watch.finish()?;
    if stop::wanted() {
        return Ok(());
    }
    say!("\n{}", report.table());
    let picture = draw(pair, plan, &report, &story, begun);
    fs::write(&plan.svg, picture).with_context(|| format!("{} cannot be written", plan.svg.display()))?;
    summary(&report, &story);
    say!("  {:<24} {}", "picture", plan.svg.display());
    judge(&outcome, &report, &heard, &story, verdict);
    say!("\n{}", verdict.text());
    Ok(())
}

fn acts(pair: &mut Protected, control: &Control<'_>, plan: &Plan, story: &mut Story) -> Result<()> {
    control.wait_steady(PATIENCE)?;
    say!(
        "\nAll traffic at once, each connection to be kept until the end; a checkpoint every {CHECKPOINTS:?}."
    );
    let live = Live::new();
    let time = Duration::from_secs(plan.seconds);
    watch_for(pair, Side::First, &live, time)?;

    let cost = differ(pair, control, story)?;
    say!("{cost}");
    watch_for(pair, Side::First, &live, time)?;

    story.before = Some(pair.status(Side::First)?);
    control.burst();
    let killed = Instant::now();
    story.marks.push(Mark { at: control.now(), text: "primary killed".into() });
    say!("\nSIGKILL to the primary's QEMU, among {} new connections.", traffic::BURST);
    let before = control.progress();
    pair.vm(Side::First).process().kill();
    control.wait_for(GOES_ON, &before, PATIENCE)?;
    story.took_over = Some(killed.elapsed());
    say!("Every connection goes on; the last of them had {GOES_ON} answers after {:.0?}.", killed.elapsed());
    watch_survivor(pair, &live, time)?;
    live.done();
    Ok(())
}

/// Lets the traffic run, with a live line each second.
fn watch_for(pair: &Protected, side: Side, live: &Live, time: Duration) -> Result<()> {
    each_second(time, || {
        live.show(&pair.status(side)?);
        Ok(())
    })
}

/// As [`watch_for`], where nothing is compared any more.
fn watch_survivor(pair: &Protected, live: &Live, time: Duration) -> Result<()> {
    each_second(time, || {
        let status = pair.status(Side::Second)?;
        let standing = status.json()["failover"]["standing"].as_str().unwrap_or("?").to_owned();
        let (out, input) = (status.count("guest_passed")?, status.count("uplink_passed")?);
        live.tell(&format!("{standing}  passed by the kernel alone: {out} frames out, {input} in"));
        Ok(())
    })
}

fn each_second(time: Duration, mut show: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let next = Instant::now() + Duration::from_secs(1);
        show()?;
        while Instant::now() < next.min(end) {
            ensure!(!stop::wanted(), "the lab was stopped");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Makes the guests say different bytes, once, and tells what it cost.
fn differ(pair: &mut Protected, control: &Control<'_>, story: &mut Story) -> Result<String> {
    say!(
        "\nThe secondary's guest is told to answer one download of {REPLY} bytes with another byte in the middle."
    );
    let known = pair.status(Side::First)?.json()["checkpoints"]["by"]["payload"].as_u64().unwrap_or(0);
    for length in REPLY..REPLY + TRIES {
        pair.vm(Side::Second).differ(&load::path(0, length), length / 2)?;
        let (at, begun) = (control.now(), Instant::now());
        download(pair, length)?;
        let took = begun.elapsed();
        let status = pair.status(Side::First)?;
        if status.json()["checkpoints"]["by"]["payload"].as_u64().unwrap_or(0) == known {
            continue;
        }
        story.differed = Some(took);
        story.marks.push(Mark { at, text: "guests differ".into() });
        let pause = pair.journal.pauses("primary").into_iter().find(|pause| pause.heard >= begun);
        let pause = pause.map_or_else(|| "?".to_owned(), |pause| format!("{:.1?}", pause.length));
        let why = status.divergences().last().map(ToString::to_string).unwrap_or_default();
        return Ok(format!(
            "It got the right bytes after {took:.0?}, and the guest stood still for {pause}. `colo status`: {why}"
        ));
    }
    bail!("{TRIES} answers that should differ asked for no checkpoint")
}

fn download(pair: &Protected, length: u64) -> Result<()> {
    let load = Load::once("the answer that differs", SERVER_V4, Work::Download { length, close: true });
    let client = &pair.pair.topology.client;
    let outcome = load::run(client, &[load], Instant::now() + PATIENCE, &STOP).remove(0);
    ensure!(outcome.failed == 0, "{}", outcome.failures.join("; "));
    Ok(())
}

fn draw(pair: &Protected, plan: &Plan, report: &Report, story: &Story, begun: Instant) -> String {
    let checkpoints = pair.journal.pauses("primary");
    let picture = Picture {
        title: format!("colo: two VMs, all traffic at once, seed {}", plan.seed),
        took: report.took,
        samples: &report.samples,
        checkpoints: checkpoints.iter().map(|pause| pause.heard.saturating_duration_since(begun)).collect(),
        marks: story.marks.clone(),
    };
    picture.svg()
}

/// The numbers of the run.
fn summary(report: &Report, story: &Story) {
    let line = |name: &str, text: String| say!("  {name:<24} {text}");
    let short = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let failures: u64 = report.connections.iter().map(|connection| connection.failures).sum();
    say!("Summary");
    line(
        "requests",
        format!("{} answered right, {failures} failed, in {:.1} s", report.done(), report.took.as_secs_f64()),
    );
    if let Some(status) = &story.before {
        let by: Vec<String> = status.json()["checkpoints"]["by"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(cause, n)| format!("{cause} {n}"))
            .collect();
        let asked = if by.is_empty() { "none".to_owned() } else { by.join(", ") };
        let times = |name: &str| {
            let [count, p50, p99, longest] = ["count", "p50_us", "p99_us", "max_us"]
                .map(|number| status.json()[name][number].as_u64().unwrap_or(0));
            let [p50, p99, longest] = [p50, p99, longest].map(|time| short(Duration::from_micros(time)));
            (count, format!("p50 {p50}, p99 {p99}, longest {longest}"))
        };
        let ((frames, held), (checkpoints, pauses)) = (times("held_time"), times("pauses"));
        line("checkpoints", format!("{checkpoints} came; asked for: {asked}; the others are periodic"));
        line("output held", format!("{held}, of {frames} frames"));
        line("pause of a checkpoint", pauses);
    }
    if let Some(took) = story.differed {
        line("the differing answer", format!("came right after {}", short(took)));
    }
    if let Some(took) = story.took_over {
        line("takeover", format!("every connection had {GOES_ON} answers {} after the kill", short(took)));
    }
    if let Some(slowest) = report.slowest() {
        let (gap, name) = (slowest.longest, &slowest.name);
        let text = format!("{}, from {:.1} s on ({name})", short(gap.length), gap.at.as_secs_f64());
        line("longest client gap", text);
    }
    line("bytes lost", report.lost().to_string());
}

fn judge(outcome: &Result<()>, report: &Report, heard: &Heard, story: &Story, verdict: &mut Verdict) {
    if let Err(error) = outcome {
        verdict.expect(false, format!("{error:#}"));
    }
    let broken = report.broken();
    verdict.expect(broken.is_empty(), format!("no connection broke {}", broken.join("; ")).trim_end());
    verdict.expect(report.lost() == 0, format!("{} bytes lost", report.lost()));
    verdict.expect(
        story.differed.is_some(),
        "a divergence cost a checkpoint, and its client got the right bytes",
    );
    verdict.expect(story.took_over.is_some(), "every connection went on when the primary was killed");
    let sides = heard.sides();
    verdict.expect(
        sides == [Side::First, Side::Second],
        format!("never two sides on the wire, seen from the client's switch: {sides:?}"),
    );
    let (frames, back) = (heard.frames, heard.taken_back);
    verdict.expect(
        back == 0,
        format!("nothing said was said otherwise later ({back} of {frames} frames {:?})", heard.examples),
    );
}

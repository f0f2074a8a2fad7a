//! `colo-lab run --replicas namespaces`: traffic while the replicas agree, then a divergence, then the verdict.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    agents::{Agents, Options, Role, Status},
    child::Programs,
    load::{self, Load, Outcome},
    report::{self, Live, Verdict, say},
    stage::Stage,
    stop::{self, STOP},
    topology::Wires,
    witness::{self, Witnessed},
};

/// What `colo-lab run` was asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long each of the two phases sends.
    pub seconds: u64,
    /// The programs.
    pub programs: Programs,
    /// Arguments for both agents.
    pub agent_arguments: Vec<String>,
}

/// Bytes of the reply that will differ.
const REPLY: u64 = 8 << 20;
/// Where in it the secondary's replica says another byte.
const DIFFERS_AT: u64 = 5_000_000;
/// Its seed; no load uses one this large.
const REPLY_SEED: u64 = 0xd1ff_e500_0000_0000;
/// How long the client of that reply waits for a byte that never comes.
const CLIENT_PATIENCE: Duration = Duration::from_secs(4);

/// Runs the lab. Whatever happens, nothing is left when this returns.
pub fn run(plan: &Plan) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces and XDP need root; try sudo");
    let colo = &plan.programs.colo;
    ensure!(colo.exists(), "there is no {}; build it, or name another with --release-binary", colo.display());
    stop::on_signals()?;

    say!("Lab: three hosts and two guests in network namespaces, one server in both guests.");
    let mut stage = Stage::new(&plan.programs, Wires::Veth)?;
    let asked = stage.path("checkpoints");
    fs::create_dir(&asked)?;
    let mut agents = Agents::start(&stage, options(plan, &asked))?;
    let mut verdict = Verdict::default();
    let acts = acts(&mut stage, &mut agents, plan, &asked, &mut verdict);
    if stop::wanted() {
        say!("\nStopped.");
        return Ok(ExitCode::from(stop::STOPPED));
    }
    say!("\nSummary\n{}", verdict.text());
    if acts.is_ok() && verdict.is_good() {
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}", agents.logs());
    acts.map(|()| ExitCode::FAILURE)
}

fn acts(
    stage: &mut Stage,
    agents: &mut Agents,
    plan: &Plan,
    asked: &Path,
    verdict: &mut Verdict,
) -> Result<()> {
    let status = agents.wait_protected(&STOP)?;
    let said = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    say!(
        "Both agents run: {}. XDP {} on guest and {} on uplink, hold by {}.",
        status.state(),
        said(&status.json()["attach"]["guest"]),
        said(&status.json()["attach"]["uplink"]),
        said(&status.json()["hold"]),
    );
    agree(stage, agents, plan, verdict)?;
    if verdict.is_good() {
        differ(stage, agents, plan, asked, verdict)?;
    }
    for role in [Role::Primary, Role::Secondary] {
        let ended = agents.process(role).stop();
        verdict.expect(ended, format!("the {} agent ends when asked", role.name()));
    }
    Ok(())
}

/// The lab's options for the agents: each checkpoint asked for becomes a file with what the command was told.
fn options(plan: &Plan, asked: &Path) -> Options {
    let exec = format!("exec:env > {}/$$", asked.display());
    let mut options = Options::patient(&[]);
    options.both.clone_from(&plan.agent_arguments);
    options.primary.extend(["--checkpoint", "log", "--checkpoint", &exec].map(str::to_owned));
    options
}

/// Phase 1: all loads at once; every byte right, and no checkpoint asked for.
fn agree(stage: &Stage, agents: &Agents, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    say!("\nTraffic for {} s; the replicas agree.", plan.seconds);
    let (outcomes, took) = drive(stage, agents, plan, &load::mix(), || Ok(()))?;
    say!("{}", report::table(&outcomes, took));
    let status = agents.status(Role::Primary)?;
    served(&outcomes, "while the replicas agree", verdict);
    let (checkpoints, divergences) = (status.checkpoints(), status.divergences().len());
    verdict.expect(
        checkpoints == 0,
        format!("no checkpoint asked for while the replicas agree ({checkpoints} asked)"),
    );
    verdict.expect(divergences == 0, format!("no divergence while the replicas agree ({divergences} found)"));
    verdict.expect(status.is_protected(), format!("protected after the traffic: {}", status.state()));
    Ok(())
}

/// Phase 2: one byte of one reply differs while the other loads go on.
fn differ(
    stage: &mut Stage,
    agents: &Agents,
    plan: &Plan,
    asked: &Path,
    verdict: &mut Verdict,
) -> Result<()> {
    say!(
        "\nNow the secondary's replica answers one download of {REPLY} bytes with another byte at offset {DIFFERS_AT}.\n\
         These replicas cannot be checkpointed, so that flow stays held and its client gives up after \
         {CLIENT_PATIENCE:?}: expected.\nThe other flows go on."
    );
    stage.secondary.differ(&load::path(REPLY_SEED, REPLY), DIFFERS_AT)?;
    let stage = &*stage;
    let mut proof = None;
    let (outcomes, took) = drive(stage, agents, plan, &load::mix(), || {
        proof = Some(witness::download(stage, REPLY_SEED, REPLY, CLIENT_PATIENCE, &STOP)?);
        Ok(())
    })?;
    say!("{}", report::table(&outcomes, took));
    served(&outcomes, "beside the divergence", verdict);
    let proof = proof.context("the differing download ran")?;
    let status = agents.status(Role::Primary)?;
    explain(&status, asked, &proof, verdict)
}

fn explain(status: &Status, asked: &Path, proof: &Witnessed, verdict: &mut Verdict) -> Result<()> {
    let Witnessed { port, error, received, left } = proof;
    let bound = received.head + DIFFERS_AT;
    say!("Client of the differing flow (port {port}): {}", error.as_deref().unwrap_or("got it all"));
    say!(
        "Capture on the client's side: {} segments left, up to byte {}; the first differing byte is {bound}.",
        left.segments,
        left.end
    );
    verdict.expect(
        received.body < REPLY && left.end <= bound,
        format!("no byte from the first differing one on left ({} of at most {bound})", left.end),
    );
    // Held is held: what was before the difference must have left, or the proof would hold for a dead wire too.
    let short = bound.saturating_sub(left.end);
    verdict.expect(short < 65_536, format!("what comes before it did leave ({short} bytes short of it)"));

    let signals: Vec<PathBuf> = fs::read_dir(asked)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    verdict.expect(!signals.is_empty(), format!("the checkpoint command ran ({} times)", signals.len()));
    verdict.expect(status.checkpoints() > 0, format!("{} checkpoints asked for", status.checkpoints()));
    if let Some(signal) = signals.first() {
        say!("The checkpoint command was told:");
        for line in fs::read_to_string(signal)?.lines().filter(|line| line.starts_with("COLO_")) {
            say!("  {line}");
        }
    }
    say!("`colo status` explains:");
    for divergence in status.divergences() {
        say!("  {divergence}");
    }
    let port = port.to_string();
    let ours =
        status.divergences().iter().filter(|divergence| divergence.to_string().contains(&port)).count();
    verdict.expect(ours > 0, "the divergence names the differing flow");
    verdict.expect(ours == status.divergences().len(), "and no other flow diverged");
    Ok(())
}

/// Runs the loads and `beside` for the plan's time, with a live line each second.
fn drive(
    stage: &Stage,
    agents: &Agents,
    plan: &Plan,
    loads: &[Load],
    beside: impl FnOnce() -> Result<()> + Send,
) -> Result<(Vec<Outcome>, Duration)> {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(plan.seconds);
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&stage.topology.client, loads, end, &STOP));
        let beside = scope.spawn(beside);
        let live = Live::new();
        let mut next = begun + Duration::from_secs(1);
        while !(load.is_finished() && beside.is_finished()) {
            thread::sleep(Duration::from_millis(20));
            if Instant::now() >= next {
                next += Duration::from_secs(1);
                match agents.status(Role::Primary) {
                    Ok(status) => live.show(&status),
                    Err(error) => say!("  {error:#}"),
                }
            }
        }
        live.done();
        beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let outcomes = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((outcomes, begun.elapsed()))
    })
}

fn served(outcomes: &[Outcome], when: &str, verdict: &mut Verdict) {
    let done: u64 = outcomes.iter().map(|outcome| outcome.done).sum();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    let idle = outcomes.iter().filter(|outcome| outcome.done == 0).count();
    verdict.expect(
        failed == 0 && idle == 0,
        format!("every byte right {when}: {done} requests, {failed} failed, {idle} loads without an answer"),
    );
}

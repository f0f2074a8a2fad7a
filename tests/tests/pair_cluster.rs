//! A real pair under Pacemaker: the cluster starts the agents, promotes one, moves the service, and goes on when a node is lost.
//! Its connections live through all of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use colo_tests::{
    lab::{
        child::Programs,
        topology::{SERVER_V4, SERVER_V6},
    },
    pair::{
        cluster::Cluster,
        line::Line,
        stage::{Followed, PATIENCE, Pair, cache},
        watch::Side,
    },
};
use serde_json::Value;
use tokio::runtime::Builder;

/// As `colo protect` is told here.
const DELAY: Duration = Duration::from_secs(3600);

/// The pair under the cluster. What is dropped first goes first.
struct Rig {
    lines: Vec<Line>,
    cluster: Cluster,
    pair: Pair,
}

impl Rig {
    /// A pair that is protected, its service on the first node.
    fn protected() -> Result<Self> {
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let pair = Pair::boot(&programs, &cache(&programs.lab))?;
        let cluster = Cluster::start(&pair)?;
        cluster.wait_promoted(Side::First, "node1")?;
        let lines = vec![Line::open(&pair.topology, SERVER_V4), Line::open(&pair.topology, SERVER_V6)];
        let mut rig = Self { lines, cluster, pair };
        rig.ask();
        rig.until(Side::First, "the agents to meet", |status| status["reason"] == "not in COLO")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut sides = Vec::new();
            for vm in [&rig.pair.primary, &rig.pair.secondary] {
                sides.push(Followed::open(vm.name(), vm).await?.0);
            }
            let [first, second] = &mut sides[..] else { unreachable!("two") };
            rig.pair.protect(first, second, DELAY).await
        })?;
        rig.until(Side::First, "protection", |status| status["state"] == "protected")?;
        rig.ask();
        Ok(rig)
    }

    fn ask(&mut self) {
        self.lines.iter_mut().for_each(Line::ask);
    }

    fn until(&self, side: Side, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.cluster.status(side, &self.pair.programs.colo);
            if status.as_ref().is_ok_and(&wanted) {
                return Ok(());
            }
            if Instant::now() >= end {
                return status
                    .and_then(|status| anyhow::bail!("not within {PATIENCE:?}: {status}"))
                    .with_context(|| format!("{what}, on the {side:?} side\n{}", self.cluster.logs()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a side is the service, by the judge's yes: alone, or ready for a new secondary, which may be there already.
    fn serves(&self, side: Side) -> Result<()> {
        self.until(side, "the service", |status| {
            let failover = &status["failover"];
            let stands = ["alone", "passing"].iter().any(|standing| failover["standing"] == *standing);
            stands && failover["reason"] == "judge said yes"
        })
    }
}

#[test]
fn the_cluster_moves_the_service_with_its_connections() {
    let mut rig = Rig::protected().unwrap();
    rig.cluster.move_to("node2").unwrap();
    rig.cluster.wait_promoted(Side::Second, "node2").unwrap();
    rig.serves(Side::Second).unwrap();
    rig.ask();
    // What was the service is a candidate for a new secondary, not a failure.
    rig.cluster
        .wait(Side::Second, "node1 unpromoted", |text| text.contains("Unpromoted: [ node1 ]"))
        .unwrap();
    rig.ask();
}

#[test]
fn the_cluster_promotes_the_other_node_when_one_is_lost() {
    let mut rig = Rig::protected().unwrap();
    rig.pair.primary.process().kill();
    rig.cluster.lose(Side::First);
    rig.cluster.wait_promoted(Side::Second, "node2").unwrap();
    rig.serves(Side::Second).unwrap();
    rig.ask();
    rig.until(Side::Second, "a primary's agent", |status| status["role"] == "primary").unwrap();
    rig.ask();
}

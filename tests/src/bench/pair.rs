//! The real pair beside its peer: what two VMs serve in COLO, by our agents and by QEMU's own proxy, and what they could at
//! most.
//!
//! One run alternates between the [`side::Side`]s: each is booted anew in each round, so nothing of another runs beside the one
//! that is measured, and the rounds of all sides are spread over the same time. All have the same network cards, without
//! offloads, and the same guest, kernel and client, and each host has its own half of the processors; where there are checkpoints
//! their period is QEMU's default.
//!
//! **The ceiling** is what this machine can do at most with two such guests busy: two VMs that know nothing of each
//! other, each behind a plain kernel bridge, each with a client that asks for the same at the same time. What it has of
//! the COLO pairs is the work of both guests, what it lacks is all that a proxy does. A mirror of the kernel's would
//! be no fairer: the second VM picks other sequence numbers, would refuse every copied segment and stand idle; and
//! one that translates but holds nothing lets the second VM fall behind in bulk, until it has lost the stream and stands idle
//! too. The second client checks nothing of what it gets, so that little of its work counts against the ceiling. In the ceiling a
//! client waits for one VM's answer; [`both`] is what is left of it where the client waits for both.
//!
//! [`stock`] has the peer's command lines, [`case`] the traffic, [`checkpoints`] tells those that were asked for from those
//! that time brings, [`table`] shows it all.

mod both;
pub mod case;
pub mod checkpoints;
mod shadow;
pub mod side;
pub mod stock;
pub mod table;

use anyhow::{Context as _, Result};

use crate::lab::child::Programs;
use case::{Amount, Case};
use side::{Running, Side};
use table::Table;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The programs.
    pub programs: Programs,
    /// The sides.
    pub sides: Vec<Side>,
    /// The traffic.
    pub cases: Vec<Case>,
    /// How often, and how much each time.
    pub rounds: u64,
    /// How much each time.
    pub amount: Amount,
}

/// Measures, and says on stderr how far it is.
pub fn run(plan: &Plan, table: &mut Table) -> Result<()> {
    for round in 1..=plan.rounds {
        for &side in &plan.sides {
            eprintln!("==> round {round} of {}: {}", plan.rounds, side.name());
            let running = Running::start(side, &plan.programs).with_context(|| side.name())?;
            for &case in plan.cases.iter().filter(|&&case| side.takes(case)) {
                let values = case::measure(&running, case, plan.amount)
                    .with_context(|| format!("{}; {}", side.name(), running.logs()))?;
                eprintln!("    {:<24} {:>9.1} {}", case.name(), values[0].value, values[0].quantity);
                table.add(side, case, &values);
            }
            if let Some(reasons) = running.reasons() {
                eprintln!("    checkpoints were asked for: {reasons}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

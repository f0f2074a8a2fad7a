//! The comparator alone, without sockets: packets compared per second on one core.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use colo_user::{
    compare::{Action, Comparator, Limits, Policy, Token},
    mono::Mono,
};

use super::{
    Better, Effort, Report, Row,
    generator::{Case, Generator},
};

/// Packets of one side before the other has its turn.
const BATCH: usize = 64;

/// Adds the rows of the cases.
pub fn run(report: &mut Report, cases: &[Case], effort: Effort) -> Result<()> {
    for &case in cases {
        let rounds = (0..effort.rounds).map(|_| round(case, Duration::from_millis(effort.millis)));
        report.rows.push(Row {
            group: "comparator alone",
            case: case.name(),
            quantity: "packets/s",
            better: Better::Higher,
            ours: rounds.collect::<Result<_>>()?,
            peer: Vec::new(),
        });
    }
    Ok(())
}

fn round(case: Case, duration: Duration) -> Result<f64> {
    let mut comparator = Comparator::new(Policy::default(), Limits::default(), Mono::now());
    let (mut primary, mut secondary) = (Generator::new(case), Generator::new(case));
    let mut actions: Vec<Action> = Vec::new();
    let (mut said, mut released) = (0_u64, 0_u64);
    // Flows are begun before the clock starts.
    let warm = u64::from(case.flows);
    let mut begin = Instant::now();
    loop {
        let now = Mono::now();
        for _ in 0..BATCH {
            comparator.primary(now, Token(said), primary.next_frame(), &mut actions);
            said += 1;
        }
        for _ in 0..BATCH {
            comparator.secondary(now, secondary.next_frame(), &mut actions);
        }
        let left = actions.iter().filter(|action| matches!(action, Action::Release(_))).count();
        ensure!(left == actions.len(), "a checkpoint was asked for: {actions:?}");
        released += left as u64;
        actions.clear();
        if released < warm {
            begin = Instant::now();
        } else if begin.elapsed() >= duration {
            break;
        }
    }
    ensure!(released == said, "{said} packets said, {released} released");
    Ok((released - warm.next_multiple_of(BATCH as u64)) as f64 / begin.elapsed().as_secs_f64())
}

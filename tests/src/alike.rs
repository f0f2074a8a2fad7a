//! Two guests that say the same, and two that do not: drawn from a seed, and given to the comparator.
//!
//! [`draw`] makes a sequence of any frames, contradictions and mutated captures among them. [`perturb`] changes what a router
//! or another stack may change, and when it comes. [`model`] is slow and obviously right: what of a sequence has been said.
//! Two properties follow, each of a seed:
//!
//! - [`agree`]: both guests say the sequence, in this order. All of it leaves, and no checkpoint is asked for.
//! - [`differ`]: one frame of the secondary's is dropped or changed, or its frames are mixed. What leaves, the secondary has said.
//!
//! [`soak`] runs many seeds. A seed is a case for ever; a failure names it.

pub mod draw;
pub mod model;
pub mod perturb;
pub mod soak;

use crate::random::Random;
use colo_user::compare::{Action, Comparator, Limits, Policy, Token};
use colo_user::mono::Mono;
use draw::Drawn;
use model::Said;
use perturb::Perturbed;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// When the first frame is said.
const BEGIN: Mono = Mono::from_millis(1000);

/// Long after the last frame: all that waits for time has come.
const END: Duration = Duration::from_secs(30);

/// A frame at its time.
#[derive(Clone, Debug)]
struct Timed {
    at: Duration,
    frame: Vec<u8>,
}

/// A property that does not hold.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// What both guests said, and what came of it, a line each.
    pub log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\n  {}", self.seed, self.what, self.log.join("\n  "))
    }
}

/// What came of two sequences.
struct Run {
    /// Frames of the primary that left, in order.
    left: Vec<usize>,
    /// Checkpoints asked for.
    asked: Vec<String>,
    log: Vec<String>,
}

fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Gives both sequences to a comparator, each frame at its time, and ends. `logged`: with a log.
fn play(primary: &[Timed], secondary: &[Timed], logged: bool) -> Run {
    let mut run = Run { left: Vec::new(), asked: Vec::new(), log: Vec::new() };
    let mut comparator = Comparator::new(Policy::default(), Limits::default(), BEGIN);
    let mut actions = Vec::new();
    let mut events: Vec<(Duration, bool, usize)> = Vec::new();
    events.extend(primary.iter().enumerate().map(|(n, timed)| (timed.at, false, n)));
    events.extend(secondary.iter().enumerate().map(|(n, timed)| (timed.at, true, n)));
    events.sort_by_key(|&(at, of_secondary, n)| (at, of_secondary, n));
    let act = |actions: &mut Vec<Action>, run: &mut Run| {
        for action in actions.drain(..) {
            if logged {
                run.log.push(format!("    {action:?}"));
            }
            match action {
                Action::Release(Token(token)) => run.left.push(token as usize),
                Action::Checkpoint(cause) => run.asked.push(cause.to_string()),
                Action::Drop(_) | Action::Emit(_) | Action::Window(..) => {}
            }
        }
    };
    for (at, of_secondary, n) in events {
        let now = BEGIN + at;
        while let Some(deadline) = comparator.next_deadline().filter(|deadline| *deadline <= now) {
            comparator.tick(deadline, &mut actions);
            act(&mut actions, &mut run);
        }
        let (side, frame) = if of_secondary { ("S", &secondary[n].frame) } else { ("P", &primary[n].frame) };
        if logged {
            run.log.push(format!("{:>9.3} ms {side}{n} {}", at.as_secs_f64() * 1e3, hex(frame)));
        }
        if of_secondary {
            comparator.secondary(now, frame, &mut actions);
        } else {
            comparator.primary(now, Token(n as u64), frame, &mut actions);
        }
        act(&mut actions, &mut run);
    }
    let end = BEGIN + END;
    while let Some(deadline) = comparator.next_deadline().filter(|deadline| *deadline <= end) {
        comparator.tick(deadline, &mut actions);
        act(&mut actions, &mut run);
    }
    comparator.finish(end, &mut actions);
    act(&mut actions, &mut run);
    run
}

/// Both guests say the same sequence, in the same order, each flow at its own pace: everything leaves, nothing is asked.
///
/// # Errors
/// The property does not hold for this seed.
pub fn agree(seed: u64) -> Result<(), Failure> {
    let mut random = Random::new(seed);
    let drawn = draw::sequence(&mut random);
    let Perturbed { primary, secondary } = perturb::alike(&drawn, &mut random);
    let run = play(&primary, &secondary, false);
    let mut missing: Vec<usize> = (0..primary.len()).collect();
    missing.retain(|n| !run.left.contains(n));
    let what = if !run.asked.is_empty() {
        format!("a checkpoint is asked for: {}", run.asked.join("; "))
    } else if !missing.is_empty() {
        format!("frames {missing:?} of the primary stay")
    } else {
        return Ok(());
    };
    Err(Failure { seed, what, log: play(&primary, &secondary, true).log })
}

/// The secondary says something else, or leaves something out: what leaves, it has said.
///
/// # Errors
/// The property does not hold for this seed.
pub fn differ(seed: u64) -> Result<(), Failure> {
    let mut random = Random::new(seed);
    let drawn = draw::sequence(&mut random);
    let Perturbed { primary, secondary } = perturb::alike(&drawn, &mut random);
    let secondary = perturb::otherwise(secondary, &mut random);
    let run = play(&primary, &secondary, false);
    let said = Said::by(secondary.iter().map(|timed| timed.frame.as_slice()));
    match said.lacking(run.left.iter().map(|&n| primary[n].frame.as_slice())) {
        None => Ok(()),
        Some((at, lacking)) => {
            let what = format!("frame {} left, and the secondary never said {lacking}", run.left[at]);
            Err(Failure { seed, what, log: play(&primary, &secondary, true).log })
        }
    }
}

/// A property of a seed.
pub type Property = fn(u64) -> Result<(), Failure>;

/// Tries a property. A comparator that panics does not hold it.
///
/// # Errors
/// The property does not hold for this seed.
pub fn holds(property: Property, seed: u64) -> Result<(), Failure> {
    std::panic::catch_unwind(|| property(seed)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Failure { seed, what: format!("panic: {said}"), log: Vec::new() })
    })
}

/// How a sequence is made up, for a table: frames by class.
#[must_use]
pub fn classes(drawn: &Drawn) -> Vec<colo_user::compare::Class> {
    drawn.frames.iter().map(|(_, frame)| colo_user::compare::classify::classify(frame).class).collect()
}

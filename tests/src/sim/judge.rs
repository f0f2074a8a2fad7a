//! The judge `lock:`: the first claim of a term is the only one. The network to it may lose a question, or only its answer.

use colo_user::judge::{Answer, Claimant};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Judge {
    claims: BTreeMap<u64, Claimant>,
    /// Who got a yes, in order: side and term.
    pub said_yes: Vec<(usize, u64)>,
    pub said_no: u64,
    /// Broken on purpose: no claim is in anybody's way.
    forgets: bool,
}

impl Judge {
    pub fn new(forgets: bool) -> Self {
        Self { forgets, ..Self::default() }
    }

    /// A claim reaches the judge.
    pub fn claim(&mut self, side: usize, term: u64, claimant: Claimant) -> Answer {
        let holder = if self.forgets { claimant } else { *self.claims.entry(term).or_insert(claimant) };
        if holder == claimant {
            self.said_yes.push((side, term));
            Answer::Yes
        } else {
            self.said_no += 1;
            Answer::No("the other side has it".into())
        }
    }
}

//! An operator's order on its way from the control socket to a failover machine, and what is answered.

use crate::failover::verbs::{Check, Commanded, Context, Ended, Refusal, Verb};
use crate::failover::{Standing, Why};
use crate::judge::Prospect;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::oneshot;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That it is done.
    Order(Verb),
    /// What would happen: nothing is changed.
    Rehearsal,
}

/// See the module.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub wanted: Wanted,
    /// Whether the judge could be asked.
    pub judge: Prospect,
    /// Who waits for the end.
    pub reply: oneshot::Sender<Outcome>,
}

/// What is answered. Field names are an interface.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Outcome {
    /// `done`, `refused` (nothing was changed), `failed` (it came to something else) or `unfinished`.
    pub outcome: &'static str,
    /// What holds now, or why not.
    pub text: String,
    /// A word of [`Refusal::WORDS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// What else to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<&'static str>,
    /// What was risked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<&'static str>,
    /// How this side stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<&'static str>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What a takeover depends on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Outcome {
    /// An order that is not carried out.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        Self {
            refusal: Some(refusal.word()),
            way_out: Some(refusal.way_out()),
            ..Self::new("refused", refusal.to_string())
        }
    }

    /// An order whose end was not waited for any longer.
    #[must_use]
    pub fn unfinished(limit: Duration) -> Self {
        Self::new("unfinished", format!("not within {limit:?}; the agent goes on with it: see `colo status`"))
    }

    fn new(outcome: &'static str, text: String) -> Self {
        Self {
            outcome,
            text,
            refusal: None,
            way_out: None,
            risk: None,
            standing: None,
            reason: None,
            checks: Vec::new(),
        }
    }

    fn standing(mut self, (standing, why): (Standing, Why)) -> Self {
        (self.standing, self.reason) = (Some(standing.word()), Some(why.text()));
        self
    }
}

impl Asked {
    /// Whether nobody waits any more.
    pub(super) fn is_left(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        self.answer(Outcome::refused(&refusal));
    }

    pub(super) fn ended(self, stands: (Standing, Why), ended: Ended) {
        let risk = match self.wanted {
            Wanted::Order(verb) => verb.risk().filter(|_| stands.1 == Why::Forced),
            Wanted::Rehearsal => None,
        };
        let (outcome, text) = match ended {
            Ended::Done(text) => ("done", text),
            Ended::Failed(text) => ("failed", text),
        };
        self.answer(Outcome { risk, ..Outcome::new(outcome, text.to_owned()).standing(stands) });
    }

    pub(super) fn rehearsed(self, machine: &impl Commanded, context: &Context) {
        let rehearsal = machine.rehearse(context);
        let outcome = if rehearsal.possible() { "done" } else { "failed" };
        let answer = Outcome {
            checks: rehearsal.checks,
            ..Outcome::new(outcome, rehearsal.would.to_owned()).standing(machine.stands())
        };
        self.answer(answer);
    }

    fn answer(self, outcome: Outcome) {
        // Whoever asked may have left.
        let _ = self.reply.send(outcome);
    }
}

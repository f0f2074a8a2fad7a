//! What a run came to, and what is wrong about it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    lab::traffic::{Control, Kind, Report, Sample},
    pair::{
        protected::Protected,
        watch::{Heard, Side},
    },
};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was wrong: nothing, if all is well.
    pub wrong: Vec<String>,
    /// The longest time a TCP connection stood still.
    pub longest: Duration,
    /// Which.
    pub slowest: String,
    /// The longest of each kind.
    pub gaps: BTreeMap<Kind, Duration>,
    /// From the first event until the other side spoke, if it did.
    pub spoke: Option<Duration>,
    /// From the first event until a client had an answer of who goes on.
    pub answered: Option<Duration>,
    /// From the first event until all connections had gone on.
    pub went_on: Option<Duration>,
    /// Connections that were reset, or ended otherwise before they should.
    pub broken: u64,
    /// Bytes that were due and did not come right.
    pub lost: u64,
    /// Segments that said otherwise what was said before.
    pub taken_back: u64,
    /// For a failure: connections, logs, what QEMU has said.
    pub seen: String,
}

/// When the first event was, by both clocks that count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    at: Duration,
    instant: Instant,
}

impl Event {
    /// It is now.
    pub(super) fn now(control: &Control<'_>) -> Self {
        Self { at: control.now(), instant: Instant::now() }
    }

    pub(super) fn elapsed(self) -> Duration {
        self.instant.elapsed()
    }

    /// Until another side's first frame on the client's switch.
    fn spoke(self, heard: &Heard) -> Option<Duration> {
        let change = heard.changes.iter().find(|change| change.first > self.instant);
        change.map(|change| change.first.saturating_duration_since(self.instant))
    }

    /// Until the first answer of who goes on: after a change of side the first of the new side, else the first to a
    /// question that was asked after the event.
    fn answered(self, report: &Report, heard: &Heard) -> Option<Duration> {
        let ends = |sample: &Sample| sample.at + sample.latency;
        match self.spoke(heard).map(|after| self.at + after) {
            Some(spoke) => report.samples.iter().map(ends).filter(|end| *end > spoke).min(),
            None => report.samples.iter().filter(|sample| sample.at > self.at).map(ends).min(),
        }
        .map(|end| end - self.at)
    }
}

impl Outcome {
    /// Of a run that has ended.
    pub(super) fn of(
        pair: &Protected,
        done: &Result<(Event, Duration)>,
        report: &Report,
        heard: &Heard,
        sides: &[Side],
    ) -> Self {
        let wrong = judge(done, report, heard, sides);
        let mut gaps = BTreeMap::new();
        for connection in &report.connections {
            let gap: &mut Duration = gaps.entry(connection.kind).or_default();
            *gap = connection.longest.length.max(*gap);
        }
        Self {
            seen: if wrong.is_empty() { String::new() } else { report.table() + &pair.logs() },
            wrong,
            longest: report.longest().length,
            slowest: report.slowest().map(|connection| connection.name.clone()).unwrap_or_default(),
            gaps,
            spoke: done.as_ref().ok().and_then(|(event, _)| event.spoke(heard)),
            answered: done.as_ref().ok().and_then(|(event, _)| event.answered(report, heard)),
            went_on: done.as_ref().ok().map(|(_, went_on)| *went_on),
            broken: report.connections.iter().map(|connection| connection.failures).sum(),
            lost: report.lost(),
            taken_back: heard.taken_back,
        }
    }
}

/// What is not as it must be.
pub fn judge<T>(outcome: &Result<T>, report: &Report, heard: &Heard, sides: &[Side]) -> Vec<String> {
    let mut wrong = report.broken();
    wrong.extend(outcome.as_ref().err().map(|error| format!("{error:#}")));
    if report.lost() > 0 {
        wrong.push(format!("{} bytes lost", report.lost()));
    }
    if heard.sides() != sides {
        wrong.push(format!(
            "the client's switch heard {:?}, not {sides:?}: {:?}",
            heard.sides(),
            heard.changes
        ));
    }
    if heard.taken_back > 0 {
        wrong.push(format!(
            "{} segments say otherwise what was said before: {:?}",
            heard.taken_back, heard.examples
        ));
    }
    // After a takeover the guest may have to say again what only the lost side has said.
    if sides.len() == 1 && heard.overtaken > 0 {
        wrong.push(format!(
            "{} segments left before what precedes them: {:?}",
            heard.overtaken, heard.examples
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::watch::Change;

    #[test]
    fn a_judgement_names_all_that_is_wrong() {
        let heard = Heard { taken_back: 2, overtaken: 1, ..Heard::default() };
        let outcome: Result<()> = Err(anyhow::anyhow!("stuck"));
        let wrong = judge(&outcome, &Report::default(), &heard, &[Side::First]);
        assert!(wrong.len() == 4 && wrong[0].contains("stuck"), "{wrong:?}");
        assert!(judge(&Ok(()), &Report::default(), &Heard::default(), &[]).is_empty());
    }

    #[test]
    fn the_first_answer_is_one_of_who_goes_on() {
        let (millis, instant) = (Duration::from_millis, Instant::now());
        let sample = |at, latency| Sample { at: millis(at), latency: millis(latency), kind: Kind::Lines };
        // Under way at the event; stuck in it; after it.
        let samples = vec![sample(990, 15), sample(995, 400), sample(1200, 100)];
        let report = Report { samples, ..Report::default() };
        let event = Event { at: millis(1000), instant };
        assert_eq!(event.answered(&report, &Heard::default()), Some(millis(300)));
        let change = Change { to: Side::Second, last: None, first: instant + millis(350) };
        let heard = Heard { changes: vec![change], ..Heard::default() };
        assert_eq!(event.answered(&report, &heard), Some(millis(395)));
    }
}

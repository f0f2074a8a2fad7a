//! What the primary's core counts itself.

use super::Primary;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub released_apart: u64,
    pub dropped_apart: u64,
    pub waited: u64,
    pub input_sent: u64,
    pub input_not_sent: u64,
    pub learned_sent: u64,
    pub output_stale: u64,
    pub output_received: u64,
    pub sessions: u64,
    pub sessions_anew: u64,
    pub sessions_lost: u64,
    pub cuts: u64,
    pub cuts_refused: u64,
    pub cuts_unsure: u64,
    pub input_cuts_inexact: u64,
    pub asks_covered: u64,
}

impl Primary {
    /// All counters of the agent and its comparator.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let own = &self.own;
        let named = [
            ("released_apart", own.released_apart),
            ("dropped_apart", own.dropped_apart),
            ("waited", own.waited),
            ("input_sent", own.input_sent),
            ("input_not_sent", own.input_not_sent),
            ("learned_sent", own.learned_sent),
            ("output_received", own.output_received),
            ("output_stale", own.output_stale),
            ("sessions", own.sessions),
            ("sessions_anew", own.sessions_anew),
            ("sessions_lost", own.sessions_lost),
            ("cuts", own.cuts),
            ("cuts_refused", own.cuts_refused),
            ("cuts_unsure", own.cuts_unsure),
            ("input_cuts_inexact", own.input_cuts_inexact),
            ("asks_covered", own.asks_covered),
            ("flows", self.comparator.flows() as u64),
            ("opening_forgotten", self.comparator.opening_forgotten()),
            ("held_bytes", self.comparator.held_bytes() as u64),
        ];
        let named = named.into_iter().map(|(name, n)| (name.to_owned(), n));
        named.chain(self.comparator.counters().named())
    }
}

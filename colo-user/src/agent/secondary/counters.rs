//! What the secondary's agent counts, under the names of the status.

use super::Secondary;

#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pub output_unsure: u64,
    pub input_again: u64,
    pub input_unread: u64,
    pub input_forgotten: u64,
    pub input_cuts_inexact: u64,
    pub output_sent: u64,
    pub output_not_sent: u64,
    pub input_received: u64,
    pub input_injected: u64,
    pub input_stale: u64,
    pub input_overflow: u64,
    pub input_untranslatable: u64,
    pub input_never: u64,
    pub learned_received: u64,
    pub sessions: u64,
    pub sessions_lost: u64,
    pub cuts: u64,
}

impl Secondary {
    /// All counters of the agent and its translator.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let own = &self.own;
        let named = [
            ("output_unsure", own.output_unsure),
            ("input_again", own.input_again),
            ("input_unread", own.input_unread),
            ("input_forgotten", own.input_forgotten),
            ("input_cuts_inexact", own.input_cuts_inexact),
            ("output_forgotten", self.unreleased.forgotten()),
            ("clients_forgotten", self.unreleased.clients_forgotten()),
            ("output_sent", own.output_sent),
            ("output_not_sent", own.output_not_sent),
            ("input_received", own.input_received),
            ("input_injected", own.input_injected),
            ("input_stale", own.input_stale),
            ("input_overflow", own.input_overflow),
            ("input_untranslatable", own.input_untranslatable),
            ("input_never", own.input_never),
            ("input_waiting", self.waiting() as u64),
            ("learned_received", own.learned_received),
            ("sessions", own.sessions),
            ("sessions_lost", own.sessions_lost),
            ("cuts", own.cuts),
            ("flows", self.translator.flows() as u64),
        ];
        named.into_iter().chain(self.translator.counters().named()).map(|(name, n)| (name.to_owned(), n))
    }
}

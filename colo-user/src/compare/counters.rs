//! What the comparator counts. Every frame falls into exactly one class, and no class is silent.

use super::{Class, DivergenceKind};

/// Counters since start. Frames unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames of the primary, by class in the order of [`Class::ALL`].
    pub primary: [u64; Class::COUNT],
    /// Frames of the secondary, likewise.
    pub secondary: [u64; Class::COUNT],
    /// Frames of the primary released because the secondary had said the same.
    pub released_compared: u64,
    /// Released by a checkpoint.
    pub released_checkpoint: u64,
    /// Released at once: timer-driven (ARP, ND, IGMP, MLD, RARP).
    pub released_immediate: u64,
    /// Released at once by a bypass rule.
    pub released_bypass: u64,
    /// Released at once: flow older than the protection, see [`super::Coverage::NewFlows`].
    pub released_unprotected: u64,
    /// Dropped: ICMP errors of the primary that the secondary did not say within the wait.
    pub dropped_icmp_error: u64,
    /// Retransmissions that left at once.
    pub retransmissions: u64,
    /// Garbage octets of keep-alives, of either guest: compared as bare acknowledgements.
    pub keep_alives: u64,
    /// Frames of the secondary that were forgotten because a bound was reached.
    pub secondary_overflow: u64,
    /// Fragments of the secondary forgotten because the rest never came.
    pub secondary_fragments_expired: u64,
    /// Frames of the primary held outside the flow table because it was full.
    pub flow_table_full: u64,
    /// Solicitations of the secondary let out through the primary.
    pub emitted: u64,
    /// Bare acknowledgements, and repeated parts of held segments, of a secondary that lags let out through the primary.
    pub emitted_acknowledgements: u64,
    /// Solicitations of the secondary not let out: over the rate.
    pub emit_limited: u64,
    /// Segments that left with the narrower receive window of the secondary.
    pub windows_narrowed: u64,
    /// Flows that left the table, closed or idle.
    pub flows_expired: u64,
    /// Divergences, by kind in the order of [`DivergenceKind::ALL`].
    pub divergences: [u64; DivergenceKind::ALL.len()],
    /// Checkpoints asked for because a bound was reached.
    pub overloads: u64,
    /// Checkpoints that came.
    pub checkpoints: u64,
    /// Payload bytes of the primary compared and found equal.
    pub compared_bytes: u64,
}

impl Counters {
    /// All of them under their interface names.
    pub fn named(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let class = |side: &'static str, values: &[u64; Class::COUNT]| {
            let values = *values;
            Class::ALL.iter().map(move |c| (format!("{side}_{}", c.name()), values[*c as usize]))
        };
        let kinds = DivergenceKind::ALL
            .iter()
            .map(|k| (format!("divergence_{}", k.name().replace('-', "_")), self.divergences[*k as usize]));
        let plain = [
            ("released_compared", self.released_compared),
            ("released_checkpoint", self.released_checkpoint),
            ("released_immediate", self.released_immediate),
            ("released_bypass", self.released_bypass),
            ("released_unprotected", self.released_unprotected),
            ("dropped_icmp_error", self.dropped_icmp_error),
            ("retransmissions", self.retransmissions),
            ("keep_alives", self.keep_alives),
            ("secondary_overflow", self.secondary_overflow),
            ("secondary_fragments_expired", self.secondary_fragments_expired),
            ("flow_table_full", self.flow_table_full),
            ("emitted", self.emitted),
            ("emitted_acknowledgements", self.emitted_acknowledgements),
            ("emit_limited", self.emit_limited),
            ("windows_narrowed", self.windows_narrowed),
            ("flows_expired", self.flows_expired),
            ("overloads", self.overloads),
            ("checkpoints", self.checkpoints),
            ("compared_bytes", self.compared_bytes),
        ];
        class("primary", &self.primary)
            .chain(class("secondary", &self.secondary))
            .chain(plain.into_iter().map(|(name, value)| (name.to_owned(), value)))
            .chain(kinds)
    }

    /// Frames of the primary released for whatever reason.
    #[must_use]
    pub const fn released(&self) -> u64 {
        self.released_compared
            + self.released_checkpoint
            + self.released_immediate
            + self.released_bypass
            + self.released_unprotected
    }
}

//! What a person reads: one live line a second, and the tables at the end.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use super::{agents::Status, load::Outcome};

/// Says a line to whoever still listens: a reader that went away is no reason to leave namespaces behind.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)));
    }};
}

pub(crate) use say;

/// The live line: rewritten in place on a terminal, a line of its own elsewhere.
#[derive(Debug)]
pub struct Live {
    begun: Instant,
    terminal: bool,
}

impl Live {
    /// A line that counts seconds from now.
    pub fn new() -> Self {
        Self { begun: Instant::now(), terminal: io::stdout().is_terminal() }
    }

    /// Shows one status.
    pub fn show(&self, status: &Status) {
        self.tell(&summary(status));
    }

    /// Shows a line of other words.
    pub fn tell(&self, words: &str) {
        let second = self.begun.elapsed().as_secs();
        let line = format!("  {second:>3} s  {words}");
        let mut out = io::stdout().lock();
        // A reader that went away is no reason to leave namespaces behind.
        let _ = if self.terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }

    /// Leaves the line.
    pub fn done(self) {
        if self.terminal {
            let _ = writeln!(io::stdout());
        }
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

/// What the live line says of a status.
pub fn summary(status: &Status) -> String {
    let count =
        |prefix: &str| status.count(prefix).map_or_else(|_| "?".to_owned(), |value| value.to_string());
    format!(
        "{}  held {:>4}  released {:>8}  compared {:>8}  diverged {}  checkpoints asked {}",
        status.state(),
        status.held(),
        count("released_"),
        count("released_compared"),
        count("divergence_"),
        status.checkpoints(),
    )
}

/// The table of what the clients did.
pub fn table(outcomes: &[Outcome], took: Duration) -> String {
    let mut text = format!(
        "  {:<26} {:>9} {:>7} {:>7} {:>10} {:>9} {:>9} {:>9}\n",
        "load", "requests", "failed", "resent", "MiB", "MiB/s", "p50 ms", "p99 ms"
    );
    for outcome in outcomes {
        let mebibytes = outcome.bytes as f64 / f64::from(1 << 20);
        let millis = |percent| outcome.percentile(percent).as_secs_f64() * 1e3;
        writeln!(
            text,
            "  {:<26} {:>9} {:>7} {:>7} {:>10.1} {:>9.1} {:>9.1} {:>9.1}",
            outcome.name,
            outcome.done,
            outcome.failed,
            outcome.resent,
            mebibytes,
            mebibytes / took.as_secs_f64().max(f64::MIN_POSITIVE),
            millis(50),
            millis(99),
        )
        .expect("a string takes all that is written");
    }
    for failure in outcomes.iter().flat_map(|outcome| &outcome.failures) {
        text.push_str("  ! ");
        text.push_str(failure);
        text.push('\n');
    }
    text
}

/// The items of the final summary, each met or not.
#[derive(Debug, Default)]
pub struct Verdict(Vec<(bool, String)>);

impl Verdict {
    /// Adds an item and says whether it was met.
    pub fn expect(&mut self, met: bool, what: impl Into<String>) -> bool {
        self.0.push((met, what.into()));
        met
    }

    /// Whether all items were met.
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|(met, _)| *met)
    }

    /// The items, one per line.
    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|(met, what)| format!("  {} {what}\n", if *met { "ok    " } else { "FAILED" }))
            .collect()
    }
}

#[cfg(test)]
mod tests;

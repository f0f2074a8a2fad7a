//! The benchmark `colo-bench`: our numbers beside the peer's, measured in the same run by the same generator.
//!
//! A [`Row`] is one quantity of one case, with a value per round for each side; rounds alternate between the sides, and the
//! median of each is shown with their ratio. A group of rows is one file with a `run` that adds its rows to a
//! [`Report`]. [`pair`] measures the real pair, which has more than two sides, and has a table of its own.

pub mod engine;
pub mod generator;
pub mod hold;
pub mod pair;
pub mod process;
pub mod proxy;

use std::fmt;

use serde_json::{Value, json};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of each case for each side.
    pub rounds: usize,
    /// Milliseconds of one round of throughput.
    pub millis: u64,
    /// Packets of one round of latency.
    pub samples: usize,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is.
    Higher,
    /// Less is.
    Lower,
}

/// One quantity of one case.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which group it belongs to.
    pub group: &'static str,
    /// The case.
    pub case: String,
    /// The quantity with its unit.
    pub quantity: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Our value in each round.
    pub ours: Vec<f64>,
    /// The peer's, empty where there is none to compare with.
    pub peer: Vec<f64>,
}

impl Row {
    /// How many times better we are; below 1 the peer is.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (median(&self.ours)?, median(&self.peer)?);
        let (more, less) = match self.better {
            Better::Higher => (ours, peer),
            Better::Lower => (peer, ours),
        };
        (less > 0.0).then(|| more / less)
    }
}

/// The middle of some values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Everything measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was measured, where and against what: name and text.
    pub about: Vec<(&'static str, String)>,
    /// The rows in order.
    pub rows: Vec<Row>,
}

impl Report {
    /// The object for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let about: Value = self.about.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "group": row.group,
                    "case": row.case,
                    "quantity": row.quantity,
                    "better": if row.better == Better::Higher { "higher" } else { "lower" },
                    "ours": median(&row.ours),
                    "peer": median(&row.peer),
                    "ratio": row.ratio(),
                    "rounds": { "ours": row.ours, "peer": row.peer },
                })
            })
            .collect();
        json!({ "about": about, "rows": rows })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.about {
            writeln!(f, "{name}: {text}")?;
        }
        let number = |value: Option<f64>| match value {
            Some(value) if value >= 1000.0 => format!("{value:.0}"),
            Some(value) => format!("{value:.2}"),
            None => "-".to_owned(),
        };
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = row.group;
                writeln!(f, "\n{:<38} {:<22} {:>12} {:>12} {:>8}", group, "", "colo", "peer", "better")?;
            }
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
            writeln!(
                f,
                "  {:<36} {:<22} {:>12} {:>12} {:>8}",
                row.case,
                row.quantity,
                number(median(&row.ours)),
                number(median(&row.peer)),
                ratio
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

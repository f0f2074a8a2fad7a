//! What was measured, as a table for a person and an object for programs.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use super::{
    super::{Better, median},
    case::{Case, Value},
    side::Side,
};

/// The ratios that are shown: of the first to the second.
const RATIOS: [(Side, Side); 4] = [
    (Side::Both, Side::Ceiling),
    (Side::Stock, Side::Ceiling),
    (Side::Colo, Side::Ceiling),
    (Side::Colo, Side::Stock),
];

/// One quantity of one case.
#[derive(Debug, Clone)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// The quantity with its unit.
    pub quantity: &'static str,
    /// Which way is better.
    pub better: Better,
    /// The rounds of each side, in the order of the table's sides; empty where it has none.
    pub rounds: Vec<Vec<f64>>,
}

/// All of a run.
#[derive(Debug, Clone)]
pub struct Table {
    /// What was measured, and how: name and text.
    pub about: Vec<(&'static str, String)>,
    /// The sides, in order.
    pub sides: Vec<Side>,
    /// The rows, in the order in which they were first measured.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table of nothing yet.
    #[must_use]
    pub const fn new(about: Vec<(&'static str, String)>, sides: Vec<Side>) -> Self {
        Self { about, sides, rows: Vec::new() }
    }

    /// Adds what a round of a case came to on a side of the table.
    pub fn add(&mut self, side: Side, case: Case, values: &[Value]) {
        let Some(column) = self.sides.iter().position(|&known| known == side) else { return };
        for &Value { quantity, better, value } in values {
            let known = self.rows.iter().position(|row| row.case == case && row.quantity == quantity);
            let index = known.unwrap_or_else(|| {
                let rounds = vec![Vec::new(); self.sides.len()];
                let place = self
                    .rows
                    .iter()
                    .rposition(|row| row.case == case)
                    .map_or(self.rows.len(), |last| last + 1);
                self.rows.insert(place, Row { case, quantity, better, rounds });
                place
            });
            self.rows[index].rounds[column].push(value);
        }
    }

    fn median(&self, row: &Row, side: Side) -> Option<f64> {
        median(&row.rounds[self.sides.iter().position(|&known| known == side)?])
    }

    /// How many times better one side is than another; below 1 it is worse. None where that means nothing.
    fn ratio(&self, row: &Row, (of, to): (Side, Side)) -> Option<f64> {
        let (of, to) = (self.median(row, of)?, self.median(row, to)?);
        let (more, less) = if row.better == Better::Higher { (of, to) } else { (to, of) };
        (more > 0.0 && less > 0.0).then(|| more / less)
    }

    /// The object for programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let about: Map<String, Json> =
            self.about.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let named = |values: Vec<Json>| -> Map<String, Json> {
            self.sides.iter().map(|side| side.name().to_owned()).zip(values).collect()
        };
        let rows: Vec<Json> = self
            .rows
            .iter()
            .map(|row| {
                let ratios: Map<String, Json> = RATIOS
                    .iter()
                    .map(|&(of, to)| {
                        (format!("{}/{}", of.name(), to.name()), json!(self.ratio(row, (of, to))))
                    })
                    .collect();
                json!({
                    "case": row.case.name(),
                    "quantity": row.quantity,
                    "better": if row.better == Better::Higher { "higher" } else { "lower" },
                    "median": named(row.rounds.iter().map(|rounds| json!(median(rounds))).collect()),
                    "rounds": named(row.rounds.iter().map(|rounds| json!(rounds)).collect()),
                    "ratios": ratios,
                })
            })
            .collect();
        json!({ "about": about, "rows": rows })
    }
}

/// How far the rounds of a side lie apart, in parts of their median: the largest of all sides.
fn spread(row: &Row) -> Option<f64> {
    let one = |rounds: &Vec<f64>| {
        let (min, max) = rounds.iter().fold((f64::MAX, f64::MIN), |(min, max), &v| (min.min(v), max.max(v)));
        median(rounds).filter(|&median| median > 0.0).map(|median| (max - min) / median)
    };
    row.rounds.iter().filter_map(one).max_by(f64::total_cmp)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in &self.about {
            writeln!(f, "{name}: {text}")?;
        }
        write!(f, "\n{:<24}", "medians")?;
        for side in &self.sides {
            write!(f, " {:>14}", side.name())?;
        }
        for (of, to) in RATIOS {
            write!(f, " {:>13}", format!("{}/{}", of.name(), to.name()))?;
        }
        writeln!(f, " {:>7}", "spread")?;
        let mut case = None;
        for row in self.rows.iter().filter(|row| row.is_worth_showing()) {
            if case.replace(row.case) != Some(row.case) {
                writeln!(f, "{}", row.case.name())?;
            }
            write!(f, "  {:<22}", row.quantity)?;
            for rounds in &row.rounds {
                write!(f, " {:>14}", number(median(rounds)))?;
            }
            for ratio in RATIOS {
                write!(f, " {:>13}", number(self.ratio(row, ratio)))?;
            }
            writeln!(
                f,
                " {:>7}",
                spread(row).map_or_else(|| "-".to_owned(), |spread| format!("{:.0} %", spread * 100.0))
            )?;
        }
        Ok(())
    }
}

impl Row {
    /// Failures are shown where there are any.
    fn is_worth_showing(&self) -> bool {
        self.quantity != "failed" || self.rounds.iter().flatten().any(|&value| value > 0.0)
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
        None => "-".to_owned(),
    }
}

//! What `colo diff` prints: a table for people, an object for programs.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::compare::{Cause, Class, Counters, DivergenceKind};

/// One of the two captures.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its file.
    pub file: String,
    /// Guest frames in it.
    pub frames: u64,
    /// Those that the capture cut short.
    pub cut: u64,
}

/// The outcome of a comparison.
#[derive(Clone, Debug)]
pub struct Report {
    /// The primary's capture.
    pub primary: Side,
    /// The secondary's.
    pub secondary: Side,
    /// Frames of the primary that the secondary said too.
    pub released: u64,
    /// Frames of the primary that never became releasable.
    pub held: u64,
    /// Flows compared.
    pub flows: usize,
    /// Flows of which nothing is compared, because the captures end within their frames' headers.
    pub headless: usize,
    /// What the comparator counted.
    pub counters: Counters,
    /// What it would have asked a checkpoint for, in the order it was found.
    pub causes: Vec<Cause>,
}

impl Report {
    /// Whether the guests said the same.
    #[must_use]
    pub fn is_identical(&self) -> bool {
        self.causes.is_empty()
    }

    const fn verdict(&self) -> &'static str {
        if self.causes.is_empty() { "identical" } else { "diverged" }
    }

    /// Classes that occur, with the frames of each side.
    fn classes(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        let of = |class: Class| {
            (class.name(), self.counters.primary[class as usize], self.counters.secondary[class as usize])
        };
        Class::ALL.into_iter().map(of).filter(|&(_, primary, secondary)| primary + secondary > 0)
    }

    /// The object for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let classes: Map<String, Value> = self
            .classes()
            .map(|(name, primary, secondary)| {
                (name.to_owned(), json!({ "primary": primary, "secondary": secondary }))
            })
            .collect();
        let divergences: Vec<Value> = self
            .causes
            .iter()
            .map(|cause| match cause {
                Cause::Divergence(divergence) => json!(divergence),
                Cause::Overload(overload) => json!({
                    "flow": overload.flow.map(|flow| flow.to_string()),
                    "kind": cause.name(),
                    "seq": null,
                    "offset": null,
                    "bound": overload.bound,
                }),
            })
            .collect();
        json!({
            "verdict": self.verdict(),
            "frames": { "primary": self.primary.frames, "secondary": self.secondary.frames },
            "released": self.released,
            "held": self.held,
            "flows": self.flows,
            "classes": classes,
            "divergences": divergences,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict())?;
        writeln!(f, "  {:<12} {:>10} {:>10}", "frames", "primary", "secondary")?;
        for (name, primary, secondary) in self.classes() {
            writeln!(f, "  {name:<12} {primary:>10} {secondary:>10}")?;
        }
        writeln!(f, "  {:<12} {:>10} {:>10}", "total", self.primary.frames, self.secondary.frames)?;
        writeln!(f, "{} flows; {} frames released, {} held", self.flows, self.released, self.held)?;
        for (number, cause) in self.causes.iter().enumerate() {
            writeln!(f, "\n{}. {cause}", number + 1)?;
            match cause {
                Cause::Divergence(divergence) => {
                    writeln!(f, "   {}", meaning(divergence.kind))?;
                    quote(f, "primary  ", &divergence.primary)?;
                    quote(f, "secondary", &divergence.secondary)?;
                }
                Cause::Overload(_) => writeln!(f, "   the comparison of this flow stopped there")?,
            }
        }
        Ok(())
    }
}

const fn meaning(kind: DivergenceKind) -> &'static str {
    match kind {
        DivergenceKind::Payload => "other bytes at the same place",
        DivergenceKind::Length => "the same place ends earlier on one side",
        DivergenceKind::Flags => "SYN options or control bits differ",
        DivergenceKind::LateSecondary => "the secondary was too late",
        DivergenceKind::LatePrimary => "the primary was too late",
        DivergenceKind::Missing => "only the primary said it",
        DivergenceKind::Extra => "only the secondary said it",
    }
}

/// One side's bytes from the first difference on, as digits and as text.
fn quote(f: &mut fmt::Formatter<'_>, side: &str, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    write!(f, "   {side}  ")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x} "))?;
    let text: String =
        bytes.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '.' }).collect();
    writeln!(f, " |{text}|")
}

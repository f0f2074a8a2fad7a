//! What machines are told: a line of JSON for each thing that happens, on standard output.
//!
//! A reader that does not read does not hold the watchdog up ([`output`]): lines that find no room are dropped, and
//! the next that does says how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::mono::Mono;
use crate::output;

/// Says lines in the name of one watchdog.
#[derive(Clone, Debug)]
pub struct Report {
    name: Arc<str>,
    start: Mono,
    on: bool,
    /// Of the lines that are missing, those that were said to be.
    told: Arc<AtomicU64>,
}

impl Report {
    /// One that says nothing unless `on`.
    pub fn new(on: bool) -> Self {
        Self { name: "".into(), start: Mono::now(), on, told: Arc::default() }
    }

    /// The same for the watchdog of this name.
    pub fn of(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Says a line. `fields` is an object.
    pub fn say(&self, event: &str, fields: Value) {
        if !self.on {
            return;
        }
        let uptime = Mono::now().saturating_since(self.start).as_millis();
        let mut line = Map::new();
        line.insert("watchdog".into(), json!(&*self.name));
        line.insert("event".into(), event.into());
        line.insert("uptime_ms".into(), json!(uptime));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let missing = output::lines_missing();
        let lost = missing - self.told.load(Ordering::Relaxed);
        if lost > 0 {
            line.insert("lost".into(), lost.into());
        }
        output::line(format_args!("{}", Value::Object(line)));
        // It was dropped itself, and with it what it said.
        if output::lines_missing() == missing {
            self.told.store(missing, Ordering::Relaxed);
        }
    }
}

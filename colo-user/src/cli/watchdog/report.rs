//! What machines are told: a line of JSON for each thing that happens, on standard output.
//!
//! A reader that does not read must not hold the watchdog up. A thread of its own writes; once [`WAITING`] lines wait, further ones
//! are dropped, and the next that is not says how many.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::mono::Mono;

/// Lines that wait for the reader.
const WAITING: usize = 1024;
/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_secs(1);

/// Says lines in the name of one watchdog.
#[derive(Clone, Debug)]
pub struct Report {
    name: Arc<str>,
    start: Mono,
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
}

/// Ends when all is written and every [`Report`] gone.
#[derive(Debug)]
pub struct Written(Option<Receiver<()>>);

impl Report {
    /// One that says nothing unless `on`.
    pub fn new(on: bool) -> io::Result<(Self, Written)> {
        let (mut lines, mut written) = (None, None);
        if on {
            let (sender, receiver) = sync_channel::<String>(WAITING);
            let (done, ended) = sync_channel(1);
            thread::Builder::new().name("report".to_owned()).spawn(move || {
                let _done: SyncSender<()> = done;
                for line in receiver {
                    // Who does not want to hear it any more does not stop the watch.
                    let _ = io::stdout().write_all(line.as_bytes());
                }
            })?;
            (lines, written) = (Some(sender), Some(ended));
        }
        let report = Self { name: "".into(), start: Mono::now(), lines, lost: Arc::default() };
        Ok((report, Written(written)))
    }

    /// The same for the watchdog of this name.
    pub fn of(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// Says a line. `fields` is an object.
    pub fn say(&self, event: &str, fields: Value) {
        let Some(lines) = &self.lines else { return };
        let uptime = Mono::now().saturating_since(self.start).as_millis();
        let mut line = Map::new();
        line.insert("watchdog".into(), json!(&*self.name));
        line.insert("event".into(), event.into());
        line.insert("uptime_ms".into(), json!(uptime));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            line.insert("lost".into(), lost.into());
        }
        if lines.try_send(format!("{}\n", Value::Object(line))).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl Written {
    /// Waits for it, but not for long.
    pub fn wait(self) {
        if let Some(ended) = self.0 {
            // Nothing is ever sent: the thread's end is what is waited for.
            let _: Result<(), RecvTimeoutError> = ended.recv_timeout(LAST);
        }
    }
}

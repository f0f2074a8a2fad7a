//! What both monitors of a pair have said, with the time: for pauses, pictures and what a failure shows.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use colo_user::qmp::{Client, EventKind, Notice};
use tokio::runtime::Runtime;

use super::stage::Followed;

/// One event of one VM.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The VM, by name.
    pub vm: &'static str,
    /// When it was heard.
    pub heard: Instant,
    /// When it happened by QEMU's clock.
    pub at: Option<Duration>,
    /// What happened.
    pub kind: EventKind,
}

/// A guest that stood still from STOP to RESUME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When the STOP was heard.
    pub heard: Instant,
    /// From STOP to RESUME, by QEMU's clock.
    pub length: Duration,
}

/// All that was heard so far.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Entry>>>);

impl Journal {
    /// Writes down what a VM says from now on, until its monitor closes; returns its monitor for commands.
    pub fn follow(&self, runtime: &Runtime, followed: Followed) -> Client {
        let (vm, client, mut notices) = (followed.name, followed.client.clone(), followed.notices);
        let entries = Arc::clone(&self.0);
        runtime.spawn(async move {
            while let Some(notice) = notices.next().await {
                let Notice::Event(event) = notice else { continue };
                let entry = Entry { vm, heard: Instant::now(), at: event.at, kind: event.kind };
                entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
        });
        client
    }

    /// All entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a VM has said so.
    pub fn count(&self, vm: &str, kind: &EventKind) -> usize {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| entry.vm == vm && entry.kind == *kind).count()
    }

    /// How often and how long a VM's guest stood still.
    pub fn pauses(&self, vm: &str) -> Vec<Pause> {
        pauses(self.entries().iter().filter(|entry| entry.vm == vm))
    }

    /// A line for each entry, for a person.
    pub fn text(&self) -> String {
        let entries = self.entries();
        let Some(first) = entries.first().map(|entry| entry.heard) else { return String::new() };
        let mut text = String::new();
        for entry in &entries {
            let after = entry.heard.saturating_duration_since(first).as_secs_f64();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {after:>9.4} s  {:<9} {:?}", entry.vm, entry.kind);
        }
        text
    }
}

fn pauses<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Pause> {
    let (mut pauses, mut stop) = (Vec::new(), None);
    for entry in entries {
        match entry.kind {
            EventKind::Stop => stop = Some(entry),
            EventKind::Resume => {
                let Some(stop) = stop.take() else { continue };
                let length = entry.at.zip(stop.at).map(|(resume, stop)| resume.saturating_sub(stop));
                pauses.push(Pause { heard: stop.heard, length: length.unwrap_or_default() });
            }
            _ => {}
        }
    }
    pauses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_from_a_stop_to_its_resume() {
        let heard = Instant::now();
        let entry =
            |kind, millis| Entry { vm: "primary", heard, at: Some(Duration::from_millis(millis)), kind };
        let entries = [
            entry(EventKind::Resume, 5),
            entry(EventKind::Stop, 10),
            entry(EventKind::MigrationPass(2), 12),
            entry(EventKind::Resume, 17),
            entry(EventKind::Stop, 20),
        ];
        assert_eq!(pauses(entries.iter()), [Pause { heard, length: Duration::from_millis(7) }]);
    }
}

//! The checkpoints of a pair, by the events of the primary's QEMU.
//!
//! Nothing says why a checkpoint was made. QEMU's timer begins anew with each, so one that comes a whole period after the
//! one before is the timer's, and one that comes earlier was asked for.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use colo_user::qmp::{Client, EventKind, Notice};

use super::side::PERIOD;

/// How much earlier than its period a periodic checkpoint may seem to come.
const SLACK: Duration = Duration::from_millis(200);

/// One checkpoint, by QEMU's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The primary stopped.
    pub stop: Duration,
    /// It ran again.
    pub resume: Duration,
}

/// How many there were, and how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// That the proxy asked for.
    pub asked: usize,
    /// That came by time.
    pub periodic: usize,
    /// How long the guest stood still in each.
    pub pauses: Vec<Duration>,
}

/// Follows one primary.
#[derive(Debug)]
pub struct Followed {
    entered: Duration,
    seen: Arc<Mutex<Vec<Checkpoint>>>,
    // The follower's connection lives as long.
    _client: Client,
}

impl Followed {
    /// From now on; call it inside the runtime, with the pair just protected.
    #[must_use]
    pub fn follow(client: &Client) -> Self {
        // QEMU's clock is that of this machine.
        let entered = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut notices = client.subscribe();
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut stopped = None;
            while let Some(notice) = notices.next().await {
                let Notice::Event(event) = notice else { continue };
                match event.kind {
                    EventKind::Stop => stopped = event.at,
                    EventKind::Resume => {
                        if let (Some(stop), Some(resume)) = (stopped.take(), event.at) {
                            noted
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(Checkpoint { stop, resume });
                        }
                    }
                    _ => {}
                }
            }
        });
        Self { entered, seen, _client: client.clone() }
    }

    /// How many have ended so far: a mark for [`Followed::since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Those that have ended since a mark.
    #[must_use]
    pub fn since(&self, mark: usize) -> Count {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mark.checked_sub(1).map_or(self.entered, |before| seen[before].stop);
        count(before, &seen[mark..])
    }
}

/// Counts checkpoints of which the one before them began at `before`.
pub(super) fn count(mut before: Duration, checkpoints: &[Checkpoint]) -> Count {
    let mut count = Count::default();
    for checkpoint in checkpoints {
        if checkpoint.stop + SLACK >= before + PERIOD {
            count.periodic += 1;
        } else {
            count.asked += 1;
        }
        count.pauses.push(checkpoint.resume.saturating_sub(checkpoint.stop));
        before = checkpoint.stop;
    }
    count
}

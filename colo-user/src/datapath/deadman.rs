//! The deadlines that the programs apply without an agent ([`colo_ebpf::Deadman`]): the map as memory, so that a sign of life is
//! a store, and any thread may give one.

use std::io;
use std::mem::{offset_of, size_of};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use colo_ebpf::{Deadman, DeadmanPolicy, MAP_DEADMAN};

use super::error::DatapathError;
use super::programs::{Programs, map_error};
use super::sys::Mapping;
use crate::mono::{Boot, Mono};

/// Signs of life within one limit.
const SIGNS: u32 = 4;
/// A lease that was never had: over since the host's start.
const NEVER_HELD: u64 = 1;

/// What becomes of the guest's frames in mode protect when the agent shows no sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLimit {
    /// How long it may show none.
    pub limit: Duration,
    /// What becomes of them then.
    pub policy: Overdue,
}

/// See [`AgentLimit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Output leaves uncompared.
    Open,
    /// Both directions are dropped.
    Closed,
}

impl FromStr for Overdue {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(format!("{word:?} is neither open nor closed")),
        }
    }
}

/// The end of this side's lease. Once it has passed nothing leaves or enters in the modes protect and pass. Clones are of the
/// same lease.
#[derive(Clone, Debug)]
pub struct LeaseEnd(Arc<Words>);

impl LeaseEnd {
    /// From here on it ends at `end`.
    pub fn set(&self, end: Boot) {
        // Zero would be no lease at all.
        self.0
            .word(offset_of!(Deadman, lease_end_ns))
            .store(end.as_nanos().max(NEVER_HELD), Ordering::Release);
    }

    /// When it ends; `None` for a side without one.
    #[must_use]
    pub fn end(&self) -> Option<Boot> {
        let end = self.0.word(offset_of!(Deadman, lease_end_ns)).load(Ordering::Acquire);
        (end != 0).then_some(Boot::from_nanos(end))
    }

    /// Whether it has passed; a side without a lease has none that could.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end().is_some_and(|end| Boot::now() >= end)
    }
}

/// The map's one value.
#[derive(Debug)]
struct Words(Mapping);

// SAFETY: the memory is only reached as atomic words, through `word`.
unsafe impl Sync for Words {}

impl Words {
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + size_of::<u64>() <= self.0.len() && offset.is_multiple_of(size_of::<u64>()));
        // SAFETY: the word lies in the mapping, which lives as long as self and begins at a page; nobody reaches it but
        // through atomics and the programs, which read it whole.
        unsafe { self.0.start().add(offset).cast().as_ref() }
    }
}

/// The agent's end.
#[derive(Debug)]
pub(super) struct Signs {
    words: Arc<Words>,
    /// Longest time between two signs.
    pub pause: Option<Duration>,
}

impl Signs {
    /// Gives a first sign and sets the deadlines. A lease that an agent before this one was given still counts.
    pub fn begin(
        programs: &Programs,
        overdue: Option<AgentLimit>,
        leased: bool,
    ) -> Result<Self, DatapathError> {
        let aya::maps::Map::Array(map) = programs.map(MAP_DEADMAN)? else {
            return Err(map_error(MAP_DEADMAN, &io::Error::other("it is no array")));
        };
        let memory = Mapping::shared(&map.fd(), size_of::<Deadman>(), 0);
        let words = Words(memory.map_err(|error| map_error(MAP_DEADMAN, &error))?);
        let mut signs = Self { words: Arc::new(words), pause: None };
        signs.limit(overdue);
        let lease = signs.words.word(offset_of!(Deadman, lease_end_ns));
        if !leased {
            lease.store(0, Ordering::Release);
        } else if lease.load(Ordering::Acquire) == 0 {
            lease.store(NEVER_HELD, Ordering::Release);
        }
        Ok(signs)
    }

    /// From here on the agent may show no sign of life for so long.
    pub fn limit(&mut self, overdue: Option<AgentLimit>) {
        self.alive();
        self.pause = overdue.map(|overdue| overdue.limit / SIGNS);
        let (limit, policy) = match overdue {
            None => (0, DeadmanPolicy::Closed),
            Some(AgentLimit { limit, policy }) => (
                u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
                if policy == Overdue::Open { DeadmanPolicy::Open } else { DeadmanPolicy::Closed },
            ),
        };
        self.words.word(offset_of!(Deadman, policy)).store(policy as u64, Ordering::Release);
        self.words.word(offset_of!(Deadman, limit_ns)).store(limit, Ordering::Release);
    }

    /// The agent is alive.
    pub fn alive(&self) {
        self.words.word(offset_of!(Deadman, stamp_ns)).store(Mono::now().as_nanos(), Ordering::Release);
    }

    pub fn lease(&self) -> LeaseEnd {
        LeaseEnd(Arc::clone(&self.words))
    }
}

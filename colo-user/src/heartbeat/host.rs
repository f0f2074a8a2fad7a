//! Whether the peer's host lives, whatever its agent does: by probes that its kernel answers ([`colo_ebpf::liveness`]).

use crate::mono::Mono;
use std::time::Duration;

/// What is known of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It never answered: it may not know how.
    Unknown,
    /// Its kernel answers, and says when the agent was last alive.
    Alive,
    /// Its kernel answers that nobody listens: the agent has ended.
    NoAgent,
    /// It answered once, and does not any more.
    Silent,
}

impl HostState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Alive, Self::NoAgent, Self::Silent];

    /// The word, an interface.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::NoAgent => "no agent",
            Self::Silent => "silent",
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Host {
    limit: Duration,
    /// When it answered last, and how long ago the agent had been alive then; none if it said that there is no agent.
    last: Option<(Mono, Option<Duration>)>,
}

impl Host {
    /// A host that is silent after `limit` without an answer.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit, last: None }
    }

    /// An answer: the agent was alive `age` ago.
    pub const fn answered(&mut self, now: Mono, age: Duration) {
        self.last = Some((now, Some(age)));
    }

    /// An answer: nobody listens there.
    pub const fn refused(&mut self, now: Mono) {
        self.last = Some((now, None));
    }

    /// What is known of it.
    #[must_use]
    pub fn state(&self, now: Mono) -> HostState {
        match self.last {
            None => HostState::Unknown,
            Some((at, _)) if now.saturating_since(at) >= self.limit => HostState::Silent,
            Some((_, Some(_))) => HostState::Alive,
            Some((_, None)) => HostState::NoAgent,
        }
    }

    /// How long ago the agent was alive, as its kernel said last, while it says so.
    #[must_use]
    pub fn agent_age(&self, now: Mono) -> Option<Duration> {
        self.last.and_then(|(_, age)| age).filter(|_| self.state(now) == HostState::Alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_host_is_told_from_a_starved_agent_and_from_one_that_ended() {
        let at = Mono::from_millis;
        let mut host = Host::new(Duration::from_millis(60));
        assert_eq!(host.state(at(1_000_000)), HostState::Unknown);
        let age = Duration::from_millis(700);
        host.answered(at(100), age);
        assert_eq!((host.state(at(159)), host.agent_age(at(159))), (HostState::Alive, Some(age)));
        assert_eq!((host.state(at(160)), host.agent_age(at(160))), (HostState::Silent, None));
        host.refused(at(200));
        assert_eq!((host.state(at(201)), host.agent_age(at(201))), (HostState::NoAgent, None));
        host.answered(at(210), Duration::ZERO);
        assert_eq!(host.state(at(211)), HostState::Alive);
    }
}

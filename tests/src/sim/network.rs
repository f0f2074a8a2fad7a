//! The link between the agents: TCP. What is sent comes in order, later where the way is cut, or never where the connection
//! breaks; who sees that it broke, and when, is another matter.

use super::host::{Agent, End};
use super::world::{Event, World};
use colo_user::link::buffer::Outbox;
use std::time::Duration;

impl World {
    /// Sends what an agent has to say, and closes what it has closed.
    pub(super) fn flush(&mut self, side: usize) {
        for mut end in std::mem::take(&mut self.hosts[side].io.closed) {
            let number = end.number;
            if let Some(bytes) = take(&mut end.outbox) {
                self.send(side, number, Some(bytes));
            }
            self.send(side, number, None);
        }
        if let Some(end) = &mut self.hosts[side].io.end {
            let number = end.number;
            if let Some(bytes) = take(&mut end.outbox) {
                self.send(side, number, Some(bytes));
            }
        }
    }

    fn send(&mut self, from: usize, number: u64, bytes: Option<Vec<u8>>) {
        let mut delay = self.random.micros(40, 400);
        if self.slow.0 > self.now {
            delay += self.slow.1;
        }
        let mut at = self.now + delay;
        if let Some(heals) = self.blocked(from) {
            // TCP repeats what was lost, at growing intervals.
            at = heals + self.random.millis(1, 250);
        }
        let at = at.max(self.delivered[from]);
        self.delivered[from] = at;
        self.at(at, Event::Bytes { to: 1 - from, number, bytes });
    }

    /// Bytes of a connection come to a host.
    pub(super) fn bytes(&mut self, to: usize, number: u64, bytes: Option<Vec<u8>>) {
        if !self.hosts[to].up {
            return;
        }
        // The kernel takes them, whatever the agent does; a host that stands still does not.
        if self.hosts[to].asleep_until > self.now {
            let later = self.hosts[to].asleep_until;
            return self.at(later, Event::Bytes { to, number, bytes });
        }
        if let Some(heals) = self.blocked(1 - to) {
            let again = heals + self.random.millis(1, 250);
            let again = again.max(self.delivered[1 - to]);
            self.delivered[1 - to] = again;
            return self.at(again, Event::Bytes { to, number, bytes });
        }
        let io = &mut self.hosts[to].io;
        let end = io.end.as_mut().filter(|end| end.number == number);
        let end = end.or_else(|| io.incoming.as_mut().filter(|end| end.number == number));
        match (end, bytes) {
            (Some(end), _) if end.eof => {}
            (Some(end), Some(bytes)) => {
                end.inbox.extend(bytes);
                self.wake(to);
            }
            (Some(end), None) => {
                end.eof = true;
                self.wake(to);
            }
            // A connection that is not known any more is reset.
            (None, Some(_)) => self.send(to, number, None),
            (None, None) => {}
        }
    }

    /// The side that dials tries to make a connection.
    pub(super) fn dial(&mut self) {
        let again = self.random.millis(30, 160);
        self.after(again, Event::Dial);
        let free = |side: usize| {
            let host = &self.hosts[side];
            let io = &host.io;
            let agent = host.up && host.agent.is_some() && host.agent_ready() <= self.now;
            agent && io.end.is_none() && io.incoming.is_none()
        };
        if !free(0) || !free(1) || self.cut_off(0) || self.cut_off(1) {
            return;
        }
        self.connection += 1;
        let number = self.connection;
        for side in [0, 1] {
            let delay = self.random.micros(200, 3000);
            self.delivered[side] = self.delivered[side].max(self.now);
            let end = End { number, outbox: Outbox::default(), inbox: Vec::new(), eof: false };
            self.hosts[side].io.incoming = Some(end);
            self.after(delay, Event::Linked { side, number });
        }
    }

    /// Hellos are done at this end: its agent is told.
    pub(super) fn linked(&mut self, side: usize, number: u64) {
        if self.hosts[side].io.incoming.as_ref().is_some_and(|end| end.number == number) {
            self.wake(side);
        }
    }

    /// The connection breaks, and these sides see it.
    pub(super) fn reset(&mut self, seen: [bool; 2]) {
        let Some(number) = self.hosts.iter().find_map(|host| host.io.end.as_ref().map(|end| end.number))
        else {
            return;
        };
        for (side, seen) in seen.into_iter().enumerate() {
            let end = self.hosts[side].io.end.as_mut().filter(|end| end.number == number);
            if let Some(end) = end.filter(|_| seen) {
                // What lies unread in a socket that was reset is lost.
                end.inbox.clear();
                end.eof = true;
                self.wake(side);
            }
        }
    }

    /// The agent of a host is gone: its kernel closes what it had.
    pub(super) fn agent_gone(&mut self, side: usize) {
        let io = &mut self.hosts[side].io;
        let ends = [io.end.take(), io.incoming.take()];
        for end in ends.into_iter().flatten() {
            self.send(side, end.number, None);
        }
    }

    /// Whether an agent is a secondary that could take over.
    pub(super) fn secondary_owns_a_state(&self) -> bool {
        self.hosts.iter().any(|host| match &host.agent {
            Some(Agent::Secondary(agent)) => agent.standing().0 == colo_user::failover::Standing::Protected,
            _ => false,
        })
    }
}

fn take(outbox: &mut Outbox) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !outbox.is_empty() {
        let before = bytes.len();
        outbox.slices().iter().for_each(|slice| bytes.extend_from_slice(slice));
        outbox.consume(bytes.len() - before);
    }
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// How long a client's question may take at most once all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

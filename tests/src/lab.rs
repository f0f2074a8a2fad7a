//! The light lab: two replicas of a real server on real Linux TCP stacks, the agents between them and a
//! client, all in network namespaces of one machine.
//!
//! In the order of a run: [`topology`] makes the namespaces, [`replica`] is the server both guests run,
//! [`agents`] starts and watches the two agents, [`load`] is what the client does and checks, [`capture`] is
//! what left toward the client, [`report`] is what a person reads, [`run`] joins them. The end-to-end tests
//! use the same parts.

pub mod agents;
pub mod capture;
pub mod child;
pub mod content;
pub mod leftovers;
pub mod load;
pub mod picture;
pub mod relay;
pub mod replica;
pub mod report;
pub mod run;
pub mod stage;
pub mod stop;
pub mod topology;
pub mod traffic;
pub mod witness;

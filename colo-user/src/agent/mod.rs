//! The agents: what joins data path, comparator or translator, link and checkpoint signals.
//!
//! By file: [`primary`] and [`secondary`] decide, without I/O; [`beat`] are the heartbeats over the link, [`heart`] those over others, and [`protection`] the words
//! for their outcome, [`reach`] what the peer's interfaces carry. [`packet`] is the one thread that owns data path and link and turns the core; [`run`] is the
//! control plane around it: connections, signals, control socket. [`status`] is what the control socket says, [`times`] how long things took.

pub mod beat;
pub mod heart;
pub mod packet;
pub mod place;
pub mod primary;
pub mod protection;
mod reach;
pub mod run;
pub mod secondary;
pub mod status;
pub mod times;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

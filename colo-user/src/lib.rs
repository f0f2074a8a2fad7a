//! The colo agent as a library.

pub mod agent;
pub mod announce;
pub mod checkpoint;
pub mod cli;
pub mod compare;
pub mod control;
pub mod datapath;
pub mod epoch;
pub mod failover;
pub mod heartbeat;
pub mod judge;
pub mod link;
pub mod mono;
pub mod output;
pub mod pcap;
pub mod process;
pub mod protect;
pub mod qmp;
#[cfg(test)]
mod random;
pub mod recent;
pub mod translate;
pub mod vm;
pub mod watchdog;
pub mod wire;

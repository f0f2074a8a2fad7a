//! The colo agent as a library.
// What is said goes through [`output`], which waits for no reader.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

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
pub mod path;
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

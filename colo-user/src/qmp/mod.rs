//! QEMU's machine protocol (QMP), as far as COLO needs it, written from QEMU's documentation and from what a stock 7.2
//! does: one JSON object a line, a greeting, commands with ids, events with wall-clock times.
//!
//! [`codec`] cuts lines into messages, [`command`] says them, [`event`] and [`state`] are what comes back, [`session`]
//! is the machine that owns no socket and no clock: bytes and `now` in, bytes, replies and notices out. [`client`] is the
//! shell around it for the control plane (tokio), [`monitor`] the one for a thread that polls by itself and must have read
//! its VM's events until empty before it decides a frame.
//!
//! A QEMU monitor takes one client at a time: colo needs a `-qmp` of its own. Other clients on other monitors are expected:
//! replies are matched by id, and a STOP or RESUME that an operator caused looks like any other.

pub mod client;
pub mod codec;
pub mod command;
pub mod event;
pub mod monitor;
pub mod session;
pub mod state;

pub use client::{Client, Notices, QmpError};
pub use command::{Command, Empty};
pub use event::{Event, EventKind};
pub use monitor::Monitor;
pub use session::{Failure, Gap, Notice};
pub use state::{ColoMode, ColoStatus, Migration, MigrationStatus, RunState, Snapshot, Status};

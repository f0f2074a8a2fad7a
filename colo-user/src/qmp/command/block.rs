//! The commands of replicated disks.
//!
//! The primary's disk is a quorum. Its second child is an NBD node, which writes to the export of the secondary's QEMU. (QEMU's
//! documentation puts a replication node between. In a primary it only fails what is written before COLO is entered.) A write to a secondary that is silent but not gone waits for ever, and so does every command that
//! waits for writes, [`quorum_remove`] first of all: QEMU's main loop, and with it the monitor, hangs. [`yank_block_node`] goes
//! before, out of band.

use serde_json::{Value, json};

use super::{Command, Empty, yank};
use crate::{
    link::endpoint::Address,
    qmp::state::{BlockNode, Job},
};

/// What the nodes of second children are called, each with a number after it. A write that fails there means that the
/// secondary's disk is stale ([`crate::qmp::EventKind::QuorumBad`]).
pub const CHILD_NODE: &str = "colo-nbd";

/// `nbd-server-start`: where the primary writes the replicated disks.
#[must_use]
pub fn nbd_server_start(address: &Address) -> Command<Empty> {
    let data = match address {
        Address::Unix(path) => json!({ "path": path }),
        Address::Tcp { host, port } => json!({ "host": host, "port": port.to_string() }),
    };
    let kind = if matches!(address, Address::Unix(_)) { "unix" } else { "inet" };
    Command::new("nbd-server-start", json!({ "addr": { "type": kind, "data": data } }))
}

/// `nbd-server-add`: a device that the server offers, writable.
#[must_use]
pub fn nbd_server_add(device: &str) -> Command<Empty> {
    Command::new("nbd-server-add", json!({ "device": device, "writable": true }))
}

/// `nbd-server-stop`: comes before a secondary with a replicated disk takes over.
#[must_use]
pub fn nbd_server_stop() -> Command<Empty> {
    Command::new("nbd-server-stop", Value::Null)
}

/// `blockdev-add` of an NBD node: another QEMU's export.
#[must_use]
pub fn add_nbd_node(node: &str, address: &Address, export: &str) -> Command<Empty> {
    let server = match address {
        Address::Unix(path) => json!({ "type": "unix", "path": path }),
        Address::Tcp { host, port } => json!({ "type": "inet", "host": host, "port": port.to_string() }),
    };
    Command::new(
        "blockdev-add",
        json!({ "driver": "nbd", "node-name": node, "server": server, "export": export }),
    )
}

/// `blockdev-del`: refused while another node uses it.
#[must_use]
pub fn delete_node(node: &str) -> Command<Empty> {
    Command::new("blockdev-del", json!({ "node-name": node }))
}

/// `query-named-block-nodes`, without what they are made of.
#[must_use]
pub fn query_block_nodes() -> Command<Vec<BlockNode>> {
    Command::new("query-named-block-nodes", json!({ "flat": true }))
}

/// `x-blockdev-change`: adds a node to a quorum.
#[must_use]
pub fn quorum_add(parent: &str, node: &str) -> Command<Empty> {
    Command::new("x-blockdev-change", json!({ "parent": parent, "node": node }))
}

/// `x-blockdev-change`: takes a child, such as `children.1`, out of a quorum. Waits for its writes: see the module.
#[must_use]
pub fn quorum_remove(parent: &str, child: &str) -> Command<Empty> {
    Command::new("x-blockdev-change", json!({ "parent": parent, "child": child }))
}

/// `yank` of a node's connection, out of band: its writes fail at once, those that hang too.
#[must_use]
pub fn yank_block_node(node: &str) -> Command<Empty> {
    yank(json!([{ "type": "block-node", "node-name": node }]))
}

/// `blockdev-mirror` of a whole device to a node, and of all that is written meanwhile: fills the disk of a new secondary.
/// The job is kept when it has ended, until [`dismiss_job`].
#[must_use]
pub fn mirror(device: &str, job: &str, target: &str) -> Command<Empty> {
    Command::new(
        "blockdev-mirror",
        json!({ "device": device, "job-id": job, "target": target, "sync": "full", "auto-dismiss": false }),
    )
}

/// `query-jobs`.
#[must_use]
pub fn query_jobs() -> Command<Vec<Job>> {
    Command::new("query-jobs", Value::Null)
}

/// `job-dismiss`: forgets a job that has ended.
#[must_use]
pub fn dismiss_job(job: &str) -> Command<Empty> {
    Command::new("job-dismiss", json!({ "id": job }))
}

/// `block-job-cancel`. A mirror that is ready ends with an equal target, unless it is forced or has an error; it has
/// ended when it is concluded.
#[must_use]
pub fn block_job_cancel(job: &str, force: bool) -> Command<Empty> {
    Command::new("block-job-cancel", json!({ "device": job, "force": force }))
}

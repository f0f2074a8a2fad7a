//! One watchdog at work: its machine, its nodes' events, its timer.
//!
//! Dropping the future of [`Shell::run`] closes every connection and listener and kills the command of a timeout.
//!
//! A process that was not run for a while finds its timer over and the peer's frames unread. So a timer that is later than [`STALL`]
//! waits another [`GRACE`], in which what has come is read, before anybody is given up.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::action::Action as Deed;
use super::config::{self, Exec, OnTimeout, Spec};
use super::node::{self, Event, Node, Numbers};
use super::report::Report;
use crate::mono::Mono;
use crate::watchdog::{Action, Machine, PeerId, State};

/// Events that wait; connections wait with further ones, and so do their peers.
const EVENTS: usize = 64;
/// A timer later than this was not a matter of rounding.
const STALL: Duration = Duration::from_millis(20);
/// Enough to read what lies in the sockets.
const GRACE: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct Shell {
    spec: Spec,
    report: Report,
    reload: watch::Receiver<()>,
    awd: Node,
    notification: Option<Node>,
    script: Bytes,
    deed: Option<Deed>,
}

impl Shell {
    /// Reads the script and listens where it is to. To be called inside a runtime.
    pub fn open(spec: Spec, report: Report, reload: watch::Receiver<()>) -> Result<Self> {
        let script = spec.opt_script.as_deref().map(config::script).transpose()?.unwrap_or_default();
        let deed = deed(&spec)?;
        let open = |name: &str, endpoint| {
            let (node, address) = Node::open(endpoint)?;
            if let Some(address) = address {
                info!("{}: {name} listens on {address}", spec.name);
                report.say("listening", json!({ "node": name, "address": address }));
            }
            anyhow::Ok(node)
        };
        let awd = open("awd_node", &spec.awd_node)?;
        let notification = spec
            .notification_node
            .as_ref()
            .map(|endpoint| open("notification_node", endpoint))
            .transpose()?;
        if spec.timeout <= spec.pulse_interval {
            warn!(
                "{}: a timeout of {} ms is not longer than a pulse interval of {} ms: a healthy peer with the same settings is lost between two pulses",
                spec.name, spec.timeout, spec.pulse_interval
            );
        }
        Ok(Self { spec, report, reload, awd, notification, script, deed })
    }

    /// Watches for ever.
    pub async fn run(self) {
        let Self { spec, report, mut reload, awd, notification, script, deed } = self;
        let (sender, mut events) = mpsc::channel(EVENTS);
        let numbers = Numbers::default();
        let mut nodes = JoinSet::new();
        for (node, is_awd) in [(Some(awd), true), (notification, false)] {
            let Some(node) = node else { continue };
            let (numbers, sender) = (numbers.clone(), sender.clone());
            if is_awd {
                nodes.spawn(node.run(move |stream| node::peer(stream, numbers.clone(), sender.clone())));
            } else {
                nodes.spawn(
                    node.run(move |stream| node::notification(stream, numbers.clone(), sender.clone())),
                );
            }
        }
        let machine = Machine::new(spec.settings(), Mono::now());
        report.say("state", json!({ "was": null, "state": machine.state().text(), "silent_ms": 0 }));
        let mut watch = Watch {
            spec,
            report,
            machine,
            script,
            deed,
            peers: HashMap::new(),
            notification: None,
            newer: None,
            command: None,
            actions: Vec::new(),
        };
        let mut batch = Vec::with_capacity(EVENTS);
        loop {
            let due = watch.machine.next_deadline();
            tokio::select! {
                biased;
                Ok(()) = reload.changed() => watch.read_scripts(),
                _ = events.recv_many(&mut batch, EVENTS) => {}
                () = sleep(due.saturating_since(Mono::now())) => {}
            }
            watch.take(&mut batch);
            let now = Mono::now();
            if due <= now {
                if now.saturating_since(due) > STALL {
                    sleep(GRACE).await;
                    while let Ok(event) = events.try_recv() {
                        batch.push(event);
                        if batch.len() == EVENTS {
                            break;
                        }
                    }
                    watch.take(&mut batch);
                }
                watch.machine.tick(Mono::now(), &mut watch.actions);
                watch.act();
            }
        }
    }
}

/// A connection of the peer, and frames it did not read.
#[derive(Debug)]
struct Peer {
    bodies: mpsc::Sender<&'static [u8]>,
    name: String,
    unsent: u64,
}

/// A connection of the notification node.
#[derive(Debug)]
struct Notification {
    id: u64,
    /// None once a newer one is there: that ends it.
    scripts: Option<mpsc::Sender<Bytes>>,
    name: String,
}

/// What [`Shell::run`] owns beside its channels.
struct Watch {
    spec: Spec,
    report: Report,
    machine: Machine,
    script: Bytes,
    /// What else is done at a timeout.
    deed: Option<Deed>,
    peers: HashMap<PeerId, Peer>,
    notification: Option<Notification>,
    /// Waits until the older connection has told whether its script was written.
    newer: Option<Notification>,
    command: Option<JoinHandle<()>>,
    actions: Vec<Action>,
}

impl Watch {
    fn take(&mut self, batch: &mut Vec<Event>) {
        for event in batch.drain(..) {
            self.event(event);
            self.act();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::PeerUp(id, bodies, name) => {
                self.connected("awd_node", &name);
                self.peers.insert(id, Peer { bodies, name, unsent: 0 });
                self.machine.peer_up(id, Mono::now(), &mut self.actions);
            }
            Event::Frame(id, head) => self.machine.frame(id, &head, Mono::now(), &mut self.actions),
            Event::PeerDown(id, reason) => {
                self.machine.peer_down(id);
                if let Some(peer) = self.peers.remove(&id) {
                    self.disconnected("awd_node", &peer.name, &reason, peer.unsent);
                }
            }
            Event::NotificationUp(id, scripts, name) => {
                self.connected("notification_node", &name);
                let scripts = Some(scripts);
                self.newer = Some(Notification { id, scripts, name });
                match &mut self.notification {
                    Some(older) => older.scripts = None,
                    None => self.promote(),
                }
            }
            Event::ScriptWritten(id) => {
                if self.notification.as_ref().is_some_and(|node| node.id == id) {
                    let bytes = self.script.len();
                    warn!(
                        "{}: the script is written to the notification node, {bytes} bytes",
                        self.spec.name
                    );
                    self.report.say("script_written", json!({ "bytes": bytes }));
                    self.machine.script_written(&mut self.actions);
                }
            }
            Event::NotificationDown(id, reason) => {
                if let Some(node) = self.notification.take_if(|node| node.id == id) {
                    self.disconnected("notification_node", &node.name, &reason, 0);
                    self.machine.notification_down();
                    self.promote();
                } else if let Some(node) = self.newer.take_if(|node| node.id == id) {
                    self.disconnected("notification_node", &node.name, &reason, 0);
                }
            }
        }
    }

    fn promote(&mut self) {
        self.notification = self.newer.take();
        if self.notification.is_some() {
            self.machine.notification_up(&mut self.actions);
        }
    }

    fn connected(&self, node: &str, peer: &str) {
        info!("{}: {node}: {peer} is connected", self.spec.name);
        self.report.say("connected", json!({ "node": node, "peer": peer }));
    }

    fn disconnected(&self, node: &str, peer: &str, reason: &str, unsent: u64) {
        info!("{}: {node}: {peer} is gone: {reason}", self.spec.name);
        let line = json!({ "node": node, "peer": peer, "reason": reason, "unsent": unsent });
        self.report.say("disconnected", line);
    }

    fn act(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send(id, body) => {
                    if let Some(peer) = self.peers.get_mut(&id)
                        && peer.bodies.try_send(body).is_err()
                    {
                        peer.unsent += 1;
                    }
                }
                Action::Close(id) => {
                    if let Some(peer) = self.peers.remove(&id) {
                        self.disconnected("awd_node", &peer.name, "closed for a newer one", peer.unsent);
                    }
                }
                Action::Script => self.send_script(),
                Action::Changed { from, to, silent } => self.changed(from, to, silent),
            }
        }
    }

    fn send_script(&self) {
        let sender = self.notification.as_ref().and_then(|node| node.scripts.as_ref());
        // A connection that has just ended tells so next, and the script goes to the one after it.
        let _ = sender.map(|scripts| scripts.try_send(self.script.clone()));
    }

    fn changed(&mut self, from: State, to: State, silent: Duration) {
        let (name, was, is) = (&self.spec.name, from.text(), to.text());
        match to {
            State::TimedOut if self.notification.is_none() && self.spec.notification_node.is_some() => {
                error!(
                    "{name}: nothing heard for {silent:.1?}: timed out; the script waits for the notification node"
                );
            }
            State::TimedOut => error!("{name}: nothing heard for {silent:.1?}: timed out"),
            State::Late => warn!("{name}: nothing heard for {silent:.1?}: late"),
            State::Alive | State::NeverSeen => info!("{name}: heard after {silent:.1?}, was {was}"),
        }
        let line = json!({ "was": was, "state": is, "silent_ms": silent.as_millis(), "not_owed": self.machine.not_owed() });
        self.report.say("state", line);
        if to == State::TimedOut
            && let Some(deed) = &self.deed
        {
            if self.command.as_ref().is_some_and(|running| !running.is_finished()) {
                error!("{name}: the command of the timeout before still runs; it is not started again");
                self.report.say("command", json!({ "outcome": "skipped: the one before still runs" }));
            } else {
                let (name, report) = (name.clone(), self.report.clone());
                self.command = Some(tokio::spawn(deed.clone().run(name, silent, report)));
            }
        }
    }

    fn read_scripts(&mut self) {
        self.read_script();
        if self.spec.qmp_script.is_none() {
            return;
        }
        match deed(&self.spec) {
            Ok(deed) => {
                info!("{}: the commands are read again", self.spec.name);
                self.report
                    .say("commands_read", json!({ "commands": deed.as_ref().map_or(0, Deed::commands) }));
                self.deed = deed;
            }
            Err(error) => {
                error!("{}: {error:#}; those before stay", self.spec.name);
                self.report.say("commands_read", json!({ "error": format!("{error:#}") }));
            }
        }
    }

    fn read_script(&mut self) {
        let Some(path) = &self.spec.opt_script else { return };
        match config::script(path) {
            Ok(script) => {
                info!("{}: the script is read again, {} bytes", self.spec.name, script.len());
                self.report.say("script_read", json!({ "bytes": script.len() }));
                self.script = script;
            }
            Err(error) => {
                error!("{}: {error:#}; the one before stays", self.spec.name);
                self.report.say("script_read", json!({ "error": format!("{error:#}") }));
            }
        }
    }
}

/// Reads what a timeout needs.
fn deed(spec: &Spec) -> Result<Option<Deed>> {
    Ok(match (&spec.on_timeout, &spec.qmp_script) {
        (Some(OnTimeout::Exec(Exec(command))), _) => Some(Deed::Exec(command.clone())),
        (Some(OnTimeout::Qmp(monitor)), Some(file)) => {
            Some(Deed::Qmp(monitor.clone(), config::commands(file)?))
        }
        _ => None,
    })
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(command) = &self.command {
            command.abort();
        }
    }
}

//! The QMP client, in both its shells, against a real QEMU without a machine in it.

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use colo_tests::{
    lab::child::{Programs, Tethered},
    netns::Netns,
};
use colo_user::{
    link::endpoint::{Address, Endpoint},
    mono::Mono,
    qmp::{
        Client, ColoMode, EventKind, Failure, Monitor, Notice, Notices, Snapshot, client::BACKOFF_MAX,
        command, monitor::Heard, session::HANDSHAKE,
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

/// Anything that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// A QEMU with two monitors, and a socket chardev that can be yanked.
struct Qemu {
    process: Tethered,
    namespace: Netns,
    directory: TempDir,
}

impl Qemu {
    fn start() -> Self {
        let namespace = Netns::new("colo-qmp").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let process = run(&namespace, directory.path());
        Self { process, namespace, directory }
    }

    fn start_again(&mut self) {
        self.process = run(&self.namespace, self.directory.path());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn monitor(&self, name: &str) -> Endpoint {
        Endpoint { address: Address::Unix(self.path(name)), server: false }
    }

    async fn open(&self, name: &str) -> (Client, Notices, Snapshot) {
        let (client, mut notices) = Client::open(self.monitor(name));
        match next(&mut notices).await {
            Notice::Up { snapshot, gap: None } => (client, notices, snapshot),
            other => panic!("{other:?}"),
        }
    }
}

fn run(namespace: &Netns, directory: &Path) -> Tethered {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let socket = |name: &str| format!("{},server=on,wait=off", directory.join(name).display());
    let arguments = [
        "-machine".to_owned(),
        "none".to_owned(),
        "-nodefaults".to_owned(),
        "-display".to_owned(),
        "none".to_owned(),
        "-qmp".to_owned(),
        format!("unix:{}", socket("first")),
        "-qmp".to_owned(),
        format!("unix:{}", socket("second")),
        "-chardev".to_owned(),
        format!("socket,id=wire,path={}", socket("wire")),
    ];
    let qemu = Path::new("qemu-system-x86_64");
    Tethered::start(&programs, namespace, qemu, &arguments, &directory.join("log"), false).unwrap()
}

async fn next(notices: &mut Notices) -> Notice {
    timeout(PATIENCE, notices.next()).await.expect("a notice in time").expect("the client lives")
}

async fn event(notices: &mut Notices) -> EventKind {
    match next(notices).await {
        Notice::Event(event) => {
            assert!(event.at.is_some(), "{event:?} has a time");
            event.kind
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handshake_and_refusals_that_name_everything() {
    let qemu = Qemu::start();
    let (client, _notices, snapshot) = qemu.open("first").await;
    assert!(snapshot.status.running);
    assert_eq!((snapshot.migration, snapshot.colo.mode), (None, ColoMode::None));
    assert!(!snapshot.in_colo());

    client.call(command::set_capabilities(&[("x-colo", true), ("events", true)])).await.unwrap();
    let capabilities = client.call(command::query_capabilities()).await.unwrap();
    for (name, on) in [("x-colo", true), ("events", true), ("postcopy-ram", false)] {
        assert!(capabilities.iter().any(|c| c.name == name && c.on == on), "{name} in {capabilities:?}");
    }
    let delay = Duration::from_secs(2);
    client.call(command::set_checkpoint_delay(delay)).await.unwrap();
    assert_eq!(client.call(command::query_parameters()).await.unwrap().checkpoint_delay(), delay);
    assert_eq!(client.call(command::query_migrate()).await.unwrap().status, None);
    assert!(client.call(command::human("info version")).await.unwrap().starts_with('7'));

    let error = client.call(command::set_capabilities(&[("x-sideways", true)])).await.unwrap_err();
    assert!(matches!(error.failure(), Some(Failure::Refused(_))), "{error:?}");
    let error = error.to_string();
    let socket = qemu.path("first").display().to_string();
    for part in [socket.as_str(), "`migrate-set-capabilities`", "GenericError", "x-sideways"] {
        assert!(error.contains(part), "{error} names {part}");
    }
    for refused in [command::lost_heartbeat(), command::nbd_server_stop(), command::nbd_server_add("none")] {
        let error = client.call(refused).await.unwrap_err();
        assert!(matches!(error.failure(), Some(Failure::Refused(_))), "{error:?}");
    }
}

/// What QEMU refuses here for want of disks and guests is not refused for its form.
#[tokio::test]
async fn the_block_commands_have_the_form_that_qemu_wants() {
    let qemu = Qemu::start();
    let (client, _notices, _) = qemu.open("first").await;
    let local = Address::Tcp { host: "127.0.0.1".to_owned(), port: 10_809 };
    let socket = Address::Unix(qemu.path("nbd"));
    for nobody in [&local, &socket] {
        let error =
            client.call(command::add_nbd_node("node", nobody, "parent0")).await.unwrap_err().to_string();
        assert!(error.contains("onnect"), "{nobody:?}: {error}");
    }
    client.call(command::nbd_server_start(&local)).await.unwrap();
    for (refused, why) in [
        (command::delete_node("absent0"), "absent0"),
        (command::nbd_server_add("parent0"), "parent0"),
        (command::quorum_add("colo-disk0", "replication0"), "colo-disk0"),
        (command::quorum_remove("colo-disk0", "children.1"), "colo-disk0"),
        (command::mirror("colo-disk0", "sync", "absent0"), "colo-disk0"),
        (command::block_job_cancel("sync", true), "sync"),
        (command::dismiss_job("sync"), "not found"),
        (command::yank_block_node("absent0"), "Instance not found"),
    ] {
        let name = refused.call.name.clone();
        let error = client.call(refused).await.unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("arameter"), "{name}: {error}");
    }
    client.call(command::nbd_server_stop()).await.unwrap();
    client.call(command::nbd_server_start(&socket)).await.unwrap();
    client.call(command::nbd_server_stop()).await.unwrap();
    assert_eq!(client.call(command::query_jobs()).await.unwrap(), []);
    assert_eq!(client.call(command::query_block_nodes()).await.unwrap(), []);
    client.call(command::migrate_cancel()).await.unwrap();
    assert!(client.call(command::query_version()).await.unwrap().to_string().starts_with("7."));
    let printed = client.call(command::human("drive_del replication0")).await.unwrap();
    assert!(printed.contains("replication0"), "{printed}");
}

#[tokio::test]
async fn a_stopped_qemu_costs_the_command_its_limit_and_nothing_else() {
    let qemu = Qemu::start();
    let (client, _notices, _) = qemu.open("first").await;
    qemu.process.signal(Signal::STOP).unwrap();
    let limit = Duration::from_secs(2);
    let error = client.call(command::query_status().within(limit)).await.unwrap_err();
    assert_eq!(error.failure(), Some(&Failure::TimedOut { limit, sent: true }));
    assert!(error.to_string().contains("`query-status`: no answer within 2s"), "{error}");
    qemu.process.signal(Signal::CONT).unwrap();
    // The answer that comes late is not taken for that of the next command.
    assert_eq!(client.call(command::query_migrate().within(PATIENCE)).await.unwrap().status, None);
    assert!(client.call(command::query_status()).await.unwrap().running);
}

#[tokio::test]
async fn a_restarted_qemu_is_found_again_and_the_gap_is_told() {
    let mut qemu = Qemu::start();
    let (client, mut notices, _) = qemu.open("first").await;
    client.call(command::stop()).await.unwrap();
    assert_eq!(event(&mut notices).await, EventKind::Stop);
    qemu.process.kill();
    assert!(matches!(next(&mut notices).await, Notice::Down { .. }));
    let error = client.call(command::query_status()).await.unwrap_err();
    assert!(matches!(error.failure(), Some(Failure::Down { sent: false, .. })), "{error}");
    qemu.start_again();
    let Notice::Up { snapshot, gap: Some(gap) } = next(&mut notices).await else { panic!("no gap") };
    assert!(snapshot.status.running);
    assert!(!gap.before.status.running, "{gap:?}");
    assert!(!gap.epochs_in_doubt, "it was never in COLO");
    assert!(gap.until.saturating_since(gap.since) < PATIENCE + BACKOFF_MAX);
    client.call(command::query_status()).await.unwrap();
}

#[tokio::test]
async fn two_clients_on_two_monitors_get_their_own_replies_and_all_events() {
    let qemu = Qemu::start();
    let (first, mut first_notices, _) = qemu.open("first").await;
    let (second, mut second_notices, _) = qemu.open("second").await;
    for _ in 0..20 {
        let (stopped, looked) =
            tokio::join!(first.call(command::stop()), second.call(command::query_status()));
        stopped.unwrap();
        looked.unwrap();
        let (running, looked) =
            tokio::join!(second.call(command::cont()), first.call(command::query_migrate()));
        running.unwrap();
        assert_eq!(looked.unwrap().status, None);
        for notices in [&mut first_notices, &mut second_notices] {
            assert_eq!(event(notices).await, EventKind::Stop);
            assert_eq!(event(notices).await, EventKind::Resume);
        }
    }
}

#[tokio::test]
async fn a_monitor_that_another_client_holds_is_named() {
    let qemu = Qemu::start();
    let (holder, _notices, _) = qemu.open("first").await;
    let (client, mut notices) = Client::open(qemu.monitor("first"));
    tokio::time::sleep(HANDSHAKE + BACKOFF_MAX).await;
    let error = client.call(command::query_status()).await.unwrap_err().to_string();
    assert!(error.contains("give the VM a -qmp of its own"), "{error}");
    drop(holder);
    assert!(matches!(next(&mut notices).await, Notice::Up { gap: None, .. }));
}

#[tokio::test]
async fn a_yank_goes_out_of_band() {
    let qemu = Qemu::start();
    let (client, _notices, _) = qemu.open("first").await;
    let error = client.call(command::yank_migration()).await.unwrap_err();
    assert!(matches!(error.failure(), Some(Failure::Refused(_))), "there is no migration to yank: {error}");
    let mut wire = UnixStream::connect(qemu.path("wire")).unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    // QEMU has accepted once it answers what was asked after.
    client.call(command::query_status()).await.unwrap();
    client.call(command::yank(json!([{ "type": "chardev", "id": "wire" }]))).await.unwrap();
    assert_eq!(wire.read(&mut [0; 16]).unwrap(), 0, "the yanked connection is closed");
}

/// What a packet thread relies on: once anybody knows that the VM was stopped, one service call hears of it.
#[test]
fn a_polled_monitor_has_heard_all_that_happened_before() {
    let mut qemu = Qemu::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (operator, _notices, _) = runtime.block_on(qemu.open("second"));
    let mut monitor = Monitor::new(qemu.monitor("first")).unwrap();
    let is_up = |heard: &Heard| matches!(heard, Heard::Notice(Notice::Up { .. }));
    until(&mut monitor, is_up);
    for _ in 0..50 {
        runtime.block_on(operator.call(command::stop())).unwrap();
        assert_eq!(events(&mut monitor), [EventKind::Stop]);
        runtime.block_on(operator.call(command::cont())).unwrap();
        runtime.block_on(operator.call(command::stop())).unwrap();
        runtime.block_on(operator.call(command::cont())).unwrap();
        assert_eq!(events(&mut monitor), [EventKind::Resume, EventKind::Stop, EventKind::Resume]);
    }

    let limit = Duration::from_secs(2);
    qemu.process.signal(Signal::STOP).unwrap();
    let ticket = monitor.give(Mono::now(), command::query_status().within(limit).call, &mut Vec::new());
    let outcome = until(&mut monitor, |heard| matches!(heard, Heard::Reply { .. }));
    assert_eq!(outcome, Heard::Reply { ticket, outcome: Err(Failure::TimedOut { limit, sent: true }) });
    qemu.process.kill();
    until(&mut monitor, |heard| matches!(heard, Heard::Notice(Notice::Down { .. })));
    qemu.start_again();
    let up = until(&mut monitor, is_up);
    assert!(matches!(up, Heard::Notice(Notice::Up { gap: Some(_), .. })), "{up:?}");
}

/// What one service call hears.
fn events(monitor: &mut Monitor) -> Vec<EventKind> {
    let mut heard = Vec::new();
    monitor.service(Mono::now(), &mut heard);
    let kind = |heard: Heard| match heard {
        Heard::Notice(Notice::Event(event)) => event.kind,
        other => panic!("{other:?}"),
    };
    heard.into_iter().map(kind).collect()
}

/// Polls until something is heard that is `wanted`, and returns it.
fn until(monitor: &mut Monitor, wanted: impl Fn(&Heard) -> bool) -> Heard {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let mut heard = Vec::new();
        monitor.service(Mono::now(), &mut heard);
        if let Some(found) = heard.into_iter().find(&wanted) {
            return found;
        }
        let left = monitor.next_deadline().map_or(PATIENCE, |at| at.saturating_since(Mono::now()));
        let look = Timespec::try_from(left.min(PATIENCE)).unwrap();
        match monitor.poll() {
            Some((fd, write)) => {
                let flags = if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&look)).unwrap();
            }
            None => std::thread::sleep(left),
        }
    }
    panic!("nothing of that kind within {PATIENCE:?}");
}

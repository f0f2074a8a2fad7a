//! The real pair with nobody between: plain kernel bridges are the path. What fails with the agents between and passes here
//! is theirs.
//!
//! The secondary's guest gets no input here, so its state is that of the last checkpoint: connections that were idle since
//! then outlive the primary, and only these.

use std::time::{Duration, Instant};

use colo_tests::{
    lab::{
        child::Programs,
        topology::{SERVER_V4, SERVER_V6, UPLINK},
    },
    pair::{
        line::Line,
        stage::{Followed, Pair, cache},
    },
};
use colo_user::qmp::{ColoMode, EventKind, MigrationStatus, Notice, RunState, Snapshot, command};

/// No periodic checkpoint falls into the test.
const NEVER: Duration = Duration::from_secs(3600);
/// Checkpoints forced one after the other.
const CHECKPOINTS: usize = 5;

#[test]
fn checkpoints_on_request_and_a_takeover_that_keeps_connections() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let begun = Instant::now();
    let mut pair = Pair::boot(&programs, &cache(&programs.lab)).unwrap();
    println!("boot: {:?}", begun.elapsed());
    pair.topology.forward_plain().unwrap();
    pair.topology.secondary.forward_plain().unwrap();
    fence(&pair.topology.secondary.netns);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

    let mut lines = vec![Line::open(&pair.topology, SERVER_V4), Line::open(&pair.topology, SERVER_V6)];
    lines.push(Line::accept(&pair.topology, SERVER_V4));
    lines.iter_mut().for_each(Line::ask);

    runtime.block_on(async {
        let (mut primary, snapshot) = Followed::open("primary", &pair.primary).await.unwrap();
        assert!(snapshot.status.running && !snapshot.in_colo(), "{snapshot:?}");
        let (mut secondary, snapshot) = Followed::open("secondary", &pair.secondary).await.unwrap();
        assert_eq!(snapshot.status.status, RunState::Inmigrate);
        let begun = Instant::now();
        pair.protect(&mut primary, &mut secondary, NEVER).await.unwrap();
        println!("COLO entered: {:?}", begun.elapsed());
        let side = |side: Snapshot| (side.status.running, side.migration, side.colo.mode);
        let colo = Some(MigrationStatus::Colo);
        assert_eq!(side(look(&primary).await), (true, colo, ColoMode::Primary));
        assert_eq!(side(look(&secondary).await), (true, colo, ColoMode::Secondary));

        lines.iter_mut().for_each(Line::ask);
        for _ in 0..CHECKPOINTS {
            checkpoint(&mut primary, &mut secondary).await;
            lines.iter_mut().for_each(Line::ask);
        }
        // The last answers are acknowledged before the state is taken that is gone on from.
        tokio::time::sleep(Duration::from_millis(500)).await;
        checkpoint(&mut primary, &mut secondary).await;

        let killed = Instant::now();
        pair.primary.process().kill();
        assert!(matches!(primary.next().await.unwrap(), Notice::Down { .. }));
        secondary
            .until(|kind| matches!(kind, EventKind::ColoExit { mode: ColoMode::Secondary, .. }))
            .await
            .unwrap();
        assert!(look(&secondary).await.status.running, "COLO_EXIT leaves the guest running");
        fence(&pair.topology.primary.netns);
        pair.topology.secondary.netns.run(&format!("ip link set {UPLINK} up")).unwrap();
        secondary.client.call(command::lost_heartbeat()).await.unwrap();
        for wanted in [EventKind::Stop, EventKind::Migration(MigrationStatus::Completed), EventKind::Resume] {
            secondary.until(|kind| *kind == wanted).await.unwrap();
        }
        println!("takeover: {:?} after the kill", killed.elapsed());
        let alone = look(&secondary).await;
        assert_eq!(side(alone), (true, Some(MigrationStatus::Completed), ColoMode::None));
        assert_eq!(alone.colo.last_mode, ColoMode::Secondary);
    });

    lines.iter_mut().for_each(Line::ask);
    for server in [SERVER_V4, SERVER_V6] {
        Line::open(&pair.topology, server).ask();
    }
    println!("all: {:?}", begun.elapsed());
}

/// Asks for one checkpoint and sees both sides through it, in the order that QEMU keeps: the secondary stops first
/// and runs first.
async fn checkpoint(primary: &mut Followed, secondary: &mut Followed) {
    let asked = Instant::now();
    primary.client.call(command::set_checkpoint_delay(NEVER)).await.unwrap();
    let stops = (stop(secondary).await, stop(primary).await);
    let resumes = (resume(secondary).await, resume(primary).await);
    println!(
        "checkpoint: request to RESUME {:?}, STOP to RESUME {:?}",
        asked.elapsed(),
        resumes.1.saturating_sub(stops.1)
    );
    assert!(stops.0 <= stops.1, "the primary stopped first: {stops:?}");
    assert!(stops.1 < resumes.0, "the secondary resumed before the primary stopped: {stops:?} {resumes:?}");
    assert!(resumes.0 <= resumes.1, "the primary resumed first: {resumes:?}");
}

/// The next STOP; a RESUME before it belongs to a checkpoint that nobody asked for.
async fn stop(side: &mut Followed) -> Duration {
    let next = |kind: &EventKind| matches!(kind, EventKind::Stop | EventKind::Resume);
    side.until(next).await.unwrap()
}

async fn resume(side: &mut Followed) -> Duration {
    side.until(|kind| *kind == EventKind::Resume).await.unwrap()
}

async fn look(side: &Followed) -> Snapshot {
    let status = side.client.call(command::query_status()).await.unwrap();
    let migration = side.client.call(command::query_migrate()).await.unwrap().status;
    let colo = side.client.call(command::query_colo_status()).await.unwrap();
    Snapshot { status, migration, colo }
}

/// Takes a host off the client's network.
fn fence(host: &colo_tests::netns::Netns) {
    host.run(&format!("ip link set {UPLINK} down")).unwrap();
}

//! The checkpoint backend `qmp:` on a real pair: what it asks for comes once, what was not copied is never reported.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use colo_tests::{
    lab::child::Programs,
    pair::stage::{Followed, Pair, cache},
};
use colo_user::{
    checkpoint::{OnCheckpoint, Request, Signals},
    epoch::Epoch,
    qmp::{EventKind, Notice, command},
};

/// No periodic checkpoint falls into the test.
const NEVER: Duration = Duration::from_secs(3600);
/// What did not happen in this time will not.
const QUIET: Duration = Duration::from_millis(500);

#[test]
fn forced_checkpoints_are_reported_and_an_operators_stop_is_not() {
    let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
    let pair = Pair::boot(&programs, &cache(&programs.lab)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let reported = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&reported);
        let on_checkpoint: OnCheckpoint = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let spec = format!("qmp:{}", pair.primary.agent_monitor()).parse().unwrap();
        let signals = Signals::start(vec![spec], &on_checkpoint).unwrap();
        let (mut primary, _) = Followed::open("primary", &pair.primary).await.unwrap();
        let (mut secondary, _) = Followed::open("secondary", &pair.secondary).await.unwrap();

        pair.protect(&mut primary, &mut secondary, NEVER).await.unwrap();
        quiet(&mut primary).await;
        assert_eq!(reported.load(Ordering::SeqCst), 1, "the first state");

        let request = Request { kind: "payload", text: "differs".into(), epoch: Epoch(1), divergence: None };
        for n in 2..=4 {
            signals.ask(&request);
            for wanted in [EventKind::Stop, EventKind::Resume] {
                primary.until(|kind| *kind == wanted).await.unwrap();
            }
            quiet(&mut primary).await;
            assert_eq!(reported.load(Ordering::SeqCst), n, "{:?}", signals.counters());
        }
        let delay = primary.client.call(command::query_parameters()).await.unwrap().checkpoint_delay();
        assert_eq!(delay, NEVER, "the operator's delay is left as it was");

        primary.client.call(command::stop()).await.unwrap();
        primary.until(|kind| *kind == EventKind::Stop).await.unwrap();
        primary.client.call(command::cont()).await.unwrap();
        primary.until(|kind| *kind == EventKind::Resume).await.unwrap();
        quiet(&mut primary).await;
        assert_eq!(reported.load(Ordering::SeqCst), 4, "an operator's stop and cont");
    });
}

/// Nothing more stops or resumes for a while.
async fn quiet(side: &mut Followed) {
    while let Ok(notice) = tokio::time::timeout(QUIET, side.next()).await {
        match notice.unwrap() {
            Notice::Event(event) if matches!(event.kind, EventKind::Stop | EventKind::Resume) => {
                panic!("{}: {event:?} although nobody asked for it", side.name)
            }
            Notice::Event(_) => {}
            other => panic!("{}: {other:?}", side.name),
        }
    }
}

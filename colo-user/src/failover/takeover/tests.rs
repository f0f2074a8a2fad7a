use super::*;
use crate::qmp::codec::ErrorReply;
use serde_json::json;
use std::borrow::Cow;

const LIMIT: Duration = Duration::from_secs(2);

/// The names of the commands given, and the step of the last.
fn given(out: &mut Vec<Order>) -> (Vec<&'static str>, Step) {
    let mut last = Step::Push;
    let names = out
        .drain(..)
        .map(|order| match order {
            Order::Command(step, call) => {
                last = step;
                let Cow::Borrowed(name) = call.name else { panic!("{call:?}") };
                name
            }
            other => panic!("{other:?}"),
        })
        .collect();
    (names, last)
}

fn refused() -> Failure {
    Failure::Refused(ErrorReply { class: "GenericError".into(), desc: "no".into() })
}

fn at(millis: u64) -> Mono {
    Mono::from_millis(millis)
}

#[test]
fn the_disk_comes_first_then_the_heartbeat_then_it_looks_until_the_guest_runs() {
    let (mut out, before) = (Vec::new(), vec![command::nbd_server_stop().call]);
    let mut takeover = Takeover::begin(at(0), before, LIMIT, &mut out);
    assert_eq!(given(&mut out), (vec!["nbd-server-stop"], Step::Before(0)));
    assert!(!takeover.done(at(1), Step::Before(0), &Err(refused()), &mut out), "QEMU may have no server");
    assert_eq!(given(&mut out), (vec!["x-colo-lost-heartbeat"], Step::LostHeartbeat));
    assert!(!takeover.done(at(2), Step::LostHeartbeat, &Ok(json!({})), &mut out));
    assert_eq!(given(&mut out), (vec!["query-colo-status"], Step::Mode));
    // A failover during a load is put off: the mode says so.
    let in_colo = Ok(json!({ "mode": "secondary", "last-mode": "none", "reason": "processing" }));
    assert!(!takeover.done(at(3), Step::Mode, &in_colo, &mut out));
    assert!(out.is_empty());
    assert_eq!(takeover.next_deadline(), at(3) + LOOK);
    takeover.tick(at(13), &mut out);
    assert_eq!(given(&mut out), (vec!["query-colo-status"], Step::Mode));
    let left = Ok(json!({ "mode": "none", "last-mode": "secondary", "reason": "request" }));
    assert!(!takeover.done(at(14), Step::Mode, &left, &mut out));
    assert_eq!(given(&mut out), (vec!["query-status"], Step::Runs));
    let stopped = Ok(json!({ "running": false, "status": "colo" }));
    assert!(!takeover.done(at(15), Step::Runs, &stopped, &mut out));
    takeover.tick(at(25), &mut out);
    let runs = Ok(json!({ "running": true, "status": "running" }));
    assert!(!takeover.done(at(26), Step::Mode, &runs, &mut out), "an answer to another step");
    assert!(takeover.done(at(26), Step::Runs, &runs, &mut out));
}

#[test]
fn what_hangs_is_yanked_and_tried_again_and_what_stays_stopped_is_continued() {
    let mut out = Vec::new();
    let mut takeover = Takeover::begin(at(0), Vec::new(), LIMIT, &mut out);
    assert_eq!(given(&mut out).0, ["x-colo-lost-heartbeat"]);
    takeover.tick(at(1999), &mut out);
    assert!(out.is_empty());
    takeover.tick(at(2000), &mut out);
    assert_eq!(given(&mut out).0, ["yank", "x-colo-lost-heartbeat"]);
    // QEMU has done it meanwhile, and refuses to do it again.
    assert!(!takeover.done(at(2001), Step::LostHeartbeat, &Err(refused()), &mut out));
    assert!(!takeover.done(at(2002), Step::Mode, &Ok(json!({ "mode": "none" })), &mut out));
    out.clear();
    assert!(!takeover.done(
        at(2003),
        Step::Runs,
        &Ok(json!({ "running": false, "status": "paused" })),
        &mut out
    ));
    takeover.tick(at(4000), &mut out);
    assert_eq!(given(&mut out).0, ["yank", "cont", "x-colo-lost-heartbeat"]);
}

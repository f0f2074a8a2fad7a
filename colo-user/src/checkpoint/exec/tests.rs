use super::*;
use crate::checkpoint::Request;
use crate::compare::{Cause, Comparator, Limits, Policy, Token};
use crate::epoch::Epoch;
use crate::mono::Mono;
use std::path::Path;

fn serve(command: String, limit: Duration) -> (Arc<Mailbox>, tokio::task::JoinHandle<()>) {
    let mailbox = Arc::new(Mailbox::default());
    let exec = Exec::new(command).timed(limit, Duration::from_millis(50));
    let serving = Box::new(exec).serve(Arc::clone(&mailbox), Arc::new(|| {}));
    (mailbox, tokio::spawn(serving))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 20 s");
}

fn count(mailbox: &Mailbox, name: &str) -> u64 {
    mailbox.counters().get(name).copied().unwrap_or_default()
}

/// A divergence as the comparator reports it: two malformed frames that differ.
fn divergence() -> Cause {
    let mut comparator = Comparator::new(Policy::default(), Limits::default(), Mono::ZERO);
    let mut out = Vec::new();
    comparator.primary(Mono::ZERO, Token(0), b"a runt", &mut out);
    comparator.secondary(Mono::ZERO, b"a rant", &mut out);
    for second in 1..10 {
        comparator.tick(Mono::from_millis(second * 1000), &mut out);
    }
    let cause = out.into_iter().find_map(|action| match action {
        crate::compare::Action::Checkpoint(cause) => Some(*cause),
        _ => None,
    });
    cause.expect("a divergence")
}

#[tokio::test]
async fn the_divergence_is_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env").display().to_string();
    let (mailbox, _serving) = serve(format!("env | grep ^COLO_ > {file}.new; mv {file}.new {file}"), LIMIT);
    let request = Request::of_cause(&divergence(), Epoch(7));
    let expected = request.divergence.clone().expect("not an overload");
    mailbox.post(&request);
    until("the command", || count(&mailbox, "ok") == 1).await;
    let env = std::fs::read_to_string(Path::new(&file)).unwrap();
    for line in [
        "COLO_EPOCH=7".to_owned(),
        format!("COLO_KIND={}", expected.kind.name()),
        format!("COLO_FLOW={}", expected.flow),
        format!("COLO_TEXT={}", request.text),
        format!("COLO_PRIMARY={}", Hex(&expected.primary)),
        format!("COLO_SECONDARY={}", Hex(&expected.secondary)),
        "COLO_SEQ=".to_owned(),
        "COLO_COALESCED=0".to_owned(),
    ] {
        assert!(env.lines().any(|l| l == line), "no {line:?} in\n{env}");
    }
}

#[tokio::test]
async fn a_failed_command_is_run_again_until_the_request_is_settled() {
    let (mailbox, _serving) = serve("exit 3".into(), LIMIT);
    mailbox.post(&Request { kind: "pressure", text: String::new(), epoch: Epoch(1), divergence: None });
    until("two failures", || count(&mailbox, "failed") >= 2).await;
    mailbox.settle(Epoch(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let settled = count(&mailbox, "failed");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(count(&mailbox, "failed"), settled, "it went on after it was settled");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let command = format!("sleep 600 & echo $! > {}; wait", file.display());
    let (mailbox, serving) = serve(command, Duration::from_millis(300));
    mailbox.post(&Request { kind: "pressure", text: String::new(), epoch: Epoch(1), divergence: None });
    until("the time limit", || count(&mailbox, "timeout") >= 1).await;
    serving.abort();
    let child = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    until("the end of its child", || {
        // Gone, or a zombie that nobody has reaped yet.
        std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|s| s.contains(") Z "))
            || !Path::new(&format!("/proc/{child}")).exists()
    })
    .await;
}

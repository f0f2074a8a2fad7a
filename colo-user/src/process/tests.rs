use super::*;
use std::path::Path;
use std::time::Instant;

/// Longer than anything here takes; its passing is a failure.
const LIMIT: Duration = Duration::from_secs(60);

async fn run(command: &str) -> Ended {
    Group::spawn(command, []).unwrap().wait(LIMIT).await
}

fn succeeded(ended: &Ended) -> bool {
    matches!(ended, Ended::Status(status) if status.success())
}

#[tokio::test]
async fn a_command_that_says_more_than_is_logged_comes_to_its_end() {
    // Far more than a pipe holds, on both streams.
    let before = unlogged();
    let ended = run("yes out | head -n 1000000; yes err | head -n 1000000 >&2").await;
    assert!(succeeded(&ended), "{ended:?}");
    let left = 2_000_000 - OUTPUT as u64 / 4;
    assert!(unlogged() - before >= left, "{} of {left} are counted", unlogged() - before);
}

#[tokio::test]
async fn one_that_closes_its_output_is_waited_for_nevertheless() {
    let directory = tempfile::tempdir().unwrap();
    let done = directory.path().join("done");
    let ended = run(&format!("exec >&- 2>&-; sleep 0.3; : > {}", done.display())).await;
    assert!(succeeded(&ended) && done.exists(), "{ended:?}");
}

#[tokio::test]
async fn what_it_leaves_behind_neither_delays_its_end_nor_is_held_up_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (go, done) = (path("go"), path("done"));
    let waits = format!("until test -e {go}; do sleep 0.01; done");
    let ended = run(&format!("( {waits}; yes | head -n 1000000; : > {done} ) & exit 0")).await;
    assert!(succeeded(&ended), "{ended:?}");
    std::fs::write(&go, "").unwrap();
    let end = Instant::now() + LIMIT;
    while !Path::new(&done).exists() {
        assert!(Instant::now() < end, "it stands in a write");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_that_hangs_in_a_flood_is_killed_at_its_limit() {
    let ended = Group::spawn("yes", []).unwrap().wait(Duration::from_millis(200)).await;
    assert!(matches!(ended, Ended::TimedOut), "{ended:?}");
}

#[test]
fn the_first_lines_are_logged_and_the_last_one_whole() {
    let mut said = Said::default();
    said.heard(b"one\ntw");
    assert_eq!((said.line.as_slice(), said.logged, said.unlogged), (&b"tw"[..], 6, 0));
    said.heard(b"o\nthree\n");
    assert_eq!((said.line.as_slice(), said.logged), (&b""[..], 14));
    let lines = OUTPUT.div_ceil(8);
    said.heard(&b"a line.\n".repeat(lines));
    assert_eq!((said.logged, said.unlogged), (OUTPUT, 2), "of {lines} lines not all had room");
    assert!(said.line.len() < 8);
}

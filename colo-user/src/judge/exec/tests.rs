use super::*;
use crate::judge::tests::claim;
use std::time::Instant;

async fn ask(command: &str) -> Answer {
    Exec::new(command.into(), Duration::from_secs(5)).ask(&claim(0xab, 3)).await
}

#[tokio::test]
async fn the_exit_status_is_the_answer() {
    assert_eq!(ask("exit 0").await, Answer::Yes);
    assert!(matches!(ask("exit 1").await, Answer::No(_)));
    assert!(matches!(ask("exit 2").await, Answer::None(_)));
    assert!(matches!(ask("kill -9 $$").await, Answer::None(_)));
    assert!(matches!(ask("/no/such/program").await, Answer::None(_)));
}

#[tokio::test]
async fn the_command_knows_who_asks_for_what() {
    let all = "test \"$COLO_PAIR $COLO_TERM $COLO_ROLE $COLO_BOOT\" = \
               '52:54:00:12:34:56 00000000000000ab secondary 03030303030303030303030303030303'";
    assert_eq!(ask(all).await, Answer::Yes);
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_and_has_not_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (pid, late) = (directory.path().join("pid"), directory.path().join("late"));
    let command = format!("echo $$ > {}; sleep 60; touch {}", pid.display(), late.display());
    let answer = Exec::new(command, Duration::from_secs(1)).ask(&claim(1, 1)).await;
    // One that was waited for would have said yes.
    assert!(matches!(&answer, Answer::None(why) if why.contains("killed")), "{answer:?}");
    let shell = std::fs::read_to_string(&pid).unwrap_or_default();
    let status = format!("/proc/{}/stat", shell.trim());
    let end = Instant::now() + Duration::from_secs(20);
    // Gone, or a zombie that nobody has reaped yet; or it had not even begun.
    while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "it goes on: {shell}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!late.exists(), "it went on");
}

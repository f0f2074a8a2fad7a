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
    let late = directory.path().join("late");
    let command = format!("sleep 1; touch {}", late.display());
    let began = Instant::now();
    let answer = Exec::new(command, Duration::from_millis(100)).ask(&claim(1, 1)).await;
    assert!(matches!(&answer, Answer::None(why) if why.contains("killed")), "{answer:?}");
    assert!(began.elapsed() < Duration::from_millis(900), "the limit counts, not the command");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!late.exists(), "it went on");
}

use super::*;
use crate::judge::tests::claim;

fn fence(command: String) -> Fence {
    Fence::new(FenceSpec { command, limit: Duration::from_millis(500) })
}

/// A command that counts its runs in `file` and then does `then`.
fn counting(file: &std::path::Path, then: &str) -> String {
    format!("echo $COLO_ROLE $COLO_TERM >> {}; {then}", file.display())
}

fn runs(file: &std::path::Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn once_the_other_side_is_off_it_is_not_shot_again_in_that_term() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let mut fence = fence(counting(&file, "exit 0"));
    assert_eq!(fence.run(&claim(0xab, 3)).await, Answer::Yes);
    assert_eq!(fence.run(&claim(0xab, 3)).await, Answer::Yes);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "secondary 00000000000000ab\n");
    assert_eq!(fence.run(&claim(0xac, 3)).await, Answer::Yes);
    assert_eq!(runs(&file), 2);
}

#[tokio::test]
async fn what_fails_is_tried_again_after_a_pause_that_grows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let mut fence = fence(counting(&file, "exit 1"));
    for (run, pause) in [FIRST, FIRST * 2, FIRST * 4].into_iter().enumerate() {
        let answer = fence.run(&claim(1, 1)).await;
        assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("exit status: 1")), "{answer:?}");
        let answer = fence.run(&claim(1, 1)).await;
        assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("again in")), "{answer:?}");
        assert_eq!(runs(&file), run + 1);
        let left = fence.next.unwrap().saturating_duration_since(Instant::now());
        assert!(left <= pause && left > pause / 2, "{left:?} of {pause:?}");
        fence.next = Some(Instant::now());
    }
    fence.pause = LONGEST;
    fence.run(&claim(1, 1)).await;
    assert_eq!(fence.pause, LONGEST);
}

#[tokio::test]
async fn no_answer_is_no_success() {
    let mut fence = fence("sleep 60".to_owned());
    let answer = fence.run(&claim(1, 1)).await;
    assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("no answer")), "{answer:?}");
}

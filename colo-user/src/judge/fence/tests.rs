use super::*;
use crate::judge::tests::claim;

fn fence(command: String) -> Fence {
    limited(command, Duration::from_secs(20))
}

fn limited(command: String, limit: Duration) -> Fence {
    Fence::new(FenceSpec { command, limit })
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
        let begun = Instant::now();
        let answer = fence.run(&claim(1, 1)).await;
        assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("exit status: 1")), "{answer:?}");
        let next = fence.next.unwrap();
        assert!(next >= begun + pause && next <= Instant::now() + pause, "{:?} of {pause:?}", next - begun);
        // However long this test waits for a processor.
        fence.next = Some(Instant::now() + LONGEST);
        let answer = fence.run(&claim(1, 1)).await;
        assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("again in")), "{answer:?}");
        assert_eq!(runs(&file), run + 1);
        fence.next = Some(Instant::now());
    }
    fence.pause = LONGEST;
    fence.run(&claim(1, 1)).await;
    assert_eq!(fence.pause, LONGEST);
}

#[tokio::test]
async fn no_answer_is_no_success() {
    let mut fence = limited("sleep 60".to_owned(), Duration::from_millis(300));
    let answer = fence.run(&claim(1, 1)).await;
    assert!(matches!(&answer, Answer::NotFenced(why) if why.contains("no answer")), "{answer:?}");
}

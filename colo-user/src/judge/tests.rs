use super::*;
use std::sync::Mutex;
use std::sync::mpsc;

pub(super) fn claim(term: u64, who: u8) -> Claim {
    let role = if who.is_multiple_of(2) { Role::Primary } else { Role::Secondary };
    Claim {
        pair: "52:54:00:12:34:56".parse().unwrap(),
        term,
        role,
        claimant: Claimant([who; 16]),
        fence: true,
    }
}

#[test]
fn the_command_line_names_judges_and_pairs() {
    assert_eq!("lock:/mnt/judge".parse(), Ok(JudgeSpec::Lock("/mnt/judge".into())));
    assert_eq!("exec:true :".parse(), Ok(JudgeSpec::Exec("true :".into())));
    for wrong in ["", "lock", "lock:", "exec: ", "zookeeper:x"] {
        assert!(wrong.parse::<JudgeSpec>().unwrap_err().contains("lock:DIRECTORY"), "{wrong}");
    }
    for wrong in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(65)] {
        assert!(wrong.parse::<Pair>().unwrap_err().contains("--pair"), "{wrong}");
    }
    let who = Claimant([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
    assert_eq!(who.to_string().parse(), Ok(who));
    assert!("00".parse::<Claimant>().is_err() && "+0".repeat(16).parse::<Claimant>().is_err());
}

#[tokio::test]
async fn unfenced_says_yes_to_both() {
    let mut bench = Bench::new(JudgeSpec::Unfenced, &claim(1, 1).pair, |_| {}).unwrap();
    assert_eq!(bench.ask(&claim(1, 1)).await, Answer::Yes);
    assert_eq!(bench.ask(&claim(1, 2)).await, Answer::Yes);
}

#[tokio::test]
async fn a_claim_of_a_new_term_cancels_the_old_one_and_is_answered() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let command = "if [ $COLO_TERM = 0000000000000001 ]; then sleep 60; fi";
    let answered = move |term, answer| tell.lock().unwrap().send((term, answer)).unwrap();
    let judge =
        Judge::start(JudgeSpec::Exec(command.into()), None, &claim(1, 1).pair, answered, |_| {}).unwrap();
    judge.ask(claim(1, 1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    judge.ask(claim(2, 1));
    let told = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(20))).await.unwrap();
    assert_eq!(told, Ok((2, Answer::Yes)));
}

#[tokio::test]
async fn a_yes_counts_when_the_other_side_is_off_and_a_no_shoots_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let shot = directory.path().join("shot");
    let fence = |then: &str| {
        let command = format!("touch {}; {then}", shot.display());
        Fence::new(FenceSpec { command, limit: Duration::from_secs(20) })
    };
    for (judge, then, answer, fenced) in [
        ("exit 1", "exit 0", "No(", false),
        ("exit 2", "exit 0", "None(", false),
        ("exit 0", "exit 0", "Yes", true),
        ("exit 0", "exit 3", "NotFenced(", true),
    ] {
        let mut bench = Bench::Exec(exec::Exec::new(judge.into(), LIMIT));
        let said = bench.ask_and_fence(Some(&mut fence(then)), &claim(1, 1)).await;
        assert!(format!("{said:?}").starts_with(answer), "{judge}, {then}: {said:?}");
        assert_eq!(std::fs::remove_file(&shot).is_ok(), fenced, "{judge}, {then}");
    }
}

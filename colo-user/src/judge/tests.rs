use super::*;
use std::sync::Mutex;
use std::sync::mpsc;

pub(super) fn claim(term: u64, who: u8) -> Claim {
    let role = if who.is_multiple_of(2) { Role::Primary } else { Role::Secondary };
    Claim { pair: "52:54:00:12:34:56".parse().unwrap(), term, role, claimant: Claimant([who; 16]) }
}

#[test]
fn the_command_line_names_judges_and_pairs() {
    assert_eq!("lock:/mnt/judge".parse(), Ok(JudgeSpec::Lock("/mnt/judge".into())));
    assert_eq!("exec:true :".parse(), Ok(JudgeSpec::Exec("true :".into())));
    for wrong in ["", "lock", "lock:", "exec: ", "etcd:x"] {
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
    let mut bench = Bench::new(JudgeSpec::Unfenced);
    assert_eq!(bench.ask(&claim(1, 1)).await, Answer::Yes);
    assert_eq!(bench.ask(&claim(1, 2)).await, Answer::Yes);
}

#[tokio::test]
async fn a_claim_of_a_new_term_cancels_the_old_one_and_is_answered() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let command = "if [ $COLO_TERM = 0000000000000001 ]; then sleep 60; fi";
    let judge = Judge::start(JudgeSpec::Exec(command.into()), move |term, answer| {
        tell.lock().unwrap().send((term, answer)).unwrap();
    });
    judge.ask(claim(1, 1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    judge.ask(claim(2, 1));
    let told = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(5))).await.unwrap();
    assert_eq!(told, Ok((2, Answer::Yes)));
}

use super::*;
use crate::judge::tests::claim;
use std::process::{Command, Stdio};
use std::sync::Barrier;

const LIMIT: Duration = Duration::from_secs(5);
/// Set in the processes that [`one_of_many_processes_gets_it`] starts: the directory.
const DIRECTORY: &str = "COLO_TEST_LOCK_DIRECTORY";

fn yes(directory: &Path, term: u64, who: u8) -> bool {
    match take(directory, &claim(term, who)) {
        Answer::Yes => true,
        Answer::No(holder) => {
            assert!(
                holder.contains(" on ") && !holder.starts_with(&Claimant([who; 16]).to_string()),
                "{holder}"
            );
            false
        }
        Answer::None(why) | Answer::NotYet(why) | Answer::NotFenced(why) => panic!("no answer: {why}"),
    }
}

#[test]
fn the_first_gets_it_and_gets_it_again() {
    let directory = tempfile::tempdir().unwrap();
    assert!(yes(directory.path(), 1, 1));
    assert!(!yes(directory.path(), 1, 2));
    assert!(yes(directory.path(), 1, 1), "asked again");
    assert!(yes(directory.path(), 2, 2), "another term");
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 2, "two claims, and nothing else");
}

#[test]
fn one_of_many_threads_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    for term in 0..20 {
        let barrier = Barrier::new(8);
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|who| {
                    let (directory, barrier) = (directory.path(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        usize::from(yes(directory, term, who))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "term {term}");
    }
}

/// Run by itself it does nothing; the next test runs it in processes of their own.
#[test]
fn claims_in_a_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let who = std::process::id();
    let claimant = Claimant((u128::from(who)).to_be_bytes());
    for term in 0..20 {
        if take(Path::new(&directory), &Claim { claimant, ..claim(term, 0) }) == Answer::Yes {
            println!("won {term}");
        }
    }
}

#[test]
fn one_of_many_processes_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..6)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["judge::lock::tests::claims_in_a_process", "--exact", "--nocapture"])
                .env(DIRECTORY, directory.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let said: String = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    let mut won: Vec<u64> = said
        .split("won ")
        .skip(1)
        .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    won.sort_unstable();
    assert_eq!(won, (0..20).collect::<Vec<_>>(), "each term exactly once:\n{said}");
}

#[tokio::test]
async fn without_the_directory_there_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("not-mounted");
    let answer = Lock::new(gone.clone(), LIMIT).ask(&claim(1, 1)).await;
    assert!(matches!(&answer, Answer::None(why) if why.contains("not-mounted")), "{answer:?}");
    assert!(!gone.exists(), "a directory of one host's own would be no judge");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Lock::new(file, LIMIT).ask(&claim(1, 1)).await, Answer::None(_)), "unreadable");
}

#[tokio::test]
async fn a_file_that_is_no_claim_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let claim = claim(1, 1);
    fs::write(directory.path().join(format!("{}.{:016x}.claim", claim.pair, claim.term)), "").unwrap();
    let answer = Lock::new(directory.path().to_owned(), LIMIT).ask(&claim).await;
    assert!(matches!(&answer, Answer::None(why) if why.contains("no claim")), "{answer:?}");
}

#[tokio::test]
async fn a_file_system_that_hangs_is_given_up_and_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    // Whoever opens a FIFO to read waits until somebody writes to it.
    let claim = claim(1, 1);
    let place = directory.path().join(format!("{}.{:016x}.claim", claim.pair, claim.term));
    assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
    let mut lock = Lock::new(directory.path().to_owned(), Duration::from_millis(100));
    for _ in 0..2 {
        let answer = lock.ask(&claim).await;
        assert!(matches!(&answer, Answer::None(why) if why.contains("within")), "{answer:?}");
    }
    // It wakes up: the thread that waited gets an empty file, and then the claim itself.
    let mut pipe = OpenOptions::new().write(true).open(&place).unwrap();
    fs::remove_file(&place).unwrap();
    pipe.write_all(b" ").unwrap();
    drop(pipe);
    lock.limit = LIMIT;
    assert_eq!(lock.ask(&claim).await, Answer::Yes);
}

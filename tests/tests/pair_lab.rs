//! `colo-lab run` with VMs as a whole: it ends well, draws its picture, and leaves nothing, also when it is interrupted.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::leftovers::Namespaces;
use rustix::process::{Pid, Signal, kill_process};

/// How long a lab may take to leave.
const PATIENCE: Duration = Duration::from_secs(30);
/// Two cores carry one pair at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colo-lab"));
    command.args(["run", "--replicas", "vms"]).args(arguments);
    command
}

#[test]
fn a_run_kills_the_primary_and_no_client_notices() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("run.svg");
    let output = lab(&["--seconds", "2", "--svg", svg.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["requests", "checkpoints", "output held", "pause of a checkpoint", "longest client gap"] {
        assert!(said.contains(&format!("\n  {line:<24} ")), "no {line:?} in\n{said}");
    }
    assert!(said.contains(&format!("  {:<24} 0\n", "bytes lost")), "{said}");
    assert!(said.contains(svg.to_str().unwrap()), "{said}");
    let picture = fs::read_to_string(svg).unwrap();
    assert!(picture.contains(">primary killed</text>") && picture.ends_with("</svg>\n"), "{picture}");
}

#[test]
fn an_interrupt_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lab = lab(&["--seconds", "60"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().starts_with("All traffic at once"));
    assert!(begun, "the lab ended before its traffic: {:?}", lab.wait());
    let namespaces = Namespaces::of(lab.id()).unwrap();
    assert!(namespaces.inhabitants() >= 4, "two VMs and two agents live there: {namespaces:?}");
    kill_process(Pid::from_raw(lab.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match lab.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < end, "the lab does not end"),
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130));
    assert_eq!(namespaces.inhabitants(), 0);
    assert_eq!(namespaces.left(), Vec::<&str>::new());
}

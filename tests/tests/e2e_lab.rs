//! `colo-lab run` as a whole: it ends well, and however it ends nothing is left behind.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use colo_tests::lab::leftovers::Namespaces;
use rustix::process::{Pid, Signal, kill_process};

/// How long a lab may take to leave, and its children to follow.
const PATIENCE: Duration = Duration::from_secs(30);

fn lab(seconds: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_colo-lab"));
    command.args(["run", "--replicas", "namespaces", "--seconds", seconds]);
    command
}

/// A lab in the middle of its traffic, and its namespaces.
fn running() -> (Child, Namespaces) {
    let mut lab = lab("60").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().starts_with("Traffic for"));
    assert!(begun, "the lab ended before its traffic: {:?}", lab.wait());
    // What it says from here on is not read; a closed pipe must not disturb its end either.
    let namespaces = Namespaces::of(lab.id()).unwrap();
    assert_eq!(namespaces.len(), 5, "{namespaces:?}");
    assert!(namespaces.inhabitants() >= 4, "two replicas and two agents live there");
    (lab, namespaces)
}

fn send(lab: &Child, signal: Signal) {
    kill_process(Pid::from_raw(lab.id().cast_signed()).unwrap(), signal).unwrap();
}

fn within_patience(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if done() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

fn ended(lab: &mut Child) -> ExitStatus {
    assert!(within_patience(|| lab.try_wait().unwrap().is_some()), "the lab does not end");
    lab.wait().unwrap()
}

#[test]
fn a_run_ends_well_and_leaves_nothing() {
    let output = lab("5").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("These replicas cannot be checkpointed"), "{said}");
    assert!(said.contains("COLO_"), "no checkpoint signal shown: {said}");
}

#[test]
fn an_interrupt_leaves_nothing() {
    let (mut lab, namespaces) = running();
    send(&lab, Signal::INT);
    assert_eq!(ended(&mut lab).code(), Some(130));
    assert_eq!(namespaces.inhabitants(), 0);
    assert_eq!(namespaces.left(), Vec::<&str>::new());
}

#[test]
fn a_killed_lab_leaves_no_process_and_its_namespaces_to_the_next() {
    let (mut lab, namespaces) = running();
    send(&lab, Signal::KILL);
    ended(&mut lab);
    assert!(within_patience(|| namespaces.inhabitants() == 0), "processes are left");
    let (mut next, others) = running();
    assert_eq!(namespaces.left(), Vec::<&str>::new());
    send(&next, Signal::TERM);
    ended(&mut next);
    assert_eq!(others.inhabitants(), 0);
}

//! Orders to agents that are alone: what each is answered, with which exit status; and the OCF resource agent on top, by the
//! tester of its specification. The guest's QEMU is a real one without a machine in it.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use colo_tests::{
    ends::{Ends, GUEST, Joint, UPLINK},
    lab::child::{Programs, Tethered},
    pair::order::{Answer, order},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A host with a QEMU.
struct Rig {
    qemu: Tethered,
    programs: Programs,
    directory: TempDir,
    ends: Ends,
}

impl Rig {
    fn new() -> Self {
        let ends = Ends::new(Joint::Tap, Joint::Veth).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let qmp = format!("unix:{},server=on,wait=off", directory.path().join("qmp").display());
        let words = ["-machine", "none", "-nodefaults", "-display", "none", "-qmp", &qmp].map(str::to_owned);
        let log = directory.path().join("qemu.log");
        let qemu = Path::new("qemu-system-x86_64");
        let qemu = Tethered::start(&programs, &ends.host, qemu, &words, &log, false).unwrap();
        let rig = Self { qemu, programs, directory, ends };
        rig.until("QEMU's monitor", || rig.path("qmp").exists());
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}: {}", self.qemu.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An agent that follows the QEMU, or does not, and answers.
    fn agent(&self, role: &str, follows: bool, more: &[&str]) -> Tethered {
        let [peer, qmp] = ["peer", "qmp"].map(|name| format!("unix:{}", self.path(name).display()));
        let control = self.path("control").display().to_string();
        let words = [role, "--guest", GUEST, "--uplink", UPLINK, "--peer", &peer, "--control", &control];
        let followed: &[&str] = if follows { &["--qmp", &qmp] } else { &[] };
        let words: Vec<String> =
            words.iter().chain(followed).chain(more).map(|word| (*word).to_owned()).collect();
        let log = self.path("agent.log");
        let colo = &self.programs.colo;
        let agent = Tethered::start(&self.programs, &self.ends.host, colo, &words, &log, false).unwrap();
        self.until("the agent's answer", || {
            let output = Command::new(colo).args(["status", "--control", &control]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            !text.is_empty() && !text.contains("vm not known yet")
        });
        agent
    }

    fn order(&self, words: &[&str]) -> Answer {
        order(&self.programs.colo, &self.path("control"), words).unwrap()
    }

    fn is(&self, words: &[&str], code: i32, field: &str, word: &str) {
        let answer = self.order(words);
        assert!(answer.code == code && answer.object[field] == word, "{words:?}: {answer:?}");
        assert_eq!(answer.object["verb"], words[0]);
        if answer.object["outcome"] == "refused" {
            assert!(answer.object["way_out"].is_string(), "{answer:?}");
        }
    }
}

#[test]
fn every_order_is_answered_or_refused_with_its_exit_status() {
    let rig = Rig::new();
    let colo = |words: &[&str]| Command::new(&rig.programs.colo).args(words).output().unwrap();
    let nobody = colo(&["promote", "--control", "/nowhere/at.all"]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");
    assert_eq!(colo(&["failover"]).status.code(), Some(2), "nothing is said about an unplanned one");
    assert_eq!(colo(&["promote", "--timeout", "0"]).status.code(), Some(2));

    let without = rig.agent("primary", false, &[]);
    let all =
        [&["promote"][..], &["demote"], &["pause"], &["resume"], &["failover", "--planned"], &["reprotect"]];
    for words in all {
        rig.is(words, 1, "refusal", "no-qemu");
    }
    rig.is(&["test-failover"], 1, "refusal", "no-qemu");
    drop(without);

    let judge = format!("lock:{}", rig.directory.path().display());
    let primary = rig.agent("primary", true, &["--judge", &judge]);
    rig.is(&["promote"], 0, "standing", "passing");
    rig.is(&["reprotect"], 0, "standing", "passing");
    rig.is(&["pause"], 1, "refusal", "not-in-sync");
    rig.is(&["resume"], 1, "refusal", "not-paused");
    rig.is(&["failover", "--planned"], 1, "refusal", "not-in-sync");
    let test = rig.order(&["test-failover"]);
    assert!(test.code == 1 && test.object["checks"][0]["ok"] == false, "{test:?}");
    assert_eq!(test.object["checks"][1]["text"], "it can be asked");
    rig.is(&["demote"], 0, "standing", "closed");
    rig.is(&["demote"], 0, "outcome", "done");
    rig.is(&["promote", "--force"], 1, "refusal", "closed");
    let status = colo(&["status", "--control", &rig.path("control").display().to_string()]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("closed (demoted)"), "{text}");
    drop(primary);

    let secondary = rig.agent("secondary", true, &[]);
    rig.is(&["promote", "--force"], 1, "refusal", "no-state");
    assert!(rig.order(&["promote", "--force"]).said.contains("two sides"), "the risk is said");
    rig.is(&["pause"], 1, "refusal", "other-side");
    rig.is(&["reprotect"], 1, "refusal", "not-alone");
    let test = rig.order(&["test-failover"]);
    assert!(test.object["checks"][1]["text"].as_str().unwrap().starts_with("none was given"), "{test:?}");
    rig.is(&["demote"], 0, "reason", "demoted");
    rig.is(&["promote"], 1, "refusal", "closed");
    drop(secondary);
}

#[test]
fn the_resource_agent_passes_the_tester_of_its_specification() {
    let rig = Rig::new();
    // The tester runs it as nobody too, who may not look into a checkout in somebody's home.
    let readable = Permissions::from_mode(0o755);
    let place = tempfile::Builder::new().permissions(readable).tempdir().unwrap();
    let agent = place.path().join("colo");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../colo-user/ocf/colo"), &agent).unwrap();
    let node = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    let path = |name: &str| rig.path(name).display().to_string();
    let parameters = [
        format!("binary={}", rig.programs.colo.display()),
        format!("guest={GUEST}"),
        format!("uplink={UPLINK}"),
        format!("addresses={}=127.0.0.1 other=127.0.0.2", node.trim()),
        format!("qmp=unix:{}", path("qmp")),
        format!("judge=lock:{}", rig.directory.path().display()),
        format!("control={}", path("control")),
        format!("log={}", path("agent.log")),
        "handover=5".to_owned(),
    ];
    let mut tester = rig.ends.host.command("ocf-tester");
    tester.args(["-v", "-n", "vm"]);
    for parameter in &parameters {
        tester.args(["-o", parameter]);
    }
    let output = tester.arg(agent).env("OCF_ROOT", "/usr/lib/ocf").stdin(Stdio::null()).output().unwrap();
    let said = format!(
        "{}{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        std::fs::read_to_string(rig.path("agent.log")).unwrap_or_default()
    );
    assert!(output.status.success() && said.contains("passed all tests"), "{said}");
    assert!(!said.contains("does not support the promote action"), "{said}");
}

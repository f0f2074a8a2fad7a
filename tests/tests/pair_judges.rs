//! Who may go on alone in a real pair whose primary's host is lost: after a command's yes and a fence that has worked, and without a
//! judge nobody but by force.

use std::{fs, sync::atomic::AtomicBool, thread, time::Duration};

use colo_tests::{
    lab::{agents::Status, child::Programs, topology::SERVER_V4},
    pair::{
        line::Line,
        protected::{Beats, Options, Protected},
        watch::{Side, Watch},
    },
};
use colo_user::process::UNLOGGED;
use serde_json::Value;

/// How long the secondary is given to do what it must not: longer than two runs of the fence are apart.
const TEMPTED: Duration = Duration::from_secs(5);
static NEVER: AtomicBool = AtomicBool::new(false);

/// A pair with a connection, whose primary's agent and QEMU are killed; in the end only the secondary may have been heard after it.
struct Lost {
    pair: Protected,
    line: Line,
    watch: Watch,
}

impl Lost {
    fn new(options: Options) -> Self {
        let programs = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref());
        let mut pair = Protected::start(&programs, options, &NEVER).unwrap();
        let watch = Watch::start(&pair.pair.topology.client).unwrap();
        let mut line = Line::open(&pair.pair.topology, SERVER_V4);
        line.ask();
        pair.agent(Side::First).kill();
        pair.vm(Side::First).process().kill();
        Self { pair, line, watch }
    }

    /// Waits until the secondary stands so for this reason, and then for longer.
    fn stays(&self, standing: &str, reason: &str) {
        let so = |status: &Status| is(status.json(), standing, reason);
        self.pair.wait_for(Side::Second, reason, &NEVER, so).unwrap();
        thread::sleep(TEMPTED);
        let status = self.pair.status(Side::Second).unwrap();
        assert!(so(&status) && !status.is_protected(), "{}\n{}", status.json(), self.pair.logs());
    }

    /// The secondary is the service, with the same connection.
    fn goes_on(mut self) {
        self.pair.wait_standing(Side::Second, "alone", &NEVER).unwrap();
        self.line.ask();
        let heard = self.watch.finish().unwrap();
        assert_eq!(heard.sides(), [Side::First, Side::Second], "{:?}", heard.changes);
        assert_eq!(heard.taken_back, 0, "{:?}", heard.examples);
    }
}

fn is(status: &Value, standing: &str, reason: &str) -> bool {
    status["failover"]["standing"] == standing && status["failover"]["reason"] == reason
}

#[test]
fn a_fence_that_fails_keeps_the_secondary_silent_until_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (asked, shot, off) = (path("asked"), path("shot"), path("off"));
    let who = "$COLO_PAIR $COLO_TERM $COLO_ROLE $COLO_BOOT";
    let fence = format!("echo {who} >> {shot}; test -e {off}");
    let options = Options {
        judge: Some(format!("exec:echo {who} >> {asked}")),
        both: vec!["--fence".to_owned(), fence],
        ..Options::default()
    };
    let lost = Lost::new(options);
    lost.stays("asking", "other side not fenced");
    let shots = || fs::read_to_string(&shot).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(shots().len() >= 2, "it was not tried again: {:?}", shots());
    fs::write(&off, "").unwrap();
    let before = shots().len();
    lost.goes_on();
    let shots = shots();
    assert!(shots.len() > before && shots.iter().all(|shot| *shot == shots[0]), "{shots:?}");
    let words: Vec<&str> = shots[0].split(' ').collect();
    assert!(
        matches!(words[..], ["lab", term, "secondary", boot] if term.len() == 16 && boot.len() == 32),
        "{words:?}"
    );
    assert!(
        fs::read_to_string(&asked).unwrap().lines().all(|line| line == shots[0]),
        "the judge was asked for another"
    );
}

#[test]
fn a_takeover_waits_for_nobody_who_reads_what_is_said_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let shot = directory.path().join("shot");
    // Judge and fence say more than any pipe holds, on both streams, ahead of what they are there for.
    let flood = "yes out | head -n 100000; yes err | head -n 100000 >&2";
    let options = Options {
        judge: Some(format!("exec:{flood}")),
        both: vec!["--fence".to_owned(), format!("{flood}; echo $COLO_ROLE >> {}", shot.display())],
        heartbeat: Some(Beats { interval: 50, multiplier: 10 }),
        unread: true,
        ..Options::default()
    };
    let mut lost = Lost::new(options);
    lost.pair.wait_standing(Side::Second, "alone", &NEVER).unwrap();
    assert_eq!(fs::read_to_string(&shot).unwrap(), "secondary\n");
    assert!(lost.pair.status(Side::Second).unwrap().count(UNLOGGED).unwrap() > 0);
    assert!(lost.pair.agent(Side::Second).is_unread().unwrap(), "somebody reads");
    lost.goes_on();
}

#[test]
fn without_a_judge_nobody_takes_over_but_by_force() {
    let lost = Lost::new(Options { judge: Some("none".to_owned()), ..Options::default() });
    lost.stays("holding", "no judge");
    let order = |words: &[&str]| lost.pair.order(Side::Second, words).unwrap();
    let refused = order(&["promote"]);
    assert!(refused.code == 1 && refused.object["refusal"] == "no-judge", "{refused:?}");
    assert!(refused.object["way_out"].as_str().unwrap().contains("--force"), "{refused:?}");
    let test = order(&["test-failover"]);
    assert!(test.code == 1 && test.object["checks"][1]["ok"] == false, "{test:?}");
    let forced = order(&["promote", "--force"]);
    assert!(forced.code == 0 && forced.object["reason"] == "forced", "{forced:?}");
    assert!(forced.said.contains("two sides"), "the risk is said: {forced:?}");
    lost.goes_on();
}

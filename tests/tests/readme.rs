//! The README names every counter, reason and field that the agents show: they are interfaces.

use std::time::{Duration, Instant};

use colo_tests::{
    ends::{Ends, GUEST, Joint, UPLINK},
    lab::child::Programs,
};
use colo_user::agent::protection::Reason;
use colo_user::failover::verbs::Refusal;
use colo_user::failover::{Standing, Why};
use colo_user::heartbeat::detector::{PeerState, REASONS};
use colo_user::heartbeat::{HostState, LinkState};
use colo_user::path::{self, Fault};
use serde_json::Value;

/// The README with the names that stand for a whole class of counters written out.
fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    std::fs::read_to_string(path).expect("README.md")
}

/// Whether the README names the counter: in full, or its class in a row of `prefix_*`.
fn named(readme: &str, counter: &str) -> bool {
    let quoted = |name: &str| readme.contains(&format!("`{name}`"));
    quoted(counter)
        || ["primary_", "secondary_", "divergence_"].iter().any(|prefix| {
            counter.strip_prefix(prefix).is_some_and(|class| quoted(&format!("{prefix}*")) && quoted(class))
        })
}

#[test]
fn every_counter_reason_and_field_is_in_the_readme() {
    let readme = readme();
    assert!(!named(&readme, "released_by_magic") && !named(&readme, "primary_magic"), "the check can fail");
    for reason in Reason::ALL {
        assert!(readme.contains(&format!("`{}`", reason.text())), "reason `{}`", reason.text());
    }
    for word in path::REASONS.iter().flatten().chain(&Fault::WORDS) {
        assert!(readme.contains(&format!("`{word}`")), "of an interface: `{word}`");
    }
    for refusal in Refusal::WORDS {
        assert!(readme.contains(&format!("`{refusal}`")), "refusal `{refusal}`");
    }
    let words = Standing::ALL.map(Standing::word).into_iter().chain(Why::ALL.map(Why::text));
    for word in words {
        assert!(readme.contains(&format!("`{word}`")), "how a side stands: `{word}`");
    }
    let words = PeerState::ALL.map(PeerState::word).into_iter().chain(LinkState::ALL.map(LinkState::word));
    for word in words.chain(HostState::ALL.map(HostState::word)).chain(REASONS) {
        assert!(readme.contains(&format!("`{word}`")), "how a heartbeat stands: `{word}`");
    }
    for role in ["primary", "secondary"] {
        let status = status(role);
        for field in status.as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{field}`")), "field `{field}`");
        }
        for field in status["interfaces"]["guest"].as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{field}`")), "field `{field}` of an interface");
        }
        let heartbeat = &status["heartbeat"];
        for field in [heartbeat, &heartbeat["links"][1]].map(|part| part.as_object().unwrap().keys()) {
            for field in field {
                assert!(readme.contains(&format!("`{field}`")), "field `{field}` of a heartbeat");
            }
        }
        let counters = status["counters"].as_object().unwrap();
        assert!(counters.len() > 50, "{counters:?}");
        let missing: Vec<_> = counters.keys().filter(|counter| !named(&readme, counter)).collect();
        assert!(missing.is_empty(), "counters of a {role} that the README does not name: {missing:?}");
    }
}

/// The status of an agent that runs alone.
fn status(role: &str) -> Value {
    let ends = Ends::new(Joint::Tap, Joint::Veth).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("control");
    let colo = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo;
    let colo = colo.to_str().unwrap();
    let peer = format!("unix:{}", directory.path().join("peer").display());
    let beats = "udp:127.0.0.1:9701@127.0.0.1:9702";
    let mut agent = ends
        .host
        .command(colo)
        .args([
            role,
            "--guest",
            GUEST,
            "--uplink",
            UPLINK,
            "--peer",
            &peer,
            "--heartbeat",
            beats,
            "--control",
        ])
        .arg(&control)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let asked =
            ends.host.command(colo).args(["status", "--json", "--control"]).arg(&control).output().unwrap();
        // The heart has shown itself after its first turn.
        if let Ok(status) = serde_json::from_slice::<Value>(&asked.stdout)
            && !status["heartbeat"].is_null()
        {
            break status;
        }
        assert!(Instant::now() < deadline, "no status: {}", String::from_utf8_lossy(&asked.stderr));
        std::thread::sleep(Duration::from_millis(50));
    };
    agent.kill().unwrap();
    agent.wait().unwrap();
    status
}

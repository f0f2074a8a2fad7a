use super::*;
use serde_json::json;

#[test]
fn the_table_names_the_reason_and_explains_a_divergence() {
    let status = json!({
        "role": "primary", "state": "not-protected", "reason": "peer lost", "epoch": 3, "peer": "tcp:192.0.2.1:9000",
        "attach": {"guest": "native", "uplink": "skb"},
        "interfaces": {
            "guest": {"given": "tap0", "name": "vm0", "index": 5, "state": "whole", "way_out": null},
            "uplink": {"given": "up0", "name": "up0", "index": null, "state": "gone", "way_out": "make up0 anew"},
        },
        "hold": "afxdp", "held": 7,
        "held_time": {"count": 9, "p50_us": 70, "p99_us": 900, "max_us": 1000},
        "pauses": {"count": 2, "p50_us": 5000, "p99_us": 6000, "max_us": 6000},
        "counters": {"captured": 12, "overloads": 0},
        "lease": {"state": "held", "token": 7, "ends_in_ms": 1234},
        "checkpoints": {"asked": 2, "by": {"payload": 2}},
        "divergences": [{"flow": "a > b", "kind": "payload", "seq": 99, "offset": null, "primary": "00ff", "secondary": "01"}],
    });
    let table = table(&status);
    for expected in [
        "not-protected (peer lost)",
        "guest native, uplink skb",
        "guest                        vm0 (whole, given as tap0)",
        "uplink                       up0 (gone)\n  way out                    make up0 anew",
        "a > b: payload seq 99 primary [00ff] secondary [01]",
        "captured                     12",
        "lease                        held, ends in 1234 ms",
        "50 % within 5000 us, 99 % within 6000 us, longest 6000 us of 2",
        "50 % within 70 us, 99 % within 900 us, longest 1000 us of 9",
    ] {
        assert!(table.contains(expected), "no {expected:?} in\n{table}");
    }
    assert!(!table.contains("overloads"), "zeros are not shown");
}

#[test]
fn the_only_agent_is_found_and_several_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(only_socket(dir.path()).is_err());
    assert!(only_socket(&dir.path().join("absent")).is_err());
    fs::write(dir.path().join("tap0.sock.lock"), "").unwrap();
    fs::write(dir.path().join("tap0.sock"), "").unwrap();
    assert_eq!(only_socket(dir.path()).unwrap(), dir.path().join("tap0.sock"));
    fs::write(dir.path().join("tap1.sock"), "").unwrap();
    let error = only_socket(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tap0.sock") && error.contains("tap1.sock"), "{error}");
}

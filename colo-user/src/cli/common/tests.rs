use super::*;

#[test]
fn bypass_rules_are_read_in_all_their_forms() {
    let none = Bypass::default();
    let cases = [
        ("tcp:22", Bypass { protocol: Some(6), port: Some(22), ..none.clone() }),
        ("udp", Bypass { protocol: Some(17), ..none.clone() }),
        ("icmp", Bypass { protocol: Some(1), ..none.clone() }),
        ("47", Bypass { protocol: Some(47), ..none.clone() }),
        ("vlan:100", Bypass { vlan: Some(100), ..none.clone() }),
        ("addr:2001:db8::1", Bypass { address: Some("2001:db8::1".parse().unwrap()), ..none.clone() }),
        (
            "tcp:192.0.2.7:443",
            Bypass {
                protocol: Some(6),
                address: Some("192.0.2.7".parse().unwrap()),
                port: Some(443),
                ..none.clone()
            },
        ),
        (
            "udp:[2001:db8::1]:53",
            Bypass {
                protocol: Some(17),
                address: Some("2001:db8::1".parse().unwrap()),
                port: Some(53),
                ..none
            },
        ),
    ];
    for (text, rule) in cases {
        assert_eq!(bypass(text), Ok(rule), "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_bypass_rule_is_named() {
    for (text, expected) in [
        ("", "protocol"),
        ("tpc:22", "protocol"),
        ("tcp:0", "port"),
        ("tcp:70000", "port"),
        ("tcp:2001:db8::1:443", "IPv6 in brackets"),
        ("icmp:3", "only tcp and udp"),
        ("vlan:5000", "1 to 4094"),
        ("vlan", "missing"),
        ("addr:host", "IP address"),
    ] {
        let error = bypass(text).expect_err(text);
        assert!(error.contains(expected) && error.contains("write tcp:22"), "{text}: {error}");
    }
}

#[test]
fn a_mac_address_has_six_pairs() {
    assert_eq!(mac("52:54:00:12:34:5f"), Ok([0x52, 0x54, 0, 0x12, 0x34, 0x5f]));
    assert_eq!(mac("52-54-00-12-34-5F"), mac("52:54:00:12:34:5f"));
    for wrong in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:0:12:34:56", "52:54:00:12:34:+6"] {
        assert!(mac(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_judge_is_named_or_expressly_nobody() {
    assert_eq!("none".parse(), Ok(Whom(None)));
    assert_eq!("lock:/srv/judge".parse(), Ok(Whom(Some(JudgeSpec::Lock("/srv/judge".into())))));
    for wrong in ["", "nobody", "none:", "lock:", "exec: "] {
        assert!(wrong.parse::<Whom>().is_err(), "{wrong}");
    }
}

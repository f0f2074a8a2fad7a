use super::*;

fn broken(path: &str, text: &str) -> String {
    broken_rules(&Source::new(path, text)).join("\n")
}

#[test]
fn unsafe_code_is_refused_outside_its_places() {
    let text = "fn f() {\n    unsafe { g() }\n}\n";
    for path in ["colo-user/src/agent.rs", "colo-user/build.rs", "tests/tests/e2e.rs", "xtask/src/main.rs"] {
        assert!(broken(path, text).contains("line 2"), "{path}");
    }
    for path in [
        "colo-user/src/datapath/umem.rs",
        "colo-user/src/datapath.rs",
        "tests/src/tap.rs",
        "colo-ebpf/src/main.rs",
    ] {
        assert_eq!(broken(path, text), "", "{path}");
    }
    assert_eq!(broken("colo-user/src/agent.rs", "// unsafe is elsewhere\n#![deny(unsafe_code)]\n"), "");
}

#[test]
fn the_core_is_refused_the_outside_world() {
    for text in [
        "use std::{fmt, fs};",
        "use std::thread;",
        "let now = std::time::Instant::now();",
        "use std::time::SystemTime;",
        "use tokio::sync::mpsc;",
        "use std::net::{IpAddr, UdpSocket};",
        "let f = std::fs::read(p);",
    ] {
        for path in ["colo-user/src/wire/tcp.rs", "colo-user/src/compare.rs", "colo-user/src/epoch.rs"] {
            assert!(broken(path, text).contains("the core owns no"), "{path}: {text}");
        }
        assert_eq!(broken("colo-user/src/agent/primary.rs", text), "", "{text}");
        assert_eq!(broken("colo-user/src/compare/tests.rs", text), "", "{text}");
    }
    let harmless = "use std::{fmt, net::{IpAddr, Ipv4Addr}, time::Duration};\n// an Instant from std::fs\nlet inst = stdfs::x;";
    assert_eq!(broken("colo-user/src/wire/tcp.rs", harmless), "");
}

#[test]
fn long_files_are_refused_unless_they_are_tests() {
    let text = "\n".repeat(MAX_LINES + 1);
    assert!(broken("colo-user/src/agent.rs", &text).contains("601 lines"));
    assert_eq!(broken("colo-user/src/agent/tests.rs", &text), "");
    assert_eq!(broken("colo-user/src/agent.rs", &"\n".repeat(MAX_LINES)), "");
}

#[test]
fn switched_off_tests_and_hidden_dead_code_are_refused() {
    assert!(broken("tests/src/lib.rs", "#[test]\n#[ignore]\nfn t() {}").contains("#[ignore"));
    assert!(broken("colo-user/src/lib.rs", "#![allow(dead_code)]").contains("dead_code"));
    assert_eq!(broken("colo-user/src/lib.rs", "let s = \"#[ignore\";"), "");
}

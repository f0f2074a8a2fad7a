//! `colo primary`, `colo secondary` and `colo status` as processes: exit codes, what they say, what they leave behind.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

fn colo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_colo")).args(arguments).output().expect("colo starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers one request on `path` with `answer`.
fn agent(path: &Path, answer: &'static str) -> thread::JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        writeln!(&stream, "{answer}").unwrap();
        request
    })
}

#[test]
fn status_ends_with_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.sock").display().to_string();
    let output = colo(&["status", "--control", &absent]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains(&absent), "{output:?}");

    for (name, answer, code) in [
        ("a", r#"{"role":"primary","state":"protected","reason":"in sync","held":3}"#, 0),
        ("b", r#"{"role":"primary","state":"not-protected","reason":"peer lost","held":3}"#, 1),
        ("c", r#"{"error":"the packet thread has ended"}"#, 2),
        ("d", "no JSON", 2),
    ] {
        let path = dir.path().join(name);
        let served = agent(&path, answer);
        let output = colo(&["status", "--json", "--control", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(served.join().unwrap(), "{\"command\":\"status\"}\n");
        if code < 2 {
            let printed: serde_json::Value =
                serde_json::from_slice(&output.stdout).expect("one object, alone");
            assert_eq!(printed, serde_json::from_str::<serde_json::Value>(answer).unwrap());
        }
    }

    let path = dir.path().join("e");
    let served = agent(&path, r#"{"role":"primary","state":"not-protected","reason":"peer lost"}"#);
    let output = colo(&["status", "--control", &path.display().to_string()]);
    served.join().unwrap();
    assert!(text(&output.stdout).contains("not-protected (peer lost)"), "{output:?}");
}

#[test]
fn an_agent_that_cannot_start_says_why_and_leaves_nothing() {
    for role in ["primary", "secondary"] {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("c.sock").display().to_string();
        let link = format!("unix:{},server=on", dir.path().join("link").display());
        let output = colo(&[
            role,
            "--guest",
            "nosuchguest0",
            "--uplink",
            "nosuchlink0",
            "--peer",
            &link,
            "--control",
            &control,
        ]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("nosuchguest0"), "{output:?}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "files were left behind");
    }
}

#[test]
fn a_wrong_command_line_is_status_2_and_names_the_forms() {
    let base = ["primary", "--guest", "a", "--uplink", "b"];
    for (extra, expected) in [
        (vec![], "--peer"),
        (vec!["--peer", "10.0.0.1:9000"], "tcp:HOST:PORT"),
        (vec!["--peer", "unix:/x", "--checkpoint", "mail:x"], "exec:COMMAND"),
        (vec!["--peer", "unix:/x", "--bypass", "tcp:http"], "tcp:22"),
        (vec!["--peer", "unix:/x", "--hold", "disk"], "ringbuf"),
        (vec!["--peer", "unix:/x", "--on-peer-loss", "panic"], "hold"),
        (vec!["--peer", "unix:/x", "--frames", "1"], "256"),
        (vec!["--peer", "unix:/x", "--guest-mac", "1:2"], "52:54:00"),
    ] {
        let output = colo(&[&base[..], &extra[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{extra:?}: {output:?}");
        assert!(
            text(&output.stderr).contains(expected),
            "{extra:?} lacks {expected}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn help_shows_both_hosts_and_the_exit_codes() {
    for role in ["primary", "secondary"] {
        let help = text(&colo(&[role, "--help"]).stdout);
        for expected in ["colo primary ", "colo secondary ", "server=on", "Exit status"] {
            assert!(
                help.contains(expected) || help.contains(&expected.to_lowercase()),
                "{role}: no {expected:?}\n{help}"
            );
        }
    }
    let help = text(&colo(&["status", "--help"]).stdout);
    assert!(help.contains("Exit status 0: protected"), "{help}");
}

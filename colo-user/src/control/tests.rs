use super::*;
use crate::agent::packet::channel;
use crate::agent::status::{Attach, Checkpoints, Interfaces, Status};
use crate::agent::times::Summary;
use crate::mono::Mono;
use crate::path::{Paths, Seen};
use std::collections::BTreeMap;

fn status() -> Status {
    Status {
        role: "primary",
        state: "protected",
        reason: "in sync",
        epoch: 4,
        peer: "tcp:192.0.2.1:9000".into(),
        attach: Attach { guest: "native", uplink: "skb" },
        interfaces: {
            let seen = |name: &str, index| Seen { index, name: name.to_owned(), ..Seen::default() };
            Interfaces::new(&Paths::new(Mono::ZERO, ("tap0", &seen("vm0", 5)), ("up0", &seen("up0", 6))))
        },
        hold: "afxdp".into(),
        held: 2,
        held_time: Summary { count: 9, p50_us: 70, p99_us: 900, max_us: 1000 },
        pauses: Summary::default(),
        counters: BTreeMap::from([("captured".to_owned(), 9)]),
        checkpoints: Checkpoints { asked: 1, by: BTreeMap::from([("payload", 1)]) },
        failover: None,
        heartbeat: None,
        lease: None,
        divergences: Vec::new(),
    }
}

/// The field names are an interface.
#[test]
fn a_status_has_the_promised_fields() {
    let expected = json!({
        "role": "primary", "state": "protected", "reason": "in sync", "epoch": 4, "peer": "tcp:192.0.2.1:9000",
        "attach": {"guest": "native", "uplink": "skb"},
        "interfaces": {
            "guest": {"given": "tap0", "name": "vm0", "index": 5, "state": "whole", "way_out": null},
            "uplink": {"given": "up0", "name": "up0", "index": 6, "state": "whole", "way_out": null},
        },
        "hold": "afxdp", "held": 2,
        "held_time": {"count": 9, "p50_us": 70, "p99_us": 900, "max_us": 1000},
        "pauses": {"count": 0, "p50_us": 0, "p99_us": 0, "max_us": 0}, "counters": {"captured": 9},
        "checkpoints": {"asked": 1, "by": {"payload": 1}}, "failover": null, "heartbeat": null, "lease": null, "divergences": [],
    });
    assert_eq!(serde_json::to_value(status()).unwrap(), expected);
}

#[test]
fn one_that_is_frozen_and_was_asked_too_often_does_not_keep_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tap0.sock");
    let frozen = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    frozen.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    frozen.listen(1).unwrap();
    let ask = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(&path).unwrap()).map(|()| socket)
    };
    let waiting: Vec<_> = std::iter::from_fn(|| ask().ok()).collect();
    assert!(!waiting.is_empty());
    let error = format!("{:#}", ask_status(&path).unwrap_err());
    assert!(error.contains("no agent answers on"), "{error}");
}

#[test]
fn a_second_agent_is_refused_by_process_and_a_killed_one_is_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run").join("tap0.sock");
    let first = ControlSocket::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = ControlSocket::open(&path).unwrap_err().to_string();
    assert!(
        error.contains(&format!("process {}", std::process::id())) && error.contains("tap0.sock"),
        "{error}"
    );
    assert!(path.exists(), "the first one's socket stays");
    drop(first);
    assert!(!path.exists());
    // What a killed agent leaves: a socket nobody listens on, and a lock file nobody has locked.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    fs::write(with_suffix(&path, ".lock"), "1\n").unwrap();
    drop(ControlSocket::open(&path).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_line_by_line_and_bad_ones_by_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tap0.sock");
    let (handle, port) = channel().unwrap();
    tokio::spawn(ControlSocket::open(&path).unwrap().serve(handle, None));
    let agent = std::thread::spawn(move || {
        for _ in 0..2 {
            match port.recv_within(Duration::from_secs(20)) {
                Some(Command::Status(reply)) => reply.send(status()).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    });
    let conversation = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            (&stream)
                .write_all(b"{\"command\":\"status\"}\nnonsense\n{\"command\":\"dance\"}\n{}\n")
                .unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answers = String::new();
            (&stream).read_to_string(&mut answers).unwrap();
            (answers, ask_status(&path).unwrap())
        }
    });
    let (answers, asked) = conversation.await.unwrap();
    let answers: Vec<Value> = answers.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers[0], serde_json::to_value(status()).unwrap());
    assert_eq!(answers[0], asked);
    let errors: Vec<_> = answers[1..].iter().map(|a| a["error"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 3);
    assert!(
        errors[0].contains("not a JSON object")
            && errors[1].contains("`dance`")
            && errors[2].contains("no `command`")
    );
    agent.join().unwrap();

    // A line without an end costs that connection only.
    let flood = tokio::task::spawn_blocking(move || {
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        // The agent may close before all is written.
        let _ = (&stream).write_all(&vec![b'x'; 100_000]);
        let mut answer = String::new();
        let _ = (&stream).read_to_string(&mut answer);
        ask_status(&path).unwrap_err().to_string()
    });
    assert!(flood.await.unwrap().contains("packet thread has ended"));
}

#[tokio::test]
async fn an_order_is_not_carried_out_once_its_sender_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tap0.sock");
    let (handle, port) = channel().unwrap();
    let socket = ControlSocket::open(&path).unwrap();
    let order = |text: &[u8]| {
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        (&stream).write_all(text).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    };
    // The agent is not run, and its operator gives up; another one waits, and has no more to ask.
    drop(order(b"{\"command\":\"demote\"}\n"));
    let _waits = order(b"{\"command\":\"promote\"}\n");
    tokio::spawn(socket.serve(handle, None));
    let next = tokio::task::spawn_blocking(move || {
        let first = port.recv_within(Duration::from_secs(20));
        (format!("{first:?}"), port.recv_within(Duration::from_millis(200)).is_none())
    });
    let (first, alone) = next.await.unwrap();
    assert!(first.contains("Promote") && alone, "{first}");
}

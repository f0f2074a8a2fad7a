//! `colo watchdog` over a network that is cut: what its connections and its script come to.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use colo_tests::{
    awd::{Dog, PULSE, SCRIPT, SOON, ms, script},
    lab::child::Programs,
    netns::Netns,
};

#[test]
fn a_script_that_was_cut_off_reaches_the_node_once_and_dead_connections_end() {
    let (here, there) = (Netns::new("colo-awd").unwrap(), Netns::new("colo-awd").unwrap());
    here.veth("awd0", &there, "awd0").unwrap();
    here.run("ip addr add 10.66.0.1/24 dev awd0").unwrap();
    there.run("ip addr add 10.66.0.2/24 dev awd0").unwrap();
    let listen = || there.enter(|| TcpListener::bind("10.66.0.2:0")).unwrap();
    let (awd, monitor) = (listen(), listen());
    let meet = |listener: &TcpListener| -> TcpStream {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    fs::write(&file, SCRIPT).unwrap();
    let endpoint = |listener: &TcpListener| format!("tcp:{}", listener.local_addr().unwrap());
    let (awd_node, notification_node, file) =
        (endpoint(&awd), endpoint(&monitor), file.display().to_string());
    let colo = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo;
    let dog = Dog::start(
        here.command(colo.to_str().unwrap()),
        dir.path(),
        &[
            "--awd-node",
            &awd_node,
            "--notification-node",
            &notification_node,
            "--opt-script",
            &file,
            "--timeout",
            "1500",
            "--pulse-interval",
            "100",
        ],
    );
    let (mut peer, mut first) = (meet(&awd), meet(&monitor));

    // A short cut: the same connection has it in the end.
    peer.write_all(PULSE).unwrap();
    dog.state("alive");
    there.run("ip link set awd0 down").unwrap();
    dog.state("timed-out");
    there.run("ip link set awd0 up").unwrap();
    script(&mut first, SCRIPT);
    dog.wait_for("script_written", |_| true);

    // A long one: both connections end here, and the script is said to the next monitor.
    peer.write_all(PULSE).unwrap();
    dog.state("alive");
    there.run("ip link set awd0 down").unwrap();
    dog.state("timed-out");
    let ended = [(); 2].map(|()| dog.wait_for("disconnected", |_| true));
    assert_ne!(ended[0]["node"], ended[1]["node"], "{ended:?}");
    for line in &ended {
        let reason = line["reason"].as_str().unwrap();
        assert!(line["node"] == "awd_node" || reason.ends_with("in the middle of the script"), "{line}");
    }
    there.run("ip link set awd0 up").unwrap();
    let (mut again, mut second) = (meet(&awd), meet(&monitor));
    script(&mut second, SCRIPT);
    dog.wait_for("script_written", |_| true);
    again.write_all(PULSE).unwrap();
    dog.state("alive");
    first.set_read_timeout(Some(ms(300))).unwrap();
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    assert!(rest.is_empty(), "the dead connection had it too: {}", String::from_utf8_lossy(&rest));
    assert_eq!(dog.end().code(), Some(0));
}

use std::io::ErrorKind;

use super::*;

fn parse(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|e: EndpointError| e.to_string())
}

#[test]
fn the_forms_of_qemu_are_read_and_printed_back() {
    for text in [
        "unix:/run/a.sock",
        "unix:/run/a.sock,server=on",
        "unix:/run/a,,b.sock,server=on",
        "tcp:192.0.2.1:9000",
        "tcp:[2001:db8::1]:9000,server=on",
        "tcp::9000,server=on",
        "tcp:host.example:9000",
    ] {
        assert_eq!(parse(text).expect(text).to_string(), text);
    }
    assert_eq!(parse("unix:a,server,wait=off").expect("short"), parse("unix:a,server=on").expect("long"));
    assert_eq!(parse("unix:/a,,b").expect("comma").address, Address::Unix("/a,b".into()));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, reason) in [
        ("/run/a.sock", "no `unix:` or `tcp:`"),
        ("udp:1.2.3.4:5", "neither `unix:` nor `tcp:`"),
        ("unix:", "path is empty"),
        ("tcp:9000", "no port"),
        ("tcp:h:90000", "0 to 65535"),
        ("tcp:h:", "0 to 65535"),
        ("tcp:h:0", "only for a server"),
        ("tcp::9000", "only for a server"),
        ("tcp:::1:9000", "brackets"),
        ("tcp:[::1:9000", "without `]`"),
        ("unix:a,sever=on", "neither server=on|off"),
        ("unix:a,server=on,wait=on", "not supported"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(reason) && error.contains(text), "{text}: {error}");
    }
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("s");
    let endpoint = parse(&format!("unix:{},server=on", path.display())).expect("endpoint");

    drop(UnixListener::bind(&path).expect("a server that leaves its file behind"));
    let listener = endpoint.listen().expect("the stale file is replaced");
    assert!(matches!(endpoint.listen(), Err(EndpointError::InUse { .. })));
    drop(listener);
    assert!(!path.exists(), "a server takes its file along");

    fs::write(&path, "precious").expect("write");
    assert!(matches!(endpoint.listen(), Err(EndpointError::NotASocket { .. })));
    assert_eq!(fs::read(&path).expect("read"), b"precious");
}

#[test]
fn a_server_that_was_replaced_leaves_the_new_file_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("s");
    let endpoint = parse(&format!("unix:{},server=on", path.display())).expect("endpoint");
    let old = endpoint.listen().expect("listen");
    fs::remove_file(&path).expect("remove");
    let _new = endpoint.listen().expect("listen again");
    drop(old);
    assert!(path.exists());
}

#[test]
fn both_kinds_carry_bytes_both_ways() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for server in [format!("unix:{}/s,server=on", dir.path().display()), "tcp:[::1]:0,server=on".to_owned()] {
        let endpoint = parse(&server).expect("endpoint");
        let listener = endpoint.listen().expect(&server);
        assert_eq!(listener.accept().expect_err("nobody yet").kind(), ErrorKind::WouldBlock);
        let client = match listener.local_addr() {
            Some(address) => parse(&format!("tcp:{address}")).expect("endpoint"),
            None => Endpoint { server: false, ..endpoint },
        };
        let mut blocking = client.connect(Duration::from_secs(5)).expect("connect");
        let mut accepted = listener.accept().expect("accept");
        accepted.write_all(b"there").expect("write");
        let mut buffer = [0; 5];
        blocking.read_exact(&mut buffer).expect("read");
        assert_eq!(&buffer, b"there");

        let begun = client.resolve().expect("resolve").begin_connect().expect("begin");
        rustix::event::poll(&mut [rustix::event::PollFd::new(&begun, rustix::event::PollFlags::OUT)], None)
            .expect("poll");
        begun.finish_connect().expect("connected");
    }
}

#[test]
fn nobody_there_is_an_error_with_the_address() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let endpoint = parse(&format!("unix:{}/none", dir.path().display())).expect("endpoint");
    let error = endpoint.connect(Duration::from_secs(1)).expect_err("nobody").to_string();
    assert!(error.contains(&endpoint.to_string()), "{error}");
}

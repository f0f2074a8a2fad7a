use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::*;

#[test]
fn a_veth_pair_carries_tcp_between_two_namespaces() {
    let left = Netns::new("colo-l").unwrap();
    let right = Netns::new("colo-r").unwrap();
    left.veth("l0", &right, "r0").unwrap();
    left.run("ip addr add 192.0.2.1/24 dev l0").unwrap();
    right.run("ip addr add 192.0.2.2/24 dev r0").unwrap();
    let listener = left.enter(|| TcpListener::bind("192.0.2.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = right.enter(|| TcpStream::connect(address)).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
}

#[test]
fn a_namespace_leaves_with_its_guard() {
    let namespace = Netns::new("colo-drop").unwrap();
    let path = namespace.path();
    assert!(path.exists());
    drop(namespace);
    assert!(!path.exists());
}

#[test]
fn a_failing_command_says_why() {
    let namespace = Netns::new("colo-fail").unwrap();
    let error = namespace.run("ip link show nowhere").unwrap_err().to_string();
    assert!(error.contains("ip link show nowhere") && error.contains("nowhere"), "{error}");
}

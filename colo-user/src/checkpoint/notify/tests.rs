use super::*;
use crate::checkpoint::Request;
use crate::epoch::Epoch;
use crate::link::chardev;
use std::sync::atomic::{AtomicU64, Ordering};

struct Fixture {
    _dir: tempfile::TempDir,
    path: String,
    mailbox: Arc<Mailbox>,
    checkpoints: Arc<AtomicU64>,
}

fn serve() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify").display().to_string();
    let mailbox = Arc::new(Mailbox::default());
    let checkpoints = Arc::new(AtomicU64::new(0));
    let backend = NotifyDev::open(format!("unix:{path},server=on").parse().unwrap()).unwrap();
    let counted = Arc::clone(&checkpoints);
    let on_checkpoint: OnCheckpoint = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(Box::new(backend).serve(Arc::clone(&mailbox), on_checkpoint));
    Fixture { _dir: dir, path, mailbox, checkpoints }
}

fn framed(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    chardev::put(&mut bytes, text);
    bytes
}

async fn expect(stream: &mut tokio::net::UnixStream, text: &[u8]) {
    let expected = framed(text);
    let mut got = vec![0; expected.len()];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut got));
    read.await.expect("within 20 s").unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_request_is_repeated_until_the_checkpoint_comes_and_outlives_a_peer() {
    let f = serve();
    f.mailbox.post(&Request { kind: "payload", text: String::new(), epoch: Epoch(1), divergence: None });
    let mut first = tokio::net::UnixStream::connect(&f.path).await.unwrap();
    expect(&mut first, b"DO_CHECKPOINT").await;
    expect(&mut first, b"DO_CHECKPOINT").await;
    drop(first);
    let mut second = tokio::net::UnixStream::connect(&f.path).await.unwrap();
    expect(&mut second, b"DO_CHECKPOINT").await;
    second.write_all(&framed(b"COLO_CHECKPOINT")).await.unwrap();
    second.write_all(&framed(b"COLO_USERSPACE_PROXY_INIT")).await.unwrap();
    expect(&mut second, b"COLO_COMPARE_GET_XEN_INIT").await;
    assert_eq!(f.checkpoints.load(Ordering::Relaxed), 1);
    let mut silence = [0];
    let more = tokio::time::timeout(CYCLE * 2, second.read_exact(&mut silence)).await;
    assert!(more.is_err(), "nothing is asked for any more");
}

#[tokio::test]
async fn a_checkpoint_that_nobody_asked_for_begins_a_cut_too() {
    let f = serve();
    let mut peer = tokio::net::UnixStream::connect(&f.path).await.unwrap();
    peer.write_all(&framed(b"COLO_CHECKPOINT")).await.unwrap();
    peer.write_all(&framed(b"COLO_USERSPACE_PROXY_INIT")).await.unwrap();
    expect(&mut peer, b"COLO_COMPARE_GET_XEN_INIT").await;
    assert_eq!(f.checkpoints.load(Ordering::Relaxed), 1);
}

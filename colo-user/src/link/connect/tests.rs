use super::*;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

struct Side {
    slot: Arc<Slot>,
    links: mpsc::Receiver<Connected>,
}

fn side(endpoint: &str, role: Role) -> Side {
    let (sender, links) = mpsc::channel(1);
    let slot = Arc::new(Slot::default());
    let hello = Hello::plain(role, [role as u8; 16]);
    let connector = Connector::new(endpoint.parse().unwrap(), hello, Arc::clone(&slot), sender).unwrap();
    tokio::spawn(connector.run());
    Side { slot, links }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

fn scratch() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link").display().to_string();
    (dir, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_meet_whoever_is_first_and_meet_again() {
    let (_dir, path) = scratch();
    let mut client = side(&format!("unix:{path}"), Role::Secondary);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mut server = side(&format!("unix:{path},server=on"), Role::Primary);
    for _ in 0..3 {
        let at_client = within(client.links.recv()).await.unwrap();
        let at_server = within(server.links.recv()).await.unwrap();
        assert_eq!(at_client.hello.role, Role::Primary);
        assert_eq!(at_server.hello.role, Role::Secondary);
        drop((at_client, at_server));
        server.slot.free();
        client.slot.free();
    }
}

#[test]
fn attempts_become_rare_where_nothing_comes_of_them() {
    let pauses = |backoff: &mut Backoff, attempts: usize| -> Vec<Duration> {
        (0..attempts).map(|_| backoff.next()).collect()
    };
    let millis = |all: &[u64]| all.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
    let mut backoff = Backoff(BACKOFF);
    assert_eq!(pauses(&mut backoff, 7), millis(&[100, 200, 400, 800, 1600, 2000, 2000]));
    backoff.linked(Duration::from_millis(5), false);
    assert_eq!(backoff.next(), BACKOFF_MAX, "closed at once");
    backoff.linked(BACKOFF_MAX, false);
    assert_eq!(pauses(&mut backoff, 2), millis(&[100, 200]));
    // A peer that goes on alone, each time, however long the link was there.
    for held in [Duration::ZERO, Duration::from_secs(60)] {
        backoff.linked(held, true);
        assert_eq!(backoff.next(), BACKOFF_REST);
    }
    assert_eq!(backoff.next(), BACKOFF_MAX, "it was not there any more");
}

/// What the agent answers to `said`, until it closes.
async fn answer(path: &str, said: Vec<u8>) -> Vec<u8> {
    let path = path.to_owned();
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(&said).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    within(exchange).await.unwrap()
}

fn bye(answer: &[u8]) -> String {
    let (hello, taken) = Hello::decode(answer, Role::Primary).unwrap().expect("its own hello comes first");
    assert_eq!(hello.role, Role::Primary);
    let message = Message::decode(&answer[taken..]).unwrap().expect("a bye follows").0;
    let Message::Bye { reason: ByeReason::Refused, text } = message else { panic!("{message:?}") };
    text.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_peers_are_refused_by_name_and_cost_nothing_else() {
    let (_dir, path) = scratch();
    let mut server = side(&format!("unix:{path},server=on"), Role::Primary);
    let good = Hello::plain(Role::Secondary, [3; 16]).encode();
    let mut newer = good.clone();
    newer[9] = 7;
    let cases = [
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), "expected a hello beginning with \"COLOLINK\""),
        (newer, "version 7"),
        (Hello::plain(Role::Primary, [3; 16]).encode(), "its role is primary, expected secondary"),
        (good[..20].to_vec(), "after 20 bytes of a hello"),
        (Vec::new(), "after 0 bytes of a hello"),
    ];
    let count = cases.len() as u64;
    for (said, expected) in cases {
        let text = bye(&answer(&path, said).await);
        assert!(text.contains(expected), "{text:?} lacks {expected:?}");
    }
    assert_eq!(server.slot.refused(), count);

    // A good one is taken still; a second good one is refused while the first is there.
    let first = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (mut reader, mut writer) = first.into_split();
    within(writer.write_all(&good)).await.unwrap();
    within(server.links.recv()).await.expect("the good peer");
    let text = bye(&answer(&path, good.clone()).await);
    assert!(text.contains("another secondary is connected already"), "{text}");
    let mut hello = vec![0; 8];
    within(reader.read_exact(&mut hello)).await.unwrap();
    server.slot.free();
    drop((reader, writer));
    let mut again = tokio::net::UnixStream::connect(&path).await.unwrap();
    within(again.write_all(&good)).await.unwrap();
    assert!(within(server.links.recv()).await.is_some(), "the slot is free again");
}

#[tokio::test]
async fn a_taken_address_is_an_error_at_start() {
    let (_dir, path) = scratch();
    let endpoint = format!("unix:{path},server=on");
    let _server = side(&endpoint, Role::Primary);
    let (sender, _links) = mpsc::channel(1);
    let hello = Hello::plain(Role::Primary, [0; 16]);
    let error = Connector::new(endpoint.parse().unwrap(), hello, Arc::default(), sender).expect_err("taken");
    assert!(error.to_string().contains(&path), "{error}");
}

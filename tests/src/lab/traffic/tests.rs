use std::{
    io::{Read as _, Write as _, pipe},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
};

use super::{super::replica, *};

static NEVER: AtomicBool = AtomicBool::new(false);
const PATIENCE: Duration = Duration::from_secs(10);

fn stream(kind: Kind, server: impl Into<IpAddr>) -> Stream {
    Stream { kind, server: server.into(), pause: Duration::ZERO }
}

#[test]
fn every_kind_of_traffic_goes_on_until_it_is_told_to_end() {
    let client = Netns::new("colo-traffic").unwrap();
    let (commands, keep) = pipe().unwrap();
    let mut plan = Plan::all(7);
    for stream in &mut plan.streams {
        stream.server = match stream.server {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
    }
    // One port that both families dial from, and one loopback for guest and client: the guest's own connections
    // would take each other's addresses, so only one of the two runs.
    plan.streams.retain(|stream| stream.kind != Kind::Dialled || stream.server.is_ipv4());
    thread::scope(|scope| {
        let server = scope.spawn(|| client.enter(|| replica::serve(std::io::BufReader::new(commands))));
        thread::sleep(Duration::from_millis(100));
        let ((), report) = run(&client, &plan, &NEVER, |control| {
            control.wait_steady(PATIENCE).unwrap();
            control.burst();
            let before = control.progress();
            control.wait_for(5, &before, PATIENCE).unwrap();
        });
        drop(keep);
        server.join().unwrap().unwrap();
        assert_eq!(report.broken(), Vec::<String>::new());
        assert_eq!(report.lost(), 0);
        for connection in &report.connections {
            let least = match connection.kind {
                Kind::Idle => 2,
                Kind::Burst => 24,
                _ => 8,
            };
            assert!(connection.done >= least, "{connection:?}");
        }
        assert_eq!(report.samples.len() as u64, report.done());
        assert!(report.longest().length < PATIENCE && report.percentile(Kind::Lines, 50).is_some());
    });
}

#[test]
fn a_connection_that_breaks_is_named_with_what_it_lost_and_not_replaced() {
    let client = Netns::new("colo-traffic").unwrap();
    let listener = client.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, replica::HTTP)).unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n").unwrap();
            stream.write_all(&[0; 1000]).unwrap();
        });
        let plan = Plan { streams: vec![stream(Kind::Download, Ipv4Addr::LOCALHOST)], ..Plan::all(1) };
        let (waited, report) = run(&client, &plan, &NEVER, |control| control.wait_steady(PATIENCE));
        assert!(waited.unwrap_err().to_string().contains("broken: bulk to client"));
        assert_eq!((report.done(), report.lost()), (0, (1 << 20) - 1000));
        let broken = report.broken();
        assert!(broken.len() == 1 && broken[0].contains("1000 bytes arrived"), "{broken:?}");
        assert!(report.table().contains("! bulk to client"), "{}", report.table());
    });
}

#[test]
fn a_stop_ends_every_wait() {
    let client = Netns::new("colo-traffic").unwrap();
    let listener = client.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, replica::LINES)).unwrap());
    let stop = AtomicBool::new(false);
    let plan = Plan { streams: vec![stream(Kind::Lines, Ipv4Addr::LOCALHOST)], ..Plan::all(1) };
    // The accepted connection is open until after the end.
    let ((waited, _silent), report) = run(&client, &plan, &stop, |control| {
        let silent = listener.accept().unwrap();
        stop.store(true, Ordering::Relaxed);
        (control.wait_steady(PATIENCE), silent)
    });
    assert!(waited.is_err() && report.took < PATIENCE);
    assert!(report.broken()[0].contains("the lab was stopped"), "{:?}", report.broken());
}

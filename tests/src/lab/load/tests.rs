use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};

use super::{
    super::{
        content,
        replica::{Differences, accept, serve_http, serve_lines},
    },
    *,
};

static NEVER: AtomicBool = AtomicBool::new(false);

fn http(server: SocketAddr) -> Http<'static> {
    Http::connect(server, PATIENCE, &NEVER).unwrap()
}

/// A replica's HTTP service on loopback, made to differ at `(path, offset)`.
fn http_server(differ: Option<(String, u64)>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let differences = Differences::default();
    differences.lock().unwrap().extend(differ);
    thread::spawn(move || accept(&listener, move |stream| serve_http(stream, &differences)));
    address
}

#[test]
fn a_download_and_an_upload_share_a_connection() {
    let mut http = http(http_server(None));
    http.download(1, 300_000, false).unwrap();
    http.upload(2, 300_000).unwrap();
    http.download(3, 0, false).unwrap();
    http.download(4, 70_000, true).unwrap();
}

#[test]
fn one_corrupted_byte_of_a_download_is_seen() {
    let mut http = http(http_server(Some((path(1, 300_000), 299_999))));
    http.download(2, 300_000, false).unwrap();
    let error = http.download(1, 300_000, false).unwrap_err().to_string();
    assert!(error.contains("SHA-256"), "{error}");
}

#[test]
fn one_corrupted_byte_of_an_upload_is_seen() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let mut body = vec![0; 1000];
        stream.read_exact(&mut body).unwrap();
        body[500] ^= 1;
        let mut check = Check::new();
        check.update(&body);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n{}\n", check.hash());
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
    });
    let error = http(address).upload(1, 1000).unwrap_err().to_string();
    server.join().unwrap();
    assert!(error.contains("the server got"), "{error}");
}

#[test]
fn a_truncated_download_says_how_far_it_came() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").unwrap();
        stream.write_all(&content::bytes(1, 400)).unwrap();
    });
    let mut received = Received::default();
    let error = http(address).download_counted(1, 1000, false, &mut received).unwrap_err();
    server.join().unwrap();
    assert_eq!(received, Received { head: 41, body: 400 });
    assert!(error.to_string().contains("400 bytes arrived where 1000 were due"), "{error}");
}

#[test]
fn lines_are_checked() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || accept(&listener, |stream| serve_lines(&stream)));
    let mut lines = BufReader::new(connect(address, PATIENCE, &NEVER).unwrap());
    ask(&mut lines, 5, 1).unwrap();
    ask(&mut lines, 6, 1024).unwrap();
    end(&mut lines).unwrap();

    let liar = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = liar.local_addr().unwrap();
    thread::spawn(move || {
        let mut stream = liar.accept().unwrap().0;
        let mut answer = content::bytes(5, 8);
        answer[7] ^= 1;
        answer.push(b'\n');
        stream.write_all(&answer).unwrap();
        thread::sleep(PATIENCE);
    });
    assert!(ask(&mut BufReader::new(connect(address, PATIENCE, &NEVER).unwrap()), 5, 8).is_err());
}

#[test]
fn one_corrupted_byte_of_a_datagram_is_seen() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for corruption in [0, 1] {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            buffer[length - 1] ^= corruption;
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    assert_eq!(datagram::udp(address, 1, 2000, &[], &NEVER).unwrap(), 1);
    assert!(datagram::udp(address, 1, 2000, &[], &NEVER).is_err());
}

#[test]
fn percentiles_are_of_the_sorted_latencies() {
    let latencies: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
    let outcome = Outcome { latencies, ..Outcome::default() };
    assert_eq!(outcome.percentile(50), Duration::from_millis(50));
    assert_eq!(outcome.percentile(99), Duration::from_millis(99));
    assert_eq!(Outcome::default().percentile(99), Duration::ZERO);
}

#[test]
fn a_wait_ends_when_patience_does_or_the_lab_is_stopped() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let error =
        Http::connect(address, Duration::from_millis(50), &NEVER).unwrap().download(1, 1, true).unwrap_err();
    assert!(format!("{error:#}").contains("nothing for 50ms"), "{error:#}");
    let stopped = AtomicBool::new(true);
    let error = Http::connect(address, PATIENCE, &stopped).unwrap().download(1, 1, true).unwrap_err();
    assert!(format!("{error:#}").contains("the lab was stopped"), "{error:#}");
}

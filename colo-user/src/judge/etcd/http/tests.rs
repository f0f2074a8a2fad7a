use super::super::spec::{EtcdSpec, Files};
use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;

/// Answers each connection by what `answer` makes of the request's lines, until the test ends.
fn gateway(answer: impl Fn(&str) -> (u16, Value) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut request = Vec::new();
            // All bodies here end with a brace, and no header does.
            while request.last() != Some(&b'}') {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let (status, body) = answer(std::str::from_utf8(&request).unwrap());
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status} .\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    url
}

fn access(spec: &str) -> Access {
    spec.parse::<EtcdSpec>().unwrap().access
}

#[test]
fn a_handshake_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let authority = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, authority.cert.pem()).unwrap();
    let access = Access {
        tls: Some(Files { ca: Some(ca), identity: None }),
        ..access(&format!("http://127.0.0.1:{port}"))
    };
    let mut http = Http::new(&access, Duration::from_secs(2)).unwrap();
    let (sender, answer) = channel();
    thread::spawn(move || {
        sender.send(http.post(&format!("https://127.0.0.1:{port}"), "kv/txn", &json!({}))).unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    // It speaks TLS, and gets a record of 16,384 bytes one by one: a time limit of each read would last for minutes.
    stream.read_exact(&mut [0; 5]).unwrap();
    stream.write_all(&[22, 3, 3, 0x40, 0]).unwrap();
    let why = loop {
        match answer.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => break answer.unwrap_err(),
            Err(_) => drop(stream.write_all(&[2])),
        }
    };
    assert_eq!(why, "no answer within 2s");
}

#[test]
fn a_token_is_had_once_and_again_when_it_is_not_known_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    fs::write(&password, "secret\n").unwrap();
    let (said, requests) = channel();
    let url = gateway(move |request| {
        said.send(request.to_owned()).unwrap();
        let authorised = request.to_ascii_lowercase().contains("authorization: second");
        match request {
            _ if request.contains("/v3/auth/authenticate") => {
                let token = if request.contains(r#""password":"other""#) { "second" } else { "first" };
                (200, json!({ "token": token }))
            }
            _ if authorised => (200, json!({ "succeeded": true })),
            _ => (401, json!({ "error": "etcdserver: invalid auth token", "code": 16 })),
        }
    });
    let spec = format!("{url};user=colo;password-file={}", password.display());
    let mut http = Http::new(&access(&spec), Duration::from_secs(30)).unwrap();
    let refused = http.post(&url, "kv/txn", &json!({})).unwrap_err();
    assert!(refused.contains("invalid auth token"), "{refused}");
    let first: Vec<String> = requests.try_iter().collect();
    assert_eq!(first.len(), 2, "a token that was just had is not had again: {first:?}");
    assert!(first[0].contains(r#"{"name":"colo","password":"secret"}"#), "{first:?}");

    fs::write(&password, "other\n").unwrap();
    http.post(&url, "kv/txn", &json!({})).unwrap();
    http.post(&url, "kv/txn", &json!({})).unwrap();
    let paths: Vec<String> =
        requests.try_iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    let (login, ask) = ("POST /v3/auth/authenticate HTTP/1.1", "POST /v3/kv/txn HTTP/1.1");
    assert_eq!(paths, [login, ask, ask]);
    assert!(!format!("{http:?}").contains("second"), "a token is not shown");
}

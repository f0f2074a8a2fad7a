use std::io::Cursor;

use super::*;

fn head(text: &str) -> Result<Option<Head>> {
    read_head(&mut Cursor::new(text.as_bytes()))
}

#[test]
fn heads_are_understood() {
    assert_eq!(
        head("GET /bytes/7/1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap(),
        Some(Head {
            request: Request::Download { path: "/bytes/7/1000".into(), seed: 7, length: 1000 },
            close: true,
            expect: false
        })
    );
    assert_eq!(
        head("PUT /upload HTTP/1.1\r\ncontent-length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap(),
        Some(Head { request: Request::Upload { length: 5 }, close: false, expect: true })
    );
    assert_eq!(head("").unwrap(), None);
    assert_eq!(head("GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().request, Request::Unknown);
}

#[test]
fn bad_heads_are_errors() {
    assert!(head("nonsense\r\n\r\n").is_err());
    assert!(head("GET /bytes/1/1 HTTP/1.1\r\nHost: x").is_err());
    assert!(head("PUT /upload HTTP/1.1\r\nContent-Length: many\r\n\r\n").is_err());
    assert!(head(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000))).is_err());
}

#[test]
fn a_difference_is_one_byte_and_only_there() {
    let (mut plain, mut other) = (Vec::new(), Vec::new());
    send_body(&mut plain, 5, 200_000, None).unwrap();
    send_body(&mut other, 5, 200_000, Some(CHUNK as u64)).unwrap();
    assert_eq!(plain, content::bytes(5, 200_000));
    let differing: Vec<usize> = (0..plain.len()).filter(|&at| plain[at] != other[at]).collect();
    assert_eq!(differing, [CHUNK]);
}

#[test]
fn an_upload_is_answered_with_its_hash() {
    let content = content::bytes(9, 70_000);
    assert_eq!(receive_body(&mut Cursor::new(&content), 70_000).unwrap(), content::hash(9, 70_000));
    assert!(receive_body(&mut Cursor::new(&content), 70_001).is_err());
}

#[test]
fn commands_are_understood_or_refused() {
    assert_eq!(parse_command("differ /bytes/1/2 1").unwrap(), ("/bytes/1/2".to_owned(), 1));
    assert!(parse_command("differ /bytes/1/2").is_err());
    assert!(parse_command("differ /bytes/1/2 x").is_err());
}

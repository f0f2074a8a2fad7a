//! The client of the second VM of the ceiling: it has its VM do what the measured client has the first one do, and checks
//! nothing, so that it costs as little as a client can.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::case::Case;
use crate::lab::{
    content::CHUNK,
    load::{PATIENCE, path},
    replica::{HTTP, LINES},
};

/// Longer than any round takes.
const ENDLESS: u64 = 1 << 40;
/// How often a wait looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Does the work of `case` on one connection at a time until `stop`.
pub fn work(case: Case, server: IpAddr, stop: &AtomicBool) -> io::Result<()> {
    let open = |port| open(server, port);
    let stopped = || stop.load(Ordering::Relaxed);
    match case {
        Case::Byte | Case::Kilobyte | Case::Bytes | Case::Kilobytes => {
            let length = case.answer();
            let mut stream = open(LINES)?;
            while !stopped() {
                stream.write_all(line(length).as_bytes())?;
                consume(&mut stream, length + 1, &stopped)?;
            }
        }
        Case::Out => {
            let mut stream = open(HTTP)?;
            stream.write_all(get(ENDLESS, "keep-alive").as_bytes())?;
            consume(&mut stream, ENDLESS, &stopped)?;
        }
        Case::In => {
            let mut stream = open(HTTP)?;
            stream
                .write_all(format!("PUT /upload HTTP/1.1\r\nContent-Length: {ENDLESS}\r\n\r\n").as_bytes())?;
            let bytes = vec![0; CHUNK];
            while !stopped() {
                match stream.write(&bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => drop(other?),
                }
            }
        }
        Case::Http => {
            while !stopped() {
                let mut stream = open(HTTP)?;
                stream.write_all(get(case.answer(), "close").as_bytes())?;
                consume(&mut stream, ENDLESS, &stopped)?;
            }
        }
    }
    Ok(())
}

/// Opens a connection whose waits look up now and then.
pub(super) fn open(server: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(server, port), PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))?;
    Ok(stream)
}

/// A request for a line of so many bytes and its end.
pub(super) fn line(length: u64) -> String {
    format!("1 {length}\n")
}

fn get(length: u64, connection: &str) -> String {
    format!("GET {} HTTP/1.1\r\nConnection: {connection}\r\n\r\n", path(1, length))
}

/// Reads so many bytes, or to the end of the connection, or until it is stopped.
pub(super) fn consume(
    stream: &mut TcpStream,
    mut length: u64,
    stopped: &impl Fn() -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while length > 0 && !stopped() {
        match stream.read(&mut buffer[..length.min(CHUNK as u64) as usize]) {
            Ok(0) => return Ok(()),
            Ok(got) => length -= got as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! The server that both guests run: every answer is a function of its request alone.
//!
//! | service | request | answer |
//! |---|---|---|
//! | HTTP/1.1, TCP [`HTTP`] | `GET /bytes/SEED/LENGTH` | that much of that stream ([`content`]) |
//! | | `PUT /upload` | SHA-256 of what was sent |
//! | line protocol, TCP [`LINES`] | `SEED LENGTH\n` | that much of that stream, then `\n` |
//! | | `keep NAME LENGTH\n` | `kept NAME LENGTH\n` when that much of stream NAME is a file on the disk of a VM ([`DISK`]), for good |
//! | | `show NAME\n` | the length of that file in a line, then its content |
//! | | `dial PORT\n` | a connection back to that port, from port [`DIAL`]; requests then come on it |
//! | UDP [`ECHO`] | a datagram | the same datagram |
//!
//! HTTP without `Date`, since two machines turn their second at different moments. A thread per connection; it ends
//! with the connection. The process ends when its commands do.
//!
//! The commands (standard input, or a serial port of a VM) are the knob of the one who runs the lab, out of the network's
//! sight: the line `differ PATH OFFSET` makes this replica answer later requests for PATH with one other byte at OFFSET of the body.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::content::{self, CHUNK, Check};

mod disk;
pub use disk::DISK;

/// TCP port of the HTTP service.
pub const HTTP: u16 = 8080;
/// TCP port of the line protocol.
pub const LINES: u16 = 7000;
/// TCP port that the server's own connections come from: chosen by the kernel, it would be another one on each side.
pub const DIAL: u16 = 7002;
/// UDP port of the echo service.
pub const ECHO: u16 = 7001;

/// The line the server writes when it can be connected to.
pub const READY: &str = "replica: ready";
/// The line the server writes when it has taken a command.
pub const TAKEN: &str = "replica: will differ";

/// The longest request head; a longer one is refused.
const HEAD_LIMIT: u64 = 8 << 10;
/// The longest answer of the line protocol.
pub const LINE_LIMIT: usize = 64 << 10;
/// Connections that may wait for accept: as many as the kernel lets, so that none is answered by a SYN cookie.
const BACKLOG: i32 = 4096;

/// The bytes that this replica shall say differently: offset in the body by request path.
pub(super) type Differences = Arc<Mutex<HashMap<String, u64>>>;

/// Serves until `commands` end.
pub fn serve(commands: impl BufRead) -> Result<ExitCode> {
    let differences = Differences::default();
    let http = listen(HTTP)?;
    let lines = listen(LINES)?;
    let echo = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO)).context("UDP port of the echo service")?;
    let shared = Arc::clone(&differences);
    thread::spawn(move || accept(&http, move |stream| serve_http(stream, &shared)));
    thread::spawn(move || accept(&lines, |stream| serve_lines(&stream)));
    thread::spawn(move || serve_echo(&echo));
    println!("{READY}");
    for line in commands.lines() {
        let line = line?;
        let (path, offset) = parse_command(&line)?;
        differences.lock().unwrap_or_else(PoisonError::into_inner).insert(path, offset);
        println!("{TAKEN}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `differ PATH OFFSET`.
fn parse_command(line: &str) -> Result<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["differ", path, offset] = words[..] else {
        bail!("unknown command {line:?}; known: differ PATH OFFSET");
    };
    Ok((path.to_owned(), offset.parse().with_context(|| format!("offset {offset:?} is no number"))?))
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())
        .with_context(|| format!("TCP port {port}"))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub(super) fn accept(
    listener: &TcpListener,
    serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static,
) {
    for stream in listener.incoming().flatten() {
        let serve = serve.clone();
        thread::spawn(move || {
            // A client that leaves in the middle is its own business.
            let _ = stream.set_nodelay(true).map_err(anyhow::Error::from).and_then(|()| serve(stream));
        });
    }
}

fn serve_echo(socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A full send buffer loses a datagram, as UDP may.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Opens a connection from port [`DIAL`].
fn dial(to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    let from = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(&SocketAddr::new(from, DIAL).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.connect(&to.into()).with_context(|| format!("connecting to {to}"))?;
    Ok(socket.into())
}

pub(super) fn serve_lines(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream).take(0);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.set_limit(128);
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(port) = line.strip_prefix("dial ") {
            let back = dial(SocketAddr::new(stream.peer_addr()?.ip(), port.trim_end().parse()?))?;
            return serve_lines(&back);
        }
        if let Some(request) = line.strip_prefix("keep ") {
            let (name, length) = request.trim_end().split_once(' ').context("a file is NAME LENGTH")?;
            disk::keep(name.parse()?, length.parse()?)?;
            writer.write_all(format!("kept {request}").as_bytes())?;
            continue;
        }
        if let Some(name) = line.strip_prefix("show ") {
            let content = disk::show(name.trim_end().parse()?)?;
            writer.write_all(&[format!("{}\n", content.len()).as_bytes(), &content].concat())?;
            continue;
        }
        let (seed, length) = line.trim_end().split_once(' ').context("a request is SEED LENGTH")?;
        let length: usize = length.parse()?;
        ensure!(length <= LINE_LIMIT, "an answer has at most {LINE_LIMIT} bytes");
        let mut answer = content::bytes(seed.parse()?, length);
        answer.push(b'\n');
        writer.write_all(&answer)?;
    }
}

/// A request of the kinds the server knows.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Download { path: String, seed: u64, length: u64 },
    Upload { length: u64 },
    Unknown,
}

/// The part of a head that matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    request: Request,
    close: bool,
    expect: bool,
}

/// Reads one request head; none when the connection ends before it begins.
fn read_head(reader: &mut impl BufRead) -> Result<Option<Head>> {
    let mut reader = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [method, path, "HTTP/1.1"] = words[..] else { bail!("not an HTTP/1.1 request: {line:?}") };
    let (method, path) = (method.to_owned(), path.to_owned());
    let (mut length, mut close, mut expect) = (0, false, false);
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the head ends early or is longer than {HEAD_LIMIT} bytes");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "connection" => close = value.trim().eq_ignore_ascii_case("close"),
            "expect" => expect = value.trim().eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    let request = match (method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
        ("GET", ["", "bytes", seed, length]) => match (seed.parse(), length.parse()) {
            (Ok(seed), Ok(length)) => Request::Download { seed, length, path },
            _ => Request::Unknown,
        },
        ("PUT", ["", "upload"]) => Request::Upload { length },
        _ => Request::Unknown,
    };
    Ok(Some(Head { request, close, expect }))
}

pub(super) fn serve_http(stream: TcpStream, differences: &Differences) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    while let Some(head) = read_head(&mut reader)? {
        match head.request {
            Request::Download { path, seed, length } => {
                let other = differences.lock().unwrap_or_else(PoisonError::into_inner).get(&path).copied();
                writer.write_all(response_head("200 OK", length, head.close).as_bytes())?;
                send_body(&mut writer, seed, length, other)?;
            }
            Request::Upload { length } => {
                if head.expect {
                    writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let body = receive_body(&mut reader, length)? + "\n";
                let head = response_head("200 OK", body.len() as u64, head.close);
                writer.write_all((head + &body).as_bytes())?;
            }
            Request::Unknown => {
                writer.write_all(response_head("404 Not Found", 0, true).as_bytes())?;
                return Ok(());
            }
        }
        if head.close {
            return Ok(());
        }
    }
    Ok(())
}

fn response_head(status: &str, length: u64, close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    )
}

/// Sends the stream, with the byte at `other` inverted if that is asked of this replica.
fn send_body(writer: &mut impl Write, seed: u64, length: u64, other: Option<u64>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < length {
        let part = (length - sent).min(CHUNK as u64) as usize;
        content::fill(seed, sent, &mut buffer[..part]);
        if let Some(at) = other.and_then(|offset| offset.checked_sub(sent)).filter(|at| *at < part as u64) {
            buffer[at as usize] ^= 0xff;
        }
        writer.write_all(&buffer[..part])?;
        sent += part as u64;
    }
    Ok(())
}

fn receive_body(reader: &mut impl Read, length: u64) -> Result<String> {
    let mut check = Check::new();
    let mut buffer = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let part = left.min(CHUNK as u64) as usize;
        let got = reader.read(&mut buffer[..part])?;
        ensure!(got > 0, "the upload ends {left} bytes early");
        check.update(&buffer[..got]);
        left -= got as u64;
    }
    Ok(check.hash())
}

#[cfg(test)]
mod tests;

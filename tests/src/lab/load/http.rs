//! The HTTP client of the load: downloads and uploads, checked as they go.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    sync::atomic::AtomicBool,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    super::content::{self, CHUNK, Check},
    Patient, Wait,
};

/// What has arrived of one answer, also when it does not arrive whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the body.
    pub body: u64,
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub struct Http<'a> {
    stream: BufReader<Patient<'a>>,
}

impl<'a> Http<'a> {
    /// Connects within `patience`, which is also how long a later wait may take.
    pub fn connect(server: SocketAddr, patience: Duration, stop: &'a AtomicBool) -> Result<Self> {
        Self::connect_from(0, server, patience, stop)
    }

    /// As [`Http::connect`], from the client's port `port`; 0 is any.
    pub fn connect_from(
        port: u16,
        server: SocketAddr,
        patience: Duration,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let stream = Patient::connect(port, server, patience, stop)
            .with_context(|| format!("connecting to {server}"))?;
        Ok(Self { stream: BufReader::with_capacity(CHUNK, stream) })
    }

    /// The longest it ever waited for the server.
    pub fn longest_wait(&self) -> Wait {
        self.stream.get_ref().longest_wait()
    }

    /// Downloads `length` bytes of stream `seed` and checks them.
    pub fn download(&mut self, seed: u64, length: u64, close: bool) -> Result<()> {
        self.download_counted(seed, length, close, &mut Received::default())
    }

    /// As [`Http::download`]; `received` says how far it came, also on failure.
    pub fn download_counted(
        &mut self,
        seed: u64,
        length: u64,
        close: bool,
        received: &mut Received,
    ) -> Result<()> {
        let connection = if close { "close" } else { "keep-alive" };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: replica\r\nConnection: {connection}\r\n\r\n",
            path(seed, length)
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (head, announced) = self.read_head()?;
        received.head = head;
        ensure!(announced == length, "Content-Length is {announced}, not {length}");
        let mut check = Check::new();
        let mut buffer = vec![0; CHUNK];
        while received.body < length {
            let part = (length - received.body).min(CHUNK as u64) as usize;
            let got = self
                .stream
                .read(&mut buffer[..part])
                .with_context(|| format!("after {} of {length} bytes", received.body))?;
            if got == 0 {
                break;
            }
            check.update(&buffer[..got]);
            received.body += got as u64;
        }
        check.against(seed, length)?;
        if close {
            let rest = self.stream.fill_buf().context("waiting for the end of the connection")?.len();
            ensure!(rest == 0, "{rest} bytes too many");
        }
        Ok(())
    }

    /// Uploads `length` bytes of stream `seed`; the answer must be their hash.
    pub fn upload(&mut self, seed: u64, length: u64) -> Result<()> {
        let head = format!("PUT /upload HTTP/1.1\r\nHost: replica\r\nContent-Length: {length}\r\n\r\n");
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        let mut check = Check::new();
        let mut buffer = vec![0; CHUNK];
        let mut sent = 0;
        while sent < length {
            let part = (length - sent).min(CHUNK as u64) as usize;
            content::fill(seed, sent, &mut buffer[..part]);
            stream.write_all(&buffer[..part]).with_context(|| format!("after {sent} of {length} bytes"))?;
            check.update(&buffer[..part]);
            sent += part as u64;
        }
        let expected = check.hash();
        let (_, announced) = self.read_head()?;
        ensure!(announced == 65, "the answer to an upload has {announced} bytes instead of a hash");
        let mut answer = [0; 65];
        self.stream.read_exact(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.trim_end() == expected, "the server got {}, not {expected}", answer.trim_end());
        Ok(())
    }

    /// Reads one answer's head: its bytes and the announced length of the body.
    fn read_head(&mut self) -> Result<(u64, u64)> {
        let (mut bytes, mut length) = (0, 0);
        let mut line = String::new();
        loop {
            line.clear();
            let got = self.stream.read_line(&mut line).context("waiting for an answer")?;
            ensure!(got > 0, "the connection ended within the head of the answer");
            let first = bytes == 0;
            bytes += got as u64;
            ensure!(!first || line.starts_with("HTTP/1.1 200 "), "the answer is {:?}", line.trim_end());
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                return Ok((bytes, length));
            }
        }
    }
}

/// The path of a download.
pub fn path(seed: u64, length: u64) -> String {
    format!("/bytes/{seed}/{length}")
}

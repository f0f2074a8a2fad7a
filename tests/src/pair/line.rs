//! A connection of the line protocol, from the client to the guest or back.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use super::stage::PATIENCE;
use crate::lab::{content, replica::LINES, topology::Topology};

/// A connection that lives through a whole test. Everything about it panics.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    asked: u64,
}

impl Line {
    /// One to the guest.
    pub fn open(topology: &Topology, server: IpAddr) -> Self {
        let address = SocketAddr::new(server, LINES);
        Self::new(topology.client.enter(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap())
    }

    /// One that the guest opens.
    pub fn accept(topology: &Topology, server: IpAddr) -> Self {
        let listener = topology.client.enter(|| TcpListener::bind("0.0.0.0:0")).unwrap();
        let mut request = Self::open(topology, server);
        writeln!(request.stream, "dial {}", listener.local_addr().unwrap().port()).unwrap();
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), server);
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, asked: 0 }
    }

    /// Asks, and checks the answer.
    pub fn ask(&mut self) {
        self.asked += 1;
        let length = 1024;
        writeln!(self.stream, "{} {length}", self.asked).unwrap();
        let mut answer = vec![0; length + 1];
        let peer = self.stream.peer_addr().unwrap();
        self.stream.read_exact(&mut answer).unwrap_or_else(|e| panic!("{peer}, request {}: {e}", self.asked));
        assert_eq!(answer[..length], content::bytes(self.asked, length), "{peer}, request {}", self.asked);
    }

    /// How long an answer may take from now on.
    pub fn patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// Has the guest keep a file; an error if it did not say so.
    pub fn keep(&mut self, name: u64, length: usize) -> io::Result<()> {
        let request = format!("{name} {length}\n");
        self.stream.write_all(format!("keep {request}").as_bytes())?;
        let mut answer = vec![0; "kept ".len() + request.len()];
        self.stream.read_exact(&mut answer)?;
        assert_eq!(String::from_utf8_lossy(&answer), format!("kept {request}"));
        Ok(())
    }

    /// What the guest has in a file.
    pub fn show(&mut self, name: u64) -> Vec<u8> {
        writeln!(self.stream, "show {name}").unwrap();
        let mut reader = BufReader::new(&self.stream);
        let mut length = String::new();
        reader.read_line(&mut length).unwrap();
        let mut content =
            vec![0; length.trim_end().parse().unwrap_or_else(|_| panic!("file {name}: {length:?}"))];
        reader.read_exact(&mut content).unwrap();
        content
    }
}

//! One download with a witness on the wire: what its client got, beside what left toward it.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::AtomicBool,
    time::Duration,
};

use anyhow::Result;

use super::{
    capture::{Capture, Said},
    load::{Http, Received},
    replica::HTTP,
    stage::Stage,
    topology::SERVER_V4,
};

/// What a client and the wire before it say of one download.
#[derive(Debug)]
pub struct Witnessed {
    /// The client's port.
    pub port: u16,
    /// Why the client was not content, if it was not.
    pub error: Option<String>,
    /// What the client got.
    pub received: Received,
    /// What left toward it, offsets counted from the first byte of the answer's head.
    pub left: Said,
}

/// Downloads over IPv4 in the client's namespace; the client waits for each byte no longer than `patience`.
pub fn download(
    stage: &Stage,
    seed: u64,
    length: u64,
    patience: Duration,
    stop: &AtomicBool,
) -> Result<Witnessed> {
    stage.topology.client.enter(|| {
        // Known before the connection, so that the capture has the handshake.
        let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
        let capture = Capture::start(stage, &format!("client-port-{port}"), port)?;
        let mut received = Received::default();
        let mut http = Http::connect_from(port, (SERVER_V4, HTTP).into(), patience, stop)?;
        let downloaded = http.download_counted(seed, length, false, &mut received);
        drop(http);
        let left = capture.finish(SERVER_V4)?;
        Ok(Witnessed { port, error: downloaded.err().map(|error| format!("{error:#}")), received, left })
    })
}

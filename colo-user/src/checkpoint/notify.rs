//! The backend `notify:ENDPOINT`: QEMU's notify_dev protocol over a socket, as a server or as a client.
//!
//! States: *apart* (accepting, or connecting again after [`PAUSE`]) and *joined* with one peer. A request outlives both: it
//! is said again every [`CYCLE`] until the peer says that the checkpoint has come, to whichever peer is there then.
//! Dropping the future closes the connection and unlinks a socket made here.

use super::notify_dev::{Notify, Said};
use super::{Backend, Mailbox, OnCheckpoint, Serving};
use crate::link::async_stream::{AsyncListener, AsyncStream};
use crate::link::chardev::Framing;
use crate::link::endpoint::{Endpoint, EndpointError, Listener};
use crate::mono::Mono;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing::{debug, info, warn};

/// A request is repeated this often, as colo-compare does with its default scan cycle.
pub const CYCLE: Duration = Duration::from_secs(1);
/// Pause between two attempts to connect.
pub const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct NotifyDev {
    endpoint: Endpoint,
    listener: Option<Listener>,
}

impl NotifyDev {
    /// Listens at once if the endpoint is a server.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn open(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let listener = if endpoint.server { Some(endpoint.listen()?) } else { None };
        Ok(Self { endpoint, listener })
    }

    /// A peer, sooner or later.
    async fn join(&self, listener: Option<&AsyncListener>) -> AsyncStream {
        loop {
            let joined = match listener {
                Some(listener) => listener.accept().await.map_err(anyhow::Error::from),
                None => AsyncStream::connect(&self.endpoint, PAUSE).await,
            };
            match joined {
                Ok(stream) => return stream,
                Err(error) => debug!("checkpoint notification: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn run(mut self, mailbox: &Mailbox, on_checkpoint: &OnCheckpoint) -> io::Result<()> {
        let listener = self.listener.take().map(AsyncListener::new).transpose()?;
        let mut notify = Notify::new(Framing { vnet_header: false }, CYCLE);
        loop {
            let joining = self.join(listener.as_ref());
            tokio::pin!(joining);
            let mut stream = loop {
                tokio::select! {
                    stream = &mut joining => break stream,
                    _ = mailbox.take() => notify.want(Mono::now()),
                }
            };
            info!("checkpoint notification: {} is there", stream.peer());
            notify.connected(Mono::now());
            let ended = converse(&mut stream, &mut notify, mailbox, on_checkpoint).await;
            notify.gone();
            warn!("checkpoint notification: {} has gone: {ended}", stream.peer());
        }
    }
}

/// One connection, until it ends; returns why.
async fn converse(
    stream: &mut AsyncStream,
    notify: &mut Notify,
    mailbox: &Mailbox,
    on_checkpoint: &OnCheckpoint,
) -> io::Error {
    let mut buffer = vec![0; 4096];
    let (mut reader, mut writer) = tokio::io::split(stream);
    loop {
        let wait = notify.next_deadline().map(|at| at.saturating_since(Mono::now()));
        tokio::select! {
            _ = mailbox.take() => notify.want(Mono::now()),
            () = tokio::time::sleep(wait.unwrap_or(CYCLE)), if wait.is_some() => notify.tick(Mono::now()),
            written = writer.write(notify.output()), if !notify.output().is_empty() => match written {
                Ok(n) => notify.written(n),
                Err(error) => return error,
            },
            read = reader.read(&mut buffer) => match read {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(n) => {
                    let heard = notify.received(&buffer[..n], |said, text| match said {
                        Said::Init => debug!("checkpoint notification: {text}"),
                        Said::Checkpoint => {
                            mailbox.done("checkpoints");
                            on_checkpoint();
                        }
                        Said::Unknown => warn!("checkpoint notification: `{text}` is not understood"),
                    });
                    if let Err(oversized) = heard {
                        return io::Error::other(oversized);
                    }
                }
                Err(error) => return error,
            },
        }
    }
}

impl Backend for NotifyDev {
    fn serve(self: Box<Self>, mailbox: Arc<Mailbox>, on_checkpoint: OnCheckpoint) -> Serving {
        Box::pin(async move {
            let endpoint = self.endpoint.clone();
            if let Err(error) = self.run(&mailbox, &on_checkpoint).await {
                warn!("checkpoint notification on {endpoint} has ended: {error}");
            }
        })
    }
}

#[cfg(test)]
mod tests;

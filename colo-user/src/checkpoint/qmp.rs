//! The backend `qmp:ENDPOINT`: checkpoints of a stock QEMU's own COLO, asked for over a monitor of the primary.
//!
//! The request is `migrate-set-parameters` with the checkpoint delay that QEMU has anyhow, which a primary in COLO takes as
//! one for a checkpoint at once. What QEMU does with it is followed by its events ([`forcing`]): every checkpoint is
//! reported, also a periodic one or one that another asked for. The migration capability `events` must be on, or
//! none is ever recognised.
//!
//! Dropping the future closes the monitor; a checkpoint that runs then comes to its end without us.

pub mod forcing;

use std::{pin::Pin, sync::Arc};

use tracing::{info, warn};

use super::{Backend, Mailbox, OnCheckpoint, Serving};
use crate::{
    link::endpoint::Endpoint,
    mono::Mono,
    qmp::{Client, Empty, Notice, QmpError, command},
};
use forcing::{Forcing, Heard};

/// See the module.
#[derive(Debug)]
pub struct Qmp {
    endpoint: Endpoint,
}

impl Qmp {
    /// Follows the monitor at `endpoint` once it is served.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

/// A command on its way.
type Asking = Pin<Box<dyn Future<Output = Result<Empty, QmpError>> + Send>>;

/// Asks for a checkpoint and leaves the delay between periodic ones as it is.
async fn ask(client: Client) -> Result<Empty, QmpError> {
    let delay = client.call(command::query_parameters()).await?.checkpoint_delay();
    client.call(command::set_checkpoint_delay(delay)).await
}

/// Says what an operator must know to get checkpoints at all.
async fn check(client: Client) {
    match client.call(command::query_capabilities()).await {
        Ok(capabilities) if !capabilities.iter().any(|c| c.name == "events" && c.on) => warn!(
            "QEMU's migration capability `events` is off: its checkpoints cannot be told from an operator's stop; switch \
             it on before `migrate`"
        ),
        Ok(_) => {}
        Err(error) => warn!("{error}"),
    }
}

impl Backend for Qmp {
    fn serve(self: Box<Self>, mailbox: Arc<Mailbox>, on_checkpoint: OnCheckpoint) -> Serving {
        Box::pin(async move {
            let (client, mut notices) = Client::open(self.endpoint);
            let mut forcing = Forcing::default();
            let mut asking: Option<Asking> = None;
            loop {
                if asking.is_none() && forcing.take_ask(Mono::now()) {
                    mailbox.done("asked");
                    asking = Some(Box::pin(ask(client.clone())));
                }
                let wait = forcing.next_deadline().map(|at| at.saturating_since(Mono::now()));
                tokio::select! {
                    // What has happened counts before what is wanted.
                    biased;
                    notice = notices.next() => {
                        let Some(notice) = notice else { return };
                        if matches!(notice, Notice::Up { .. }) {
                            tokio::spawn(check(client.clone()));
                        }
                        match forcing.notice(&notice) {
                            Some(heard @ (Heard::Entered | Heard::Checkpoint)) => {
                                if heard == Heard::Entered {
                                    info!("QEMU is the primary of a COLO pair");
                                }
                                mailbox.done("checkpoints");
                                on_checkpoint();
                            }
                            Some(Heard::Left) => {
                                mailbox.done("left_colo");
                                warn!("QEMU has left COLO: no checkpoint can be had");
                            }
                            None => {}
                        }
                    }
                    outcome = async { asking.as_mut().expect("guarded").await }, if asking.is_some() => {
                        asking = None;
                        if let Err(error) = outcome {
                            mailbox.done("failed");
                            warn!("no checkpoint could be asked for: {error}");
                        }
                    }
                    taken = mailbox.take() => {
                        if !forcing.want() {
                            mailbox.done("not_in_colo");
                            warn!("checkpoint wanted, and QEMU is not in COLO: {}", taken.request.text);
                        }
                    }
                    () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() && asking.is_none() => {}
                }
            }
        })
    }
}

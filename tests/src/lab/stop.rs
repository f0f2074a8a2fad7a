//! A lab that is told to end early.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a lab that a signal ended, as shells have it for SIGINT.
pub const STOPPED: u8 = 130;

/// Set when the lab shall end early.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Whether the lab shall end early.
pub fn wanted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// SIGINT, SIGTERM and SIGHUP end the lab in order; a thread waits for them.
pub fn on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _guard = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .into_iter()
            .map(signal)
            .collect::<Result<Vec<_>, _>>()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let [interrupt, terminate, hangup] = &mut signals[..] else { return };
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} _ = hangup.recv() => {} }
        });
        STOP.store(true, Ordering::Relaxed);
    });
    Ok(())
}

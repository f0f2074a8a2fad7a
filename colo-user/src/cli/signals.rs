//! SIGTERM and SIGINT as a file descriptor, for loops that wait with `poll`.

use std::{io, os::fd::OwnedFd, thread};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// A descriptor that is readable from the first SIGTERM or SIGINT on. The signals are caught from the return of this
/// call; a thread that otherwise sleeps passes them on.
pub fn stop_descriptor() -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // The pipe closes with this thread: that is what the reader sees.
        drop(writer);
    })?;
    Ok(reader)
}

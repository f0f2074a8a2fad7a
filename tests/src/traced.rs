//! A process in the hands of a debugger: it neither runs nor hears a signal, but SIGKILL.
#![allow(unsafe_code, reason = "ptrace has no safe wrapper")]

use std::{
    fs, io,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Holds all threads of a process until it is dropped, or they are killed.
#[derive(Debug)]
pub struct Traced {
    release: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Traced {
    /// Stops the process.
    pub fn hold(pid: u32) -> Result<Self> {
        let (release, released) = channel::<()>();
        let (held, is_held) = channel();
        // A debugger is a thread, and what it holds goes on when it ends.
        let tracer = thread::spawn(move || {
            let threads = seize(pid);
            let failed = threads.is_err();
            let _ = held.send(threads);
            // Whoever was killed is gone only when the debugger has heard of it.
            while !failed && released.recv_timeout(Duration::from_millis(10)) == Err(TIMEOUT) {
                while wait(-1, libc::WNOHANG).is_ok_and(|pid| pid > 0) {}
            }
        });
        is_held.recv().context("the tracer has panicked")??;
        Ok(Self { release: Some(release), tracer: Some(tracer) })
    }
}

const TIMEOUT: std::sync::mpsc::RecvTimeoutError = std::sync::mpsc::RecvTimeoutError::Timeout;

impl Drop for Traced {
    fn drop(&mut self) {
        self.release.take();
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

fn seize(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let thread: i32 = name.to_str().context("a number")?.parse()?;
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            ptrace(request, thread)?;
        }
        wait(thread, libc::__WALL)?;
    }
    Ok(())
}

fn ptrace(request: libc::c_uint, thread: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of this process.
    if unsafe { libc::ptrace(request, thread, none, none) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn wait(pid: i32, flags: i32) -> io::Result<i32> {
    // SAFETY: no status is asked for.
    match unsafe { libc::waitpid(pid, std::ptr::null_mut(), flags | libc::__WALL | libc::__WNOTHREAD) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

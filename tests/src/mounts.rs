//! Mounts of a thread's own, for what must hold on a host that lacks one.

#![expect(unsafe_code, reason = "a mount namespace has no safe wrapper")]

use std::thread;

use colo_user::datapath::BPFFS;
use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Runs `f` on a new thread with mounts of its own, and without the bpffs among them; a panic in `f` goes on here. The threads
/// and processes that `f` starts see the same.
pub fn without_bpffs<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let inside = thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: file descriptors stay shared; working directory and mounts are this new thread's own from here on.
                unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
                    .expect("unshare needs root");
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).expect("the mounts are this thread's own");
                while unmount(BPFFS, UnmountFlags::DETACH).is_ok() {}
                f()
            })
            .join()
    });
    inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

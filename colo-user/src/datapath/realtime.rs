//! The scheduling class of the thread that owns the data path. It works for microseconds at a time between the virtual
//! processors of the guest it serves, which work for milliseconds: in the usual class it waits behind them with every
//! frame of the guest, and a host under load makes the heartbeats late that its peer judges it by.

use std::io;

/// Highest priority that can be asked for: below what the kernel's own threads and watchdogs have.
pub const MAX_REALTIME: u8 = 49;

/// Gives the calling thread a real-time priority, round robin, which its children do not inherit; with 0 it is as all others.
///
/// # Errors
/// The kernel's reason: it needs `CAP_SYS_NICE`.
pub fn set(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: i32::from(priority.min(MAX_REALTIME)) };
    let policy = if priority == 0 { libc::SCHED_OTHER } else { libc::SCHED_RR } | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads one sched_param, which lives across the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy of the calling thread, or its error.
    fn policy() -> i32 {
        // SAFETY: takes no pointer.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn only_the_thread_itself_comes_first() {
        std::thread::spawn(|| {
            set(1).unwrap();
            assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
            assert_eq!(std::thread::spawn(policy).join().unwrap(), libc::SCHED_OTHER);
            set(0).unwrap();
            assert_eq!(policy(), libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK);
            set(2).unwrap();
            assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
        })
        .join()
        .unwrap();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}

//! Two real VMs in COLO, by an unmodified QEMU under TCG, with nothing of QEMU's own network proxy.
//!
//! [`image`] makes what a VM boots: Debian's kernel and an initramfs with the lab's server ([`crate::lab::replica`]) as the
//! only program. [`guest`] is the init in it. [`vm`] starts and follows one QEMU, [`stage`] two of them on the hosts of
//! the lab's [`crate::lab::topology`]. Everything is ended by its process id and removed when the stage goes, also when a
//! test panics.

pub mod channel;
pub mod cluster;
pub mod disk;
pub mod failover;
pub mod guest;
pub mod image;
pub mod journal;
pub mod line;
pub mod order;
pub mod ours;
pub mod probe;
pub mod protected;
pub mod run;
pub mod soak;
pub mod stage;
pub mod vm;
pub mod watch;
pub mod watched;

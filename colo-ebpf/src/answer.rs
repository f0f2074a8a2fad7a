//! The XDP program that answers probes of this host's liveness, see [`colo_ebpf::liveness`]. An object of its own: it sits on the link
//! between the hosts, not on the guest's path.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    unsafe_code,
    reason = "packet and map memory is reached through raw pointers that the verifier checks"
)]

#[cfg(target_arch = "bpf")]
mod answering;

/// The object is only of use in the kernel; for the host there is nothing to build.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

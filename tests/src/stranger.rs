//! Somebody else's XDP program: it passes every frame and is called `stranger`.

#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper that takes instructions")]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

const BPF_PROG_LOAD: i64 = 5;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// `r0 = XDP_PASS; exit`.
static INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// Attach in the driver.
pub const NATIVE: u32 = 4;
/// Attach in the generic path.
pub const GENERIC: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to `interface` of `namespace`; it stays for as long as the returned link.
pub fn attach(namespace: &Netns, interface: &str, flags: u32) -> Result<OwnedFd> {
    let index = namespace.run(&format!("cat /sys/class/net/{interface}/ifindex"))?.trim().parse()?;
    let mut name = [0; 16];
    name[..8].copy_from_slice(b"stranger");
    let load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        count: INSTRUCTIONS.len() as u32,
        instructions: (&raw const INSTRUCTIONS).expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        name,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("loading the stranger")?;
    let program_fd = program.as_raw_fd().cast_unsigned();
    let link = Link { program: program_fd, interface: index, attach_type: BPF_XDP, flags };
    namespace.enter(|| bpf(BPF_LINK_CREATE, &link)).with_context(|| format!("the stranger on {interface}"))
}

fn bpf<T>(command: i64, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads one structure of this size, and what it points to is static.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands used here return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

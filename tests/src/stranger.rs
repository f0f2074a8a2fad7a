//! Somebody else's XDP program: it passes every frame and is called `stranger`. And what somebody else does to ours.

#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper that takes instructions")]

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

const BPF_PROG_LOAD: i64 = 5;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_CREATE: i64 = 28;
const BPF_LINK_UPDATE: i64 = 29;
const BPF_LINK_GET_FD_BY_ID: i64 = 30;
const BPF_LINK_GET_NEXT_ID: i64 = 31;
const BPF_LINK_DETACH: i64 = 34;
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
    interface: u32,
    attach_type: u32,
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
    let program = load()?;
    let program_fd = program.as_raw_fd().cast_unsigned();
    let mut link = Link { program: program_fd, interface: index, attach_type: BPF_XDP, flags };
    namespace
        .enter(|| bpf(BPF_LINK_CREATE, &mut link))
        .with_context(|| format!("the stranger on {interface}"))
}

/// Takes the program off that `interface` of `namespace` has by a link, as `bpftool link detach` does.
pub fn take_off(namespace: &Netns, interface: &str) -> Result<()> {
    let link = link_on(namespace, interface)?;
    Ok(call(BPF_LINK_DETACH, &mut [link.as_raw_fd()]).map(drop)?)
}

/// Puts the stranger in the place of the program that `interface` of `namespace` has by a link: that link is the same.
pub fn replace(namespace: &Netns, interface: &str) -> Result<()> {
    let (link, program) = (link_on(namespace, interface)?, load()?);
    Ok(call(BPF_LINK_UPDATE, &mut [link.as_raw_fd(), program.as_raw_fd(), 0, 0]).map(drop)?)
}

/// The id of the program on `interface`; none if there is none.
pub fn program_on(namespace: &Netns, interface: &str) -> Result<Option<u32>> {
    let shown = namespace.run(&format!("ip -d link show dev {interface}"))?;
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(id.map(str::parse).transpose()?)
}

/// The link by which `interface` has its program. Ids of programs are the host's, unlike indices of interfaces.
fn link_on(namespace: &Netns, interface: &str) -> Result<OwnedFd> {
    let program = program_on(namespace, interface)?.with_context(|| format!("{interface} has no program"))?;
    let mut ids = [0_u32; 3];
    loop {
        call(BPF_LINK_GET_NEXT_ID, &mut ids).with_context(|| format!("no link has program {program}"))?;
        ids[0] = ids[1];
        // It may be gone by now.
        let Ok(link) = bpf(BPF_LINK_GET_FD_BY_ID, &mut [ids[0]]) else { continue };
        if program_of(&link)? == program {
            return Ok(link);
        }
    }
}

/// The program of a link.
fn program_of(link: &OwnedFd) -> io::Result<u32> {
    #[repr(C)]
    struct Info {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut words = [0_u32; 32];
    let length = size_of_val(&words) as u32;
    let info = words.as_mut_ptr().expose_provenance() as u64;
    call(BPF_OBJ_GET_INFO_BY_FD, &mut Info { fd: link.as_raw_fd().cast_unsigned(), length, info })?;
    Ok(words[2])
}

fn load() -> Result<OwnedFd> {
    let mut name = [0; 16];
    name[..8].copy_from_slice(b"stranger");
    let mut load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        count: INSTRUCTIONS.len() as u32,
        instructions: (&raw const INSTRUCTIONS).expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        name,
        attach_type: BPF_XDP,
        ..Load::default()
    };
    bpf(BPF_PROG_LOAD, &mut load).context("loading the stranger")
}

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the commands that come here return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: i64, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes one structure of this size; what it points to lives across the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

//! The XDP programs loaded by themselves, for frames that BPF_PROG_TEST_RUN gives them.

use anyhow::Result;
use colo_ebpf::{ABI_VERSION, Hold, MAX_FRAME, Settings};
use colo_user::datapath::programs::Programs;

use crate::netns::Netns;

/// The loopback interface of any namespace, as a target that no frame is really sent to.
const LOOPBACK: u32 = 1;

/// Settings of programs that hold frames in `hold` and pass on frames of at most `limit` bytes, Ethernet header included.
#[must_use]
pub const fn settings(hold: Hold, limit: u32) -> Settings {
    Settings {
        abi: ABI_VERSION,
        hold: hold as u32,
        hold_limit: MAX_FRAME as u32,
        uplink_limit: limit,
        guest_limit: limit,
        filter: 0,
        guest_mac: [0; 6],
        reserved: [0; 2],
    }
}

/// Both programs with rings of `ring` bytes (0 for the least), loaded in a namespace of their own so that device maps have
/// something to point at.
///
/// # Errors
/// The kernel's reason.
pub fn load(settings: Settings, ring: u32) -> Result<(Netns, Programs)> {
    let namespace = Netns::new("colo-loaded")?;
    let programs = namespace.enter(|| -> Result<Programs> {
        let mut programs = Programs::load(ring, ring)?;
        programs.set_settings(settings)?;
        programs.set_ports(LOOPBACK, LOOPBACK)?;
        Ok(programs)
    })?;
    Ok((namespace, programs))
}

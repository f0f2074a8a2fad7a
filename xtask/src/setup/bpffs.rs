//! The bpffs, where programs and maps outlive their agent. systemd mounts it when the machine starts; where nobody did, the
//! set-up does, until the next start.

use std::path::Path;
use std::process::Command;

/// Where it is looked for, here as in the agent.
pub const PLACE: &str = "/sys/fs/bpf";

/// Linux's number for it (`BPF_FS_MAGIC`, uapi/linux/magic.h).
const MAGIC: u32 = 0xcafe_4a11;

/// What to do when it cannot be mounted.
pub const WAY_OUT: &str =
    "the kernel must have BPF (CONFIG_BPF_SYSCALL), /sys be a sysfs, and the process have CAP_SYS_ADMIN";

/// Whether one is mounted.
pub fn is_mounted() -> bool {
    is_bpffs(Path::new(PLACE))
}

fn is_bpffs(place: &Path) -> bool {
    // The type of the number differs by architecture, its lower half does not.
    rustix::fs::statfs(place).is_ok_and(|about| about.f_type as u32 == MAGIC)
}

/// The command that mounts it.
pub fn mount() -> Command {
    let mut mount = Command::new("mount");
    mount.args(["-t", "bpf", "bpf", PLACE]);
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bpffs_is_one() {
        for other in ["/", "/proc", "/no/such/place"] {
            assert!(!is_bpffs(Path::new(other)), "{other}");
        }
        assert_eq!(crate::command::shown(&mount()), "mount -t bpf bpf /sys/fs/bpf");
    }
}

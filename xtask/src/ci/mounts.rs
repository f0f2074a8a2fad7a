//! A mount namespace of CI's own, without a bpffs and with no named network namespace in it.
//!
//! What the machine of CI has mounted would hide what the set-up forgets: the tests use the bpffs that the set-up has mounted here.
//! Nothing that is mounted here is seen outside, and all of it goes with the last process. Named network namespaces are
//! files in `/run/netns` with mounts on them; they get a place of their own, as the files would be left on the machine's.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::command;
use crate::setup::bpffs;

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";

/// Becomes this program again in a mount namespace of its own. Returns only with an error.
pub fn enter(names: &[String]) -> Result<()> {
    let this = env::current_exe().context("this program does not know its own path")?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "--"]).arg(this);
    unshare.args(["ci", "--own-mounts-beside", &namespace()?]).args(names);
    Err(unshare.exec()).with_context(|| format!("cannot start `{}`", command::shown(&unshare)))
}

/// The mount namespace of this process, as the kernel calls it.
fn namespace() -> Result<String> {
    let name = fs::read_link("/proc/self/ns/mnt").context("cannot read /proc/self/ns/mnt")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Makes the namespace that [`enter`] has begun what it is to be; `beside` is the one that it was begun in.
pub fn prepare(beside: &str) -> Result<()> {
    ensure!(namespace()? != beside, "{beside} is the machine's mount namespace, which CI leaves as it is");
    while bpffs::is_mounted() {
        unmount(bpffs::PLACE, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {} in a namespace of its own", bpffs::PLACE))?;
    }
    fs::create_dir_all(NAMES).with_context(|| format!("cannot make {NAMES}"))?;
    mount("netns", NAMES, "tmpfs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount a place for names at {NAMES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mounts_are_not_touched() {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let refused = prepare(&namespace().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("the machine's mount namespace"), "{refused}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }
}

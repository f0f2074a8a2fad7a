//! Whether the guest boots under KVM here: tried once, and remembered.
//!
//! `/dev/kvm` alone says little: a machine that is itself virtual may offer it and yet not run a Linux guest. So the lab's
//! own guest is booted, for at most [`LIMIT`]. The answer is kept beside the kernel it is for, and holds for one
//! boot of one host kernel and one QEMU.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::vm::{Accel, Extras, Parts, Vm};
use crate::{
    lab::{child::Programs, report::say, topology::GUEST},
    netns::Netns,
};

/// How long a guest may take to serve.
const LIMIT: Duration = Duration::from_secs(20);
const KVM: &str = "/dev/kvm";

/// What runs the lab's VMs here: KVM if the guest boots under it, else TCG. Says what it finds.
pub fn accelerator(programs: &Programs, cache: &Path) -> Result<Accel> {
    if let Err(error) = File::options().read(true).write(true).open(KVM) {
        say!("VMs run under TCG: {KVM}: {error}.");
        return Ok(Accel::Tcg);
    }
    let (place, key) = (cache.join("kvm"), key()?);
    let answer = match fs::read_to_string(&place).ok().and_then(|text| answer(&text, &key)) {
        Some(answer) => answer,
        None => {
            say!("Trying once for at most {LIMIT:?} whether the guest boots under KVM.");
            let answer = boots(programs, cache)?;
            fs::create_dir_all(cache)?;
            let word = if answer { BOOTS } else { BOOTS_NOT };
            fs::write(&place, format!("{key}\n{word}\n"))
                .with_context(|| format!("{} cannot be written", place.display()))?;
            answer
        }
    };
    if answer {
        say!("VMs run under KVM.");
        return Ok(Accel::Kvm);
    }
    say!("VMs run under TCG: the guest does not boot under this KVM ({} remembers it).", place.display());
    Ok(Accel::Tcg)
}

const BOOTS: &str = "boots";
const BOOTS_NOT: &str = "does not boot";

/// What the answer depends on, in one line.
fn key() -> Result<String> {
    let version = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .context("qemu-system-x86_64 cannot be started")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{} {} {}", kernel.trim(), boot.trim(), version.lines().next().unwrap_or_default()))
}

/// The remembered answer, if it is one to this question.
fn answer(text: &str, key: &str) -> Option<bool> {
    match text.strip_prefix(key)?.trim() {
        BOOTS => Some(true),
        BOOTS_NOT => Some(false),
        _ => None,
    }
}

/// Boots the guest alone in a namespace, on a tap that leads nowhere.
fn boots(programs: &Programs, cache: &Path) -> Result<bool> {
    let end = Instant::now() + LIMIT;
    let directory = tempfile::tempdir()?;
    let parts = Parts::new(cache, &programs.lab.with_file_name("colo-guest"), directory.path())?;
    let host = Netns::new("colo-probe")?;
    host.run(&format!("ip tuntap add dev {GUEST} mode tap"))?;
    host.run(&format!("ip link set {GUEST} up"))?;
    let extras = Extras { accel: Accel::Kvm, ..Extras::default() };
    let mut vm = Vm::start(programs, &host, &parts, "probe", None, &extras)?;
    Ok(vm.ready_within(end.saturating_duration_since(Instant::now())).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_question_is_none() {
        let text = format!("6.18 boot QEMU 7.2\n{BOOTS_NOT}\n");
        assert_eq!(answer(&text, "6.18 boot QEMU 7.2"), Some(false));
        assert_eq!(answer(&text, "6.18 boot QEMU 10.0"), None);
        assert_eq!(answer("6.18 boot QEMU 7.2\nboots\n", "6.18 boot QEMU 7.2"), Some(true));
        assert_eq!(answer("", "6.18 boot QEMU 7.2"), None);
    }
}

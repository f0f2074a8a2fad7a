//! What runs inside a VM: the first process of the guest.
//!
//! It mounts what a Linux program expects and the disk if there is one, loads the drivers, gives `eth0` the addresses of the
//! lab and becomes the lab's server. Commands for the server come by the second serial port, which only this VM's host sees; what it
//! says goes to the first, the console.

use std::{
    convert::Infallible,
    ffi::CStr,
    fs::{self, File},
    io::BufReader,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    mount::{MountFlags, mount},
    system::finit_module,
};

use crate::lab::replica::{self, DISK};

/// Where the image has the modules, in files whose names sort in the order to load them.
pub const MODULES: &str = "/modules";
/// Where the image has what `ip -batch` reads.
pub const NETWORK: &str = "/network";
/// Where commands come from.
const COMMANDS: &str = "/dev/ttyS1";
/// How long the network card may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sysctls of the guest: what a host would say by timers of its own is off, and no client is answered by a SYN cookie.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
];

/// Sets the guest up and serves. Returns only with an error; the kernel then ends the VM.
pub fn init() -> Result<Infallible> {
    ensure!(std::process::id() == 1, "this program is the init of the lab's VMs and changes what it runs on");
    for (kind, place) in [(c"proc", "/proc"), (c"sysfs", "/sys"), (c"devtmpfs", "/dev")] {
        mount_on(kind, kind, place)?;
    }
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).with_context(|| format!("{} = {value}", path.display()))?;
    }
    load_modules()?;
    // Its driver has found it before the module was loaded.
    if Path::new("/sys/block/vda").exists() {
        mount_on(c"/dev/vda", c"ext4", DISK)?;
    }
    configure_network()?;
    let commands = File::open(COMMANDS).context(COMMANDS)?;
    replica::serve(BufReader::new(commands))?;
    bail!("{COMMANDS} has ended")
}

fn mount_on(source: &CStr, kind: &CStr, place: &str) -> Result<()> {
    mount(source, place, kind, MountFlags::empty(), None).with_context(|| format!("mounting {place}"))
}

fn load_modules() -> Result<()> {
    let mut modules = Vec::new();
    for entry in fs::read_dir(MODULES).context(MODULES)? {
        modules.push(entry?.path());
    }
    modules.sort();
    for module in modules {
        let file = File::open(&module)?;
        finit_module(&file, c"", 0).with_context(|| format!("loading {}", module.display()))?;
    }
    Ok(())
}

fn configure_network() -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !Path::new("/sys/class/net/eth0").exists() {
        ensure!(Instant::now() < end, "no network card within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
    let status = Command::new("/bin/ip").args(["-batch", NETWORK]).status().context("/bin/ip")?;
    ensure!(status.success(), "ip -batch {NETWORK}: {status}");
    Ok(())
}

//! One QEMU: an unmodified `qemu-system-x86_64`, under TCG if nothing else is said, with the lab's guest on a tap.
//!
//! Two peculiarities of QEMU 7.2 under TCG in COLO are dealt with here, neither of which concerns KVM: memory of a whole
//! number of 256 KiB makes it lose track of what the guest wrote, so there is 8 KiB more; and `cond_wait.c`,
//! preloaded, stands in for a lock it forgets to take.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use colo_user::link::endpoint::{Address, Endpoint};

use super::image::{self, Kernel};
use crate::{
    lab::{
        child::{Programs, Tethered},
        replica::{READY, TAKEN},
        topology::{GUEST, GUEST_MAC},
    },
    netns::Netns,
};

/// 128 MiB, and 8 KiB so that it is no multiple of 256 KiB.
const MEMORY: &str = "131080K";
/// How long a guest may take to serve, and a command to be taken: two VMs and their tests share the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// After which what the guest was told over its serial port is said again.
const UNHEARD: Duration = Duration::from_secs(5);
/// The guest's kernel does not wait for its timer to tick: where the host is busy the emulated one is late, and it would panic.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
/// The network card's options that would leave checksums and segmentation to somebody else.
const NO_OFFLOADS: &str = ",csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,\
     guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";

/// What both VMs of a pair are made of, below one directory.
#[derive(Debug)]
pub struct Parts {
    kernel: Kernel,
    initramfs: PathBuf,
    shim: PathBuf,
    directory: PathBuf,
}

impl Parts {
    /// Makes initramfs and shim in `directory`; the kernel comes from `cache`.
    pub fn new(cache: &Path, guest: &Path, directory: &Path) -> Result<Self> {
        let kernel = image::kernel(cache)?;
        let initramfs = directory.join("initramfs");
        image::initramfs(&kernel, guest, &initramfs)?;
        let (source, shim) = (directory.join("cond_wait.c"), directory.join("cond_wait.so"));
        fs::write(&source, include_str!("cond_wait.c"))?;
        let (from, to) = (source.to_string_lossy(), shim.to_string_lossy());
        let compile = ["-O2", "-shared", "-fPIC", "-o", &to, &from, "-ldl"];
        image::run_in(directory, "cc", &compile).context("the shim for TCG needs a C compiler")?;
        Ok(Self { kernel, initramfs, shim, directory: directory.to_owned() })
    }
}

/// What runs a VM's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accel {
    /// QEMU itself: everywhere, and slow.
    #[default]
    Tcg,
    /// The processor.
    Kvm,
}

impl Accel {
    /// QEMU's name of it, and the processor that its guest sees.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Tcg => ("tcg", "max"),
            Self::Kvm => ("kvm", "host"),
        }
    }
}

/// What one VM has beyond what all have.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// What runs it.
    pub accel: Accel,
    /// Further arguments of QEMU's.
    pub arguments: Vec<String>,
    /// The network card leaves checksums and segmentation to the host, which is QEMU's default.
    pub offloads: bool,
}

/// A running VM; killed on drop.
#[derive(Debug)]
pub struct Vm {
    process: Tethered,
    name: &'static str,
    directory: PathBuf,
}

impl Vm {
    /// Starts a VM in `host` on its tap. With `incoming` it waits for another's state there, otherwise it boots.
    pub fn start(
        programs: &Programs,
        host: &Netns,
        parts: &Parts,
        name: &'static str,
        incoming: Option<&str>,
        extras: &Extras,
    ) -> Result<Self> {
        let file = |what: &str| parts.directory.join(format!("{name}.{what}"));
        let socket = |what: &str| format!("unix:{},server=on,wait=off", file(what).display());
        let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-name", name.to_owned());
        option("-machine", "pc".to_owned());
        let (accel, processor) = extras.accel.names();
        option("-accel", accel.to_owned());
        option("-cpu", processor.to_owned());
        option("-m", MEMORY.to_owned());
        option("-kernel", parts.kernel.vmlinuz.display().to_string());
        option("-initrd", parts.initramfs.display().to_string());
        option("-append", COMMAND_LINE.to_owned());
        option("-display", "none".to_owned());
        option("-serial", format!("file:{}", file("console").display()));
        option("-serial", socket("commands"));
        option("-qmp", socket("qmp"));
        option("-qmp", socket("qmp-agent"));
        option("-qmp", socket("qmp-spare"));
        let (header, offloads) = if extras.offloads { ("on", "") } else { ("off", NO_OFFLOADS) };
        option(
            "-netdev",
            format!("tap,id=net0,ifname={GUEST},script=no,downscript=no,vhost=off,vnet_hdr={header}"),
        );
        option("-device", format!("virtio-net-pci,netdev=net0,mac={mac},romfile={offloads}"));
        if let Some(uri) = incoming {
            option("-incoming", uri.to_owned());
        }
        arguments.extend(["-nodefaults".to_owned(), "-no-reboot".to_owned()]);
        arguments.extend_from_slice(&extras.arguments);
        let preload = format!("LD_PRELOAD={}", parts.shim.display());
        let all: Vec<String> =
            [preload, "qemu-system-x86_64".to_owned()].into_iter().chain(arguments).collect();
        let process = Tethered::start(programs, host, Path::new("env"), &all, &file("log"), false)?;
        Ok(Self { process, name, directory: parts.directory.clone() })
    }

    /// The monitor of the tests.
    pub fn monitor(&self) -> Endpoint {
        self.endpoint("qmp")
    }

    /// The monitor that is left to the agent beside this VM.
    pub fn agent_monitor(&self) -> Endpoint {
        self.endpoint("qmp-agent")
    }

    /// The monitor for who comes and goes, such as `colo protect`.
    pub fn spare_monitor(&self) -> Endpoint {
        self.endpoint("qmp-spare")
    }

    fn endpoint(&self, what: &str) -> Endpoint {
        Endpoint { address: Address::Unix(self.file(what)), server: false }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.name))
    }

    /// Waits until the guest serves.
    pub fn ready(&mut self) -> Result<()> {
        self.ready_within(PATIENCE)
    }

    /// Waits so long until the guest serves.
    pub fn ready_within(&mut self, patience: Duration) -> Result<()> {
        self.said(READY, 1, patience)
    }

    /// From now on the server in this VM answers a download of `path` with one other byte at `offset` of the body. A
    /// checkpoint gives the other VM what the primary was told, and takes from the secondary what it was told.
    pub fn differ(&mut self, path: &str, offset: u64) -> Result<()> {
        let commands = self.file("commands");
        let (before, end) = (self.times(TAKEN), Instant::now() + PATIENCE);
        loop {
            let mut stream =
                UnixStream::connect(&commands).with_context(|| commands.display().to_string())?;
            writeln!(stream, "differ {path} {offset}")?;
            match self.said(TAKEN, before + 1, UNHEARD) {
                // A checkpoint loads the primary's serial port, where nothing waits to be read.
                Err(_) if Instant::now() < end => {}
                told => return told,
            }
        }
    }

    /// How often the guest's console has a line.
    fn times(&self, line: &str) -> usize {
        self.console().lines().filter(|said| said.trim_end() == line).count()
    }

    /// What the guest has said.
    fn console(&self) -> String {
        // Not there before QEMU is.
        let console = fs::read(self.file("console")).unwrap_or_default();
        String::from_utf8_lossy(&console).into_owned()
    }

    /// Waits until the guest's console has a line so many times.
    fn said(&mut self, line: &str, times: usize, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            if self.times(line) >= times {
                return Ok(());
            }
            let ended = self.process.ended();
            if ended.is_some() || Instant::now() > end {
                let state = ended.map_or_else(|| "runs".to_owned(), |status| status.to_string());
                let (log, console) = (self.process.log(), self.console());
                bail!(
                    "the {} VM ({state}) did not say {line:?} within {patience:?}; QEMU: {log}\nguest: {console}",
                    self.name
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What QEMU wrote.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its name, as [`super::journal`] has it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process, to be stopped, continued and killed by tests.
    pub fn process(&mut self) -> &mut Tethered {
        &mut self.process
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // There is nothing to save, and a stopped or hanging QEMU hears no SIGTERM.
        self.process.kill();
    }
}

//! A comparator behind four sockets: `colo compare`, or QEMU's own colo-compare as the oracle.
//!
//! Stock colo-compare runs without a VM (`-machine none`); its `notify_dev` stands for the rest of COLO. Both programs get
//! the same frames in the same framing, so a test runs against either.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use colo_user::{
    link::chardev::{self, Decoder, Framing},
    wire::build::{Wrap, udp_frame},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program of the peer.
pub const QEMU: &str = "qemu-system-x86_64";

/// How long a program may take to open its sockets, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which comparator.
#[derive(Clone, Debug)]
pub enum Program {
    /// `colo compare`, from this file.
    Colo(PathBuf),
    /// QEMU's colo-compare object.
    Stock,
}

/// What both understand.
#[derive(Clone, Debug)]
pub struct Options {
    /// Milliseconds after which a lone frame asks for a checkpoint.
    pub compare_timeout: u32,
    /// Milliseconds between two scans.
    pub scan_cycle: u32,
    /// Frames per flow.
    pub max_queue_size: u32,
    /// Frames carry a virtio-net header length.
    pub vnet_header: bool,
    /// Further options of `colo compare`.
    pub more: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compare_timeout: 3000,
            scan_cycle: 1000,
            max_queue_size: 1024,
            vnet_header: false,
            more: Vec::new(),
        }
    }
}

/// The four sockets by name, with colo's option and QEMU's.
const PORTS: [(&str, &str, &str); 4] = [
    ("p", "primary-in", "primary_in"),
    ("s", "secondary-in", "secondary_in"),
    ("o", "out", "outdev"),
    ("n", "notify", "notify_dev"),
];

impl Program {
    /// The command line that listens on sockets in `dir`, for people and for starting it.
    #[must_use]
    pub fn command_line(&self, dir: &Path, options: &Options) -> Vec<String> {
        let path = |name: &str| dir.join(name).display().to_string();
        let mut line: Vec<String> = Vec::new();
        match self {
            Self::Colo(colo) => {
                line.extend([colo.display().to_string(), "compare".to_owned()]);
                for (name, option, _) in PORTS {
                    line.extend([format!("--{option}"), format!("unix:{},server=on", path(name))]);
                }
                for (option, value) in [
                    ("--compare-timeout", options.compare_timeout),
                    ("--expired-scan-cycle", options.scan_cycle),
                    ("--max-queue-size", options.max_queue_size),
                ] {
                    line.extend([option.to_owned(), value.to_string()]);
                }
                line.extend(options.vnet_header.then(|| "--vnet-hdr".to_owned()));
                line.extend(options.more.iter().cloned());
            }
            Self::Stock => {
                let fixed = "-machine none -nodefaults -display none -object iothread,id=t";
                line.extend([QEMU].into_iter().chain(fixed.split(' ')).map(str::to_owned));
                let mut object = "colo-compare,id=c,iothread=t".to_owned();
                for (name, _, property) in PORTS {
                    line.push("-chardev".to_owned());
                    line.push(format!("socket,id={name},path={},server=on,wait=off", path(name)));
                    object += &format!(",{property}={name}");
                }
                object += &format!(
                    ",compare_timeout={},expired_scan_cycle={},max_queue_size={}",
                    options.compare_timeout, options.scan_cycle, options.max_queue_size
                );
                object += if options.vnet_header { ",vnet_hdr_support=on" } else { "" };
                line.extend(["-object".to_owned(), object]);
            }
        }
        line
    }

    /// The peer's version, as it says itself. An error if there is no peer: it is needed.
    pub fn stock_version() -> Result<String> {
        let output = Command::new(QEMU)
            .arg("--version")
            .output()
            .with_context(|| format!("{QEMU} is needed as the peer; install qemu-system-x86"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// A running comparator and the test's ends of its sockets.
#[derive(Debug)]
pub struct Running {
    child: Child,
    dir: TempDir,
    framing: Framing,
    /// Guest output of the primary goes here.
    pub primary: UnixStream,
    /// Guest output of the secondary goes here.
    pub secondary: UnixStream,
    /// What is released comes out here.
    pub out: UnixStream,
    /// Checkpoints are asked for and announced here.
    pub notify: UnixStream,
    received: Decoder,
    notices: Decoder,
    barriers: u32,
}

impl Running {
    /// Starts a comparator and connects to all four sockets.
    pub fn start(program: &Program, options: &Options) -> Result<Self> {
        Self::start_to(program, options, [None, None])
    }

    /// The same, with standard output and error of its own choice; by default they are files.
    pub fn start_to(
        program: &Program,
        options: &Options,
        [stdout, stderr]: [Option<Stdio>; 2],
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let line = program.command_line(dir.path(), options);
        let file = |name: &str| fs::File::create(dir.path().join(name)).map(Stdio::from);
        let (summary, log) = (file("summary")?, file("log")?);
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(stdout.unwrap_or(summary))
            .stderr(stderr.unwrap_or(log))
            .spawn()
            .with_context(|| format!("`{}` could not be started", line.join(" ")))?;
        // From here on the guard ends it.
        let mut starting = Starting(Some(child));
        let connect = |name: &str| connect(&dir.path().join(name));
        let [primary, secondary, out, notify] = [connect("p"), connect("s"), connect("o"), connect("n")];
        let streams = (|| Ok::<_, anyhow::Error>((primary?, secondary?, out?, notify?)))();
        let (primary, secondary, out, notify) = streams.with_context(|| {
            format!("{}: {}", line.join(" "), fs::read_to_string(dir.path().join("log")).unwrap_or_default())
        })?;
        let framing = Framing { vnet_header: options.vnet_header };
        let child = starting.0.take().context("it was just started")?;
        let mut running = Self {
            child,
            dir,
            framing,
            primary,
            secondary,
            out,
            notify,
            received: Decoder::new(framing, 1 << 20),
            notices: Decoder::new(Framing { vnet_header: false }, 0),
            barriers: 0,
        };
        if matches!(program, Program::Stock) {
            running.warm_up()?;
        }
        Ok(running)
    }

    /// Stock drops what it lets out before its main loop has accepted the peer on `out`: waits until it has, there and on
    /// the notification channel.
    fn warm_up(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let barrier = self.barrier();
            self.p(&barrier);
            self.s(&barrier);
            if self.released(1, Duration::from_millis(100)) == [barrier] {
                break;
            }
            ensure!(Instant::now() < end, "nothing comes out; log: {}", self.log());
        }
        self.say(b"COLO_USERSPACE_PROXY_INIT");
        let answer = self.notices(1, PATIENCE);
        ensure!(answer == [b"COLO_COMPARE_GET_XEN_INIT"], "no answer on notify: {answer:?}");
        Ok(())
    }

    /// A datagram of a flow of its own, never the same again.
    fn barrier(&mut self) -> Vec<u8> {
        self.barriers += 1;
        let (from, to) = ("203.0.113.1:9", "203.0.113.2:9");
        let (from, to) = (from.parse().expect("an address"), to.parse().expect("an address"));
        udp_frame(from, to, &self.barriers.to_be_bytes(), &Wrap::default())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to one of the sockets: `p`, `s`, `o` or `n`.
    pub fn connect(&self, name: &str) -> Result<UnixStream> {
        connect(&self.dir.path().join(name))
    }

    /// What it has written to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A frame as it is on the sockets.
    #[must_use]
    pub fn framed(&self, frame: &[u8]) -> Vec<u8> {
        framed(self.framing, frame)
    }

    /// The primary's guest says this.
    pub fn p(&mut self, frame: &[u8]) {
        let bytes = self.framed(frame);
        self.primary.write_all(&bytes).expect("primary_in takes it");
    }

    /// The secondary's guest says this.
    pub fn s(&mut self, frame: &[u8]) {
        let bytes = self.framed(frame);
        self.secondary.write_all(&bytes).expect("secondary_in takes it");
    }

    /// Announces a checkpoint.
    pub fn checkpoint(&mut self) {
        self.say(b"COLO_CHECKPOINT");
    }

    /// Says something on the notification channel.
    pub fn say(&mut self, text: &[u8]) {
        let bytes = framed(self.framing, text);
        self.notify.write_all(&bytes).expect("notify_dev takes it");
    }

    /// The next frames released, up to `count` and for at most `wait` since the last one.
    pub fn released(&mut self, count: usize, wait: Duration) -> Vec<Vec<u8>> {
        frames(&mut self.received, &mut self.out, count, wait)
    }

    /// The next texts on the notification channel, likewise.
    pub fn notices(&mut self, count: usize, wait: Duration) -> Vec<Vec<u8>> {
        frames(&mut self.notices, &mut self.notify, count, wait)
    }

    /// Waits until everything said so far has been compared, and returns what left until then. Both guests say one
    /// datagram of a flow of its own, which leaves when both inputs have been read that far. (Stock may forget it
    /// together with its table: then another is said.)
    pub fn settle(&mut self) -> Vec<Vec<u8>> {
        let mut barriers = Vec::new();
        let mut left = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            let barrier = self.barrier();
            self.p(&barrier);
            self.s(&barrier);
            barriers.push(barrier);
            while let Some(frame) = self.released(1, Duration::from_secs(3)).pop() {
                if barriers.last() == Some(&frame) {
                    return left;
                }
                left.extend(Some(frame).filter(|frame| !barriers.contains(frame)));
            }
            assert!(Instant::now() < end, "a barrier did not come through; log: {}", self.log());
        }
    }

    /// Ends `colo compare` as an operator would and returns its summary.
    pub fn stop(mut self) -> Result<BTreeMap<String, u64>> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "it did not end on SIGTERM; log: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
        ensure!(status.success(), "{status}; log: {}", self.log());
        let summary = fs::read_to_string(self.dir.path().join("summary"))?;
        summary
            .lines()
            .map(|line| {
                let (name, value) =
                    line.split_once(' ').with_context(|| format!("`{line}` is no counter"))?;
                Ok((name.to_owned(), value.trim().parse()?))
            })
            .collect()
    }
}

/// A frame in a framing; a virtio-net header, where there is one, has length 0.
#[must_use]
pub fn framed(framing: Framing, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + 8);
    chardev::put(&mut out, frame);
    if framing.vnet_header {
        out.splice(4..4, [0; 4]);
    }
    out
}

/// Reads frames until there are `count` or nothing has come for `wait`.
pub fn frames(decoder: &mut Decoder, stream: &mut UnixStream, count: usize, wait: Duration) -> Vec<Vec<u8>> {
    stream.set_read_timeout(Some(wait)).expect("a timeout above zero");
    let mut frames = Vec::new();
    while frames.len() < count {
        if let Some(frame) = decoder.next_frame().expect("legal frames") {
            frames.push(frame.to_vec());
            continue;
        }
        match stream.read(decoder.space()) {
            Ok(0) => break,
            Ok(n) => decoder.filled(n),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("a comparator's socket: {e}"),
        }
    }
    frames
}

struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps a child; one that is gone already is fine.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn connect(path: &Path) -> Result<UnixStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > end => bail!("{}: {e}", path.display()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

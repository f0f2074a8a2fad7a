//! `colo watchdog` as a process, and who talks to it: peers that speak the original's frames, written out here byte by byte, and
//! notification nodes.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What both sides say each interval.
pub const PULSE: &[u8] = b"\x00\x00\x00\x18advanced-watchdog pulse\x00";
/// What the side without `server` answers.
pub const REPLY: &[u8] = b"\x00\x00\x00\x1eadvanced-watchdog reply pulse\x00";
/// What is to be said at a timeout.
pub const SCRIPT: &str = "nbd_server_stop\nx_colo_lost_heartbeat\n";

/// How long something may take that should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Milliseconds.
#[must_use]
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One of colo's nodes, seen from the other end.
#[derive(Debug)]
pub struct Node {
    /// Its socket.
    pub path: PathBuf,
    /// Where colo connects to.
    pub listener: Option<UnixListener>,
}

impl Node {
    /// A node in `dir`; colo listens there, or connects.
    #[must_use]
    pub fn new(dir: &Path, name: &str, colo_listens: bool) -> Self {
        let path = dir.join(name);
        let listener = (!colo_listens).then(|| UnixListener::bind(&path).unwrap());
        Self { path, listener }
    }

    /// As colo is told.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let server = if self.listener.is_some() { "" } else { ",server=on" };
        format!("unix:{}{server}", self.path.display())
    }

    /// Connects, or is connected to.
    #[must_use]
    pub fn meet(&self) -> UnixStream {
        let end = Instant::now() + SOON;
        loop {
            let met = match &self.listener {
                None => UnixStream::connect(&self.path),
                Some(listener) => {
                    listener.set_nonblocking(true).unwrap();
                    listener.accept().map(|(stream, _)| stream)
                }
            };
            match met {
                Ok(stream) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    return stream;
                }
                Err(error) => assert!(Instant::now() < end, "{}: {error}", self.path.display()),
            }
            thread::sleep(ms(5));
        }
    }
}

/// A running watchdog with its lines.
#[derive(Debug)]
pub struct Dog {
    child: Child,
    lines: Receiver<Value>,
    /// Connections passed over: which node meets its peer first is nobody's to say.
    connected: RefCell<Vec<Value>>,
    log: PathBuf,
    /// When it was.
    pub started: Instant,
}

impl Dog {
    /// Runs `colo`, the program or what starts it, as a watchdog that logs in `dir`, and waits for its first line.
    #[must_use]
    pub fn start(mut colo: Command, dir: &Path, arguments: &[&str]) -> Self {
        let log = dir.join("log");
        let started = Instant::now();
        let mut child = colo
            .args(["watchdog", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("a line of JSON");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let dog = Self { child, lines, connected: RefCell::default(), log, started };
        dog.wait_for("state", |line| line["was"].is_null());
        dog
    }

    /// The next such line; those before it are passed over, connections to be asked for later.
    #[track_caller]
    pub fn wait_for(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = |line: &Value| line["event"] == event && wanted(line);
        let mut connected = self.connected.borrow_mut();
        if let Some(at) = connected.iter().position(wanted) {
            return connected.remove(at);
        }
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no `{event}`: {}", fs::read_to_string(&self.log).unwrap());
            };
            if wanted(&line) {
                return line;
            }
            if line["event"] == "connected" {
                connected.push(line);
            }
        }
    }

    /// The next change to this state.
    #[track_caller]
    pub fn state(&self, state: &str) -> Value {
        self.wait_for("state", |line| line["state"] == state)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it by SIGTERM.
    #[must_use]
    pub fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }
}

impl Drop for Dog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A watchdog with both its nodes.
#[derive(Debug)]
pub struct Set {
    /// It.
    pub dog: Dog,
    /// Its heartbeat.
    pub awd: Node,
    /// Where its script goes.
    pub notification: Node,
    /// Where all of it is.
    pub dir: TempDir,
}

impl Set {
    /// A watchdog that listens for its peer and connects to the other node, or the other way round.
    #[must_use]
    pub fn new(colo: Command, listens: bool, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let awd = Node::new(dir.path(), "awd", listens);
        let notification = Node::new(dir.path(), "notification", !listens);
        let script = dir.path().join("script");
        fs::write(&script, SCRIPT).unwrap();
        let (awd_end, notification_end) = (awd.endpoint(), notification.endpoint());
        let mut arguments = vec!["--awd-node", &awd_end, "--notification-node", &notification_end];
        arguments.extend(["--opt-script", script.to_str().unwrap()]);
        arguments.extend(more);
        let dog = Dog::start(colo, dir.path(), &arguments);
        Self { dog, awd, notification, dir }
    }

    /// The notification node, connected.
    #[must_use]
    pub fn monitor(&self) -> UnixStream {
        let stream = self.notification.meet();
        self.dog.wait_for("connected", |line| line["node"] == "notification_node");
        stream
    }

    /// The peer, connected.
    #[must_use]
    pub fn peer(&self) -> UnixStream {
        let stream = self.awd.meet();
        self.dog.wait_for("connected", |line| line["node"] == "awd_node");
        stream
    }
}

/// One frame with its length.
pub fn frame(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).expect("a frame");
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    bytes.resize(4 + length, 0);
    stream.read_exact(&mut bytes[4..]).expect("a whole frame");
    bytes
}

/// The script, whole.
#[track_caller]
pub fn script(monitor: &mut impl Read, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    monitor.read_exact(&mut bytes).expect("the script");
    assert_eq!(String::from_utf8(bytes).unwrap(), wanted);
}

/// Nothing comes for so long.
#[track_caller]
pub fn silence(stream: &mut UnixStream, time: Duration) {
    stream.set_read_timeout(Some(time)).unwrap();
    let mut bytes = [0; 256];
    let outcome = stream.read(&mut bytes);
    stream.set_read_timeout(Some(SOON)).unwrap();
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&bytes)),
    }
}

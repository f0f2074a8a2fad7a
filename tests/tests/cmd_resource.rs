//! The OCF resource agent, by what it says of an agent that lives and does not answer, and by what is left when it says that it has
//! stopped one. The agent runs without a QEMU: it follows one that is not there yet.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use colo_tests::{
    ends::{Ends, GUEST, Joint, UPLINK},
    lab::child::Programs,
    traced::Traced,
};
use colo_user::datapath::{AttachMode, HoldBackend, Role};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// Exit statuses of a resource agent.
const SUCCESS: i32 = 0;
const GENERIC: i32 = 1;
const NOT_RUNNING: i32 = 7;

/// A node with a copy of the program.
struct Node {
    ends: Ends,
    directory: TempDir,
    /// `timeout` of the operations, in milliseconds, where the cluster tells it.
    timeout: Option<u32>,
}

impl Node {
    fn new() -> Self {
        let ends = Ends::new(Joint::Tap, Joint::Veth).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let node = Self { ends, directory, timeout: None };
        fs::create_dir(node.path("run")).unwrap();
        let colo = Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()).colo;
        fs::copy(colo, node.path("colo")).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Does what the cluster would have done: the exit status, and what was said.
    fn does(&self, action: &str) -> (i32, String) {
        let name = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
        let path = |name: &str| self.path(name).display().to_string();
        let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/../colo-user/ocf/colo");
        let parameters = [
            ("binary", path("colo")),
            ("guest", GUEST.to_owned()),
            ("uplink", UPLINK.to_owned()),
            ("addresses", format!("{}=127.0.0.1 other=127.0.0.2", name.trim())),
            ("qmp", format!("unix:{}", path("qmp"))),
            ("judge", format!("lock:{}", self.directory.path().display())),
            ("control", path("run/agent.sock")),
            ("log", path("log")),
        ];
        let mut command = self.ends.host.command("sh");
        command.args([agent, action]).env("OCF_ROOT", "/usr/lib/ocf").env("OCF_RESOURCE_INSTANCE", "vm");
        for (name, value) in parameters {
            command.env(format!("OCF_RESKEY_{name}"), value);
        }
        if let Some(timeout) = self.timeout {
            command.env("OCF_RESKEY_CRM_meta_timeout", timeout.to_string());
        }
        // Its output goes to a file: an agent that it has started has no part in it, or this waits for that one's end.
        let said = self.path("said");
        let file = fs::File::create(&said).unwrap();
        let status = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).status();
        let said = fs::read_to_string(said).unwrap();
        (status.unwrap().code().unwrap_or(-1), said)
    }

    /// Starts the agent, and returns its process.
    fn start(&self) -> Pid {
        let (code, said) = self.does("start");
        assert_eq!(code, SUCCESS, "{said}{}", self.log());
        let lock = fs::read_to_string(self.path("run/agent.sock.lock")).unwrap();
        let agent = Pid::from_raw(lock.trim().parse().expect("the lock file has the process id")).unwrap();
        assert!(lives(agent) && self.has_programs());
        agent
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Whether an interface has an XDP program.
    fn has_programs(&self) -> bool {
        [GUEST, UPLINK].iter().any(|interface| {
            self.ends.host.run(&format!("ip -o -d link show {interface}")).unwrap().contains("xdp")
        })
    }

    #[track_caller]
    fn says(&self, action: &str, code: i32) {
        let (got, said) = self.does(action);
        assert_eq!(got, code, "{action}: {said}{}", self.log());
    }

    /// Stops it, and nothing of it is left.
    #[track_caller]
    fn stops(&self, agent: Pid) {
        self.says("stop", SUCCESS);
        assert!(!lives(agent), "stop has succeeded, and the agent lives");
        assert!(!self.has_programs(), "stop has succeeded, and programs are left");
        self.says("monitor", NOT_RUNNING);
        self.says("stop", SUCCESS);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that has failed may leave one: by the command line that is this directory's.
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let own = format!("{}\0", self.path("run/agent.sock").display());
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid
                && fs::read(process.path().join("cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&own))
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Whether a process is there that has not ended.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z ")) && test_kill_process(pid).is_ok()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that has nothing to do with any of it.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let status = self.0.try_wait().unwrap();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        assert!(
            status.is_none() || thread::panicking(),
            "a stranger was killed: {:?}",
            status.unwrap().signal()
        );
    }
}

fn freeze(agent: Pid) {
    kill_process(agent, Signal::STOP).unwrap();
}

#[test]
fn an_agent_that_answers_is_monitored_and_stopped_whatever_else_is_gone() {
    // It answers by its own program where the one on the disk is gone.
    let gone: [fn(&Node); 3] = [
        |node| fs::remove_file(node.path("colo")).unwrap(),
        |node| fs::rename(node.path("colo"), node.path("moved")).unwrap(),
        // Which a shell runs, without an error.
        |node| {
            fs::remove_file(node.path("colo")).unwrap();
            fs::write(node.path("colo"), "").unwrap();
            fs::set_permissions(node.path("colo"), fs::Permissions::from_mode(0o755)).unwrap();
        },
    ];
    for gone in gone {
        let node = Node::new();
        let agent = node.start();
        gone(&node);
        node.says("monitor", SUCCESS);
        node.stops(agent);
    }
}

#[test]
fn an_agent_that_is_frozen_is_failed_and_not_gone() {
    let node = Node::new();
    let agent = node.start();
    freeze(agent);
    node.says("monitor", GENERIC);
    node.says("start", GENERIC);
    node.stops(agent);
    // And the place is free.
    let agent = node.start();
    node.stops(agent);
}

/// Each is done to an agent that runs, and to one that is frozen.
fn harmed(what: &str, harm: impl Fn(&Node)) {
    for frozen in [false, true] {
        println!("{what}, frozen: {frozen}");
        let node = Node::new();
        let agent = node.start();
        if frozen {
            freeze(agent);
        }
        harm(&node);
        let (code, said) = node.does("monitor");
        assert_eq!(code, GENERIC, "{what}, frozen: {frozen}: {said}");
        assert!(said.contains(&format!("process {}", agent.as_raw_nonzero())), "{said}");
        assert!(lives(agent));
        node.stops(agent);
    }
}

#[test]
fn an_agent_whose_socket_is_gone_is_failed_and_not_gone() {
    let socket = |node: &Node| node.path("run/agent.sock");
    harmed("the socket is removed", |node| fs::remove_file(socket(node)).unwrap());
    harmed("the socket is renamed", |node| fs::rename(socket(node), node.path("run/other")).unwrap());
    harmed("a file in its place", |node| {
        fs::remove_file(socket(node)).unwrap();
        fs::write(socket(node), "").unwrap();
    });
}

#[test]
fn an_agent_whose_socket_and_lock_file_are_gone_is_failed_and_not_gone() {
    harmed("both are removed", |node| {
        fs::remove_file(node.path("run/agent.sock")).unwrap();
        fs::remove_file(node.path("run/agent.sock.lock")).unwrap();
    });
    harmed("the lock file is empty", |node| {
        fs::remove_file(node.path("run/agent.sock")).unwrap();
        fs::write(node.path("run/agent.sock.lock"), "").unwrap();
    });
}

#[test]
fn an_agent_whose_directory_is_gone_is_failed_and_not_gone() {
    harmed("it is renamed", |node| fs::rename(node.path("run"), node.path("ran")).unwrap());
    harmed("it is removed", |node| fs::remove_dir_all(node.path("run")).unwrap());
    harmed("a file in its place", |node| {
        fs::remove_dir_all(node.path("run")).unwrap();
        fs::write(node.path("run"), "").unwrap();
    });
    harmed("it and the program are gone", |node| {
        fs::remove_dir_all(node.path("run")).unwrap();
        fs::remove_file(node.path("colo")).unwrap();
    });
    harmed("nobody may use it, and the socket is gone", |node| {
        fs::remove_file(node.path("run/agent.sock")).unwrap();
        fs::set_permissions(node.path("run"), fs::Permissions::from_mode(0o000)).unwrap();
    });
}

#[test]
fn a_process_whose_number_is_in_the_lock_file_is_not_the_agent_for_that() {
    let stranger = Stranger::new();
    let number = format!("{}\n", stranger.pid().as_raw_nonzero());
    harmed("the lock file has another number", |node| {
        fs::remove_file(node.path("run/agent.sock")).unwrap();
        fs::write(node.path("run/agent.sock.lock"), &number).unwrap();
    });

    // The agent was killed, and its number is another's now.
    let node = Node::new();
    let agent = node.start();
    kill_process(agent, Signal::KILL).unwrap();
    until("its end", || !lives(agent));
    assert!(node.path("run/agent.sock").exists() && node.path("run/agent.sock.lock").exists());
    fs::write(node.path("run/agent.sock.lock"), &number).unwrap();
    node.says("monitor", NOT_RUNNING);
    node.says("stop", SUCCESS);
    assert!(lives(stranger.pid()));
    let agent = node.start();
    node.stops(agent);

    // One that has the file open, and not its lock.
    let reader = Command::new("sleep")
        .arg("1000")
        .stdin(fs::File::create(node.path("run/agent.sock.lock")).unwrap())
        .spawn()
        .unwrap();
    let reader = Stranger(reader);
    fs::write(node.path("run/agent.sock.lock"), format!("{}\n", reader.pid().as_raw_nonzero())).unwrap();
    node.says("monitor", NOT_RUNNING);
    node.says("stop", SUCCESS);
}

#[test]
fn an_agent_that_ends_by_no_signal_but_the_last_is_killed_in_time() {
    let mut node = Node::new();
    node.timeout = Some(6000);
    let agent = node.start();
    let traced = Traced::hold(u32::try_from(agent.as_raw_nonzero().get()).unwrap()).unwrap();
    node.says("monitor", GENERIC);
    node.stops(agent);
    drop(traced);
}

#[test]
fn the_commands_of_one_that_is_killed_go_with_it() {
    let mut node = Node::new();
    node.timeout = Some(3000);
    // What the agent is to the resource agent: its command line, and its lock. It has a command that runs, and does not end.
    fs::write(node.path("primary"), "trap '' TERM\nsetsid sleep 1000 &\necho $! >command\nwait\n").unwrap();
    let stand_in = Command::new("sh")
        .args(["primary", "--control", &node.path("run/agent.sock").display().to_string()])
        .current_dir(node.directory.path())
        .spawn()
        .unwrap();
    let reaped = thread::spawn(move || stand_in.wait_with_output().unwrap().status.signal());
    let command =
        || fs::read_to_string(node.path("command")).ok()?.trim().parse().ok().and_then(Pid::from_raw);
    until("the command", || command().is_some());
    let command = command().unwrap();
    node.says("stop", SUCCESS);
    assert_eq!(reaped.join().unwrap(), Some(Signal::KILL.as_raw()));
    until("the end of the command", || !lives(command));
}

#[test]
fn pinned_programs_are_taken_off_with_the_program_and_without() {
    for with in ["colo", "nothing", "an empty file"] {
        let node = Node::new();
        let config = node.ends.config(Role::Primary, AttachMode::Skb, HoldBackend::Ringbuf);
        let mut datapath = node.ends.attach(&config).unwrap();
        datapath.pin().unwrap();
        datapath.leave().unwrap();
        assert!(node.has_programs());
        node.says("monitor", NOT_RUNNING);
        if with != "colo" {
            fs::remove_file(node.path("colo")).unwrap();
        }
        if with == "an empty file" {
            fs::write(node.path("colo"), "").unwrap();
            fs::set_permissions(node.path("colo"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        node.says("stop", SUCCESS);
        assert!(!node.has_programs(), "with {with}");
        assert!(
            node.ends.host.enter(|| colo_user::datapath::detach_pinned(GUEST, UPLINK)).is_ok_and(|was| !was)
        );
    }
}

#[test]
fn programs_that_another_agent_works_with_are_no_success() {
    let mut node = Node::new();
    node.timeout = Some(3000);
    let config = node.ends.config(Role::Primary, AttachMode::Skb, HoldBackend::Ringbuf);
    let mut datapath = node.ends.attach(&config).unwrap();
    for pinned in [false, true] {
        if pinned {
            datapath.pin().unwrap();
        }
        let (code, said) = node.does("stop");
        assert!(code == GENERIC && said.contains("not taken off"), "pinned: {pinned}: {code}: {said}");
    }
    datapath.detach().unwrap();
    node.says("stop", SUCCESS);
}

#[test]
fn an_interface_that_is_gone_has_nothing_to_be_taken_off() {
    for gone in [GUEST, UPLINK] {
        let node = Node::new();
        let agent = node.start();
        freeze(agent);
        node.ends.host.run(&format!("ip link del {gone}")).unwrap();
        node.says("stop", SUCCESS);
        assert!(!lives(agent), "{gone}");
    }
}

//! The control socket of an agent: one JSON object per line in, one per line out.
//!
//! `{"command":"status"}` is answered by a [`Status`](crate::agent::status::Status); `promote` (with `"force":true`), `demote`,
//! `pause`, `resume`, `failover`, `reprotect` and `test-failover` by an [`Outcome`] once it is there, but after `"timeout_ms"` at the latest
//! (then its `outcome` is `unfinished`, and the agent goes on); what is not understood by `{"error":TEXT}`. The socket is a file of mode 0600. A lock file beside it, held for the life of the agent, refuses a
//! second agent on the same interface; files left by one that was killed are replaced.
//!
//! Whoever leaves before the agent has read the request is not served: an agent that was frozen does not carry out, when it goes on, what
//! an operator has given up.

use crate::agent::packet::{Asked, Command, Handle, Outcome, Wanted};
use crate::failover::verbs::Verb;
use crate::judge::JudgeSpec;
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Where control sockets are unless told otherwise.
pub const DIRECTORY: &str = "/run/colo";
/// Longest request.
pub const MAX_REQUEST: u64 = 4096;
/// The packet thread answers in this time, or something is wrong with it.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long an order may take unless told otherwise, and at most.
pub const ORDER_LIMIT: Duration = Duration::from_secs(60);
/// See [`ORDER_LIMIT`].
pub const MAX_ORDER_LIMIT: Duration = Duration::from_secs(3600);
/// The command that changes nothing.
pub const TEST: &str = "test-failover";
const COMMANDS: &str = "status, promote, demote, pause, resume, failover, reprotect, test-failover";

/// The default control socket of the agent on guest interface `guest`.
#[must_use]
pub fn default_path(guest: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{guest}.sock"))
}

/// A bound control socket, unlinked on drop.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
    lock: File,
    lock_path: PathBuf,
}

impl ControlSocket {
    /// Takes the lock and binds the socket.
    ///
    /// # Errors
    /// Another agent has it, by process id; or the directory cannot be written to.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.with_context(|| format!("cannot make {} for the control socket", directory.display()))?;
        }
        let lock_path = with_suffix(path, ".lock");
        let lock = take_lock(path, &lock_path)?;
        // Bound under another name, so that nobody can connect before its mode is set.
        let unready = with_suffix(path, ".new");
        let _ = fs::remove_file(&unready);
        let bind = || {
            let listener = std::os::unix::net::UnixListener::bind(&unready)?;
            fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
            fs::rename(&unready, path)?;
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        };
        let listener =
            bind().with_context(|| format!("cannot bind the control socket {}", path.display()))?;
        Ok(Self { path: path.to_owned(), listener, lock, lock_path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until it is dropped. `judge` is whom the agent asks before it goes on alone.
    pub async fn serve(self, agent: Handle, judge: Option<JudgeSpec>) {
        let judge = Arc::new(judge);
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                warn!("the control socket cannot be served: {error}");
                return;
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(converse(stream, agent.clone(), Arc::clone(&judge)));
                }
                Err(error) => {
                    warn!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Whatever stays behind is replaced by the next agent. The lock goes last.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.lock_path);
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn take_lock(socket: &Path, path: &Path) -> Result<File> {
    let failed = || format!("cannot lock {}", path.display());
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).with_context(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder).with_context(failed)?;
            bail!(
                "another colo agent (process {}) has {}: stop it first, or give this one another guest interface",
                holder.trim(),
                socket.display()
            );
        }
        // The one before may have removed the file between open and lock: then it is nobody's.
        let ours = file.metadata().with_context(failed)?;
        let there = fs::metadata(path);
        use std::os::unix::fs::MetadataExt as _;
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            file.set_len(0).with_context(failed)?;
            writeln!(file, "{}", std::process::id()).with_context(failed)?;
            return Ok(file);
        }
    }
}

/// One connection: answers each line.
async fn converse(stream: UnixStream, agent: Handle, judge: Arc<Option<JudgeSpec>>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        match (&mut reader).take(MAX_REQUEST).read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if has_left(reader.get_ref().as_ref()) {
            info!("whoever asked over the control socket has left: nothing is done");
            return;
        }
        let complete = line.ends_with('\n');
        let mut answer = answer(&line, &agent, judge.as_ref().as_ref()).await.to_string();
        answer.push('\n');
        // A reader that has left needs no answer, and a request without an end cannot be followed by another.
        if writer.write_all(answer.as_bytes()).await.is_err() || !complete {
            return;
        }
    }
}

/// Whether the other end was closed, both ways: who only has no more to ask waits for the answer.
fn has_left(stream: &UnixStream) -> bool {
    let mut ends = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ends, Some(&at_once)).is_ok() && ends[0].revents().contains(PollFlags::HUP)
}

async fn answer(line: &str, agent: &Handle, judge: Option<&JudgeSpec>) -> Value {
    let error = |text: String| json!({ "error": text });
    let request: Value = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(e) => return error(format!("not a JSON object on one line of at most {MAX_REQUEST} bytes: {e}")),
    };
    match request["command"].as_str() {
        Some("status") => {
            let (reply, status) = oneshot::channel();
            if !agent.send(Command::Status(reply)) {
                return error("the packet thread has ended".into());
            }
            match tokio::time::timeout(ANSWER_LIMIT, status).await {
                Ok(Ok(status)) => serde_json::to_value(status).unwrap_or_else(|e| error(e.to_string())),
                Ok(Err(_)) => error("the packet thread has ended".into()),
                Err(_) => error(format!("the packet thread has not answered for {ANSWER_LIMIT:?}")),
            }
        }
        Some(word) => {
            let order = Verb::named(word, request["force"] == true).map(Wanted::Order);
            let Some(wanted) = order.or_else(|| (word == TEST).then_some(Wanted::Rehearsal)) else {
                return error(format!("command `{word}` is not known: {COMMANDS}"));
            };
            let limit = request["timeout_ms"].as_u64().map_or(ORDER_LIMIT, Duration::from_millis);
            let (reply, outcome) = oneshot::channel();
            let judge = JudgeSpec::prospect(judge).await;
            if !agent.send(Command::Order(Box::new(Asked { wanted, judge, reply }))) {
                return error("the packet thread has ended".into());
            }
            let outcome = match tokio::time::timeout(limit.min(MAX_ORDER_LIMIT), outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => return error("the packet thread has ended".into()),
                Err(_) => Outcome::unfinished(limit),
            };
            let mut answer = serde_json::to_value(outcome).unwrap_or_else(|e| error(e.to_string()));
            answer["verb"] = word.into();
            answer
        }
        None => error(format!("no `command`: {COMMANDS}")),
    }
}

/// Asks the agent behind `path` for its status, waiting at most [`ANSWER_LIMIT`] twice.
///
/// # Errors
/// Nobody is there, or what came is no status.
pub fn ask_status(path: &Path) -> Result<Value> {
    ask(path, &json!({ "command": "status" }), ANSWER_LIMIT)
}

/// Gives the agent behind `path` a command that it answers within `limit`, and waits [`ANSWER_LIMIT`] longer.
///
/// # Errors
/// Nobody is there, or what came is an error or no answer.
pub fn ask(path: &Path, request: &Value, limit: Duration) -> Result<Value> {
    let stream = connect(path).with_context(|| format!("no agent answers on {}", path.display()))?;
    stream.set_read_timeout(Some(limit + ANSWER_LIMIT))?;
    (&stream).write_all(format!("{request}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).with_context(|| {
        let (path, limit) = (path.display(), limit + ANSWER_LIMIT);
        format!(
            "no answer on {path} within {limit:?}: the agent is stopped or starved; see `colo status` before the next order"
        )
    })?;
    let answer: Value = serde_json::from_str(&answer).context("the answer is not JSON")?;
    if let Some(error) = answer["error"].as_str() {
        bail!("{error}");
    }
    Ok(answer)
}

/// Connects, waiting at most [`ANSWER_LIMIT`]: where many have asked one that is frozen there is no room for more.
fn connect(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(ANSWER_LIMIT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;

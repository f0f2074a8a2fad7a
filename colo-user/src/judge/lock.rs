//! The judge `lock:DIRECTORY`: the first claim of a pair's term, in a directory that both hosts have mounted, is the
//! only one.
//!
//! A claim is the file `PAIR.TERM.claim`. It is written whole under a name of its own and then linked to that name, which
//! the file system does for one of all who try. What the file says afterwards is the answer, whatever the link call
//! returned: over NFS its reply may be lost. Claims stay; they may be deleted once the pair is protected in another term.
//!
//! The file system may hang. It is waited for in a thread that nothing else waits for, one at a time.

use super::{Answer, Claim, Claimant, Prospect};
use rustix::fs::Access;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

/// Longest claim that is read.
const MAX_CLAIM: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub struct Lock {
    directory: Arc<Path>,
    limit: Duration,
    /// An attempt that has not come to its end.
    running: Option<JoinHandle<()>>,
}

impl Lock {
    /// Claims are files in `directory`, which is not made here: a directory that only one host has is no judge.
    #[must_use]
    pub fn new(directory: PathBuf, limit: Duration) -> Self {
        Self { directory: directory.into(), limit, running: None }
    }

    /// Asks once. Dropped, or when the time is over, the attempt goes on in the background, and the next one waits for it.
    pub async fn ask(&mut self, claim: &Claim) -> Answer {
        let (limit, directory) = (self.limit, self.directory.display().to_string());
        let answer = tokio::time::timeout(limit, self.claim(claim)).await;
        answer.unwrap_or_else(|_| Answer::None(format!("{directory}: no answer within {limit:?}")))
    }

    async fn claim(&mut self, claim: &Claim) -> Answer {
        if let Some(running) = &mut self.running {
            // How it ended is for whoever asked then.
            let _ = running.await;
            self.running = None;
        }
        let (reply, answered) = tokio::sync::oneshot::channel();
        let (directory, claim) = (Arc::clone(&self.directory), claim.clone());
        self.running = Some(tokio::task::spawn_blocking(move || {
            // Nobody may be waiting any more.
            let _ = reply.send(take(&directory, &claim));
        }));
        answered.await.unwrap_or_else(|_| Answer::None("the attempt was given up".into()))
    }
}

/// Whether claims can be made in `directory` now. What hangs is given up after `limit`, and left to itself.
pub async fn prospect(directory: PathBuf, limit: Duration) -> Prospect {
    let shown = directory.display().to_string();
    let look = tokio::task::spawn_blocking(move || {
        if !fs::metadata(&directory)?.is_dir() {
            return Err(io::Error::from(ErrorKind::NotADirectory));
        }
        Ok(rustix::fs::access(&directory, Access::WRITE_OK | Access::EXEC_OK)?)
    });
    match tokio::time::timeout(limit, look).await {
        Ok(Ok(Ok(()))) => Prospect::Reachable,
        Ok(Ok(Err(error))) => Prospect::Unreachable(format!("{shown}: {error}")),
        Ok(Err(error)) => Prospect::Unreachable(format!("{shown}: {error}")),
        Err(_) => Prospect::Unreachable(format!("{shown}: no answer within {limit:?}")),
    }
}

/// Makes the claim, or reads whose it is.
fn take(directory: &Path, claim: &Claim) -> Answer {
    let place = directory.join(format!("{}.{:016x}.claim", claim.pair, claim.term));
    let tried = match holder(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound => make(directory, &place, claim),
        _ => Ok(()),
    };
    match (holder(&place), tried) {
        (Ok(text), _) if claimant(&text) == Some(claim.claimant) => Answer::Yes,
        (Ok(text), _) => match claimant(&text) {
            Some(_) => Answer::No(text.trim().to_owned()),
            None => Answer::None(format!("{} is no claim of colo's: {:?}", place.display(), text.trim())),
        },
        (Err(_), Err(error)) | (Err(error), Ok(())) => Answer::None(format!("{}: {error}", place.display())),
    }
}

/// Writes a claim so that it is there whole or not at all, and stays there when the machine that keeps it loses power.
fn make(directory: &Path, place: &Path, claim: &Claim) -> io::Result<()> {
    let draft = place.with_extension(claim.claimant.to_string());
    let host = rustix::system::uname();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text =
        format!("{} {} on {} at {at}\n", claim.claimant, claim.role, host.nodename().to_string_lossy());
    // One of our own may have been left behind.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, place);
    // A draft that stays is overwritten when this side asks again, and means nothing.
    let _ = fs::remove_file(&draft);
    linked?;
    File::open(directory)?.sync_all()
}

fn holder(place: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(place)?.take(MAX_CLAIM).read_to_string(&mut text)?;
    Ok(text)
}

fn claimant(text: &str) -> Option<Claimant> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;

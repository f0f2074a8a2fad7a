//! The judge etcd on a real cluster: one member, three of which one dies, and three that are cut apart. What is checked is
//! always the same: nobody gets the role before the lease of who had it has ended on that one's own clock.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use colo_tests::{etcd::Cluster, lab::child::Programs, netns::Netns};
use colo_user::judge::etcd::Etcd;
use colo_user::judge::etcd::keeper::{Me, Tenure, Want};
use colo_user::judge::{Answer, Claim, Claimant};
use colo_user::link::frame::Role;
use colo_user::mono::Boot;
use tokio::runtime::{Builder, Runtime};

/// How long anything may take that needs no lease to end.
const SOON: Duration = Duration::from_secs(30);

fn cluster(members: usize) -> Result<Cluster> {
    Cluster::start(&Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref()), members)
}

/// What a side knows: the end of its lease, as XDP would have it, and its tenure.
#[derive(Clone, Debug)]
struct Known {
    end: Boot,
    tenure: Tenure,
}

/// One side of a pair, on a host.
struct Side {
    etcd: Etcd,
    known: Arc<Mutex<Known>>,
    me: Me,
    runtime: Runtime,
    pair: &'static str,
}

impl Side {
    fn start(host: &Netns, cluster: &str, pair: &'static str, who: u8) -> Result<Self> {
        let role = if who == 1 { Role::Primary } else { Role::Secondary };
        let me = Me { claimant: Claimant([who; 16]), role };
        let known = Arc::new(Mutex::new(Known { end: Boot::default(), tenure: Tenure::Over }));
        let spec = cluster.parse().map_err(anyhow::Error::msg)?;
        let name = pair.parse().map_err(anyhow::Error::msg)?;
        let told = Arc::clone(&known);
        // Its sockets are made by its thread, which stays in the host's namespace.
        let etcd =
            host.enter(move || Etcd::start(spec, &name, move |tenure| told.lock().unwrap().tenure = tenure))?;
        let ends = Arc::clone(&known);
        etcd.ends(move |end| ends.lock().unwrap().end = end);
        Ok(Self { etcd, known, me, runtime: Builder::new_current_thread().build()?, pair })
    }

    fn want(&self, want: Want) {
        self.etcd.want(want, self.me);
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap().clone()
    }

    fn is_heard(&self) -> bool {
        self.known().end > Boot::now()
    }

    fn claim(&self, term: u64) -> Result<Answer> {
        let pair = self.pair.parse().map_err(anyhow::Error::msg)?;
        let claim = Claim { pair, term, role: self.me.role, claimant: self.me.claimant, fence: true };
        Ok(self.runtime.block_on(self.etcd.ask(&claim)))
    }

    fn until(&self, what: &str, wanted: impl Fn(&Known) -> bool) -> Result<Known> {
        let end = Instant::now() + SOON;
        loop {
            let known = self.known();
            if wanted(&known) {
                return Ok(known);
            }
            if Instant::now() > end {
                bail!("{what}: not within {SOON:?}: {known:?}");
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn token(&self) -> Result<i64> {
        let held = self.until("the role", |known| matches!(known.tenure, Tenure::Held(_)))?;
        if let Tenure::Held(token) = held.tenure { Ok(token) } else { bail!("{held:?}") }
    }

    /// Asks as an agent does until there is a yes, and checks that `other` was over by then.
    fn follows(&self, term: u64, other: &Arc<Mutex<Known>>) -> Result<i64> {
        let end = Instant::now() + SOON;
        loop {
            let answer = self.claim(term)?;
            let now = Boot::now();
            match answer {
                Answer::Yes => {
                    let over = other.lock().unwrap().end;
                    ensure!(over <= now, "the other's lease ends {:?} later", over.saturating_since(now));
                    return self.token();
                }
                Answer::None(_) => ensure!(Instant::now() < end, "no yes: {answer:?}"),
                answer => bail!("{answer:?}"),
            }
            sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_role_is_followed_after_its_lease_and_a_term_has_one_winner() -> Result<()> {
    let mut cluster = cluster(1)?;
    let (here, there) = (cluster.host()?, cluster.host()?);
    let url = format!("{};ttl=3", cluster.endpoint(0));
    let first = Side::start(&here, &url, "vm1", 1)?;
    first.want(Want::Fresh);
    let token = first.token()?;
    // Another pair on the same cluster.
    let stranger = Side::start(&here, &url, "vm2", 9)?;
    stranger.want(Want::Fresh);
    stranger.token()?;
    // Renewed, for longer than a lease.
    let second = Side::start(&there, &url, "vm1", 2)?;
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        ensure!(first.is_heard() && stranger.is_heard());
        let answer = second.claim(7)?;
        ensure!(matches!(&answer, Answer::None(why) if why.contains("has not ended")), "{answer:?}");
        sleep(Duration::from_millis(100));
    }
    // Its agent is gone; XDP has the end of its lease.
    let known = Arc::clone(&first.known);
    drop(first);
    let followed = second.follows(7, &known)?;
    ensure!(followed > token, "{followed} after {token}");
    ensure!(second.claim(7)? == Answer::Yes, "a yes stays a yes");
    // The first one comes back, still who it was.
    let again = Side::start(&here, &url, "vm1", 1)?;
    again.want(Want::Again);
    ensure!(matches!(again.claim(7)?, Answer::No(_)));
    sleep(Duration::from_secs(1));
    ensure!(!again.is_heard() && second.is_heard());
    // What is given up is had at once, in another term.
    second.want(Want::Release);
    ensure!(!second.until("silence", |known| known.end <= Boot::now())?.tenure.eq(&Tenure::Held(followed)));
    let third = again.follows(8, &second.known)?;
    ensure!(third > followed, "{third} after {followed}");
    Ok(())
}

#[test]
fn the_leader_is_killed_and_the_role_stays() -> Result<()> {
    let mut cluster = cluster(3)?;
    let host = cluster.host()?;
    let all: Vec<String> = (0..3).map(|n| cluster.endpoint(n)).collect();
    let side = Side::start(&host, &format!("{};ttl=12", all.join(",")), "vm1", 1)?;
    side.want(Want::Fresh);
    let token = side.token()?;
    cluster.kill(cluster.leader()?);
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        ensure!(side.is_heard(), "{:?}\n{}", side.known(), cluster.logs());
        sleep(Duration::from_millis(20));
    }
    ensure!(side.token()? == token);
    Ok(())
}

#[test]
fn a_minority_renews_nothing_and_who_was_followed_knows_it() -> Result<()> {
    let mut cluster = cluster(3)?;
    let (here, there) = (cluster.host()?, cluster.host()?);
    // The leader is what the first side talks to: it does not know at once that it leads nobody.
    let leader = cluster.leader()?;
    let others: Vec<String> = (0..3).filter(|&n| n != leader).map(|n| cluster.endpoint(n)).collect();
    let first = Side::start(&here, &format!("{};ttl=3", cluster.endpoint(leader)), "vm1", 1)?;
    let second = Side::start(&there, &format!("{};ttl=3", others.join(",")), "vm1", 2)?;
    first.want(Want::Fresh);
    let token = first.token()?;
    cluster.isolate(leader, true)?;
    let followed = second.follows(7, &first.known)?;
    ensure!(followed > token);
    ensure!(!first.is_heard() && first.known().tenure == Tenure::Over, "{:?}", first.known());
    cluster.isolate(leader, false)?;
    first.until("to know that it was followed", |known| matches!(known.tenure, Tenure::Taken(_)))?;
    // A member that comes back may cost the others an election, and that a lease.
    second.until("to be heard", |known| known.end > Boot::now())?;
    ensure!(!first.is_heard());
    Ok(())
}

#[test]
fn a_host_that_is_cut_off_is_over_before_it_is_followed_and_comes_back_if_it_was_not() -> Result<()> {
    let mut cluster = cluster(1)?;
    let (here, there) = (cluster.host()?, cluster.host()?);
    let url = format!("{};ttl=3", cluster.endpoint(0));
    let first = Side::start(&here, &url, "vm1", 1)?;
    first.want(Want::Fresh);
    let token = first.token()?;
    here.run("ip link set etcd0 down")?;
    first.until("the lease to end", |known| known.tenure == Tenure::Over)?;
    ensure!(!first.is_heard());
    here.run("ip link set etcd0 up")?;
    let back = first.token()?;
    ensure!(back >= token && first.is_heard());
    here.run("ip link set etcd0 down")?;
    let second = Side::start(&there, &url, "vm1", 2)?;
    let followed = second.follows(7, &first.known)?;
    ensure!(followed > back);
    here.run("ip link set etcd0 up")?;
    let known = first.until("to know", |known| matches!(known.tenure, Tenure::Taken(_)))?;
    ensure!(known.end <= Boot::now() && second.is_heard(), "{known:?}");
    first.claim(7).context("it may ask")?;
    Ok(())
}

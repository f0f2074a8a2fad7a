//! The judge etcd on a real cluster: one member, three of which one dies, and three that are cut apart; over TLS, for users. What
//! is checked is always the same: nobody gets the role before the lease of who had it has ended on that one's own clock.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use colo_tests::{
    etcd::{Authority, Cluster, options},
    lab::child::Programs,
    netns::Netns,
};
use colo_user::judge::etcd::Etcd;
use colo_user::judge::etcd::client::Client;
use colo_user::judge::etcd::http::Http;
use colo_user::judge::etcd::keeper::{Me, Reply, Request, Tenure, Want};
use colo_user::judge::etcd::spec::EtcdSpec;
use colo_user::judge::{Answer, Claim, Claimant};
use colo_user::link::frame::Role;
use colo_user::mono::Boot;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

/// How long anything may take that needs no lease to end.
const SOON: Duration = Duration::from_secs(30);

fn programs() -> Programs {
    Programs::beside(env!("CARGO_BIN_EXE_colo-lab").as_ref())
}

fn cluster(members: usize) -> Result<Cluster> {
    Cluster::start(&programs(), members)
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
                Answer::None(_) | Answer::NotYet(_) => ensure!(Instant::now() < end, "no yes: {answer:?}"),
                answer => bail!("{answer:?}"),
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// A cluster of one member, two hosts, and on one of them a side that holds the role with `token`.
struct Held {
    first: Side,
    token: i64,
    url: String,
    here: Netns,
    there: Netns,
    _cluster: Cluster,
}

impl Held {
    fn by(mut cluster: Cluster) -> Result<Self> {
        let (here, there) = (cluster.host()?, cluster.host()?);
        let url = format!("{};ttl=3", cluster.url(0));
        let first = Side::start(&here, &url, "vm1", 1)?;
        first.want(Want::Fresh);
        let token = first.token()?;
        Ok(Self { first, token, url, here, there, _cluster: cluster })
    }
}

#[test]
fn a_role_is_followed_after_its_lease_and_a_term_has_one_winner() -> Result<()> {
    let Held { first, token, url, here, there, _cluster } = Held::by(cluster(1)?)?;
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
        ensure!(matches!(&answer, Answer::NotYet(why) if why.contains("has not ended")), "{answer:?}");
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
    let Held { first, token, url, here, there, _cluster } = Held::by(cluster(1)?)?;
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

#[test]
fn over_tls_a_role_is_held_and_followed_and_certificates_are_replaced_meanwhile() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let authority = Authority::new(directory.path(), "ca")?;
    let stranger = Authority::new(directory.path(), "stranger")?;
    let held = Held::by(Cluster::secured(&programs(), 1, &authority)?)?;
    // The other side has a certificate of somebody else's.
    let papers = stranger.issue("second", "second.example")?;
    let url =
        format!("{}{};ttl=3", held.url.split(';').next().unwrap_or_default(), options(&authority, &papers));
    let second = Side::start(&held.there, &url, "vm1", 2)?;
    let refused = second.claim(7)?;
    ensure!(
        matches!(&refused, Answer::None(why) if why.contains("second.pem: that is to be signed by")),
        "{refused:?}"
    );
    // It is given the right one while it runs.
    authority.issue("second", "second.example")?;
    let answer = second.claim(7)?;
    ensure!(matches!(&answer, Answer::NotYet(why) if why.contains("has not ended")), "{answer:?}");
    let known = Arc::clone(&held.first.known);
    drop(held.first);
    let followed = second.follows(7, &known)?;
    ensure!(followed > held.token, "{followed} after {}", held.token);
    second.want(Want::Again);
    // What it is given next is no good, and connections of before are not used on.
    stranger.issue("second", "second.example")?;
    second.until("the lease to end", |known| known.tenure == Tenure::Over)?;
    authority.issue("second", "second.example")?;
    ensure!(second.token()? >= followed);
    Ok(())
}

#[test]
fn what_tls_refuses_is_told_with_the_way_out() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let authority = Authority::new(directory.path(), "ca")?;
    let stranger = Authority::new(directory.path(), "stranger")?;
    let cluster = Cluster::secured(&programs(), 1, &authority)?;
    let refused = |spec: &str| -> Result<String> {
        let mut client = cluster.client(spec)?;
        match cluster.hub().enter(|| client.perform(&Request::Look { term: None })) {
            Reply::Failed(why) => Ok(why),
            reply => bail!("{spec}: {reply:?}"),
        }
    };
    let (url, bare) = (cluster.url(0), cluster.endpoint(0));
    let plain = bare.replace("https", "http");
    let peers = url.replace("2379", "2380");
    let papers = authority.issue("client", "client.example")?;
    let expired = options(&authority, &authority.issue_expired("old", "client.example")?);
    for (spec, why) in [
        (
            format!("{bare}{}", options(&stranger, &papers)),
            "stranger.pem did not sign it; name etcd's authority",
        ),
        (bare.clone(), "did not sign it; name etcd's authority with ;ca=FILE"),
        (format!("{bare};ca={}", authority.ca().display()), "give ;cert=FILE;key=FILE"),
        (format!("{bare}{expired}"), "old.pem: that is to be signed by its --trusted-ca-file, valid now"),
        (plain, "write https://"),
        (peers, "write http://"),
    ] {
        let said = refused(&spec)?;
        ensure!(said.contains(why) && said.contains("://10.77.0.1:23"), "{spec}: {said}");
    }
    // etcd reads its certificate at each handshake.
    authority.issue("m0", "10.77.0.9")?;
    let said = refused(&url)?;
    ensure!(said.contains("10.77.0.9") && said.contains("name the endpoint as"), "{said}");
    authority.issue_expired("m0", "10.77.0.1")?;
    let said = refused(&url)?;
    ensure!(said.contains("expired") && said.contains("give etcd another"), "{said}");
    Ok(())
}

#[test]
fn a_user_of_etcds_holds_a_role_and_its_token_is_had_again() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let authority = Authority::new(directory.path(), "ca")?;
    let cluster = Cluster::secured(&programs(), 1, &authority)?;
    let url = cluster.url(0);
    let password = directory.path().join("password");
    std::fs::write(&password, "secret\n")?;
    let user = |name: &str| format!("{url};user={name};password-file={}", password.display());
    let access = |spec: &str| spec.parse().map(|spec: EtcdSpec| spec.access).map_err(anyhow::Error::msg);
    let ask = |http: &mut Http, path: &str, body: serde_json::Value| {
        let answer = cluster.hub().enter(|| http.post(&cluster.endpoint(0), path, &body));
        answer.map_err(|why| anyhow::anyhow!("{path}: {why}"))
    };
    let limit = Duration::from_secs(5);
    let mut anybody = Http::new(&access(&url)?, limit).map_err(anyhow::Error::msg)?;
    for name in ["root", "colo"] {
        ask(&mut anybody, "auth/user/add", json!({ "name": name, "password": "secret" }))?;
        ask(&mut anybody, "auth/role/add", json!({ "name": name }))?;
        ask(&mut anybody, "auth/user/grant", json!({ "user": name, "role": name }))?;
    }
    let [key, end] = ["/colo/", "/colo0"].map(|key| BASE64_STANDARD.encode(key));
    let below = json!({ "permType": "READWRITE", "key": key, "range_end": end });
    ask(&mut anybody, "auth/role/grant", json!({ "name": "colo", "perm": below }))?;
    ask(&mut anybody, "auth/enable", json!({}))?;

    let look = |client: &mut Client| cluster.hub().enter(|| client.perform(&Request::Look { term: None }));
    let nobody = look(&mut cluster.client(&url)?);
    ensure!(matches!(&nobody, Reply::Failed(why) if why.contains("give ;user=")), "{nobody:?}");
    let named = options(&authority, &authority.issue_named("named", "named.example")?);
    let named = format!("{}{named};user=colo;password-file={}", cluster.endpoint(0), password.display());
    let named = look(&mut cluster.client(&named)?);
    ensure!(matches!(&named, Reply::Failed(why) if why.contains("one without a CommonName")), "{named:?}");
    let elsewhere = look(&mut cluster.client(&format!("{};prefix=/else/", user("colo")))?);
    ensure!(
        matches!(&elsewhere, Reply::Failed(why) if why.contains("grant a role of colo readwrite")),
        "{elsewhere:?}"
    );
    let mut client = cluster.client(&user("colo"))?;
    ensure!(matches!(look(&mut client), Reply::Seen(_)));
    // A change of any user makes all tokens old.
    let mut root = Http::new(&access(&user("root"))?, limit).map_err(anyhow::Error::msg)?;
    ask(&mut root, "auth/user/add", json!({ "name": "other", "password": "x" }))?;
    let again = look(&mut client);
    ensure!(matches!(again, Reply::Seen(_)), "{again:?}");
    std::fs::write(&password, "wrong")?;
    let wrong = look(&mut cluster.client(&user("colo"))?);
    ensure!(
        matches!(&wrong, Reply::Failed(why) if why.contains("no user colo with the password in")),
        "{wrong:?}"
    );
    ensure!(
        matches!(look(&mut client), Reply::Seen(_)),
        "a token is had with a password, and not asked for again"
    );
    Ok(())
}

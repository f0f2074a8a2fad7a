//! Debian's etcd as a cluster of its own: each member in a namespace, all on one switch with the hosts that ask them.

mod authority;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, bail};
pub use authority::{Authority, Papers};
use colo_user::judge::etcd::{
    client::Client,
    keeper::{Reply, Request},
    spec::EtcdSpec,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    lab::child::{Programs, Tethered},
    netns::Netns,
};

/// How long a cluster may take to have a leader.
const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 2379;
/// The interface of members and hosts.
pub const WIRE: &str = "etcd0";

/// One member.
#[derive(Debug)]
struct Member {
    process: Tethered,
    netns: Netns,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    hosts: u8,
    hub: Netns,
    directory: TempDir,
    /// The judge's options by which this cluster is reached over TLS; without them it is in the clear.
    tls: Option<String>,
}

fn address(member: usize) -> String {
    format!("10.77.0.{}", member + 1)
}

impl Cluster {
    /// Starts so many members and waits for their leader.
    pub fn start(programs: &Programs, members: usize) -> Result<Self> {
        Self::started(programs, members, None)
    }

    /// As [`Self::start`], over TLS, for those who show a certificate of `authority`. The members' own are `m0` and so on.
    pub fn secured(programs: &Programs, members: usize, authority: &Authority) -> Result<Self> {
        Self::started(programs, members, Some(authority))
    }

    fn started(programs: &Programs, members: usize, authority: Option<&Authority>) -> Result<Self> {
        let hub = Netns::new("colo-etcd")?;
        for line in
            ["ip link add br0 type bridge", "ip link set br0 up", "ip addr add 10.77.0.254/24 dev br0"]
        {
            hub.run(line)?;
        }
        let tls = match authority {
            Some(authority) => Some(options(authority, &authority.issue("hub", "10.77.0.254")?)),
            None => None,
        };
        let mut cluster = Self { members: Vec::new(), hosts: 0, hub, directory: tempfile::tempdir()?, tls };
        let peers: Vec<String> = (0..members).map(|n| format!("m{n}=http://{}:2380", address(n))).collect();
        for n in 0..members {
            let netns = Netns::new("colo-etcd")?;
            cluster.plug(&format!("m{n}"), &netns, &address(n))?;
            let path = |name: &str| cluster.directory.path().join(format!("m{n}.{name}"));
            let (client, peer) = (cluster.endpoint(n), format!("http://{}:2380", address(n)));
            let data = path("data").display().to_string();
            let arguments = [
                ["--name", &format!("m{n}")],
                ["--data-dir", &data],
                ["--listen-client-urls", &client],
                ["--advertise-client-urls", &client],
                ["--listen-peer-urls", &peer],
                ["--initial-advertise-peer-urls", &peer],
                ["--initial-cluster", &peers.join(",")],
                ["--heartbeat-interval", "100"],
                ["--election-timeout", "1000"],
            ];
            // A member that comes back disturbs nobody.
            let words = arguments.iter().flatten().chain([&"--pre-vote"]);
            let mut arguments: Vec<String> = words.map(|&word| word.to_owned()).collect();
            if let Some(authority) = authority {
                let Papers { cert, key } = authority.issue(&format!("m{n}"), &address(n))?;
                let files = [("cert", &*cert), ("key", &*key), ("trusted-ca", authority.ca())];
                arguments.extend(files.map(|(name, path)| format!("--{name}-file={}", path.display())));
                arguments.push("--client-cert-auth".into());
            }
            let process =
                Tethered::start(programs, &netns, "etcd".as_ref(), &arguments, &path("log"), false)?;
            cluster.members.push(Member { process, netns });
        }
        let end = Instant::now() + PATIENCE;
        for n in 0..members {
            let mut client = cluster.client(&cluster.url(n))?;
            loop {
                match cluster.hub.enter(|| client.perform(&Request::Look { term: None })) {
                    Reply::Seen(_) => break,
                    reply if Instant::now() > end => bail!("no leader: {reply:?}\n{}", cluster.logs()),
                    _ => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        }
        Ok(cluster)
    }

    /// The URL of a member.
    #[must_use]
    pub fn endpoint(&self, member: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{PORT}", address(member))
    }

    /// As [`Self::endpoint`], with the options that it needs.
    #[must_use]
    pub fn url(&self, member: usize) -> String {
        self.endpoint(member) + self.tls.as_deref().unwrap_or_default()
    }

    /// One that asks as `--judge etcd:` would with `spec`. It does so in [`Self::hub`].
    pub fn client(&self, spec: &str) -> Result<Client> {
        let spec: EtcdSpec = spec.parse().map_err(Error::msg)?;
        Client::new(spec.access, spec.prefix, Duration::from_secs(2)).map_err(Error::msg)
    }

    /// The switch, from where all members are reached.
    #[must_use]
    pub const fn hub(&self) -> &Netns {
        &self.hub
    }

    /// The URLs of all members, as `--judge etcd:` takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let all: Vec<String> = (0..self.members.len()).map(|n| self.endpoint(n)).collect();
        all.join(",")
    }

    /// The address of a member.
    #[must_use]
    pub fn address(&self, member: usize) -> String {
        address(member)
    }

    /// How many there are.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// A host on the same switch; its interface is [`WIRE`].
    pub fn host(&mut self) -> Result<Netns> {
        let netns = Netns::new("colo-etcd")?;
        self.join(&netns)?;
        Ok(netns)
    }

    /// Gives a host that is there already a wire to the switch.
    pub fn join(&mut self, host: &Netns) -> Result<()> {
        self.hosts += 1;
        self.plug(&format!("h{}", self.hosts), host, &format!("10.77.0.{}", 100 + self.hosts))
    }

    fn plug(&self, port: &str, netns: &Netns, address: &str) -> Result<()> {
        self.hub.veth(port, netns, WIRE)?;
        self.hub.run(&format!("ip link set {port} master br0"))?;
        netns.run(&format!("ip addr add {address}/24 dev {WIRE}"))?;
        Ok(())
    }

    /// Who leads, as the first member that answers says.
    pub fn leader(&self) -> Result<usize> {
        let mut ids = Vec::new();
        for n in 0..self.members.len() {
            let status = self.hub.enter(|| status(&address(n)));
            if let Ok(status) = status {
                ids.push((n, status["header"]["member_id"].clone(), status["leader"].clone()));
            }
        }
        let leads = ids.iter().find(|(_, id, leader)| !id.is_null() && id == leader);
        leads.map(|(n, ..)| *n).with_context(|| format!("nobody leads: {ids:?}"))
    }

    /// Kills a member.
    pub fn kill(&mut self, member: usize) {
        self.members[member].process.kill();
    }

    /// Cuts a member off from the others, both ways, or joins it again. The hosts reach it as before.
    pub fn isolate(&self, member: usize, cut: bool) -> Result<()> {
        let verb = if cut { "add" } else { "del" };
        for other in (0..self.members.len()).filter(|&other| other != member) {
            for (at, from) in [(member, other), (other, member)] {
                let route = format!("ip route {verb} blackhole {}/32", address(from));
                self.members[at].netns.run(&route)?;
            }
        }
        Ok(())
    }

    /// The end of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let end = |member: &Member| {
            let log = member.process.log();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        self.members.iter().map(end).collect::<Vec<_>>().join("\n---\n")
    }
}

/// The judge's options for who shows `papers`.
#[must_use]
pub fn options(authority: &Authority, papers: &Papers) -> String {
    let Papers { cert, key } = papers;
    format!(";ca={};cert={};key={}", authority.ca().display(), cert.display(), key.display())
}

/// What a member says of itself.
fn status(address: &str) -> Result<Value> {
    let limit = Duration::from_secs(2);
    let to: SocketAddr = format!("{address}:{PORT}").parse()?;
    let mut stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let request = "POST /v3/maintenance/status HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}

//! A guest and a client, each at the far end of a tap or a veth pair, with the interfaces between them that a data
//! path is attached to. Frames are said and heard whole, without any stack.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use colo_user::datapath::{AttachMode, Captured, Config, Datapath, HoldBackend, Role};

use crate::{netns::Netns, raw::RawSocket, tap::Tap};

/// The guest's interface.
pub const GUEST: &str = "guest0";
/// The uplink.
pub const UPLINK: &str = "uplink0";
/// Ethertype of made-up frames (IEEE 802, local experiments).
pub const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// How long something may take that should happen at once, on a machine that has other work too.
pub const SOON: Duration = Duration::from_secs(20);
/// How long nothing must happen.
pub const QUIET: Duration = Duration::from_millis(60);

/// What joins an end to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// A tap; this process is its reader.
    Tap,
    /// A veth pair; its far end is in another namespace.
    Veth,
}

/// One far end.
#[derive(Debug)]
pub enum End {
    /// Behind a tap.
    Tap(Tap),
    /// Behind a veth pair, in a namespace of its own.
    Veth(RawSocket, Netns),
}

impl End {
    fn new(host: &Netns, name: &str, joint: Joint) -> Result<Self> {
        if joint == Joint::Tap {
            return Tap::new(host, name).map(Self::Tap);
        }
        let far = quiet_namespace("colo-far")?;
        host.veth(name, &far, "far0")?;
        Ok(Self::Veth(RawSocket::new(&far, "far0")?, far))
    }

    /// Says one frame.
    pub fn say(&self, frame: &[u8]) -> Result<()> {
        match self {
            Self::Tap(tap) => tap.write(frame)?,
            Self::Veth(socket, _) => socket.write(frame)?,
        }
        Ok(())
    }

    /// The next frame heard within `timeout`.
    pub fn hear(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        Ok(match self {
            Self::Tap(tap) => tap.read(timeout)?,
            Self::Veth(socket, _) => socket.read(timeout)?,
        })
    }

    /// The next `count` frames, and nothing after them.
    pub fn hear_exactly(&self, count: usize) -> Result<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let frame =
                self.hear(SOON)?.with_context(|| format!("frame {} of {count} is missing", heard.len()))?;
            heard.push(frame);
        }
        if let Some(frame) = self.hear(QUIET)? {
            bail!("after {count} frames came another: {frame:02x?}");
        }
        Ok(heard)
    }
}

/// A host between a guest and a client.
#[derive(Debug)]
pub struct Ends {
    /// The guest.
    pub guest: End,
    /// The client network.
    pub client: End,
    /// Where the interfaces [`GUEST`] and [`UPLINK`] are.
    pub host: Netns,
}

impl Ends {
    /// A host whose guest and client are joined to it in this way.
    pub fn new(guest: Joint, client: Joint) -> Result<Self> {
        let host = quiet_namespace("colo-host")?;
        Ok(Self { guest: End::new(&host, GUEST, guest)?, client: End::new(&host, UPLINK, client)?, host })
    }

    /// Makes an end anew, with another interface of the same name.
    pub fn make_anew(&mut self, name: &str) -> Result<()> {
        let joint = |end: &End| if matches!(end, End::Tap(_)) { Joint::Tap } else { Joint::Veth };
        // What is left of the one before goes with it.
        if name == GUEST {
            self.guest = End::new(&self.host, name, joint(&self.guest))?;
        } else {
            self.client = End::new(&self.host, name, joint(&self.client))?;
        }
        Ok(())
    }

    /// The same for one on a veth pair, with this index.
    pub fn make_anew_with(&mut self, name: &str, index: u32) -> Result<()> {
        let far = quiet_namespace("colo-far")?;
        self.host.veth_with(name, &far, "far0", Some(index))?;
        let end = End::Veth(RawSocket::new(&far, "far0")?, far);
        if name == GUEST {
            self.guest = end;
        } else {
            self.client = end;
        }
        Ok(())
    }

    /// A configuration for its interfaces.
    pub fn config(&self, role: Role, attach: AttachMode, hold: HoldBackend) -> Config {
        Config { attach, hold, frames: 1024, ..Config::new(role, GUEST, UPLINK) }
    }

    /// Attaches a data path.
    pub fn attach(&self, config: &Config) -> Result<Datapath> {
        Ok(self.host.enter(|| Datapath::attach(config))?)
    }
}

/// A namespace whose interfaces say nothing by themselves.
fn quiet_namespace(prefix: &str) -> Result<Netns> {
    let namespace = Netns::new(prefix)?;
    for which in ["all", "default"] {
        namespace.run(&format!("sysctl -qw net.ipv6.conf.{which}.disable_ipv6=1"))?;
    }
    Ok(namespace)
}

/// A made-up frame of `length` bytes (at least 18) that bears `number` and differs from every other in most bytes.
pub fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend_from_slice(&ETHERTYPE);
    frame.extend_from_slice(&number.to_be_bytes());
    let mut state = u64::from(number) << 32 | length as u64 | 1;
    while frame.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        frame.push((state >> 56) as u8);
    }
    frame
}

/// Turns `datapath` until it has copied a frame for the other side: its index, and the frame.
pub fn mirrored(datapath: &mut Datapath) -> Result<(u64, Vec<u8>)> {
    let deadline = Instant::now() + SOON;
    loop {
        datapath.wait(&[], &[], Some(Duration::from_millis(20)))?;
        let mut copy = None;
        datapath.next_mirrored(|mirrored| copy = Some((mirrored.index, mirrored.frame.to_vec())));
        if let Some(copy) = copy {
            return Ok(copy);
        }
        if Instant::now() > deadline {
            bail!("no copy of a client's frame: {:?}", datapath.pressure());
        }
    }
}

/// Turns `datapath` until it has captured `count` frames.
pub fn capture(datapath: &mut Datapath, count: usize) -> Result<Vec<Captured>> {
    let deadline = Instant::now() + SOON;
    let mut captured = Vec::new();
    while captured.len() < count {
        if Instant::now() > deadline {
            bail!("{} of {count} frames captured: {:?}", captured.len(), datapath.pressure());
        }
        datapath.wait(&[], &[], Some(Duration::from_millis(20)))?;
        captured.extend(std::iter::from_fn(|| datapath.next_captured()));
        datapath.flush()?;
    }
    Ok(captured)
}
